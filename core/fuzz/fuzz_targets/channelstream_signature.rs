//! Signatures of Channelstream's back ends from arbitrary text. The target asserts: nothing panics, and a
//! text that the secret did not sign is not valid.

#![no_main]

use fanfare_core::dialect::channelstream::{Ageing, ConnId, Verifier, is_callback};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_700_000_000;

fuzz_target!(|text: &str| {
    let verifier = Verifier::new("secret");
    let signed = verifier.sign(text, NOW);
    assert!(verifier.verify(&signed, NOW + 60, Ageing::MINUTE) == (signed.len() <= 4096));
    assert!(!verifier.verify(&signed, NOW + 61, Ageing::MINUTE));
    // A signature with another secret is valid with a chance of 1 in 2^160.
    assert!(!Verifier::new("another").verify(text, NOW, Ageing::Ignored));
    if let Some(conn) = ConnId::parse(text) {
        assert_eq!(ConnId::parse(&conn.to_string()), Some(conn));
    }
    assert!(
        !is_callback(text) || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
    );
});
