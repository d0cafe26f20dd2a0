//! The keys that open an app: who holds one may connect, or act as the app's back end.

use core::net::IpAddr;
use std::fmt;
use std::hint::black_box;

use super::Origins;
use crate::address::Networks;

/// Keys with fewer bytes are refused: they could be guessed.
pub const KEY_BYTES_MIN: usize = 16;

/// Keys with more bytes are refused: they travel in every request.
pub const KEY_BYTES_MAX: usize = 256;

/// What the holder of a key may do.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum KeyRole {
    /// Connect as a client. Such keys are public wherever the client is a web page.
    Client,
    /// All that, and call the HTTP API as the app's back end.
    Server,
}

/// The conditions under which a key opens its app.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct KeyTerms {
    /// When the key expires, in Unix seconds.
    pub expires_at: Option<u64>,
    /// The web origins that may use the key. A request without an origin may not use such a key.
    pub origins: Option<Origins>,
    /// The addresses that may use the key.
    pub addresses: Option<Networks>,
}

/// The sender of a request with a key.
#[derive(Copy, Clone, Default, Debug)]
pub struct Visitor<'a> {
    /// The origin of the page that sent the request.
    pub origin: Option<&'a str>,
    /// The address of the client.
    pub address: Option<IpAddr>,
    /// The present time, in Unix seconds.
    pub now_s: u64,
}

/// What a key allows.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Grant {
    /// The role of the key.
    pub role: KeyRole,
    /// When the key expires, in Unix seconds.
    pub expires_at: Option<u64>,
}

/// Why a key does not open an app.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum KeyRefusal {
    /// The app does not have this key.
    Unknown,
    /// The key has expired.
    Expired,
    /// The key is bound to origins, and the request has none.
    NoOrigin,
    /// The key is bound to other origins.
    Origin,
    /// The key is bound to other addresses.
    Address,
}

impl KeyTerms {
    /// Checks the terms in the order of the fields.
    fn check(&self, visitor: &Visitor<'_>) -> Result<(), KeyRefusal> {
        if self.expires_at.is_some_and(|end| visitor.now_s >= end) {
            return Err(KeyRefusal::Expired);
        }
        if let Some(origins) = &self.origins {
            let origin = visitor.origin.ok_or(KeyRefusal::NoOrigin)?;
            if !origins.allow(origin) {
                return Err(KeyRefusal::Origin);
            }
        }
        match &self.addresses {
            Some(networks) if !visitor.address.is_some_and(|address| networks.contain(address)) => {
                Err(KeyRefusal::Address)
            }
            _ => Ok(()),
        }
    }
}

/// A key with its terms, of which most keys have none.
#[derive(Clone)]
struct Key {
    text: Box<str>,
    terms: Option<Box<KeyTerms>>,
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self { text: text.into(), terms: None }
    }
}

/// The keys of one app. No key is in it twice.
#[derive(Clone, Default)]
pub struct AppKeys {
    client: Box<[Key]>,
    server: Box<[Key]>,
}

impl AppKeys {
    /// Keys of both roles: each [`KEY_BYTES_MIN`] to [`KEY_BYTES_MAX`] bytes of visible ASCII, without
    /// spaces.
    pub fn new<K: AsRef<str>>(client: &[K], server: &[K]) -> Result<AppKeys, KeyError> {
        let all: Vec<&str> = client.iter().chain(server).map(AsRef::as_ref).collect();
        for (place, key) in all.iter().enumerate() {
            check(key)?;
            if all[..place].contains(key) {
                return Err(KeyError::Repeated);
            }
        }
        let boxed = |keys: &[K]| keys.iter().map(|key| Key::from(key.as_ref())).collect();
        Ok(AppKeys { client: boxed(client), server: boxed(server) })
    }

    /// The keys, of which `key` has these terms.
    pub fn with_terms(mut self, key: &str, terms: KeyTerms) -> Self {
        let all = self.client.iter_mut().chain(&mut self.server);
        for own in all.filter(|own| *own.text == *key) {
            own.terms = Some(Box::new(terms.clone()));
        }
        self
    }

    /// Whether there are none, so that nobody can use the app.
    pub fn is_empty(&self) -> bool {
        self.client.is_empty() && self.server.is_empty()
    }

    /// A client key, if there is any.
    pub fn client_key(&self) -> Option<&str> {
        self.client.first().map(|key| &*key.text)
    }

    /// The role of `key`, if it is one of these. Every key of the app is compared to its end, whether or not
    /// an earlier one matched; what the time may tell is how long the keys are.
    pub fn role(&self, key: &str) -> Option<KeyRole> {
        self.find(key).map(|(role, _)| role)
    }

    /// What `key` allows this visitor. The time of the check tells no more of a wrong key than that of
    /// [`AppKeys::role`].
    ///
    /// # Errors
    /// There is no such key, or its terms do not allow the visitor.
    pub fn admit(&self, key: &str, visitor: &Visitor<'_>) -> Result<Grant, KeyRefusal> {
        let (role, own) = self.find(key).ok_or(KeyRefusal::Unknown)?;
        let terms = own.terms.as_deref();
        terms.map_or(Ok(()), |terms| terms.check(visitor))?;
        Ok(Grant { role, expires_at: terms.and_then(|terms| terms.expires_at) })
    }

