//! What a peer can do wrong on the wire, and the close code each fault is answered with.
//!
//! Every variant blames the peer: the decoder itself cannot fail, and "need more bytes" is not an error. After
//! one of these the stream has no trustworthy frame boundary left, so the connection must be closed.

use std::fmt;

/// Why the bytes of a peer are not acceptable WebSocket. [`close_code`](Self::close_code) says how to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set although no extension was negotiated (RFC 6455, 5.2).
    ReservedBits,
    /// Opcode 0x3-0x7 or 0xB-0xF (5.2).
    ReservedOpcode,
    /// A server received a frame without a mask (5.1).
    UnmaskedFrame,
    /// A client received a frame with a mask (5.1).
    MaskedFrame,
    /// The payload length is not in its shortest encoding (5.2).
    NonMinimalLength,
    /// The most significant bit of a 64-bit payload length is set (5.2).
    LengthHighBit,
    /// A control frame without FIN (5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (5.5).
    OversizedControl,
    /// A continuation frame while no message is open (5.4).
    UnexpectedContinuation,
    /// A text or binary frame while a fragmented message is open (5.4).
    ExpectedContinuation,
    /// A close frame of one byte: neither empty nor a whole code (5.5.1).
    TruncatedCloseCode,
    /// A close code that must not appear on the wire (7.4).
    InvalidCloseCode,
    /// Text, or the reason of a close frame, is not UTF-8 (8.1).
    InvalidUtf8,
    /// The message, over all its fragments, is longer than the limit of bytes.
    MessageTooLong,
    /// The message has more fragments than the limit. Answered as a breach of policy, not as "too big": its
    /// bytes may be few.
    TooManyFragments,
}

impl ProtocolError {
    /// The close code to answer with (RFC 6455, 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::TooManyFragments => 1009,
            Self::MessageTooLong => 1009,
            _ => 1002,
        }
    }

    /// The close reason to answer with: ASCII, short enough for a close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits are set",
            Self::ReservedOpcode => "reserved opcode",
            Self::UnmaskedFrame => "client frames must be masked",
            Self::MaskedFrame => "server frames must not be masked",
            Self::NonMinimalLength => "payload length is not minimally encoded",
            Self::LengthHighBit => "payload length has its high bit set",
            Self::FragmentedControl => "control frames must not be fragmented",
            Self::OversizedControl => "control frames must not exceed 125 bytes",
            Self::UnexpectedContinuation => "continuation without a message to continue",
            Self::ExpectedContinuation => "new message within a fragmented message",
            Self::TruncatedCloseCode => "close payload of one byte",
            Self::InvalidCloseCode => "invalid close code",
            Self::InvalidUtf8 => "text is not valid UTF-8",
            Self::MessageTooLong => "message is too long",
            Self::TooManyFragments => "message has too many fragments",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProtocolError {}
