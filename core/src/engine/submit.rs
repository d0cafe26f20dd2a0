//! Operations on a channel: entering its order or delegating, posting to the workers that hold members, and
//! mail.
//!
//! Local delivery keeps the channel's order too. What other workers published before us is in our mailbox by
//! the time we are inside the order; so only if the mailbox is empty do we deliver our own publication
//! directly, else we post it to ourselves, behind that.

use std::{
    slice,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use arrayvec::ArrayVec;

use super::{
    Engine, InterestState,
    mail::Mail,
    output::NONE,
    users::Addressed,
    waiting::{Waiter, Waiting},
};
use crate::{
    app::{App, ChannelOptions},
    channel::{
        Applied, Channel, ChannelMail, ChannelReply, ChannelRequest, ChannelState, Delegated, Entered, Env,
        Interest, Left, Operation, Presence, Receipt, Request,
    },
    command::Outcome,
    error::ReplyError,
    id::{LocalId, SessionId, SessionSlot, WorkerId},
    limits::{BURST, COMBINED},
    publication::{Audience, Body, OwnedPublication, Publication, UserState},
};

/// What is to be done with a channel; see [`Operation`].
#[derive(Default)]
pub(super) struct ChannelOp<'d, 'a> {
    pub(super) interest: Option<Interest>,
    /// In order, at most [`BURST`], for the same audience. They are given their offsets.
    pub(super) publications: &'d mut [Publication<'a>],
    pub(super) request: Option<Box<ChannelRequest>>,
    pub(super) presence: Option<Box<Presence>>,
}

/// What became of an operation.
pub(super) enum Submitted {
    Done {
        receipt: Receipt,
        reply: Option<ChannelReply>,
    },
    /// Delegated to the thread inside; its result comes under this ticket.
    Waiting(u64),
    /// Nothing was done.
    Refused(ReplyError),
    /// The channel was removed, and its name may have a new one; nothing was done.
    Closed,
}

/// A worker inside a channel's lock: what the channel sees of it.
struct Inside<'e> {
    engine: &'e mut Engine,
    channel: &'e Arc<Channel>,
}

impl Inside<'_> {
    fn name(&self) -> &str {
        self.channel.name().unwrap_or_default()
    }

    fn app(&self) -> &App {
        self.engine.apps.of(self.channel.app())
    }
}

impl Env for Inside<'_> {
    #[inline(always)]
    fn worker(&self) -> WorkerId {
        self.engine.worker
    }

    #[inline(always)]
    fn now_ms(&self) -> u64 {
        self.engine.now_ms
    }

    #[inline(always)]
    fn is_mailbox_full(&self, worker: WorkerId) -> bool {
        self.engine.node.mailbox(worker).is_full()
    }

    #[inline(always)]
    fn has_mail(&self) -> bool {
        !self.engine.node.mailbox(self.engine.worker).is_empty()
    }

    #[inline]
    fn post(&mut self, to: WorkerId, mail: ChannelMail) {
        self.engine.post(to, Mail::Channel { channel: self.channel.clone(), mail });
    }

    fn user_notice(&mut self, body: Body<'_>, except: Option<SessionId>) -> Arc<OwnedPublication> {
        self.engine.user_notice(body, except)
    }

    fn user_state(&self, user: &str) -> Option<Arc<UserState>> {
        self.engine.node.user_states(self.channel.app()).state(user)
    }

    fn is_over_budget(&self, more: usize) -> bool {
        let limit = self.app().limits.history_bytes;
        self.engine.node.remembered(self.channel.app()) + more > limit + limit / 8
    }

    fn account(&mut self, before: usize, now: usize) {
        self.engine.account(self.channel.app(), before, now);
    }

    fn count_evicted(&mut self, messages: usize) {
        self.engine.count_forgotten(self.channel.app(), messages);
    }

    fn count_change(&mut self) {
        self.engine.counters.changes += 1;
    }

    fn charge(&mut self, units: usize) {
        self.engine.work += units;
    }

    fn resolve_options(&self, set: Option<ChannelOptions>) -> ChannelOptions {
        set.unwrap_or_else(|| self.app().channel_options(self.name()))
    }

    #[inline(always)]
    fn changed_options(&self) -> Option<ChannelOptions> {
        // Pairs with the fence in `Engine::set_options`: either we see what is set, or the setter sees this
        // channel.
        fence(Ordering::SeqCst);
        let (node, app) = (&self.engine.node, self.channel.app());
        node.has_set_options(app).then(|| node.options(self.app(), self.name()))
    }

    fn set_options(&mut self, set: Option<ChannelOptions>) -> Result<(), ReplyError> {
        self.engine.node.set_options(self.channel.app(), self.name(), set)
    }
}

