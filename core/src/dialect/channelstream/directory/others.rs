//! Members of channels whom other dialects serve. The engine reports them, and the directory lists them among
//! the users of its channels.
//!
//! A user of another dialect is not the user of the same name here: a back end of this dialect vouches for
//! its own users alone. Lists show a name once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    super::{
        effect::Effect,
        schema::{Delivery, Settings, State},
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    Directory,
    channel::Channel,
    notices::Presence,
    states::pairs,
};
use crate::{
    id::{MessageId, SessionId},
    publication::IdentityCard,
};

/// The members of a channel whom other dialects serve.
#[derive(Debug)]
pub(super) struct Others {
    /// The channel as back ends see it while only other dialects use it.
    pub(super) channel: Channel,
    /// The name of each member.
    sessions: HashMap<SessionId, Arc<str>>,
    users: BTreeMap<Arc<str>, OtherUser>,
}

#[derive(Debug)]
struct OtherUser {
    sessions: usize,
    /// The profile that a session of the user set last.
    profile: Option<Arc<str>>,
}

impl Others {
    fn new(uuid: MessageId, now: Moment) -> Self {
        let channel = Channel::new(uuid, Settings::default(), now);
        Self { channel, sessions: HashMap::new(), users: BTreeMap::new() }
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The names of the users, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|name| &**name)
    }

    /// The state of a user: the user's profile.
    pub(super) fn state(&self, name: &str) -> Option<Members> {
        self.users.get(name).map(|user| state(user.profile.as_deref()))
    }

    /// The number of members that receive a message.
    pub(super) fn receivers(&self, delivery: &Delivery) -> usize {
        delivery.receivers(self.sessions.len(), |user| self.users.get(user).map_or(0, |user| user.sessions))
    }

    /// Adds a member, or notes its new profile. Returns the member's user if this is the user's first
    /// session.
    fn insert(&mut self, member: &IdentityCard) -> Option<Arc<str>> {
        let name = name(member);
        let is_new = self.sessions.insert(member.id, name.clone()).is_none();
        let user = self.users.entry(name.clone()).or_insert(OtherUser { sessions: 0, profile: None });
        user.sessions += usize::from(is_new);
        user.profile.clone_from(&member.profile);
        (is_new && user.sessions == 1).then_some(name)
    }

    /// Removes a member. Returns the member's user if this was the user's last session.
    fn remove(&mut self, member: SessionId) -> Option<Arc<str>> {
        let name = self.sessions.remove(&member)?;
        let user = self.users.get_mut(&name)?;
        user.sessions -= 1;
        if user.sessions > 0 {
            return None;
        }
        self.users.remove(&name);
        Some(name)
    }
}

/// The name under which a member is listed: its user, or the session of a member without user.
fn name(member: &IdentityCard) -> Arc<str> {
    member.user.clone().unwrap_or_else(|| member.id.to_string().into())
}

/// The state of a user, made from the profile of a member. A profile that is not an object becomes the
/// state's `value`.
fn state(profile: Option<&str>) -> Members {
    match profile.and_then(|profile| Json::parse(profile.as_bytes())) {
        None => Members::default(),
        Some(Json::Object(members)) => members,
        Some(value) => {
            let mut members = Members::default();
            members.push("value", value);
            members
        }
    }
}

impl Directory {
    /// Notes that a member of another dialect is in a channel, or is there no more, and tells the clients of
    /// this dialect as the channel's settings say.
    pub fn observe(
        &mut self,
        channel: &str,
        member: &IdentityCard,
        is_member: bool,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let now = self.tick(now);
        // A member whose user has changed has another name.
        let known = self.others.get(channel).and_then(|others| others.sessions.get(&member.id));
        if known.is_some_and(|known| !is_member || *known != name(member)) {
            self.other_leaves(channel, member.id, now, effects);
        }
        if is_member {
            self.other_joins(channel, member, now, effects);
        }
    }

    fn other_joins(&mut self, channel: &str, member: &IdentityCard, now: Moment, effects: &mut Vec<Effect>) {
        let uuid = self.fresh_id();
        let others = self.others.entry(channel.into()).or_insert_with(|| Others::new(uuid, now));
        others.channel.last_active = now;
        let before = others.state(&name(member));
        match others.insert(member) {
            Some(user) => self.tell_presence(channel, &user, Presence::Joined, now, effects),
            None => self.tell_profile(channel, member, &before.unwrap_or_default(), now, effects),
        }
    }

    fn other_leaves(&mut self, channel: &str, member: SessionId, now: Moment, effects: &mut Vec<Effect>) {
        let Some(others) = self.others.get_mut(channel) else { return };
        others.channel.last_active = now;
        let gone = others.remove(member);
        if others.sessions.is_empty() {
            self.others.remove(channel);
        }
        if let Some(user) = gone {
            self.tell_presence(channel, &user, Presence::Parted, now, effects);
        }
    }

    /// Tells a channel's members of a new profile, as of a user's state.
    fn tell_profile(
        &mut self,
        channel: &str,
        member: &IdentityCard,
        before: &Members,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        if !self.channels.get(channel).is_some_and(|channel| channel.settings.notify_state) {
            return;
        }
        let state = state(member.profile.as_deref());
        let changed = changes(before, &state);
        if !changed.is_empty() {
            let message = object! { "state": state, "changed": pairs(&changed) };
            self.tell_change(channel, &name(member), message, now, effects);
        }
    }
}

/// The values that differ between two states. A value that is gone is `null`.
fn changes(before: &Members, now: &Members) -> State {
    let [old, new] = [before, now].map(|state| state.iter().collect::<BTreeMap<_, _>>());
    let set = now.iter().filter(|(key, value)| old.get(key) != Some(value));
    let gone = before.iter().filter(|(key, _)| !new.contains_key(key)).map(|(key, _)| (key, &Json::Null));
    set.chain(gone).map(|(key, value)| (key.into(), value.clone())).collect()
}
