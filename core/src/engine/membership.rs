//! Membership: joining, leaving, and this worker's part of each channel.
//!
//! A session that was away and knows its position gets what it missed and then becomes a member, at one point
//! of its worker's stream. What it missed is read inside the order. If we can enter, the stream of our
//! members stands at an offset we know, or at one that word in our mailbox tells, and what happened later
//! will come by mail: so of what was read, the part up to there is handed over. If we cannot enter, the
//! answer comes by mail, behind everything that was published before the reading and before everything after
//! it; until then the session is no member, or messages would overtake those before them. A part of a channel
//! that such a session waits for is not given up.

use std::sync::Arc;

use super::{
    Engine, InterestState, LocalChannel,
    output::NONE,
    presence::{Echo, MembershipChange, MembershipEvent},
    session::Membership,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    channel::{
        Bounds, Channel, ChannelReply, ChannelRequest, Interest, Position, Presence, Subscribers, Viewer,
    },
    command::{Outcome, Recovery},
    dialect::{self, FormatSet, Memo},
    error::ReplyError,
    id::{AppId, LocalId, SessionId, SessionSlot},
    limits::{MISSED_CHANNELS, RECOVERED},
    publication::{Audience, Body},
};

/// A session that becomes a member when what it missed has been read.
pub(super) struct Joining {
    part: LocalId,
    session: SessionId,
    member: MemberAs,
}

/// What a new member receives: its own publications, and notices of other members.
#[derive(Copy, Clone)]
struct MemberAs {
    echo: Echo,
    notices: bool,
}

/// What a session was to a channel before it joined.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Before {
    Absent,
    Member,
}

/// The channel was removed, and nothing was done.
#[derive(Copy, Clone, Debug)]
pub(super) struct Closed;

/// How a session joins; see [`Command::Join`](crate::command::Command::Join).
#[derive(Copy, Clone, Default)]
pub(super) struct JoinAs {
    pub(super) echo: Option<bool>,
    pub(super) since: Option<Position>,
    pub(super) notices: Option<bool>,
}

impl Engine {
    /// Makes a session a member of a channel, which comes into being if need be.
    pub(super) fn join(
        &mut self,
        slot: SessionSlot,
        name: &str,
        JoinAs { echo, since, notices }: JoinAs,
    ) -> Result<Progress, ReplyError> {
        self.drain_mailbox();
        let session = self.sessions.get(slot);
        let app = session.app;
        let find = |channel: &Arc<Channel>| (channel.local(self.worker), channel.options());
        let (local, rules) = self.node.table.find(app, name, find).unzip();
        let local = local.flatten();
        if let Some(part) = local
            && session.memberships.find(part).is_some()
        {
            if let Some(notices) = notices {
                self.quiet.set(part, slot, notices);
            }
            let waiting = self.change_membership(part, slot, None, None, Echo::Unwanted);
            return Ok(self.joined(part, Before::Member, waiting, Recovery::NotAsked));
        }
        self.check_join_of(slot, rules.unwrap_or_else(|| self.rules(app, name, None)))?;
        self.may_join_another(slot)?;
        let part = match local {
            Some(part) => part,
            None => {
                let channel = self.node.find_or_create(self.apps.of(app), name);
                self.add_local(channel)
            }
        };
        let echo = Echo::of(echo, self.sessions.get(slot));
        let notices = notices.unwrap_or(true);
        if let Some(since) = since
            && let Some(progress) = self.rejoin(part, slot, since, MemberAs { echo, notices })
        {
            return Ok(progress);
        }
        self.enroll(part, slot, notices);
        let local = &self.channels[part];
        let gained = local.needs_interest().then_some(Interest::Gained);
        let waiting = self.change_membership(part, slot, gained, Some(MembershipEvent::Joins), echo);
        let recovery = since.map_or(Recovery::NotAsked, |_| Recovery::Lost);
        Ok(self.joined(part, Before::Absent, waiting, recovery))
    }

    /// This worker's part of the channel of this name, if it has one.
    pub(super) fn part(&self, app: AppId, name: &str) -> Option<LocalId> {
        self.node.table.find(app, name, |channel| channel.local(self.worker)).flatten()
    }

    /// A session's membership in the channel of this name.
    pub(super) fn membership(&self, slot: SessionSlot, name: &str) -> Option<Membership> {
        let session = self.sessions.get(slot);
        session.memberships.find(self.part(session.app, name)?)
    }

