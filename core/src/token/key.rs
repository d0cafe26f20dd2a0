//! The keys that session tokens are signed with: what a configuration gives, checked once at start-up.
//!
//! A [`SessionKey`] is bound to one algorithm for life, and its material is checked to fit that algorithm.
//! That is what makes algorithm confusion impossible later: no header of a token can turn a public key into a
//! secret.

use std::fmt;

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{self as jwt, DecodingKey, DecodingKeyKind};

/// RSA moduli shorter than this are refused (RFC 7518, section 3.3).
const RSA_MODULUS_BYTES_MIN: usize = 2048 / 8;

/// The length of an Ed25519 public key (RFC 8032).
const ED25519_KEY_BYTES: usize = 32;

/// The signature algorithms accepted in session tokens (RFC 7518, section 3.1; RFC 8037).
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA with Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, in the order the documentation lists them.
    pub const ALL: [Algorithm; 6] =
        [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name, as it stands in a token's `alg` header and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that exact name, if it is one that is accepted. `none` is not.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The length below which a secret is refused, in bytes: the length of the hash (RFC 7518, section 3.2).
    /// `None` for the algorithms that verify with a public key.
    pub fn secret_bytes_min(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            Self::Rs256 | Self::Es256 | Self::EdDsa => None,
        }
    }

    fn library(self) -> jwt::Algorithm {
        match self {
            Self::Hs256 => jwt::Algorithm::HS256,
            Self::Hs384 => jwt::Algorithm::HS384,
            Self::Hs512 => jwt::Algorithm::HS512,
            Self::Rs256 => jwt::Algorithm::RS256,
            Self::Es256 => jwt::Algorithm::ES256,
            Self::EdDsa => jwt::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a session key is made from.
#[derive(Copy, Clone)]
pub enum KeyMaterial<'a> {
    /// The secret of HS256, HS384 and HS512, shared with whoever signs.
    Secret(&'a [u8]),
    /// The public key of RS256, ES256 and EdDSA: PEM, `PUBLIC KEY` (or `RSA PUBLIC KEY`).
    PublicPem(&'a str),
}

/// One key that signs an app's session tokens, bound to its algorithm.
#[derive(Clone)]
pub struct SessionKey {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    key: DecodingKey,
}

impl SessionKey {
    /// Checks the material and binds it to `algorithm`.
    pub fn new(
        algorithm: Algorithm,
        kid: Option<&str>,
        material: KeyMaterial<'_>,
    ) -> Result<SessionKey, SessionKeyError> {
        let key = match (algorithm.secret_bytes_min(), material) {
            (Some(needed), KeyMaterial::Secret(secret)) => secret_key(secret, needed)?,
            (None, KeyMaterial::PublicPem(pem)) => public_key(algorithm, pem)?,
            (Some(_), KeyMaterial::PublicPem(_)) => return Err(SessionKeyError::SecretNeeded),
            (None, KeyMaterial::Secret(_)) => return Err(SessionKeyError::PublicKeyNeeded),
        };
        Ok(SessionKey { algorithm, kid: kid.map(Box::from), key })
    }

    /// A key that was checked to fit `algorithm`.
    pub(super) fn of_checked(algorithm: Algorithm, kid: Option<&str>, key: DecodingKey) -> SessionKey {
        SessionKey { algorithm, kid: kid.map(Box::from), key }
    }

    /// The one algorithm this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's id: tokens that name another one in `kid` are not for this key.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.library(), &self.key)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Why key material was refused. Every sentence completes "the key …".
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum SessionKeyError {
    /// An HMAC algorithm was given a public key.
    SecretNeeded,
    /// A public-key algorithm was given a secret.
    PublicKeyNeeded,
    /// The secret has fewer bytes than its hash.
    ShortSecret {
        /// How many bytes the algorithm needs.
        needed: usize,
    },
    /// The secret is a PEM text: whoever configured it meant a public-key algorithm, and a public "secret"
    /// would let anyone sign.
    SecretIsPem,
    /// The PEM is not a public key, but a private key or a certificate.
    NotPublic,
    /// The PEM is unreadable, or a key of another algorithm.
    WrongKey {
        /// What the algorithm needs.
        needed: &'static str,
    },
    /// The RSA modulus has fewer than 2048 bits.
    ShortModulus,
}

impl fmt::Display for SessionKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretNeeded => f.write_str("must be a secret, because this algorithm is an HMAC"),
            Self::PublicKeyNeeded => {
                f.write_str("must be a public key in PEM, because this algorithm verifies with one")
            }
            Self::ShortSecret { needed } => {
                write!(f, "must be a secret of at least {needed} bytes for this algorithm")
            }
            Self::SecretIsPem => {
                f.write_str("is a PEM text where a secret belongs: name the algorithm of that key instead")
            }
            Self::NotPublic => f.write_str(
                "must be a `PUBLIC KEY` in PEM, not a private key, a certificate or several of them",
            ),
            Self::WrongKey { needed } => write!(f, "must be {needed} in PEM for this algorithm"),
            Self::ShortModulus => f.write_str("must be an RSA key of at least 2048 bits"),
        }
    }
}

impl std::error::Error for SessionKeyError {}

fn secret_key(secret: &[u8], needed: usize) -> Result<DecodingKey, SessionKeyError> {
    if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(SessionKeyError::SecretIsPem);
    }
    if secret.len() < needed {
        return Err(SessionKeyError::ShortSecret { needed });
    }
    Ok(DecodingKey::from_secret(secret))
}

