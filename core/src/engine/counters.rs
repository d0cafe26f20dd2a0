//! What an engine counts: as a whole, and for each app.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Engine;
use crate::{error::ReplyError, id::AppId};

/// What this engine has done, since it started. Plain numbers: one thread writes them.
#[derive(Copy, Clone, Default, Debug)]
#[allow(missing_docs, reason = "the names say it; the shell publishes them with a description each")]
pub struct Counters {
    pub commands: u64,
    pub command_errors: u64,
    pub publications: u64,
    pub changes: u64,
    pub notices: u64,
    pub deliveries: u64,
    pub missed: u64,
    pub recovered: u64,
    pub unrecovered: u64,
    pub parked: u64,
    pub resumed: u64,
    pub unresumed: u64,
    pub member_lists_refused: u64,
    pub history_forgotten: u64,
    pub overloaded: u64,
    pub rate_limited: u64,
    pub triggered: u64,
    pub trigger_refusals: u64,
    pub delegated: u64,
    pub mail: u64,
    pub slow_consumers: u64,
    pub congested: u64,
    pub turns: u64,
    pub writes: u64,
}

/// An engine's counts of one app. The engine's thread writes them, and other threads read them.
#[derive(Default)]
pub(super) struct AppCounters {
    sessions: AtomicU64,
    publications: AtomicU64,
    deliveries: AtomicU64,
    command_errors: AtomicU64,
    rate_limited: AtomicU64,
}

/// The counts of an app over all engines, since the node started.
#[derive(Copy, Clone, Default, Debug)]
#[allow(missing_docs, reason = "as for `Counters`")]
pub struct AppCounts {
    pub sessions: u64,
    pub publications: u64,
    pub deliveries: u64,
    pub command_errors: u64,
    pub rate_limited: u64,
}

impl AppCounters {
    pub(super) fn session_began(&self) {
        add(&self.sessions, 1);
    }

    #[inline]
    pub(super) fn published(&self, count: u64) {
        add(&self.publications, count);
    }

    #[inline]
    pub(super) fn delivered(&self, count: u64) {
        add(&self.deliveries, count);
    }

    pub(super) fn refused_command(&self, error: ReplyError) {
        add(&self.command_errors, 1);
        add(&self.rate_limited, u64::from(error == ReplyError::RateLimited));
    }

    /// Adds these counts to `counts`.
    pub(super) fn add_to(&self, counts: &mut AppCounts) {
        counts.sessions += self.sessions.load(Ordering::Relaxed);
        counts.publications += self.publications.load(Ordering::Relaxed);
        counts.deliveries += self.deliveries.load(Ordering::Relaxed);
        counts.command_errors += self.command_errors.load(Ordering::Relaxed);
        counts.rate_limited += self.rate_limited.load(Ordering::Relaxed);
    }
}

impl Engine {
    /// This engine's counts of an app.
    #[inline]
    pub(super) fn counted(&self, app: AppId) -> &AppCounters {
        &self.of_apps[usize::from(app.0)]
    }

    /// What this engine has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// Adds to a count that one thread writes. Relaxed: the count orders no other memory access.
#[inline]
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
