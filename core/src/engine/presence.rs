//! Presence: notices about members and users.

use std::sync::Arc;

use super::{
    Engine,
    session::Session,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    channel::Presence,
    command::Outcome,
    error::ReplyError,
    id::{AppId, SessionId, SessionSlot},
    publication::{Audience, Body, IdentityCard, OwnedPublication, Publication},
};

impl Engine {
    /// A notice about a user for everybody except a session.
    pub(super) fn user_notice(&mut self, body: Body<'_>, except: Option<SessionId>) -> Arc<OwnedPublication> {
        let audience = Audience { except_session: except, ..Audience::default() };
        Arc::new(self.notice(body, &audience).into())
    }

    /// The identity of a session, for notices about it.
    pub(super) fn card(&self, slot: SessionSlot) -> Arc<IdentityCard> {
        Arc::new(self.sessions.get(slot).card(slot))
    }

    /// Sends a notice that only one dialect can express to the members of a channel, or to the users of the
    /// audience.
    pub(super) fn tell(
        &mut self,
        app: AppId,
        channel: Option<&str>,
        audience: &Audience,
        words: &Arc<str>,
    ) -> Result<Progress, ReplyError> {
        // Earlier notices reach their members first.
        self.drain_mailbox();
        let mut notice = [self.notice(Body::Worded(words), audience)];
        if Self::is_direct(channel, audience) {
            self.publish_direct(app, &notice[0])?;
            return Ok(Progress::Finished(Outcome::Done));
        }
        while let Some(channel) = self.node.channel(app, channel) {
            match self.submit(&channel, ChannelOp { publications: &mut notice, ..ChannelOp::default() }) {
                Submitted::Done { .. } => break,
                Submitted::Waiting(ticket) => {
                    return Ok(Progress::Waiting { ticket, outcome: Outcome::Done });
                }
                Submitted::Refused(error) => return Err(error),
                Submitted::Closed => self.node.table.remove(&channel),
            }
        }
        Ok(Progress::Finished(Outcome::Done))
    }

    /// A notice of presence.
    pub(super) fn notice<'a>(&mut self, body: Body<'a>, audience: &'a Audience) -> Publication<'a> {
        self.counters.notices += 1;
        Publication { audience, ..Publication::new(self.ids.message_id(self.now_ms), body) }
    }
}

/// Whether a session is told of what it does itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Echo {
    Wanted,
    Unwanted,
}

impl Echo {
    /// What a command says, or else the session's default.
    #[inline]
    pub(super) fn of(command: Option<bool>, session: &Session) -> Self {
        if command.unwrap_or(session.echo) { Self::Wanted } else { Self::Unwanted }
    }
}

/// An event in a session's membership of a channel.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum MembershipEvent {
    /// The session becomes a member.
    Joins,
    /// The member leaves.
    Leaves,
    /// The member has a new profile.
    Updates,
    /// The member has a user from now on, which changes the count of users, and the roster if there is one.
    SignsIn,
}

/// A change of a member, as others are told of it.
pub(super) struct MembershipChange {
    pub(super) session: SessionId,
    pub(super) event: MembershipEvent,
    /// The member; `None` if no notice is sent.
    pub(super) card: Option<Arc<IdentityCard>>,
    /// The session, if the session is not told of its own change.
    pub(super) except: Option<SessionId>,
    /// The change of the number of the user's sessions.
    pub(super) presence: Option<Box<Presence>>,
}

impl MembershipChange {
    /// The notice that the members receive.
    pub(super) fn notice(&self) -> Option<Body<'_>> {
        let card = self.card.as_ref()?;
        Some(match self.event {
            MembershipEvent::Joins => Body::MemberJoined(card),
            MembershipEvent::Leaves => Body::MemberLeft(card),
            MembershipEvent::Updates | MembershipEvent::SignsIn => Body::MemberUpdated(card),
        })
    }
}
