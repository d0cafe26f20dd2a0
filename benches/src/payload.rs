//! Messages: one of ordinary size to send; and envelopes to parse, around payloads of two kinds, the extremes
//! of real ones.

use std::fmt::Write as _;

/// A payload of ordinary size.
pub const SENT: &str = r#"{"text":"sixty-four bytes or so of a message"}"#;

/// The command that sends it to the channel `room`.
pub const SEND: &str = concat!(
    r#"{"type":"send","channel":"room","event":"chat","#,
    r#""message":{"text":"sixty-four bytes or so of a message"}}"#
);

/// A command with this payload.
pub fn envelope(payload: &str) -> String {
    format!(
        r#"{{"type":"send","channel":"room:lobby:42","event":"message","message":{payload},"id":1234567}}"#
    )
}

/// An array of `count` such commands.
pub fn batch(count: usize, payload: &str) -> String {
    format!("[{}]", vec![envelope(payload); count].join(","))
}

/// One string of ordinary prose: a few escapes and a few characters beyond ASCII in each hundred bytes.
pub fn text(size: usize) -> String {
    const PROSE: &str = "The quick brown fox jumps over the lazy dog; the d\u{e9}j\u{e0} vu \
        of it said \\\"again\\\" and went on for a while without any more of that.\\n";
    let mut payload = String::from("\"");
    while payload.len() + 1 < size {
        let left = size - payload.len() - 1;
        payload.push_str(if left < PROSE.len() { &"................"[..left.min(16)] } else { PROSE });
    }
    payload + "\""
}

/// A list of records, all structure: no string is longer than a word.
pub fn tree(size: usize) -> String {
    let mut payload = String::from("[");
    let mut n = 0;
    while payload.len() + 1 < size {
        let comma = if n == 0 { "" } else { "," };
        let record = match n % 4 {
            0 => write!(payload, "{comma}[{n},{}]", n * 7919 % 1000),
            1 => write!(payload, r#"{comma}{{"x":{n},"ok":true}}"#),
            2 => write!(payload, r#"{comma}{{"n":-{n}.5,"t":["a","bc"],"z":null}}"#),
            _ => write!(payload, r#"{comma}"k{n}""#),
        };
        record.expect("a String takes any text");
        n += 1;
    }
    payload + "]"
}
