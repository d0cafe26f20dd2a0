//! The engine: everything a worker does between bytes in and bytes out. Pure: no sockets, no clock, no
//! entropy.
//!
//! One engine per worker, owned and called by that worker's thread alone. Engines meet in the [`Node`].
//!
//! ```text
//!   open / receive / request / close          shell → engine: what arrived
//!        │
//!        ▼
//!   execute ──▶ submit (channel's order) ──▶ deliver (own members) ──▶ run
//!                      └──▶ other workers' mailboxes ──▶ their on_mail ──▶ deliver
//!   flush                                     engine → Sink: one write per touched session
//!   take_*                                    engine → shell: answers, resumptions, disconnects, workers to wake
//! ```
//!
//! A turn: `begin_turn`, any number of inputs, `on_mail`, wake the workers of `take_touched`, `flush`.

mod batches;
mod channel_requests;
mod check;
mod counters;
mod direct;
mod eviction;
mod idempotency;
mod input;
mod listing;
mod local;
mod mail;
mod membership;
mod memory;
mod node;
mod observed;
mod outbox;
mod outlet;
mod output;
mod permission;
mod presence;
mod publish;
mod query;
mod reconfigure;
mod referral;
mod request;
mod resume;
mod revocation;
mod roster;
mod session;
mod submit;
mod tenancy;
mod terms;
mod trigger;
mod user_state;
mod users;
mod waiting;
mod watch;
mod window;

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use hashbrown::HashMap;

use self::{
    batches::Batches,
    counters::AppCounters,
    eviction::{Evictor, Sweep},
    idempotency::Keys,
    local::{InterestState, LocalChannel},
    membership::{JoinAs, Joining},
    output::{Backlog, EndedRun, NONE, SessionOutput, Turn},
    query::WorkerQuery,
    resume::Parked,
    roster::QuietMembers,
    session::{Session, Sessions},
    tenancy::Removal,
    terms::KeyEnds,
    trigger::Calls,
    users::UserIndex,
    waiting::{Interrupted, Progress, Waiting},
    watch::Watch,
};
pub use self::{
    counters::{AppCounts, Counters, DialectCounts},
    input::Flow,
    mail::Mail,
    memory::{EngineMemory, NodeMemory},
    node::{Node, Outlet},
    observed::{ChangedUser, MemberChange},
    output::{Segments, Sink},
    resume::{Detached, Resumption},
    terms::Terms,
};
use crate::{
    app::{App, Apps, SlowConsumer},
    channel::{Channel, ChannelState, Kept, Operation, WorkerSet},
    command::Outcome,
    dialect::{self, Decoder, Format},
    disconnect::Disconnect,
    error::ReplyError,
    id::{AppId, IdGenerator, LocalId, SessionId, SessionSlot, WorkerId},
    limits::{COMBINED, TURN_BYTES, TURN_WORK, WHOLE_LISTS},
    now::Now,
    publication::Payload,
    secret::Secret,
    slots::Slots,
    token::Claims,
};

type RandomState = foldhash::fast::RandomState;

