//! The 2 to 14 bytes in front of a payload (RFC 6455, 5.2), read for both roles.
//!
//! tungstenite's [`FrameHeader::parse`] is the reference. It traces every field and reads through a cursor,
//! so [`Header::parse_common`] reads the frames that matter (whole header present, lengths below 64 KiB,
//! nothing reserved) straight from the slice, and is tested to say the same. Everything unusual or wrong goes
//! to tungstenite.

use std::{io::Cursor, ops::Range};

use tungstenite::protocol::frame::FrameHeader;

use super::{ProtocolError, Role};

/// The longest payload of a control frame (RFC 6455, 5.5).
pub const MAX_CONTROL_LEN: usize = 125;

/// What a frame is. Reserved opcodes cannot be expressed, hence neither sent nor delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// Continues the message that a text or binary frame without FIN began.
    Continuation = 0x0,
    /// Begins a message of UTF-8 text.
    Text = 0x1,
    /// Begins a message of bytes.
    Binary = 0x2,
    /// Begins or answers the closing handshake.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or is a heartbeat nobody asked for.
    Pong = 0xA,
}

impl OpCode {
    /// The opcode in the low four bits of a frame's first byte; `None` if it is reserved.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0x0F {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether this is a close, ping or pong, which may stand between the fragments of a message.
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A frame header that passed every check a frame can be given on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: OpCode,
    pub(super) fin: bool,
    /// The masking key; zeroes (which mask nothing) on the client side.
    pub(super) mask: [u8; 4],
    /// Length of the payload, below 2^63.
    pub(super) payload_len: u64,
    /// Length of the header itself.
    pub(super) len: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if it is not all there yet.
    #[inline]
    pub(super) fn parse(bytes: &[u8], role: Role) -> Result<Option<Self>, ProtocolError> {
        match Self::parse_common(bytes, role) {
            Some(header) => Ok(Some(header)),
            None => Self::parse_any(bytes, role),
        }
    }

    /// Whether the frame is a message, or control frame, by itself.
    #[inline]
    pub(super) const fn is_message(&self) -> bool {
        self.fin && !matches!(self.opcode, OpCode::Continuation)
    }

    /// Whether the frame is a message by itself and complete within `available` bytes, its header included.
    #[inline]
    pub(super) const fn is_message_within(&self, available: usize) -> bool {
        self.is_message() && self.payload_len <= (available - self.len) as u64
    }

    /// The common case: `None` says nothing about `bytes`, only that [`Self::parse_any`] has to decide.
    #[inline]
    fn parse_common(bytes: &[u8], role: Role) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let masked = second & 0x80 != 0;
        if first & 0x70 != 0 || masked != (role == Role::Server) {
            return None;
        }
        let opcode = OpCode::from_bits(*first)?;
        let fin = first & 0x80 != 0;
        let (payload_len, rest, len) = match second & 0x7F {
            short @ ..=125 => (u64::from(short), rest, 2),
            126 => {
                let (long, rest) = rest.split_first_chunk::<2>()?;
                (u64::from(u16::from_be_bytes(*long)), rest, 4)
            }
            _ => return None,
        };
        if (len == 4 && payload_len <= 125) || (opcode.is_control() && (len == 4 || !fin)) {
            return None;
        }
        if !masked {
            return Some(Self { opcode, fin, mask: [0; 4], payload_len, len });
        }
        let mask = *rest.first_chunk::<4>()?;
        Some(Self { opcode, fin, mask, payload_len, len: len + 4 })
    }

    /// Any header, by tungstenite, with the checks it leaves to its caller.
    #[cold]
    fn parse_any(bytes: &[u8], role: Role) -> Result<Option<Self>, ProtocolError> {
        let mut cursor = Cursor::new(bytes);
        // Reading from a slice cannot fail, so the only error this call has is a reserved opcode.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| ProtocolError::ReservedOpcode)?;
        let Some((raw, payload_len)) = parsed else { return Ok(None) };
        let len = raw.len(payload_len);
        let opcode = OpCode::from_bits(raw.opcode.into()).ok_or(ProtocolError::ReservedOpcode)?;

        if raw.rsv1 || raw.rsv2 || raw.rsv3 {
            return Err(ProtocolError::ReservedBits);
        }
        match (role, raw.mask) {
            (Role::Server, None) => return Err(ProtocolError::UnmaskedFrame),
            (Role::Client, Some(_)) => return Err(ProtocolError::MaskedFrame),
            _ => {}
        }
        if payload_len >> 63 != 0 {
            return Err(ProtocolError::LengthHighBit);
        }
        if opcode.is_control() && !raw.is_final {
            return Err(ProtocolError::FragmentedControl);
        }
        if opcode.is_control() && payload_len > MAX_CONTROL_LEN as u64 {
            return Err(ProtocolError::OversizedControl);
        }
        if cursor.position() != len as u64 {
            return Err(ProtocolError::NonMinimalLength);
        }
        let mask = raw.mask.unwrap_or_default();
        Ok(Some(Self { opcode, fin: raw.is_final, mask, payload_len, len }))
    }
}