fn public_key(algorithm: Algorithm, pem: &str) -> Result<DecodingKey, SessionKeyError> {
    let pem = pem.trim();
    let labelled = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"];
    // The library would take the first of several keys, and would take a certificate's first bit string for a
    // key.
    if pem.contains("-----BEGIN")
        && (pem.matches("-----BEGIN").count() > 1 || !labelled.iter().any(|label| pem.starts_with(label)))
    {
        return Err(SessionKeyError::NotPublic);
    }
    match algorithm {
        Algorithm::Rs256 => rsa_key(pem),
        Algorithm::Es256 => ec_key(pem),
        _ => ed_key(pem),
    }
}

fn rsa_key(pem: &str) -> Result<DecodingKey, SessionKeyError> {
    let wrong = SessionKeyError::WrongKey { needed: "an RSA public key" };
    // An `RSA PUBLIC KEY` is PKCS #1, which the library passes on unread: parsing its numbers here is the
    // check, and without it a damaged key would only show as signatures that never verify.
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| wrong)?;
    if key.family() != jwt::AlgorithmFamily::Rsa {
        return Err(wrong);
    }
    checked_rsa(key)
}

fn ec_key(pem: &str) -> Result<DecodingKey, SessionKeyError> {
    let wrong = SessionKeyError::WrongKey { needed: "a P-256 public key" };
    checked_ec(DecodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| wrong)?)
}

fn ed_key(pem: &str) -> Result<DecodingKey, SessionKeyError> {
    let wrong = SessionKeyError::WrongKey { needed: "an Ed25519 public key" };
    checked_ed(DecodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| wrong)?)
}

/// The key, if it is a whole RSA key of enough bits.
pub(super) fn checked_rsa(key: DecodingKey) -> Result<DecodingKey, SessionKeyError> {
    let wrong = SessionKeyError::WrongKey { needed: "an RSA public key" };
    let modulus = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.clone(),
        DecodingKeyKind::SecretOrDer(der) => {
            let parts = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der);
            parts.map_err(|_| wrong)?.0
        }
    };
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    if modulus.len() - zeros < RSA_MODULUS_BYTES_MIN {
        return Err(SessionKeyError::ShortModulus);
    }
    verifiable(Algorithm::Rs256, key).ok_or(wrong)
}

/// The key, if it is a point of P-256.
pub(super) fn checked_ec(key: DecodingKey) -> Result<DecodingKey, SessionKeyError> {
    let wrong = SessionKeyError::WrongKey { needed: "a P-256 public key" };
    verifiable(Algorithm::Es256, key).ok_or(wrong)
}

/// The key, if it is a whole Ed25519 key.
pub(super) fn checked_ed(key: DecodingKey) -> Result<DecodingKey, SessionKeyError> {
    let wrong = SessionKeyError::WrongKey { needed: "an Ed25519 public key" };
    // The library slices the first 32 bytes unchecked when it verifies, so a shorter key must not come that
    // far.
    if !key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == ED25519_KEY_BYTES) {
        return Err(wrong);
    }
    verifiable(Algorithm::EdDsa, key).ok_or(wrong)
}

