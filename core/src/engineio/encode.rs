//! Packets out. Everything is appended to a buffer that the caller owns, and nothing is remembered: what is
//! encoded once can be sent to every session of the same framing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};

use super::Config;
use super::payload::SEPARATOR;
use crate::ws::{Fin, OpCode, header_len, put_frame, put_header};

/// How packets travel to a session: its wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Over a WebSocket: each packet is a frame, bytes travel as they are.
    Frames,
    /// In the answer to a poll: each packet has U+001E **before** it, bytes are base64. A run of such
    /// packets, cut anywhere between two of them, becomes a payload when its first byte is left out, as
    /// [`Session::take_payload`](super::Session::take_payload) does.
    Payload,
}

/// A packet that carries nothing of the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// `1`.
    Close,
    /// `2`.
    Ping,
    /// `3probe`: the answer to a probing WebSocket.
    ProbeAnswer,
    /// `6`.
    Noop,
}

impl Control {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Close => "1",
            Self::Ping => "2",
            Self::ProbeAnswer => "3probe",
            Self::Noop => "6",
        }
    }
}

impl Framing {
    /// Appends a message of text, given in pieces. Text with U+001E in it cannot travel in a payload (the
    /// protocol, "From v3 to v4"); JSON never has one.
    #[inline]
    pub fn put_text<'p>(
        self,
        out: &mut BytesMut,
        pieces: impl IntoIterator<Item = &'p str, IntoIter: Clone>,
    ) {
        let pieces = pieces.into_iter();
        self.put_text_head(out, pieces.clone().map(str::len).sum());
        for piece in pieces {
            debug_assert!(!piece.as_bytes().contains(&SEPARATOR), "a separator within a packet");
            out.extend_from_slice(piece.as_bytes());
        }
    }

    /// Appends the beginning of a message of text, and makes room for the rest: the caller appends exactly
    /// `len` bytes of text.
    #[inline]
    pub fn put_text_head(self, out: &mut BytesMut, len: usize) {
        let len = 1 + len;
        match self {
            Self::Frames => {
                out.reserve(header_len(len) + len);
                put_header(out, OpCode::Text, Fin::Last, len, None);
                out.put_u8(b'4');
            }
            Self::Payload => {
                out.reserve(1 + len);
                out.extend_from_slice(&[SEPARATOR, b'4']);
            }
        }
    }

    /// Appends a message of bytes.
    pub fn put_binary(self, out: &mut BytesMut, bytes: &[u8]) {
        if self == Self::Frames {
            return put_frame(out, OpCode::Binary, bytes);
        }
        let len = bytes.len().div_ceil(3) * 4;
        out.reserve(2 + len);
        out.extend_from_slice(&[SEPARATOR, b'b']);
        let start = out.len();
        out.resize(start + len, 0);
        let written = STANDARD.encode_slice(bytes, &mut out[start..]);
        debug_assert_eq!(written, Ok(len), "padded base64 has exactly this length");
    }

    /// Appends a control packet.
    pub fn put_control(self, out: &mut BytesMut, control: Control) {
        self.put_packet(out, control.as_str());
    }

    /// Appends a packet that is one text.
    fn put_packet(self, out: &mut BytesMut, packet: &str) {
        match self {
            Self::Frames => put_frame(out, OpCode::Text, packet.as_bytes()),
            Self::Payload => {
                out.put_u8(SEPARATOR);
                out.extend_from_slice(packet.as_bytes());
            }
        }
    }
}

/// Whether a session may move from polling to WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upgrades {
    /// It may: the `upgrades` of a polling handshake.
    WebSocket,
    /// It may not, or is there already.
    None,
}

/// Appends the open packet (the protocol, "Handshake"). The sid consists of characters that JSON does not
/// escape.
pub fn put_open(out: &mut BytesMut, framing: Framing, sid: &str, upgrades: Upgrades, config: &Config) {
    let upgrades = match upgrades {
        Upgrades::WebSocket => r#"["websocket"]"#,
        Upgrades::None => "[]",
    };
    let packet = format!(
        r#"0{{"sid":"{sid}","upgrades":{upgrades},"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
        config.ping_interval_ms, config.ping_timeout_ms, config.limits.payload_bytes
    );
    framing.put_packet(out, &packet);
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::*;

    fn written(framing: Framing, put: impl Fn(Framing, &mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        put(framing, &mut out);
        out.to_vec()
    }

    #[test]
    fn packets_of_a_payload_have_a_separator_before_them() {
        let out = written(Framing::Payload, |framing, out| {
            framing.put_text(out, ["he", "llo"]);
            framing.put_binary(out, &[1, 2, 3, 4]);
            framing.put_binary(out, &[]);
            framing.put_control(out, Control::Ping);
        });
        assert_eq!(out, b"\x1e4hello\x1ebAQIDBA==\x1eb\x1e2");
        assert_eq!(Payload::new(&out[1..], super::super::Limits::default()).count(), 4);
    }

    #[test]
    fn packets_of_a_websocket_are_frames() {
        let out = written(Framing::Frames, |framing, out| {
            framing.put_text(out, ["he", "llo"]);
            framing.put_binary(out, &[1, 2]);
            framing.put_control(out, Control::ProbeAnswer);
        });
        assert_eq!(out, b"\x81\x064hello\x82\x02\x01\x02\x81\x063probe");
    }

    #[test]
    fn open_packet_names_times_and_limit() {
        let config = Config::default();
        let out = written(Framing::Payload, |framing, out| {
            put_open(out, framing, "lv_VI97HAXpY6yYWAAAC", Upgrades::WebSocket, &config);
        });
        let expected = "\u{1e}0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[\"websocket\"],\
            \"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
        assert_eq!(out, expected.as_bytes());
        let out = written(Framing::Frames, |framing, out| {
            put_open(out, framing, "x", Upgrades::None, &config);
        });
        assert!(out.starts_with(b"\x81\x580{\"sid\":\"x\",\"upgrades\":[],"), "{}", out.escape_ascii());
    }
}