/// One worker's engine.
pub struct Engine {
    worker: WorkerId,
    node: Arc<Node>,
    apps: Arc<Apps>,
    /// Unix milliseconds of the turn.
    now_ms: u64,
    /// The same moment on the clock that never steps back.
    steady_ms: u64,
    ids: IdGenerator,
    sessions: Sessions,
    channels: Slots<LocalChannel, LocalId>,
    /// Bytes of the channels' lists of members.
    member_bytes: usize,
    turn: Turn,
    /// Units of work done in this turn: a command is one, and dear checks are many.
    work: usize,
    /// Session tokens that were not made with a key of their app.
    forged_tokens: u32,
    key_ends: KeyEnds,
    /// Locks that this worker is still inside, with operations of others to apply.
    kept: VecDeque<Kept<Channel, ChannelState, Operation>>,
    /// How many operations of others this turn may still apply.
    combinable: usize,
    /// Workers that got mail and were not yet woken.
    touched: WorkerSet,
    waiting: HashMap<u64, Waiting, RandomState>,
    /// Of those, the sessions that are no members before they are answered.
    joining: HashMap<u64, Joining, RandomState>,
    next_ticket: u64,
    users: UserIndex,
    /// The sessions of each token id, in apps whose tokens have ids.
    token_ids: UserIndex,
    /// How many more whole lists this turn may read or answer, and the queries that wait for the next turn.
    whole_lists: usize,
    deferred: VecDeque<Box<WorkerQuery>>,
    quiet: QuietMembers,
    batches: Batches,
    answers: Vec<(u64, Result<Outcome, ReplyError>)>,
    once: Keys,
    calls: Calls,
    sweep: Sweep,
    evictor: Evictor,
    removal: Removal,
    /// Messages whose commands go on, in the order they may.
    interrupted: VecDeque<Interrupted>,
    /// Commands that this turn defers to later turns.
    yielded: Vec<Interrupted>,
    /// Commands that wait until their client has read more of its output.
    behind: Vec<Interrupted>,
    unpaused: Vec<u32>,
    disconnects: Vec<(u32, Disconnect)>,
    /// Sessions that have left everything and go after the next flush.
    ended: Vec<SessionSlot>,
    parked: Parked,
    watches: Vec<Watch>,
    /// Changes of members that the shell takes for directories.
    member_changes: Vec<MemberChange>,
    /// Changes of users' states for directories. See `member_changes`.
    changed_users: Vec<ChangedUser>,
    /// Whether all sessions are about to leave; see [`Engine::begin_drain`].
    is_draining: bool,
    /// Absent while it reads.
    decoder: Option<Box<Decoder>>,
    counters: Counters,
    /// This engine's counts of each app.
    of_apps: Arc<[AppCounters]>,
}

/// How a session begins.
pub struct Opening<'a> {
    /// Its app.
    pub app: &'a App,
    /// How its connection wants frames.
    pub format: Format,
    /// The connection's default; `None`: the app's.
    pub echo: Option<bool>,
    /// What its token says.
    pub claims: Option<Claims>,
    /// The shell's name for the connection.
    pub connection: u32,
    /// What resumes the session, in an app that keeps lost sessions.
    pub ticket: Option<Secret>,
}

impl Engine {
    /// The engine of `worker`. `seed` is random and no other engine's.
    pub fn new(worker: WorkerId, node: Arc<Node>, seed: u64) -> Self {
        Self {
            worker,
            apps: node.apps(),
            of_apps: node.counters_of(worker).clone(),
            node,
            now_ms: 0,
            steady_ms: 0,
            ids: IdGenerator::new(seed),
            sessions: Sessions::default(),
            channels: Slots::default(),
            member_bytes: 0,
            turn: Turn::default(),
            work: 0,
            forged_tokens: 0,
            key_ends: KeyEnds::default(),
            kept: VecDeque::new(),
            combinable: COMBINED,
            touched: WorkerSet::default(),
            waiting: HashMap::default(),
            joining: HashMap::default(),
            once: Keys::default(),
            calls: Calls::default(),
            sweep: Sweep::default(),
            evictor: Evictor::default(),
            removal: Removal::default(),
            next_ticket: 0,
            users: UserIndex::default(),
            token_ids: UserIndex::default(),
            whole_lists: WHOLE_LISTS,
            deferred: VecDeque::new(),
            quiet: QuietMembers::default(),
            batches: Batches::default(),
            answers: Vec::new(),
            interrupted: VecDeque::new(),
            yielded: Vec::new(),
            behind: Vec::new(),
            unpaused: Vec::new(),
            disconnects: Vec::new(),
            ended: Vec::new(),
            parked: Parked::default(),
            watches: Vec::new(),
            member_changes: Vec::new(),
            changed_users: Vec::new(),
            is_draining: false,
            decoder: None,
            counters: Counters::default(),
        }
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// A turn begins at `now`.
    pub fn begin_turn(&mut self, now: impl Into<Now>) {
        let Now { unix_ms, steady_ms } = now.into();
        self.now_ms = unix_ms;
        self.steady_ms = steady_ms;
        self.sweep();
        self.resume_deferred();
        self.end_keys();
        self.end_expired();
        self.end_removed();
        if !self.batches.is_empty() {
            self.publish_due_batches();
        }
        if !self.watches.is_empty() {
            self.arm_watches();
        }
    }

    /// All sessions are about to leave, within a time that the shell chooses. From now on no member is told
    /// that another one leaves: `n` members of a channel would be told `n * (n - 1) / 2` times.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
    }