    /// Whether a session may join one channel more. A slow session must not collect channels whose losses it
    /// has not been told of.
    pub(super) fn may_join_another(&self, slot: SessionSlot) -> Result<(), ReplyError> {
        let session = self.sessions.get(slot);
        let limit = usize::from(self.apps.of(session.app).limits.channels_per_connection);
        if session.memberships.len() >= limit || session.missed_channels() >= MISSED_CHANNELS {
            return Err(ReplyError::TooManyChannels);
        }
        Ok(())
    }

    /// Makes a session a member that was one before. `None` if what it missed cannot be known; nothing was
    /// done then.
    fn rejoin(
        &mut self,
        part: LocalId,
        slot: SessionSlot,
        since: Position,
        member: MemberAs,
    ) -> Option<Progress> {
        let session = self.sessions.get(slot);
        let reader = Viewer::User(session.user.clone());
        // What is recovered has to fit into the connection's queue, with room for what comes then.
        let bytes = self.apps.of(session.app).limits.outbound_bytes / 2;
        let joining = Joining { part, session: session.id(slot), member };
        loop {
            let local = &self.channels[part];
            let channel = local.channel.clone();
            if !channel.has_history() || channel.epoch() != since.epoch {
                return None;
            }
            let interest = local.needs_interest().then_some(Interest::Gained);
            let bounds = Bounds { messages: RECOVERED, bytes };
            let request = Some(Box::new(ChannelRequest::CatchUp {
                since: since.offset,
                bounds,
                reader: reader.clone(),
            }));
            match self.submit(&channel, ChannelOp { interest, request, ..ChannelOp::default() }) {
                Submitted::Done { reply, .. } => {
                    self.drain_until_live(part);
                    return Some(Progress::Finished(self.complete_rejoin(slot, &joining, reply)));
                }
                Submitted::Waiting(ticket) => {
                    let local = &mut self.channels[part];
                    if interest.is_some() {
                        local.interest_state = InterestState::Gaining { ticket: Some(ticket) };
                    }
                    local.joining += 1;
                    let position = Position::default();
                    self.joining.insert(ticket, joining);
                    let outcome = joined(&channel, Before::Absent, position, Recovery::Lost);
                    return Some(Progress::Waiting { ticket, outcome });
                }
                Submitted::Closed => self.rebind(part),
                Submitted::Refused(_) => unreachable!("only messages are refused"),
            }
        }
    }

    /// What a session missed has been read, by whoever was inside the order.
    pub(super) fn finish_join(&mut self, ticket: u64, joining: Joining, reply: Option<ChannelReply>) {
        let waiting = self.waiting.remove(&ticket);
        self.channels[joining.part].joining -= 1;
        let slot = self.sessions.find(joining.session);
        if let (Some(slot), Some(waiting)) = (slot, waiting) {
            let outcome = self.complete_rejoin(slot, &joining, reply);
            self.answer(waiting.who, Ok(outcome));
        } else if self.channels[joining.part].is_unused() {
            let channel = self.channels[joining.part].channel.clone();
            let deed = ChannelOp { interest: Some(Interest::Lost), ..ChannelOp::default() };
            // Done or delegated, it will happen; and a channel in which we have interest does not close.
            let (Submitted::Done { .. } | Submitted::Waiting(_)) = self.submit(&channel, deed) else {
                unreachable!("losing interest is not refused")
            };
            self.remove_local(joining.part);
        }
    }

    /// Makes a session a member where its worker's stream stands, with what it missed until there.
    fn complete_rejoin(
        &mut self,
        slot: SessionSlot,
        joining: &Joining,
        reply: Option<ChannelReply>,
    ) -> Outcome {
        let &Joining { part, member: MemberAs { echo, notices }, .. } = joining;
        self.enroll(part, slot, notices);
        let local = &self.channels[part];
        let offset = local.offset;
        let recovery = match reply {
            Some(ChannelReply::CaughtUp(Some(mut missed))) => {
                // The rest is on its way to us.
                missed.retain(|missed| missed.offset() <= offset);
                Recovery::Recovered(missed)
            }
            _ => Recovery::Lost,
        };
        let channel = local.channel.clone();
        let position = Position { epoch: channel.epoch(), offset };
        let outcome = joined(&channel, Before::Absent, position, recovery);
        // Nobody waits for it: its place in the order is taken, and the answer must not come after messages.
        self.change_membership(part, slot, None, Some(MembershipEvent::Joins), echo);
        outcome
    }

