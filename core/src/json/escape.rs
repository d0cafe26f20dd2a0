//! JSON strings outwards and inwards: quoting text into a frame, and reading quoted text.
//!
//! [`escaped_len`] and [`write_string`] agree to the byte, so a frame's header can be written before its
//! body. What is written is what `serde_json` writes: the short escapes where they exist, `\u00XX` for the
//! other control characters, everything else as it is.

use std::borrow::Cow;

use bytes::BufMut;

use super::grammar;

/// The length in bytes of what [`write_string`] appends for `s`, quotes included.
#[must_use]
pub fn escaped_len(s: &str) -> usize {
    let bytes = s.as_bytes();
    let mut len = bytes.len() + 2;
    let mut at = grammar::plain_run(bytes, 0);
    while at < bytes.len() {
        len += if short_escape(bytes[at]).is_some() { 1 } else { 5 };
        at = grammar::plain_run(bytes, at + 1);
    }
    len
}

/// Appends `s` as a JSON string: quoted, and escaped where it must be.
pub fn write_string(out: &mut impl BufMut, s: &str) {
    let bytes = s.as_bytes();
    let mut plain = 0;
    let mut at = grammar::plain_run(bytes, 0);
    out.put_u8(b'"');
    while at < bytes.len() {
        out.put_slice(&bytes[plain..at]);
        write_escape(out, bytes[at]);
        plain = at + 1;
        at = grammar::plain_run(bytes, plain);
    }
    out.put_slice(&bytes[plain..]);
    out.put_u8(b'"');
}

/// The same, or `null`.
pub fn write_optional_string(out: &mut impl BufMut, s: Option<&str>) {
    match s {
        Some(s) => write_string(out, s),
        None => out.put_slice(b"null"),
    }
}

fn write_escape(out: &mut impl BufMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match short_escape(byte) {
        Some(letter) => out.put_slice(&[b'\\', letter]),
        None => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

/// The letter after the backslash in a byte's two-character escape, where it has one.
fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        0x08 => Some(b'b'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        0x0c => Some(b'f'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

/// What the text between a string's quotes stands for: borrowed when nothing is escaped, `None` when an
/// escape is half a surrogate pair and so stands for no text at all.
pub(super) fn unescape(quoted: &str) -> Option<Cow<'_, str>> {
    let Some(mut at) = memchr::memchr(b'\\', quoted.as_bytes()) else {
        return Some(Cow::Borrowed(quoted));
    };
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    loop {
        text.push_str(rest.get(..at)?);
        let (decoded, after) = decode_escape(rest.get(at + 1..)?)?;
        text.push(decoded);
        rest = after;
        match memchr::memchr(b'\\', rest.as_bytes()) {
            Some(next) => at = next,
            None => break,
        }
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// The character that `escape`, which starts just after a backslash, stands for, and what follows it.
fn decode_escape(escape: &str) -> Option<(char, &str)> {
    let decoded = match escape.as_bytes().first()? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return decode_unicode(escape.get(1..)?),
        &itself => char::from(itself),
    };
    Some((decoded, escape.get(1..)?))
}

/// The character whose four hexadecimal digits start `digits`: with the escape after it, if the first is the
/// leading half of a surrogate pair.
fn decode_unicode(digits: &str) -> Option<(char, &str)> {
    let (unit, rest) = code_unit(digits)?;
    if !(0xd800..0xdc00).contains(&unit) {
        return Some((char::from_u32(unit)?, rest));
    }
    let (trailing, rest) = code_unit(rest.strip_prefix("\\u")?)?;
    let low = trailing.checked_sub(0xdc00).filter(|&low| low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)?, rest))
}

fn code_unit(digits: &str) -> Option<(u32, &str)> {
    let (digits, rest) = digits.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}
