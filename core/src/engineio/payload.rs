//! The body of a POST: packets with U+001E between them (the protocol, "HTTP long-polling" under "Packet
//! encoding").

use memchr::memchr;

use super::{Limits, Packet, PacketError};

/// What stands between two packets of a payload.
pub(super) const SEPARATOR: u8 = 0x1E;

/// The packets of a payload, in order. The first error ends the iteration.
///
/// ```
/// use fanfare_core::engineio::{Limits, Packet, Payload};
///
/// let mut packets = Payload::new(b"4hello\x1e3", Limits::default());
/// assert_eq!(packets.next(), Some(Ok(Packet::Text("hello"))));
/// assert_eq!(packets.next(), Some(Ok(Packet::Pong(""))));
/// assert_eq!(packets.next(), None);
/// ```
#[derive(Debug, Clone)]
pub struct Payload<'a> {
    rest: Result<Option<&'a str>, PacketError>,
    /// How many more packets are taken.
    room: usize,
}

impl<'a> Payload<'a> {
    /// The packets of the whole body `bytes`.
    pub fn new(bytes: &'a [u8], limits: Limits) -> Self {
        let rest = std::str::from_utf8(bytes).map(Some).map_err(|_| PacketError::Utf8);
        Self { rest, room: limits.packets }
    }

    fn split(&mut self, text: &'a str) -> Result<Packet<'a>, PacketError> {
        self.room = self.room.checked_sub(1).ok_or(PacketError::TooManyPackets)?;
        let packet = match memchr(SEPARATOR, text.as_bytes()) {
            Some(end) => {
                self.rest = Ok(Some(&text[end + 1..]));
                &text[..end]
            }
            None => text,
        };
        Packet::from_text(packet)
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let packet = match std::mem::replace(&mut self.rest, Ok(None)) {
            Ok(text) => self.split(text?),
            Err(error) => Err(error),
        };
        if packet.is_err() {
            self.rest = Ok(None);
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn packets(body: &[u8], limit: usize) -> Vec<Result<Packet<'_>, PacketError>> {
        Payload::new(body, Limits { packets: limit, ..Limits::default() }).collect()
    }

    #[test]
    fn packets_are_read_in_order() {
        let expected = [
            Ok(Packet::Text("hello")),
            Ok(Packet::Binary(Cow::Borrowed(&[1, 2, 3, 4]))),
            Ok(Packet::Ping("")),
            Ok(Packet::Text("€")),
        ];
        assert_eq!(packets("4hello\u{1e}bAQIDBA==\u{1e}2\u{1e}4€".as_bytes(), 4), expected);
    }

    #[test]
    fn first_error_ends_the_payload() {
        for (body, good, error) in [
            (&b""[..], 0, PacketError::Empty),
            (b"\x1e4a", 0, PacketError::Empty),
            (b"4a\x1e", 1, PacketError::Empty),
            (b"4a\x1e\x1e4b", 1, PacketError::Empty),
            (b"4a\x1eabc\x1e4b", 1, PacketError::UnknownType),
            (b"4a\x1eb!\x1e4b", 1, PacketError::Base64),
            (b"4a\xff\x1e4b", 0, PacketError::Utf8),
        ] {
            let read = packets(body, 100);
            assert_eq!(read.len(), good + 1, "{body:?}");
            assert_eq!(read.last(), Some(&Err(error)), "{body:?}");
        }
    }

    #[test]
    fn packets_over_the_limit_are_refused() {
        assert_eq!(packets(b"4\x1e4\x1e4", 3).len(), 3);
        let read = packets(b"4\x1e4\x1e4\x1e4", 3);
        assert_eq!(read[3..], [Err(PacketError::TooManyPackets)]);
    }
}
