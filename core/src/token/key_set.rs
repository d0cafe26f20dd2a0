//! Keys that an issuer publishes, and that change while the server runs.
//!
//! The shell reads the issuer's document, and replaces the keys as a whole: every verifier that shares the
//! set has the new keys from then on. A token with a name that the set does not have asks for the document,
//! once until the shell begins to read it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::SessionKey;

/// What a set calls when a token names a key that the set does not have. It must return at once.
type Ask = Box<dyn Fn() + Send + Sync>;

/// The keys of one issuer.
#[derive(Default)]
pub struct KeySet {
    keys: RwLock<Arc<[SessionKey]>>,
    /// Whether the document was asked for since it was last read.
    is_asked: AtomicBool,
    ask: OnceLock<Ask>,
}

impl KeySet {
    /// The keys. Takes a lock that is held for the exchange of a pointer.
    pub fn keys(&self) -> Arc<[SessionKey]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all keys.
    pub fn replace(&self, keys: Arc<[SessionKey]>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Sets what is called when a key is unknown. Only the first call has an effect.
    pub fn on_unknown(&self, ask: impl Fn() + Send + Sync + 'static) {
        self.ask.get_or_init(|| Box::new(ask));
    }

    /// From now on an unknown key asks again.
    pub fn begin_read(&self) {
        // Relaxed: the flag bounds the calls, and orders no other memory access.
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// A token names a key that no set has.
    pub(super) fn ask(&self) {
        let Some(ask) = self.ask.get() else { return };
        if !self.is_asked.swap(true, Ordering::Relaxed) {
            ask();
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys().len()).finish_non_exhaustive()
    }
}
