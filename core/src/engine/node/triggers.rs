//! The triggers of each app, which every worker reads, and the calls that wait for their verdicts.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use super::{super::Mail, Node};
use crate::{
    app::App,
    id::{AppId, WorkerId},
    trigger::{TriggerSet, Verdict},
};

/// The triggers of an app, which may change while the server runs.
#[derive(Default)]
pub(in crate::engine) struct TriggerSlot {
    /// The number of the last change; 0 without triggers. An engine keeps the set of triggers with its
    /// number.
    generation: AtomicU32,
    changes: Mutex<(u32, Option<Arc<TriggerSet>>)>,
    /// The number of messages and joins that wait for a verdict, and the bytes that they keep.
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// Generations have 30 bits, because a channel's note has two bits more.
const GENERATIONS: u32 = (1 << 30) - 1;

impl Node {
    /// Replaces or removes the triggers of an app. The next command on every worker sees the change.
    pub fn set_triggers(&self, app: AppId, set: Option<Arc<TriggerSet>>) {
        let slot = &self.tenant(app).triggers;
        let mut changes = slot.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.0 == 0 && set.is_none() {
            return;
        }
        let generation = changes.0 % GENERATIONS + 1;
        *changes = (generation, set);
        // Release: pairs with the load in `trigger_generation`.
        slot.generation.store(generation, Ordering::Release);
    }

    /// Whether an app has triggers, or had triggers: messages may still wait for verdicts of removed ones.
    #[inline]
    pub fn has_triggers(&self, app: AppId) -> bool {
        self.trigger_generation(app) != 0
    }

    #[inline]
    pub(in crate::engine) fn trigger_generation(&self, app: AppId) -> u32 {
        // Acquire: a worker that sees a change also sees the writes before the change.
        self.tenant(app).triggers.generation.load(Ordering::Acquire)
    }

    /// The triggers of an app, if there are any, and the number of their last change. An engine asks once
    /// after each change.
    pub fn trigger_set(&self, app: AppId) -> (u32, Option<Arc<TriggerSet>>) {
        self.tenant(app).triggers.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a call of triggers, unless the app has reached its limit of calls or bytes.
    pub(in crate::engine) fn reserve_call(&self, app: &App, bytes: usize) -> bool {
        let limits = &app.limits;
        let TriggerSlot { calls, bytes: kept, .. } = &self.tenant(app.id).triggers;
        // Relaxed: the counts order no other memory access.
        let has_room = calls.fetch_add(1, Ordering::Relaxed) < limits.trigger_calls;
        let fits = kept.fetch_add(bytes, Ordering::Relaxed) + bytes <= limits.trigger_bytes;
        if !(has_room && fits) {
            self.release_call(app.id, bytes);
        }
        has_room && fits
    }

    pub(in crate::engine) fn release_call(&self, app: AppId, bytes: usize) {
        let slot = &self.tenant(app).triggers;
        slot.calls.fetch_sub(1, Ordering::Relaxed);
        slot.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The number of an app's messages and joins that wait for a verdict.
    pub fn trigger_calls(&self, app: AppId) -> usize {
        self.tenant(app).triggers.calls.load(Ordering::Relaxed)
    }

    /// The bytes that these messages and joins keep.
    pub fn trigger_call_bytes(&self, app: AppId) -> usize {
        self.tenant(app).triggers.bytes.load(Ordering::Relaxed)
    }

    /// Posts a verdict to the worker that made the call. After a batch of verdicts, the poster asks the
    /// worker's mailbox whether the worker must be woken.
    pub fn post_verdict(&self, worker: WorkerId, ticket: u64, verdict: Verdict) {
        self.mailbox(worker).push(Mail::Verdict { ticket, verdict: Box::new(verdict) });
    }
}
