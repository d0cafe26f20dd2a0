//! The states of users, which all dialects share. The directory changes them for its back ends, and tells
//! clients of changes.

use super::{
    super::{
        effect::Effect,
        schema::State,
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    Directory, Full,
    others::Others,
};
use crate::{
    error::ReplyError,
    publication::{UserChange, UserState},
};

/// A user's state after a change.
pub(super) struct Changed {
    pub(super) state: Members,
    pub(super) public_keys: Vec<Box<str>>,
    /// The values that the change has changed.
    pub(super) values: State,
}

impl Directory {
    /// The part of a user's state that other users see.
    pub(super) fn public_state(&self, user: &str) -> Members {
        self.states.state(user).map(|state| members(state.public())).unwrap_or_default()
    }

    /// The whole state of a user of this dialect, or the state that others see of another user.
    pub(super) fn state_for_back_ends(&self, others: Option<&Others>, user: &str) -> Members {
        match self.states.state(user) {
            Some(state) => members(state.values()),
            None => self.shown_state(others, user),
        }
    }

    /// The state of a user that others see. The profile of a member of another dialect counts if the user has
    /// no state and no connection here.
    pub(super) fn shown_state(&self, others: Option<&Others>, user: &str) -> Members {
        match self.states.state(user) {
            Some(state) => members(state.public()),
            None if self.users.contains_key(user) => Members::default(),
            None => others.and_then(|others| others.state(user)).unwrap_or_default(),
        }
    }

    /// Changes a user's state. `fresh` is for a user who has no state yet. A value that the original takes
    /// for the present value changes nothing.
    pub(super) fn change_state(
        &mut self,
        user: &str,
        (fresh, state): (State, State),
        public_keys: Option<Vec<Box<str>>>,
        effects: &mut Vec<Effect>,
    ) -> Result<Changed, Full> {
        let before = self.states.state(user);
        let fresh = if before.is_none() { fresh } else { State::new() };
        let known = |key: &str| match &before {
            Some(before) => before.value(key).and_then(|value| Json::parse(value.as_bytes())),
            None => fresh.iter().find(|(own, _)| **own == *key).map(|(_, value)| value.clone()),
        };
        let is_new =
            |(key, value): &(Box<str>, Json)| !known(key).is_some_and(|known| is_same(&known, value));
        let texts = |state: State| state.into_iter().map(|(key, value)| (key, value.compact().into()));
        let values: Vec<_> = texts(state.into_iter().filter(is_new).collect()).collect();
        let has_keys = public_keys.as_ref().is_some_and(|keys| !keys.is_empty());
        if before.is_none() && fresh.is_empty() && values.is_empty() && !has_keys {
            return Ok(Changed { state: Members::default(), public_keys: Vec::new(), values: State::new() });
        }
        let change = UserChange { values, fresh: texts(fresh).collect(), public_keys };
        let changed = self.states.change(user, &change);
        let (state, keys) = changed.map_err(|error| {
            self.counters.refused += 1;
            if error == ReplyError::ProfileTooLarge { Full::State } else { Full::Users }
        })?;
        let values = values_of(&state, &keys);
        if !keys.is_empty() {
            let version = state.version();
            effects.push(Effect::Announce { user: user.into(), version, changed: keys });
        }
        Ok(Changed { state: members(state.values()), public_keys: state.public_keys().into(), values })
    }

    /// Tells clients that a user's state was changed outside the directory.
    pub fn observe_state(
        &mut self,
        user: &str,
        changed: &[Box<str>],
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.states.state(user).filter(|_| self.users.contains_key(user)) else { return };
        let now = self.tick(now);
        self.tell_state(user, &values_of(&state, changed), now, effects);
        self.set_profiles(user, &members(state.public()), effects);
    }

    /// Tells the members of a user's channels that values of the user's state have changed.
    pub(super) fn tell_state(&mut self, name: &str, changed: &State, now: Moment, effects: &mut Vec<Effect>) {
        if changed.is_empty() {
            return;
        }
        let state = self.states.state(name).unwrap_or_default();
        let public = changed.iter().filter(|(key, _)| state.is_public(key));
        let changed: Json = public.map(|(key, value)| pair(key, value)).collect();
        for channel in self.channels_of(name) {
            if !self.channels.get(&channel).is_some_and(|channel| channel.settings.notify_state) {
                continue;
            }
            let message = object! { "state": members(state.public()), "changed": changed.clone() };
            self.tell_change(&channel, name, message, now, effects);
        }
    }

    /// Sets the profiles of a user's sessions to the user's public state, unless the public state is still
    /// `before`.
    pub(super) fn show_profile(&mut self, name: &str, before: &Members, effects: &mut Vec<Effect>) {
        let public = self.public_state(name);
        if public != *before {
            self.set_profiles(name, &public, effects);
        }
    }

    fn set_profiles(&self, name: &str, public: &Members, effects: &mut Vec<Effect>) {
        let Some(user) = self.users.get(name) else { return };
        let profile: Box<str> = public.compact().into();
        let sessions = user.connections.iter().filter_map(|conn| self.connections.get(conn)?.session);
        effects.extend(sessions.map(|session| Effect::Profile { session, profile: profile.clone() }));
    }
}

fn members<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> Members {
    let mut members = Members::default();
    for (key, value) in values {
        members.push(key, Json::parse(value.as_bytes()).unwrap_or(Json::Null));
    }
    members
}

/// The values of some keys.
fn values_of(state: &UserState, keys: &[Box<str>]) -> State {
    let value = |key: &str| state.value(key).and_then(|value| Json::parse(value.as_bytes()));
    keys.iter().map(|key| (key.clone(), value(key).unwrap_or(Json::Null))).collect()
}

/// Changed values in the form of an answer.
pub(super) fn pairs(changed: &State) -> Json {
    changed.iter().map(|(key, value)| pair(key, value)).collect()
}

fn pair(key: &str, value: &Json) -> Members {
    object! { "key": key, "value": value.clone() }
}

/// Whether two values of a state are equal in the original, which compares numbers and booleans by value.
fn is_same(one: &Json, other: &Json) -> bool {
    let number = |json: &Json| match json {
        Json::Bool(value) => Some(f64::from(u8::from(*value))),
        Json::Number(number) => number.parse::<f64>().ok(),
        _ => None,
    };
    match (one, other) {
        (Json::Number(one), Json::Number(other)) if one == other => true,
        _ => one == other || number(one).is_some_and(|value| number(other) == Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::DirectoryLimits, *};

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).expect("it is JSON")
    }

    fn state(text: &str) -> State {
        let Json::Object(members) = json(text) else { panic!("it is an object") };
        members.iter().map(|(key, value)| (key.into(), value.clone())).collect()
    }

    #[test]
    fn state_changes_where_values_differ() {
        let mut directory = Directory::new(DirectoryLimits::default(), 1, Moment(0), Default::default());
        let mut keys = |text: &str| -> Vec<String> {
            let changed = directory.change_state("ada", (State::new(), state(text)), None, &mut Vec::new());
            changed.expect("there is room").values.into_iter().map(|(key, _)| key.into()).collect()
        };
        assert_eq!(keys("{\"a\":1,\"b\":null,\"c\":\"x\"}"), ["a", "c"], "null and nothing are the same");
        assert_eq!(keys("{\"a\":1.0,\"c\":\"x\"}"), [] as [&str; 0]);
        assert_eq!(keys("{\"a\":true,\"c\":null}"), ["c"]);
        assert_eq!(keys("{\"a\":\"1\"}"), ["a"]);
        let public_keys = Some(vec!["c".into()]);
        let changed =
            directory.change_state("ada", (State::new(), State::new()), public_keys, &mut Vec::new());
        assert!(changed.expect("there is room").values.is_empty());
        assert_eq!(Json::Object(directory.public_state("ada")).compact(), "{\"c\":null}");
    }

    #[test]
    fn fresh_values_are_for_a_user_without_state() {
        let mut directory = Directory::new(DirectoryLimits::default(), 1, Moment(0), Default::default());
        let mut change = |fresh, own| {
            let changed = directory.change_state("ada", (state(fresh), state(own)), None, &mut Vec::new());
            Json::Object(changed.expect("there is room").state).compact()
        };
        assert_eq!(change("{\"a\":1,\"b\":1}", "{\"b\":true,\"c\":2}"), "{\"a\":1,\"b\":1,\"c\":2}");
        assert_eq!(change("{\"a\":2,\"d\":1}", "{}"), "{\"a\":1,\"b\":1,\"c\":2}");
    }
}
