//! The state of a channel, and how operations change it.
//!
//! A channel numbers its publications, keeps its history, counts its users, and says which workers are to be
//! told. All of that happens inside the channel's [`CombiningLock`](super::CombiningLock), one operation
//! after another, by whichever worker holds the lock. The state reaches that worker through [`Env`] alone: so
//! a test can apply operations without engines, and the model checker runs this very code.

use std::{slice, sync::Arc};

use arrayvec::ArrayVec;

use self::people::People;
use super::{
    Channel, ChannelReply, ChannelRequest, History, Interest, Operation, Position, Presence, Pushed,
    WorkerSet,
};
use crate::{
    app::{ChannelOptions, HistoryLimits, OptionsWord},
    error::ReplyError,
    id::{SessionId, WorkerId},
    limits::BURST,
    publication::{Body, OwnedPublication, Publication, UserState},
};

/// What the lock of a channel guards.
#[derive(Debug)]
pub struct ChannelState {
    /// Publications so far, notices included. Internal: tells a worker whether mail is from before its
    /// interest.
    sequence: u64,
    /// Messages so far that history or members received: the last offset given out.
    offset: u64,
    /// Workers that hold members.
    interest: WorkerSet,
    /// The options are those that the node has for the channel's name, or were set since. The first operation
    /// sees to that: they may have changed while the channel came into being.
    is_configured: bool,
    /// After the last operation, the channel has no members and no history that a session could recover. If
    /// that is still true when the lock is released, the channel closes.
    deserted: bool,
    /// The history, if the channel has one.
    history: Option<Box<History>>,
    /// The channel's members by user and by session, if the channel's options ask for that.
    people: Option<Box<People>>,
}

/// The worker that applies an operation, as the channel sees it.
pub trait Env {
    /// The worker.
    fn worker(&self) -> WorkerId;
    /// The time of its turn, in Unix milliseconds.
    fn now_ms(&self) -> u64;
    /// Whether a worker's mailbox takes no more messages.
    fn is_mailbox_full(&self, worker: WorkerId) -> bool;
    /// Whether this worker has mail that it has not handled.
    fn has_mail(&self) -> bool;
    /// Sends mail to a worker, perhaps to this one.
    fn post(&mut self, to: WorkerId, mail: ChannelMail);
    /// A notice about a user for everybody except a session.
    fn user_notice(&mut self, body: Body<'_>, except: Option<SessionId>) -> Arc<OwnedPublication>;
    /// The state of a user of the app.
    fn user_state(&self, user: &str) -> Option<Arc<UserState>>;
    /// Whether the app's histories would cost too much with so many bytes more.
    fn is_over_budget(&self, more: usize) -> bool;
    /// The channel's history cost `before` bytes and costs `now`.
    fn account(&mut self, before: usize, now: usize);
    /// So many messages were evicted because the app's histories cost too much.
    fn count_evicted(&mut self, messages: usize);
    /// A message was edited or deleted.
    fn count_change(&mut self);
    /// An operation has cost so many units of work beyond its own.
    fn charge(&mut self, units: usize);
    /// The options that a channel of this name has if `set` is set for it; `None`: what the configuration
    /// says.
    fn resolve_options(&self, set: Option<ChannelOptions>) -> ChannelOptions;
    /// The options of a channel of this name that comes into being now; `None`: those that the channel was
    /// made with.
    fn changed_options(&self) -> Option<ChannelOptions>;
    /// Sets the options of channels of this name, from their next lives on.
    fn set_options(&mut self, set: Option<ChannelOptions>) -> Result<(), ReplyError>;
}

/// What a channel sends to workers.
#[derive(Debug)]
pub enum ChannelMail {
    /// For the worker's members.
    Publication {
        /// Its place in the channel's sequence.
        sequence: u64,
        /// What to deliver.
        publication: Arc<OwnedPublication>,
    },
    /// Publications of one operation, for the worker's members.
    Publications {
        /// The place of the first in the channel's sequence.
        sequence: u64,
        /// What to deliver, in order: at most [`BURST`], for one audience.
        publications: Arc<[OwnedPublication]>,
    },
    /// The worker has gained interest: publications after this sequence are for its members.
    Live {
        /// The last sequence number that is not.
        sequence: u64,
        /// The last offset given out before it.
        offset: u64,
        /// Of the operation that gained it.
        ticket: u64,
    },
    /// An operation that the worker delegated is done.
    Done {
        /// What came of it.
        receipt: Receipt,
        /// What came of its request.
        reply: Option<Box<ChannelReply>>,
        /// Of the operation.
        ticket: u64,
    },
    /// An operation that the worker delegated was refused.
    Refused {
        /// Why.
        error: ReplyError,
        /// Of the operation.
        ticket: u64,
    },
}

impl ChannelMail {
    /// Bytes that the mail keeps alive.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Publication { publication, .. } => publication.bytes(),
            Self::Publications { publications, .. } => publications.iter().map(OwnedPublication::bytes).sum(),
            Self::Done { reply: Some(reply), .. } => reply.bytes(),
            Self::Live { .. } | Self::Done { .. } | Self::Refused { .. } => 0,
        }
    }
}

