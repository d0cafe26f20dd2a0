//! The namespaces that one peer is connected to, or has requested.

use super::{MAIN_NAMESPACE, ProtocolError};

/// The main namespace, which nearly every connection is in and no other, and a list of the rest.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    main: Option<NamespaceState>,
    others: Vec<Namespace>,
}

#[derive(Debug)]
struct Namespace {
    name: Box<str>,
    state: NamespaceState,
}

/// How far a peer's connection to a namespace has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamespaceState {
    /// The peer has sent CONNECT and waits for the answer.
    Requested,
    /// The CONNECT was granted.
    Connected,
}

impl Namespaces {
    /// `None` if the peer has sent no CONNECT, or has left.
    #[inline]
    pub(super) fn state(&self, name: &str) -> Option<NamespaceState> {
        if name == MAIN_NAMESPACE {
            return self.main;
        }
        self.others.iter().find(|other| *other.name == *name).map(|other| other.state)
    }

    /// Adds a namespace that is in no state.
    pub(super) fn request(&mut self, name: &str, limit: usize) -> Result<(), ProtocolError> {
        let state = NamespaceState::Requested;
        if name == MAIN_NAMESPACE {
            self.main = Some(state);
        } else if self.others.len() < limit {
            self.others.push(Namespace { name: name.into(), state });
        } else {
            return Err(ProtocolError::TooManyNamespaces);
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, name: &str) {
        if name == MAIN_NAMESPACE {
            self.main = Some(NamespaceState::Connected);
        }
        if let Some(other) = self.others.iter_mut().find(|other| *other.name == *name) {
            other.state = NamespaceState::Connected;
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if name == MAIN_NAMESPACE {
            self.main = None;
        }
        self.others.retain(|other| *other.name != *name);
    }

    /// The names of the namespaces that the peer is connected to.
    pub(super) fn connected(&self) -> impl Iterator<Item = &str> {
        let is_connected = |state| state == NamespaceState::Connected;
        let main = self.main.filter(|state| is_connected(*state)).map(|_| MAIN_NAMESPACE);
        let others = self.others.iter().filter(move |other| is_connected(other.state));
        main.into_iter().chain(others.map(|other| &*other.name))
    }
}
