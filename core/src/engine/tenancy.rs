//! The apps of an engine, which may change between turns: limits and keys, and apps that come and go.
//!
//! The sessions of a removed app end by themselves, a bounded number a turn. Until then they work as before.
//! Its channels' histories are evicted.

use std::sync::Arc;

use super::Engine;
use crate::{app::Apps, disconnect::Disconnect, id::SessionSlot};

/// The slots that a turn searches for sessions of removed apps.
const SEARCHED: u32 = 4096;

/// The search for the sessions of removed apps: the next slot, or `None` without a search.
#[derive(Default)]
pub(super) struct Removal(Option<u32>);

impl Removal {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }
}

impl Engine {
    /// The apps of this engine, which stay unchanged during a turn.
    pub fn apps(&self) -> &Arc<Apps> {
        &self.apps
    }

    /// Replaces the apps by their successors ([`Apps::succeed`]), between turns. Sessions of apps that are
    /// there before and after go on: keys, origins and tokens are checked when a session begins, and limits
    /// when a command arrives. A channel keeps its options until it is removed.
    pub fn set_apps(&mut self, apps: Arc<Apps>) {
        self.decoder.iter_mut().for_each(|decoder| decoder.set_apps(&apps));
        self.apps = apps;
        let removed: Vec<_> = self.apps.removed().map(|app| app.id).collect();
        if removed.is_empty() {
            return;
        }
        for app in removed {
            if self.node.remembered(app) > 0 {
                self.evictor.ask_for(app);
            }
        }
        self.removal.0 = Some(0);
    }

    /// Ends sessions of removed apps, if there may be any.
    pub(super) fn end_removed(&mut self) {
        let Some(from) = self.removal.0 else { return };
        let to = self.sessions.slots().min(from.saturating_add(SEARCHED));
        for slot in (from..to).map(SessionSlot) {
            if self.sessions.is_live(slot) && self.apps.of(self.sessions.get(slot).app).removed {
                self.disconnect_session(slot, Disconnect::AppRemoved);
            }
        }
        self.removal.0 = (to < self.sessions.slots()).then_some(to);
    }
}
