//! Questions that concern several workers: members of a channel, sessions of a user, channels of an app.
//!
//! A query travels from worker to worker as mail. Each worker adds its part, and the last one returns the
//! query to the worker that asked. No worker stops for a query. A worker reads or answers one list of all
//! members a turn, because such a list is long.

use std::{ops::Range, sync::Arc};

use super::{
    Engine,
    mail::Mail,
    membership::JoinAs,
    reconfigure::{Part, Reconfiguration},
    waiting::Progress,
};
use crate::{
    channel::Viewer,
    command::{Cursor, Disconnection, MembersPage, Membership, Outcome, SessionsPage, UserSession},
    disconnect::Disconnect,
    error::ReplyError,
    id::{AppId, LocalId, SessionId, SessionSlot, WorkerId},
    limits::{PAGE_BYTES, SESSIONS_LOOKED_AT, WHOLE_LISTS},
    publication::{IdentityCard, OwnedPublication},
};

/// A question on its way.
pub struct WorkerQuery {
    origin: WorkerId,
    ticket: u64,
    app: AppId,
    /// The worker to visit next, and the one before which to stop.
    at: u16,
    end: u16,
    question: Question,
}

impl WorkerQuery {
    /// About how many bytes it keeps alive.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.question {
                Question::Members { page, .. } => page.members.iter().map(member_bytes).sum(),
                Question::Sessions { page, .. } => page.sessions.iter().map(session_bytes).sum(),
                Question::AllMembers { members, .. } => members.iter().map(member_bytes).sum(),
                Question::Direct { publication, .. } => publication.bytes(),
                Question::Disconnect { .. } | Question::Reconfigure(_) => 0,
                Question::Enroll { channel, .. } | Question::Confirm { channel, .. } => channel.len(),
                Question::Profile { profile, .. } => profile.len(),
            }
    }
}

/// About how many bytes a member in a page keeps alive.
fn member_bytes(member: &IdentityCard) -> usize {
    size_of::<IdentityCard>() + member.profile.as_ref().map_or(0, |profile| profile.len())
}

/// About how many bytes a session in a page keeps alive.
fn session_bytes(session: &UserSession) -> usize {
    let names = session.channels.iter().map(|name| size_of::<Box<str>>() + name.len()).sum::<usize>();
    size_of::<UserSession>() + session.profile.as_ref().map_or(0, |profile| profile.len()) + names
}

pub(super) enum Question {
    Members {
        reading: Reading,
        page: MembersPage,
    },
    AllMembers {
        channel: Box<str>,
        members: Vec<IdentityCard>,
        budget: Budget,
    },
    Sessions {
        reading: Reading,
        page: SessionsPage,
    },
    /// A publication to a user's sessions, which the user's worker orders.
    Direct {
        publication: Arc<OwnedPublication>,
        refused: Option<ReplyError>,
    },
    Disconnect {
        whom: Disconnection,
        why: Disconnect,
        sessions: usize,
    },
    Enroll {
        session: SessionId,
        channel: Box<str>,
        membership: Membership,
    },
    /// A change of the app's settings.
    Reconfigure(Reconfiguration),
    /// Whether a session is a member, for the sender of a message to this session alone.
    Confirm {
        session: SessionId,
        channel: Box<str>,
        is_member: bool,
    },
    Profile {
        session: SessionId,
        profile: Box<str>,
    },
}

/// From where on a page is read, and how much fits into it.
pub(super) struct Reading {
    after: u64,
    limit: usize,
    bytes: usize,
}

/// The bytes that are left for a list; `None` if the list has become too long.
#[derive(Copy, Clone)]
pub(super) struct Budget(Option<usize>);

impl Budget {
    /// Takes an entry of about `bytes` bytes into the list. Returns whether the entry fits.
    fn take(&mut self, bytes: usize) -> bool {
        self.0 = self.0.and_then(|left| left.checked_sub(bytes));
        self.0.is_some()
    }
}