/// What came of an operation on a channel.
#[derive(Copy, Clone, Debug)]
pub struct Receipt {
    /// The channel's sequence before the operation.
    pub sequence: u64,
    /// Where the stream stands after it.
    pub position: Position,
    /// The offset of the publication, of several the last, if it took one.
    pub offset: Option<u64>,
}

/// Who asks for an operation, and for what, apart from its publications.
#[derive(Debug)]
pub struct Request {
    /// The worker that asked.
    pub worker: WorkerId,
    /// See [`Operation::interest`].
    pub interest: Option<Interest>,
    /// See [`Operation::request`].
    pub request: Option<Box<ChannelRequest>>,
    /// See [`Operation::presence`].
    pub presence: Option<Box<Presence>>,
    /// Of an operation that was delegated.
    pub ticket: Option<u64>,
}

/// Where the worker is that asked for an operation.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Asker {
    /// It applies the operation itself.
    Inside,
    /// It delegated the operation, or nobody asked.
    Elsewhere,
}

/// What [`ChannelState::apply`] leaves to its caller.
#[derive(Debug)]
pub struct Applied {
    /// For whoever asked.
    pub receipt: Receipt,
    /// What came of the request.
    pub reply: Option<ChannelReply>,
    /// Whether the caller is to give the publications to its own members now. Else they are in its mailbox,
    /// if it has members.
    pub direct: bool,
    /// The sequence number of the first publication.
    pub sequence: u64,
}

impl ChannelState {
    /// The state of a channel that comes into being.
    pub(super) fn new(options: ChannelOptions) -> Self {
        Self {
            sequence: 0,
            offset: 0,
            interest: WorkerSet::default(),
            is_configured: false,
            deserted: false,
            history: options.history.is_on().then(|| Box::new(History::new(options.history, 0))),
            people: People::of(options).map(Box::new),
        }
    }

    /// Whether the channel closes if the lock is released now.
    #[inline]
    pub fn is_deserted(&self) -> bool {
        self.deserted
    }

    /// Workers that hold members.
    #[cfg(all(test, loom))]
    pub(super) fn interest(&self) -> WorkerSet {
        self.interest
    }

