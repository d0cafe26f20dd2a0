//! What every payload says about itself, in fixed-width text that reads without a JSON parser.
//!
//! A payload is a JSON string of exactly as many bytes as the plan asks for:
//!
//! ```text
//! "~FF~ length run publisher sequence due-high due-low checksum filler…"      (no spaces)
//!  │    └──────────────── seven words of eight letters ────────┘
//!  └ magic
//! ```
//!
//! A word is 32 bits, a letter `a` to `p` for each four of them, lowest first, so that eight letters decode
//! with a few instructions. The checksum covers the six words before it and the filler after it. Pure
//! functions of bytes; any thread may call them.

use std::fmt;

use memchr::memmem;

/// What a stamp begins with.
pub(crate) const MAGIC: [u8; 4] = *b"~FF~";

/// Bytes of the stamp: magic and seven words.
pub(crate) const STAMP_LEN: usize = MAGIC.len() + 7 * WORD;

/// Bytes of the shortest payload: a stamp between quotes.
pub(crate) const MIN_PAYLOAD: usize = STAMP_LEN + 2;

const WORD: usize = 8;
const LETTERS: u64 = 0x6161_6161_6161_6161;
/// Where the checksum stands, and where the words it covers begin.
const CHECKSUM_AT: usize = STAMP_LEN - WORD;
const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;

/// The contents of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Bytes of the whole payload, quotes included.
    pub(crate) length: u32,
    /// The run it belongs to.
    pub(crate) run: u32,
    /// The publisher, unique in the run.
    pub(crate) publisher: u32,
    /// Position among this publisher's messages, from 0.
    pub(crate) sequence: u32,
    /// When it was due to be sent, by [`crate::clock`].
    pub(crate) due_ns: u64,
}

/// A stamp that does not read, or whose checksum is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payload is not what was sent")
    }
}

/// Finds stamps: looks first where the last one was.
#[derive(Debug)]
pub(crate) struct Locator {
    at: usize,
    finder: memmem::Finder<'static>,
}

impl Locator {
    pub(crate) fn new() -> Self {
        Self { at: 0, finder: memmem::Finder::new(&MAGIC) }
    }

    /// Where in `text` the stamp begins.
    #[inline]
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<usize> {
        if text.get(self.at..self.at + MAGIC.len()) == Some(&MAGIC) {
            return Some(self.at);
        }
        let at = self.finder.find(text)?;
        self.at = at;
        Some(at)
    }
}

/// Appends a payload: the stamp, filled up to its length with a text that differs from message to message.
pub(crate) fn put_payload(out: &mut Vec<u8>, stamp: Stamp) {
    debug_assert!(stamp.length as usize >= MIN_PAYLOAD);
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    let due = [(stamp.due_ns >> 32) as u32, stamp.due_ns as u32];
    for word in [stamp.length, stamp.run, stamp.publisher, stamp.sequence, due[0], due[1], 0] {
        out.extend_from_slice(&spell(word));
    }
    let filler = stamp.length as usize - MIN_PAYLOAD;
    put_filler(out, filler, stamp.sequence);
    let checksum = checksum(&out[start..]);
    out[start + CHECKSUM_AT..start + STAMP_LEN].copy_from_slice(&spell(checksum));
    out.push(b'"');
}

/// Reads and verifies the payload whose stamp begins at the start of `text`; the text may go on behind it.
#[inline]
pub(crate) fn read_payload(text: &[u8]) -> Result<Stamp, Corrupt> {
    let head = text.first_chunk::<STAMP_LEN>().ok_or(Corrupt)?;
    let mut invalid = 0;
    let mut word = |number: usize| {
        let at = MAGIC.len() + number * WORD;
        let letters: [u8; WORD] = head[at..at + WORD].try_into().expect("eight bytes");
        let nibbles = u64::from_le_bytes(letters).wrapping_sub(LETTERS);
        // The lowest byte out of range leaves its mark whatever is borrowed above it.
        invalid |= nibbles & 0xF0F0_F0F0_F0F0_F0F0;
        gather(nibbles)
    };
    let (length, run, publisher, sequence) = (word(0), word(1), word(2), word(3));
    let due_ns = u64::from(word(4)) << 32 | u64::from(word(5));
    let claimed = word(6);
    let end = (length as usize).wrapping_sub(2);
    if invalid != 0 || end < STAMP_LEN || text.get(end) != Some(&b'"') || checksum(&text[..end]) != claimed {
        return Err(Corrupt);
    }
    Ok(Stamp { length, run, publisher, sequence, due_ns })
}

