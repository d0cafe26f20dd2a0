//! The web origins (RFC 6454) whose pages may use an app.
//!
//! An entry of the list is one of
//!
//! - `*`: every origin, the opaque `null` included;
//! - `https://example.com`, `http://localhost:5173`: that scheme, host and port, without regard to case. The
//!   scheme's own port (80, 443) may be given or left out, on either side;
//! - `https://*.example.com`: any host that puts one or more labels before `.example.com`, such as
//!   `a.example.com` and `a.b.example.com`, but not `example.com` itself.

use std::fmt;

/// A list of allowed origins.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Origins {
    any: bool,
    patterns: Box<[Pattern]>,
}

impl Origins {
    /// Every origin. No cookie or other ambient authority opens an app, only its keys, so a foreign page that
    /// connects has nothing that any other program would not have.
    pub fn any() -> Origins {
        Origins { any: true, patterns: Box::default() }
    }

    /// The origins that the entries describe; of an empty list, none.
    pub fn new<S: AsRef<str>>(entries: &[S]) -> Result<Origins, OriginError> {
        let any = entries.iter().any(|entry| entry.as_ref() == "*");
        let patterns = entries.iter().map(AsRef::as_ref).filter(|entry| *entry != "*");
        Ok(Origins { any, patterns: patterns.map(Pattern::parse).collect::<Result<_, _>>()? })
    }

    /// Whether an `Origin` header with this value is allowed.
    pub fn allow(&self, origin: &str) -> bool {
        self.any
            || Parts::parse(origin).is_some_and(|origin| self.patterns.iter().any(|own| own.matches(&origin)))
    }

    /// The entries, in a form that [`Origins::new`] reads again as the same list.
    pub fn entries(&self) -> Vec<String> {
        let any = self.any.then(|| String::from("*"));
        any.into_iter().chain(self.patterns.iter().map(Pattern::to_string)).collect()
    }
}

/// Why an entry of the list was refused.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct OriginError {
    /// The entry.
    pub entry: Box<str>,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OriginError { entry } = self;
        write!(
            f,
            "`{entry}` is not an origin; write `https://example.com` (scheme, host, a port if need be, and nothing \
             after it), `https://*.example.com` or `*`"
        )
    }
}

impl std::error::Error for OriginError {}

/// One entry, in lower case. With `subdomains`, `host` is what follows the star, its dot included.
#[derive(Clone, Eq, PartialEq, Debug)]
struct Pattern {
    scheme: Box<str>,
    subdomains: bool,
    host: Box<str>,
    port: Option<u16>,
}

impl Pattern {
    fn parse(entry: &str) -> Result<Pattern, OriginError> {
        let refused = || OriginError { entry: Box::from(entry) };
        let lower = entry.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://").ok_or_else(refused)?;
        let subdomains = rest.starts_with("*.");
        let plain = format!("{scheme}://{}", rest.strip_prefix("*.").unwrap_or(rest));
        let parts = Parts::parse(&plain).ok_or_else(refused)?;
        let dot = if subdomains { "." } else { "" };
        Ok(Pattern {
            scheme: Box::from(parts.scheme),
            subdomains,
            host: format!("{dot}{}", parts.host).into_boxed_str(),
            port: parts.port,
        })
    }

