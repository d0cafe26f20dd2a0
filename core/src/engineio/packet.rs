//! One packet: its type and its payload (the protocol, "Packet encoding").

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::PacketError;

/// Base64 as clients write it: the standard alphabet, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A packet, borrowed from the text or frame that carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the handshake. Sent by servers only.
    Open(&'a str),
    /// `1`: the transport can be closed.
    Close,
    /// `2`: a heartbeat, or `2probe` on a probing WebSocket.
    Ping(&'a str),
    /// `3`: the answer to a ping, with the same text.
    Pong(&'a str),
    /// `4`: a message of text.
    Text(&'a str),
    /// A message of bytes: a binary frame, or `b` and base64 in a payload.
    Binary(Cow<'a, [u8]>),
    /// `5`: the upgrade is complete.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

/// A message that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text: everything after the packet's `4`.
    Text(&'a str),
    /// Bytes: borrowed from a WebSocket frame, owned when decoded from base64.
    Binary(Cow<'a, [u8]>),
}

impl<'a> Packet<'a> {
    /// The packet of a text frame, or of what stands between two separators of a payload. Nothing is copied
    /// but the bytes of base64.
    ///
    /// # Errors
    ///
    /// [`PacketError::Empty`], [`PacketError::UnknownType`] or [`PacketError::Base64`].
    #[inline]
    pub fn from_text(text: &'a str) -> Result<Self, PacketError> {
        let Some(kind) = text.as_bytes().first() else { return Err(PacketError::Empty) };
        if *kind == b'4' {
            return Ok(Self::Text(&text[1..]));
        }
        Self::from_rare(*kind, text)
    }

    /// The packet of a binary frame.
    #[inline]
    pub const fn from_binary(bytes: &'a [u8]) -> Self {
        Self::Binary(Cow::Borrowed(bytes))
    }

    fn from_rare(kind: u8, text: &'a str) -> Result<Self, PacketError> {
        if !kind.is_ascii() {
            return Err(PacketError::UnknownType);
        }
        let data = &text[1..];
        Ok(match kind {
            b'0' => Self::Open(data),
            b'1' => Self::Close,
            b'2' => Self::Ping(data),
            b'3' => Self::Pong(data),
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            b'b' => Self::Binary(Cow::Owned(BASE64.decode(data).map_err(|_| PacketError::Base64)?)),
            _ => return Err(PacketError::UnknownType),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read() {
        for (text, packet) in [
            ("0{}", Packet::Open("{}")),
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3probe", Packet::Pong("probe")),
            ("4", Packet::Text("")),
            ("4ä", Packet::Text("ä")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("b", Packet::Binary(Cow::Borrowed(b""))),
            ("bAQIDBA==", Packet::Binary(Cow::Borrowed(&[1, 2, 3, 4]))),
            ("bAQIDBA", Packet::Binary(Cow::Borrowed(&[1, 2, 3, 4]))),
        ] {
            assert_eq!(Packet::from_text(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for (text, error) in [
            ("", PacketError::Empty),
            ("7", PacketError::UnknownType),
            ("abc", PacketError::UnknownType),
            ("ä", PacketError::UnknownType),
            (" 4", PacketError::UnknownType),
            ("b*", PacketError::Base64),
            ("bA", PacketError::Base64),
            ("bAQID BA", PacketError::Base64),
        ] {
            assert_eq!(Packet::from_text(text), Err(error), "{text}");
        }
    }

    #[test]
    fn text_message_is_a_slice_of_its_frame() {
        let frame = String::from("4hello");
        let Ok(Packet::Text(text)) = Packet::from_text(&frame) else { panic!("a message") };
        assert_eq!(text.as_ptr(), frame[1..].as_ptr());
    }
}
