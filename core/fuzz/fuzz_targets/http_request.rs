//! Requests from arbitrary bytes: nothing panics, consumed counts and memory stay within bounds, and
//! splitting the input anywhere changes nothing. The reader, with those assertions, is the one of
//! `core/tests/http_pipeline.rs`.
//!
//! Input: up to eight bytes of piece lengths with their count in front, one byte for the limits, the
//! connection.

#![no_main]

use fanfare_core::http::{HttpLimits, parse_response_head, percent_decode, query_value};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/http_pipeline.rs"]
mod http_pipeline;

use http_pipeline::replay;

fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else { return };
    let Some((lengths, rest)) = rest.split_at_checked(usize::from(count % 8) + 1) else { return };
    let Some((&scale, bytes)) = rest.split_first() else { return };
    let limits = HttpLimits {
        head_bytes: 16 + 4 * usize::from(scale),
        headers: usize::from(scale % 16),
        body_bytes: usize::from(scale),
    };

    let whole = replay([bytes], limits);
    assert_eq!(replay(bytes.chunks(1), limits), whole);
    assert_eq!(replay(pieces(bytes, lengths), limits), whole);

    if let Ok(Some((_, length))) = parse_response_head(bytes, limits) {
        assert!(0 < length && length <= bytes.len());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(percent_decode(text).is_ok_and(|decoded| decoded.len() <= text.len()) || text.contains('%'));
        drop(query_value(text, "name"));
    }
});

/// Cuts `bytes` into pieces of these lengths, over and over; a length of zero counts as 256.
fn pieces<'a>(bytes: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    lengths.iter().cycle().map_while(move |&length| {
        if rest.is_empty() {
            return None;
        }
        let length = if length == 0 { 256 } else { usize::from(length) };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    })
}