/// Eight letters for 32 bits, lowest first.
fn spell(word: u32) -> [u8; WORD] {
    let mut nibbles = u64::from(word);
    nibbles = (nibbles | nibbles << 16) & 0x0000_FFFF_0000_FFFF;
    nibbles = (nibbles | nibbles << 8) & 0x00FF_00FF_00FF_00FF;
    nibbles = (nibbles | nibbles << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    (nibbles + LETTERS).to_le_bytes()
}

/// Undoes [`spell`], letters already taken off.
#[inline]
fn gather(mut nibbles: u64) -> u32 {
    nibbles = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    nibbles = (nibbles | nibbles >> 8) & 0x0000_FFFF_0000_FFFF;
    (nibbles | nibbles >> 16) as u32
}

fn put_filler(out: &mut Vec<u8>, len: usize, sequence: u32) {
    const TAPE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789_abcdefghijklmnopqrstuvwxyz";
    let (mut left, mut at) = (len, sequence as usize % TAPE.len());
    while left > 0 {
        let piece = &TAPE[at..TAPE.len().min(at + left)];
        out.extend_from_slice(piece);
        left -= piece.len();
        at = 0;
    }
}

/// Sums up the words of a stamp and the filler behind it; the checksum's own place does not count.
///
/// Four lanes that do not wait for each other; each step is a bijection of its lane, so a change confined to
/// one word of eight bytes is always noticed before the fold to 32 bits, and then misses with a chance of
/// 2⁻³².
#[inline]
fn checksum(stamped: &[u8]) -> u32 {
    let (head, filler) = stamped.split_at(STAMP_LEN);
    let mut lanes = [stamped.len() as u64, 0x2545_F491, 0x9E6C_63D0, 0x1656_67B1];
    mix_all(&mut lanes, &head[MAGIC.len()..CHECKSUM_AT]);
    mix_all(&mut lanes, filler);
    let mut sum = 0_u64;
    for lane in lanes {
        sum = (sum.rotate_left(23) ^ lane).wrapping_mul(PRIME);
    }
    (sum ^ sum >> 32) as u32
}

#[inline]
fn mix_all(lanes: &mut [u64; 4], bytes: &[u8]) {
    let mix = |lane: &mut u64, word: u64| *lane = (*lane ^ word).wrapping_mul(PRIME).rotate_left(29);
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            mix(lane, u64::from_le_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        mix(lane, u64::from_le_bytes(*word));
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        mix(&mut lanes[3], u64::from_le_bytes(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(length: u32) -> Stamp {
        Stamp { length, run: 0xDEAD_BEEF, publisher: 7, sequence: 123_456, due_ns: 0x0123_4567_89AB_CDEF }
    }

    fn payload(length: u32) -> Vec<u8> {
        let mut out = Vec::new();
        put_payload(&mut out, stamp(length));
        out
    }

    #[test]
    fn payload_has_the_length_asked_for_and_reads_back() {
        for length in [62, 63, 64, 70, 93, 94, 95, 128, 512, 65_536] {
            let bytes = payload(length);
            assert_eq!(bytes.len(), length as usize);
            assert!(serde_json::from_slice::<String>(&bytes).is_ok(), "plain JSON, nothing escaped");
            assert_eq!(read_payload(&bytes[1..]), Ok(stamp(length)));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = payload(130);
        for at in 1 + MAGIC.len()..bytes.len() {
            for change in [0x01, 0x02, 0x10, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert_eq!(read_payload(&changed[1..]), Err(Corrupt), "byte {at} by {change:#x}");
            }
        }
    }

    #[test]
    fn swapped_and_missing_parts_are_noticed() {
        let bytes = payload(200);
        for len in 0..bytes.len() - 1 {
            assert_eq!(read_payload(&bytes[1..len.max(1)]), Err(Corrupt), "cut to {len}");
        }
        let mut swapped = bytes.clone();
        let (a, b) = swapped.split_at_mut(100);
        a[70..90].swap_with_slice(&mut b[0..20]);
        assert_eq!(read_payload(&swapped[1..]), Err(Corrupt));
    }

    #[test]
    fn stamp_is_found_where_the_last_one_was_and_elsewhere() {
        let mut locator = Locator::new();
        for prefix in ["{\"channel\":\"c\",\"message\":", "{\"channel\":\"c\",\"message\":", "x", ""] {
            let mut text = prefix.as_bytes().to_vec();
            put_payload(&mut text, stamp(64));
            assert_eq!(locator.find(&text), Some(prefix.len() + 1));
        }
        assert_eq!(locator.find(b"{\"welcome\":{}}"), None);
        assert_eq!(locator.find(b""), None);
    }
}
