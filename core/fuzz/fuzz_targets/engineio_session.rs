//! A sequence of requests, frames, sends and time on one Engine.IO session.
//!
//! Holds: nothing panics; each message that the server sends leaves once, in order; deadlines lie ahead; the
//! end is told once, and nothing happens after it. The driver is the one of `core/tests/engineio_session.rs`.
//!
//! Each step is a byte that chooses it, and for some a byte of length and that many bytes of text.

#![no_main]

use fanfare_core::engineio::{Action, Framing, PostHead, Transport};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/engineio/mod.rs"]
mod engineio;

use engineio::Peer;

/// Takes a length and that many bytes of text off `input`.
fn text<'a>(input: &mut &'a [u8]) -> &'a str {
    let Some((len, rest)) = input.split_first() else { return "" };
    let (text, rest) = rest.split_at(usize::from(*len % 32).min(rest.len()));
    *input = rest;
    std::str::from_utf8(text).unwrap_or_default()
}

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    let mut peer = Peer::open(Transport::Polling);
    let (mut sent, mut seen, mut ends) = (0, 0, 0);
    while let Some((step, rest)) = input.split_first() {
        input = rest;
        let is_websocket = peer.session.framing() == Framing::Frames;
        let was_open = peer.session.is_open();
        let out = match step % 12 {
            0 => peer.poll().unwrap_or_default(),
            1 => peer.post_head(PostHead::default()).map(|()| Vec::new()).unwrap_or_default(),
            2 if !is_websocket => peer.hand_in(text(&mut input)),
            3 => peer.cut(if step & 16 == 0 { Action::Poll } else { Action::Post }),
            4 => peer.upgrade().map(|_| Vec::new()).unwrap_or_default(),
            5 => peer.probe("2probe"),
            6 => peer.probe(if step & 16 == 0 { "5" } else { text(&mut input) }),
            7 if is_websocket => peer.hand_in(text(&mut input)),
            8 if was_open => match peer.send(&format!("#{sent}")) {
                Ok(out) => {
                    sent += 1;
                    out
                }
                Err(_) => Vec::new(),
            },
            9 => peer.pass(u64::from(*step) * 4),
            10 if step & 0xF0 == 0 => peer.close(),
            11 => peer.hand_in("3"),
            _ => Vec::new(),
        };
        for line in out.into_iter().chain(peer.take()) {
            ends += usize::from(line.starts_with("ended"));
            let payload =
                line.strip_prefix("poll: ").or_else(|| line.strip_prefix("frame: ")).unwrap_or_default();
            for number in payload.split('|').filter_map(|packet| packet.strip_prefix("4#")) {
                assert_eq!(number, seen.to_string(), "lost, repeated or out of order");
                seen += 1;
            }
        }
        assert!(seen <= sent && ends <= 1);
        assert_eq!(peer.session.deadline_ms().is_none(), ends == 1);
        assert!(peer.session.deadline_ms().is_none_or(|deadline_ms| deadline_ms > peer.now_ms));
        assert!(was_open || !peer.session.is_open(), "a session does not open again");
        assert!(peer.session.queued_bytes() <= 400 + 4, "the queue is bounded");
    }
});
