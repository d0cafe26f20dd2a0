//! The place that a URL names, and the way there.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use hyper::{
    Uri,
    header::HeaderValue,
    http::uri::{PathAndQuery, Scheme},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::Connection;
use crate::tls::TlsSettings;

/// The most bytes of a URL.
const URL_BYTES: usize = 2048;

/// A server, the path of its resource, and the authorities that may vouch for the server.
pub(crate) struct Endpoint {
    /// A name, or an address without brackets.
    host: Box<str>,
    port: u16,
    /// The value of the header `Host`.
    pub(crate) authority: HeaderValue,
    /// The path with its query, as a request names it.
    pub(crate) path: Uri,
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// An error in the settings of an endpoint.
#[derive(Eq, PartialEq, Debug)]
pub(crate) enum EndpointError {
    /// A clause that follows the name of the setting with the URL.
    Url(String),
    /// A clause that follows the name of the setting with the authorities.
    Authorities(String),
}

impl Endpoint {
    /// The endpoint of a URL. `authorities` has certificates in PEM, one of which must vouch for the server;
    /// without it, the authorities that browsers know.
    pub(crate) fn new(url: &str, authorities: Option<&str>) -> Result<Self, EndpointError> {
        let wrong = |problem: &str| EndpointError::Url(problem.to_owned());
        if url.len() > URL_BYTES {
            return Err(EndpointError::Url(format!("must not be longer than {URL_BYTES} bytes")));
        }
        if url.contains('#') {
            return Err(wrong("must have no fragment"));
        }
        let uri: Uri = url.parse().map_err(|error| EndpointError::Url(format!("is no URL: {error}")))?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("must begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("must have no user and no password"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match (authority.port_u16(), is_tls) {
            (Some(port), _) => port,
            (None, true) => 443,
            (None, false) => 80,
        };
        let has_port = authority.as_str().len() > authority.host().len();
        if host.is_empty() || port == 0 || has_port != authority.port_u16().is_some() {
            return Err(wrong("names no host, or no valid port"));
        }
        let tls = match (is_tls, authorities) {
            (true, _) => Some(Tls::new(host, authorities)?),
            (false, Some(_)) => {
                return Err(EndpointError::Authorities("is for URLs that begin with https://".into()));
            }
            (false, None) => None,
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        Ok(Self {
            host: host.into(),
            port,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("names no host"))?,
            path: path.parse().map_err(|_| wrong("has no valid path"))?,
            tls,
        })
    }

    /// Connects, and greets with TLS where the URL asks for it.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Connection::new(Box::new(stream)).await,
            Some(tls) => {
                let stream = tls.connector.connect(tls.name.clone(), stream).await?;
                Connection::new(Box::new(stream)).await
            }
        }
    }
}

impl Tls {
    fn new(host: &str, authorities: Option<&str>) -> Result<Self, EndpointError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| EndpointError::Url("names a host that no certificate can name".into()))?;
        let roots = match authorities {
            Some(pem) => Arc::new(roots(pem).map_err(EndpointError::Authorities)?),
            None => public_roots(),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(TlsSettings::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites of both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: Arc::new(config).into(), name })
    }
}

/// The authorities that browsers know.
fn public_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let store = || Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    ROOTS.get_or_init(store).clone()
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("is no PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("has a certificate that cannot be used: {error}"))?;
    }
    if roots.is_empty() { Err("has no certificate in PEM".into()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(url, None).unwrap_or_else(|error| panic!("{url}: {error:?}"))
    }

    #[test]
    fn a_url_names_a_host_a_port_and_a_path() {
        for (url, host, port, authority, path, is_tls) in [
            ("http://a", "a", 80, "a", "/", false),
            ("https://back.example/x?y=1", "back.example", 443, "back.example", "/x?y=1", true),
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "127.0.0.1:8080", "/", false),
            ("https://[::1]:8443/v", "::1", 8443, "[::1]:8443", "/v", true),
            ("HTTPS://A.example", "A.example", 443, "A.example", "/", true),
        ] {
            let read = endpoint(url);
            assert_eq!((&*read.host, read.port), (host, port), "{url}");
            assert_eq!((read.authority.to_str().ok(), &*read.path.to_string()), (Some(authority), path));
            assert_eq!(read.tls.is_some(), is_tls, "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        let long = format!("http://a/{}", "x".repeat(URL_BYTES));
        for url in [
            "",
            "a",
            "/a",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a:",
            "http://a:0",
            "http://a:70000",
            "http://a b",
            "http://u@a",
            "https://u:p@a/",
            "http://a/#f",
            "http://a\r\nx: y",
            "https://a_b..c",
            &long,
        ] {
            assert!(matches!(Endpoint::new(url, None), Err(EndpointError::Url(_))), "{url}");
        }
    }

    #[test]
    fn authorities_are_certificates_and_for_tls() {
        for (url, pem) in [
            ("https://a", ""),
            ("https://a", "nothing"),
            ("https://a", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("http://a", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            assert!(matches!(Endpoint::new(url, Some(pem)), Err(EndpointError::Authorities(_))), "{pem}");
        }
    }
}
