//! Certificates that an authority issues while the server runs, and the certificates that answer the
//! authority's challenges (TLS-ALPN-01, RFC 8737).
//!
//! The listeners and the task that renews certificates share the values. A handshake takes a lock, a message
//! does not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{Error, pki_types::PrivateKeyDer, sign::CertifiedKey};

use super::{identity::Identity, settings::TlsSettings};

/// The protocol that an authority asks for by ALPN to check a name.
pub(super) const CHALLENGE_ALPN: &[u8] = b"acme-tls/1";

/// The issued certificates, and the answers to challenges.
pub(crate) struct Issued {
    /// A lock around the shared state, because a reload joins two values.
    shared: Mutex<Arc<Mutex<State>>>,
}

#[derive(Default)]
struct State {
    /// The names in the order of the configuration, each with its certificate.
    names: Vec<(Box<str>, Option<Identity>)>,
    challenges: HashMap<Box<str>, Arc<CertifiedKey>>,
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Lifetime {
    pub(crate) begins_s: u64,
    pub(crate) expires_s: u64,
}

impl Issued {
    /// Names in lower case without certificates.
    pub(crate) fn new(names: &[Box<str>]) -> Self {
        let names = names.iter().map(|name| (name.clone(), None)).collect();
        let state = State { names, ..State::default() };
        Self { shared: Mutex::new(Arc::new(Mutex::new(state))) }
    }

    /// Shares the state of `other` from now on.
    pub(crate) fn join(&self, other: &Self) {
        let shared = lock(&other.shared).clone();
        *lock(&self.shared) = shared;
    }

    /// Replaces the certificate of a name.
    pub(crate) fn put(&self, name: &str, identity: Identity) {
        self.with(|state| {
            if let Some((_, place)) = state.names.iter_mut().find(|(own, _)| **own == *name) {
                *place = Some(identity);
            }
        });
    }

    /// When the certificate of a name is valid.
    pub(crate) fn lifetime(&self, name: &str) -> Option<Lifetime> {
        self.with(|state| {
            let (_, identity) = state.names.iter().find(|(own, _)| **own == *name)?;
            identity.as_ref().map(|identity| identity.lifetime)
        })
    }

    /// When the first of the certificates expires, in seconds since 1970.
    pub(crate) fn expires_s(&self) -> Option<u64> {
        self.with(|state| {
            let identities = state.names.iter().filter_map(|(_, identity)| identity.as_ref());
            identities.map(|identity| identity.lifetime.expires_s).min()
        })
    }

    /// Answers challenges for a name with a certificate and its key, both in DER, until the result is
    /// dropped.
    ///
    /// # Errors
    /// The key cannot be used.
    pub(crate) fn answer(
        self: &Arc<Self>,
        name: &str,
        certificate: Vec<u8>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Answering, Error> {
        let key = TlsSettings::provider().key_provider.load_private_key(key)?;
        // The certificate has a critical extension that nothing but the authority knows.
        let answer = Arc::new(CertifiedKey::new(vec![certificate.into()], key));
        self.with(|state| state.challenges.insert(name.into(), answer));
        Ok(Answering { issued: self.clone(), name: name.into() })
    }

    /// The answer to a challenge.
    pub(super) fn challenge(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.with(|state| state.challenges.get(&*name.to_ascii_lowercase()).cloned())
    }

    /// The certificate of a name in lower case.
    pub(super) fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.with(|state| {
            let (_, identity) = state.names.iter().find(|(own, _)| **own == *name)?;
            identity.as_ref().map(Identity::key)
        })
    }

    /// The certificate of a client that asks for no name, or for a name without a certificate.
    pub(super) fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.with(|state| state.names.iter().find_map(|(_, identity)| identity.as_ref().map(Identity::key)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let shared = lock(&self.shared).clone();
        let mut state = lock(&shared);
        work(&mut state)
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time in which challenges for a name are answered. It ends when the value is dropped.
pub(crate) struct Answering {
    issued: Arc<Issued>,
    name: Box<str>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.issued.with(|state| state.challenges.remove(&self.name));
    }
}
