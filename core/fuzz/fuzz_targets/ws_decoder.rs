//! Arbitrary bytes through the WebSocket decoder, whole and in pieces.
//!
//! Holds: nothing panics; what is kept is bounded by what was received; cutting the stream elsewhere, or
//! taking one message at a time, changes neither the messages nor the error.
//!
//! The first four bytes of the input choose the role, the limits and the sizes of the pieces.

#![no_main]

use fanfare_core::ws::{DecodeLimits, Decoder, ProtocolError, Role};
use libfuzzer_sys::fuzz_target;

/// Heap that a decoder may hold however little it has received: its own struct and a first allocation.
const FIXED: usize = 512;

/// Feeds `stream` in pieces whose lengths cycle through `lengths`; what can be taken `together` is.
fn decode(
    stream: &[u8],
    lengths: &[usize],
    (role, together): (Role, bool),
    limits: DecodeLimits,
) -> (Vec<String>, Option<ProtocolError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    let mut lengths = lengths.iter().cycle();
    let (mut rest, mut received) = (stream, 0);
    while !rest.is_empty() {
        let len = lengths.next().map_or(rest.len(), |len| rest.len().min(*len));
        let (piece, later) = rest.split_at(len);
        rest = later;
        received += len;
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            if together {
                let mut whole = decoder.messages(&mut piece[at..], role, limits);
                messages.extend(whole.by_ref().map(|message| format!("{message:?}")));
                match whole.end() {
                    Ok(consumed) => at += consumed,
                    Err(error) => return (messages, Some(error)),
                }
            }
            match decoder.decode(&mut piece[at..], role, limits) {
                Ok(decoded) => {
                    at += decoded.consumed;
                    let Some(message) = decoded.message else { break };
                    messages.push(format!("{message:?}"));
                }
                Err(error) => {
                    assert_eq!(decoder.buffered(), 0, "an error drops what was held");
                    return (messages, Some(error));
                }
            }
            assert!(decoder.buffered() <= FIXED + 2 * received);
        }
        assert_eq!(at, piece.len());
        assert!(decoder.buffered() <= FIXED + 2 * received.min(limits.message_bytes + 256));
        assert_eq!(decoder.is_idle(), decoder.buffered() == 0);
    }
    (messages, None)
}

fuzz_target!(|input: &[u8]| {
    let Some(([choice, long, short, limit], stream)) = input.split_first_chunk::<4>() else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let limits = DecodeLimits {
        message_bytes: usize::from(*limit) << (choice >> 4),
        fragments: usize::from(choice >> 1 & 7),
    };
    let whole = decode(stream, &[stream.len()], (role, false), limits);
    let lengths = [usize::from(*long).max(1), usize::from(*short % 8).max(1)];
    for lengths in [&[stream.len().max(1)], &lengths[..], &[1]] {
        for together in [false, true] {
            assert_eq!(decode(stream, lengths, (role, together), limits), whole);
        }
    }
});
