//! A user of the directory: its state, its connections, and its private messages.

use std::sync::Arc;

use super::{
    super::{
        entry::{Entry, Replay, Ring},
        schema::State,
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    ConnId, Memory,
};
use crate::id::MessageId;

/// The most private messages that a user keeps for clients that do not poll at the moment.
const FRAMES: usize = 50;

#[derive(Debug)]
pub(super) struct User {
    pub(super) uuid: MessageId,
    pub(super) state: Members,
    pub(super) public_keys: Vec<Box<str>>,
    pub(super) connections: Vec<ConnId>,
    pub(super) last_active: Moment,
    pub(super) frames: Ring,
}

impl User {
    pub(super) fn new(uuid: MessageId, now: Moment) -> Self {
        Self {
            uuid,
            state: Members::default(),
            public_keys: Vec::new(),
            connections: Vec::with_capacity(1),
            last_active: now,
            frames: Ring::default(),
        }
    }

    /// The part of the user's state that other users see.
    pub(super) fn public_state(&self) -> Members {
        let mut public = Members::default();
        for (key, value) in self.state.iter().filter(|(key, _)| self.is_public(key)) {
            public.push(key, value.clone());
        }
        public
    }

    fn is_public(&self, key: &str) -> bool {
        self.public_keys.iter().any(|public| **public == *key)
    }

    /// Merges values into the user's state. Returns the values that are new.
    pub(super) fn merge(&mut self, state: State) -> State {
        let is_new = |own: Option<&Json>, value: &Json| !is_same(own.unwrap_or(&Json::Null), value);
        let changed: State =
            state.into_iter().filter(|(key, value)| is_new(self.state.get(key), value)).collect();
        for (key, value) in &changed {
            self.state.set(key, value.clone());
        }
        changed
    }

    /// The public values among changed values.
    pub(super) fn public_part(&self, changed: &State) -> Json {
        changed.iter().filter(|(key, _)| self.is_public(key)).map(|(key, value)| pair(key, value)).collect()
    }

    pub(super) fn remember(&mut self, entry: &Arc<Entry>, now: Moment, memory: &mut Memory) {
        self.last_active = now;
        memory.push(&mut self.frames, FRAMES, now, entry);
    }

    /// The private messages of the user since `since`.
    pub(super) fn catch_up(&self, since: Moment) -> impl Iterator<Item = Arc<str>> {
        self.frames.iter().filter(move |(at, _)| *at > since).map(|(_, entry)| entry.frame(Replay::Catchup))
    }
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
    use super::*;

    #[test]
    fn state_changes_where_values_differ() {
        let mut user = User::new(MessageId::from_random(1), Moment(0));
        let json = |text: &str| Json::parse(text.as_bytes()).expect("it is JSON");
        let mut keys = |text: &str| -> Vec<String> {
            let Json::Object(members) = json(text) else { panic!("it is an object") };
            let state = members.iter().map(|(key, value)| (key.into(), value.clone())).collect();
            user.merge(state).into_iter().map(|(key, _)| key.into()).collect()
        };
        assert_eq!(keys("{\"a\":1,\"b\":null,\"c\":\"x\"}"), ["a", "c"], "null and nothing are the same");
        assert_eq!(keys("{\"a\":1.0,\"c\":\"x\"}"), [] as [&str; 0]);
        assert_eq!(keys("{\"a\":true,\"c\":null}"), ["c"]);
        assert_eq!(keys("{\"a\":\"1\"}"), ["a"]);
        user.public_keys = vec!["c".into()];
        assert_eq!(Json::Object(user.public_state()).compact(), "{\"c\":null}");
    }
}
