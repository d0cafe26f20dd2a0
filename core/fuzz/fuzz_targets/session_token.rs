//! Session tokens from any text: nothing panics, nothing is believed that is not signed, and what is believed
//! is what was signed, within its bounds and for exactly its time.
//!
//! Input: after a `t`, a token. Otherwise lines: header, or an empty line for the usual one; `sub`, `exp`,
//! `nbf`, `profile` and `channels`, each as JSON, or empty to leave the claim out; further members. Those are
//! signed with the app's key.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_core::token::{
    Algorithm, CLAIM_CHANNELS_MAX, CLAIM_NAME_BYTES_MAX, Claims, KeyMaterial, SessionKey, SessionVerifier,
    TokenError,
};
use jsonwebtoken::{Algorithm as Signature, EncodingKey, crypto::sign};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Small, so that dates are found that are near it.
const NOW: u64 = 100;
const LEEWAY: u64 = 5;
const SECRET: &[u8] = b"a secret of sixty-four bytes, which is enough for every HMAC here";
const OTHER: &[u8] = b"another of sixty-four bytes, which is enough for every HMAC too..";
const HEADER: &str = r#"{"alg":"HS256"}"#;
const CLAIMS: [&str; 5] = ["sub", "exp", "nbf", "profile", "channels"];

static VERIFIER: LazyLock<SessionVerifier> = LazyLock::new(|| {
    let key = |algorithm, kid, secret| {
        SessionKey::new(algorithm, kid, KeyMaterial::Secret(secret)).expect("the secret is long enough")
    };
    let keys = vec![key(Algorithm::Hs256, None, SECRET), key(Algorithm::Hs384, Some("k"), OTHER)];
    SessionVerifier::new(keys, LEEWAY, false)
});
static SIGNER: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_secret(SECRET));

fuzz_target!(|text: &str| {
    if let Some(token) = text.strip_prefix('t') {
        // Whoever does not know the secret has one chance in 2^256.
        assert!(VERIFIER.verify(token, NOW).is_err(), "an unsigned token is believed");
        return;
    }
    let mut lines = text.splitn(7, '\n');
    let header = lines.next().filter(|line| !line.is_empty()).unwrap_or(HEADER);
    let values: Vec<&str> = lines.collect();
    let mut members: Vec<String> =
        CLAIMS.iter().zip(&values).filter(|(_, value)| !value.is_empty()).map(member).collect();
    members.extend(values.get(CLAIMS.len()).filter(|rest| !rest.is_empty()).map(ToString::to_string));
    let claims = format!("{{{}}}", members.join(","));
    let token = signed(header, &claims);

    let verified = VERIFIER.verify(&token, NOW);
    if let Ok(believed) = &verified {
        check(&token, header, &claims, believed);
    }
    let sub = values.first().and_then(|sub| serde_json::from_str::<String>(sub).ok());
    if let Some(sub) = sub.filter(|sub| (1..=CLAIM_NAME_BYTES_MAX).contains(&sub.len()))
        && header == HEADER
        && values[1..].iter().all(|value| value.is_empty())
        && token.len() <= 8192
    {
        assert_eq!(verified.map(|believed| believed.user.to_string()), Ok(sub), "a good token is refused");
    }
});

fn member((name, value): (&&str, &&str)) -> String {
    format!("\"{name}\":{value}")
}

fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(message.as_bytes(), &SIGNER, Signature::HS256).expect("a secret signs anything");
    format!("{message}.{signature}")
}

/// Holds of every token that is believed at [`NOW`].
fn check(token: &str, header: &str, text: &str, believed: &Claims) {
    let name = |name: &str| (1..=CLAIM_NAME_BYTES_MAX).contains(&name.len());
    assert!(name(&believed.user), "a user without bounds");
    assert!(
        believed.channels.len() <= CLAIM_CHANNELS_MAX
            && believed.channels.iter().all(|channel| name(channel))
    );
    assert!(
        believed.profile.as_ref().is_none_or(|profile| text.contains(&**profile)),
        "a profile nobody signed"
    );
    if let Ok(header) = serde_json::from_str::<Value>(header) {
        assert!(header["alg"] == "HS256" && header.get("crit").is_none(), "{header}");
    }
    if let Ok(claims) = serde_json::from_str::<Value>(text) {
        assert_eq!(claims["sub"].as_str(), Some(&*believed.user), "not the user that was signed");
    }
    let at = |now| VERIFIER.verify(token, now);
    match believed.expires_at {
        Some(end) => {
            assert!(NOW < end, "it was over");
            assert_eq!(at(end - 1).as_ref(), Ok(believed), "it ended early");
            assert_eq!(at(end), Err(TokenError::Expired), "it ended late");
        }
        None => assert_eq!(at(u64::MAX).as_ref(), Ok(believed)),
    }
    // The first character of the signature: its bits are all of the signature's.
    let (message, signature) = token.rsplit_once('.').expect("it was signed");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{message}.{other}{}", &signature[1..]);
    assert_eq!(VERIFIER.verify(&forged, NOW), Err(TokenError::BadSignature));
}
