//! Tokens are signed here by the library's encoder or, where it would refuse to write what an attacker would,
//! by hand.

use jsonwebtoken::{self as jwt, EncodingKey};
use proptest::prelude::{any, proptest};
use serde_json::{Value, json};

use super::*;

const RSA_PUBLIC: &str = include_str!("../../tests/keys/rs256.public.pem");
const RSA_PRIVATE: &str = include_str!("../../tests/keys/rs256.private.pem");
const EC_PUBLIC: &str = include_str!("../../tests/keys/es256.public.pem");
const EC_PRIVATE: &str = include_str!("../../tests/keys/es256.private.pem");
const ED_PUBLIC: &str = include_str!("../../tests/keys/eddsa.public.pem");
const ED_PRIVATE: &str = include_str!("../../tests/keys/eddsa.private.pem");
const SECRET: &[u8] = b"a secret of sixty-four bytes, which is enough for every HMAC here";
const NOW: u64 = 1_750_000_000;
const LEEWAY: u64 = 5;

fn hmac_key(algorithm: Algorithm, kid: Option<&str>) -> SessionKey {
    SessionKey::new(algorithm, kid, KeyMaterial::Secret(SECRET)).expect("the secret is long enough")
}

fn public_key(algorithm: Algorithm, kid: Option<&str>, pem: &str) -> SessionKey {
    SessionKey::new(algorithm, kid, KeyMaterial::PublicPem(pem)).expect("the key fits its algorithm")
}

fn verifier(keys: Vec<SessionKey>) -> SessionVerifier {
    SessionVerifier::new(keys, LEEWAY, true)
}

fn hs256() -> SessionVerifier {
    verifier(vec![hmac_key(Algorithm::Hs256, None)])
}

/// Signs header and claims as given, whatever they say, with `algorithm` and `key`.
fn signed(header: &Value, claims: &str, algorithm: jwt::Algorithm, key: &EncodingKey) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(&header.to_string()), encode(claims));
    let signature =
        jwt::crypto::sign(message.as_bytes(), key, algorithm).expect("the test key signs anything");
    format!("{message}.{signature}")
}

fn hs256_token(claims: &str) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    signed(&header, claims, jwt::Algorithm::HS256, &EncodingKey::from_secret(SECRET))
}

fn claims_of(claims: &str) -> Result<Claims, TokenError> {
    hs256().verify(&hs256_token(claims), NOW)
}