    fn matches(&self, origin: &Parts<'_>) -> bool {
        if !self.scheme.eq_ignore_ascii_case(origin.scheme) || self.port != origin.port {
            return false;
        }
        if !self.subdomains {
            return self.host.eq_ignore_ascii_case(origin.host);
        }
        // The host of an origin has no empty label, so what is left before the suffix is one label or more.
        let split = origin.host.len().checked_sub(self.host.len()).filter(|&left| left > 0);
        split.and_then(|left| origin.host.get(left..)).is_some_and(|end| self.host.eq_ignore_ascii_case(end))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.subdomains { "*" } else { "" };
        write!(f, "{}://{star}{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// An origin taken apart: `port` is `None` where it is the scheme's own.
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Parts<'a> {
    fn parse(origin: &'a str) -> Option<Parts<'a>> {
        let (scheme, authority) = origin.split_once("://")?;
        let (host, port) = split_port(authority)?;
        let valid_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !valid_scheme || !is_host(host) {
            return None;
        }
        let own_port = match port {
            Some(80) => scheme.eq_ignore_ascii_case("http"),
            Some(443) => scheme.eq_ignore_ascii_case("https"),
            _ => false,
        };
        Some(Parts { scheme, host, port: port.filter(|_| !own_port) })
    }
}

/// Takes `host[:port]` apart; the colons of an IPv6 address are inside its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[host_end..].find(':').map(|at| at + host_end) else {
        return Some((authority, None));
    };
    let digits = &authority[colon + 1..];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = digits.parse().ok().filter(|&port: &u16| port != 0)?;
    Some((&authority[..colon], Some(port)))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Origins {
        Origins::new(entries).expect("valid entries")
    }

    #[test]
    fn exact_entries_match_scheme_host_and_port() {
        let origins = list(&["https://Example.com", "http://localhost:5173", "http://[::1]:3000"]);
        for allowed in [
            "https://example.com",
            "HTTPS://EXAMPLE.COM",
            "https://example.com:443",
            "http://localhost:5173",
            "http://[::1]:3000",
        ] {
            assert!(origins.allow(allowed), "{allowed}");
        }
        for refused in [
            "http://example.com",
            "https://example.com:8443",
            "https://example.com.evil.org",
            "https://a.example.com",
            "https://example.com/",
            "https://example.com@evil.org",
            "http://localhost",
            "http://localhost:51730",
            "http://[::1]",
            "example.com",
            "null",
            "",
        ] {
            assert!(!origins.allow(refused), "{refused}");
        }
        assert!(list(&["https://example.com:443"]).allow("https://example.com"));
        assert!(list(&["http://example.com:443"]).allow("http://example.com:443"));
    }

    #[test]
    fn a_star_label_matches_one_or_more_labels() {
        let origins = list(&["https://*.example.com", "http://*.test:8080"]);
        for allowed in ["https://a.example.com", "https://a.b.EXAMPLE.com", "http://x.test:8080"] {
            assert!(origins.allow(allowed), "{allowed}");
        }
        for refused in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a..example.com",
            "https://evil.org/.example.com",
            "https://evil.org#.example.com",
            "https://a.example.com.evil.org",
            "http://a.example.com",
            "https://a.example.com:444",
            "http://x.test",
            "https://é.example.com",
        ] {
            assert!(!origins.allow(refused), "{refused}");
        }
    }

    #[test]
    fn a_lone_star_allows_everything_and_an_empty_list_nothing() {
        for origin in ["https://example.com", "null", "file://", ""] {
            assert!(list(&["https://a.org", "*"]).allow(origin) && Origins::any().allow(origin));
            assert!(!list(&[]).allow(origin));
        }
    }

    #[test]
    fn entries_that_could_never_match_are_refused() {
        for entry in [
            "example.com",
            "https://",
            "https://example.com/",
            "https://example.com/path",
            "https://a.*.com",
            "https://*",
            "https://*.",
            "https://exa mple.com",
            "https://example.com:0",
            "https://example.com:65536",
            "https://example.com:+80",
            "https://example.com:",
            "https://[::1",
            "https://[nonsense]",
            "://example.com",
            "1s://example.com",
            "null",
            "",
        ] {
            let error = Origins::new(&[entry]).expect_err(entry);
            assert!(error.to_string().starts_with(&format!("`{entry}` is not an origin")));
        }
    }

    #[test]
    fn entries_read_back_as_the_same_list() {
        let origins =
            list(&["*", "HTTPS://*.Example.com:443", "http://localhost:80", "app://x:9", "http://[::1]:1"]);
        assert_eq!(
            origins.entries(),
            ["*", "https://*.example.com", "http://localhost", "app://x:9", "http://[::1]:1"]
        );
        assert_eq!(Origins::new(&origins.entries()).expect("its own entries"), origins);
    }
}
