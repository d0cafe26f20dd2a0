//! Responses, written.
//!
//! Owns status lines, framing fields and problem documents (RFC 9457). Must not know why a status was chosen.
//! Every response is HTTP/1.1, and its Content-Length is written here and nowhere else, so a response can end
//! neither early nor twice. Nothing a header is given can break out of its line.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::headers::{is_token_byte, is_value_byte};
use super::{HttpError, Persistence};

/// A response with its whole body in hand.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status, 100 to 599.
    pub status: u16,
    /// Fields besides Content-Length, Transfer-Encoding and, but for an upgrade, Connection.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty for statuses that have none.
    pub body: &'a [u8],
    /// What becomes of the connection.
    pub persistence: Persistence,
}

impl Response<'_> {
    /// Appends the response to `out`.
    pub fn put(&self, out: &mut BytesMut) {
        let length = (!is_bodiless(self.status)).then_some(self.body.len());
        debug_assert!(length.is_some() || self.body.is_empty(), "a {} has no body", self.status);
        put_head(out, self.status, self.headers, length, self.persistence);
        if length.is_some() {
            out.extend_from_slice(self.body);
        }
    }
}

/// Appends a whole response to `out`. `persistence` is [`Head::persistence`](super::Head::persistence) or,
/// where the peer is known to speak HTTP/1.1, whether to keep the connection alive.
pub fn put_response(
    out: &mut BytesMut,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    persistence: impl Into<Persistence>,
) {
    Response { status, headers, body, persistence: persistence.into() }.put(out);
}

