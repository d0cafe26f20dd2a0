//! Session tokens: from the text a peer sent to the claims it may rely on, or a reason to refuse it.
//!
//! A session token is a signed JWT (RFC 7519, JWS compact form). This module owns every rule about them; it
//! knows nothing of apps' limits, of connections, and of what the claims are used for. It reads no clock: the
//! time comes in as Unix seconds. Everything is `Sync`: any worker may verify with the same
//! [`SessionVerifier`].
//!
//! The JWT library is used for its keys and signatures only. Its own `decode` reads the system clock, and
//! picks the algorithm by the token's header; here the *key* decides, and the header merely has to agree:
//!
//! ```text
//! token ──▶ length ──▶ header: alg, kid ──▶ keys of that kid and alg ──▶ signature ──▶ claims ──▶ nbf, exp
//! ```
//!
//! Claims are not looked at before the signature holds, so an expired token with a bad signature is a bad
//! signature.

mod jwks;
mod key;
mod key_set;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use self::jwks::{Jwks, JwksError};
pub use self::key::{Algorithm, KeyMaterial, SessionKey, SessionKeyError};
pub use self::key_set::KeySet;

/// Tokens longer than this are refused before any work is done on them.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The most bytes of a user (`sub`) and of a channel's name in a token.
pub const CLAIM_NAME_BYTES_MAX: usize = 256;

/// The claim that names the user, by default.
const USER_CLAIM: &str = "sub";

/// The most channels one token may name.
pub const CLAIM_CHANNELS_MAX: usize = 128;

/// JSON nested deeper than this is refused in a profile, as it is everywhere.
const PROFILE_DEPTH_MAX: usize = 128;

/// The last date a token may have: with the greatest leeway added, a double still holds it exactly, as every
/// reader of JSON does.
const DATE_MAX: u64 = (1 << 53) - 1 - LEEWAY_SECONDS_MAX;

/// The greatest leeway.
pub const LEEWAY_SECONDS_MAX: u64 = 300;

/// Verifies the session tokens of one app.
#[derive(Clone, Default, Debug)]
pub struct SessionVerifier {
    keys: Vec<SessionKey>,
    /// Further keys, which issuers publish.
    sets: Vec<Arc<KeySet>>,
    leeway_seconds: u64,
    require_exp: bool,
    /// The claim that names the user; `None` for `sub`.
    user_claim: Option<Box<str>>,
    /// The claim with the id by which a token is revoked.
    id_claim: Option<Box<str>>,
}

impl SessionVerifier {
    /// A verifier that accepts what any of `keys` signed; without keys it accepts nothing.
    ///
    /// `leeway_seconds` is added to `exp` and taken from `nbf`, for clocks that disagree. With `require_exp`
    /// a token without `exp` is refused. A token without `kid` is tried against every key of its algorithm,
    /// so keep the list short.
    pub fn new(keys: Vec<SessionKey>, leeway_seconds: u64, require_exp: bool) -> SessionVerifier {
        SessionVerifier {
            keys,
            sets: Vec::new(),
            leeway_seconds,
            require_exp,
            user_claim: None,
            id_claim: None,
        }
    }

    /// The verifier that also accepts what the keys of these sets signed.
    pub fn with_sets(self, sets: Vec<Arc<KeySet>>) -> SessionVerifier {
        SessionVerifier { sets, ..self }
    }

    /// The verifier with the user's name in the claim `name`.
    pub fn with_user_claim(self, name: &str) -> SessionVerifier {
        SessionVerifier { user_claim: (name != USER_CLAIM).then(|| name.into()), ..self }
    }

    /// The verifier of tokens whose ids are in the claim `name`.
    pub fn with_id_claim(self, name: Option<&str>) -> SessionVerifier {
        SessionVerifier { id_claim: name.map(Into::into), ..self }
    }

    /// The claim with the id by which a token is revoked.
    pub fn id_claim(&self) -> Option<&str> {
        self.id_claim.as_deref()
    }

    /// The claim that names the user.
    pub fn user_claim(&self) -> &str {
        self.user_claim.as_deref().unwrap_or(USER_CLAIM)
    }

