//! Newtypes for everything that is numbered, and the two identifiers that leave the process: session and
//! message ids.
//!
//! No clock and no entropy here: time comes in as an argument and randomness as a seed.

use std::fmt;

use crate::slots::Key;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub use crate::app::AppId;

/// A worker: one thread, one event loop, one engine.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct WorkerId(pub u16);

/// A session's slot on its worker.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct SessionSlot(pub u32);

impl Key for SessionSlot {
    fn from_slot(slot: u32) -> Self {
        Self(slot)
    }

    fn slot(self) -> u32 {
        self.0
    }
}

/// A worker's own number for a channel in which it holds members.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct LocalId(pub u32);

impl Key for LocalId {
    fn from_slot(slot: u32) -> Self {
        Self(slot)
    }

    fn slot(self) -> u32 {
        self.0
    }
}

/// Identifies a session to everybody: 15 bytes, shown as 20 characters of base64url.
///
/// A session's id says where the session lives (worker and slot), so finding a session needs no index. The id
/// has 72 random bits, which make it hard to guess and tell a reused slot from its former session.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct SessionId {
    worker: WorkerId,
    slot: SessionSlot,
    nonce: Nonce,
}

/// The random part of a [`SessionId`].
pub type Nonce = [u8; 9];

impl SessionId {
    /// Length of the textual form.
    pub const TEXT_LEN: usize = 20;

    pub(crate) fn new(worker: WorkerId, slot: SessionSlot, nonce: Nonce) -> Self {
        Self { worker, slot, nonce }
    }

    /// The worker the session lives on.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    pub(crate) fn slot(&self) -> SessionSlot {
        self.slot
    }

    pub(crate) fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Parses the textual form; `None` if `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 15];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if decoded != bytes.len() {
            return None;
        }
        let [w0, w1, s0, s1, s2, s3, nonce @ ..] = bytes;
        let worker = WorkerId(u16::from_be_bytes([w0, w1]));
        Some(Self { worker, slot: SessionSlot(u32::from_be_bytes([s0, s1, s2, s3])), nonce })
    }

    /// The textual form.
    pub fn text(&self) -> [u8; Self::TEXT_LEN] {
        let mut bytes = [0; 15];
        bytes[..2].copy_from_slice(&self.worker.0.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.slot.0.to_be_bytes());
        bytes[6..].copy_from_slice(&self.nonce);
        let mut text = [0; Self::TEXT_LEN];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("15 bytes are exactly 20 characters");
        text
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(std::str::from_utf8(&text).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A publication's id: a UUID of version 7 (RFC 9562, section 5.7), so ids of one worker sort by time.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct MessageId {
    high: u64,
    // Not one u128: that would align, and so pad, whatever holds an id.
    low: u64,
}

impl MessageId {
    /// Length of the textual form.
    pub const TEXT_LEN: usize = 36;

    /// The id with these bits, which a peer chose.
    pub fn from_bits(bits: u128) -> Self {
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// A UUID of version 4 (RFC 9562, section 5.4), from random bits.
    pub fn from_random(bits: u128) -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        Self::from_bits(bits & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62)
    }

    /// When it was made, in Unix milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.high >> 16
    }

    /// Parses the textual form, in either case; `None` if `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; Self::TEXT_LEN] = text.as_bytes().try_into().ok()?;
        let mut value: u128 = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                (byte == b'-').then_some(())?;
            } else {
                value = value << 4 | u128::from(char::from(byte).to_digit(16)?);
            }
        }
        Some(Self { high: (value >> 64) as u64, low: value as u64 })
    }

    /// The textual form: lower-case hexadecimal in the five groups of RFC 9562, section 4.
    pub fn text(&self) -> [u8; Self::TEXT_LEN] {
        let digits =
            [self.high >> 32, self.high, self.low >> 32, self.low].map(|word| hexadecimal(word as u32));
        let mut text = [b'-'; Self::TEXT_LEN];
        text[..8].copy_from_slice(&digits[0]);
        text[9..13].copy_from_slice(&digits[1][..4]);
        text[14..18].copy_from_slice(&digits[1][4..]);
        text[19..23].copy_from_slice(&digits[2][..4]);
        text[24..28].copy_from_slice(&digits[2][4..]);
        text[28..].copy_from_slice(&digits[3]);
        text
    }
}

