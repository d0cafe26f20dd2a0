//! Frames out. Everything is appended to a buffer the caller owns.
//!
//! The fan-out shares one payload among many receivers and writes header and payload as separate pieces, so
//! [`put_header`] stands alone and compiles to a few stores. A server sends without a mask; a client passes a
//! fresh, unpredictable key for every frame (RFC 6455, 10.3), which this module cannot make itself.

use bytes::{BufMut, BytesMut};

use super::header::{MAX_CONTROL_LEN, OpCode};
use super::mask::apply_mask;

/// The longest header: 64-bit length and masking key.
pub const MAX_HEADER_LEN: usize = 14;

/// The longest reason of a close frame: a control payload less the code.
pub const MAX_CLOSE_REASON_LEN: usize = MAX_CONTROL_LEN - 2;

/// The length of a masking key in bytes.
const MASKING_KEY: usize = 4;

/// Length of the header of a frame without a mask.
#[inline]
pub const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        ..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// The FIN bit of a frame: whether its message ends with it (RFC 6455, 5.2).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fin {
    /// The message ends.
    Last,
    /// Frames of the message follow.
    More,
}

/// Appends a frame header with the shortest encoding of the length.
///
/// The caller sees to it that a control frame is [`Fin::Last`] and has at most 125 bytes.
#[inline]
pub fn put_header(out: &mut BytesMut, opcode: OpCode, fin: Fin, payload_len: usize, mask: Option<[u8; 4]>) {
    debug_assert!(!opcode.is_control() || (fin == Fin::Last && payload_len <= MAX_CONTROL_LEN));
    let first = opcode as u8 | if fin == Fin::Last { 0x80 } else { 0 };
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    // One append of a length known at compile time in each branch: no memcpy call, one check of capacity.
    match payload_len {
        ..=125 => out.extend_from_slice(&[first, mask_bit | payload_len as u8]),
        126..=0xFFFF => {
            let [a, b] = (payload_len as u16).to_be_bytes();
            out.extend_from_slice(&[first, mask_bit | 126, a, b]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = (payload_len as u64).to_be_bytes();
            out.extend_from_slice(&[first, mask_bit | 127, a, b, c, d, e, f, g, h]);
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// The payload of a frame without a mask that [`put_header`] or [`put_header_at_end`] began.
pub fn sent_payload(frame: &[u8]) -> Option<&[u8]> {
    let length = match frame.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.get(length..)
}

/// The longest header without a masking key.
pub const MAX_UNMASKED_HEADER_LEN: usize = MAX_HEADER_LEN - 4;

/// Writes the header of an unfragmented frame without a mask so that it ends where `room` does; returns where
/// it begins. For what stands in front of payloads that begin alike.
#[inline]
pub fn put_header_at_end(
    room: &mut [u8; MAX_UNMASKED_HEADER_LEN],
    opcode: OpCode,
    payload_len: usize,
) -> usize {
    let first = 0x80 | opcode as u8;
    match payload_len {
        ..=125 => {
            room[8..].copy_from_slice(&[first, payload_len as u8]);
            8
        }
        126..=0xFFFF => {
            let [a, b] = (payload_len as u16).to_be_bytes();
            room[6..].copy_from_slice(&[first, 126, a, b]);
            6
        }
        _ => {
            room[..2].copy_from_slice(&[first, 127]);
            room[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            0
        }
    }
}

/// Appends an unfragmented frame without a mask: the server's side.
#[inline]
pub fn put_frame(out: &mut BytesMut, opcode: OpCode, payload: &[u8]) {
    out.reserve(header_len(payload.len()) + payload.len());
    put_header(out, opcode, Fin::Last, payload.len(), None);
    out.extend_from_slice(payload);
}

/// Appends an unfragmented frame masked with `mask`: the client's side.
pub fn put_masked_frame(out: &mut BytesMut, opcode: OpCode, payload: &[u8], mask: [u8; 4]) {
    out.reserve(header_len(payload.len()) + MASKING_KEY + payload.len());
    put_header(out, opcode, Fin::Last, payload.len(), Some(mask));
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask, 0);
}

/// Appends a close frame. Of `reason` as many whole characters are sent as fit into 123 bytes.
pub fn put_close(out: &mut BytesMut, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    let reason = cut_at_char(reason, MAX_CLOSE_REASON_LEN);
    put_header(out, OpCode::Close, Fin::Last, 2 + reason.len(), mask);
    let start = out.len();
    out.put_u16(code);
    out.extend_from_slice(reason.as_bytes());
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// The longest prefix of whole characters in at most `max_len` bytes.
fn cut_at_char(text: &str, max_len: usize) -> &str {
    let end = (0..=max_len.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::FrameHeader;

    use super::super::{CloseFrame, DecodeLimits, Decoder, Message, Role};
    use super::*;

    const KEY: [u8; 4] = [0xA1, 0x02, 0xF3, 0x44];
    const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 1 << 20, fragments: 1 };

    #[test]
    fn header_written_backwards_is_the_same() {
        for len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 0x1234_5678] {
            let mut expected = BytesMut::new();
            put_header(&mut expected, OpCode::Text, Fin::Last, len, None);
            let mut room = [0; MAX_UNMASKED_HEADER_LEN];
            let at = put_header_at_end(&mut room, OpCode::Text, len);
            assert_eq!(room[at..], expected[..], "{len}");
        }
    }

    fn assert_decodes(frame: &mut [u8], role: Role, expected: Message<'_>) {
        let mut decoder = Decoder::new();
        let len = frame.len();
        let decoded = decoder.decode(frame, role, LIMITS).expect("valid");
        assert_eq!((decoded.consumed, decoded.message), (len, Some(expected)));
    }

    #[test]
    fn header_equals_that_of_tungstenite_at_every_length_boundary() {
        let opcodes =
            [OpCode::Continuation, OpCode::Text, OpCode::Binary, OpCode::Close, OpCode::Ping, OpCode::Pong];
        let lengths = [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 0x1234_5678];
        for opcode in opcodes {
            for payload_len in lengths {
                for (mask, fin) in [(None, true), (Some(KEY), true), (None, false), (Some(KEY), false)] {
                    if opcode.is_control() && (!fin || payload_len > MAX_CONTROL_LEN) {
                        continue;
                    }
                    let mut ours = BytesMut::new();
                    let end = if fin { Fin::Last } else { Fin::More };
                    put_header(&mut ours, opcode, end, payload_len, mask);
                    let reference = FrameHeader {
                        is_final: fin,
                        opcode: (opcode as u8).into(),
                        mask,
                        ..Default::default()
                    };
                    let mut theirs = Vec::new();
                    reference.format(payload_len as u64, &mut theirs).expect("a vector takes everything");
                    assert_eq!(ours, theirs);
                    assert_eq!(header_len(payload_len) + mask.map_or(0, |_| MASKING_KEY), theirs.len());
                    assert!(theirs.len() <= MAX_HEADER_LEN);
                }
            }
        }
    }

    #[test]
    fn frames_of_both_roles_decode_to_what_was_put() {
        for len in [0, 1, 125, 126, 0xFFFF, 0x1_0000] {
            let payload = "x".repeat(len);
            let mut out = BytesMut::new();
            put_frame(&mut out, OpCode::Text, payload.as_bytes());
            assert_decodes(&mut out, Role::Client, Message::Text(&payload));
            out.clear();
            put_masked_frame(&mut out, OpCode::Binary, payload.as_bytes(), KEY);
            assert_decodes(&mut out, Role::Server, Message::Binary(payload.as_bytes()));
        }
    }

    #[test]
    fn close_reason_is_cut_at_a_character_to_fit_a_control_frame() {
        let reason = "ä".repeat(100);
        for (mask, role) in [(None, Role::Client), (Some(KEY), Role::Server)] {
            let mut out = BytesMut::new();
            put_close(&mut out, 1001, &reason, mask);
            let expected = CloseFrame { code: 1001, reason: &reason[..122] };
            assert_decodes(&mut out, role, Message::Close(Some(expected)));
        }
    }
}
