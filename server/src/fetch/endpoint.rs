//! The address of a request, as a configuration names it.

use std::{fmt, net::IpAddr, sync::Arc};

use axum::http::Uri;
use rustls::ClientConfig;

/// The most bytes of an address.
const URL_BYTES_MAX: usize = 2048;

/// Whether an address may name a host of another machine without TLS.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum PlainHttp {
    /// Only this machine is spoken to without TLS.
    OnLoopback,
    /// Every host may be spoken to without TLS.
    Anywhere,
}

/// A checked address.
#[derive(Clone)]
pub(crate) struct Endpoint {
    uri: Uri,
    /// The host, without the brackets of an IPv6 address.
    host: Box<str>,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.uri).finish()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl Endpoint {
    /// Checks an address. `tls` is asked for the settings of TLS if the address needs them.
    ///
    /// # Errors
    /// A clause that follows the name of the setting.
    pub(crate) fn new(
        url: &str,
        plain: PlainHttp,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Self, String> {
        if url.len() > URL_BYTES_MAX {
            return Err(format!("must have at most {URL_BYTES_MAX} bytes"));
        }
        let uri: Uri = url.parse().map_err(|error| format!("is `{url}`, which is no URL: {error}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("is `{url}`: it must be a whole URL, such as https://example.com/path"));
        };
        if authority.as_str().contains('@') {
            return Err(String::from("has a user before the host: leave it out"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("is `{url}`, which has no host"));
        }
        let (tls, standard) = match scheme {
            "https" => (Some(tls()?), 443),
            "http" if plain == PlainHttp::Anywhere || is_loopback(host) => (None, 80),
            "http" => {
                let host = format!("is `{url}`, and `{host}` is another machine");
                return Err(format!("{host}: it must begin with https://"));
            }
            other => return Err(format!("begins with `{other}:`: it must be https")),
        };
        let port = authority.port_u16().unwrap_or(standard);
        Ok(Self { host: host.into(), port, tls, uri: uri.clone() })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they stand in the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }
}

/// Whether a host is this machine for certain.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, plain: PlainHttp) -> Result<Endpoint, String> {
        Endpoint::new(url, plain, || Ok(crate::fetch::tls_client(rustls::RootCertStore::empty())))
    }

    #[test]
    fn an_address_has_a_host_a_port_and_a_target() {
        let cases = [
            ("https://example.com/a?b=c", "example.com", 443, "example.com", "/a?b=c"),
            ("https://example.com:8443", "example.com", 8443, "example.com:8443", "/"),
            ("http://127.0.0.1:5/x", "127.0.0.1", 5, "127.0.0.1:5", "/x"),
            ("http://[::1]/x", "::1", 80, "[::1]", "/x"),
            ("http://localhost", "localhost", 80, "localhost", "/"),
        ];
        for (url, host, port, authority, target) in cases {
            let made = endpoint(url, PlainHttp::OnLoopback).expect(url);
            let seen = (made.host(), made.port(), made.authority(), made.target());
            assert_eq!(seen, (host, port, authority, target), "{url}");
            assert_eq!(made.tls().is_some(), url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn addresses_that_leak_or_mean_nothing_are_refused() {
        let refused = [
            ("http://example.com/", "another machine"),
            ("http://127.0.0.1.example.com/", "another machine"),
            ("http://10.0.0.1/", "another machine"),
            ("https://user:password@example.com/", "user"),
            ("ftp://example.com/", "https"),
            ("example.com", "whole URL"),
            ("/keys", "whole URL"),
            ("https://", "no URL"),
            ("https://a b/", "no URL"),
            (&format!("https://example.com/{}", "a".repeat(2048)), "2048"),
        ];
        for (url, why) in refused {
            let sentence = endpoint(url, PlainHttp::OnLoopback).expect_err(url);
            assert!(sentence.contains(why), "{url}: {sentence}");
        }
        assert!(endpoint("http://example.com/", PlainHttp::Anywhere).is_ok());
    }
}
