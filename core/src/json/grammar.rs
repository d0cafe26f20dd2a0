//! RFC 8259 over bytes: where one value ends, or where it stops being JSON.
//!
//! Owns the grammar and nothing else: it never decodes, never allocates, never recurses. The input comes
//! from a `&str`, so UTF-8 is already proved and every offset returned is a character boundary.
//!
//! Reading past the end yields [`END`], a byte the grammar accepts nowhere, so every state refuses truncated
//! input by the branch that refuses garbage, without a length check of its own.
//!
//! Strings are skipped eight bytes at a time in a machine word, then, once a string has proved long, 16 at a
//! time in a loop the compiler vectorises. Open containers are one bit each in a `u128`, which is what makes
//! [`MAX_DEPTH`] 128.

use super::MAX_DEPTH;
use super::error::Fault;

/// What reading past the end of the input yields: a control character, refused in and out of strings.
const END: u8 = 0;

/// How many bytes after its first word a string is scanned in [`BLOCK`]s.
const LONG_STRING: usize = 8;

/// Bytes examined at once in a long string: one SSE2 register.
const BLOCK: usize = 16;

const _: () = assert!(MAX_DEPTH == u128::BITS as usize, "one bit of the stack for each open container");

/// The byte at `at`, or [`END`].
#[inline(always)]
pub(super) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(END)
}

/// The offset of the first byte at or after `at` that is not insignificant whitespace.
#[inline(always)]
pub(super) fn skip_whitespace(bytes: &[u8], at: usize) -> usize {
    significant(bytes, at).0
}

/// The first byte at or after `at` that is not insignificant whitespace, and its offset.
#[inline(always)]
fn significant(bytes: &[u8], at: usize) -> (usize, u8) {
    let first = byte(bytes, at);
    // Compact JSON is the rule on a wire: one comparison settles it.
    if first > b' ' {
        return (at, first);
    }
    let at = skip_whitespace_run(bytes, at);
    (at, byte(bytes, at))
}

#[inline(never)]
fn skip_whitespace_run(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Requires that only whitespace follows `at`.
#[inline]
pub(super) fn end(bytes: &[u8], at: usize) -> Result<(), Fault> {
    let at = skip_whitespace(bytes, at);
    if at == bytes.len() { Ok(()) } else { Err(Fault::unexpected(at)) }
}

/// The end of the value that starts at `at`, which lies inside `outer` open containers.
///
/// `at` is at the value's first byte: whitespace before it has been skipped.
#[inline(always)]
pub(super) fn value(bytes: &[u8], at: usize, outer: usize) -> Result<usize, Fault> {
    match byte(bytes, at) {
        b'"' => Ok(string(bytes, at)?.0),
        b'{' | b'[' => container(bytes, at, outer),
        _ => scalar(bytes, at),
    }
}

/// The end of the object or array that opens at `at`. The bits of `stack` are the open containers, the
/// innermost lowest: set for an object, clear for an array.
fn container(bytes: &[u8], mut at: usize, outer: usize) -> Result<usize, Fault> {
    let mut stack: u128 = 0;
    let mut depth = outer;
    let mut first = byte(bytes, at);
    'value: loop {
        match first {
            b'"' => at = string(bytes, at)?.0,
            b'{' | b'[' => {
                if depth == MAX_DEPTH {
                    return Err(Fault::too_deep(at));
                }
                let in_object = first == b'{';
                depth += 1;
                stack = stack << 1 | u128::from(in_object);
                let open = first;
                (at, first) = significant(bytes, at + 1);
                // ASCII puts each closing bracket two after its opening one.
                if first != open + 2 {
                    if in_object {
                        (at, first) = member_value(bytes, at, first)?;
                    }
                    continue 'value;
                }
                at += 1;
                stack >>= 1;
                depth -= 1;
            }
            _ => at = scalar(bytes, at)?,
        }
        while depth != outer {
            let next;
            (at, next) = significant(bytes, at);
            let in_object = stack & 1 == 1;
            if next == b',' {
                (at, first) = significant(bytes, at + 1);
                if in_object {
                    (at, first) = member_value(bytes, at, first)?;
                }
                continue 'value;
            }
            if next != if in_object { b'}' } else { b']' } {
                return Err(Fault::unexpected(at));
            }
            at += 1;
            stack >>= 1;
            depth -= 1;
        }
        return Ok(at);
    }
}

/// The offset and the first byte of the value whose key opens at `at` with `first`.
#[inline(always)]
fn member_value(bytes: &[u8], at: usize, first: u8) -> Result<(usize, u8), Fault> {
    if first != b'"' {
        return Err(Fault::unexpected(at));
    }
    let (end, _) = string(bytes, at)?;
    after_colon(bytes, end)
}

/// The offset and the first byte of the value whose key ends at `at`.
#[inline(always)]
pub(super) fn after_colon(bytes: &[u8], at: usize) -> Result<(usize, u8), Fault> {
    let (colon, next) = significant(bytes, at);
    if next != b':' {
        return Err(Fault::unexpected(colon));
    }
    Ok(significant(bytes, colon + 1))
}

/// The end of the string whose opening quote is at `at`, and whether it contains a backslash.
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize) -> Result<(usize, bool), Fault> {
    let stop = plain_run(bytes, at + 1);
    if byte(bytes, stop) == b'"' { Ok((stop + 1, false)) } else { Ok((escaped_string(bytes, stop)?, true)) }
}

