//! A channel as all workers see it: its name, its one order of publications, and which workers hold members.
//!
//! Nothing here knows connections or dialects. Any thread may hold a [`Channel`]; what must be done by one at a time
//! happens inside its [`CombiningLock`].

mod combining;
mod history;
mod subscribers;
mod table;

pub use self::{
    combining::{CombiningLock, Delegated, Entered},
    history::{Bounds, EMPTY_BYTES, History, HistoryItem, Page, PageStart, Pushed, Viewer},
    subscribers::{Subscribers, TOMBSTONE},
    table::ChannelTable,
};

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    app::{ChannelOptions, SlowConsumer},
    error::ReplyError,
    id::{AppId, LocalId, MessageId, SessionId, WorkerId},
    limits::MAX_WORKERS,
    publication::{Audience, OwnedPayload, OwnedPublication, Sender},
    sync::{AtomicU8, AtomicU32, AtomicU64, Ordering},
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
    /// Those of its options that are asked for outside the order; see `flag`.
    flags: AtomicU8,
    workers: Box<[PerWorker]>,
}

/// Bits of [`Channel::flags`].
mod flag {
    pub(super) const HISTORY: u8 = 1;
    pub(super) const ANNOUNCE: u8 = 2;
    pub(super) const MEMBERSHIP_TO_SEND: u8 = 4;
    pub(super) const DROP: u8 = 8;
    pub(super) const PRESENCE_BY_USER: u8 = 16;
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
    /// Messages so far that others may ask for: the last offset given out.
    pub offset: u64,
    /// Workers that hold members.
    pub interest: WorkerSet,
    /// Nobody would miss it after the last operation. Unless one that waits changes that, the order closes when it is left,
    /// and whoever still holds the channel must look its name up again. Then it costs nothing any more.
    pub deserted: bool,
    /// What is remembered, if the channel has history.
    pub history: Option<Box<History>>,
    /// Sessions of each user, if members are told of users.
    pub users: Option<Box<Users>>,
}

/// Users in a channel, and how many of their sessions are.
pub type Users = BTreeMap<Box<str>, u32>;

impl ChannelState {
    /// Whether nobody would miss it: it has no members, and nobody can come back to what it remembers.
    pub fn is_forgotten(&self, now_ms: u64) -> bool {
        self.interest.is_empty() && self.history.as_ref().is_none_or(|history| history.is_over(now_ms))
    }
}

/// An operation on a channel. One shape serves publishing, joining (interest, notice), leaving, and requests.
#[derive(Debug)]
pub struct Operation {
    /// Who asked.
    pub worker: WorkerId,
    /// Whether this worker gains or loses interest; gaining comes before the publication, losing after it.
    pub interest: Option<Interest>,
    /// What to publish, in order.
    pub publications: Vec<OwnedPublication>,
    /// What else is to be done, after the gaining of interest.
    pub request: Option<Box<ChannelRequest>>,
    /// A user's session that comes or goes.
    pub presence: Option<Box<Presence>>,
    /// Whom to tell that it is done.
    pub ticket: u64,
}

/// A user's session joins a channel or leaves it.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The user.
    pub user: Arc<str>,
    /// Whether it joins.
    pub joins: bool,
    /// The session, if it is not to be told.
    pub except: Option<SessionId>,
}

/// Something to be read from a channel's state, or to be changed in it.
#[derive(Debug)]
pub enum ChannelRequest {
    /// A page of history.
    Page {
        /// Where it begins.
        from: PageStart,
        /// How long it may be.
        bounds: Bounds,
        /// Who reads.
        reader: Viewer,
    },
    /// What happened after an offset of this epoch.
    CatchUp {
        /// The offset.
        since: u64,
        /// How much it may be.
        bounds: Bounds,
        /// Who reads.
        reader: Viewer,
    },
    /// A page of its users, of those after a name.
    Users {
        /// The name.
        after: Option<Box<str>>,
        /// How many at most.
        limit: usize,
    },
    /// An edit or a deletion.
    Change(Box<Change>),
    /// Other options.
    SetOptions(ChannelOptions),
    /// Forget what is too old, and the oldest until this many bytes are left.
    Trim(usize),
}

/// A change of a message that is remembered.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which message.
    pub id: MessageId,
    /// The new payload; `None` deletes.
    pub payload: Option<OwnedPayload>,
    /// Whom the message is for from now on; `None`: as before.
    pub audience: Option<Audience>,
    /// The session that wants it, and its user; `None`: the back end, which may change every message.
    pub by: Option<(SessionId, Option<Arc<str>>)>,
}