    fn find(&self, key: &str) -> Option<(KeyRole, &Key)> {
        let find = |keys: &'_ [Key]| {
            let places = keys.iter().enumerate();
            places.fold(None, |found, (place, own)| if same(&own.text, key) { Some(place) } else { found })
        };
        match (find(&self.client), find(&self.server)) {
            (_, Some(place)) => Some((KeyRole::Server, &self.server[place])),
            (Some(place), None) => Some((KeyRole::Client, &self.client[place])),
            (None, None) => None,
        }
    }
}

impl fmt::Debug for AppKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKeys")
            .field("client", &self.client.len())
            .field("server", &self.server.len())
            .finish()
    }
}

/// Why a key was refused. Every sentence completes "the key …"; none repeats the key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum KeyError {
    /// Fewer than [`KEY_BYTES_MIN`] bytes.
    TooShort,
    /// More than [`KEY_BYTES_MAX`] bytes.
    TooLong,
    /// A space, a control character, or anything beyond ASCII.
    NotVisible,
    /// The app has it already, in this role or in the other.
    Repeated,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "must have at least {KEY_BYTES_MIN} bytes"),
            Self::TooLong => write!(f, "must have at most {KEY_BYTES_MAX} bytes"),
            Self::NotVisible => f.write_str("must be visible ASCII characters without spaces"),
            Self::Repeated => f.write_str("must differ from every other key of the app, of both roles"),
        }
    }
}

impl std::error::Error for KeyError {}

fn check(key: &str) -> Result<(), KeyError> {
    if key.len() < KEY_BYTES_MIN {
        return Err(KeyError::TooShort);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::NotVisible);
    }
    Ok(())
}

/// Equality in a time that depends on the lengths alone. The black box keeps the compiler from leaving the
/// loop at the first difference.
fn same(own: &str, given: &str) -> bool {
    if own.len() != given.len() {
        return false;
    }
    let difference = own.bytes().zip(given.bytes()).fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "client-key-0123456789";
    const SERVER: &str = "server-key-0123456789";

    #[test]
    fn keys_have_their_role_and_others_have_none() {
        let keys = AppKeys::new(&[CLIENT, "another-client-key"], &[SERVER]).expect("valid keys");
        assert_eq!(keys.role(CLIENT), Some(KeyRole::Client));
        assert_eq!(keys.role("another-client-key"), Some(KeyRole::Client));
        assert_eq!(keys.role(SERVER), Some(KeyRole::Server));
        for wrong in ["", "c", &CLIENT[1..], "client-key-012345678X", "Client-key-0123456789"] {
            assert_eq!(keys.role(wrong), None, "{wrong}");
        }
        assert_eq!(AppKeys::default().role(""), None);
        assert!(AppKeys::default().is_empty() && !keys.is_empty());
    }

    #[test]
    fn weak_and_repeated_keys_are_refused() {
        let refusal = |key: &str| AppKeys::new(&[key], &[]).expect_err("the key is refused");
        assert_eq!(refusal(&"k".repeat(15)), KeyError::TooShort);
        assert_eq!(refusal(&"k".repeat(257)), KeyError::TooLong);
        assert_eq!(refusal("a key with spaces"), KeyError::NotVisible);
        assert_eq!(refusal("schlüssel-0123456789"), KeyError::NotVisible);
        assert!(matches!(AppKeys::new(&[CLIENT], &[CLIENT]), Err(KeyError::Repeated)));
        assert!(matches!(AppKeys::new(&[CLIENT, CLIENT], &[]), Err(KeyError::Repeated)));
        assert!(AppKeys::new(&["k".repeat(16), "k".repeat(256)], &[]).is_ok());
    }

    #[test]
    fn a_key_is_held_to_its_terms() {
        let terms = KeyTerms {
            expires_at: Some(1_000),
            origins: Some(Origins::new(&["https://*.example.com"]).expect("it is an origin")),
            addresses: Some(Networks::parse(&["10.0.0.0/8", "fd00::/8"]).expect("they are networks")),
        };
        let keys = AppKeys::new(&[CLIENT, "another-client-key"], &[SERVER]).expect("valid keys");
        let keys = keys.with_terms(CLIENT, terms);
        let good = Visitor {
            origin: Some("https://a.example.com"),
            address: Some(IpAddr::from([10, 1, 2, 3])),
            now_s: 999,
        };
        let grant = Grant { role: KeyRole::Client, expires_at: Some(1_000) };
        assert_eq!(keys.admit(CLIENT, &good), Ok(grant));
        let refusal = |visitor| keys.admit(CLIENT, &visitor).expect_err("the terms are not met");
        assert_eq!(refusal(Visitor { now_s: 1_000, ..good }), KeyRefusal::Expired);
        assert_eq!(refusal(Visitor { origin: None, ..good }), KeyRefusal::NoOrigin);
        assert_eq!(refusal(Visitor { origin: Some("https://example.com"), ..good }), KeyRefusal::Origin);
        let stranger = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(refusal(Visitor { address: stranger, ..good }), KeyRefusal::Address);
        assert_eq!(refusal(Visitor { address: None, ..good }), KeyRefusal::Address);
        for key in ["another-client-key", SERVER] {
            assert!(keys.admit(key, &Visitor::default()).is_ok_and(|grant| grant.expires_at.is_none()));
        }
        assert_eq!(keys.admit("no key of the app's", &good), Err(KeyRefusal::Unknown));
    }

    #[test]
    fn debug_shows_no_key() {
        let keys = AppKeys::new(&[CLIENT], &[SERVER]).expect("valid keys");
        assert_eq!(format!("{keys:?}"), "AppKeys { client: 1, server: 1 }");
    }
}
