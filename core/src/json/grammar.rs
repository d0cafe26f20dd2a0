//! RFC 8259 over bytes: where one value ends, or where it stops being JSON.
//!
//! Owns the grammar and nothing else: it never decodes, never allocates, never recurses. The input comes
//! from a `&str`, so UTF-8 is already proved and every offset returned is a character boundary.
//!
//! Reading past the end yields [`END`], a byte the grammar accepts nowhere, so every state refuses truncated
//! input by the branch that refuses garbage, without a length check of its own.
//!
//! Strings are skipped eight bytes at a time in a machine word, then, once a string has proved long, 32 at a
//! time in a loop the compiler vectorises. Open containers are one bit each in a `u128`, which is what makes
//! [`MAX_DEPTH`] 128.

use super::{JsonError, MAX_DEPTH};

/// What reading past the end of the input yields: a control character, refused in and out of strings.
const END: u8 = 0;

/// A string longer than this is scanned in [`BLOCK`]s.
const LONG_STRING: usize = 32;

/// Bytes examined at once in a long string: two SSE2 registers or one AVX2 register.
const BLOCK: usize = 32;

const _: () = assert!(MAX_DEPTH == u128::BITS as usize, "one bit of the stack for each open container");

/// A string's end, and whether it must be unescaped to be read.
#[derive(Copy, Clone)]
pub(super) struct Text {
    /// Offset just past the closing quote.
    pub(super) end: usize,
    /// Whether the string contains a backslash.
    pub(super) escaped: bool,
}

/// The byte at `at`, or [`END`].
#[inline(always)]
pub(super) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(END)
}

/// The error for an unexpected byte, or end of input, at `at`.
#[cold]
#[inline(never)]
pub(super) fn unexpected(bytes: &[u8], at: usize) -> JsonError {
    if at < bytes.len() { JsonError::Malformed { at } } else { JsonError::Truncated { at: bytes.len() } }
}

/// The offset of the first byte at or after `at` that is not insignificant whitespace.
#[inline(always)]
pub(super) fn skip_whitespace(bytes: &[u8], at: usize) -> usize {
    // Compact JSON is the rule on a wire: one comparison settles it.
    if byte(bytes, at) > b' ' { at } else { skip_whitespace_run(bytes, at) }
}

fn skip_whitespace_run(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Requires that only whitespace follows `at`.
#[inline]
pub(super) fn end(bytes: &[u8], at: usize) -> Result<(), JsonError> {
    let at = skip_whitespace(bytes, at);
    if at == bytes.len() { Ok(()) } else { Err(JsonError::Malformed { at }) }
}

/// The end of the value that starts at `at`, which lies inside `outer` open containers.
///
/// `at` is at the value's first byte: whitespace before it has been skipped.
#[inline]
pub(super) fn value(bytes: &[u8], at: usize, outer: usize) -> Result<usize, JsonError> {
    match byte(bytes, at) {
        b'"' => Ok(string(bytes, at)?.end),
        b'{' | b'[' => container(bytes, at, outer),
        _ => scalar(bytes, at),
    }
}

/// The end of the object or array that opens at `at`. The bits of `stack` are the open containers, the
/// innermost lowest: set for an object, clear for an array.
fn container(bytes: &[u8], mut at: usize, outer: usize) -> Result<usize, JsonError> {
    let mut stack: u128 = 0;
    let mut depth = outer;
    'value: loop {
        match byte(bytes, at) {
            b'"' => at = string(bytes, at)?.end,
            open @ (b'{' | b'[') => {
                if depth == MAX_DEPTH {
                    return Err(JsonError::TooDeep { at });
                }
                depth += 1;
                stack = stack << 1 | u128::from(open == b'{');
                at = skip_whitespace(bytes, at + 1);
                // ASCII puts each closing bracket two after its opening one.
                if byte(bytes, at) != open + 2 {
                    if open == b'{' {
                        at = key(bytes, at)?.1;
                    }
                    continue 'value;
                }
                // Empty: left for the loop below to close.
            }
            _ => at = scalar(bytes, at)?,
        }
        loop {
            if depth == outer {
                return Ok(at);
            }
            at = skip_whitespace(bytes, at);
            let in_object = stack & 1 == 1;
            match byte(bytes, at) {
                b',' => {
                    at = skip_whitespace(bytes, at + 1);
                    if in_object {
                        at = key(bytes, at)?.1;
                    }
                    continue 'value;
                }
                b'}' if in_object => {}
                b']' if !in_object => {}
                _ => return Err(unexpected(bytes, at)),
            }
            at += 1;
            stack >>= 1;
            depth -= 1;
        }
    }
}

/// The key that opens at `at`, and the offset of the value that follows its colon.
#[inline(always)]
pub(super) fn key(bytes: &[u8], at: usize) -> Result<(Text, usize), JsonError> {
    if byte(bytes, at) != b'"' {
        return Err(unexpected(bytes, at));
    }
    let text = string(bytes, at)?;
    let colon = skip_whitespace(bytes, text.end);
    if byte(bytes, colon) != b':' {
        return Err(unexpected(bytes, colon));
    }
    Ok((text, skip_whitespace(bytes, colon + 1)))
}

