//! Operations on a channel: entering its order or delegating, posting to the workers that hold members, and mail.
//!
//! Local delivery keeps the channel's order too. What other workers published before us is in our mailbox by the
//! time we are inside the order; so only if the mailbox is empty do we deliver our own publication directly, else we
//! post it to ourselves, behind that.

use std::{slice, sync::Arc};

use arrayvec::ArrayVec;

use super::{
    Engine, InterestState,
    mail::{Mail, Receipt},
    output::NONE,
    waiting::{Waiter, Waiting},
};
use crate::{
    channel::{
        Channel, ChannelReply, ChannelRequest, ChannelState, Delegated, Entered, Interest, Operation,
        Position, Presence, Pushed,
    },
    command::Outcome,
    error::ReplyError,
    id::WorkerId,
    limits::BURST,
    publication::{OwnedPublication, Publication},
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

/// Who does an operation, for [`Engine::apply`].
struct Actor {
    worker: WorkerId,
    interest: Option<Interest>,
    request: Option<Box<ChannelRequest>>,
    presence: Option<Box<Presence>>,
    /// Of an operation that was delegated.
    ticket: Option<u64>,
}

/// What `apply` leaves to be done by the caller.
struct Applied {
    receipt: Receipt,
    reply: Option<ChannelReply>,
    /// How many of the publications our own members are to get now. The others are in the mail.
    direct: usize,
    /// Of the first publication.
    sequence: u64,
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
        let actor = Actor { worker: self.worker, interest, request, presence, ticket: None };
        let applied = entered.with(|state| self.apply(channel, state, actor, publications));
        self.leave_lock(channel, entered);
        let Applied { receipt, direct, sequence, reply } = match applied {
            Ok(applied) => applied,
            Err(error) => return Submitted::Refused(error),
        };
        if interest == Some(Interest::Gained) {
            self.set_live(channel, receipt.sequence, receipt.position.offset, None);
        }
        self.deliver(channel, sequence, &publications[..direct]);
        Submitted::Done { receipt, reply }
    }

    /// Leaves a channel's order, doing first what others delegated meanwhile; a channel that nobody wants any more
    /// goes. Public for tests, which enter and stay inside as a thread does that is not scheduled.
    #[doc(hidden)]
    pub fn leave_lock(&mut self, channel: &Arc<Channel>, entered: Entered<'_, ChannelState, Operation>) {
        let apply = |state: &mut ChannelState, operation| self.apply_delegated(channel, state, operation);
        if entered.leave_or_close(apply, |state| state.deserted) {
            self.node.table.remove(channel);
        }
    }

    /// Applies what another worker left for us.
    fn apply_delegated(&mut self, channel: &Arc<Channel>, state: &mut ChannelState, operation: Operation) {
        let Operation { worker, interest, publications, request, presence, ticket } = operation;
        let actor = Actor { worker, interest, request, presence, ticket: Some(ticket) };
        let mut views: ArrayVec<_, BURST> = publications.iter().map(OwnedPublication::view).collect();
        let mail = match self.apply(channel, state, actor, &mut views) {
            Ok(Applied { receipt, reply, .. }) => Mail::Done { receipt, reply: reply.map(Box::new), ticket },
            Err(error) => Mail::Refused { error, ticket },
        };
        self.post(worker, mail);
    }

    /// Changes the channel's state and posts to the workers concerned. Runs inside the channel's order. Does nothing
    /// if it refuses.
    #[inline(always)]
    fn apply(
        &mut self,
        channel: &Arc<Channel>,
        state: &mut ChannelState,
        actor: Actor,
        publications: &mut [Publication<'_>],
    ) -> Result<Applied, ReplyError> {
        if publications.first().is_some_and(|p| p.body.is_message()) {
            self.check_mailboxes(state)?;
        }
        if actor.interest == Some(Interest::Gained) {
            state.interest.insert(actor.worker);
            if let Some(ticket) = actor.ticket {
                let ChannelState { sequence, offset, .. } = *state;
                self.post(actor.worker, Mail::Live { channel: channel.clone(), sequence, offset, ticket });
            }
        }
        let before = state.sequence;
        let reply = actor.request.map(|request| self.serve(channel, state, *request)).transpose()?;
        let mut offset = match reply {
            Some(ChannelReply::Changed(offset)) => Some(offset),
            _ => None,
        };
        let sequence = state.sequence + 1;
        let mut direct = 0;
        for publication in publications {
            state.sequence += 1;
            let shared = self.number(channel, state, publication);
            offset = publication.offset;
            let own = actor.ticket.is_none();
            // Once one is in our mailbox, those after it are as well.
            direct += usize::from(self.distribute(channel, state, own, publication, shared));
        }
        if let Some(presence) = actor.presence {
            self.count_user(channel, state, &presence);
        }
        if actor.interest == Some(Interest::Lost) {
            state.interest.remove(actor.worker);
            if let Some(history) = &mut state.history {
                history.touch(self.now_ms);
                self.account(channel, state);
            }
        }
        state.deserted = state.is_forgotten(self.now_ms) && channel.name().is_some();
        if state.deserted {
            self.account(channel, state);
        }
        let position = Position { epoch: channel.epoch(), offset: state.offset };
        Ok(Applied { receipt: Receipt { sequence: before, position, offset }, direct, sequence, reply })
    }

    /// Refuses if a worker with members has a full mailbox.
    #[inline]
    pub(super) fn check_mailboxes(&self, state: &ChannelState) -> Result<(), ReplyError> {
        let full = state.interest.into_iter().any(|worker| self.node.mailbox(worker).is_full());
        if full { Err(ReplyError::Overloaded) } else { Ok(()) }
    }

    /// Gives a message its offset, and remembers it if the channel has history.
    #[inline(always)]
    fn number(
        &mut self,
        channel: &Arc<Channel>,
        state: &mut ChannelState,
        publication: &mut Publication<'_>,
    ) -> Option<Arc<OwnedPublication>> {
        if !publication.body.is_message() || channel.name().is_none() {
            publication.kept = false;
            return None;
        }
        let audience = publication.audience;
        let Some(history) = &mut state.history else {
            publication.kept = false;
            if !state.interest.is_empty() && !audience.is_filtered() {
                state.offset += 1;
                channel.set_offset(state.offset);
                publication.offset = Some(state.offset);
            }
            return None;
        };
        // A session that comes back is another one, so nobody could ask for what was for one alone.
        publication.kept &= audience.only_session.is_none();
        if !publication.kept {
            return None;
        }
        state.offset += 1;
        channel.set_offset(state.offset);
        publication.offset = Some(state.offset);
        let may_cost = |bytes: usize| {
            let before = channel.remembered();
            let crowded = bytes > before && self.over_budget(channel.app(), bytes - before);
            // Until there is room again, no channel grows.
            if crowded { before } else { usize::MAX }
        };
        let Pushed { shared, forgotten } = history.push(publication, self.now_ms, may_cost);
        if forgotten > 0 {
            self.count_forgotten(channel.app(), forgotten);
        }
        self.account(channel, state);
        shared
    }

    /// Posts a publication to every interested worker. Returns whether our own members are to get it at once: if it is
    /// of our own, and `direct` therefore, and nothing waits that was before it.
    #[inline(always)]
    pub(super) fn distribute(
        &mut self,
        channel: &Arc<Channel>,
        state: &ChannelState,
        direct: bool,
        publication: &Publication<'_>,
        mut shared: Option<Arc<OwnedPublication>>,
    ) -> bool {
        let mut mail = |engine: &mut Self, to: WorkerId| {
            // What is remembered, and may be shared therefore, does not say who wants no echo; but that worker must know.
            let excepts = publication.audience.except_session.is_some_and(|session| session.worker() == to);
            let own = || Arc::new((*publication).into());
            let publication = if excepts { own() } else { shared.get_or_insert_with(own).clone() };
            let sequence = state.sequence;
            engine.post(to, Mail::Publication { channel: channel.clone(), sequence, publication });
        };
        for worker in state.interest.without(self.worker) {
            mail(self, worker);
        }
        if !state.interest.contains(self.worker) {
            return false;
        }
        if direct && self.node.mailbox(self.worker).is_empty() {
            return true;
        }
        mail(self, self.worker);
        false
    }

    /// Sends mail, perhaps to ourselves.
    pub(super) fn post(&mut self, to: WorkerId, mail: Mail) {
        self.node.mailbox(to).push(mail);
        if to != self.worker {
            self.touched.insert(to);
        }
    }

    /// Handles the mail there is now. Before a membership changes, this brings the worker to where its streams are.
    pub(super) fn drain_mailbox(&mut self) {
        for _ in 0..self.node.mailbox(self.worker).depth() {
            let Some(mail) = self.node.mailbox(self.worker).pop() else { return };
            self.handle_mail(mail);
        }
    }

    /// Handles the mail there is now, and lets go on whom it frees to, unless the turn gets full.
    pub fn on_mail(&mut self) {
        let mut there = self.node.mailbox(self.worker).depth();
        while !self.is_turn_full() {
            if there > 0
                && let Some(mail) = self.node.mailbox(self.worker).pop()
            {
                there -= 1;
                self.handle_mail(mail);
            } else if let Some(interrupted) = self.interrupted.pop_front() {
                self.go_on(interrupted);
            } else {
                break;
            }
        }
    }

    fn handle_mail(&mut self, mail: Mail) {
        self.counters.mail += 1;
        match mail {
            Mail::Publication { channel, sequence, publication } => {
                self.deliver(&channel, sequence, slice::from_ref(&publication.view()));
            }
            Mail::Live { channel, sequence, offset, ticket } => {
                self.set_live(&channel, sequence, offset, Some(ticket));
            }
            Mail::Done { receipt, reply, ticket } => self.on_done(ticket, receipt, reply.map(|reply| *reply)),
            Mail::Refused { error, ticket } => {
                if let Some(waiting) = self.waiting.remove(&ticket) {
                    let commands = waiting.who.commands() as u64;
                    self.counters.overloaded += if error == ReplyError::Overloaded { commands } else { 0 };
                    self.answer(waiting.who, Err(error));
                }
            }
            Mail::Direct { app, publication } => self.deliver_direct(app, &publication.view()),
            Mail::IdempotentPublish(once) => self.on_once(&once),
            Mail::Published { result, ticket } => self.on_owner_answer(ticket, result),
            Mail::Query(query) => self.on_query(query),
            Mail::Answer(query) => self.on_answer(*query),
        }
    }

    /// An operation that was delegated is done.
    fn on_done(&mut self, ticket: u64, receipt: Receipt, reply: Option<ChannelReply>) {
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
            _ => {}
        }
        self.answer(who, Ok(outcome));
    }

    /// The offset at which this worker gained interest in a channel that `who` has joined.
    fn gained_at(&self, who: &Waiter, channel: &str) -> u64 {
        let Waiter::Session { session, .. } = who else { return 0 };
        let app = self.sessions.find(*session).map(|slot| self.sessions.get(slot).app);
        let part = app.and_then(|app| self.node.table.find(app, channel, |c| c.local(self.worker)).flatten());
        match part.map(|part| self.channels[part].interest_state) {
            Some(InterestState::Live { offset, .. }) => offset,
            _ => 0,
        }
    }

    /// From now on the members here get what is published after `sequence`; unless they are others than those for
    /// whom `gained` was delegated, because these have left meanwhile.
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
        if local.run == NONE {
            local.run = self.turn.open_run(channel.clone(), part, local.subscribers.slots().len());
        }
        self.turn.append(local.run, local.formats, publications);
        let (run, audience) = (local.run, last.audience);
        if audience.is_filtered() {
            self.turn.filter(run, publications.len(), audience);
        } else if let Some(except) = audience.except_session
            && except.worker() == self.worker
            && let Some(slot) = self.sessions.find(except)
        {
            self.turn.except(run, publications.len(), slot, self.sessions.hot(slot));
        }
    }
}
