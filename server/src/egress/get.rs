//! One request on a connection of its own, within bounds.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use tokio::time::timeout;

use super::{
    connection::{ExchangeError, Reply},
    endpoint::{ConnectError, Endpoint},
};

/// What a request may cost.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Bounds {
    /// The time from connecting to the last byte of the reply.
    pub(crate) time: Duration,
    /// The bytes of the reply's body.
    pub(crate) body_bytes: usize,
}

/// Why a request has no reply. Every clause follows the URL.
#[derive(Debug)]
pub(crate) enum GetError {
    Connect(ConnectError),
    /// The peer speaks no HTTP, or ended in the middle of the reply.
    Broken(String),
    TooLarge(usize),
    TimedOut(Duration),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Broken(error) => write!(f, "gave no HTTP answer: {error}"),
            Self::TooLarge(bytes) => write!(f, "answered with more than {bytes} bytes"),
            Self::TimedOut(time) => write!(f, "gave no whole answer in {} ms", time.as_millis()),
        }
    }
}

impl Endpoint {
    /// Sends a `GET` on a connection of its own, and returns the whole reply.
    ///
    /// # Errors
    /// There is no whole reply within the bounds.
    pub(crate) async fn get(&self, bounds: Bounds) -> Result<Reply, GetError> {
        self.send(self.request(Method::GET, Bytes::new()), bounds).await
    }

    /// Sends a request on a connection of its own, and returns the whole reply.
    ///
    /// # Errors
    /// There is no whole reply within the bounds.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        bounds: Bounds,
    ) -> Result<Reply, GetError> {
        let done = timeout(bounds.time, self.send_bounded(request, bounds.body_bytes)).await;
        done.unwrap_or(Err(GetError::TimedOut(bounds.time)))
    }

    async fn send_bounded(
        &self,
        request: Request<Full<Bytes>>,
        body_bytes: usize,
    ) -> Result<Reply, GetError> {
        let connection = self.connect().await.map_err(GetError::Connect)?;
        let exchanged = connection.exchange(request, body_bytes).await;
        exchanged.map_err(|error| match error {
            ExchangeError::Unsent(_) => GetError::Broken("the connection was closed".into()),
            ExchangeError::Broken(error) => GetError::Broken(error),
            ExchangeError::TooLarge => GetError::TooLarge(body_bytes),
        })
    }
}