    /// Opens a session and welcomes it. `preface` is written before the welcome (the handshake's response).
    /// Returns its slot.
    pub fn open(
        &mut self,
        opening: Opening<'_>,
        preface: impl FnOnce(&mut BytesMut),
        welcome: impl FnOnce(&mut BytesMut, SessionId, Option<&str>),
    ) -> Result<SessionSlot, ReplyError> {
        let app = opening.app.id;
        if !self.node.reserve_session(self.apps.of(app)) {
            return Err(ReplyError::Overloaded);
        }
        // What was published before is not for it.
        self.drain_mailbox();
        let echo = opening.echo.unwrap_or(opening.app.echo);
        let mut session = Session::new(self.worker, app, self.ids.nonce(), echo);
        let (mut channels, mut token_id) = (Vec::new(), None);
        self.counted(app).session_began();
        self.counters.of(opening.format).sessions += 1;
        if let Some(claims) = opening.claims {
            session.user = Some(claims.user);
            session.expires_at = claims.expires_at;
            session.profile = claims.profile.map(Into::into);
            channels = claims.channels;
            token_id = claims.id;
        }
        let user = session.user.clone();
        let slot = self.sessions.insert(session, SessionOutput::new(opening.connection, opening.format));
        let of = self.apps.of(app);
        self.decoder.get_or_insert_default().begin_session(opening.format, slot, of);
        if let Some(user) = &user {
            self.users.insert(app, user.clone(), slot);
        }
        if token_id.is_some() {
            self.set_token_id(slot, token_id);
        }
        let id = self.sessions.get(slot).id(slot);
        let greeting = self.greet(slot, preface, |out| welcome(out, id, user.as_deref()));
        if let Some(ticket) = opening.ticket {
            self.make_resumable(slot, ticket, greeting);
        }
        self.enter_broadcast(slot);
        for channel in channels {
            // A claimed channel that the app's limits refuse is one the session is not in, as `members` will
            // show.
            match self.ask_to_join(slot, &channel, Payload::NULL, JoinAs::default()) {
                Ok(called @ Progress::Called(_)) => self.await_claimed(slot, called),
                Ok(_) => {}
                Err(_) => self.counters.command_errors += 1,
            }
        }
        Ok(slot)
    }

    /// Ends a session whose connection is gone: it leaves its channels, and what it was to receive is
    /// forgotten.
    pub fn close(&mut self, slot: SessionSlot) {
        if self.sessions.output(slot).is_ended() {
            Turn::forget(self.sessions.hot(slot));
            return;
        }
        self.depart(slot);
        // Only now: leaving has linked it to what its channels had published in this turn.
        Turn::forget(self.sessions.hot(slot));
        self.sessions.remove(slot);
    }

    /// Ends a session whose connection is not: it leaves its channels, still receives what was published
    /// until now, and `last` after that.
    pub fn end(&mut self, slot: SessionSlot, last: impl FnOnce(&mut BytesMut)) {
        if self.sessions.output(slot).is_ended() {
            return;
        }
        self.depart(slot);
        self.reply(slot, last);
        self.sessions.hot(slot).set_ended();
        self.ended.push(slot);
    }

