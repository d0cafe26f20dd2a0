//! Answers over HTTP, with the headers that browsers of every origin ask for.

use bytes::BytesMut;
use fanfare_core::engineio::{CACHE_CONTROL, PAYLOAD_TYPE, POST_ANSWER, POST_ANSWER_TYPE, RequestError};
use fanfare_core::http::{Persistence, put_response};

const CORS: [(&str, &str); 3] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET,HEAD,PUT,PATCH,POST,DELETE"),
    ("access-control-allow-headers", "content-type"),
];

/// An answer to a request.
pub(crate) struct Answer<'a> {
    status: u16,
    content_type: Option<&'a str>,
    body: &'a [u8],
    pub(crate) persistence: Persistence,
}

impl<'a> Answer<'a> {
    /// An answer without a body.
    pub(crate) fn empty(status: u16, persistence: Persistence) -> Self {
        Self { status, content_type: None, body: b"", persistence }
    }

    /// The answer to a poll, or to a handshake.
    pub(crate) fn payload(body: &'a [u8], persistence: Persistence) -> Self {
        Self { status: 200, content_type: Some(PAYLOAD_TYPE), body, persistence }
    }

    /// The answer to a POST.
    pub(crate) fn post(persistence: Persistence) -> Self {
        let body = POST_ANSWER.as_bytes();
        Self { status: 200, content_type: Some(POST_ANSWER_TYPE), body, persistence }
    }

    /// A refusal.
    pub(crate) fn refusal(error: RequestError, persistence: Persistence) -> Self {
        let (status, body) = (error.status(), error.body().as_bytes());
        Self { status, content_type: error.content_type(), body, persistence }
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        let mut headers = CORS.to_vec();
        headers.push(("cache-control", CACHE_CONTROL));
        headers.extend(self.content_type.map(|content_type| ("content-type", content_type)));
        put_response(out, self.status, &headers, self.body, self.persistence);
    }
}
