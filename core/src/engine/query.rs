//! Questions that concern several workers: members of a channel, sessions of a user, channels of an app.
//!
//! A query travels from worker to worker as mail, each adding its part, and returns to where it was asked.
//! Nobody stops for it. Lists of all members are long: a worker reads, and answers, one a turn. A listing of
//! channels needs no travelling: the table is everybody's.

use std::sync::Arc;

use super::{Engine, mail::Mail, membership::JoinAs, waiting::Progress};
use crate::{
    command::{
        ChannelsPage, Cursor, Disconnection, MembersPage, Membership, Outcome, SessionsPage, UserSession,
    },
    disconnect::Disconnect,
    error::ReplyError,
    id::{AppId, LocalId, SessionId, SessionSlot, WorkerId},
    limits::{CHANNELS_LOOKED_AT, PAGE_BYTES, TABLE_SHARDS, WHOLE_LISTS},
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
                Question::Disconnect { .. } => 0,
                Question::Enroll { channel, .. } => channel.len(),
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

enum Question {
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
    /// A publication for a user, which the user's worker passes on.
    Direct {
        publication: Arc<OwnedPublication>,
        refused: Option<ReplyError>,
    },
    Disconnect {
        whom: Disconnection,
        reconnect: bool,
        sessions: usize,
    },
    Enroll {
        session: SessionId,
        channel: Box<str>,
        membership: Membership,
    },
}

/// From where on a page is read, and how much fits into it.
struct Reading {
    after: u64,
    limit: usize,
    bytes: usize,
}

/// Bytes that are left for a list; `None`: it has become too long.
#[derive(Copy, Clone)]
struct Budget(Option<usize>);

impl Budget {
    /// Takes an entry of about so many bytes. Returns whether it fits.
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
    ) -> Result<Progress, ReplyError> {
        let Cursor { worker, after } = after.unwrap_or(Cursor { worker: 0, after: 0 });
        let end = u16::try_from(self.node.workers()).expect("workers are few");
        if worker >= end {
            return Err(ReplyError::InvalidCursor);
        }
        self.drain_mailbox();
        let total = self.node.table.find(app, channel, |channel| channel.members()).unwrap_or(0);
        let page = MembersPage { channel: channel.into(), total, members: Vec::new(), next: None };
        let question = Question::Members { reading: Reading::new(after, limit), page };
        self.ask(app, worker, end, question)
    }

    /// All members of a channel.
    pub(super) fn all_members(&mut self, app: AppId, channel: &str) -> Result<Progress, ReplyError> {
        let end = u16::try_from(self.node.workers()).expect("workers are few");
        self.drain_mailbox();
        let budget = Budget(Some(self.apps.of(app).limits.members_bytes));
        let question = Question::AllMembers { channel: channel.into(), members: Vec::new(), budget };
        self.ask(app, 0, end, question)
    }

    /// Publishes to a user's sessions. One worker passes on everything that is for a user, so that all its
    /// sessions receive it in one order; the answer comes after that.
    pub(super) fn publish_to_user(
        &mut self,
        app: AppId,
        user: &str,
        publication: Arc<OwnedPublication>,
    ) -> Result<Progress, ReplyError> {
        let WorkerId(owner) = self.node.owner(app, user);
        self.ask(app, owner, owner + 1, Question::Direct { publication, refused: None })
    }

    /// Ends sessions for an app's back end.
    pub(super) fn disconnect(
        &mut self,
        app: AppId,
        whom: Disconnection,
        reconnect: bool,
    ) -> Result<Progress, ReplyError> {
        let workers = u16::try_from(self.node.workers()).expect("workers are few");
        let (at, end) = match &whom {
            Disconnection::Session(id) if id.worker().0 < workers => (id.worker().0, id.worker().0 + 1),
            Disconnection::Session(_) => (0, 0),
            Disconnection::User(_) => (0, workers),
        };
        self.ask(app, at, end, Question::Disconnect { whom, reconnect, sessions: 0 })
    }

    /// Has a session of any worker enter or leave a channel.
    pub(super) fn enroll_session(
        &mut self,
        app: AppId,
        session: SessionId,
        channel: &str,
        membership: Membership,
    ) -> Result<Progress, ReplyError> {
        let workers = u16::try_from(self.node.workers()).expect("workers are few");
        let worker = session.worker().0;
        let (at, end) = if worker < workers { (worker, worker + 1) } else { (0, 0) };
        self.ask(app, at, end, Question::Enroll { session, channel: channel.into(), membership })
    }

    /// A page of a user's sessions.
    pub(super) fn sessions_of(
        &mut self,
        app: AppId,
        user: &str,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Progress, ReplyError> {
        let Cursor { worker, after } = after.unwrap_or(Cursor { worker: 0, after: 0 });
        let end = u16::try_from(self.node.workers()).expect("workers are few");
        if worker >= end {
            return Err(ReplyError::InvalidCursor);
        }
        let page = SessionsPage { user: user.into(), sessions: Vec::new(), next: None };
        let question = Question::Sessions { reading: Reading::new(after, limit), page };
        self.ask(app, worker, end, question)
    }

    fn ask(&mut self, app: AppId, at: u16, end: u16, question: Question) -> Result<Progress, ReplyError> {
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

    /// A query visits this worker, or, if it is answered and ours, has come back.
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

    /// Whether a query is left to a later turn: long lists are read, and answered, one a turn.
    fn must_defer(&mut self, query: &WorkerQuery) -> bool {
        if !matches!(query.question, Question::AllMembers { .. }) {
            return false;
        }
        if self.whole_lists == 0 {
            return true;
        }
        self.whole_lists -= 1;
        false
    }

    /// Goes on with the queries that the turn before left.
    pub(super) fn resume_deferred(&mut self) {
        self.whole_lists = WHOLE_LISTS;
        for _ in 0..WHOLE_LISTS {
            let Some(query) = self.deferred.pop_front() else { return };
            self.on_query(query);
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
            self.visit(&mut query);
            query.at += 1;
        }
        if query.origin == self.worker {
            return Some(query);
        }
        self.post(query.origin, Mail::Answer(query));
        None
    }

    /// Adds this worker's part.
    fn visit(&mut self, query: &mut WorkerQuery) {
        let WorkerQuery { app, end, question, .. } = query;
        match question {
            Question::Members { reading, page } => {
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
                let before = members.len();
                if !self.list_all_members(*app, channel, members, budget) {
                    *end = self.worker.0;
                }
                self.work += page_work(members.len().saturating_sub(before));
            }
            Question::Direct { publication, refused } => {
                *refused = self.publish_direct(*app, &publication.view()).err();
            }
            Question::Disconnect { whom, reconnect, sessions } => {
                *sessions += self.disconnect_here(*app, whom, *reconnect);
            }
            Question::Enroll { session, channel, membership } => {
                self.enroll_here(*app, *session, channel, *membership);
            }
        }
    }

    /// Fills the page from this worker's members. Returns whether it is full.
    fn list_members(&self, app: AppId, reading: &mut Reading, page: &mut MembersPage) -> bool {
        let part = self.node.table.find(app, &page.channel, |channel| channel.local(self.worker)).flatten();
        let Some(part) = part else { return false };
        let local = &self.channels[part];
        let mut members = local.subscribers.after(reading.after);
        for (number, slot) in members.by_ref() {
            let session = self.sessions.get(slot);
            let (user, profile) = (session.user.clone(), session.profile.clone());
            let bytes = bytes_of(session.user(), session.profile.as_deref());
            page.members.push(IdentityCard { id: session.id(slot), user, profile });
            if reading.take(bytes) {
                let more = members.next().is_some() || local.channel.has_members_after(self.worker);
                page.next = more.then_some(Cursor { worker: self.worker.0, after: number });
                return true;
            }
        }
        false
    }

    /// Adds this worker's members. Returns whether all fit.
    fn list_all_members(
        &self,
        app: AppId,
        channel: &str,
        list: &mut Vec<IdentityCard>,
        budget: &mut Budget,
    ) -> bool {
        let part = self.node.table.find(app, channel, |channel| channel.local(self.worker)).flatten();
        let Some(part) = part else { return true };
        for (_, slot) in self.channels[part].subscribers.after(0) {
            let session = self.sessions.get(slot);
            if !budget.take(bytes_of(session.user(), session.profile.as_deref())) {
                list.clear();
                return false;
            }
            let (user, profile) = (session.user.clone(), session.profile.clone());
            list.push(IdentityCard { id: session.id(slot), user, profile });
        }
        true
    }

    /// Fills the page with this worker's sessions of the user whose slots are `reading.after` or above.
    /// Returns whether it is full.
    fn list_sessions(&self, app: AppId, reading: &mut Reading, page: &mut SessionsPage) -> bool {
        let Ok(from) = u32::try_from(reading.after) else { return false };
        let slots = self.users.sessions(app, &page.user, SessionSlot(from));
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
            is_full = reading.take(bytes + bytes_of(None, session.profile.as_deref()));
            let profile = session.profile.clone();
            page.sessions.push(UserSession { id: session.id(slot), profile, channels });
        }
        false
    }

    /// Ends sessions of this worker. Returns how many.
    fn disconnect_here(&mut self, app: AppId, whom: &Disconnection, reconnect: bool) -> usize {
        let slots: Vec<SessionSlot> = match whom {
            Disconnection::Session(id) => self.sessions.find(*id).into_iter().collect(),
            Disconnection::User(user) => self.users.sessions(app, user, SessionSlot(0)).collect(),
        };
        let mut told = 0;
        for slot in slots {
            if self.sessions.get(slot).app == app {
                self.disconnect_session(slot, Disconnect::ByServer { reconnect });
                told += 1;
            }
        }
        told
    }

    /// Has a session of this worker enter or leave a channel. What the app's limits refuse is not done.
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

    /// A page of an app's channels whose names begin with `prefix`, from `after` on. Not sorted; it may be
    /// short, and looks at a bounded number of channels: those of whole shards until [`CHANNELS_LOOKED_AT`]
    /// have been seen.
    pub(super) fn channels_of(
        &self,
        app: AppId,
        prefix: &str,
        limit: usize,
        after: Option<&str>,
    ) -> Result<ChannelsPage, ReplyError> {
        let (mut shard, mut after) = match after {
            None => (0, None),
            Some(cursor) => parse_channels_cursor(cursor).ok_or(ReplyError::InvalidCursor)?,
        };
        let mut page = ChannelsPage { channels: Vec::new(), next: None };
        let configured = usize::from(self.node.configured(app) > 0);
        let mut seen = 0;
        while shard < TABLE_SHARDS {
            let mut found = Vec::new();
            self.node.table.visit_shard(shard, |channel| {
                seen += 1;
                let name = channel.name().unwrap_or_default();
                if channel.app() == app && name.starts_with(prefix) && after.is_none_or(|after| name > after)
                {
                    found.push((Box::from(name), channel.members()));
                }
            });
            found.sort_unstable();
            let room = limit - page.channels.len();
            let cut = found.len() > room;
            found.truncate(room);
            page.channels.extend(found);
            if cut {
                let last = &page.channels.last().expect("a limit is at least one").0;
                page.next = Some(format!("{shard}.{last}"));
                return Ok(page);
            }
            shard += 1;
            after = None;
            if shard < TABLE_SHARDS + configured
                && (seen >= CHANNELS_LOOKED_AT || page.channels.len() == limit)
            {
                page.next = Some(format!("{shard}."));
                return Ok(page);
            }
        }
        if configured > 0 {
            self.list_configured(app, prefix, limit, after, &mut page);
        }
        Ok(page)
    }

    /// Fills the last page with the channels that are nothing but configured: they follow those of the table,
    /// as one shard more.
    fn list_configured(
        &self,
        app: AppId,
        prefix: &str,
        limit: usize,
        after: Option<&str>,
        page: &mut ChannelsPage,
    ) {
        let room = limit - page.channels.len();
        let mut names = self.node.configured_names(app, prefix, after, room + 1);
        let more = names.len() > room;
        names.truncate(room);
        page.next = names.last().filter(|_| more).map(|last| format!("{TABLE_SHARDS}.{last}"));
        page.channels.extend(names.into_iter().map(|name| (name, 0)));
    }
}

/// `shard.name`, where an empty name means the shard's beginning.
fn parse_channels_cursor(text: &str) -> Option<(usize, Option<&str>)> {
    let (shard, name) = text.split_once('.')?;
    if shard.is_empty() || shard.len() > 4 || !shard.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shard = shard.parse().ok().filter(|&shard| shard <= TABLE_SHARDS)?;
    Some((shard, (!name.is_empty()).then_some(name)))
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
            Question::Enroll { .. } => Outcome::Done,
        })
    }

    /// What stands in for the outcome until the query is back.
    fn unanswered(&self) -> Outcome {
        match self {
            Question::Members { .. }
            | Question::AllMembers { .. }
            | Question::Sessions { .. }
            | Question::Direct { .. } => Outcome::Updated,
            Question::Enroll { .. } => Outcome::Done,
            Question::Disconnect { .. } => Outcome::Disconnected { sessions: 0 },
        }
    }
}
