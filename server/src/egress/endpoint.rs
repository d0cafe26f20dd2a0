//! The place that a URL names, and the way there.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{ACCEPT, HOST, HeaderValue, USER_AGENT},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    address::{Address, PlainHttp},
    authorities::system_authorities,
    connection::Connection,
};
use crate::tls::{TlsSettings, roots};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("fanfare/", env!("CARGO_PKG_VERSION")));

/// A server, the path of its resource, and the authorities that may vouch for the server.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: Address,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// The URL.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("authority", &self.address.authority).finish_non_exhaustive()
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

/// Why there is no connection. Every clause follows the name of the server.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Unreachable(io::Error),
    /// The certificate is not trusted, or TLS failed otherwise.
    Untrusted(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::Untrusted(error) => write!(f, "cannot be trusted: {error}"),
        }
    }
}

impl Endpoint {
    /// The endpoint of a URL. `authorities` has certificates in PEM, one of which must vouch for the server;
    /// without it, the authorities that the operating system trusts.
    pub(crate) fn new(
        url: &str,
        plain: PlainHttp,
        authorities: Option<&[u8]>,
    ) -> Result<Self, EndpointError> {
        let address = Address::new(url, plain).map_err(EndpointError::Url)?;
        let tls = match (address.is_tls, authorities) {
            (true, _) => Some(Tls::new(&address.host, authorities)?),
            (false, Some(_)) => {
                return Err(EndpointError::Authorities("is for URLs that begin with https://".into()));
            }
            (false, None) => None,
        };
        Ok(Self { address, tls })
    }

    /// The endpoint of another URL, for which the same authorities vouch.
    ///
    /// # Errors
    /// A clause that follows the URL. A URL without TLS is refused if this endpoint has TLS, and the other
    /// way round.
    pub(crate) fn with_url(&self, url: &str) -> Result<Self, String> {
        let address = Address::new(url, PlainHttp::OnLoopback)?;
        let tls = match (&self.tls, address.is_tls) {
            (Some(tls), true) => Some(Tls { name: server_name(&address.host)?, ..tls.clone() }),
            (None, false) => None,
            _ => return Err(String::from("has another scheme")),
        };
        Ok(Self { address, tls })
    }

    /// A request for the endpoint's resource, whose answer is to be JSON.
    pub(crate) fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.address.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.address.authority.clone());
        headers.insert(ACCEPT, JSON);
        headers.insert(USER_AGENT, AGENT);
        request
    }

    /// Connects, and greets with TLS where the URL asks for it.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectError> {
        let stream = self.reach().await.map_err(ConnectError::Unreachable)?;
        let connection = match &self.tls {
            None => Connection::new(Box::new(stream)).await,
            Some(tls) => {
                let greeted = tls.connector.connect(tls.name.clone(), stream).await;
                Connection::new(Box::new(greeted.map_err(ConnectError::Untrusted)?)).await
            }
        };
        connection.map_err(ConnectError::Unreachable)
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((&*self.address.host, self.address.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Tls {
    fn new(host: &str, authorities: Option<&[u8]>) -> Result<Self, EndpointError> {
        let name = server_name(host).map_err(EndpointError::Url)?;
        let roots = match authorities {
            Some(pem) => roots(pem).map(Arc::new),
            None => system_authorities(),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(TlsSettings::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites of both versions")
            .with_root_certificates(roots.map_err(EndpointError::Authorities)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: Arc::new(config).into(), name })
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| "names a host that no certificate can name".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_url_has_the_same_scheme() {
        let plain = Endpoint::new("http://127.0.0.1:1/a", PlainHttp::OnLoopback, None).expect("a URL");
        let other = plain.with_url("http://localhost:2/b").expect("a URL of this machine");
        assert_eq!(other.to_string(), "http://localhost:2/b");
        for url in ["https://a/", "http://a/", "ftp://a", ""] {
            assert!(plain.with_url(url).is_err(), "{url}");
        }
        let authority = include_bytes!("../tls/session/keys/localhost.crt");
        let secret = Endpoint::new("https://a/", PlainHttp::Anywhere, Some(authority)).expect("a URL");
        assert!(secret.with_url("https://b:1/c").is_ok());
        assert!(secret.with_url("http://127.0.0.1/").is_err());
    }

    #[test]
    fn a_url_that_is_wrong_is_told_from_authorities_that_are() {
        for url in ["ftp://a", "https://a_b..c", "http://example.com/"] {
            let refused = Endpoint::new(url, PlainHttp::OnLoopback, None);
            assert!(matches!(refused, Err(EndpointError::Url(_))), "{url}");
        }
        for (url, pem) in [
            ("https://a", ""),
            ("https://a", "nothing"),
            ("https://a", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("http://a", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            let refused = Endpoint::new(url, PlainHttp::Anywhere, Some(pem.as_bytes()));
            assert!(matches!(refused, Err(EndpointError::Authorities(_))), "{url} {pem}");
        }
    }

    #[test]
    fn a_request_names_the_resource_and_its_host() {
        let endpoint = Endpoint::new("http://a:81/x?y=1", PlainHttp::Anywhere, None).expect("a URL");
        let request = endpoint.request(Method::GET, Bytes::new());
        assert_eq!(request.uri(), "/x?y=1");
        assert_eq!(request.headers()[HOST], "a:81");
        assert_eq!(endpoint.to_string(), "http://a:81/x?y=1");
    }
}
