//! A channel as all workers see it: its name, its one order of publications, and which workers hold members.
//!
//! Nothing here knows connections or dialects. Any thread may hold a [`Channel`]; what must be done by one at a time
//! happens inside its [`Order`].

mod order;
mod subscribers;
mod table;

pub use self::{
    order::{Delegated, Entered, Order},
    subscribers::{Subscribers, TOMBSTONE},
    table::ChannelTable,
};

use crate::{
    id::{AppId, WorkerId},
    limits::MAX_WORKERS,
    publication::OwnedPublication,
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
    pub order: Order<ChannelState, Operation>,
    /// The last offset given out, for a glance from outside the order.
    offset: AtomicU64,
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

/// The state that the order guards.
#[derive(Debug)]
pub struct ChannelState {
    /// Publications so far, notices included. Internal: tells a worker whether mail is from before its interest.
    pub sequence: u64,
    /// Messages so far: the last offset given out.
    pub offset: u64,
    /// Workers that hold members.
    pub interest: WorkerSet,
    /// The last interest was lost. Unless an operation that waits gains some again, the order closes when it is left,
    /// and whoever still holds the channel must look its name up again.
    pub deserted: bool,
}

/// An operation on a channel. One shape serves publishing, joining (interest, notice) and leaving.
#[derive(Debug)]
pub struct Operation {
    /// Who asked.
    pub worker: WorkerId,
    /// Whether this worker gains or loses interest; gaining comes before the publication, losing after it.
    pub interest: Option<Interest>,
    /// What to publish.
    pub publication: Option<OwnedPublication>,
    /// Whom to tell that it is done.
    pub ticket: u64,
}

/// A change of a worker's interest in a channel.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Interest {
    /// It has its first member.
    Gained,
    /// It has lost its last.
    Lost,
}

/// Where a channel's stream stands.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Position {
    /// Which life of the channel; offsets of another epoch mean nothing in this one.
    pub epoch: u64,
    /// The last offset given out.
    pub offset: u64,
}

impl Channel {
    fn new(app: AppId, hash: u64, epoch: u64, name: Option<&str>, workers: usize) -> Self {
        let per_worker = || PerWorker { local: AtomicU32::new(NOWHERE), members: AtomicU32::new(0) };
        let state = ChannelState { sequence: 0, offset: 0, interest: WorkerSet::default(), deserted: false };
        Self {
            app,
            hash,
            epoch,
            name: name.map(Into::into),
            order: Order::new(state),
            offset: AtomicU64::new(0),
            workers: (0..workers).map(|_| per_worker()).collect(),
        }
    }

    /// The broadcast stream of an app. It is in no table and lives as long as the app.
    pub fn broadcast(app: AppId, workers: usize) -> Self {
        Self::new(app, 0, 0, None, workers)
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

    /// The last offset given out.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Notes the last offset. Only inside the order.
    pub fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Where `worker` keeps its part. Only `worker` itself may ask.
    pub fn local(&self, worker: WorkerId) -> Option<u32> {
        // Relaxed: one thread writes and reads it.
        let local = self.workers[usize::from(worker.0)].local.load(Ordering::Relaxed);
        (local != NOWHERE).then_some(local)
    }

    /// Notes where `worker` keeps its part. Only `worker` itself may do so.
    pub fn set_local(&self, worker: WorkerId, local: Option<u32>) {
        self.workers[usize::from(worker.0)].local.store(local.unwrap_or(NOWHERE), Ordering::Relaxed);
    }

    /// Notes how many members `worker` holds. Only `worker` itself may do so.
    pub fn set_members(&self, worker: WorkerId, members: usize) {
        let members = u32::try_from(members).expect("slots are 32 bits");
        self.workers[usize::from(worker.0)].members.store(members, Ordering::Relaxed);
    }
}

/// A set of workers, as bits.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct WorkerSet(u128);

const _: () = assert!(MAX_WORKERS <= u128::BITS as usize);

impl WorkerSet {
    /// Adds `worker`.
    pub fn insert(&mut self, worker: WorkerId) {
        self.0 |= 1 << worker.0;
    }

    /// Takes `worker` out.
    pub fn remove(&mut self, worker: WorkerId) {
        self.0 &= !(1 << worker.0);
    }

    /// Whether `worker` is in it.
    pub fn contains(self, worker: WorkerId) -> bool {
        self.0 >> worker.0 & 1 == 1
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without `worker`.
    pub fn without(mut self, worker: WorkerId) -> Self {
        self.remove(worker);
        self
    }
}

impl Iterator for WorkerSet {
    type Item = WorkerId;

    fn next(&mut self) -> Option<WorkerId> {
        let lowest = WorkerId(u16::try_from(self.0.trailing_zeros()).expect("at most 128"));
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            lowest
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn worker_set_iterates_its_members_in_order() {
        let mut set = WorkerSet::default();
        for worker in [127, 0, 5] {
            set.insert(WorkerId(worker));
        }
        assert_eq!(set.map(|w| w.0).collect::<Vec<_>>(), [0, 5, 127]);
        set.remove(WorkerId(5));
        assert!(!set.contains(WorkerId(5)) && set.contains(WorkerId(127)));
    }

    #[test]
    fn a_channel_without_name_costs_at_most_160_bytes_and_8_for_each_worker() {
        assert!(size_of::<Channel>() <= 160, "{}", size_of::<Channel>());
        assert_eq!(size_of::<PerWorker>(), 8);
    }
}