    /// The keys, in the order they were given.
    pub fn keys(&self) -> &[SessionKey] {
        &self.keys
    }

    /// The sets of keys that issuers publish.
    pub fn sets(&self) -> &[Arc<KeySet>] {
        &self.sets
    }

    /// Whether no token can ever be valid.
    pub fn accepts_nothing(&self) -> bool {
        self.keys.is_empty() && self.sets.is_empty()
    }

    /// The tolerance for clocks that disagree, in seconds.
    pub fn leeway_seconds(&self) -> u64 {
        self.leeway_seconds
    }

    /// Whether a token must carry `exp`.
    pub fn require_exp(&self) -> bool {
        self.require_exp
    }

    /// The claims of `token`, if one of the keys signed it and it is valid at `now_seconds` (Unix seconds).
    ///
    /// With a leeway of L, a token is valid while `nbf - L <= now < exp + L`.
    pub fn verify(&self, token: &str, now_seconds: u64) -> Result<Claims, TokenError> {
        self.verify_counting(token, now_seconds, &mut 0)
    }

    /// As [`SessionVerifier::verify`], and adds to `checks` how many keys the signature was tried with:
    /// nearly all that a token costs.
    pub fn verify_counting(
        &self,
        token: &str,
        now_seconds: u64,
        checks: &mut u32,
    ) -> Result<Claims, TokenError> {
        self.verify_dated(token, now_seconds, checks).map(|verified| verified.claims)
    }

    /// As [`SessionVerifier::verify_counting`], with the time at which the token was issued.
    pub fn verify_dated(
        &self,
        token: &str,
        now_seconds: u64,
        checks: &mut u32,
    ) -> Result<Verified, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        self.verify_signature(header, message, signature, checks)?;
        self.verify_claims(payload, now_seconds)
    }

    fn verify_signature(
        &self,
        header: &str,
        message: &str,
        signature: &str,
        checks: &mut u32,
    ) -> Result<(), TokenError> {
        let header_json = decode_base64(header)?;
        let header: Header<'_> = read_object(&header_json)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let algorithm = Algorithm::from_name(&header.alg).ok_or(TokenError::WrongAlgorithm)?;
        let signature = decode_base64(signature)?;
        let published: Vec<Arc<[SessionKey]>> = self.sets.iter().map(|set| set.keys()).collect();
        let all: Vec<&SessionKey> =
            self.keys.iter().chain(published.iter().flat_map(|keys| keys.iter())).collect();
        let mut kid_known = false;
        let mut algorithm_known = false;
        let kid = header.kid.as_deref();
        let is_named = kid.is_some() && all.iter().any(|key| key.kid() == kid);
        // Keys without a name serve issuers that name keys the configuration does not.
        let is_candidate = |key: &&SessionKey| match kid {
            Some(_) if is_named => key.kid() == kid,
            Some(_) => key.kid().is_none(),
            None => true,
        };
        for key in all.into_iter().filter(is_candidate) {
            kid_known = true;
            if key.algorithm() != algorithm {
                continue;
            }
            algorithm_known = true;
            *checks += 1;
            if key.verifies(message.as_bytes(), &signature) {
                return Ok(());
            }
        }
        if kid.is_some() && !is_named {
            self.sets.iter().for_each(|set| set.ask());
        }
        Err(match (kid_known, algorithm_known) {
            (false, _) => TokenError::UnknownKey,
            (true, false) => TokenError::WrongAlgorithm,
            (true, true) => TokenError::BadSignature,
        })
    }

    fn verify_claims(&self, payload: &str, now_seconds: u64) -> Result<Verified, TokenError> {
        let payload_json = decode_base64(payload)?;
        let raw: RawClaims<'_> = read_object(&payload_json)?;
        if let Some(nbf) = numeric_date(raw.nbf, "nbf")?
            && now_seconds.saturating_add(self.leeway_seconds) < nbf
        {
            return Err(TokenError::NotYetValid);
        }
        let exp = numeric_date(raw.exp, "exp")?;
        if exp.is_none() && self.require_exp {
            return Err(TokenError::MissingClaim("exp"));
        }
        let expires_at = exp.map(|exp| exp.saturating_add(self.leeway_seconds));
        if expires_at.is_some_and(|end| now_seconds >= end) {
            return Err(TokenError::Expired);
        }
        let issued_at = raw.iat.and_then(|iat| numeric_date(Some(iat), "iat").ok()).flatten();
        let claims = Claims {
            user: match &self.user_claim {
                None => user(raw.sub)?,
                Some(name) => user(read_object::<Members<'_>>(&payload_json)?.remove(&**name))?,
            },
            expires_at,
            profile: profile(raw.profile)?,
            channels: channels(raw.channels)?,
            id: match &self.id_claim {
                None => None,
                Some(name) => id(read_object::<Members<'_>>(&payload_json)?.remove(&**name)),
            },
        };
        Ok(Verified { claims, issued_at })
    }
}

/// A verified token.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Verified {
    /// What the token says.
    pub claims: Claims,
    /// The second at which the token was issued: `iat`, rounded up to whole seconds; `None` if the token does
    /// not say.
    pub issued_at: Option<u64>,
}