/// Appends a response head alone: for an upgrade, `100 Continue`, an answer to HEAD (with the length the body
/// would have had), or a body sent from elsewhere.
pub fn put_head(
    out: &mut BytesMut,
    status: u16,
    headers: &[(&str, &str)],
    content_length: Option<usize>,
    persistence: impl Into<Persistence>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(out, usize::from(status));
    out.put_u8(b' ');
    out.extend_from_slice(standard_reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        put_header(out, name, value);
    }
    match persistence.into() {
        Persistence::KeepAlive => {}
        Persistence::KeepAliveAsked => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    if let Some(length) = content_length {
        out.extend_from_slice(b"content-length: ");
        put_number(out, length);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a problem document: `code` is a stable word for programs, `detail` a sentence for people.
pub fn put_problem(
    out: &mut BytesMut,
    status: u16,
    code: &str,
    detail: &str,
    persistence: impl Into<Persistence>,
    extra_headers: &[(&str, &str)],
) {
    let title = standard_reason(status);
    let problem = Problem { kind: "about:blank", title, status, detail, code };
    // Strings and a number always serialise; were that ever to change, the status line still says it.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut headers = Vec::with_capacity(extra_headers.len() + 1);
    headers.push(("content-type", "application/problem+json"));
    headers.extend_from_slice(extra_headers);
    put_response(out, status, &headers, &body, persistence);
}

/// Takes the body off the response that `out` holds from `start` on: an answer to HEAD is that to GET without
/// it (RFC 9110 section 9.3.2).
pub fn cut_body(out: &mut BytesMut, start: usize) {
    let end = b"\r\n\r\n";
    if let Some(at) = out[start..].windows(end.len()).position(|window| window == end) {
        out.truncate(start + at + end.len());
    }
}

/// Appends the refusal of a request that could not be read. It ends the connection.
pub fn put_error(out: &mut BytesMut, error: HttpError) {
    put_problem(out, error.status(), error.code(), error.reason(), Persistence::Close, &[]);
}

/// RFC 9457 section 3.1, and the member `code`.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

/// Statuses whose responses end with their head (RFC 9112 section 6.3).
pub(super) const fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn standard_reason(status: u16) -> &'static str {
    ::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown")
}

fn put_number(out: &mut BytesMut, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A field that would change the framing is left out; these are bugs of the caller, caught in debug builds.
fn put_header(out: &mut BytesMut, name: &str, value: &str) {
    let sound = is_field_name(name) && value.bytes().all(is_value_byte);
    debug_assert!(sound, "header {name:?}: {value:?} would break its line or the framing");
    if is_field_name(name) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        put_value(out, value);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether `name` is a token and not a field this writer keeps to itself.
fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(is_token_byte)
        && !name.eq_ignore_ascii_case("content-length")
        && !name.eq_ignore_ascii_case("transfer-encoding")
}

/// Control bytes, CR and LF above all, become spaces.
fn put_value(out: &mut BytesMut, value: &str) {
    if value.bytes().all(is_value_byte) {
        out.extend_from_slice(value.as_bytes());
    } else {
        out.extend(value.bytes().map(|byte| if is_value_byte(byte) { byte } else { b' ' }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).expect("ASCII")
    }

    #[test]
    fn response_has_standard_reason_and_exact_length() {
        let text = written(|out| put_response(out, 404, &[("x-a", "b")], b"gone", true));
        assert_eq!(text, "HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 4\r\n\r\ngone");
    }

    #[test]
    fn connection_is_written_only_when_the_peer_would_assume_otherwise() {
        let with = |persistence: Persistence| written(|out| put_response(out, 200, &[], b"", persistence));
        assert_eq!(with(Persistence::KeepAlive), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(with(Persistence::KeepAliveAsked).contains("\r\nconnection: keep-alive\r\n"));
        assert!(with(Persistence::Close).contains("\r\nconnection: close\r\n"));
        assert_eq!(with(Persistence::Close), written(|out| put_response(out, 200, &[], b"", false)));
    }

    #[test]
    fn statuses_without_a_body_have_no_content_length() {
        for status in [100, 101, 204, 304] {
            let text = written(|out| put_response(out, status, &[], b"", true));
            assert!(!text.contains("content-length") && text.ends_with("\r\n\r\n"), "{text:?}");
        }
    }

    #[test]
    fn head_alone_announces_the_length_of_the_absent_body() {
        let text = written(|out| put_head(out, 200, &[], Some(12), true));
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n");
    }

    #[test]
    fn unregistered_status_has_some_reason() {
        assert!(written(|out| put_head(out, 599, &[], None, true)).starts_with("HTTP/1.1 599 Unknown\r\n"));
    }

    #[test]
    fn line_breaks_in_a_value_become_spaces() {
        let text = written(|out| put_value(out, "a\r\nset-cookie: b\0\tc"));
        assert_eq!(text, "a  set-cookie: b \tc");
    }

    #[test]
    fn names_that_break_the_line_or_the_framing_are_not_field_names() {
        for name in ["", "a b", "a:", "a\r\nb", "Content-Length", "transfer-encoding"] {
            assert!(!is_field_name(name), "{name:?}");
        }
        assert!(is_field_name("Sec-WebSocket-Accept"));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "would break its line"))]
    fn injected_header_is_a_bug_in_debug_builds_and_harmless_in_release_builds() {
        let text = written(|out| put_response(out, 200, &[("x", "a\r\ny: b"), ("p\r\nq", "r")], b"", true));
        assert_eq!(text, "HTTP/1.1 200 OK\r\nx: a  y: b\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn problem_is_escaped_json_with_title_and_code() {
        let text = written(|out| {
            put_problem(out, 429, "slow_down", "say \"please\"\n\u{1}", true, &[("retry-after", "3")]);
        });
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(
            head.starts_with("HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\n")
        );
        assert!(head.contains("\r\nretry-after: 3\r\n"));
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Too Many Requests", "status": 429,
            "detail": "say \"please\"\n\u{1}", "code": "slow_down",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON"), expected);
    }

    #[test]
    fn error_is_a_problem_that_closes() {
        let text = written(|out| put_error(out, HttpError::BodyTooLarge));
        assert!(text.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n") && text.contains("\"code\":\"body_too_large\""));
    }
}