impl Engine {
    /// Does an operation on a channel, or leaves it to whoever is inside.
    pub(super) fn submit(&mut self, channel: &Arc<Channel>, deed: ChannelOp<'_, '_>) -> Submitted {
        self.submit_inline(channel, deed)
    }

    /// The same, made one with its caller: publishing is the operation that there are many of.
    #[inline(always)]
    pub(super) fn submit_inline(&mut self, channel: &Arc<Channel>, deed: ChannelOp<'_, '_>) -> Submitted {
        let ChannelOp { interest, publications, mut request, mut presence } = deed;
        let mut entered = match channel.lock.try_enter() {
            Some(entered) => entered,
            None => {
                let ticket = self.next_ticket;
                let owned = publications.iter().map(|publication| (*publication).into()).collect();
                let worker = self.worker;
                let operation =
                    Operation { worker, interest, publications: owned, request, presence, ticket };
                match channel.lock.delegate(operation) {
                    Delegated::Entered(entered, operation) => {
                        (request, presence) = (operation.request, operation.presence);
                        entered
                    }
                    Delegated::Left => {
                        self.next_ticket += 1;
                        self.counters.delegated += 1;
                        return Submitted::Waiting(ticket);
                    }
                    Delegated::Closed => return Submitted::Closed,
                }
            }
        };
        let request = Request { worker: self.worker, interest, request, presence, ticket: None };
        let mut inside = Inside { engine: self, channel };
        let applied = entered.with(|state| state.apply(channel, request, publications, &mut inside));
        self.leave_lock(channel, entered);
        let Applied { receipt, direct, sequence, reply } = match applied {
            Ok(applied) => applied,
            Err(error) => return Submitted::Refused(error),
        };
        if interest == Some(Interest::Gained) {
            self.set_live(channel, receipt.sequence, receipt.position.offset, None);
        }
        if direct {
            self.deliver(channel, sequence, publications);
        }
        Submitted::Done { receipt, reply }
    }

    /// Leaves a channel's order, doing first what others delegated meanwhile; a channel that nobody wants any
    /// more goes. Public for tests, which enter and stay inside as a thread does that is not scheduled.
    #[doc(hidden)]
    pub fn leave_lock(&mut self, channel: &Arc<Channel>, entered: Entered<'_, ChannelState, Operation>) {
        let mut budget = self.combinable;
        let mut inside = Inside { engine: self, channel };
        let apply = |state: &mut ChannelState, operation| {
            state.apply_delegated(channel, operation, &mut inside);
        };
        match entered.leave(&mut budget, apply, ChannelState::is_deserted) {
            Left::Open => {}
            Left::Closed => self.node.table.remove(channel),
            Left::Unfinished(rest) => self.kept.push_back(rest.keep(channel.clone())),
        }
        self.charge_combining(budget);
    }

    /// Goes on with the locks that this worker is inside: once in a turn.
    fn go_on_combining(&mut self) {
        self.combinable = COMBINED;
        for _ in 0..self.kept.len() {
            let Some(kept) = self.kept.pop_front() else { return };
            let channel = kept.owner().clone();
            let mut budget = self.combinable;
            let node = self.node.clone();
            let mut inside = Inside { engine: self, channel: &channel };
            let apply = |state: &mut ChannelState, operation| {
                state.apply_delegated(&channel, operation, &mut inside);
            };
            let on_closed = |channel: &Arc<Channel>| node.table.remove(channel);
            let kept = kept.go_on(&mut budget, apply, ChannelState::is_deserted, on_closed);
            self.kept.extend(kept);
            self.charge_combining(budget);
        }
    }

    /// Notes how many operations of others this turn may still apply.
    #[inline]
    fn charge_combining(&mut self, left: usize) {
        self.work += self.combinable - left;
        self.combinable = left;
    }