    /// A session does, and is told, nothing more of its own; its slot is still taken.
    fn depart(&mut self, slot: SessionSlot) {
        self.leave_all(slot);
        self.retire_outbox(slot);
        self.forget_terms(slot);
        self.set_token_id(slot, None);
        let format = self.sessions.hot(slot).format;
        self.decoder.get_or_insert_default().end_session(format, slot);
        self.counters.of(format).sessions -= 1;
        // The shell may give the connection's number to another.
        let connection = self.sessions.hot(slot).connection;
        self.unpaused.retain(|&other| other != connection);
        let id = self.session_id(slot);
        self.behind.retain(|interrupted| interrupted.session != id);
        self.disconnects.retain(|&(other, _)| other != connection);
        // Nobody finds it any more: neither the answer it waits for nor what it was to go on with.
        let nonce = self.ids.nonce();
        let session = self.sessions.get_mut(slot);
        session.nonce = nonce;
        let app = session.app;
        // It is told no more of what it lost.
        self.counters.missed += session.take_missed().iter().map(|(_, count)| count).sum::<u64>();
        if let Some(user) = self.sessions.change(slot, |session| session.user.take()) {
            self.users.remove(app, &user, slot);
        }
        // A parked session does not count among the app's connections.
        if !self.sessions.output(slot).is_parked() {
            self.node.release_session(app);
        }
    }

    /// Appends bytes to what a session receives in this turn.
    pub fn reply(&mut self, slot: SessionSlot, encode: impl FnOnce(&mut BytesMut)) {
        self.turn.reply(slot, self.sessions.hot(slot), encode);
    }

    /// Tells a session that is about to be closed how long its client should wait before it connects again.
    pub fn tell_reconnect(&mut self, slot: SessionSlot, after_ms: u32) {
        let format = self.sessions.hot(slot).format;
        self.reply(slot, |out| dialect::encode_reconnect(format, out, after_ms));
    }

