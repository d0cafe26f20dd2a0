//! What few sessions were admitted with: a key that expires, an address that back ends may see.
//!
//! A session without such terms costs nothing. The session of a key that expires ends with the key, also
//! while it is parked.

use core::net::IpAddr;
use std::collections::BTreeSet;

use super::Engine;
use crate::{disconnect::Disconnect, id::SessionSlot};

/// The terms of a session.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Terms {
    /// The address of the client, if back ends may see it.
    pub address: Option<IpAddr>,
    /// When the client's key expires, in Unix seconds.
    pub key_expires_at: Option<u64>,
}

/// When the sessions of expiring keys end, in Unix seconds; the earliest first.
pub(super) type KeyEnds = BTreeSet<(u64, SessionSlot)>;

impl Engine {
    /// Notes the terms of a session, in the place of earlier ones.
    pub fn set_terms(&mut self, slot: SessionSlot, terms: Terms) {
        self.forget_terms(slot);
        if terms == Terms::default() {
            return;
        }
        if let Some(end) = terms.key_expires_at {
            self.key_ends.insert((end, slot));
        }
        self.sessions.get_mut(slot).set_terms(Some(terms));
    }

    /// Forgets the terms of a session.
    pub(super) fn forget_terms(&mut self, slot: SessionSlot) {
        let session = self.sessions.get_mut(slot);
        if let Some(end) = session.terms().and_then(|terms| terms.key_expires_at) {
            self.key_ends.remove(&(end, slot));
        }
        session.set_terms(None);
    }

    /// Ends the sessions whose keys have expired. Once in a turn.
    pub(super) fn end_keys(&mut self) {
        let now_s = self.now_ms / 1000;
        while let Some(&(end, slot)) = self.key_ends.first()
            && end <= now_s
        {
            self.key_ends.pop_first();
            self.counters.expired_keys += 1;
            self.disconnect_session(slot, Disconnect::ByServer { reconnect: false });
        }
    }

    /// When the next key of a session expires, on the steady clock.
    pub(super) fn next_key_end_ms(&self) -> Option<u64> {
        let &(end, _) = self.key_ends.first()?;
        Some(self.steady_ms + end.saturating_mul(1000).saturating_sub(self.now_ms))
    }
}
