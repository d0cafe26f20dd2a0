//! Answers: every response of the main port is written here, so each has its date, its CORS headers and, for
//! HEAD, no body.

use std::borrow::Cow;

use bytes::BytesMut;
use fanfare_core::{
    dialect::native_http::Refusal,
    http::{Head, Persistence, cut_body, put_problem, put_response},
};

use super::cors::CorsPolicy;
use crate::sys::HttpDate;

/// The headers of a JSON answer.
pub(crate) const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// What a 401 asks for (RFC 9110, section 15.5.2; RFC 6750, section 3).
const CHALLENGE: (&str, &str) = ("www-authenticate", "Bearer realm=\"fanfare\"");

/// A request's refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) detail: Cow<'static, str>,
    /// Further headers, such as `Allow`.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Problem {
    pub(crate) fn new(status: u16, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), headers: &[] }
    }

    /// A request that is well-formed HTTP and makes no sense.
    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::from(Refusal::invalid(detail))
    }

    pub(crate) fn with(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { status, code, detail }: Refusal) -> Self {
        Self::new(status, code, detail)
    }
}

/// How much of an answer is sent.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Content {
    Whole,
    /// The answer to HEAD: that to GET without its body (RFC 9110, section 9.3.2).
    HeadOnly,
}

/// How to answer a request.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) persistence: Persistence,
    pub(crate) cors: CorsPolicy,
    content: Content,
    date: HttpDate,
}

impl Reply {
    /// As `head` asks for; every page may read it until an app is known.
    pub(crate) fn to(head: &Head<'_>, date: HttpDate) -> Self {
        let content = if head.method == "HEAD" { Content::HeadOnly } else { Content::Whole };
        Self { persistence: head.persistence(), cors: CorsPolicy::AnyOrigin, content, date }
    }

    /// The last answer on a connection.
    pub(crate) fn last(date: HttpDate) -> Self {
        Self { persistence: Persistence::Close, cors: CorsPolicy::AnyOrigin, content: Content::Whole, date }
    }

    pub(crate) fn put(&self, out: &mut BytesMut, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let mut all = headers.to_vec();
        self.add_headers(&mut all);
        let start = out.len();
        put_response(out, status, &all, body, self.persistence);
        self.cut(out, start);
    }

    pub(crate) fn put_problem(&self, out: &mut BytesMut, problem: &Problem) {
        let mut all = problem.headers.to_vec();
        if problem.status == 401 {
            all.push(CHALLENGE);
        }
        self.add_headers(&mut all);
        let start = out.len();
        put_problem(out, problem.status, problem.code, &problem.detail, self.persistence, &all);
        self.cut(out, start);
    }

    pub(crate) fn put_preflight(&self, out: &mut BytesMut, methods: &str) {
        self.put_preflight_for(out, (methods, "authorization, content-type"));
    }

    /// The same, with the headers that a page may send.
    pub(crate) fn put_preflight_for(&self, out: &mut BytesMut, (methods, sent): (&str, &str)) {
        let headers = [
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", sent),
            ("access-control-max-age", "86400"),
        ];
        self.put(out, 204, &headers, b"");
    }

    fn add_headers<'a>(&'a self, all: &mut Vec<(&'a str, &'a str)>) {
        all.push(("date", self.date.as_str()));
        all.extend(self.cors.headers());
    }

    fn cut(&self, out: &mut BytesMut, start: usize) {
        if self.content == Content::HeadOnly {
            cut_body(out, start);
        }
    }
}
