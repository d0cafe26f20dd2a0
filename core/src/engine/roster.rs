//! Rosters, which are lists of members that agree with presence notices, and members without presence
//! notices.
//!
//! A roster is read inside the channel's order and sent as mail, even to the worker that read it, so the
//! roster keeps its place among the notices. Before the answer, the session that asked receives the channel's
//! publications of this turn.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::{
    Engine, RandomState,
    output::NONE,
    session::Membership,
    submit::Submitted,
    waiting::{Progress, Waiter},
};
use crate::{
    channel::{Channel, ChannelRequest},
    command::{Outcome, Roster},
    id::{AppId, LocalId, SessionSlot},
    limits::ROSTER,
    publication::Publication,
};

/// The members of this worker's parts of channels that receive no presence notices.
#[derive(Default)]
pub(super) struct QuietMembers(HashMap<LocalId, BTreeSet<SessionSlot>, RandomState>);

impl QuietMembers {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn set(&mut self, part: LocalId, slot: SessionSlot, notices: bool) {
        match notices {
            true => self.remove(part, slot),
            false => {
                self.0.entry(part).or_default().insert(slot);
            }
        }
    }

    pub(super) fn remove(&mut self, part: LocalId, slot: SessionSlot) {
        if let Some(quiet) = self.0.get_mut(&part)
            && quiet.remove(&slot)
            && quiet.is_empty()
        {
            self.0.remove(&part);
        }
    }
}

impl Engine {
    /// Hides the last publications of a channel's run, which are notices, from members without presence
    /// notices.
    #[cold]
    pub(super) fn spare_quiet(&mut self, part: LocalId, notices: &[Publication<'_>]) {
        let Some(quiet) = self.quiet.0.get(&part) else { return };
        let (Some(last), run) = (notices.last(), self.channels[part].run) else { return };
        self.work += quiet.len() / 8;
        for &slot in quiet {
            // A member without echo does not receive its own notice in any case.
            if last.audience.except_session != Some(self.sessions.get(slot).id(slot)) {
                self.turn.except(run, notices.len(), slot, self.sessions.hot(slot));
            }
        }
    }

    /// Asks for the members of a channel that keeps a roster.
    pub(super) fn roster(&mut self, app: AppId, name: &str) -> Progress {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let outcome = Outcome::Roster(Roster { channel: name.into(), total: 0, members: Vec::new() });
        let asker = self.worker;
        let request = || ChannelRequest::Roster { limit: ROSTER, asker, ticket };
        match self.submit_request(app, name, request) {
            // The answer comes as mail of its own.
            Some(Submitted::Done { .. } | Submitted::Waiting(_)) => Progress::Waiting { ticket, outcome },
            None => Progress::Finished(outcome),
            Some(Submitted::Refused(_) | Submitted::Closed) => unreachable!("reading is not refused"),
        }
    }

    /// Gives a waiting session the channel's publications until now, so that the session's next answer comes
    /// after them.
    pub(super) fn catch_up_in_turn(&mut self, who: &Waiter, channel: &Channel) {
        let Waiter::Session { session, .. } = who else { return };
        let (Some(slot), Some(part)) = (self.sessions.find(*session), channel.local(self.worker)) else {
            return;
        };
        let Some(membership) = self.sessions.get(slot).memberships.find(part) else { return };
        if self.channels[part].run == NONE {
            return;
        }
        // The member leaves the channel's run and joins the run again at its end.
        self.remove_member(part, slot, membership.number);
        let number = self.add_member(part, slot);
        self.sessions.change(slot, |session| {
            session.memberships.remove(part);
            session.memberships.insert(Membership { local: part, number });
        });
    }
}
