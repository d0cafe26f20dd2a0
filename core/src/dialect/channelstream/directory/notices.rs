//! Notices, and the effects that carry entries to members.

use std::sync::Arc;

use super::{
    super::{
        effect::{Effect, Tell, What},
        entry::{Entry, Replay},
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    Directory,
    channel::{History, names},
};
use crate::publication::Audience;

impl Directory {
    /// Tells a channel's members that a user has come or gone. A user that comes is not yet among the
    /// receivers.
    pub(super) fn tell_presence(
        &mut self,
        name: &str,
        user: &str,
        presence: Presence,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(name).filter(|channel| channel.settings.notify_presence) else {
            return;
        };
        let others = self.others.get(name);
        let public = |user: &str| self.shown_state(others, user);
        let list = |user: &str| object! { "user": user, "state": public(user) };
        let users: Json = match channel.settings.user_lists {
            // A user that comes is on the notice's list of users, though not yet in the channel.
            true => {
                let joins = Some(user).filter(|_| presence == Presence::Joined);
                let own = channel.users.keys().map(|user| &**user).chain(joins);
                names(own, others).into_iter().map(list).collect()
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

    /// Tells a channel's members of a change of a user's state.
    pub(super) fn tell_change(
        &mut self,
        channel: &str,
        user: &str,
        message: Members,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let uuid = self.fresh_id();
        let members = object! {
            "uuid": uuid.to_string(),
            "type": "user_state_change",
            "no_history": false,
            "pm_users": Json::Array(Vec::new()),
            "exclude_users": Json::Array(Vec::new()),
            "user": user,
            "timestamp": now.to_string(),
            "catchup": false,
            "channel": channel,
            "message": message,
        };
        self.notify(channel, Entry::notice(uuid, members, &[]), now, effects);
    }

    /// Remembers a notice, and sends it to the channel's members.
    fn notify(&mut self, name: &str, entry: Entry, now: Moment, effects: &mut Vec<Effect>) {
        let entry = Arc::new(entry);
        effects.push(tell(Some(name), &entry, What::Words(entry.frame(Replay::Live))));
        if let Some(channel) = self.channels.get_mut(name) {
            channel.remember(&entry, History::Not, now, &mut self.memory);
        }
    }
}

/// Whether a user has come to a channel with the first connection, or has gone with the last.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Presence {
    Joined,
    Parted,
}

/// The effect that sends an entry to the members of a channel, or to users.
pub(super) fn tell(channel: Option<&str>, entry: &Entry, what: What) -> Effect {
    let named = |users: &Arc<[Box<str>]>| (!users.is_empty()).then(|| users.clone());
    let except_users = channel.and_then(|_| named(&entry.exclude_users));
    let audience = Audience { only_users: named(&entry.pm_users), except_users, ..Audience::default() };
    Effect::Tell(Box::new(Tell { channel: channel.map(Into::into), audience, what }))
}
