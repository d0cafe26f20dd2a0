use base64::{Engine as _, engine::general_purpose};
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use serde_json::{Value, json};

use super::*;

const RSA: &str = include_str!("../../../tests/keys/rs256.public.pem");
const RSA_SHORT: &str = include_str!("../../../tests/keys/rsa1024.public.pem");
const P256: &str = include_str!("../../../tests/keys/es256.public.pem");
const ED25519: &str = include_str!("../../../tests/keys/eddsa.public.pem");

fn base64url(bytes: &[u8]) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    general_purpose::STANDARD.decode(body).expect("PEM is base64")
}

fn rsa(pem: &str) -> Value {
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).expect("an RSA key");
    let bytes = key.try_get_as_bytes().expect("it has bytes");
    let (n, e) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(bytes).expect("its parts");
    json!({"kty": "RSA", "n": base64url(&n), "e": base64url(&e)})
}

fn ec() -> Value {
    let der = der(P256);
    let (x, y) = der[der.len() - 64..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
}

fn ed() -> Value {
    let der = der(ED25519);
    json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&der[der.len() - 32..])})
}

/// The key with these further members.
fn with(key: &Value, members: Value) -> Value {
    let (mut key, Value::Object(members)) = (key.clone(), members) else { panic!("members are an object") };
    members.into_iter().for_each(|(name, value)| key[name] = value);
    key
}

fn parse(keys: &[Value]) -> Result<Jwks, JwksError> {
    Jwks::parse(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn keys_have_the_algorithm_of_their_type() {
    let keys = [with(&rsa(RSA), json!({"kid": "a", "use": "sig", "alg": "RS256"})), ec(), ed()];
    let read = parse(&keys).expect("all can be used");
    let algorithms: Vec<Algorithm> = read.keys.iter().map(SessionKey::algorithm).collect();
    assert_eq!(algorithms, [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa]);
    assert_eq!((read.keys[0].kid(), read.keys[1].kid()), (Some("a"), None));
    assert!(read.skipped.is_empty());
}

#[test]
fn keys_that_sign_no_session_token_are_skipped_and_told() {
    let skipped = [
        (with(&rsa(RSA), json!({"use": "enc"})), "is not for signatures"),
        (with(&rsa(RSA), json!({"key_ops": ["encrypt"]})), "does not verify"),
        (with(&rsa(RSA), json!({"alg": "RS512"})), "an algorithm that no session token uses"),
        (with(&rsa(RSA), json!({"alg": "HS256"})), "an algorithm that no session token uses"),
        (with(&rsa(RSA), json!({"kid": ""})), "`kid`"),
        (with(&rsa(RSA), json!({"n": 5})), "is not a JSON Web Key"),
        (with(&rsa(RSA), json!({"n": "%"})), "not base64url"),
        (with(&rsa(RSA), json!({"e": null})), "lacks"),
        (rsa(RSA_SHORT), "2048"),
        (with(&ec(), json!({"crv": "P-384"})), "a curve"),
        (with(&ec(), json!({"y": ec()["x"]})), "not a valid public key"),
        (with(&ed(), json!({"x": "AQID"})), "not a valid public key"),
        (json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), "secret"),
        (json!([]), "is not a JSON Web Key"),
        (json!("key"), "is not a JSON Web Key"),
    ];
    for (key, why) in skipped {
        let read = parse(&[key.clone(), ed()]).expect("the other key can be used");
        assert_eq!(read.keys.len(), 1, "{key}");
        assert!(read.skipped[0].starts_with("key 0 ") && read.skipped[0].contains(why), "{:?}", read.skipped);
        assert_eq!(parse(&[key]).expect_err("no key is left"), JwksError::Nothing);
    }
}

#[test]
fn two_keys_of_one_name_refuse_the_document() {
    let named = |key: &Value, word: &str| with(key, json!({"kid": "same", "use": word}));
    let refused = parse(&[named(&rsa(RSA), "sig"), named(&ec(), "sig")]).expect_err("the names are equal");
    assert_eq!(refused, JwksError::Duplicate("same".into()));
    assert_eq!(refused.to_string(), "has two keys with the `kid` \"same\", so a token could mean either");
    // A key that is skipped takes no name, and keys without a name are different keys.
    let read =
        parse(&[named(&rsa(RSA), "enc"), named(&ec(), "sig"), ed(), rsa(RSA)]).expect("no name is twice");
    assert_eq!((read.keys.len(), read.skipped.len()), (3, 1));
}

#[test]
fn what_is_no_document_is_refused() {
    for text in
        ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":"a"}"#, "<html>", "{\"keys\":[}", "\u{0}"]
    {
        assert_eq!(Jwks::parse(text.as_bytes()).expect_err(text), JwksError::Malformed);
    }
    let deep = format!("{{\"keys\":[{}{}]}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Jwks::parse(deep.as_bytes()).is_err());
    assert_eq!(Jwks::parse(b"{\"keys\":[\xff]}").expect_err("not UTF-8"), JwksError::Malformed);
    assert_eq!(parse(&[]).expect_err("no key"), JwksError::Nothing);
    let many = vec![ed(); KEYS_MAX + 1];
    assert_eq!(parse(&many).expect_err("too many"), JwksError::TooMany);
    assert_eq!(parse(&many[1..]).expect("as many as may be").keys.len(), KEYS_MAX);
}