impl Reading {
    fn new(after: u64, limit: usize) -> Self {
        Self { after, limit, bytes: PAGE_BYTES }
    }

    /// Takes an entry of about so many bytes. Returns whether that was the last that fits.
    fn take(&mut self, bytes: usize) -> bool {
        self.limit -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.limit == 0 || self.bytes == 0
    }
}

/// About what an entry takes as JSON.
fn bytes_of(user: Option<&str>, profile: Option<&str>) -> usize {
    64 + user.map_or(0, str::len) + profile.map_or(0, str::len)
}

/// Units of work that so many entries of a page cost.
fn page_work(entries: usize) -> usize {
    entries / 4
}

impl Engine {
    /// A page of a channel's members.
    pub(super) fn members(
        &mut self,
        app: AppId,
        channel: &str,
        limit: usize,
        after: Option<Cursor>,
        viewer: &Viewer,
    ) -> Result<Progress, ReplyError> {
        let Cursor { worker, after } = after.unwrap_or(Cursor { worker: 0, after: 0 });
        let end = self.node.worker_count();
        if worker >= end {
            return Err(ReplyError::InvalidCursor);
        }
        self.drain_mailbox();
        let total = self.node.table.find(app, channel, |channel| channel.members()).unwrap_or(0);
        let sees = matches!(viewer, Viewer::BackEnd) && self.apps.of(app).member_addresses;
        let addresses = sees.then(Vec::new);
        let page = MembersPage { channel: channel.into(), total, members: Vec::new(), addresses, next: None };
        let question = Question::Members { reading: Reading::new(after, limit), page };
        self.ask(app, worker..end, question)
    }

    /// Asks all workers for the members of a channel.
    pub(super) fn all_members(&mut self, app: AppId, channel: &str) -> Result<Progress, ReplyError> {
        self.drain_mailbox();
        let budget = Budget(Some(self.apps.of(app).limits.members_bytes));
        let question = Question::AllMembers { channel: channel.into(), members: Vec::new(), budget };
        self.ask(app, 0..self.node.worker_count(), question)
    }

    /// Publishes to a user's sessions. One worker orders everything for a user, so all sessions of the user
    /// receive such publications in one order. The answer comes after the publication.
    pub(super) fn publish_to_user(
        &mut self,
        app: AppId,
        user: &str,
        publication: Arc<OwnedPublication>,
    ) -> Result<Progress, ReplyError> {
        let WorkerId(owner) = self.node.owner(app, user);
        self.ask(app, owner..owner + 1, Question::Direct { publication, refused: None })
    }

    /// Ends sessions, for an app's back end.
    pub(super) fn disconnect(
        &mut self,
        app: AppId,
        whom: Disconnection,
        why: Disconnect,
    ) -> Result<Progress, ReplyError> {
        let workers = match &whom {
            Disconnection::Session(id) => self.node.workers_of(*id),
            Disconnection::User(_) | Disconnection::Token(_) => 0..self.node.worker_count(),
        };
        self.ask(app, workers, Question::Disconnect { whom, why, sessions: 0 })
    }

    /// Makes a session of any worker join or leave a channel.
    pub(super) fn enroll_session(
        &mut self,
        app: AppId,
        session: SessionId,
        channel: &str,
        membership: Membership,
    ) -> Result<Progress, ReplyError> {
        let worker = self.node.workers_of(session);
        self.ask(app, worker, Question::Enroll { session, channel: channel.into(), membership })
    }

    /// Sets the profile of a session of any worker.
    pub(super) fn set_profile(
        &mut self,
        app: AppId,
        session: SessionId,
        profile: &str,
    ) -> Result<Progress, ReplyError> {
        let worker = self.node.workers_of(session);
        self.ask(app, worker, Question::Profile { session, profile: profile.into() })
    }