/// The data frames, text and binary, among the whole frames of a server in `bytes`: where each begins and
/// ends.
pub fn data_frames(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let header = Header::parse(&bytes[at..], Role::Client).ok().flatten()?;
            let end = at.checked_add(header.len)?.checked_add(usize::try_from(header.payload_len).ok()?)?;
            let frame = at..end.min(bytes.len());
            at = frame.end;
            if !header.opcode.is_control() {
                return Some(frame);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::coding;

    use super::*;

    #[test]
    fn opcodes_are_numbered_as_in_tungstenite() {
        for bits in 0..16_u8 {
            let reference = coding::OpCode::from(bits);
            let reserved = matches!(
                reference,
                coding::OpCode::Data(coding::Data::Reserved(_))
                    | coding::OpCode::Control(coding::Control::Reserved(_))
            );
            match OpCode::from_bits(bits) {
                Some(opcode) => {
                    assert_eq!(opcode as u8, bits);
                    assert_eq!(opcode.is_control(), matches!(reference, coding::OpCode::Control(_)));
                }
                None => assert!(reserved, "{bits}"),
            }
            assert_eq!(OpCode::from_bits(bits).is_none(), reserved, "{bits}");
        }
    }

    /// Every first and second byte, with lengths around each boundary, cut at every length.
    #[test]
    fn common_parse_agrees_with_tungstenite_on_every_header() {
        let tails: [[u8; 12]; 6] = [
            [0; 12],
            [0, 125, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            [0, 126, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            [0xFF; 12],
            [0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4],
            [0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
        ];
        let mut common = 0_u32;
        for (first, second) in (0..=255_u8).flat_map(|a| (0..=255_u8).map(move |b| (a, b))) {
            for tail in tails {
                let mut bytes = vec![first, second];
                bytes.extend(tail);
                for (cut, role) in (0..=14).flat_map(|cut| [(cut, Role::Server), (cut, Role::Client)]) {
                    if let Some(header) = Header::parse_common(&bytes[..cut], role) {
                        common += 1;
                        assert_eq!(Ok(Some(header)), Header::parse_any(&bytes[..cut], role), "{bytes:x?}");
                    }
                }
            }
        }
        assert!(common > 100_000, "the common case must be common: {common}");
    }

    #[test]
    fn data_frames_are_found_between_control_frames() {
        let mut out = bytes::BytesMut::new();
        let mut expected = Vec::new();
        for (opcode, len) in [
            (OpCode::Text, 3),
            (OpCode::Ping, 0),
            (OpCode::Binary, 70_000),
            (OpCode::Pong, 5),
            (OpCode::Text, 200),
        ] {
            let start = out.len();
            crate::ws::put_frame(&mut out, opcode, &vec![b'x'; len]);
            if !opcode.is_control() {
                expected.push(start..out.len());
            }
        }
        assert_eq!(data_frames(&out).collect::<Vec<_>>(), expected);
        assert_eq!(data_frames(&[]).count(), 0);
    }
}