impl Change {
    /// Whether it may be done to a message of `sender`.
    pub fn is_allowed(&self, sender: Option<Sender<'_>>) -> bool {
        let Some((session, user)) = &self.by else { return true };
        sender.is_some_and(|sender| {
            sender.session == *session || user.is_some() && sender.user == user.as_deref()
        })
    }
}

/// What came of a [`ChannelRequest`].
#[derive(Debug)]
pub enum ChannelReply {
    /// A page.
    Page(Page),
    /// What happened, unless that is not known any more.
    CaughtUp(Option<Vec<HistoryItem>>),
    /// Users with the number of their sessions, how many users there are, and whether more follow.
    Users(Vec<(Box<str>, u32)>, usize, bool),
    /// The change took this offset.
    Changed(u64),
    /// It is done.
    Done,
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
    fn new(
        app: AppId,
        (hash, epoch): (u64, u64),
        name: Option<&str>,
        options: ChannelOptions,
        workers: usize,
    ) -> Self {
        let per_worker = || PerWorker { local: AtomicU32::new(NOWHERE), members: AtomicU32::new(0) };
        let state = ChannelState {
            sequence: 0,
            offset: 0,
            interest: WorkerSet::default(),
            deserted: false,
            history: options.history.is_on().then(|| Box::new(History::new(options.history, 0))),
            users: options.presence_by_user.then(Box::default),
        };
        Self {
            app,
            hash,
            epoch,
            name: name.map(Into::into),
            lock: CombiningLock::new(state),
            offset: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
            flags: AtomicU8::new(flags(options)),
            workers: (0..workers).map(|_| per_worker()).collect(),
        }
    }

    /// The broadcast stream of an app. It is in no table and lives as long as the app.
    pub fn broadcast(app: AppId, workers: usize) -> Self {
        Self::new(app, (0, 0), None, ChannelOptions::default(), workers)
    }

    /// Whether it remembers messages.
    pub fn has_history(&self) -> bool {
        self.has(flag::HISTORY)
    }

    /// Whether its members are told who joins, leaves and updates.
    pub fn announces(&self) -> bool {
        self.has(flag::ANNOUNCE)
    }

    /// Whether its members are told of a user's first session and last.
    pub fn shows_users(&self) -> bool {
        self.has(flag::PRESENCE_BY_USER)
    }

    /// Whether only members may send.
    pub fn wants_membership(&self) -> bool {
        self.has(flag::MEMBERSHIP_TO_SEND)
    }

    /// What happens to members that read too slowly.
    pub fn slow_consumer(&self) -> SlowConsumer {
        if self.has(flag::DROP) { SlowConsumer::Drop } else { SlowConsumer::Disconnect }
    }

    fn has(&self, flag: u8) -> bool {
        // Relaxed: whoever asks outside the order learns of a change some time.
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Changes its options; what it remembers stays, within the new bounds. Only inside the order. Whether users are
    /// shown cannot change while there are members, for nobody has counted them.
    pub fn set_options(
        &self,
        state: &mut ChannelState,
        options: ChannelOptions,
        now_ms: u64,
    ) -> Result<(), ReplyError> {
        if options.presence_by_user != state.users.is_some() {
            if !state.interest.is_empty() {
                return Err(ReplyError::OptionInUse);
            }
            state.users = options.presence_by_user.then(Box::default);
        }
        self.flags.store(flags(options), Ordering::Relaxed);
        match &mut state.history {
            Some(history) if options.history.is_on() => history.set_limits(options.history, now_ms),
            history if options.history.is_on() => {
                *history = Some(Box::new(History::new(options.history, state.offset)));
            }
            history => *history = None,
        }
        Ok(())
    }

    /// What its history costs.
    pub fn remembered(&self) -> usize {
        usize::try_from(self.remembered.load(Ordering::Relaxed)).expect("it is in memory")
    }

    /// Notes what its history costs. Only inside the order.
    pub fn set_remembered(&self, bytes: usize) {
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

    /// The last offset given out.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Notes the last offset. Only inside the order.
    pub fn set_offset(&self, offset: u64) {
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

fn flags(options: ChannelOptions) -> u8 {
    let ChannelOptions { history, announce, presence_by_user, membership_to_send, slow_consumer } = options;
    [
        (history.is_on(), flag::HISTORY),
        (announce, flag::ANNOUNCE),
        (membership_to_send, flag::MEMBERSHIP_TO_SEND),
        (slow_consumer == SlowConsumer::Drop, flag::DROP),
        (presence_by_user, flag::PRESENCE_BY_USER),
    ]
    .into_iter()
    .fold(0, |flags, (is_set, flag)| if is_set { flags | flag } else { flags })
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
