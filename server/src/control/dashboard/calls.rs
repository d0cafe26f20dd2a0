//! Calls of a back end of Channelstream, which the console makes: clients of Channelstream neither join nor
//! send. A call is signed, and goes to a worker on a connection between two sockets of this process.

use std::{io, time::Duration};

use axum::body::Bytes;
use fanfare_core::app::App;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Observed, console::hand_over};
use crate::{sys::Clock, worker::Answered};

/// The calls that the console makes.
const CALLS: [&str; 5] = ["connect", "subscribe", "unsubscribe", "message", "disconnect"];

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// Makes a call for an app.
pub(super) async fn request(observed: &Observed, app: &App, call: &str, body: &Bytes) -> Answered {
    let Some(place) = observed.control.places.of(app).filter(|_| CALLS.contains(&call)) else {
        return Answered::refusal(404, "not_found", "There is nothing here.");
    };
    let signature = place.signature(Clock::new().unix_us() / 1_000_000);
    let head = format!(
        "POST {}/{call} HTTP/1.1\r\nhost: dashboard\r\nconnection: close\r\n\
         content-type: application/json\r\naccept: application/json\r\n\
         x-channelstream-secret: {signature}\r\ncontent-length: {}\r\n\r\n",
        place.options.prefix,
        body.len()
    );
    let answered = timeout(PATIENCE, exchange(observed, [head.as_bytes(), body].concat())).await;
    match answered.map_err(io::Error::other).and_then(|answered| answered) {
        Ok(text) => parse(&text).unwrap_or_else(|| {
            Answered::refusal(502, "malformed_answer", "The worker's answer is malformed.")
        }),
        Err(error) => Answered::refusal(503, "no_answer", &format!("The worker did not answer: {error}.")),
    }
}

/// Hands a request to a worker, and reads the answer up to the end of the connection.
async fn exchange(observed: &Observed, request: Vec<u8>) -> io::Result<Vec<u8>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let own = TcpStream::connect(listener.local_addr()?).await?;
    let name = own.local_addr()?;
    // Another process may connect first.
    let far = loop {
        let (stream, peer) = listener.accept().await?;
        if peer == name {
            break stream;
        }
    };
    hand_over(observed, far.into_std()?, request)?;
    read_to_end(own).await
}

/// Reads up to the end of the stream.
///
/// # Errors
/// If the stream has more than [`ANSWER_BYTES`].
async fn read_to_end(stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES + 1).read_to_end(&mut answer).await?;
    match answer.len() as u64 > ANSWER_BYTES {
        true => Err(io::Error::other("the answer is too long")),
        false => Ok(answer),
    }
}

/// The status and the body of a response.
fn parse(response: &[u8]) -> Option<Answered> {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = std::str::from_utf8(response.get(9..12)?).ok()?.parse().ok()?;
    Some(Answered { status, body: Bytes::copy_from_slice(&response[end + 4..]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: u64) -> io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(read_to_end(tokio::io::repeat(b'x').take(bytes)))
    }

    #[test]
    fn an_answer_is_bounded() {
        assert_eq!(read(ANSWER_BYTES).expect("it fits").len() as u64, ANSWER_BYTES);
        assert!(read(ANSWER_BYTES + 1).is_err());
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let Answered { status, body } =
            parse(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}").expect("a response");
        assert_eq!((status, &*body), (403, &b"{}"[..]));
        for malformed in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n\r\n"] {
            assert!(parse(malformed.as_bytes()).is_none(), "{malformed:?}");
        }
    }
}
