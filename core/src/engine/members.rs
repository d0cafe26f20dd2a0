//! Membership: joining, leaving, and this worker's part of each channel.

use std::sync::Arc;

use super::{Engine, LocalChannel, Standing, fanout::NONE, operate::Operated, session::Membership};
use crate::{
    channel::{Channel, Interest, Position, Subscribers},
    command::Outcome,
    dialect::{self, FORMATS},
    error::ReplyError,
    limits::MISSED_CHANNELS,
    publication::{Audience, Kind},
};

/// An outcome, or the ticket under which it will come.
pub(super) enum Progress {
    Finished(Outcome),
    Waiting { ticket: u64, outcome: Outcome },
}

impl Engine {
    /// Makes a session a member of a channel, which comes into being if need be.
    pub(super) fn join(&mut self, slot: u32, name: &str, echo: Option<bool>) -> Result<Progress, ReplyError> {
        self.settle();
        let session = self.sessions.get(slot);
        let app = self.hub.app(session.app).clone();
        let local = self.hub.table.find(app.id, name, |channel| channel.local(self.worker)).flatten();
        if let Some(part) = local
            && session.memberships.find(part).is_some()
        {
            let waiting = self.change_membership(part, slot, None, None, false);
            return Ok(self.joined(part, false, waiting));
        }
        // A slow consumer must not pile up channels whose losses it is still to be told of by passing through them.
        if session.memberships.len() >= app.limits.channels_per_connection as usize
            || session.missed_channels() >= MISSED_CHANNELS
        {
            return Err(ReplyError::TooManyChannels);
        }
        let part = match local {
            Some(part) => part,
            None => {
                let channel = self.hub.table.find_or_create(app.id, name);
                self.add_local(channel)
            }
        };
        let number = self.add_member(part, slot);
        self.sessions.get_mut(slot).memberships.insert(Membership { local: part, number });
        let echo = echo.unwrap_or(self.sessions.get(slot).echo);
        let gained = local.is_none().then_some(Interest::Gained);
        let notice = app.announce.then_some(Kind::Join);
        let waiting = self.change_membership(part, slot, gained, notice, echo);
        Ok(self.joined(part, true, waiting))
    }

    /// Ends a membership.
    pub(super) fn leave(&mut self, slot: u32, name: &str, echo: Option<bool>) -> Progress {
        self.settle();
        let session = self.sessions.get(slot);
        let outcome = |left| Outcome::Left { channel: name.into(), left };
        let membership = self
            .hub
            .table
            .find(session.app, name, |channel| channel.local(self.worker))
            .flatten()
            .and_then(|part| session.memberships.find(part));
        let Some(membership) = membership else { return Progress::Finished(outcome(false)) };
        let echo = echo.unwrap_or(session.echo);
        match self.end_membership(slot, membership, echo) {
            Some(ticket) => Progress::Waiting { ticket, outcome: outcome(true) },
            None => Progress::Finished(outcome(true)),
        }
    }

    /// Leaves everything, because the session ends.
    pub(super) fn leave_all(&mut self, slot: u32) {
        self.settle();
        while let Some(&membership) = self.sessions.get(slot).memberships.as_slice().last() {
            self.end_membership(slot, membership, false);
        }
        self.leave_broadcast(slot);
    }

    /// Takes a session into the app's broadcast stream.
    pub(super) fn enter_broadcast(&mut self, slot: u32) {
        let channel = self.hub.broadcast(self.sessions.get(slot).app).clone();
        let (part, gained) = match channel.local(self.worker) {
            Some(part) => (part, None),
            None => (self.add_local(channel), Some(Interest::Gained)),
        };
        let number = self.add_member(part, slot);
        self.sessions.get_mut(slot).broadcast_number = number;
        if gained.is_some() {
            self.change_membership(part, slot, gained, None, false);
        }
    }

    fn leave_broadcast(&mut self, slot: u32) {
        let session = self.sessions.get(slot);
        let number = session.broadcast_number;
        let part = self
            .hub
            .broadcast(session.app)
            .local(self.worker)
            .expect("a session is in its app's broadcast stream until it ends");
        self.remove_member(part, slot, number);
        if self.channels[part].subscribers.is_empty() {
            self.change_membership(part, slot, Some(Interest::Lost), None, false);
            self.remove_local(part);
        }
    }

    /// Removes a member, tells the others and, with echo, the leaver; lets go of the channel after the last one.
    fn end_membership(&mut self, slot: u32, membership: Membership, echo: bool) -> Option<u64> {
        let part = membership.local;
        let app = self.hub.app(self.sessions.get(slot).app).clone();
        self.sessions.get_mut(slot).memberships.remove(part);
        self.remove_member(part, slot, membership.number);
        let last = self.channels[part].subscribers.is_empty();
        let lost = last.then_some(Interest::Lost);
        let notice = app.announce.then_some(Kind::Leave);
        if echo && notice.is_some() {
            self.reply_notice(part, slot, Kind::Leave);
        }
        let ticket = if lost.is_some() || notice.is_some() {
            self.change_membership(part, slot, lost, notice, false)
        } else {
            None
        };
        if last {
            self.remove_local(part);
        }
        ticket
    }