/// Claims of user `u` with these further members.
fn with(members: &str) -> Result<Claims, TokenError> {
    claims_of(&format!(r#"{{"sub":"u","exp":{},{members}}}"#, NOW + 60))
}

#[test]
fn every_algorithm_verifies_its_own_signature() {
    let pem = |text: &'static str| text.as_bytes();
    let cases = [
        (hmac_key(Algorithm::Hs256, None), EncodingKey::from_secret(SECRET)),
        (hmac_key(Algorithm::Hs384, None), EncodingKey::from_secret(SECRET)),
        (hmac_key(Algorithm::Hs512, None), EncodingKey::from_secret(SECRET)),
        (
            public_key(Algorithm::Rs256, None, RSA_PUBLIC),
            EncodingKey::from_rsa_pem(pem(RSA_PRIVATE)).expect("an RSA key"),
        ),
        (
            public_key(Algorithm::Es256, None, EC_PUBLIC),
            EncodingKey::from_ec_pem(pem(EC_PRIVATE)).expect("an EC key"),
        ),
        (
            public_key(Algorithm::EdDsa, None, ED_PUBLIC),
            EncodingKey::from_ed_pem(pem(ED_PRIVATE)).expect("an Ed25519 key"),
        ),
    ];
    for (key, signing) in cases {
        let name = key.algorithm().name();
        let library = name.parse().expect("the library knows the algorithm");
        let claims = json!({"sub": "luke", "exp": NOW + 60});
        let token = jwt::encode(&jwt::Header::new(library), &claims, &signing).expect("the claims encode");
        let verifier = verifier(vec![key]);
        let verified = verifier.verify(&token, NOW);
        assert_eq!(verified.as_ref().map(|claims| &*claims.user), Ok("luke"), "{name}");

        let (message, signature) = token.rsplit_once('.').expect("a token has three parts");
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let tampered = format!("{message}.{first}{}", &signature[1..]);
        assert_eq!(verifier.verify(&tampered, NOW), Err(TokenError::BadSignature), "{name}");
        let unsigned = format!("{message}.");
        assert_eq!(verifier.verify(&unsigned, NOW), Err(TokenError::BadSignature), "{name}");
    }
}

#[test]
fn claims_arrive_as_they_were_sent() {
    let profile = r#"{ "b" : 1.50, "a":"\u00e9" }"#;
    let claims = with(&format!(r#""profile":{profile},"channels":["room","räume","room"],"other":[{{}}]"#));
    let claims = claims.expect("the token is valid");
    assert_eq!(&*claims.user, "u");
    assert_eq!(claims.expires_at, Some(NOW + 60 + LEEWAY));
    assert_eq!(claims.profile.as_deref(), Some(profile));
    let channels: Vec<&str> = claims.channels.iter().map(|name| &**name).collect();
    assert_eq!(channels, ["room", "räume", "room"]);
}

#[test]
fn a_null_profile_is_a_profile_null_channels_are_absent_and_a_null_date_is_invalid() {
    assert_eq!(with(r#""profile":null"#).expect("valid").profile.as_deref(), Some("null"));
    let claims = with(r#""channels":null"#).expect("valid");
    assert_eq!((claims.profile, claims.channels.len()), (None, 0));
    assert_eq!(claims_of(r#"{"sub":"u","exp":null}"#), Err(TokenError::InvalidClaim("exp")));
    assert_eq!(with(r#""nbf":null"#), Err(TokenError::InvalidClaim("nbf")));
}

#[test]
fn algorithm_none_is_refused_however_it_is_spelled() {
    for alg in ["none", "None", "NONE", "nOnE", "", "HS1"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"admin","exp":9999999999}"#);
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(hs256().verify(&token, NOW), Err(TokenError::WrongAlgorithm), "{alg}");
        }
    }
}

#[test]
fn a_public_key_never_serves_as_a_secret() {
    let attacked = [
        (Algorithm::Rs256, RSA_PUBLIC, "RS256"),
        (Algorithm::Es256, EC_PUBLIC, "ES256"),
        (Algorithm::EdDsa, ED_PUBLIC, "EdDSA"),
    ];
    for (algorithm, pem, name) in attacked {
        let verifier = verifier(vec![public_key(algorithm, Some("k"), pem)]);
        let der = DecodedPem::of(pem);
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der.0] {
            let forged = EncodingKey::from_secret(secret);
            for header in [json!({"alg": "HS256"}), json!({"alg": "HS256", "kid": "k"})] {
                let token = signed(&header, r#"{"sub":"admin"}"#, jwt::Algorithm::HS256, &forged);
                assert_eq!(verifier.verify(&token, NOW), Err(TokenError::WrongAlgorithm), "{name}");
            }
            let token = signed(&json!({"alg": name}), r#"{"sub":"admin"}"#, jwt::Algorithm::HS256, &forged);
            assert_eq!(verifier.verify(&token, NOW), Err(TokenError::BadSignature), "{name}");
        }
    }
}

/// The bytes inside a PEM.
struct DecodedPem(Vec<u8>);

impl DecodedPem {
    fn of(pem: &str) -> DecodedPem {
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
        DecodedPem(bytes.expect("a PEM holds base64"))
    }
}

#[test]
fn a_key_verifies_only_the_algorithm_it_is_bound_to() {
    let key = EncodingKey::from_secret(SECRET);
    let token = signed(&json!({"alg": "HS512"}), r#"{"sub":"u"}"#, jwt::Algorithm::HS512, &key);
    assert_eq!(hs256().verify(&token, NOW), Err(TokenError::WrongAlgorithm));
    let mislabelled = signed(&json!({"alg": "HS256"}), r#"{"sub":"u"}"#, jwt::Algorithm::HS512, &key);
    assert_eq!(hs256().verify(&mislabelled, NOW), Err(TokenError::BadSignature));
}

#[test]
fn kid_selects_among_the_keys() {
    let other = SessionKey::new(Algorithm::Hs256, Some("old"), KeyMaterial::Secret(&[9; 32]));
    let old = other.expect("32 bytes are enough");
    let named = || hmac_key(Algorithm::Hs256, Some("new"));
    let token = |kid: Option<&str>| {
        let header = match kid {
            Some(kid) => json!({"alg": "HS256", "kid": kid}),
            None => json!({"alg": "HS256"}),
        };
        let claims = format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 1);
        signed(&header, &claims, jwt::Algorithm::HS256, &EncodingKey::from_secret(SECRET))
    };
    let outcome = |keys: Vec<SessionKey>, kid| verifier(keys).verify(&token(kid), NOW).map(|_| ());
    assert_eq!(outcome(vec![old.clone(), named()], Some("new")), Ok(()));
    assert_eq!(outcome(vec![old.clone(), named()], None), Ok(()), "every key is tried");
    assert_eq!(outcome(vec![old.clone(), named()], Some("old")), Err(TokenError::BadSignature));
    assert_eq!(outcome(vec![old.clone(), named()], Some("newer")), Err(TokenError::UnknownKey));
    let nameless = hmac_key(Algorithm::Hs256, None);
    assert_eq!(outcome(vec![old, nameless], Some("newer")), Ok(()), "a key without kid takes any");
    assert_eq!(outcome(vec![], None), Err(TokenError::UnknownKey));
    let rsa = public_key(Algorithm::Rs256, Some("new"), RSA_PUBLIC);
    assert_eq!(outcome(vec![rsa], Some("new")), Err(TokenError::WrongAlgorithm));
}

#[test]
fn expiry_is_exact_to_the_second_and_allows_the_leeway() {
    let at = |exp: u64, now| hs256().verify(&hs256_token(&format!(r#"{{"sub":"u","exp":{exp}}}"#)), now);
    assert!(at(NOW, NOW + LEEWAY - 1).is_ok());
    assert_eq!(at(NOW, NOW + LEEWAY), Err(TokenError::Expired));
    assert_eq!(at(NOW, u64::MAX), Err(TokenError::Expired));
    let end = at(NOW, NOW).expect("valid").expires_at.expect("it has exp");
    assert!(at(NOW, end - 1).is_ok());
    assert_eq!(at(NOW, end), Err(TokenError::Expired), "expires_at is the first second too late");
}

#[test]
fn not_before_allows_the_leeway() {
    let with_nbf = |nbf: &str| with(&format!(r#""nbf":{nbf}"#)).map(|_| ());
    assert_eq!(with_nbf(&(NOW + LEEWAY).to_string()), Ok(()));
    assert_eq!(with_nbf(&(NOW + LEEWAY + 1).to_string()), Err(TokenError::NotYetValid));
    assert_eq!(with_nbf(&format!("{}.5", NOW + LEEWAY)), Err(TokenError::NotYetValid));
    assert_eq!(with_nbf("-1"), Ok(()));
    assert_eq!(with_nbf("1e400"), Err(TokenError::InvalidClaim("nbf")));
}

#[test]
fn dates_may_be_fractional_or_negative_and_must_be_exact_in_a_double() {
    let end = |exp: &str| claims_of(&format!(r#"{{"sub":"u","exp":{exp}}}"#)).map(|claims| claims.expires_at);
    assert_eq!(end(&format!("{NOW}.25")), Ok(Some(NOW + 1 + LEEWAY)));
    assert_eq!(end("1.75e9"), Ok(Some(1_750_000_000 + LEEWAY)));
    assert_eq!(end(&DATE_MAX.to_string()), Ok(Some(DATE_MAX + LEEWAY)));
    for huge in
        [&*(DATE_MAX + 1).to_string(), "18446744073709551615", "18446744073709551616", "1e40", "1e400"]
    {
        assert_eq!(end(huge), Err(TokenError::InvalidClaim("exp")), "{huge}");
    }
    for past in ["-1", "-0.5", "-1e400", "0", "-9223372036854775809"] {
        assert_eq!(end(past), Err(TokenError::Expired), "{past}");
    }
    for invalid in [r#""9999999999""#, "true", "[]", "{}"] {
        assert_eq!(end(invalid), Err(TokenError::InvalidClaim("exp")), "{invalid}");
    }
}

#[test]
fn exp_may_be_optional() {
    let verifier = SessionVerifier::new(vec![hmac_key(Algorithm::Hs256, None)], LEEWAY, false);
    let claims = verifier.verify(&hs256_token(r#"{"sub":"u"}"#), NOW).expect("valid without exp");
    assert_eq!(claims.expires_at, None);
    assert_eq!(claims_of(r#"{"sub":"u"}"#), Err(TokenError::MissingClaim("exp")));
}

#[test]
fn the_user_is_bounded() {
    let sub = |sub: &str| claims_of(&format!(r#"{{"sub":{sub},"exp":{}}}"#, NOW + 1)).map(|_| ());
    assert_eq!(sub("null"), Err(TokenError::MissingClaim("sub")));
    assert_eq!(claims_of(&format!(r#"{{"exp":{}}}"#, NOW + 1)), Err(TokenError::MissingClaim("sub")));
    assert_eq!(sub(&format!("\"{}\"", "u".repeat(256))), Ok(()));
    let too_long = format!("\"{}\"", "u".repeat(257));
    for invalid in [r#""""#, "7", r#"["u"]"#, too_long.as_str()] {
        assert_eq!(sub(invalid), Err(TokenError::InvalidClaim("sub")), "{invalid}");
    }
}

#[test]
fn channels_and_profile_are_bounded() {
    let names = |count: usize| json!(vec!["c"; count]).to_string();
    assert!(with(&format!(r#""channels":{}"#, names(128))).is_ok());
    let too_long = json!(["c".repeat(257)]).to_string();
    for invalid in [&names(129), &too_long, r#""c""#, r#"[""]"#, "[1]", "{}"] {
        let refused = with(&format!(r#""channels":{invalid}"#));
        assert_eq!(refused, Err(TokenError::InvalidClaim("channels")), "{invalid}");
    }
    let nested = |levels: usize| format!(r#""profile":{}{}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(with(&nested(128)).is_ok());
    assert_eq!(with(&nested(129)), Err(TokenError::InvalidClaim("profile")));
    assert!(with(&format!(r#""profile":"{}\"[""#, "[".repeat(200))).is_ok(), "brackets in strings");
}

#[test]
fn tokens_that_are_no_jwt_are_malformed() {
    let valid = hs256_token(&format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 1));
    assert!(hs256().verify(&valid, NOW).is_ok());
    let tokens = ["", ".", "..", "a.b", "a.b.c", "é.é.é", &format!("{valid}="), &format!(" {valid}")];
    for token in tokens {
        assert_eq!(hs256().verify(token, NOW), Err(TokenError::Malformed), "{token:?}");
    }
    for header in
        ["[]", "null", "{}", r#"{"alg":7}"#, r#"{"alg":"HS256","alg":"HS256"}"#, "{\"alg\":\"HS256\""]
    {
        let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        assert_eq!(hs256().verify(&token, NOW), Err(TokenError::Malformed), "{header}");
    }
    for crit in [json!(["b64"]), json!([]), Value::Null] {
        let header = json!({"alg": "HS256", "crit": crit});
        let key = EncodingKey::from_secret(SECRET);
        let token = signed(&header, r#"{"sub":"u","exp":9999999999}"#, jwt::Algorithm::HS256, &key);
        assert_eq!(hs256().verify(&token, NOW), Err(TokenError::Malformed), "{header}");
    }
    for claims in
        ["[]", r#"["u",9999999999,0,0,[]]"#, "null", "7", "{", r#"{"sub":"u","sub":"v","exp":9999999999}"#]
    {
        assert_eq!(claims_of(claims), Err(TokenError::Malformed), "{claims}");
    }
}

#[test]
fn a_long_token_is_refused_before_it_is_read() {
    let padding = "p".repeat(TOKEN_BYTES_MAX);
    let token = hs256_token(&format!(r#"{{"sub":"u","exp":9999999999,"p":"{padding}"}}"#));
    assert_eq!(hs256().verify(&token, NOW), Err(TokenError::TooLong));
    let limit = "x".repeat(TOKEN_BYTES_MAX);
    assert_eq!(hs256().verify(&limit, NOW), Err(TokenError::Malformed));
}

#[test]
fn codes_and_sentences() {
    assert_eq!(TokenError::Expired.code(), "session_expired");
    let others = [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::UnknownKey,
        TokenError::BadSignature,
        TokenError::WrongAlgorithm,
        TokenError::NotYetValid,
        TokenError::MissingClaim("sub"),
        TokenError::InvalidClaim("exp"),
    ];
    for error in others {
        assert_eq!(error.code(), "invalid_session");
        let sentence = error.to_string();
        assert!(sentence.starts_with("The session token") && sentence.ends_with('.'), "{sentence}");
        assert_eq!(sentence.matches(". ").count(), 0, "{sentence}");
    }
}

proptest! {
    #[test]
    fn nothing_a_peer_sends_panics(header in ".{0,40}", payload in ".{0,60}", text in ".{0,80}", now in any::<u64>()) {
        let verifier = hs256();
        assert!(verifier.verify(&text, now).is_err());
        let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&payload));
        assert!(verifier.verify(&token, now).is_err());
        let outcome = verifier.verify(&hs256_token(&payload), now);
        assert!(outcome.is_err(), "no random text has the claims: {outcome:?}");
    }
}

#[test]
fn every_key_that_a_signature_is_tried_with_is_counted() {
    let key = |kid| hmac_key(Algorithm::Hs256, kid);
    let verifier = SessionVerifier::new(vec![key(None), key(None), key(Some("k"))], LEEWAY, false);
    let checks = |token: &str| {
        let mut checks = 0;
        let verified = verifier.verify_counting(token, NOW, &mut checks).is_ok();
        (verified, checks)
    };
    let token = hs256_token(r#"{"sub":"u"}"#);
    assert_eq!(checks(&token), (true, 1));
    let (message, _) = token.rsplit_once('.').expect("a token has three parts");
    assert_eq!(checks(&format!("{message}.AAAA")), (false, 3));
    assert_eq!(checks("no token"), (false, 0));
}

#[test]
fn the_user_is_in_the_claim_that_is_configured() {
    let verifier = || SessionVerifier::new(vec![hmac_key(Algorithm::Hs256, None)], 0, false);
    let token = hs256_token(r#"{"sub":"by sub","envId":"e","userId":"by userId","key":"k","n":7}"#);
    let user = |verifier: SessionVerifier| verifier.verify(&token, NOW).map(|claims| claims.user.to_string());
    assert_eq!(user(verifier()).as_deref(), Ok("by sub"));
    assert_eq!(user(verifier().with_user_claim("userId")).as_deref(), Ok("by userId"));
    assert_eq!(user(verifier().with_user_claim("sub")).as_deref(), Ok("by sub"));
    assert_eq!(user(verifier().with_user_claim("uid")), Err(TokenError::MissingClaim("sub")));
    assert_eq!(user(verifier().with_user_claim("n")), Err(TokenError::InvalidClaim("sub")));
}

/// A verifier of one set with the test's Ed25519 key under this name, and the number of times it asked.
fn published(kid: &str) -> (SessionVerifier, Arc<KeySet>, Arc<std::sync::atomic::AtomicU32>) {
    let (set, asked) = (Arc::new(KeySet::default()), Arc::new(std::sync::atomic::AtomicU32::new(0)));
    let counted = asked.clone();
    set.on_unknown(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    set.replace(Arc::new([public_key(Algorithm::EdDsa, Some(kid), ED_PUBLIC)]));
    (verifier(Vec::new()).with_sets(vec![set.clone()]), set, asked)
}

fn ed_token(kid: &str) -> String {
    let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).expect("a private key");
    let claims = format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 60);
    signed(&json!({"alg": "EdDSA", "kid": kid}), &claims, jwt::Algorithm::EdDSA, &key)
}

#[test]
fn published_keys_are_replaced_for_all_verifiers_at_once() {
    let (first, set, _) = published("old");
    let second = first.clone();
    assert!(first.verify(&ed_token("old"), NOW).is_ok());
    set.replace(Arc::new([public_key(Algorithm::EdDsa, Some("new"), ED_PUBLIC)]));
    for verifier in [first, second] {
        assert!(verifier.verify(&ed_token("new"), NOW).is_ok());
        assert_eq!(verifier.verify(&ed_token("old"), NOW), Err(TokenError::UnknownKey));
    }
}

#[test]
fn an_unknown_name_asks_once_until_the_document_is_read() {
    let (verifier, set, asked) = published("known");
    let count = || asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(verifier.verify(&ed_token("known"), NOW).is_ok());
    assert_eq!(count(), 0);
    for _ in 0..100 {
        assert_eq!(verifier.verify(&ed_token("unknown"), NOW), Err(TokenError::UnknownKey));
    }
    assert_eq!(count(), 1);
    set.begin_read();
    assert!(verifier.verify(&ed_token("unknown"), NOW).is_err());
    assert_eq!(count(), 2);
}
