//! Presence: notices about members and users.

use std::sync::Arc;

use super::Engine;
use crate::{
    channel::{Channel, ChannelState, Presence},
    id::SessionSlot,
    publication::{Audience, Body, IdentityCard, Publication},
};

impl Engine {
    /// Counts a user's sessions, and tells of the first and the last.
    pub(super) fn count_user(
        &mut self,
        channel: &Arc<Channel>,
        state: &mut ChannelState,
        presence: &Presence,
    ) {
        let Some(users) = &mut state.users else { return };
        let Presence { user, joins, except } = presence;
        let count = users.get(&**user).copied().unwrap_or_default();
        let now = if *joins { count + 1 } else { count.saturating_sub(1) };
        match now {
            0 => users.remove(&**user),
            now => users.insert((&**user).into(), now),
        };
        let body = match (count, now) {
            (0, 1) => Body::UserJoined(user),
            (1, 0) => Body::UserLeft(user),
            _ => return,
        };
        let audience = Audience { except_session: *except, ..Audience::default() };
        let notice = self.notice(body, &audience);
        state.sequence += 1;
        self.distribute(channel, state, false, &notice, None);
    }

    /// The identity of a session, for notices about it.
    pub(super) fn card(&self, slot: SessionSlot) -> Arc<IdentityCard> {
        let session = self.sessions.get(slot);
        let (user, profile) = (session.user.clone(), session.profile.clone());
        Arc::new(IdentityCard { id: session.id(slot), user, profile })
    }

    /// A notice of presence.
    pub(super) fn notice<'a>(&mut self, body: Body<'a>, audience: &'a Audience) -> Publication<'a> {
        self.counters.notices += 1;
        Publication { audience, ..Publication::new(self.ids.message_id(self.now_ms), body) }
    }
}

/// What a session's membership does, as far as others are told.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum MembershipEvent {
    /// The session becomes a member.
    Joins,
    /// The member leaves.
    Leaves,
    /// The member has a new profile.
    Updates,
    /// The member has a user from now on. Only the count of users changes.
    SignsIn,
}

impl MembershipEvent {
    /// What members are told of the member whose identity is `card`.
    pub(super) fn notice(self, card: &Arc<IdentityCard>) -> Option<Body<'_>> {
        match self {
            Self::Joins => Some(Body::MemberJoined(card)),
            Self::Leaves => Some(Body::MemberLeft(card)),
            Self::Updates => Some(Body::MemberUpdated(card)),
            Self::SignsIn => None,
        }
    }
}