/// The end of the string whose opening quote is at `at`.
#[inline]
fn string(bytes: &[u8], at: usize) -> Result<Text, JsonError> {
    let at = plain_run(bytes, at + 1);
    if byte(bytes, at) == b'"' { Ok(Text { end: at + 1, escaped: false }) } else { escaped_string(bytes, at) }
}

/// Goes on with a string at the first byte that is neither plain nor its closing quote.
fn escaped_string(bytes: &[u8], mut at: usize) -> Result<Text, JsonError> {
    loop {
        match byte(bytes, at) {
            b'"' => return Ok(Text { end: at + 1, escaped: true }),
            b'\\' => at = plain_run(bytes, escape(bytes, at + 1)?),
            _ => return Err(unexpected(bytes, at)),
        }
    }
}

/// The end of the escape whose backslash is just before `at`.
///
/// Half a surrogate pair is grammatical; whether a string has a meaning is for whoever decodes it.
#[inline]
fn escape(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    match byte(bytes, at) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => match (at + 1..at + 5).find(|&digit| !byte(bytes, digit).is_ascii_hexdigit()) {
            Some(digit) => Err(unexpected(bytes, digit)),
            None => Ok(at + 5),
        },
        _ => Err(unexpected(bytes, at)),
    }
}

/// Whether a byte ends a run of plain string text: a quote, a backslash or a control character.
#[inline(always)]
fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The offset of the first special byte at or after `at`, or the length of the input.
#[inline]
pub(super) fn plain_run(bytes: &[u8], mut at: usize) -> usize {
    let long = at + LONG_STRING;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
        if at == long {
            at = plain_blocks(bytes, at);
        }
    }
    while at < bytes.len() && !is_special(bytes[at]) {
        at += 1;
    }
    at
}

/// Skips whole blocks without a special byte. Out of line: only long strings come here.
#[inline(never)]
fn plain_blocks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        // No early exit inside a block, which is what lets the compiler use vector instructions.
        if block.iter().fold(false, |any, &byte| any | is_special(byte)) {
            break;
        }
        at += BLOCK;
    }
    at
}

/// The high bit of each special byte of a little-endian word. Exact up to and including the lowest one set,
/// the only one to be trusted: a borrow may mark bytes above it.
#[inline(always)]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash) & !word & HIGH
}

/// The end of the number or literal that starts at `at`.
#[inline]
fn scalar(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    let literal: &[u8] = match byte(bytes, at) {
        b'-' | b'0'..=b'9' => return number(bytes, at),
        b't' => b"true",
        b'f' => b"false",
        b'n' => b"null",
        _ => return Err(unexpected(bytes, at)),
    };
    match literal.iter().zip(at..).find(|&(&letter, at)| byte(bytes, at) != letter) {
        Some((_, at)) => Err(unexpected(bytes, at)),
        None => Ok(at + literal.len()),
    }
}

/// The end of the number that starts at `at`. Grammar only: any magnitude and any precision is JSON.
#[inline]
fn number(bytes: &[u8], mut at: usize) -> Result<usize, JsonError> {
    if byte(bytes, at) == b'-' {
        at += 1;
    }
    at = if byte(bytes, at) == b'0' { at + 1 } else { digits(bytes, at)? };
    if byte(bytes, at) == b'.' {
        at = digits(bytes, at + 1)?;
    }
    if matches!(byte(bytes, at), b'e' | b'E') {
        at += 1;
        if matches!(byte(bytes, at), b'+' | b'-') {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// The end of a run of at least one digit.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> Result<usize, JsonError> {
    if !byte(bytes, at).is_ascii_digit() {
        return Err(unexpected(bytes, at));
    }
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_and_block_scans_agree_with_the_byte_test() {
        // Every byte value, at every offset, in a run long enough to reach the block loop.
        for special in 0..=u8::MAX {
            for place in 0..100 {
                let mut bytes = [b'x'; 100];
                bytes[place] = special;
                // A neighbour with its high bit set, and one just above a control character.
                bytes[(place + 1) % 100] = 0xff;
                bytes[(place + 99) % 100] = b' ';
                let expected = bytes.iter().position(|&byte| is_special(byte)).unwrap_or(100);
                assert_eq!(plain_run(&bytes, 0), expected, "byte {special:#04x} at {place}");
            }
        }
    }

    #[test]
    fn borrows_never_mark_a_byte_below_the_first_special_one() {
        let word = u64::from_le_bytes(*b"ab\"!#]\x1f ");
        assert_eq!(special_bytes(word).trailing_zeros() / 8, 2);
        assert_eq!(special_bytes(u64::from_le_bytes(*b"!#[] ~\x7f\x80")), 0);
    }
}