    /// Writes all output of this turn to `sink` and ends the turn.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        self.work = 0;
        if self.turn.is_empty() {
            return self.settle_yielded(&[]);
        }
        self.counters.turns += 1;
        let channels = &self.channels;
        let of_apps = &self.of_apps;
        self.counters.deliveries += self.turn.segment_members(
            &mut self.sessions,
            |local| channels[local].subscribers.slots(),
            |app, count| of_apps[usize::from(app.0)].delivered(count),
        );
        if !self.watches.is_empty() {
            self.take_samples();
        }
        self.turn.freeze();
        sink.begin_writes();
        let mut over = Vec::new();
        let written = self.turn.write(&mut self.sessions, sink, |slot, backlog| over.push((slot, backlog)));
        self.counters.writes += written;
        for slot in std::mem::take(&mut self.ended) {
            self.sessions.remove(slot);
        }
        let mut behind = Vec::new();
        for (slot, backlog) in over {
            // The slot is still that of the session that was written to, for nothing opens in a flush.
            if self.sessions.output(slot).is_ended() {
                continue;
            }
            match backlog {
                Backlog::Bytes(bytes) => {
                    if self.is_behind(slot, bytes) {
                        behind.push(slot);
                    }
                    self.on_backlog(slot, bytes);
                }
                Backlog::Parked { is_whole } => self.on_parked_output(slot, is_whole),
            }
        }
        self.settle_yielded(&behind);
        let (channels, member_bytes) = (&mut self.channels, &mut self.member_bytes);
        self.turn.end(&mut self.sessions, |EndedRun { local, formats }| {
            let part = &mut channels[local];
            part.run = NONE;
            part.formats = formats;
            *member_bytes -= part.subscribers.compact();
        });
    }

    /// Gives back the memory that is kept for later turns.
    pub fn give_back(&mut self) {
        self.turn.give_back();
    }

    /// Whether there is anything to flush, to take or to handle at once, so that the shell must not sleep. A
    /// flush, too, may find connections to end.
    pub fn is_busy(&self) -> bool {
        let to_take = !(self.answers.is_empty() && self.unpaused.is_empty() && self.disconnects.is_empty());
        to_take
            || self.evictor.is_wanted()
            || self.removal.is_under_way()
            || self.has_condemned()
            || !self.turn.is_empty()
            || !self.interrupted.is_empty()
            || self.calls.has_verdict()
            || !self.member_changes.is_empty()
            || !self.kept.is_empty()
            || !self.deferred.is_empty()
            || !self.node.mailbox(self.worker).is_empty()
    }

    /// Whether so much was done, or so much output gathered, that the shell should flush before it hands over
    /// more.
    pub fn is_turn_full(&self) -> bool {
        self.turn.bytes >= TURN_BYTES || self.work >= TURN_WORK
    }

    fn is_turn_half_full(&self) -> bool {
        self.turn.bytes >= TURN_BYTES / 2 || self.work >= TURN_WORK / 2
    }

    /// Whether a session's queue of `backlog` bytes is so long that its next command waits until its client
    /// has read more.
    #[inline]
    pub fn is_behind(&self, slot: SessionSlot, backlog: usize) -> bool {
        backlog > 0 && backlog > self.session_app(slot).limits.answer_bytes
    }

    /// A congested session's connection has sent all it had: tells it what it lost.
    pub fn on_drained(&mut self, slot: SessionSlot) {
        let (hot, session) = self.sessions.both(slot);
        if !hot.clear_congested() {
            return;
        }
        let format = hot.format;
        for (channel, count) in session.take_missed() {
            self.counters.missed += count;
            self.reply(slot, |out| dialect::encode_gap(format, out, channel.name(), count));
        }
    }

    /// Applies the policy to a session whose connection has `backlog` bytes waiting: that of its channels,
    /// or, in none, its app's. One channel that would rather disconnect is enough.
    fn on_backlog(&mut self, slot: SessionSlot, backlog: usize) {
        let (hot, session) = self.sessions.both(slot);
        let app = self.apps.of(session.app);
        // A congested session gets no publications any more, but asks for answers: it has as much room for
        // those again.
        let limit = app.limits.outbound_bytes * if hot.is_congested() { 2 } else { 1 };
        if backlog <= limit {
            return;
        }
        let policy =
            |membership: &session::Membership| self.channels[membership.local].channel.slow_consumer();
        let policies = session.memberships.as_slice();
        let drops = match policies.is_empty() {
            true => app.slow_consumer == SlowConsumer::Drop,
            false => policies.iter().map(policy).all(|policy| policy == SlowConsumer::Drop),
        };
        if drops && !hot.is_congested() {
            hot.set_congested();
            self.counters.congested += 1;
        } else {
            self.counters.slow_consumers += 1;
            self.disconnects.push((hot.connection, Disconnect::SlowConsumer));
        }
    }

    /// Counts messages that were forgotten because their app remembered too much.
    fn count_forgotten(&mut self, app: AppId, messages: usize) {
        self.counters.history_forgotten += messages as u64;
        self.node.count_forgotten(app, messages as u64);
    }

    /// Workers that got mail from this one since the last call: wake those whose mailbox says so.
    pub fn take_touched(&mut self) -> WorkerSet {
        std::mem::take(&mut self.touched)
    }

    /// Answers to requests that had to wait: token and answer.
    pub fn take_answers(&mut self) -> Vec<(u64, Result<Outcome, ReplyError>)> {
        std::mem::take(&mut self.answers)
    }

    /// Connections whose paused session goes on: hand over their next messages.
    pub fn take_unpaused(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unpaused)
    }

    /// Ends a session: with the end of its connection, or in the next turn if the session is parked. The
    /// session's ticket resumes nothing from now on.
    pub(super) fn disconnect_session(&mut self, slot: SessionSlot, why: Disconnect) {
        self.revoke_ticket(slot);
        self.drop_calls(self.session_id(slot));
        let output = self.sessions.hot(slot);
        match output.is_parked() {
            true => self.condemn(slot),
            false => self.disconnects.push((output.connection, why)),
        }
    }

    /// Connections to end, and why.
    pub fn take_disconnects(&mut self) -> Vec<(u32, Disconnect)> {
        std::mem::take(&mut self.disconnects)
    }

    /// Sessions on this worker.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The id of the session in `slot`.
    pub fn session_id(&self, slot: SessionSlot) -> SessionId {
        self.sessions.get(slot).id(slot)
    }

    /// The format that the session in `slot` receives.
    pub fn session_format(&mut self, slot: SessionSlot) -> Format {
        self.sessions.hot(slot).format
    }

    /// The app of the session in `slot`.
    pub fn session_app(&self, slot: SessionSlot) -> &Arc<App> {
        self.apps.of(self.sessions.get(slot).app)
    }
}
