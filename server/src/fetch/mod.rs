//! HTTP requests that the server makes: to the addresses that its configuration names, over HTTP/1.1.
//!
//! `endpoint` checks an address once, when the configuration is read. A request has a time, and its answer
//! has a size. A redirect is an answer like any other, and is not followed. Everything here runs on threads
//! of the control plane, and nothing here runs on a worker.

mod endpoint;

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response, client::conn::http1, header::HOST, header::HeaderValue};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub(crate) use self::endpoint::{Endpoint, PlainHttp};
use crate::tls::TlsSettings;

/// The most bytes of the head of an answer.
const HEAD_BYTES: usize = 16 << 10;

/// What a request may cost.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Bounds {
    /// The time from the start to the last byte of the answer.
    pub(crate) time: Duration,
    /// The bytes of the answer's body.
    pub(crate) body_bytes: usize,
}

/// Why a request has no answer. Every clause follows the name of the address.
#[derive(Debug)]
pub(crate) enum FetchError {
    Unreachable(io::Error),
    /// The certificate is not trusted, or TLS failed otherwise.
    Tls(io::Error),
    /// The peer speaks no HTTP, or ended in the middle of the answer.
    Http(hyper::Error),
    TooLong(usize),
    Timeout(Duration),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::Tls(error) => write!(f, "cannot be trusted: {error}"),
            Self::Http(error) => write!(f, "gave no HTTP answer: {error}"),
            Self::TooLong(bytes) => write!(f, "answered with more than {bytes} bytes"),
            Self::Timeout(time) => write!(f, "gave no whole answer in {} ms", time.as_millis()),
        }
    }
}

impl std::error::Error for FetchError {}

/// The settings of TLS towards servers whose certificates one of `roots` signed.
pub(crate) fn tls_client(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(TlsSettings::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites of both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The authorities that the operating system trusts. Reads files.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Sends a request on a connection of its own, and returns the whole answer.
///
/// # Errors
/// There is no whole answer within the bounds.
pub(crate) async fn fetch(
    endpoint: &Endpoint,
    request: Request<Full<Bytes>>,
    bounds: Bounds,
) -> Result<Response<Bytes>, FetchError> {
    match timeout(bounds.time, exchange(endpoint, request, bounds.body_bytes)).await {
        Ok(done) => done,
        Err(_) => Err(FetchError::Timeout(bounds.time)),
    }
}

async fn exchange(
    endpoint: &Endpoint,
    request: Request<Full<Bytes>>,
    body_bytes: usize,
) -> Result<Response<Bytes>, FetchError> {
    let socket =
        TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(FetchError::Unreachable)?;
    match endpoint.tls() {
        None => converse(socket, endpoint, request, body_bytes).await,
        Some(tls) => {
            let name = ServerName::try_from(endpoint.host().to_owned())
                .map_err(|error| FetchError::Tls(io::Error::other(error)))?;
            let stream =
                TlsConnector::from(tls.clone()).connect(name, socket).await.map_err(FetchError::Tls)?;
            converse(stream, endpoint, request, body_bytes).await
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    endpoint: &Endpoint,
    mut request: Request<Full<Bytes>>,
    body_bytes: usize,
) -> Result<Response<Bytes>, FetchError> {
    let host = HeaderValue::from_str(endpoint.authority()).expect("an authority is visible ASCII");
    request.headers_mut().insert(HOST, host);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    // The exchange sees the error of a connection that ends too early.
    let _connection = AbortOnDrop(tokio::spawn(async { drop(connection.await) }).abort_handle());
    let answer = sender.send_request(request).await.map_err(FetchError::Http)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, body_bytes).collect().await.map_err(|error| {
        match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Http(*error),
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>());
                FetchError::TooLong(body_bytes)
            }
        }
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// A task that ends with its owner.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
