//! A channel as all workers see it: its name, its one order of publications, and which workers hold members.
//!
//! Nothing here knows connections or dialects. Any thread may hold a [`Channel`]; what must be done by one at
//! a time happens inside its [`CombiningLock`].

mod combining;
mod epoch;
mod history;
#[cfg(all(test, loom))]
mod models;
mod operation;
mod state;
mod subscribers;
mod table;
mod worker_set;

pub use self::{
    combining::{CombiningLock, Delegated, Entered, Kept, Left, Unfinished},
    history::{Bounds, EMPTY_BYTES, History, HistoryItem, Page, PageStart, Pushed, Viewer},
    operation::{
        Amendment, Change, ChannelReply, ChannelRequest, Interest, Operation, Presence, UserAnnouncement,
    },
    state::{Applied, ChannelMail, ChannelState, Env, Receipt, Request},
    subscribers::{Subscribers, TOMBSTONE},
    table::ChannelTable,
    worker_set::WorkerSet,
};

use crate::{
    app::{ChannelOptions, OptionsWord, SlowConsumer},
    id::{AppId, LocalId, WorkerId},
    sync::{AtomicU32, AtomicU64, Ordering},
};

/// A channel, or an app's broadcast stream (the one without a name, which every session of the app is in).
pub struct Channel {
    app: AppId,
    /// Hash of (app, name), computed once; see [`ChannelTable`].
    hash: u64,
    /// Which life of this name; see [`Position`].
    epoch: u64,
    name: Option<Box<str>>,
    /// The one place where publications get their order.
    pub lock: CombiningLock<ChannelState, Operation>,
    /// The last offset given out, for a glance from outside the order.
    offset: AtomicU64,
    /// What its history costs, likewise.
    remembered: AtomicU64,
    /// The options that are read outside the channel's order; see [`OptionsWord`].
    word: AtomicU32,
    /// The note of the triggers that match the channel, and the generation of triggers that the note is
    /// about.
    triggers: AtomicU32,
    workers: Box<[PerWorker]>,
}

/// What each worker notes on the channel, so that one look-up in the table leads to everything. 8 bytes.
struct PerWorker {
    /// Where the worker keeps its part of the channel. Written and read by that worker only.
    local: AtomicU32,
    /// Members on that worker. Written by that worker, read by any.
    members: AtomicU32,
}

/// No local part.
const NOWHERE: u32 = u32::MAX;

/// Where a channel's stream stands.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Position {
    /// Which life of the channel; offsets of another epoch mean nothing in this one.
    pub epoch: u64,
    /// The last offset given out.
    pub offset: u64,
}

impl Channel {
    fn new(
        app: AppId,
        (hash, epoch): (u64, u64),
        name: Option<&str>,
        options: ChannelOptions,
        workers: usize,
    ) -> Self {
        let per_worker = || PerWorker { local: AtomicU32::new(NOWHERE), members: AtomicU32::new(0) };
        Self {
            app,
            hash,
            epoch,
            name: name.map(Into::into),
            lock: CombiningLock::new(ChannelState::new(options)),
            offset: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
            word: AtomicU32::new(OptionsWord::from(options).bits()),
            triggers: AtomicU32::new(0),
            workers: (0..workers).map(|_| per_worker()).collect(),
        }
    }

    /// The broadcast stream of an app. It is in no table and lives as long as the app.
    pub fn broadcast(app: AppId, workers: usize) -> Self {
        Self::new(app, (0, 0), None, ChannelOptions::default(), workers)
    }

    /// The channel's options as one word.
    #[inline]
    pub fn options(&self) -> OptionsWord {
        // Relaxed: a reader outside the order may learn of a change later.
        OptionsWord::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// Whether it remembers messages.
    pub fn has_history(&self) -> bool {
        self.options().has_history()
    }

    /// Whether its members are told who joins, leaves and updates.
    pub fn announces(&self) -> bool {
        self.options().announces()
    }

    /// Whether it counts the sessions of each user.
    pub fn counts_users(&self) -> bool {
        self.options().counts_users()
    }

    /// What happens to members that read too slowly.
    pub fn slow_consumer(&self) -> SlowConsumer {
        self.options().slow_consumer()
    }

    /// Stores the options that are read outside the lock. The caller holds the lock.
    fn set_word(&self, options: ChannelOptions) {
        self.word.store(OptionsWord::from(options).bits(), Ordering::Relaxed);
    }

    fn has_word(&self, options: ChannelOptions) -> bool {
        self.options() == OptionsWord::from(options)
    }

    /// The note that [`Channel::note_triggers`] stored last.
    pub fn triggers(&self) -> u32 {
        // Relaxed: the note contains the generation of its triggers.
        self.triggers.load(Ordering::Relaxed)
    }

    /// Stores whether triggers match this channel, for later publications.
    pub fn note_triggers(&self, note: u32) {
        self.triggers.store(note, Ordering::Relaxed);
    }

    /// What its history costs.
    pub fn remembered(&self) -> usize {
        usize::try_from(self.remembered.load(Ordering::Relaxed)).expect("it is in memory")
    }

    /// Notes what its history costs. Only inside the lock.
    fn set_remembered(&self, bytes: usize) {
        self.remembered.store(bytes as u64, Ordering::Relaxed);
    }

    /// Tells this channel from earlier and later ones of its name.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The app it belongs to.
    pub fn app(&self) -> AppId {
        self.app
    }

    /// Its name; `None` for a broadcast stream.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Number of members over all workers; a sum of counters read one after another.
    pub fn members(&self) -> usize {
        self.workers.iter().map(|w| w.members.load(Ordering::Relaxed) as usize).sum()
    }

    /// Whether a worker behind `worker` holds members.
    pub fn has_members_after(&self, worker: WorkerId) -> bool {
        self.workers[usize::from(worker.0) + 1..].iter().any(|w| w.members.load(Ordering::Relaxed) > 0)
    }

    /// The worker with the most members, if any worker has members.
    pub fn largest_part(&self) -> Option<WorkerId> {
        let parts = self.workers.iter().map(|worker| worker.members.load(Ordering::Relaxed));
        let (members, worker) = parts.zip(0..).max_by_key(|(members, _)| *members)?;
        (members > 0).then_some(WorkerId(worker))
    }

    /// The last offset given out.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Notes the last offset. Only inside the lock.
    fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Where `worker` keeps its part. Only `worker` itself may ask.
    pub fn local(&self, worker: WorkerId) -> Option<LocalId> {
        // Relaxed: one thread writes and reads it.
        let local = self.workers[usize::from(worker.0)].local.load(Ordering::Relaxed);
        (local != NOWHERE).then_some(LocalId(local))
    }

    /// Notes where `worker` keeps its part. Only `worker` itself may do so.
    pub fn set_local(&self, worker: WorkerId, local: Option<LocalId>) {
        self.workers[usize::from(worker.0)]
            .local
            .store(local.map_or(NOWHERE, |local| local.0), Ordering::Relaxed);
    }

    /// Notes how many members `worker` holds. Only `worker` itself may do so.
    pub fn set_members(&self, worker: WorkerId, members: usize) {
        let members = u32::try_from(members).expect("slots are 32 bits");
        self.workers[usize::from(worker.0)].members.store(members, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_channel_without_name_costs_at_most_160_bytes_and_8_for_each_worker() {
        assert!(size_of::<Channel>() <= 160, "{}", size_of::<Channel>());
        assert_eq!(size_of::<PerWorker>(), 8);
    }
}
