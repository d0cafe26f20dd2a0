//! What a peer can do wrong on the wire, and the close code each fault is answered with.
//!
//! Every variant blames the peer: the decoder itself cannot fail, and "need more bytes" is not an error.
//! After one of these the stream has no trustworthy frame boundary left, so the connection must be closed.

use std::fmt;

pub use crate::disconnect::ProtocolError;

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