/// The digits of a number, all eight at once: each gets a byte of a word, and those above nine are moved on
/// to the letters.
fn hexadecimal(number: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (digits + 6 * EACH) >> 4 & EACH;
    (digits + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("hexadecimal is ASCII"))
    }
}

/// Makes session nonces and message ids. One per worker, seeded from the operating system's entropy by the
/// shell.
///
/// The generator is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): ids are names, not secrets.
#[derive(Debug)]
pub struct IdGenerator {
    state: u64,
    last_ms: u64,
    counter: u16,
}

impl IdGenerator {
    /// Starts from `seed`; two workers must not share one.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, last_ms: 0, counter: 0 }
    }

    /// 64 random bits.
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn nonce(&mut self) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[..8].copy_from_slice(&self.random().to_le_bytes());
        nonce[8] = self.random().to_le_bytes()[0];
        nonce
    }

    /// The next message id at `now_ms` (Unix milliseconds). Ids never go back: 12 bits count within a
    /// millisecond, and the time is carried forward when they overflow or the clock steps back (RFC 9562,
    /// section 6.2, method 1).
    pub fn message_id(&mut self, now_ms: u64) -> MessageId {
        if now_ms > self.last_ms {
            self.last_ms = now_ms;
            self.counter = 0;
        } else if self.counter == 0xfff {
            self.last_ms += 1;
            self.counter = 0;
        } else {
            self.counter += 1;
        }
        let high = (self.last_ms & 0xffff_ffff_ffff) << 16 | 0x7000 | u64::from(self.counter);
        let low = self.random() >> 2 | 1 << 63;
        MessageId { high, low }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_survives_its_textual_form() {
        let id = SessionId::new(WorkerId(3), SessionSlot(0x01020304), *b"nonce-123");
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(id.to_string().len(), SessionId::TEXT_LEN);
    }

    #[test]
    fn text_that_is_no_session_id_is_refused() {
        for text in ["", "short", "AAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAA!A"] {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn message_ids_rise_even_when_the_clock_stands_or_steps_back() {
        let mut ids = IdGenerator::new(7);
        let mut last = ids.message_id(1_000);
        for now_ms in std::iter::repeat_n(1_000, 10_000).chain([999, 5, 1_001]) {
            let next = ids.message_id(now_ms);
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn message_id_has_the_shape_of_a_version_7_uuid() {
        let text = IdGenerator::new(1).message_id(0x0123_4567_89ab).to_string();
        assert!(text.starts_with("01234567-89ab-7"), "{text}");
        assert!(matches!(text.as_bytes()[19], b'8'..=b'9' | b'a'..=b'b'), "{text}");
        assert_eq!(text.bytes().filter(|&b| b == b'-').count(), 4);
    }

    #[test]
    fn message_id_is_written_as_the_formatter_does_it() {
        let mut ids = IdGenerator::new(1);
        let words = |seed: u64| MessageId { high: seed, low: seed.rotate_left(20) ^ 0x0123_4567_89ab_cdef };
        for id in (0..1000).map(|_| words(ids.random())).chain([words(0), words(u64::MAX)]) {
            let text = format!("{:016x}{:016x}", id.high, id.low);
            let groups = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
            assert_eq!(id.to_string(), groups.join("-"));
        }
    }

    #[test]
    fn message_id_survives_its_textual_form_and_knows_its_time() {
        let id = IdGenerator::new(1).message_id(0x0123_4567_89ab);
        assert_eq!(MessageId::parse(&id.to_string()), Some(id));
        assert_eq!(MessageId::parse(&id.to_string().to_uppercase()), Some(id));
        assert_eq!(id.time_ms(), 0x0123_4567_89ab);
        for text in ["", "0123", &id.to_string().replace('-', "0"), &id.to_string().replace('7', "g")] {
            assert_eq!(MessageId::parse(text), None, "{text:?}");
        }
    }
}