    /// Gives a session a notice about itself that its channel's run does not bring any more.
    fn reply_notice(&mut self, part: u32, slot: u32, kind: Kind) {
        let payload = self.member_payload(slot);
        let audience = Audience::default();
        let notice = self.notice(kind, &payload, &audience);
        let channel = self.channels[part].channel.clone();
        let format = self.sessions.hot(slot).format;
        self.reply(slot, |out| dialect::encode_publication(format, out, channel.name(), notice));
    }

    /// Carries a change of membership through the channel's order. Returns a ticket if it is delegated.
    pub(super) fn change_membership(
        &mut self,
        part: u32,
        slot: u32,
        interest: Option<Interest>,
        notice: Option<Kind>,
        echo: bool,
    ) -> Option<u64> {
        loop {
            let channel = self.channels[part].channel.clone();
            let audience =
                if echo { Audience::default() } else { Audience::except(self.sessions.get(slot).id(slot)) };
            let payload = notice.map(|_| self.member_payload(slot));
            let publication = match (notice, &payload) {
                (Some(kind), Some(payload)) => Some(self.notice(kind, payload, &audience)),
                _ => None,
            };
            // A member on a worker that is still gaining interest waits for that.
            let live = matches!(self.channels[part].standing, Standing::Live { .. });
            if interest.is_none() && publication.is_none() && live {
                return None;
            }
            match self.operate(&channel, interest, publication) {
                Operated::Done { .. } => return None,
                Operated::Waiting(ticket) => {
                    if interest == Some(Interest::Gained) {
                        self.channels[part].standing = Standing::Gaining { ticket: Some(ticket) };
                    }
                    return Some(ticket);
                }
                Operated::Closed => self.rebind(part),
                Operated::Overloaded => unreachable!("only messages are refused"),
            }
        }
    }

    /// The channel of a new local part was closed by the last worker that held it, after we had found it: takes the
    /// name's new one. Once our gaining interest has been accepted, a channel does not close under us.
    fn rebind(&mut self, part: u32) {
        let old = &self.channels[part].channel;
        self.hub.table.remove(old);
        old.set_local(self.worker, None);
        let name = old.name().expect("broadcast streams are never closed");
        let new = self.hub.table.find_or_create(old.app(), name);
        new.set_local(self.worker, Some(part));
        new.set_members(self.worker, self.channels[part].subscribers.len());
        self.channels[part].channel = new;
    }

    /// What came of joining. The position is where the member's messages begin.
    fn joined(&mut self, part: u32, joined: bool, waiting: Option<u64>) -> Progress {
        let mut offset = self.channels[part].offset;
        if waiting.is_none() && matches!(self.channels[part].standing, Standing::Gaining { .. }) {
            // We have been inside the order, so the interest was gained before, and word of it is in our mailbox.
            self.settle();
            if let Standing::Live { offset: gained_at, .. } = self.channels[part].standing {
                offset = gained_at;
            }
        }
        let channel = &self.channels[part].channel;
        let outcome = Outcome::Joined {
            channel: channel.name().unwrap_or_default().into(),
            joined,
            members: channel.members(),
            position: Position { epoch: channel.epoch(), offset },
        };
        match waiting {
            Some(ticket) => Progress::Waiting { ticket, outcome },
            None => Progress::Finished(outcome),
        }
    }

    fn add_local(&mut self, channel: Arc<Channel>) -> u32 {
        channel.set_local(self.worker, Some(self.channels.next_slot()));
        self.channels.insert(LocalChannel {
            channel,
            subscribers: Subscribers::default(),
            formats: [0; FORMATS],
            run: NONE,
            standing: Standing::Gaining { ticket: None },
            offset: 0,
        })
    }

    fn remove_local(&mut self, part: u32) {
        let local = self.channels.remove(part);
        local.channel.set_local(self.worker, None);
        if local.run != NONE {
            self.turn.orphan(local.run);
        }
    }

    fn add_member(&mut self, part: u32, slot: u32) -> u64 {
        let format = self.sessions.hot(slot).format;
        let local = &mut self.channels[part];
        if local.run != NONE {
            self.turn.joined(local.run);
        }
        local.formats[format.index()] += 1;
        let number = local.subscribers.push(slot);
        local.channel.set_members(self.worker, local.subscribers.len());
        number
    }

    fn remove_member(&mut self, part: u32, slot: u32, number: u64) {
        let format = self.sessions.hot(slot).format;
        let local = &mut self.channels[part];
        let place = local.subscribers.position(number).expect("a membership has its place");
        if local.run == NONE {
            local.subscribers.remove(number);
            local.subscribers.compact();
        } else {
            self.counters.deliveries += self.turn.left(local.run, place, slot, &mut self.sessions);
            local.subscribers.remove(number);
        }
        local.formats[format.index()] -= 1;
        local.channel.set_members(self.worker, local.subscribers.len());
    }
}
