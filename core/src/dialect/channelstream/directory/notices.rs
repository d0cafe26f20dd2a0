//! Notices of presence and of users' states, and how members are told of an entry.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        entry::{Entry, Replay},
        schema::State,
        timestamp::Moment,
        tree::{Json, object},
    },
    Directory, Effect, Tell, What,
    channel::History,
    user::User,
};
use crate::publication::Audience;

impl Directory {
    /// Tells the members of a channel that a user has come, before the user is among them, or is gone.
    pub(super) fn tell_presence(
        &mut self,
        name: &str,
        user: &str,
        presence: Presence,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let channel = &self.channels[name];
        if !channel.settings.notify_presence {
            return;
        }
        let public = |user: &str| self.users.get(user).map(User::public_state).unwrap_or_default();
        let list = |user: &str| object! { "user": user, "state": public(user) };
        let users: Json = match channel.settings.user_lists {
            // Who joins is on the list, though not yet in the channel.
            true => {
                let mut names: BTreeSet<&str> = channel.users.keys().map(|user| &**user).collect();
                names.extend(Some(user).filter(|_| presence == Presence::Joined));
                names.into_iter().map(list).collect()
            }
            false => Json::Array(Vec::new()),
        };
        let (action, state) = match presence {
            Presence::Joined => ("joined", public(user).into()),
            Presence::Parted => ("parted", Json::Null),
        };
        let uuid = self.fresh_id();
        let members = object! {
            "uuid": uuid.to_string(),
            "type": "presence",
            "no_history": false,
            "pm_users": Json::Array(Vec::new()),
            "exclude_users": [user].into_iter().collect::<Json>(),
            "user": user,
            "users": users,
            "timestamp": now.to_string(),
            "channel": name,
            "message": object! { "action": action },
            "state": state,
            "catchup": false,
        };
        self.notify(name, Entry::notice(uuid, members, &[user.into()]), now, effects);
    }

    /// Tells the members of every channel that a user is in of what is new in the user's state.
    pub(super) fn tell_state(&mut self, name: &str, changed: &State, now: Moment, effects: &mut Vec<Effect>) {
        let user = &self.users[name];
        let message = object! { "state": user.public_state(), "changed": user.public_part(changed) };
        let all = user.connections.iter().filter_map(|conn| self.connections.get(conn));
        let channels: BTreeSet<Box<str>> = all.flat_map(|connection| connection.channels.clone()).collect();
        for channel in channels {
            if !self.channels.get(&channel).is_some_and(|channel| channel.settings.notify_state) {
                continue;
            }
            let uuid = self.fresh_id();
            let members = object! {
                "uuid": uuid.to_string(),
                "type": "user_state_change",
                "no_history": false,
                "pm_users": Json::Array(Vec::new()),
                "exclude_users": Json::Array(Vec::new()),
                "user": name,
                "timestamp": now.to_string(),
                "catchup": false,
                "channel": &*channel,
                "message": message.clone(),
            };
            self.notify(&channel, Entry::notice(uuid, members, &[]), now, effects);
        }
    }

    /// Remembers a notice, and tells it to the members.
    fn notify(&mut self, name: &str, entry: Entry, now: Moment, effects: &mut Vec<Effect>) {
        let entry = Arc::new(entry);
        effects.push(tell(Some(name), &entry, What::Words(entry.frame(Replay::Live))));
        if let Some(channel) = self.channels.get_mut(name) {
            channel.remember(&entry, History::Not, now, &mut self.memory);
        }
    }
}

/// Whether a user's first connection is in a channel, or its last one is not.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Presence {
    Joined,
    Parted,
}

/// The effect that members of a channel, or users, are told of an entry.
pub(super) fn tell(channel: Option<&str>, entry: &Entry, what: What) -> Effect {
    let named = |users: &Arc<[Box<str>]>| (!users.is_empty()).then(|| users.clone());
    let except_users = channel.and_then(|_| named(&entry.exclude_users));
    let audience = Audience { only_users: named(&entry.pm_users), except_users, ..Audience::default() };
    Effect::Tell(Box::new(Tell { channel: channel.map(Into::into), audience, what }))
}
