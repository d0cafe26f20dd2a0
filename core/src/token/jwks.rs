//! An issuer's document of keys (JSON Web Key Set, RFC 7517): from its bytes to session keys.
//!
//! A document is taken as a whole or refused with a clause. A key that is not for signatures, or that no
//! session token may be signed with, is skipped, and its skipping is told. The caller bounds the bytes.

use std::{borrow::Cow, collections::HashSet, fmt};

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{Algorithm, SessionKey, SessionKeyError, checked_ec, checked_ed, checked_rsa};

/// The most keys of a document, and the most bytes of a key's name.
const KEYS_MAX: usize = 64;
const KID_BYTES_MAX: usize = 256;

/// The usable keys of a document.
#[derive(Debug)]
pub struct Jwks {
    /// The keys that session tokens may be signed with: at least one, and no two of one name.
    pub keys: Vec<SessionKey>,
    /// A clause for each key that was skipped.
    pub skipped: Vec<String>,
}

/// Why a document was refused. Every clause follows "the document".
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum JwksError {
    /// The document is not JSON, or not an object with a list `keys`.
    Malformed,
    /// The document has more than `KEYS_MAX` keys.
    TooMany,
    /// Two keys for signatures have this name.
    Duplicate(Box<str>),
    /// No key can be used.
    Nothing,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("is not a JSON object with a list `keys` of objects"),
            Self::TooMany => write!(f, "has more than {KEYS_MAX} keys"),
            Self::Duplicate(kid) => {
                write!(f, "has two keys with the `kid` {kid:?}, so a token could mean either")
            }
            Self::Nothing => f.write_str("has no key that verifies the signature of a session token"),
        }
    }
}

impl std::error::Error for JwksError {}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// The members of a key that decide anything (RFC 7517, section 4; RFC 7518, section 6; RFC 8037).
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow, default)]
    r#use: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_ops: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    n: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    e: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    y: Option<Cow<'a, str>>,
}

impl Jwks {
    /// Reads a document.
    ///
    /// # Errors
    /// The document cannot be used as a whole.
    pub fn parse(json: &[u8]) -> Result<Jwks, JwksError> {
        let text = str::from_utf8(json).map_err(|_| JwksError::Malformed)?.trim_ascii();
        if !text.starts_with('{') {
            return Err(JwksError::Malformed);
        }
        let document: Document<'_> = serde_json::from_str(text).map_err(|_| JwksError::Malformed)?;
        if document.keys.len() > KEYS_MAX {
            return Err(JwksError::TooMany);
        }
        let (mut keys, mut skipped, mut names) = (Vec::new(), Vec::new(), HashSet::new());
        for (place, raw) in document.keys.iter().enumerate() {
            match Entry::read(raw).and_then(|entry| entry.key()) {
                Ok(key) => {
                    if let Some(kid) = key.kid()
                        && !names.insert(Box::<str>::from(kid))
                    {
                        return Err(JwksError::Duplicate(kid.into()));
                    }
                    keys.push(key);
                }
                Err(why) => skipped.push(format!("key {place} {why}")),
            }
        }
        if keys.is_empty() { Err(JwksError::Nothing) } else { Ok(Jwks { keys, skipped }) }
    }
}

impl<'a> Entry<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, String> {
        match raw.get().starts_with('{') {
            true => serde_json::from_str(raw.get()).map_err(|_| String::from("is not a JSON Web Key")),
            false => Err(String::from("is not a JSON Web Key")),
        }
    }

    /// The session key, or a clause that says why the entry is none.
    fn key(&self) -> Result<SessionKey, String> {
        if self.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return Err(format!("has a `kid` without 1 to {KID_BYTES_MAX} bytes"));
        }
        if self.r#use.as_ref().is_some_and(|word| word != "sig") {
            return Err(String::from("is not for signatures"));
        }
        if self.key_ops.as_ref().is_some_and(|words| !words.iter().any(|word| word == "verify")) {
            return Err(String::from("does not verify signatures"));
        }
        let algorithm = self.algorithm()?;
        let key = match algorithm {
            Algorithm::Rs256 => {
                checked_rsa(self.components(&self.n, &self.e, DecodingKey::from_rsa_components)?)
            }
            Algorithm::Es256 => {
                checked_ec(self.components(&self.x, &self.y, DecodingKey::from_ec_components)?)
            }
            _ => {
                let x = self.x.as_deref().ok_or("lacks the member `x`")?;
                checked_ed(
                    DecodingKey::from_ed_components(x).map_err(|_| "has an `x` that is not base64url")?,
                )
            }
        };
        let key = key.map_err(|error| match error {
            SessionKeyError::ShortModulus => "is an RSA key of fewer than 2048 bits",
            _ => "is not a valid public key of its type",
        })?;
        Ok(SessionKey::of_checked(algorithm, self.kid.as_deref(), key))
    }

    /// The one algorithm of the entry: `alg`, which must fit the type, or else the one of the type.
    fn algorithm(&self) -> Result<Algorithm, String> {
        let natural = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("oct", _) => return Err(String::from("is a secret, which has no place in a public document")),
            _ => return Err(String::from("is of a type or a curve that no session token uses")),
        };
        match self.alg.as_deref() {
            Some(alg) if alg != natural.name() => {
                Err(String::from("is for an algorithm that no session token uses"))
            }
            _ => Ok(natural),
        }
    }

    fn components(
        &self,
        first: &Option<Cow<'a, str>>,
        second: &Option<Cow<'a, str>>,
        make: fn(&str, &str) -> jsonwebtoken::errors::Result<DecodingKey>,
    ) -> Result<DecodingKey, String> {
        let (Some(first), Some(second)) = (first, second) else {
            return Err(String::from("lacks a part of the public key"));
        };
        make(first, second).map_err(|_| String::from("has a part that is not base64url"))
    }
}

#[cfg(test)]
mod tests;
