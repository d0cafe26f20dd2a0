//! WebSocket input: masked frames, the headers of a handshake, and reading a stream of frames as a worker
//! does.

use std::hint::black_box;

use bytes::BytesMut;
use fanfare_core::ws::{DecodeLimits, Decoder, Message, OpCode, Role, put_masked_frame};

/// The key that masks every frame.
pub const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The headers of a browser's request.
pub const UPGRADE_HEADERS: [(&str, &[u8]); 10] = [
    ("Host", b"example.com"),
    ("User-Agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"),
    ("Pragma", b"no-cache"),
    ("Cache-Control", b"no-cache"),
    ("Connection", b"Upgrade"),
    ("Upgrade", b"websocket"),
    ("Origin", b"https://example.com"),
    ("Sec-WebSocket-Version", b"13"),
    ("Accept-Encoding", b"gzip, deflate, br"),
    ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
];

const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 16 << 20, fragments: 65_536 };

/// `count` masked text frames with `payload_len` bytes each.
pub fn text_frames(payload_len: usize, count: usize) -> BytesMut {
    let payload = "The quick brown fox jumps over the lazy dog. ".repeat(payload_len / 45 + 1);
    let mut out = BytesMut::new();
    for _ in 0..count {
        put_masked_frame(&mut out, OpCode::Text, &payload.as_bytes()[..payload_len], MASK);
    }
    out
}

/// Reads `stream` through `buffer`, which every connection of a worker would share, and decodes it; returns
/// the payload bytes seen.
pub fn decode_all(decoder: &mut Decoder, stream: &[u8], buffer: &mut [u8]) -> usize {
    let mut seen = 0;
    for chunk in stream.chunks(buffer.len()) {
        let input = &mut buffer[..chunk.len()];
        input.copy_from_slice(chunk);
        let mut at = 0;
        loop {
            let decoded = decoder.decode(&mut input[at..], Role::Server, LIMITS).expect("valid stream");
            at += decoded.consumed;
            match black_box(decoded.message) {
                Some(Message::Text(text)) => seen += text.len(),
                Some(Message::Binary(bytes)) => seen += bytes.len(),
                Some(_) => {}
                None => break,
            }
        }
    }
    seen
}
