//! Signatures of back ends, as the class `TimestampSigner` of the Python package itsdangerous makes them by
//! default.
//!
//! ```text
//!   key   = SHA-1("itsdangerous.Signer" "signer" secret)
//!   token = value "." time "." base64url(HMAC-SHA-1(key, value "." time))
//! ```
//!
//! The server does not look at the signed value, as in the original. The caller passes the time.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};

/// The most bytes of a token.
const TOKEN_BYTES: usize = 4096;
/// Bytes of an HMAC with SHA-1.
const MAC_BYTES: usize = 20;

/// Whether the age of a signature counts.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Ageing {
    /// A signature is valid for so many seconds after its time. A signature whose time is in the future is
    /// valid.
    Seconds(u64),
    /// A signature is valid for ever. Old releases of itsdangerous count a signature's seconds from 2011, so
    /// its age says nothing.
    Ignored,
}

/// Verifies the signatures of one secret.
#[derive(Clone)]
pub struct Verifier {
    mac: Hmac<Sha1>,
}

impl Ageing {
    /// The age limit of a back end's signature.
    pub const MINUTE: Self = Self::Seconds(60);
}

impl Verifier {
    /// The verifier of `secret`.
    pub fn new(secret: &str) -> Self {
        let mut digest = Sha1::new();
        for part in ["itsdangerous.Signer", "signer", secret] {
            digest.update(part.as_bytes());
        }
        let mac = Hmac::new_from_slice(&digest.finalize()).expect("a key of any length will do");
        Self { mac }
    }

    /// Whether `token` is signed with the secret, and not too old at `now_s`. The comparison takes the same
    /// time for every wrong signature.
    pub fn verify(&self, token: &str, now_s: u64, ageing: Ageing) -> bool {
        if token.len() > TOKEN_BYTES {
            return false;
        }
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let Some(signature) = decode::<MAC_BYTES>(signature).filter(|bytes| bytes.len() == MAC_BYTES) else {
            return false;
        };
        let mac = self.mac.clone().chain_update(signed.as_bytes());
        if mac.verify_slice(&signature).is_err() {
            return false;
        }
        let Some(signed_s) = signed.rsplit_once('.').and_then(|(_, time)| seconds(time)) else {
            return false;
        };
        match ageing {
            Ageing::Seconds(most) => now_s.saturating_sub(signed_s) <= most,
            Ageing::Ignored => true,
        }
    }

    /// Signs a value with the time `now_s`.
    pub fn sign(&self, value: &str, now_s: u64) -> String {
        let time = now_s.to_be_bytes();
        let time = &time[time.iter().take_while(|byte| **byte == 0).count()..];
        let signed = format!("{value}.{}", URL_SAFE_NO_PAD.encode(time));
        let mac = self.mac.clone().chain_update(signed.as_bytes()).finalize();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// Reads the seconds of a time, which are big-endian bytes in base64.
fn seconds(text: &str) -> Option<u64> {
    let bytes = decode::<8>(text)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Decodes base64 as leniently as Python does: both alphabets, no error for other bytes, padding anywhere.
/// `None` if the result has more than `N` bytes, or if a single letter is left over.
fn decode<const N: usize>(text: &str) -> Option<arrayvec::ArrayVec<u8, N>> {
    let mut out = arrayvec::ArrayVec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.try_push((bits >> held) as u8).ok()?;
            bits &= (1 << held) - 1;
        }
    }
    (held < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const GOOD: &str = "channelstream.ZVPxAA.UB9ITnnv9UITu0ka92WJCn1VFsQ";

    fn is_valid_at(token: &str, now_s: u64) -> bool {
        Verifier::new("secret").verify(token, now_s, Ageing::MINUTE)
    }

    #[test]
    fn what_is_signed_here_is_valid_anywhere() {
        assert_eq!(Verifier::new("secret").sign("channelstream", NOW), GOOD);
    }

    #[test]
    fn signatures_of_both_signers_are_valid() {
        assert!(is_valid_at(GOOD, NOW));
        assert!(
            is_valid_at("channelstream.ZVPxAA=.UnambZyUHmgFmelQMUgVo1LT02M", NOW),
            "the JavaScript signer"
        );
        let leftover = "channelstream.ZVPyWA=._Z8/tOquKJG-sIu+f7L+D7+vMqw";
        assert!(is_valid_at(leftover, NOW + 344), "characters of both alphabets");
        let padded = "channelstream.ZVPxAA.UB9ITnnv9UITu0ka92WJCn1VFsQ=";
        assert!(is_valid_at(padded, NOW), "padding is ignored");
        assert!(is_valid_at(GOOD, 0), "a signature of the future");
    }

    #[test]
    fn a_signature_is_valid_for_a_minute() {
        assert!(is_valid_at(GOOD, NOW + 60));
        assert!(!is_valid_at(GOOD, NOW + 61));
        let verifier = Verifier::new("secret");
        assert!(verifier.verify(GOOD, NOW + 1_000_000, Ageing::Ignored));
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("{}{GOOD}", "x".repeat(TOKEN_BYTES));
        let wrong = [
            "",
            ".",
            "..",
            "channelstream",
            "channelstream.ZVPxAA",
            "channelstream.ZVPxAA.",
            "channelstream.ZVPxAB.UB9ITnnv9UITu0ka92WJCn1VFsQ",
            "Channelstream.ZVPxAA.UB9ITnnv9UITu0ka92WJCn1VFsQ",
            "channelstream.ZVPxAA.UB9ITnnv9UITu0ka92WJCn1VFtQ",
            "channelstream.ZVPxAA.UB9ITnnv9UITu0ka92WJCn1VFs",
            "channelstream.ZVPxAA.AAAAUB9ITnnv9UITu0ka92WJCn1VFsQ",
            "channelstream..UB9ITnnv9UITu0ka92WJCn1VFsQ",
            &long,
        ];
        for token in wrong {
            assert!(!is_valid_at(token, NOW), "{token:?}");
        }
        assert!(!Verifier::new("other").verify(GOOD, NOW, Ageing::MINUTE));
    }
}
