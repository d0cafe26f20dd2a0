//! How a message says where its body ends and whether another may follow it.
//!
//! Owns the rules of RFC 9112 sections 6 and 9.3 over header fields already parsed. Where the RFC lets a
//! recipient repair a contradiction, this refuses it instead: repairs are what request smuggling is made of.

use super::headers::Headers;
use super::{HttpError, HttpLimits};

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// The body is this many bytes.
    Length(u64),
    /// The body is chunked (RFC 9112 section 7.1).
    Chunked,
}

impl BodyFraming {
    /// Whether no byte of a body follows the head.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// What becomes of the connection after a response, and so which Connection field it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Stays open, as HTTP/1.1 does unasked: no field.
    KeepAlive,
    /// Stays open because an HTTP/1.0 peer asked for it and must be told so: `keep-alive`.
    KeepAliveAsked,
    /// Ends after the response: `close`.
    Close,
}

impl From<bool> for Persistence {
    /// `true` keeps an HTTP/1.1 connection alive.
    fn from(keep_alive: bool) -> Self {
        if keep_alive { Self::KeepAlive } else { Self::Close }
    }
}

/// The framing of a request, refused here when it claims a body over the limit.
pub(super) fn request_framing(
    headers: &Headers<'_>,
    minor_version: u8,
    limits: HttpLimits,
) -> Result<BodyFraming, HttpError> {
    let length = content_length(headers)?;
    if is_chunked(headers)? {
        // HTTP/1.0 has no transfer codings: a peer that sends one has been spoken for by something in
        // between.
        return if length.is_some() || minor_version == 0 {
            Err(HttpError::Framing)
        } else {
            Ok(BodyFraming::Chunked)
        };
    }
    match length {
        Some(length) if length > limits.body_bytes as u64 => Err(HttpError::BodyTooLarge),
        Some(length) => Ok(BodyFraming::Length(length)),
        None => Ok(BodyFraming::None),
    }
}

/// The one Content-Length, which must be digits and nothing else: no sign, no list, no second field.
pub(super) fn content_length(headers: &Headers<'_>) -> Result<Option<u64>, HttpError> {
    let mut values = headers.all("content-length");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::ContentLength);
    }
    let digits = std::str::from_utf8(value).map_err(|_| HttpError::ContentLength)?;
    digits.parse().map(Some).map_err(|_| HttpError::ContentLength)
}

/// Whether the message is chunked. A coding besides or instead of `chunked` is not understood here, and
/// `chunked` twice is a contradiction.
pub(super) fn is_chunked(headers: &Headers<'_>) -> Result<bool, HttpError> {
    let mut values = headers.all("transfer-encoding");
    let Some(value) = values.next() else { return Ok(false) };
    if values.next().is_some() {
        return Err(HttpError::Framing);
    }
    if value.eq_ignore_ascii_case(b"chunked") { Ok(true) } else { Err(HttpError::TransferEncoding) }
}

/// Whether the connection may carry another message after this one (RFC 9112 section 9.3). `close` wins.
pub(super) fn keep_alive(headers: &Headers<'_>, minor_version: u8) -> bool {
    !headers.has_token("connection", "close")
        && (minor_version >= 1 || headers.has_token("connection", "keep-alive"))
}
