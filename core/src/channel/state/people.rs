//! The members of a channel, counted inside its order: the number of sessions of each user, and a roster.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::{ChannelMail, ChannelState, Env, Receipt};
use crate::{
    app::{ChannelOptions, OptionsWord},
    channel::{Channel, ChannelReply, Position, Presence, UserAnnouncement},
    id::{SessionId, WorkerId},
    limits::{PAGE, PAGE_BYTES},
    publication::{Body, IdentityCard, OwnedPublication, Publication, UserCard},
};

/// A user in a channel.
#[derive(Copy, Clone, Default, Debug)]
struct InChannel {
    sessions: u32,
    /// The version of the user's state that the members were told last.
    announced: u64,
}

/// The members of a channel; see the module's description. A part that the options do not ask for is `None`.
#[derive(Debug)]
pub(super) struct People {
    /// The users, with the number of each user's sessions in the channel.
    users: Option<BTreeMap<Box<str>, InChannel>>,
    /// The members after the last notice.
    roster: Option<BTreeMap<SessionId, Arc<IdentityCard>>>,
}

impl People {
    pub(super) fn of(options: ChannelOptions) -> Option<Self> {
        let (counts_users, roster) = (OptionsWord::from(options).counts_users(), options.roster);
        let people = Self { users: counts_users.then(BTreeMap::new), roster: roster.then(BTreeMap::new) };
        (counts_users || roster).then_some(people)
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
    pub(super) fn count_user(&mut self, channel: &Channel, presence: &Presence, env: &mut impl Env) {
        let Some(users) = self.people.as_mut().and_then(|people| people.users.as_mut()) else { return };
        let user = &*presence.user;
        let mut entry = users.get(user).copied().unwrap_or_default();
        let count = entry.sessions;
        let now = if presence.joins { count + 1 } else { count.saturating_sub(1) };
        entry.sessions = now;
        match now {
            0 => users.remove(user),
            _ => users.insert(user.into(), entry),
        };
        let options = channel.options();
        if presence.quiet || !options.shows_users() || !matches!((count, now), (0, 1) | (1, 0)) {
            return;
        }
        let list = |name: &str| (Box::from(name), env.user_state(name));
        let users =
            options.shows_user_lists().then(|| users.keys().take(PAGE).map(|name| list(name)).collect());
        let state = env.user_state(user).filter(|_| presence.joins);
        let card = Arc::new(UserCard { user: presence.user.clone(), state, changed: Vec::new(), users });
        let body = if presence.joins { Body::UserJoined(&card) } else { Body::UserLeft(&card) };
        let notice = env.user_notice(body, presence.except);
        self.tell_of_user(notice, env);
    }

    /// Tells the members the present state of a user of the channel. If several workers ask for the same
    /// change, the first request is served.
    pub(super) fn announce_user(&mut self, change: &UserAnnouncement, env: &mut impl Env) {
        let Some(users) = self.people.as_mut().and_then(|people| people.users.as_mut()) else { return };
        let Some(entry) = users.get_mut(&*change.user) else { return };
        if entry.announced >= change.version {
            return;
        }
        entry.announced = change.version;
        let (user, state) = (change.user.clone(), env.user_state(&change.user));
        let card = Arc::new(UserCard { user, state, changed: change.changed.clone(), users: None });
        let notice = env.user_notice(Body::UserUpdated(&card), None);
        self.tell_of_user(notice, env);
    }

    fn tell_of_user(&mut self, notice: Arc<OwnedPublication>, env: &mut impl Env) {
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
        let page = rest.by_ref().take(limit).map(|(user, entry)| (user.clone(), entry.sessions)).collect();
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
