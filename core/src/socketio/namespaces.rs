//! The namespaces that one peer is in, or asks to be in.

use super::{MAIN_NAMESPACE, ProtocolError};

/// The main namespace, which nearly every connection is in and no other, and a list of the rest.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    main: Option<Standing>,
    others: Vec<(Box<str>, Standing)>,
}

/// How a peer stands with a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has asked to connect and has no answer yet.
    Asked,
    /// It is connected.
    Connected,
}

impl Namespaces {
    #[inline]
    pub(super) fn standing(&self, namespace: &str) -> Option<Standing> {
        if namespace == MAIN_NAMESPACE {
            return self.main;
        }
        self.others.iter().find(|(name, _)| **name == *namespace).map(|(_, standing)| *standing)
    }

    /// Adds a namespace that the peer has no standing with.
    pub(super) fn ask(&mut self, namespace: &str, limit: usize) -> Result<(), ProtocolError> {
        if namespace == MAIN_NAMESPACE {
            self.main = Some(Standing::Asked);
        } else if self.others.len() < limit {
            self.others.push((namespace.into(), Standing::Asked));
        } else {
            return Err(ProtocolError::TooManyNamespaces);
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, namespace: &str) {
        if namespace == MAIN_NAMESPACE {
            self.main = Some(Standing::Connected);
        }
        for (_, standing) in self.others.iter_mut().filter(|(name, _)| **name == *namespace) {
            *standing = Standing::Connected;
        }
    }

    pub(super) fn remove(&mut self, namespace: &str) {
        if namespace == MAIN_NAMESPACE {
            self.main = None;
        }
        self.others.retain(|(name, _)| **name != *namespace);
    }

    /// The namespaces that the peer is connected to.
    pub(super) fn connected(&self) -> impl Iterator<Item = &str> {
        let main = self.main.map(|standing| (MAIN_NAMESPACE, standing));
        let others = self.others.iter().map(|(name, standing)| (&**name, *standing));
        main.into_iter().chain(others).filter(|(_, it)| *it == Standing::Connected).map(|(name, _)| name)
    }
}
