//! The members of a channel, counted inside its order: the number of sessions of each user, and a roster.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::{ChannelMail, ChannelState, Env, Receipt};
use crate::{
    app::ChannelOptions,
    channel::{Channel, ChannelReply, Position, Presence},
    id::{SessionId, WorkerId},
    limits::PAGE_BYTES,
    publication::{Body, IdentityCard, Publication},
};

/// The members of a channel; see the module's description. A part that the options do not ask for is `None`.
#[derive(Debug)]
pub(super) struct People {
    /// The number of sessions of each user in the channel.
    users: Option<BTreeMap<Box<str>, u32>>,
    /// The members after the last notice.
    roster: Option<BTreeMap<SessionId, Arc<IdentityCard>>>,
}

impl People {
    pub(super) fn of(options: ChannelOptions) -> Option<Self> {
        let ChannelOptions { presence_by_user, roster, .. } = options;
        let people = Self { users: presence_by_user.then(BTreeMap::new), roster: roster.then(BTreeMap::new) };
        (presence_by_user || roster).then_some(people)
    }

    pub(super) fn counts_users(&self) -> bool {
        self.users.is_some()
    }

    pub(super) fn keeps_roster(&self) -> bool {
        self.roster.is_some()
    }
}

impl ChannelState {
    /// Counts a user's sessions, and tells the members of the user's first and last session.
    pub(super) fn count_user(&mut self, presence: &Presence, env: &mut impl Env) {
        let Some(users) = self.people.as_mut().and_then(|people| people.users.as_mut()) else { return };
        let user = &*presence.user;
        let count = users.get(user).copied().unwrap_or_default();
        let now = if presence.joins { count + 1 } else { count.saturating_sub(1) };
        match now {
            0 => users.remove(user),
            now => users.insert(user.into(), now),
        };
        let body = match (count, now) {
            _ if presence.quiet => return,
            (0, 1) => Body::UserJoined(&presence.user),
            (1, 0) => Body::UserLeft(&presence.user),
            _ => return,
        };
        let notice = env.user_notice(body, presence);
        self.sequence += 1;
        for worker in self.interest {
            let (sequence, publication) = (self.sequence, notice.clone());
            env.post(worker, ChannelMail::Publication { sequence, publication });
        }
    }

    pub(super) fn users_page(&self, after: Option<Box<str>>, limit: usize) -> ChannelReply {
        let users = self.people.as_ref().and_then(|people| people.users.as_ref());
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        let mut rest = users.into_iter().flat_map(|users| users.range::<Box<str>, _>(range.clone()));
        let page = rest.by_ref().take(limit).map(|(user, count)| (user.clone(), *count)).collect();
        let more = rest.next().is_some();
        ChannelReply::Users(page, users.map_or(0, BTreeMap::len), more)
    }

    /// Changes the roster as a notice says.
    #[cold]
    pub(super) fn note_member(&mut self, notice: &Publication<'_>) {
        let Some(roster) = self.people.as_mut().and_then(|people| people.roster.as_mut()) else { return };
        match notice.body {
            Body::MemberJoined(card) | Body::MemberUpdated(card) => {
                roster.insert(card.id, card.clone());
            }
            Body::MemberLeft(card) => {
                roster.remove(&card.id);
            }
            _ => {}
        }
    }

    /// Sends the roster to a worker by mail. The roster agrees with the notices: it contains the changes of
    /// all notices before it, and none of a notice after it.
    pub(super) fn mail_roster(
        &mut self,
        channel: &Channel,
        limit: usize,
        (asker, ticket): (WorkerId, u64),
        env: &mut impl Env,
    ) {
        let roster = self.people.as_ref().and_then(|people| people.roster.as_ref());
        let mut bytes = 0;
        let members = roster.map(|roster| {
            let fits = |card: &&Arc<IdentityCard>| {
                bytes += card.bytes();
                bytes <= PAGE_BYTES
            };
            roster.values().take(limit).take_while(fits).cloned().collect()
        });
        let total = roster.map_or(0, BTreeMap::len);
        let position = Position { epoch: channel.epoch(), offset: self.offset };
        let receipt = Receipt { sequence: self.sequence, position, offset: None };
        let reply = Some(Box::new(ChannelReply::Roster(members, total)));
        env.post(asker, ChannelMail::Done { receipt, reply, ticket });
    }
}
