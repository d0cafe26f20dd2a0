//! Connections that speak HTTP: requests one after the other on one connection, made of the texts that wait
//! to be sent, and answers whose bodies have items. What requests and bodies look like is the [`Exchange`]'s.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use fanfare_core::http::{HttpLimits, parse_response_head};

/// How a connection reaches the server.
pub(crate) enum Access {
    /// A WebSocket.
    WebSocket {
        /// Path and query.
        path: String,
        /// A request that comes before the handshake on the same connection, and has to succeed.
        first: Option<Request>,
    },
    /// Requests and answers.
    Http(Arc<dyn Exchange>),
}

impl Access {
    /// A WebSocket with this path and query.
    pub(crate) fn web_socket(path: impl Into<String>) -> Self {
        Self::WebSocket { path: path.into(), first: None }
    }
}

/// A request with a body, or without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) target: String,
    /// Header lines, each with its end.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Appends the request.
    pub(super) fn put(&self, out: &mut BytesMut, host: &str) {
        let Self { method, target, headers, body } = self;
        for part in [method, " ", target, " HTTP/1.1\r\nHost: ", host, "\r\n", headers.as_str()] {
            out.extend_from_slice(part.as_bytes());
        }
        if *method != "GET" {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
}

/// Texts that wait to be sent.
pub(crate) type Texts = VecDeque<Box<[u8]>>;

/// What an exchange keeps about a connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    /// What the server calls it.
    pub(crate) session: String,
    /// What was asked last, as the exchange numbers its requests.
    pub(crate) step: u8,
}

/// What is asked over HTTP, and when.
pub(crate) trait Exchange: Send + Sync {
    /// Whether connections are ready for texts at once. Otherwise the server speaks first.
    fn is_ready(&self) -> bool;

    /// What is known of a connection when it stands.
    fn begin(&self) -> Conversation {
        Conversation::default()
    }

    /// The next request of a connection on which none is under way. Takes the texts that it is made of.
    fn ask(&self, conversation: &mut Conversation, texts: &mut Texts) -> Option<Request>;

    /// Calls `each` with the items of an answer; a sentence if the answer ends the connection.
    fn hear(
        &self,
        conversation: &mut Conversation,
        answer: Response<'_>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String>;

    /// The text with which a session ends, if it does not end with its connection.
    fn farewell(&self) -> Option<&'static [u8]> {
        None
    }
}

/// An answer to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Response<'_> {
    /// The answer, if the request succeeded; a sentence otherwise.
    pub(crate) fn succeeded(self) -> Result<Self, String> {
        if matches!(self.status, 200..=299) {
            return Ok(self);
        }
        let body = String::from_utf8_lossy(self.body);
        let why: String = body.chars().filter(|letter| !letter.is_control()).take(200).collect();
        let colon = if why.is_empty() { "." } else { ": " };
        Err(format!("A request was answered with status {}{colon}{why}", self.status))
    }

    /// The first answer in `bytes`, and where it ends; nothing if it is not complete.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Response<'_>, usize)>, String> {
        let parsed = parse_response_head(bytes, HttpLimits::default())
            .map_err(|error| format!("The server does not speak HTTP: {error}."))?;
        let Some((head, len)) = parsed else { return Ok(None) };
        let length = match head.content_length {
            Some(length) if length <= MAX_BODY_BYTES => length as usize,
            Some(length) => {
                return Err(format!("The server answered with {length} bytes, which are too many."));
            }
            None if head.status == 204 => 0,
            None => return Err("The server answered without a length, which is not understood here.".into()),
        };
        let answer = |body| (Response { status: head.status, body }, len + length);
        Ok(bytes.get(len..len + length).map(answer))
    }
}

/// The most bytes of an answer.
const MAX_BODY_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_complete() {
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
            HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        let first = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".len();
        for len in 0..first {
            assert!(Response::read(&two[..len]).expect("good so far").is_none(), "{len} bytes");
        }
        let (answer, len) = Response::read(two).expect("good").expect("complete");
        assert_eq!((answer.status, answer.body, len), (200, &b"ok"[..], first));
        let (answer, len) = Response::read(&two[len..]).expect("good").expect("complete");
        assert_eq!((answer.status, answer.body.len(), len), (401, 0, two.len() - first));
        assert!(answer.succeeded().is_err_and(|why| why.contains("401")));
    }

    #[test]
    fn answers_that_cannot_be_delimited_are_refused_with_a_sentence() {
        for head in ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(Response::read(head.as_bytes()).is_err_and(|why| why.ends_with('.')), "{head}");
        }
        let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(Response::read(huge.as_bytes()).is_err());
    }

    #[test]
    fn request_has_a_length_if_it_has_a_body() {
        let mut out = BytesMut::new();
        let request =
            Request { method: "POST", target: "/a?b".into(), headers: "X: y\r\n".into(), body: b"[]".into() };
        request.put(&mut out, "h:1");
        assert_eq!(&out[..], b"POST /a?b HTTP/1.1\r\nHost: h:1\r\nX: y\r\nContent-Length: 2\r\n\r\n[]");
        out.clear();
        Request { method: "GET", target: "/".into(), ..Request::default() }.put(&mut out, "h");
        assert_eq!(&out[..], b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
}