    fn enroll(&mut self, part: LocalId, slot: SessionSlot, notices: bool) {
        if !notices {
            self.quiet.set(part, slot, notices);
        }
        let number = self.add_member(part, slot);
        let membership = Membership { local: part, number };
        self.sessions.change_memberships(slot, |memberships| memberships.insert(membership));
    }

    /// Sends a session the messages that its join recovered.
    pub(super) fn reply_missed(&mut self, slot: SessionSlot, outcome: &Outcome) {
        let Outcome::Joined { channel, recovery, .. } = outcome else { return };
        let missed = match recovery {
            Recovery::NotAsked => return,
            Recovery::Lost => {
                self.counters.unrecovered += 1;
                return;
            }
            Recovery::Recovered(missed) => missed,
        };
        let format = self.sessions.hot(slot).format;
        self.counters.recovered += missed.len() as u64;
        let mut memo = Memo::new(format);
        self.reply(slot, |out| {
            for missed in missed {
                dialect::encode_publication(format, out, &mut memo, Some(channel), &missed.view());
            }
        });
    }

    /// Ends a membership.
    pub(super) fn leave(&mut self, slot: SessionSlot, name: &str, echo: Option<bool>) -> Progress {
        self.drain_mailbox();
        let outcome = |left| Outcome::Left { channel: name.into(), left };
        let Some(membership) = self.membership(slot, name) else {
            return Progress::Finished(outcome(false));
        };
        let echo = Echo::of(echo, self.sessions.get(slot));
        match self.end_membership(slot, membership, echo) {
            Some(ticket) => Progress::Waiting { ticket, outcome: outcome(true) },
            None => Progress::Finished(outcome(true)),
        }
    }

    /// Leaves everything, because the session ends.
    pub(super) fn leave_all(&mut self, slot: SessionSlot) {
        self.drain_mailbox();
        while let Some(&membership) = self.sessions.get(slot).memberships.as_slice().last() {
            self.end_membership(slot, membership, Echo::Unwanted);
        }
        self.leave_broadcast(slot);
    }

    /// Takes a session into the app's broadcast stream.
    pub(super) fn enter_broadcast(&mut self, slot: SessionSlot) {
        let channel = self.node.broadcast(self.sessions.get(slot).app).clone();
        let (part, gained) = match channel.local(self.worker) {
            Some(part) => (part, None),
            None => (self.add_local(channel), Some(Interest::Gained)),
        };
        let number = self.add_member(part, slot);
        self.sessions.get_mut(slot).broadcast_number = number;
        if gained.is_some() {
            self.change_membership(part, slot, gained, None, Echo::Unwanted);
        }
    }

    fn leave_broadcast(&mut self, slot: SessionSlot) {
        let session = self.sessions.get(slot);
        let number = session.broadcast_number;
        let part = self
            .node
            .broadcast(session.app)
            .local(self.worker)
            .expect("a session is in its app's broadcast stream until it ends");
        self.remove_member(part, slot, number);
        if self.channels[part].is_unused() {
            self.change_membership(part, slot, Some(Interest::Lost), None, Echo::Unwanted);
            self.remove_local(part);
        }
    }

    /// Removes a member, tells the others and, with echo, the leaver; lets go of the channel after the last
    /// one.
    fn end_membership(&mut self, slot: SessionSlot, membership: Membership, echo: Echo) -> Option<u64> {
        let part = membership.local;
        self.sessions.change_memberships(slot, |memberships| memberships.remove(part));
        self.remove_member(part, slot, membership.number);
        if !self.quiet.is_empty() {
            self.quiet.remove(part, slot);
        }
        let last = self.channels[part].is_unused();
        let lost = last.then_some(Interest::Lost);
        if echo == Echo::Wanted && self.channels[part].channel.announces() {
            self.reply_leave(part, slot);
        }
        let ticket = self.change_membership(part, slot, lost, Some(MembershipEvent::Leaves), Echo::Unwanted);
        if last {
            self.remove_local(part);
        }
        ticket
    }

    /// Gives a session the notice of its own leave, which the run of its channel does not bring any more.
    fn reply_leave(&mut self, part: LocalId, slot: SessionSlot) {
        let card = self.card(slot);
        let audience = Audience::default();
        let notice = self.notice(Body::MemberLeft(&card), &audience);
        let channel = self.channels[part].channel.clone();
        let format = self.sessions.hot(slot).format;
        self.reply(slot, |out| {
            dialect::encode_publication(format, out, &mut Memo::new(format), channel.name(), &notice);
        });
    }