fn verifiable(algorithm: Algorithm, key: DecodingKey) -> Option<DecodingKey> {
    let can_verify = (DEFAULT_PROVIDER.verifier_factory)(&algorithm.library(), &key).is_ok();
    can_verify.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../tests/keys/rs256.public.pem");
    const RSA_PRIVATE: &str = include_str!("../../tests/keys/rs256.private.pem");
    const RSA_SHORT: &str = include_str!("../../tests/keys/rsa1024.public.pem");
    const P256: &str = include_str!("../../tests/keys/es256.public.pem");
    const P384: &str = include_str!("../../tests/keys/p384.public.pem");
    const ED25519: &str = include_str!("../../tests/keys/eddsa.public.pem");

    fn refusal(algorithm: Algorithm, material: KeyMaterial<'_>) -> SessionKeyError {
        SessionKey::new(algorithm, None, material).expect_err("the material must be refused")
    }

    #[test]
    fn names_are_exact_and_none_is_not_an_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        for name in ["none", "None", "hs256", "RS512", "ES384", "PS256", "", "HS256 "] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn material_of_the_other_kind_is_refused() {
        let secret = KeyMaterial::Secret(&[7; 64]);
        assert_eq!(refusal(Algorithm::Rs256, secret), SessionKeyError::PublicKeyNeeded);
        assert_eq!(refusal(Algorithm::Hs256, KeyMaterial::PublicPem(RSA)), SessionKeyError::SecretNeeded);
        assert_eq!(
            refusal(Algorithm::Hs256, KeyMaterial::Secret(RSA.as_bytes())),
            SessionKeyError::SecretIsPem
        );
    }

    #[test]
    fn public_keys_of_another_algorithm_are_refused() {
        let own = [(Algorithm::Rs256, RSA), (Algorithm::Es256, P256), (Algorithm::EdDsa, ED25519)];
        for (algorithm, _) in own {
            for (owner, pem) in own {
                let key = SessionKey::new(algorithm, None, KeyMaterial::PublicPem(pem));
                assert_eq!(key.is_ok(), algorithm == owner, "{algorithm} with the key of {owner}");
            }
        }
        let p384 = refusal(Algorithm::Es256, KeyMaterial::PublicPem(P384));
        assert_eq!(p384, SessionKeyError::WrongKey { needed: "a P-256 public key" });
    }

    #[test]
    fn weak_private_and_damaged_keys_are_refused() {
        let short = KeyMaterial::Secret(&[7; 63]);
        assert_eq!(refusal(Algorithm::Hs512, short), SessionKeyError::ShortSecret { needed: 64 });
        assert_eq!(
            refusal(Algorithm::Rs256, KeyMaterial::PublicPem(RSA_SHORT)),
            SessionKeyError::ShortModulus
        );
        assert_eq!(
            refusal(Algorithm::Rs256, KeyMaterial::PublicPem(RSA_PRIVATE)),
            SessionKeyError::NotPublic
        );
        let two = format!("{RSA}{RSA}");
        assert_eq!(refusal(Algorithm::Rs256, KeyMaterial::PublicPem(&two)), SessionKeyError::NotPublic);
        let certificate = RSA.replace("PUBLIC KEY", "CERTIFICATE");
        assert_eq!(
            refusal(Algorithm::Rs256, KeyMaterial::PublicPem(&certificate)),
            SessionKeyError::NotPublic
        );
        for damaged in ["", "no pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
                let error = refusal(algorithm, KeyMaterial::PublicPem(damaged));
                assert!(
                    matches!(error, SessionKeyError::WrongKey { .. }),
                    "{algorithm} {damaged:?}: {error}"
                );
            }
        }
        // An Ed25519 identifier with a key of two bytes: well-formed, and too short to slice.
        let stub = "-----BEGIN PUBLIC KEY-----\nMAwwBQYDK2VwAwMAAQI=\n-----END PUBLIC KEY-----";
        let error = refusal(Algorithm::EdDsa, KeyMaterial::PublicPem(stub));
        assert_eq!(error, SessionKeyError::WrongKey { needed: "an Ed25519 public key" });
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SessionKey::new(Algorithm::Hs256, Some("k1"), KeyMaterial::Secret(&[b'z'; 32]));
        let shown = format!("{:?}", key.expect("32 bytes are enough"));
        assert_eq!(shown, r#"SessionKey { algorithm: Hs256, kid: Some("k1"), .. }"#);
    }
}
