//! Why a request or response is refused.
//!
//! Owns the closed list of refusals and how each is told to the peer: status, stable code, sentence. Every
//! one of them ends the connection, because after it nobody knows where the next message would start.

use std::fmt;

/// A message this codec will not read. All but [`HttpError::Timeout`] blame the bytes of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpError {
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The status line of a response is not `version SP status SP reason`.
    StatusLine,
    /// A well-formed version other than HTTP/1.0 and HTTP/1.1, the HTTP/2 preface among them.
    Version,
    /// The target is none of origin-form, absolute-form with http or https, and `OPTIONS *`.
    Target,
    /// A CR without LF or an LF without CR, where line ends have meaning.
    LineEnding,
    /// A malformed header field: name, whitespace before the colon, folding, or control bytes in the value.
    Header,
    /// Host is missing in HTTP/1.1, repeated, or not a host.
    Host,
    /// Content-Length is repeated, or not one plain decimal number.
    ContentLength,
    /// Two framings at once, or one this version of HTTP does not have.
    Framing,
    /// A transfer coding other than `chunked`.
    TransferEncoding,
    /// The chunked body is malformed.
    Chunk,
    /// Chunk extensions and trailers exceed their bound.
    ChunkOverhead,
    /// The request line alone exceeds the limit of the head.
    TargetTooLong,
    /// The head exceeds its limit.
    HeadTooLarge,
    /// More header fields than the limit.
    TooManyHeaders,
    /// The body exceeds its limit, by its claim or by its chunks.
    BodyTooLarge,
    /// A percent-encoding is malformed or does not decode to UTF-8.
    PercentEncoding,
    /// The request took too long. Never raised here, for there is no clock; it lets the owner of the clock
    /// refuse in the same words.
    Timeout,
}

impl HttpError {
    /// The status of the response that refuses the request. [`HttpError::StatusLine`] has no such response
    /// and says what a gateway would.
    pub const fn status(self) -> u16 {
        self.describe().0
    }

    /// A stable snake_case word for programs, logs and counters.
    pub const fn code(self) -> &'static str {
        self.describe().1
    }

    /// One sentence for people, without a full stop. Holds nothing of the peer's bytes.
    pub const fn reason(self) -> &'static str {
        self.describe().2
    }

    const fn describe(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::RequestLine => (400, "bad_request_line", "the request line is malformed"),
            Self::StatusLine => (502, "bad_status_line", "the status line is malformed"),
            Self::Version => (505, "http_version", "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            Self::Target => (400, "bad_target", "the request target is not of an accepted form"),
            Self::LineEnding => {
                (400, "bad_line_ending", "lines must end in CR LF, and neither may stand alone")
            }
            Self::Header => (400, "bad_header", "a header field is malformed"),
            Self::Host => (400, "bad_host", "exactly one valid Host header is required"),
            Self::ContentLength => (400, "bad_content_length", "Content-Length must be one decimal number"),
            Self::Framing => (400, "ambiguous_framing", "the length of the body is ambiguous"),
            Self::TransferEncoding => (501, "transfer_encoding", "the only transfer coding here is chunked"),
            Self::Chunk => (400, "bad_chunk", "the chunked body is malformed"),
            Self::ChunkOverhead => (431, "chunk_overhead", "chunk extensions or trailers are too large"),
            Self::TargetTooLong => (414, "target_too_long", "the request line is too long"),
            Self::HeadTooLarge => (431, "head_too_large", "the request head is too large"),
            Self::TooManyHeaders => (431, "too_many_headers", "the request has too many header fields"),
            Self::BodyTooLarge => (413, "body_too_large", "the body is larger than is accepted here"),
            Self::PercentEncoding => {
                (400, "bad_percent_encoding", "a percent-encoding is malformed or not UTF-8")
            }
            Self::Timeout => (408, "request_timeout", "the request took too long to arrive"),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for HttpError {}