    /// Carries a change of membership through the channel's order, and tells of it as far as the channel's
    /// options say. Returns a ticket if it is delegated.
    pub(super) fn change_membership(
        &mut self,
        part: LocalId,
        slot: SessionSlot,
        interest: Option<Interest>,
        event: Option<MembershipEvent>,
        echo: Echo,
    ) -> Option<u64> {
        if let Some(event) = event {
            self.note_member_change(part, slot, event);
        }
        loop {
            let change = event.and_then(|event| self.change_of(part, slot, event, echo));
            let change = match change {
                Some(change) if self.batches(part) => return self.batch_change(part, slot, interest, change),
                change => change,
            };
            if event.is_some() {
                // The channel's options no longer batch notices, or the server drains.
                self.publish_batch(part);
            }
            // The operation of a new member is answered after the operation that gains the worker's interest.
            // A leave waits for neither.
            let may_wait = !self.is_live(part) && event != Some(MembershipEvent::Leaves);
            if interest.is_none() && change.is_none() && !may_wait {
                return None;
            }
            match self.submit_change(part, interest, change) {
                Ok(ticket) => return ticket,
                Err(Closed) => self.rebind(part),
            }
        }
    }

    /// Whether the worker has interest in the channel, so that the channel's mail is for its members.
    fn is_live(&self, part: LocalId) -> bool {
        matches!(self.channels[part].interest_state, InterestState::Live { .. })
    }

    /// The change that others are told of, or that changes the count of users; `None` if there is neither.
    #[inline]
    fn change_of(
        &self,
        part: LocalId,
        slot: SessionSlot,
        event: MembershipEvent,
        echo: Echo,
    ) -> Option<MembershipChange> {
        let options = self.channels[part].channel.options();
        let session = self.sessions.get(slot);
        let leaves = event == MembershipEvent::Leaves;
        // All members leave together, and nobody is told of another's leave.
        let quiet = leaves && (self.is_draining || self.apps.of(session.app).removed);
        // A roster shows a member's user, so a new user is told like a new profile.
        let tells = options.announces() && !quiet;
        let tells = tells && (event != MembershipEvent::SignsIn || options.keeps_roster());
        // Whether users are counted cannot change while the worker has interest. Before, the channel decides
        // inside its lock.
        let counts = session.user.is_some()
            && event != MembershipEvent::Updates
            && (options.counts_users() || !self.is_live(part));
        if !tells && !counts {
            return None;
        }
        let id = session.id(slot);
        let except = (echo == Echo::Unwanted).then_some(id);
        let user = session.user.clone().filter(|_| counts);
        let (joins, told) = (!leaves, except.filter(|_| !leaves));
        let presence = user.map(|user| Box::new(Presence { user, joins, except: told, quiet }));
        let card = tells.then(|| self.card(slot));
        Some(MembershipChange { session: id, event, card, except, presence })
    }

    /// Carries a change of this worker's interest, and of a member, through the channel's order. Returns a
    /// ticket if it is delegated.
    pub(super) fn submit_change(
        &mut self,
        part: LocalId,
        interest: Option<Interest>,
        mut change: Option<MembershipChange>,
    ) -> Result<Option<u64>, Closed> {
        let channel = self.channels[part].channel.clone();
        let presence = change.as_mut().and_then(|change| change.presence.take());
        let except_session = change.as_ref().and_then(|change| change.except);
        let audience = Audience { except_session, ..Audience::default() };
        let body = change.as_ref().and_then(MembershipChange::notice);
        let mut publication = body.map(|body| self.notice(body, &audience));
        let publications = publication.as_mut_slice();
        match self.submit(&channel, ChannelOp { interest, publications, presence, request: None }) {
            Submitted::Done { .. } => Ok(None),
            Submitted::Waiting(ticket) => {
                if interest == Some(Interest::Gained) {
                    self.channels[part].interest_state = InterestState::Gaining { ticket: Some(ticket) };
                }
                Ok(Some(ticket))
            }
            Submitted::Closed => Err(Closed),
            Submitted::Refused(_) => unreachable!("only messages are refused"),
        }
    }