    /// Sends mail, perhaps to ourselves.
    pub(super) fn post(&mut self, to: WorkerId, mail: Mail) {
        self.node.mailbox(to).push(mail);
        if to != self.worker {
            self.touched.insert(to);
        }
    }

    /// Handles the mail there is now. Before a membership changes, this brings the worker to where its
    /// streams are.
    pub(super) fn drain_mailbox(&mut self) {
        for _ in 0..self.node.mailbox(self.worker).depth() {
            let Some(mail) = self.node.mailbox(self.worker).pop() else { return };
            self.handle_mail(mail);
        }
    }

    /// Handles the mail that has come before a turn's input. A publication to a channel with members here is
    /// copied if mail waits, because the mail goes before it. Half of the turn is left to the input.
    pub fn on_early_mail(&mut self) {
        for _ in 0..self.node.mailbox(self.worker).depth() {
            if self.is_turn_half_full() {
                return;
            }
            let Some(mail) = self.node.mailbox(self.worker).pop() else { return };
            self.handle_mail(mail);
        }
    }

    /// Handles the mail there is now, and lets go on whom it frees to, unless the turn gets full.
    pub fn on_mail(&mut self) {
        self.go_on_combining();
        let mut there = self.node.mailbox(self.worker).depth();
        while !self.is_turn_full() {
            if there > 0
                && let Some(mail) = self.node.mailbox(self.worker).pop()
            {
                there -= 1;
                self.handle_mail(mail);
            } else if self.apply_next_verdict() {
            } else if let Some(interrupted) = self.interrupted.pop_front() {
                self.go_on(interrupted);
            } else {
                break;
            }
        }
    }

    pub(super) fn handle_mail(&mut self, mail: Mail) {
        self.counters.mail += 1;
        match mail {
            Mail::Channel { channel, mail } => self.on_channel_mail(&channel, mail),
            Mail::Direct { app, publication } => self.deliver_direct(app, &publication.view()),
            Mail::IdempotentPublish(once) => self.on_once(&once),
            Mail::Published { result, ticket } => self.on_owner_answer(ticket, result),
            Mail::UserChanged { app, change } => self.announce_user_here(app, &change),
            Mail::Query(query) | Mail::Answer(query) => self.on_query(query),
            Mail::Verdict { ticket, verdict } => self.on_verdict(ticket, *verdict),
        }
    }

    #[inline(always)]
    fn on_channel_mail(&mut self, channel: &Arc<Channel>, mail: ChannelMail) {
        match mail {
            ChannelMail::Publication { sequence, publication } => {
                self.deliver(channel, sequence, slice::from_ref(&publication.view()));
            }
            ChannelMail::Publications { sequence, publications } => {
                let views: ArrayVec<_, BURST> = publications.iter().map(OwnedPublication::view).collect();
                self.deliver(channel, sequence, &views);
            }
            ChannelMail::Live { sequence, offset, ticket } => {
                self.set_live(channel, sequence, offset, Some(ticket));
            }
            ChannelMail::Done { receipt, reply, ticket } => {
                self.on_done(channel, ticket, receipt, reply.map(|reply| *reply));
            }
            ChannelMail::Refused { error, ticket } => self.on_refused(ticket, error),
        }
    }