    /// Asks for a page of a user's sessions, or of all sessions of the app.
    pub(super) fn sessions_of(
        &mut self,
        app: AppId,
        user: Option<&str>,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Progress, ReplyError> {
        let Cursor { worker, after } = after.unwrap_or(Cursor { worker: 0, after: 0 });
        let end = self.node.worker_count();
        if worker >= end {
            return Err(ReplyError::InvalidCursor);
        }
        let page = SessionsPage { user: user.map(Into::into), sessions: Vec::new(), next: None };
        let question = Question::Sessions { reading: Reading::new(after, limit), page };
        self.ask(app, worker..end, question)
    }

    /// Has a query visit `workers`.
    pub(super) fn ask(
        &mut self,
        app: AppId,
        workers: Range<u16>,
        question: Question,
    ) -> Result<Progress, ReplyError> {
        let Range { start: at, end } = workers;
        let ticket = self.next_ticket;
        let outcome = question.unanswered();
        let query = Box::new(WorkerQuery { origin: self.worker, ticket, app, at, end, question });
        if self.must_defer(&query) {
            self.deferred.push_back(query);
            self.next_ticket += 1;
            return Ok(Progress::Waiting { ticket, outcome });
        }
        match self.advance(query) {
            Some(query) => match query.question.outcome() {
                Ok(outcome) => Ok(Progress::Finished(outcome)),
                Err(error) => Err(self.count_refusal(error)),
            },
            None => {
                self.next_ticket += 1;
                Ok(Progress::Waiting { ticket, outcome })
            }
        }
    }

    fn count_refusal(&mut self, error: ReplyError) -> ReplyError {
        self.counters.member_lists_refused += u64::from(error == ReplyError::TooManyMembers);
        error
    }

    /// Handles a query that visits this worker, or an answered query that has come back.
    pub(super) fn on_query(&mut self, query: Box<WorkerQuery>) {
        if self.must_defer(&query) {
            return self.deferred.push_back(query);
        }
        if let Some(query) = self.advance(query) {
            self.finish_query(*query);
        }
    }

    fn finish_query(&mut self, query: WorkerQuery) {
        if let Some(waiting) = self.waiting.remove(&query.ticket) {
            let result = query.question.outcome().map_err(|error| self.count_refusal(error));
            self.answer(waiting.who, result);
        }
    }

    /// Whether a query has to wait for a later turn: a worker reads or answers one long list a turn, and
    /// changes its apps between two commands.
    fn must_defer(&mut self, query: &WorkerQuery) -> bool {
        match query.question {
            Question::AllMembers { .. } => {}
            Question::Reconfigure(_) => return true,
            _ => return false,
        }
        if self.whole_lists == 0 {
            return true;
        }
        self.whole_lists -= 1;
        false
    }

    /// Continues the queries that the last turn deferred.
    pub(super) fn resume_deferred(&mut self) {
        self.whole_lists = WHOLE_LISTS;
        for _ in 0..WHOLE_LISTS {
            let Some(query) = self.deferred.pop_front() else { return };
            if !matches!(query.question, Question::Reconfigure(_)) {
                self.on_query(query);
            } else if let Some(query) = self.advance(query) {
                self.finish_query(*query);
            }
        }
    }

    /// Takes a query as far as this worker can; gives it back if it is answered and ours.
    fn advance(&mut self, mut query: Box<WorkerQuery>) -> Option<Box<WorkerQuery>> {
        while query.at < query.end {
            let next = WorkerId(query.at);
            if next != self.worker {
                self.post(next, Mail::Query(query));
                return None;
            }
            if self.visit(&mut query) == Part::Goes {
                self.deferred.push_back(query);
                return None;
            }
            query.at += 1;
        }
        if query.origin == self.worker {
            return Some(query);
        }
        self.post(query.origin, Mail::Answer(query));
        None
    }

    /// Adds this worker's part.
    fn visit(&mut self, query: &mut WorkerQuery) -> Part {
        let WorkerQuery { app, at, end, question, .. } = query;
        match question {
            Question::Members { reading, page } => {
                self.publish_batch_in(*app, &page.channel);
                self.work += page_work(reading.limit);
                if self.list_members(*app, reading, page) {
                    *end = self.worker.0;
                }
                reading.after = 0;
            }
            Question::Sessions { reading, page } => {
                self.work += page_work(reading.limit);
                if self.list_sessions(*app, reading, page) {
                    *end = self.worker.0;
                }
                reading.after = 0;
            }
            Question::AllMembers { channel, members, budget } => {
                self.publish_batch_in(*app, channel);
                let before = members.len();
                if !self.list_all_members(*app, channel, members, budget) {
                    *end = self.worker.0;
                }
                self.work += page_work(members.len().saturating_sub(before));
            }
            Question::Direct { publication, refused } => {
                *refused = self.publish_direct(*app, &publication.view()).err();
            }
            Question::Disconnect { whom, why, sessions } => {
                *sessions += self.disconnect_here(*app, whom, *why);
            }
            Question::Enroll { session, channel, membership } => {
                self.enroll_here(*app, *session, channel, *membership);
            }
            Question::Reconfigure(change) => return self.reconfigure_here(*app, change, *at + 1 == *end),
            Question::Confirm { session, channel, is_member } => {
                *is_member = self.has_member(*app, *session, channel);
            }
            Question::Profile { session, profile } => {
                if let Some(slot) =
                    self.sessions.find(*session).filter(|slot| self.sessions.get(*slot).app == *app)
                {
                    self.update(slot, profile, Some(false));
                }
            }
        }
        Part::Done
    }

    /// Fills the page from this worker's members. Returns whether it is full.
    fn list_members(&self, app: AppId, reading: &mut Reading, page: &mut MembersPage) -> bool {
        let Some(part) = self.part(app, &page.channel) else { return false };
        let local = &self.channels[part];
        let mut members = local.subscribers.after(reading.after);
        for (number, slot) in members.by_ref() {
            let session = self.sessions.get(slot);
            let bytes = bytes_of(session.user(), session.profile.as_deref());
            page.members.push(session.card(slot));
            if let Some(addresses) = &mut page.addresses {
                addresses.push(session.address());
            }
            if reading.take(bytes) {
                let more = members.next().is_some() || local.channel.has_members_after(self.worker);
                page.next = more.then_some(Cursor { worker: self.worker.0, after: number });
                return true;
            }
        }
        false
    }

    /// Adds the members on this worker to a list. Returns whether all members fit.
    fn list_all_members(
        &self,
        app: AppId,
        channel: &str,
        list: &mut Vec<IdentityCard>,
        budget: &mut Budget,
    ) -> bool {
        let Some(part) = self.part(app, channel) else { return true };
        for (_, slot) in self.channels[part].subscribers.after(0) {
            let session = self.sessions.get(slot);
            if !budget.take(bytes_of(session.user(), session.profile.as_deref())) {
                list.clear();
                return false;
            }
            list.push(session.card(slot));
        }
        true
    }

    /// Adds sessions on this worker, from slot `reading.after` on, to a page: sessions of a user, or all.
    /// Returns whether the page is full or has cost as much as one page may cost.
    fn list_sessions(&self, app: AppId, reading: &mut Reading, page: &mut SessionsPage) -> bool {
        let Ok(from) = u32::try_from(reading.after) else { return false };
        if let Some(user) = page.user.clone() {
            return self.fill_sessions(self.users.sessions(app, &user, SessionSlot(from)), reading, page);
        }
        let end = self.sessions.slots();
        let until = end.min(from.saturating_add(SESSIONS_LOOKED_AT as u32));
        let slots = (from..until).map(SessionSlot).filter(|slot| self.sessions.is_of(*slot, app));
        if self.fill_sessions(slots, reading, page) {
            return true;
        }
        if until < end {
            page.next = Some(Cursor { worker: self.worker.0, after: until.into() });
        }
        until < end
    }

    fn fill_sessions(
        &self,
        slots: impl Iterator<Item = SessionSlot>,
        reading: &mut Reading,
        page: &mut SessionsPage,
    ) -> bool {
        let mut is_full = reading.is_full();
        for slot in slots {
            if is_full {
                page.next = Some(Cursor { worker: self.worker.0, after: slot.0.into() });
                return true;
            }
            let session = self.sessions.get(slot);
            let memberships = session.memberships.as_slice().iter();
            let name =
                |part: LocalId| -> Box<str> { self.channels[part].channel.name().unwrap_or_default().into() };
            let channels: Vec<_> = memberships.map(|membership| name(membership.local)).collect();
            let bytes = channels.iter().map(|name| name.len()).sum::<usize>();
            is_full = reading.take(bytes + bytes_of(session.user(), session.profile.as_deref()));
            let user = session.user.clone().filter(|_| page.user.is_none());
            let profile = session.profile.clone();
            page.sessions.push(UserSession {
                id: session.id(slot),
                user,
                profile,
                channels,
                address: session.address(),
            });
        }
        false
    }

    /// Ends sessions on this worker. Returns the number of sessions ended.
    fn disconnect_here(&mut self, app: AppId, whom: &Disconnection, why: Disconnect) -> usize {
        let slots: Vec<SessionSlot> = match whom {
            Disconnection::Session(id) => self.sessions.find(*id).into_iter().collect(),
            Disconnection::User(user) => self.users.sessions(app, user, SessionSlot(0)).collect(),
            Disconnection::Token(id) => self.token_ids.sessions(app, id, SessionSlot(0)).collect(),
        };
        let mut told = 0;
        for slot in slots {
            if self.sessions.get(slot).app == app {
                self.disconnect_session(slot, why);
                told += 1;
            }
        }
        told
    }

    /// Makes a session on this worker join or leave a channel. A join beyond the app's limits has no effect.
    fn enroll_here(&mut self, app: AppId, session: SessionId, channel: &str, membership: Membership) {
        let Some(slot) = self.sessions.find(session).filter(|slot| self.sessions.get(*slot).app == app)
        else {
            return;
        };
        let is_refused = match membership {
            Membership::Begins => self.join(slot, channel, JoinAs::default()).is_err(),
            Membership::Ends => {
                self.leave(slot, channel, None);
                false
            }
        };
        self.counters.command_errors += u64::from(is_refused);
    }
}

impl Question {
    fn outcome(self) -> Result<Outcome, ReplyError> {
        Ok(match self {
            Question::Members { page, .. } => Outcome::Members(page),
            Question::AllMembers { budget: Budget(None), .. } => return Err(ReplyError::TooManyMembers),
            Question::AllMembers { members, .. } => Outcome::AllMembers(members),
            Question::Sessions { page, .. } => Outcome::Sessions(page),
            Question::Direct { refused: Some(error), .. } => return Err(error),
            Question::Direct { publication, .. } => Outcome::Broadcast { message_id: publication.view().id },
            Question::Disconnect { sessions, .. } => Outcome::Disconnected { sessions },
            Question::Confirm { is_member: false, .. } => {
                return Err(ReplyError::InvalidCommand("The receiver has not joined the channel."));
            }
            Question::Enroll { .. }
            | Question::Confirm { .. }
            | Question::Profile { .. }
            | Question::Reconfigure(_) => Outcome::Done,
        })
    }

    /// What stands in for the outcome until the query is back.
    fn unanswered(&self) -> Outcome {
        match self {
            Question::Members { .. }
            | Question::AllMembers { .. }
            | Question::Sessions { .. }
            | Question::Direct { .. } => Outcome::Updated,
            Question::Enroll { .. }
            | Question::Confirm { .. }
            | Question::Profile { .. }
            | Question::Reconfigure(_) => Outcome::Done,
            Question::Disconnect { .. } => Outcome::Disconnected { sessions: 0 },
        }
    }
}