    /// The channel of a new local part was closed by the last worker that held it, after we had found it:
    /// takes the name's new one. Once our gaining interest has been accepted, a channel does not close under
    /// us.
    fn rebind(&mut self, part: LocalId) {
        let old = &self.channels[part].channel;
        self.node.table.remove(old);
        old.set_local(self.worker, None);
        let name = old.name().expect("broadcast streams are never closed");
        let new = self.node.find_or_create(self.apps.of(old.app()), name);
        new.set_local(self.worker, Some(part));
        new.set_members(self.worker, self.channels[part].subscribers.len());
        self.channels[part].channel = new;
    }

    /// After an operation that this worker did itself: an interest that was delegated before is gained, and
    /// the mail that says so is in the mailbox. Handles mail up to that one. The publications behind it stay:
    /// a session that becomes a member now receives them.
    fn drain_until_live(&mut self, part: LocalId) {
        // Mail for a session that has ended meanwhile must not give the channel up.
        self.channels[part].joining += 1;
        while matches!(self.channels[part].interest_state, InterestState::Gaining { .. })
            && let Some(mail) = self.node.mailbox(self.worker).pop()
        {
            self.handle_mail(mail);
        }
        self.channels[part].joining -= 1;
    }

    /// What came of joining. The position is where the member's messages begin.
    fn joined(
        &mut self,
        part: LocalId,
        before: Before,
        waiting: Option<u64>,
        recovery: Recovery,
    ) -> Progress {
        let mut offset = self.channels[part].offset;
        if waiting.is_none() && matches!(self.channels[part].interest_state, InterestState::Gaining { .. }) {
            self.drain_until_live(part);
            if let InterestState::Live { offset: gained_at, .. } = self.channels[part].interest_state {
                offset = gained_at;
            }
        }
        let channel = &self.channels[part].channel;
        let position = Position { epoch: channel.epoch(), offset };
        let outcome = joined(channel, before, position, recovery);
        match waiting {
            Some(ticket) => Progress::Waiting { ticket, outcome },
            None => Progress::Finished(outcome),
        }
    }

    fn add_local(&mut self, channel: Arc<Channel>) -> LocalId {
        channel.set_local(self.worker, Some(self.channels.next_slot()));
        self.channels.insert(LocalChannel {
            channel,
            subscribers: Subscribers::default(),
            formats: FormatSet::default(),
            run: NONE,
            interest_state: InterestState::Gaining { ticket: None },
            offset: 0,
            joining: 0,
        })
    }

    fn remove_local(&mut self, part: LocalId) {
        self.publish_batch(part);
        let local = self.channels.remove(part);
        self.member_bytes -= local.subscribers.bytes();
        local.channel.set_local(self.worker, None);
        if local.run != NONE {
            self.turn.orphan(local.run);
        }
    }

    pub(super) fn add_member(&mut self, part: LocalId, slot: SessionSlot) -> u64 {
        let format = self.sessions.hot(slot).format;
        let local = &mut self.channels[part];
        if local.run != NONE {
            self.turn.joined(local.run);
        }
        local.formats.insert(format);
        let before = local.subscribers.bytes();
        let number = local.subscribers.push(slot);
        self.member_bytes += local.subscribers.bytes() - before;
        local.channel.set_members(self.worker, local.subscribers.len());
        number
    }

    pub(super) fn remove_member(&mut self, part: LocalId, slot: SessionSlot, number: u64) {
        let local = &mut self.channels[part];
        let place = local.subscribers.position(number).expect("a membership has its place");
        if local.run == NONE {
            local.subscribers.remove(number);
            self.member_bytes -= local.subscribers.compact();
        } else {
            let delivered = self.turn.left(local.run, place, slot, &mut self.sessions);
            self.counters.deliveries += delivered;
            self.of_apps[usize::from(local.channel.app().0)].delivered(delivered);
            local.subscribers.remove(number);
        }
        local.channel.set_members(self.worker, local.subscribers.len());
    }
}

impl LocalChannel {
    /// Whether nothing has been done yet to gain interest.
    fn needs_interest(&self) -> bool {
        matches!(self.interest_state, InterestState::Gaining { ticket: None })
    }

    /// Whether no session is in it or about to be.
    fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.joining == 0
    }
}

fn joined(channel: &Channel, before: Before, position: Position, recovery: Recovery) -> Outcome {
    let name = channel.name().unwrap_or_default().into();
    let joined = before == Before::Absent;
    Outcome::Joined { channel: name, joined, members: channel.members(), position, recovery }
}
