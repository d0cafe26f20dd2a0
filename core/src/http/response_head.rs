//! Response heads, read: the client's side, for the load generator and for tests.
//!
//! As strict as the request side, with which it shares scan, fields and framing rules. Must not know which
//! request a response answers, and so leaves it to the caller that an answer to HEAD has no body.

use super::framing::{self, BodyFraming};
use super::headers::Headers;
use super::response::is_bodiless;
use super::scan::first_line_start;
use super::{HeadScan, HttpError, HttpLimits};

/// The head of one response, borrowed from the bytes it was parsed from.
#[derive(Debug, Clone)]
pub struct ResponseHead<'a> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, which may be empty.
    pub reason: &'a str,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// The Content-Length, as claimed.
    pub content_length: Option<u64>,
    /// Whether the body is chunked. Then there is no Content-Length.
    pub chunked: bool,
    /// Whether the connection may carry another request, framing aside.
    pub keep_alive: bool,
    /// The header fields.
    pub headers: Headers<'a>,
}

impl<'a> ResponseHead<'a> {
    /// The first value of the field `name`, compared without case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.first(name)
    }

    /// The first value of the field `name` when it is UTF-8.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        self.headers.first_str(name)
    }

    /// Where the body ends, or `None` when only the end of the connection ends it.
    pub fn framing(&self) -> Option<BodyFraming> {
        if is_bodiless(self.status) {
            return Some(BodyFraming::None);
        }
        if self.chunked { Some(BodyFraming::Chunked) } else { self.content_length.map(BodyFraming::Length) }
    }
}

/// Parses the response head at the start of `input`: the head and its length in bytes, or `None` when it
/// needs more. The size of the body is left to [`BodyDecoder`](super::BodyDecoder).
///
/// # Errors
/// Any [`HttpError`] about a head.
pub fn parse_response_head(
    input: &[u8],
    limits: HttpLimits,
) -> Result<Option<(ResponseHead<'_>, usize)>, HttpError> {
    let end = HeadScan::default().find_end(input, limits)?;
    let Some(end) = end else { return Ok(None) };
    parse_complete(&input[first_line_start(input)..end], limits).map(|head| Some((head, end)))
}

fn parse_complete<'a>(lines: &'a [u8], limits: HttpLimits) -> Result<ResponseHead<'a>, HttpError> {
    let (line, headers) = Headers::fill(limits.headers, |fields| StatusLine::parse(lines, fields))?;
    let content_length = framing::content_length(&headers)?;
    let chunked = framing::is_chunked(&headers)?;
    if chunked && (content_length.is_some() || line.minor_version == 0) {
        return Err(HttpError::Framing);
    }
    Ok(ResponseHead {
        status: line.status,
        reason: line.reason,
        minor_version: line.minor_version,
        content_length,
        chunked,
        keep_alive: framing::keep_alive(&headers, line.minor_version),
        headers,
    })
}

/// The first line, as httparse reads it.
struct StatusLine<'a> {
    status: u16,
    reason: &'a str,
    minor_version: u8,
}

impl<'a> StatusLine<'a> {
    /// The line, and how many of `fields` were filled from the lines after it.
    fn parse(lines: &'a [u8], fields: &mut [httparse::Header<'a>]) -> Result<(Self, usize), HttpError> {
        let mut response = httparse::Response::new(fields);
        let parsed = response.parse(lines).map_err(|error| match error {
            httparse::Error::TooManyHeaders => HttpError::TooManyHeaders,
            httparse::Error::HeaderName | httparse::Error::HeaderValue => HttpError::Header,
            _ => HttpError::StatusLine,
        })?;
        let (Some(status @ 100..), Some(minor_version)) = (response.code, response.version) else {
            return Err(HttpError::StatusLine);
        };
        if parsed != httparse::Status::Complete(lines.len()) {
            return Err(HttpError::StatusLine);
        }
        let reason = response.reason.unwrap_or_default();
        Ok((Self { status, reason, minor_version }, response.headers.len()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::http::{Persistence, put_response};

    fn parse(input: &str) -> Result<Option<(ResponseHead<'_>, usize)>, HttpError> {
        parse_response_head(input.as_bytes(), HttpLimits::default())
    }

    fn head(input: &str) -> ResponseHead<'_> {
        parse(input).expect("valid").expect("complete").0
    }

    fn refusal(input: &str) -> HttpError {
        parse(input).expect_err("refused")
    }

    #[test]
    fn what_the_writer_writes_is_read_back() {
        let mut out = BytesMut::new();
        put_response(&mut out, 403, &[("X-Why", "because")], b"no entry", Persistence::Close);
        let (head, length) =
            parse_response_head(&out, HttpLimits::default()).expect("valid").expect("complete");
        assert_eq!((head.status, head.reason, head.minor_version), (403, "Forbidden", 1));
        assert_eq!(head.header("x-why"), Some(b"because".as_slice()));
        assert_eq!(head.header_str("X-WHY"), Some("because"));
        assert_eq!((head.content_length, head.chunked, head.keep_alive), (Some(8), false, false));
        assert_eq!(&out[length..], b"no entry");
    }

    #[test]
    fn framing_follows_status_and_fields() {
        assert_eq!(head("HTTP/1.1 101 Switching\r\n\r\n").framing(), Some(BodyFraming::None));
        assert_eq!(head("HTTP/1.1 204 \r\n\r\n").framing(), Some(BodyFraming::None));
        assert_eq!(head("HTTP/1.1 304\r\ncontent-length: 9\r\n\r\n").framing(), Some(BodyFraming::None));
        assert_eq!(
            head("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").framing(),
            Some(BodyFraming::Length(9))
        );
        let chunked = head("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n");
        assert_eq!(chunked.framing(), Some(BodyFraming::Chunked));
        assert_eq!(head("HTTP/1.0 200 OK\r\n\r\n").framing(), None);
    }

    #[test]
    fn incomplete_response_head_needs_more() {
        let whole = "HTTP/1.1 200 OK\r\na: b\r\n\r\n";
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).expect("valid").is_none(), "{len}");
        }
    }

    #[test]
    fn ambiguous_or_malformed_responses_are_refused() {
        for (response, error) in [
            ("HTTP/1.1 20 OK\r\n\r\n", HttpError::StatusLine),
            ("HTTP/1.1 099 Low\r\n\r\n", HttpError::StatusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", HttpError::StatusLine),
            ("ICY 200 OK\r\n\r\n", HttpError::StatusLine),
            ("HTTP/1.1 200 OK\n\n", HttpError::LineEnding),
            ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", HttpError::Header),
            ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", HttpError::Header),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", HttpError::ContentLength),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                HttpError::Framing,
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", HttpError::TransferEncoding),
        ] {
            assert_eq!(refusal(response), error, "{response:?}");
        }
    }
}
