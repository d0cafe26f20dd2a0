//! One connection to another server: a request at a time.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    client::conn::http1::{Builder, SendRequest},
    header::HeaderMap,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, yield_now},
};

/// The most bytes of a reply's head, and of what a connection reads ahead.
const READ_BYTES: usize = 32 << 10;

/// The most headers of a reply.
const HEADERS: usize = 64;

/// A stream of bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection on which no request is under way. The socket is closed when the connection is dropped.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A reply with its whole body.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The connection, for another request.
    pub(crate) connection: Connection,
}

/// Why there is no reply.
pub(crate) enum ExchangeError {
    /// The connection was closed before a byte of the request was written.
    Unsent(Box<Request<Full<Bytes>>>),
    /// The request may have arrived.
    Broken(String),
    /// The body of the reply exceeds its limit.
    TooLarge,
}

impl Connection {
    pub(super) async fn new(stream: Box<dyn Stream>) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder.max_buf_size(READ_BYTES).max_headers(HEADERS);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // The error of a connection is the error of its request; without a request nobody misses it.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, task })
    }

    /// Sends a request and reads the reply, whose body has at most `body_bytes`.
    pub(crate) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
        body_bytes: usize,
    ) -> Result<Reply, ExchangeError> {
        // The runtime looks at the socket first, so an end of the connection that has come is known.
        yield_now().await;
        if self.sender.ready().await.is_err() {
            return Err(ExchangeError::Unsent(Box::new(request)));
        }
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(request) => ExchangeError::Unsent(Box::new(request)),
                    None => ExchangeError::Broken(error.into_error().to_string()),
                });
            }
        };
        self.finish(response, body_bytes).await
    }

    async fn finish(self, response: Response<Incoming>, body_bytes: usize) -> Result<Reply, ExchangeError> {
        let (head, body) = response.into_parts();
        // A declared length is refused before the first byte is read.
        if body.size_hint().lower() > body_bytes as u64 {
            return Err(ExchangeError::TooLarge);
        }
        let body = match Limited::new(body, body_bytes).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(ExchangeError::TooLarge);
            }
            Err(error) => return Err(ExchangeError::Broken(error.to_string())),
        };
        Ok(Reply { status: head.status, headers: head.headers, body, connection: self })
    }
}