/// What a verified token says.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Claims {
    /// The user: the value of the `sub` claim or the configured claim, 1 to [`CLAIM_NAME_BYTES_MAX`] bytes.
    pub user: Arc<str>,
    /// The first Unix second at which the token is no longer valid: `exp`, rounded up to whole seconds, *plus
    /// the leeway*. `None` if the token has no `exp`.
    pub expires_at: Option<u64>,
    /// The `profile` claim: its JSON text just as it stood in the token, nested at most 128 deep. Its length
    /// is for the app's limits to judge.
    pub profile: Option<Box<str>>,
    /// The `channels` claim: at most [`CLAIM_CHANNELS_MAX`] names of 1 to [`CLAIM_NAME_BYTES_MAX`] bytes
    /// each, in their order, repetitions included.
    pub channels: Vec<Box<str>>,
    /// The token's id, in the configured claim: 1 to [`CLAIM_NAME_BYTES_MAX`] bytes. A value of another form
    /// is no id.
    pub id: Option<Arc<str>>,
}

/// Why a session token was refused.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`]; nothing else was looked at.
    TooLong,
    /// Not three parts of base64url, a header or claims that are not the JSON they should be, or a `crit`
    /// header: extensions that must be understood are not (RFC 7515, section 4.1.11).
    Malformed,
    /// No key has the `kid` the token names, or there are no keys.
    UnknownKey,
    /// The signature is not that of the key.
    BadSignature,
    /// `alg` is not accepted at all (`none` never is), or is not the algorithm of the key.
    WrongAlgorithm,
    /// `exp` and the leeway have passed.
    Expired,
    /// `nbf` has not come, not even with the leeway.
    NotYetValid,
    /// The token was revoked, or the user's tokens up to a later time.
    Revoked,
    /// This claim is required.
    MissingClaim(&'static str),
    /// This claim is of the wrong type, or out of bounds.
    InvalidClaim(&'static str),
}

impl TokenError {
    /// The error's code in the protocol.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "session_expired",
            Self::Revoked => "session_revoked",
            _ => "invalid_session",
        }
    }

    /// Whether the token was not made with a key of the app, as far as can be said.
    pub fn is_forged(&self) -> bool {
        matches!(
            self,
            Self::TooLong | Self::Malformed | Self::UnknownKey | Self::BadSignature | Self::WrongAlgorithm
        )
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "The session token is longer than {TOKEN_BYTES_MAX} bytes."),
            Self::Malformed => f.write_str("The session token is not a well-formed JWT."),
            Self::UnknownKey => f.write_str("The session token is signed with a key this app does not know."),
            Self::BadSignature => f.write_str("The session token's signature does not verify."),
            Self::WrongAlgorithm => {
                f.write_str("The session token's algorithm is not the one of the app's key.")
            }
            Self::Expired => f.write_str("The session token has expired."),
            Self::NotYetValid => f.write_str("The session token is not valid yet."),
            Self::Revoked => f.write_str("The session token has been revoked."),
            Self::MissingClaim(claim) => write!(f, "The session token lacks the claim `{claim}`."),
            Self::InvalidClaim(claim) => write!(f, "The session token's claim `{claim}` is not valid."),
        }
    }
}

