//! Signatures of Channelstream's back ends from any text: nothing panics, and nothing is valid that was not
//! signed.

#![no_main]

use fanfare_core::dialect::channelstream::{Ageing, ConnId, Verifier, is_callback};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_700_000_000;

fuzz_target!(|text: &str| {
    let verifier = Verifier::new("secret");
    let signed = verifier.sign(text, NOW);
    assert!(verifier.verify(&signed, NOW + 60, Ageing::MINUTE) == (signed.len() <= 4096));
    assert!(!verifier.verify(&signed, NOW + 61, Ageing::MINUTE));
    // Who does not know the secret has one chance in 2^160.
    assert!(!Verifier::new("another").verify(text, NOW, Ageing::Ignored));
    if let Some(conn) = ConnId::parse(text) {
        assert_eq!(ConnId::parse(&conn.to_string()), Some(conn));
    }
    assert!(
        !is_callback(text) || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
    );
});