    /// Applies an operation. Does nothing if it refuses. `publications` are given their offsets.
    #[inline(always)]
    pub fn apply(
        &mut self,
        channel: &Channel,
        request: Request,
        publications: &mut [Publication<'_>],
        env: &mut impl Env,
    ) -> Result<Applied, ReplyError> {
        if !self.is_configured {
            self.configure(channel, env);
        }
        if publications.first().is_some_and(|publication| publication.body.is_message()) {
            self.check_mailboxes(env)?;
        }
        let Request { worker, interest, request, presence, ticket } = request;
        if interest == Some(Interest::Gained) {
            self.interest.insert(worker);
            if let Some(ticket) = ticket {
                let Self { sequence, offset, .. } = *self;
                env.post(worker, ChannelMail::Live { sequence, offset, ticket });
            }
        }
        let before = self.sequence;
        let reply = request.map(|request| self.serve(channel, *request, env)).transpose()?;
        let mut offset = match reply {
            Some(ChannelReply::Changed(offset)) => offset,
            _ => None,
        };
        let sequence = self.sequence + 1;
        let mut copies = ArrayVec::<_, BURST>::new();
        for publication in publications.iter_mut() {
            copies.push(self.number(channel, publication, env));
            offset = publication.offset;
        }
        let asker = if ticket.is_none() { Asker::Inside } else { Asker::Elsewhere };
        let direct = self.distribute(asker, publications, &copies, env);
        if let Some(presence) = presence {
            self.count_user(channel, &presence, env);
        }
        if interest == Some(Interest::Lost) {
            self.interest.remove(worker);
            if let Some(history) = &mut self.history {
                history.touch(env.now_ms());
                self.account(channel, env);
            }
        }
        self.deserted = self.is_unused(env.now_ms()) && channel.name().is_some();
        if self.deserted {
            self.account(channel, env);
        }
        let position = Position { epoch: channel.epoch(), offset: self.offset };
        Ok(Applied { receipt: Receipt { sequence: before, position, offset }, direct, sequence, reply })
    }

    /// Takes the present options, before anything else is done.
    #[inline]
    fn configure(&mut self, channel: &Channel, env: &impl Env) {
        self.is_configured = true;
        if channel.name().is_some()
            && let Some(options) = env.changed_options()
        {
            self.reconfigure(channel, options, env.now_ms());
        }
    }

    #[cold]
    fn reconfigure(&mut self, channel: &Channel, options: ChannelOptions, now_ms: u64) {
        let history = self.history.as_ref().map_or(HistoryLimits::NONE, |history| history.limits());
        let limits = if options.history.is_on() { options.history } else { HistoryLimits::NONE };
        if !channel.has_word(options) || history != limits {
            self.set_options(channel, options, now_ms);
        }
    }

    /// Applies an operation that was delegated, and sends its answer.
    pub fn apply_delegated(&mut self, channel: &Channel, operation: Operation, env: &mut impl Env) {
        let Operation { worker, interest, publications, request, presence, ticket } = operation;
        let request = Request { worker, interest, request, presence, ticket: Some(ticket) };
        let mut views: ArrayVec<_, BURST> = publications.iter().map(OwnedPublication::view).collect();
        let mail = match self.apply(channel, request, &mut views, env) {
            Ok(Applied { receipt, reply, .. }) => {
                ChannelMail::Done { receipt, reply: reply.map(Box::new), ticket }
            }
            Err(error) => ChannelMail::Refused { error, ticket },
        };
        env.post(worker, mail);
    }

    /// Whether it has no members, and no history that a session could recover.
    fn is_unused(&self, now_ms: u64) -> bool {
        self.interest.is_empty() && self.history.as_ref().is_none_or(|history| history.is_over(now_ms))
    }

    /// Refuses if a worker with members has a full mailbox.
    #[inline(always)]
    fn check_mailboxes(&self, env: &impl Env) -> Result<(), ReplyError> {
        let full = self.interest.into_iter().any(|worker| env.is_mailbox_full(worker));
        if full { Err(ReplyError::Overloaded) } else { Ok(()) }
    }

    /// Gives a message its offset, and appends it to the history. Returns the history's own copy, if it may
    /// be shared.
    #[inline(always)]
    fn number(
        &mut self,
        channel: &Channel,
        publication: &mut Publication<'_>,
        env: &mut impl Env,
    ) -> Option<Arc<OwnedPublication>> {
        if !publication.body.is_message() || channel.name().is_none() {
            publication.kept = false;
            self.note_member(publication);
            return None;
        }
        let audience = publication.audience;
        let Some(history) = &mut self.history else {
            publication.kept = false;
            if !self.interest.is_empty() && !audience.is_filtered() {
                self.offset += 1;
                channel.set_offset(self.offset);
                publication.offset = Some(self.offset);
            }
            return None;
        };
        // A session that comes back is another one, so nobody could ask for a message to one session.
        publication.kept &= audience.only_session.is_none();
        if !publication.kept {
            return None;
        }
        self.offset += 1;
        channel.set_offset(self.offset);
        publication.offset = Some(self.offset);
        let may_cost = |bytes: usize| {
            let before = channel.remembered();
            let over = bytes > before && env.is_over_budget(bytes - before);
            // Until the app is within its budget, no channel grows.
            if over { before } else { usize::MAX }
        };
        let Pushed { shared, forgotten } = history.push(publication, env.now_ms(), may_cost);
        if forgotten > 0 {
            env.count_evicted(forgotten);
        }
        self.account(channel, env);
        shared
    }

    /// Takes the next places in the sequence for the publications of one operation, and posts them to every
    /// interested worker. Returns whether the caller is to give them to its own members at once: if it is the
    /// asker, and no mail waits that was before them. `copies` has the history's copy of each, if there is
    /// one.
    #[inline(always)]
    fn distribute(
        &mut self,
        asker: Asker,
        publications: &[Publication<'_>],
        copies: &[Option<Arc<OwnedPublication>>],
        env: &mut impl Env,
    ) -> bool {
        let sequence = self.sequence + 1;
        self.sequence += publications.len() as u64;
        let own = env.worker();
        let direct = asker == Asker::Inside && self.interest.contains(own) && !env.has_mail();
        let to = if direct { self.interest.without(own) } else { self.interest };
        if !to.is_empty() {
            post_to(to, sequence, publications, copies, env);
        }
        direct
    }

    /// Takes the next place in the sequence for a publication that no caller delivers, and posts it to every
    /// interested worker. `copy` is the publication, if it can be shared.
    fn tell(
        &mut self,
        publication: &Publication<'_>,
        copy: Option<Arc<OwnedPublication>>,
        env: &mut impl Env,
    ) {
        self.distribute(Asker::Elsewhere, slice::from_ref(publication), &[copy], env);
    }

    /// Does what a request asks for.
    fn serve(
        &mut self,
        channel: &Channel,
        request: ChannelRequest,
        env: &mut impl Env,
    ) -> Result<ChannelReply, ReplyError> {
        if let Some(history) = &mut self.history {
            history.expire(env.now_ms());
            self.account(channel, env);
            self.deserted = self.is_unused(env.now_ms());
        }
        env.charge(self.work(&request));
        let history = self.history.as_deref();
        let reply = match request {
            ChannelRequest::Page { from, bounds, reader } => ChannelReply::Page(
                history.map(|history| history.page(from, bounds, &reader)).unwrap_or_default(),
            ),
            ChannelRequest::CatchUp { since, bounds, reader } if since <= self.offset => {
                ChannelReply::CaughtUp(history.and_then(|history| history.catch_up(since, bounds, &reader)))
            }
            ChannelRequest::CatchUp { .. } => ChannelReply::CaughtUp(None),
            ChannelRequest::Trim(bytes) => {
                if let Some(history) = &mut self.history {
                    env.count_evicted(history.trim(bytes));
                    self.account(channel, env);
                }
                ChannelReply::Done
            }
            ChannelRequest::SetOptions(set) => {
                let options = env.resolve_options(set);
                self.check_options(options)?;
                env.set_options(set)?;
                self.set_options(channel, options, env.now_ms());
                self.account(channel, env);
                ChannelReply::Done
            }
            ChannelRequest::Reconfigure => {
                let options = self.keep_counts(env.resolve_options(None));
                self.set_options(channel, options, env.now_ms());
                self.account(channel, env);
                ChannelReply::Done
            }
            ChannelRequest::Users { after, limit } => self.users_page(after, limit),
            ChannelRequest::AnnounceUser(change) => {
                self.announce_user(&change, env);
                ChannelReply::Done
            }
            ChannelRequest::Roster { limit, ticket, asker } => {
                self.mail_roster(channel, limit, (asker, ticket), env);
                ChannelReply::Done
            }
            ChannelRequest::Change(change) => {
                ChannelReply::Changed(Some(self.change(channel, &change, env)?))
            }
            ChannelRequest::Amend(amendment) => ChannelReply::Changed(self.amend(channel, &amendment, env)?),
        };
        Ok(reply)
    }

    /// Units of work that a request may cost: about a microsecond each, for so many entries looked at and
    /// copied.
    fn work(&self, request: &ChannelRequest) -> usize {
        /// Entries copied, and entries looked at, in a microsecond.
        const COPIED: usize = 4;
        const SEEN: usize = 64;
        let entries = self.history.as_ref().map_or(0, |history| history.len());
        match request {
            ChannelRequest::Page { bounds, .. } => bounds.messages.min(entries) / COPIED + entries / SEEN,
            ChannelRequest::CatchUp { since, .. } => {
                let missed = usize::try_from(self.offset.saturating_sub(*since)).unwrap_or(usize::MAX);
                missed.min(entries) / COPIED + entries / SEEN
            }
            ChannelRequest::Users { limit, .. } | ChannelRequest::Roster { limit, .. } => limit / COPIED,
            ChannelRequest::Trim(_) | ChannelRequest::SetOptions(_) | ChannelRequest::Reconfigure => {
                entries / SEEN
            }
            ChannelRequest::AnnounceUser(_) => 1,
            ChannelRequest::Change(_) | ChannelRequest::Amend(_) => {
                1 + self.history.as_ref().map_or(0, |history| history.searched()) / SEEN
            }
        }
    }

    /// Refuses options that start or stop the count of members while the channel has members, because the
    /// channel has not counted them.
    fn check_options(&self, options: ChannelOptions) -> Result<(), ReplyError> {
        let now = self.people.as_deref();
        let counts_users = OptionsWord::from(options).counts_users();
        let changes = counts_users != now.is_some_and(People::counts_users)
            || options.roster != now.is_some_and(People::keeps_roster);
        if changes && !self.interest.is_empty() { Err(ReplyError::OptionInUse) } else { Ok(()) }
    }

    /// Options with the present counts and list of members, if the channel has members.
    fn keep_counts(&self, options: ChannelOptions) -> ChannelOptions {
        if self.check_options(options).is_ok() {
            return options;
        }
        let now = self.people.as_deref();
        let roster = now.is_some_and(People::keeps_roster);
        let presence_by_user = now.is_some_and(People::counts_users);
        ChannelOptions { presence_by_user, roster, announce: options.announce || roster, ..options }
    }

    /// Changes the channel's options, which [`ChannelState::check_options`] has not refused. Its history
    /// stays, within the new bounds.
    fn set_options(&mut self, channel: &Channel, options: ChannelOptions, now_ms: u64) {
        if self.interest.is_empty() {
            self.people = People::of(options).map(Box::new);
        }
        channel.set_word(options);
        match &mut self.history {
            Some(history) if options.history.is_on() => history.set_limits(options.history, now_ms),
            history if options.history.is_on() => {
                *history = Some(Box::new(History::new(options.history, self.offset)));
            }
            history => *history = None,
        }
    }

    /// Tells the channel and the app what the history costs.
    #[inline(always)]
    fn account(&self, channel: &Channel, env: &mut impl Env) {
        let over = |history: &History| self.interest.is_empty() && history.is_over(env.now_ms());
        let now = self.history.as_ref().filter(|history| !over(history)).map_or(0, |history| history.bytes());
        let before = channel.remembered();
        // Once the ring is full it costs the same after most messages.
        if now != before {
            env.account(before, now);
            channel.set_remembered(now);
        }
    }
}

/// Posts publications of one operation; the first has this sequence number. A publication that is shared with
/// the history is not copied again. Others travel together, as one copy for all workers except that of the
/// session that wants no echo: only that worker must know of it.
fn post_to(
    to: WorkerSet,
    sequence: u64,
    publications: &[Publication<'_>],
    copies: &[Option<Arc<OwnedPublication>>],
    env: &mut impl Env,
) {
    let Some(first) = publications.first() else { return };
    let excepts = |to: WorkerId| first.audience.except_session.is_some_and(|session| session.worker() == to);
    if publications.len() > 1 && copies.iter().all(Option::is_none) {
        let mut copy: Option<Arc<[_]>> = None;
        for worker in to {
            let publications = if excepts(worker) {
                publications.iter().map(|&publication| publication.into()).collect()
            } else {
                let new = || publications.iter().map(Publication::without_exception).collect();
                copy.get_or_insert_with(new).clone()
            };
            env.post(worker, ChannelMail::Publications { sequence, publications });
        }
        return;
    }
    for ((sequence, publication), copy) in (sequence..).zip(publications).zip(copies) {
        let mut copy = copy.clone();
        for worker in to {
            let publication = if excepts(worker) {
                Arc::new((*publication).into())
            } else {
                copy.get_or_insert_with(|| Arc::new(publication.without_exception())).clone()
            };
            env.post(worker, ChannelMail::Publication { sequence, publication });
        }
    }
}

mod changes;
mod people;
#[cfg(all(test, not(loom)))]
mod tests;