/// The same of a key, which must be one.
#[inline(always)]
pub(super) fn key(bytes: &[u8], at: usize) -> Result<(usize, bool), Fault> {
    if byte(bytes, at) == b'"' { string(bytes, at) } else { Err(Fault::unexpected(at)) }
}

/// Goes on with a string at the first byte that is neither plain nor its closing quote.
#[inline(never)]
fn escaped_string(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        match byte(bytes, at) {
            b'"' => return Ok(at + 1),
            b'\\' => at = plain_run(bytes, escape(bytes, at + 1)?),
            _ => return Err(Fault::unexpected(at)),
        }
    }
}

/// The end of the escape whose backslash is just before `at`.
///
/// Half a surrogate pair is grammatical; whether a string has a meaning is for whoever decodes it.
#[inline]
fn escape(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match byte(bytes, at) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => match (at + 1..at + 5).find(|&digit| !byte(bytes, digit).is_ascii_hexdigit()) {
            Some(digit) => Err(Fault::unexpected(digit)),
            None => Ok(at + 5),
        },
        _ => Err(Fault::unexpected(at)),
    }
}

/// Whether a byte ends a run of plain string text: a quote, a backslash or a control character.
#[inline(always)]
fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Whether there is no special byte. No early exit and no scalar rest, which is what makes this faster than
/// to look for the first one.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let any_special = |block: &[u8]| block.iter().fold(false, |any, &byte| any | is_special(byte));
    match bytes.last_chunk::<BLOCK>() {
        // The last block may overlap the one before it.
        Some(last) => {
            let (blocks, _) = bytes.as_chunks::<BLOCK>();
            !blocks.iter().fold(any_special(last), |any, block| any | any_special(block))
        }
        None => !any_special(bytes),
    }
}

/// The offset of the first special byte at or after `at`, or the length of the input.
#[inline(always)]
pub(super) fn plain_run(bytes: &[u8], at: usize) -> usize {
    // Most strings outside payloads end in their first word; the rest is out of line to keep this small.
    match special_at(bytes, at) {
        0 => long_plain_run(bytes, at + 8),
        special => at + first_byte(special),
    }
}

#[inline(never)]
fn long_plain_run(bytes: &[u8], mut at: usize) -> usize {
    let long = at + LONG_STRING;
    loop {
        let special = special_at(bytes, at);
        if special != 0 {
            return at + first_byte(special);
        }
        at += 8;
        if at == long {
            at = plain_blocks(bytes, at);
        }
    }
}

/// [`special_bytes`] of the word at `at`. There always is one where the input ends.
#[inline(always)]
fn special_at(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) => special_bytes(u64::from_le_bytes(*word)),
        None => special_bytes(last_word(bytes, at)),
    }
}

/// What is left of the input from `at` on, less than a word, filled up with [`END`].
#[inline]
fn last_word(bytes: &[u8], at: usize) -> u64 {
    match bytes.last_chunk() {
        Some(word) if at < bytes.len() => u64::from_le_bytes(*word) >> (8 * (at + 8 - bytes.len())),
        Some(_) => u64::from(END),
        None => {
            let mut word = [END; 8];
            let rest = bytes.get(at..).unwrap_or_default();
            word[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(word)
        }
    }
}

/// How many bytes are below the first one marked.
#[inline(always)]
fn first_byte(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
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
fn scalar(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match byte(bytes, at) {
        b'-' | b'0'..=b'9' => number(bytes, at),
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        _ => Err(Fault::unexpected(at)),
    }
}

/// The end of `word`, which must stand at `at`.
#[inline(always)]
fn literal<const N: usize>(bytes: &[u8], at: usize, word: &[u8; N]) -> Result<usize, Fault> {
    if bytes.get(at..).and_then(<[u8]>::first_chunk) == Some(word) {
        return Ok(at + N);
    }
    let same = word.iter().zip(at..).take_while(|&(&letter, at)| byte(bytes, at) == letter).count();
    Err(Fault::unexpected(at + same))
}

/// The end of the number that starts at `at`. Grammar only: any magnitude and any precision is JSON.
#[inline]
fn number(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
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
fn digits(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    if !byte(bytes, at).is_ascii_digit() {
        return Err(Fault::unexpected(at));
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
        // Every byte value, at every offset, in a run long enough to reach the block loop and in every rest
        // of one.
        for special in 0..=u8::MAX {
            for place in 0..100 {
                let mut bytes = [b'x'; 100];
                bytes[place] = special;
                // A neighbour with its high bit set, and one just above a control character.
                bytes[(place + 1) % 100] = 0xff;
                bytes[(place + 99) % 100] = b' ';
                let expected = bytes.iter().position(|&byte| is_special(byte)).unwrap_or(100);
                assert_eq!(plain_run(&bytes, 0), expected, "byte {special:#04x} at {place}");
                assert_eq!(is_plain(&bytes), expected == 100, "byte {special:#04x} at {place}");
                for end in place.saturating_sub(20)..place + 20 {
                    let bytes = &bytes[..end.min(100)];
                    let expected = bytes.iter().position(|&byte| is_special(byte)).unwrap_or(bytes.len());
                    assert_eq!(plain_run(bytes, 0), expected, "byte {special:#04x} at {place} of {end}");
                    assert_eq!(is_plain(bytes), expected == bytes.len(), "byte {special:#04x} of {end}");
                }
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
