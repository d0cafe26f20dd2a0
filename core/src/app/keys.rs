//! The keys that open an app: who holds one may connect, or act as the app's back end.

use std::fmt;
use std::hint::black_box;

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

/// The keys of one app. No key is in it twice.
#[derive(Clone, Default)]
pub struct AppKeys {
    client: Box<[Box<str>]>,
    server: Box<[Box<str>]>,
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
        let boxed = |keys: &[K]| keys.iter().map(|key| Box::from(key.as_ref())).collect();
        Ok(AppKeys { client: boxed(client), server: boxed(server) })
    }

    /// Whether there are none, so that nobody can use the app.
    pub fn is_empty(&self) -> bool {
        self.client.is_empty() && self.server.is_empty()
    }

    /// A client key, if there is any.
    pub fn client_key(&self) -> Option<&str> {
        self.client.first().map(AsRef::as_ref)
    }

    /// The role of `key`, if it is one of these. Every key of the app is compared to its end, whether or not
    /// an earlier one matched; what the time may tell is how long the keys are.
    pub fn role(&self, key: &str) -> Option<KeyRole> {
        let found = |keys: &[Box<str>]| keys.iter().fold(false, |found, own| found | same(own, key));
        let (client, server) = (found(&self.client), found(&self.server));
        match (client, server) {
            (_, true) => Some(KeyRole::Server),
            (true, false) => Some(KeyRole::Client),
            (false, false) => None,
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
    fn debug_shows_no_key() {
        let keys = AppKeys::new(&[CLIENT], &[SERVER]).expect("valid keys");
        assert_eq!(format!("{keys:?}"), "AppKeys { client: 1, server: 1 }");
    }
}