    /// An operation that was delegated is refused.
    fn on_refused(&mut self, ticket: u64, error: ReplyError) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let commands = waiting.who.commands() as u64;
        self.counters.overloaded += if error == ReplyError::Overloaded { commands } else { 0 };
        self.answer(waiting.who, Err(error));
    }

    /// An operation that was delegated is done.
    fn on_done(&mut self, channel: &Channel, ticket: u64, receipt: Receipt, reply: Option<ChannelReply>) {
        if let Some(joining) = self.joining.remove(&ticket) {
            return self.finish_join(ticket, joining, reply);
        }
        let Some(Waiting { mut outcome, who }) = self.waiting.remove(&ticket) else { return };
        match (&mut outcome, reply) {
            // Who joined while interest was still being gained begins where that began; its worker knew of no
            // offset then, so the higher one is it. Everybody else knew when joining.
            (Outcome::Joined { channel, position, .. }, _) => {
                position.offset = position.offset.max(self.gained_at(&who, channel));
            }
            (Outcome::Sent { offset, .. }, _) => *offset = receipt.offset,
            (Outcome::Users(users), Some(ChannelReply::Users(page, total, more))) => {
                users.fill(page, total, more)
            }
            (Outcome::History { position, page, .. }, Some(ChannelReply::Page(read))) => {
                *position = Some(receipt.position);
                *page = read;
            }
            (Outcome::Roster(roster), Some(ChannelReply::Roster(members, total))) => {
                let Some(members) = members else { return self.answer(who, Err(ReplyError::NoRoster)) };
                (roster.members, roster.total) = (members, total);
                self.catch_up_in_turn(&who, channel);
            }
            _ => {}
        }
        self.answer(who, Ok(outcome));
    }

    /// The offset at which this worker gained interest in a channel that `who` has joined.
    fn gained_at(&self, who: &Waiter, channel: &str) -> u64 {
        let Waiter::Session { session, .. } = who else { return 0 };
        let app = self.sessions.find(*session).map(|slot| self.sessions.get(slot).app);
        let part = app.and_then(|app| self.part(app, channel));
        match part.map(|part| self.channels[part].interest_state) {
            Some(InterestState::Live { offset, .. }) => offset,
            _ => 0,
        }
    }

    /// From now on the members here get what is published after `sequence`; unless they are others than those
    /// for whom `gained` was delegated, because these have left meanwhile.
    fn set_live(&mut self, channel: &Arc<Channel>, sequence: u64, offset: u64, gained: Option<u64>) {
        let Some(part) = channel.local(self.worker) else { return };
        let local = &mut self.channels[part];
        if matches!(local.interest_state, InterestState::Gaining { ticket } if ticket == gained) {
            local.interest_state = InterestState::Live { from: sequence, offset };
            local.offset = offset;
        }
    }

    /// Gives publications of one operation to this worker's members; the first has this sequence number.
    #[inline]
    fn deliver(&mut self, channel: &Arc<Channel>, sequence: u64, publications: &[Publication<'_>]) {
        let (Some(part), Some(last)) = (channel.local(self.worker), publications.last()) else { return };
        let local = &mut self.channels[part];
        // Mail from before our interest: we have been in this channel earlier, and it was still under way.
        match local.interest_state {
            InterestState::Live { from, .. } if sequence > from => {}
            _ => return,
        }
        local.offset = last.offset.unwrap_or(local.offset);
        let excepted = last.audience.except_session.filter(|except| except.worker() == self.worker);
        let excepted = excepted.and_then(|except| self.sessions.find(except));
        if let Some(sender) = excepted
            && local.subscribers.slots() == [sender]
        {
            return;
        }
        if local.run == NONE {
            local.run = self.turn.open_run(channel.clone(), part, local.subscribers.slots().len());
        }
        self.turn.append(local.run, local.formats, publications);
        let (run, audience) = (local.run, last.audience);
        if audience.is_filtered() {
            self.limit_to_audience(channel, part, publications.len(), audience);
        } else if let Some(slot) = excepted {
            self.turn.except(run, publications.len(), slot, self.sessions.hot(slot));
        }
        if !self.quiet.is_empty() && last.body.is_notice() {
            self.spare_quiet(part, publications);
        }
    }

    /// The last publications of a channel's run are for an audience.
    #[cold]
    fn limit_to_audience(&mut self, channel: &Channel, part: LocalId, count: usize, audience: &Audience) {
        let run = self.channels[part].run;
        let is_named = channel.name().is_some();
        let addressed = self.resolve(channel.app(), audience);
        let addressed = self.by_user(part, addressed, audience);
        let sessions = &self.sessions;
        // Every session of the app is a member of its broadcast stream.
        let is_member =
            |slot: &SessionSlot| !is_named || sessions.get(*slot).memberships.find(part).is_some();
        match addressed {
            Addressed::Only(mut slots) => {
                slots.retain(is_member);
                self.turn.hide(run, count, &slots, &mut self.sessions);
            }
            Addressed::AllBut(mut slots) => {
                slots.retain(is_member);
                for slot in slots {
                    self.turn.except(run, count, slot, self.sessions.hot(slot));
                }
            }
        }
    }
}
