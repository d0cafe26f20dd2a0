//! The payload of a close frame: an optional code and a reason (RFC 6455, 5.5.1 and 7.4).

use super::ProtocolError;

/// A close code with its reason. The code is one that may appear on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why the peer closes (RFC 6455, 7.4).
    pub code: u16,
    /// Free text, at most 123 bytes.
    pub reason: &'a str,
}

/// Whether `code` may appear in a close frame.
///
/// tungstenite's [`CloseCode::is_allowed`](tungstenite::protocol::frame::coding::CloseCode::is_allowed) says
/// the same, but for 1014 (bad gateway), which IANA has registered since.
pub const fn is_sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the unmasked payload of a close frame; an empty one has no code.
pub(super) fn parse(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::TruncatedCloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable_close_code(code) {
        return Err(ProtocolError::InvalidCloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok(Some(CloseFrame { code, reason }))
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::coding::CloseCode;

    use super::*;

    #[test]
    fn allowed_codes_are_those_of_tungstenite_and_1014() {
        for code in 0..=u16::MAX {
            let expected = CloseCode::from(code).is_allowed() || code == 1014;
            assert_eq!(is_sendable_close_code(code), expected, "{code}");
        }
    }

    #[test]
    fn empty_close_has_no_code() {
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn close_of_one_byte_is_refused() {
        assert_eq!(parse(&[3]), Err(ProtocolError::TruncatedCloseCode));
    }

    #[test]
    fn close_code_that_must_not_be_sent_is_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert_eq!(parse(&code.to_be_bytes()), Err(ProtocolError::InvalidCloseCode), "{code}");
        }
    }

    #[test]
    fn close_reason_must_be_utf8() {
        assert_eq!(parse(b"\x03\xe8bye"), Ok(Some(CloseFrame { code: 1000, reason: "bye" })));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(ProtocolError::InvalidUtf8));
    }
}
