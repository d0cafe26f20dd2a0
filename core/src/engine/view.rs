//! What a session that joins is shown: who is there, and the last messages.
//!
//! Both are read inside the channel's order. The answer comes by mail, behind everything that was published
//! before the reading and before everything after it. So the notices and messages that the session receives
//! as a member go on exactly where the list and the messages end.

use super::{
    Engine, InterestState,
    membership::{Joining, joined},
    output::NONE,
    session::Membership,
    waiting::{Progress, Waiter},
};
use crate::{
    channel::{Bounds, ChannelRequest, Interest, Position, Viewer},
    command::{MembersView, Outcome, Recovery, View, Viewed},
    id::{LocalId, SessionSlot},
    limits::PAGE_BYTES,
};

impl Engine {
    /// Makes a session a member when what it asked for has been read.
    pub(super) fn join_viewing(
        &mut self,
        part: LocalId,
        slot: SessionSlot,
        echo: bool,
        view: View,
    ) -> Progress {
        let session = self.sessions.get(slot).id(slot);
        let joining = Joining { part, session, echo, members: view.members };
        let interest = self.channels[part].needs_interest().then_some(Interest::Gained);
        let ticket = self.read_view(part, slot, interest, view);
        let local = &mut self.channels[part];
        if interest.is_some() {
            local.interest_state = InterestState::Gaining { ticket: Some(ticket) };
        }
        local.joining += 1;
        let outcome = joined(&local.channel, true, Position::default(), Recovery::NotAsked);
        self.joining.insert(ticket, joining);
        Progress::Waiting { ticket, outcome }
    }

    /// Shows a member the channel.
    pub(super) fn view(&mut self, part: LocalId, slot: SessionSlot, view: View) -> Progress {
        let ticket = self.read_view(part, slot, None, view);
        let local = &self.channels[part];
        let position = Position { epoch: local.channel.epoch(), offset: local.offset };
        let outcome = joined(&local.channel, false, position, Recovery::NotAsked);
        Progress::Waiting { ticket, outcome }
    }

    /// Has the channel read what a session asks for. The answer comes by mail, under the ticket.
    fn read_view(&mut self, part: LocalId, slot: SessionSlot, interest: Option<Interest>, view: View) -> u64 {
        let request = ChannelRequest::View {
            members: view.members == MembersView::ListAndNotices,
            latest: view.latest.map(|messages| Bounds { messages, bytes: PAGE_BYTES }),
            reader: Viewer::User(self.sessions.get(slot).user.clone()),
        };
        loop {
            let channel = self.channels[part].channel.clone();
            match self.submit_by_mail(&channel, interest, request.clone()) {
                Some(ticket) => return ticket,
                None => self.rebind(part),
            }
        }
    }

    /// What a member asked for has been read. From here on a member that asked for the others is told of them.
    pub(super) fn on_viewed(&mut self, who: &Waiter, outcome: &mut Outcome, view: Viewed) {
        let Outcome::Joined { channel, viewed, .. } = outcome else { return };
        if let Waiter::Session { session, .. } = who
            && let Some(slot) = self.sessions.find(*session)
        {
            let app = self.sessions.get(slot).app;
            let part = self.node.table.find(app, channel, |channel| channel.local(self.worker)).flatten();
            let membership = part.and_then(|part| self.sessions.get(slot).memberships.find(part));
            if let Some(membership) = membership {
                self.divide_run(slot, membership);
                if view.members.is_some() {
                    self.make_aware(membership.local, slot);
                }
            }
        }
        *viewed = Some(Box::new(view));
    }

    /// What a member has received of a channel in this turn goes before what it is answered next, and the
    /// rest behind it, as if it had left and joined in between.
    fn divide_run(&mut self, slot: SessionSlot, Membership { local: part, number }: Membership) {
        if self.channels[part].run == NONE {
            return;
        }
        self.remove_member(part, slot, number);
        let number = self.add_member(part, slot);
        let memberships = &mut self.sessions.get_mut(slot).memberships;
        memberships.remove(part);
        memberships.insert(Membership { local: part, number });
    }

    /// A session that is told nothing of a channel's other members is so from now on, or is a member no more.
    pub(super) fn make_aware(&mut self, part: LocalId, slot: SessionSlot) {
        let local = &mut self.channels[part];
        if let Some(unaware) = &mut local.unaware {
            unaware.retain(|other| *other != slot);
            local.unaware.take_if(|unaware| unaware.is_empty());
        }
    }

    /// The last notices of a channel's run are not for members that are told nothing of the others. `except`
    /// is told nothing anyway.
    #[cold]
    pub(super) fn spare_unaware(&mut self, part: LocalId, count: usize, except: Option<SessionSlot>) {
        let Self { channels, turn, sessions, .. } = self;
        let local = &channels[part];
        let unaware = local.unaware.iter().flat_map(|unaware| unaware.iter());
        for slot in unaware.copied().filter(|slot| Some(*slot) != except) {
            turn.except(local.run, count, slot, sessions.hot(slot));
        }
    }
}
