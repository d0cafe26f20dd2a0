//! What a URL says of a server: its name, its port, and the path of a resource.

use std::{fmt, net::IpAddr};

use hyper::{
    Uri,
    header::HeaderValue,
    http::uri::{PathAndQuery, Scheme},
};

/// The most bytes of a URL.
const URL_BYTES: usize = 2048;

/// Whether a URL may name a host of another machine without TLS.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum PlainHttp {
    /// Only this machine is spoken to without TLS.
    OnLoopback,
    /// Every host may be spoken to without TLS.
    Anywhere,
}

/// A checked URL.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) is_tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// The value of the header `Host`.
    pub(super) authority: HeaderValue,
    /// The path with its query, as a request names it.
    pub(super) path: Uri,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.path)
    }
}

impl Address {
    /// Checks a URL.
    ///
    /// # Errors
    /// A clause that follows the name of the setting.
    pub(super) fn new(url: &str, plain: PlainHttp) -> Result<Self, String> {
        if url.len() > URL_BYTES {
            return Err(format!("must not be longer than {URL_BYTES} bytes"));
        }
        if url.contains('#') {
            return Err("must have no fragment".into());
        }
        let uri: Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("must begin with https:// or http://".into()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must have no user and no password".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match (authority.port_u16(), is_tls) {
            (Some(port), _) => port,
            (None, true) => 443,
            (None, false) => 80,
        };
        let has_port = authority.as_str().len() > authority.host().len();
        if host.is_empty() || port == 0 || has_port != authority.port_u16().is_some() {
            return Err("names no host, or no valid port".into());
        }
        if !is_tls && plain == PlainHttp::OnLoopback && !is_loopback(host) {
            return Err(format!("is `{url}`, and `{host}` is another machine: it must begin with https://"));
        }
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        Ok(Self {
            is_tls,
            host: host.into(),
            port,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| "names no host")?,
            path: path.parse().map_err(|_| "has no valid path")?,
        })
    }
}

/// Whether a host is this machine for certain.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_a_port_and_a_path() {
        for (url, host, port, authority, path, is_tls) in [
            ("http://a", "a", 80, "a", "/", false),
            ("https://back.example/x?y=1", "back.example", 443, "back.example", "/x?y=1", true),
            ("https://example.com:8443", "example.com", 8443, "example.com:8443", "/", true),
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "127.0.0.1:8080", "/", false),
            ("https://[::1]:8443/v", "::1", 8443, "[::1]:8443", "/v", true),
            ("HTTPS://A.example", "A.example", 443, "A.example", "/", true),
        ] {
            let read = Address::new(url, PlainHttp::Anywhere).expect(url);
            assert_eq!((&*read.host, read.port), (host, port), "{url}");
            assert_eq!((read.authority.to_str().ok(), &*read.path.to_string()), (Some(authority), path));
            assert_eq!(read.is_tls, is_tls, "{url}");
            let scheme = if is_tls { "https" } else { "http" };
            assert_eq!(read.to_string(), format!("{scheme}://{authority}{path}"));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        let long = format!("http://a/{}", "x".repeat(URL_BYTES));
        for (url, why) in [
            ("", "no URL"),
            ("a", "https://"),
            ("/a", "https://"),
            ("example.com", "https://"),
            ("ftp://a", "https://"),
            ("http://", "no URL"),
            ("https://", "no URL"),
            ("http:///x", "no URL"),
            ("http://a:", "port"),
            ("http://a:0", "port"),
            ("http://a:70000", "port"),
            ("http://a b", "no URL"),
            ("http://u@a", "user"),
            ("https://u:p@a/", "user"),
            ("http://a/#f", "fragment"),
            ("http://a\r\nx: y", "no URL"),
            (&long, "2048"),
        ] {
            let clause = Address::new(url, PlainHttp::Anywhere).err().unwrap_or_else(|| panic!("{url}"));
            assert!(clause.contains(why), "{url}: {clause}");
        }
    }

    #[test]
    fn plain_http_may_stay_on_this_machine() {
        for url in ["http://127.0.0.1:5/x", "http://[::1]/x", "http://localhost", "https://example.com"] {
            assert!(Address::new(url, PlainHttp::OnLoopback).is_ok(), "{url}");
        }
        for url in ["http://example.com/", "http://127.0.0.1.example.com/", "http://10.0.0.1/"] {
            let clause = Address::new(url, PlainHttp::OnLoopback).err().unwrap_or_default();
            assert!(clause.contains("another machine"), "{url}: {clause}");
            assert!(Address::new(url, PlainHttp::Anywhere).is_ok(), "{url}");
        }
    }
}