impl std::error::Error for TokenError {}

/// The parts of the JOSE header that decide anything. Unknown members are ignored (RFC 7515, section 4).
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    crit: Option<&'a RawValue>,
}

/// The claims, each still as text, so that a claim of the wrong type can be named. `null` is a profile,
/// no value for `sub` and `channels`, and no date.
#[derive(Deserialize)]
struct RawClaims<'a> {
    #[serde(borrow, default)]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    exp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    nbf: Option<&'a RawValue>,
    #[serde(borrow, default)]
    iat: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    profile: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channels: Option<&'a RawValue>,
}

/// All claims by name.
type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// Whatever is there, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn decode_base64(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

/// Reads a JSON object, and nothing else: a derived reader would take an array of the members' values as
/// well.
fn read_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, TokenError> {
    let json = str::from_utf8(json).map_err(|_| TokenError::Malformed)?;
    if !json.trim_ascii_start().starts_with('{') {
        return Err(TokenError::Malformed);
    }
    serde_json::from_str(json).map_err(|_| TokenError::Malformed)
}

/// A NumericDate (RFC 7519, section 2) in whole seconds, rounded up: for whole `now`, `now < exp` and `now >=
/// nbf` come out the same as they would with the fraction. A negative date is long past. A date beyond
/// [`DATE_MAX`] is refused: it is a mistake, and a double could not hold it.
fn numeric_date(claim: Option<&RawValue>, name: &'static str) -> Result<Option<u64>, TokenError> {
    let Some(text) = claim.map(RawValue::get) else {
        return Ok(None);
    };
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(TokenError::InvalidClaim(name));
    }
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        // `as` saturates at both ends: what is too large is refused below, and what is negative is 0.
        Err(_) => text.parse::<f64>().map_err(|_| TokenError::InvalidClaim(name))?.ceil() as u64,
    };
    match seconds {
        0..=DATE_MAX => Ok(Some(seconds)),
        _ => Err(TokenError::InvalidClaim(name)),
    }
}

fn user(claim: Option<&RawValue>) -> Result<Arc<str>, TokenError> {
    let text = claim.ok_or(TokenError::MissingClaim("sub"))?.get();
    let user: Cow<'_, str> = serde_json::from_str(text).map_err(|_| TokenError::InvalidClaim("sub"))?;
    if !is_name(&user) {
        return Err(TokenError::InvalidClaim("sub"));
    }
    Ok(Arc::from(user))
}

fn id(claim: Option<&RawValue>) -> Option<Arc<str>> {
    let id: Cow<'_, str> = serde_json::from_str(claim?.get()).ok()?;
    is_name(&id).then(|| Arc::from(id))
}

fn profile(claim: Option<&RawValue>) -> Result<Option<Box<str>>, TokenError> {
    let Some(text) = claim.map(RawValue::get) else {
        return Ok(None);
    };
    if depth(text) > PROFILE_DEPTH_MAX {
        return Err(TokenError::InvalidClaim("profile"));
    }
    Ok(Some(Box::from(text)))
}

fn channels(claim: Option<&RawValue>) -> Result<Vec<Box<str>>, TokenError> {
    let Some(text) = claim.map(RawValue::get) else {
        return Ok(Vec::new());
    };
    // The token's own length bounds the list before this check does.
    let names: Vec<Box<str>> =
        serde_json::from_str(text).map_err(|_| TokenError::InvalidClaim("channels"))?;
    if names.len() > CLAIM_CHANNELS_MAX || !names.iter().all(|name| is_name(name)) {
        return Err(TokenError::InvalidClaim("channels"));
    }
    Ok(names)
}

fn is_name(name: &str) -> bool {
    (1..=CLAIM_NAME_BYTES_MAX).contains(&name.len())
}

/// How deep the brackets of well-formed JSON nest. The reader of raw values does not limit it.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
