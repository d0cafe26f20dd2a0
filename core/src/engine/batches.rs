//! Presence in a burst: notices of a channel that leave together.
//!
//! In a channel whose options say `presence_batch_ms`, a worker keeps the changes of its own members until
//! the first one has waited that long, and then publishes all of them in one turn: a watcher gets one write
//! for many notices. A session that joins and leaves meanwhile was a member whom nobody saw, so neither is
//! told.
//!
//! What would show a member that is not told of yet publishes the batch first: a list of members, and a
//! message that the member sends to the channel. So does what ends the worker's part of the channel.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::{
    Engine, RandomState,
    membership::Closed,
    presence::{Echo, MembershipChange, MembershipEvent},
};
use crate::{
    channel::Interest,
    id::{AppId, LocalId, SessionId, SessionSlot},
    limits::BATCHED_NOTICES,
};

/// The changes that wait, by this worker's part of their channel.
#[derive(Default)]
pub(super) struct Batches {
    waiting: HashMap<LocalId, Batch, RandomState>,
    /// When each is due, on the steady clock.
    due: BTreeSet<(u64, LocalId)>,
}

struct Batch {
    due_ms: u64,
    changes: Vec<MembershipChange>,
}

impl Batches {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first batch is due.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether a change of this session waits.
    fn has(&self, part: LocalId, session: SessionId) -> bool {
        self.waiting
            .get(&part)
            .is_some_and(|batch| batch.changes.iter().any(|change| change.session == session))
    }

    fn take(&mut self, part: LocalId) -> Vec<MembershipChange> {
        let Some(batch) = self.waiting.remove(&part) else { return Vec::new() };
        self.due.remove(&(batch.due_ms, part));
        batch.changes
    }

    fn take_due(&mut self, now_ms: u64) -> Option<(LocalId, Vec<MembershipChange>)> {
        let &(due_ms, part) = self.due.first()?;
        (due_ms <= now_ms).then(|| (part, self.take(part)))
    }
}

impl Batch {
    /// Adds a change. A leave takes back the join before it, with what came between, and is not added then.
    fn add(&mut self, change: MembershipChange) {
        let of = change.session;
        let joined = self
            .changes
            .iter()
            .rposition(|other| other.session == of && other.event == MembershipEvent::Joins);
        match (change.event, joined) {
            (MembershipEvent::Leaves, Some(joined)) => {
                let mut place = 0;
                self.changes.retain(|other| {
                    place += 1;
                    place <= joined || other.session != of
                });
                return;
            }
            (MembershipEvent::Updates, _) => {
                self.changes.retain(|other| other.session != of || other.event != MembershipEvent::Updates);
            }
            _ => {}
        }
        self.changes.push(change);
    }
}

impl Engine {
    /// Whether the next change of a member of this channel waits for others.
    pub(super) fn batches(&self, part: LocalId) -> bool {
        self.channels[part].channel.options().presence_batch_ms() > 0 && !self.is_draining
    }

    /// Keeps a change of a member for the channel's batch; interest changes at once. Returns a ticket if that
    /// is delegated.
    #[cold]
    pub(super) fn batch_change(
        &mut self,
        part: LocalId,
        slot: SessionSlot,
        interest: Option<Interest>,
        change: MembershipChange,
    ) -> Option<u64> {
        let leaves = change.event == MembershipEvent::Leaves;
        let due_ms = self.steady_ms + u64::from(self.channels[part].channel.options().presence_batch_ms());
        let Batches { waiting, due } = &mut self.batches;
        let batch = waiting.entry(part).or_insert_with(|| {
            due.insert((due_ms, part));
            Batch { due_ms, changes: Vec::new() }
        });
        batch.add(change);
        let is_full = batch.changes.len() >= BATCHED_NOTICES;
        if batch.changes.is_empty() {
            self.batches.take(part);
        }
        if interest == Some(Interest::Lost) || is_full {
            self.publish_batch(part);
        }
        // Who leaves has nothing to wait for.
        if leaves && interest.is_none() {
            return None;
        }
        self.change_membership(part, slot, interest, None, Echo::Unwanted)
    }

    /// Publishes the batches that are due.
    pub(super) fn publish_due_batches(&mut self) {
        while let Some((part, changes)) = self.batches.take_due(self.steady_ms) {
            self.publish_changes(part, changes);
        }
    }

    /// Publishes a channel's batch, if it has one.
    #[inline]
    pub(super) fn publish_batch(&mut self, part: LocalId) {
        if !self.batches.is_empty() {
            let changes = self.batches.take(part);
            self.publish_changes(part, changes);
        }
    }

    /// Publishes the batch in which a change of this session waits, because others are about to see it.
    #[cold]
    pub(super) fn publish_batch_of(&mut self, part: LocalId, slot: SessionSlot) {
        let session = self.session_id(slot);
        if self.batches.has(part, session) {
            self.publish_batch(part);
        }
    }

    /// Publishes the batch of the channel of this name, because its members are about to be listed.
    pub(super) fn publish_batch_in(&mut self, app: AppId, channel: &str) {
        if !self.batches.is_empty()
            && let Some(part) = self.part(app, channel)
        {
            self.publish_batch(part);
        }
    }

    fn publish_changes(&mut self, part: LocalId, changes: Vec<MembershipChange>) {
        self.work += changes.len();
        for change in changes {
            // A channel that has closed has no members to tell.
            let (Ok(_) | Err(Closed)) = self.submit_change(part, None, Some(change));
        }
    }
}
