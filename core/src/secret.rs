//! Secrets that open a session: resume tickets, and what other dialects know as session or connection ids.
//!
//! A session's id is a name that everybody sees. The session's secret is 128 bits of the operating system's
//! randomness, which the shell hands in. This module does not read entropy and does not store secrets.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// 128 random bits, shown as 22 characters of base64url.
///
/// Secrets are looked up in a hash table with a random seed, so the time of a look-up shows nothing about the
/// secrets in the table. `Debug` shows no bit of a secret.
#[derive(Copy, Clone, Eq, PartialEq, Hash)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Length of the textual form.
    pub const TEXT_LEN: usize = 22;

    /// A secret of these bits, which come from the operating system's randomness.
    pub fn new(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// Parses the textual form; `None` if `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (decoded == bytes.len()).then_some(Self(bytes))
    }

    /// The textual form.
    pub fn text(&self) -> [u8; Self::TEXT_LEN] {
        let mut text = [0; Self::TEXT_LEN];
        URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).expect("16 bytes are exactly 22 characters");
        text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_survives_its_textual_form_and_debug_hides_it() {
        let secret = Secret::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let text = secret.text();
        let text = std::str::from_utf8(&text).expect("base64 is ASCII");
        assert_eq!(Secret::parse(text), Some(secret));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn text_that_is_no_secret_is_refused() {
        for text in ["", "short", "AAAAAAAAAAAAAAAAAAAAA!", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAA"]
        {
            assert_eq!(Secret::parse(text), None, "{text:?}");
        }
        // The last character holds four bits that a secret does not have; they must be zero.
        assert_eq!(Secret::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
    }
}
