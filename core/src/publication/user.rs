//! The state of a user, its changes, and notices about users.

use std::{collections::HashMap, sync::Arc};

/// The state of a user: values by key, in the order in which the keys came. A state never changes; a change
/// makes another state.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct UserState {
    values: Vec<UserValue>,
    public_keys: Vec<Box<str>>,
    version: u64,
}

/// A key, and its value as JSON.
pub type UserValue = (Box<str>, Box<str>);

/// A user with the user's state.
pub type KnownUser = (Box<str>, Option<Arc<UserState>>);

/// A change of a user's state.
#[derive(Clone, Default, Debug)]
pub struct UserChange {
    /// Values by key, as JSON. `null` for an absent key changes nothing.
    pub values: Vec<UserValue>,
    /// Values for a user who has no state yet. `values` win over them.
    pub fresh: Vec<UserValue>,
    /// The new list of the keys that others see; `None` keeps the list.
    pub public_keys: Option<Vec<Box<str>>>,
}

impl UserState {
    /// All values by key, as JSON.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    /// The values that others see.
    pub fn public(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values().filter(|(key, _)| self.is_public(key))
    }

    /// Whether others see the value of a key.
    pub fn is_public(&self, key: &str) -> bool {
        self.public_keys.iter().any(|public| **public == *key)
    }

    /// The keys whose values others see, as the back end gave them.
    pub fn public_keys(&self) -> &[Box<str>] {
        &self.public_keys
    }

    /// The number of changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(|(key, value)| key.len() + value.len()).sum();
        values + self.public_keys.iter().map(|key| key.len()).sum::<usize>()
    }

    /// The state after a change, and the keys whose values differ.
    pub fn changed(&self, is_new: bool, change: &UserChange) -> (Self, Vec<Box<str>>) {
        let mut state = self.clone();
        let fresh = change.fresh.iter().filter(|_| is_new);
        let mut keys: Vec<Box<str>> = Vec::new();
        let mut places: HashMap<Box<str>, usize> =
            self.values.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        let mut is_changed = vec![false; self.values.len()];
        for (key, value) in fresh.chain(&change.values) {
            let at = match places.get(key) {
                Some(&at) if state.values[at].1 == *value => continue,
                Some(&at) => at,
                None if **value == *"null" => continue,
                None => {
                    let at = state.values.len();
                    places.insert(key.clone(), at);
                    state.values.push((key.clone(), value.clone()));
                    is_changed.push(false);
                    at
                }
            };
            state.values[at].1.clone_from(value);
            if !std::mem::replace(&mut is_changed[at], true) {
                keys.push(key.clone());
            }
        }
        if let Some(public_keys) = &change.public_keys {
            state.public_keys.clone_from(public_keys);
        }
        state.version += 1;
        (state, keys)
    }
}

/// A user in a notice.
#[derive(Clone, Debug)]
pub struct UserCard {
    /// The user.
    pub user: Arc<str>,
    /// The user's state, of which encoders show the public part.
    pub state: Option<Arc<UserState>>,
    /// The keys that a change of the state has changed, public or not.
    pub changed: Vec<Box<str>>,
    /// The users of the channel after a join or leave, if the channel's options ask for them.
    pub users: Option<Vec<KnownUser>>,
}

impl UserCard {
    /// Approximate bytes of the card. States are shared, and do not count.
    pub(crate) fn bytes(&self) -> usize {
        let changed: usize = self.changed.iter().map(|key| key.len()).sum();
        let users: usize = self.users.iter().flatten().map(|(user, _)| user.len() + 24).sum();
        size_of::<Self>() + self.user.len() + changed + users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(all: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        all.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect()
    }

    fn change(values: Vec<(Box<str>, Box<str>)>) -> UserChange {
        UserChange { values, ..UserChange::default() }
    }

    #[test]
    fn only_values_that_differ_are_changes() {
        let set = change(values(&[("a", "1"), ("b", "null"), ("c", "\"x\"")]));
        let (state, keys) = UserState::default().changed(true, &set);
        assert_eq!(keys, [Box::from("a"), Box::from("c")]);
        let (state, keys) = state.changed(false, &change(values(&[("a", "1"), ("c", "null")])));
        assert_eq!((keys, state.value("c")), (vec![Box::from("c")], Some("null")));
    }

    #[test]
    fn fresh_values_are_for_new_users_and_others_win_over_them() {
        let both = UserChange { fresh: values(&[("a", "1"), ("b", "1")]), ..change(values(&[("b", "2")])) };
        let (state, keys) = UserState::default().changed(true, &both);
        assert_eq!(state.values().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(keys.len(), 2);
        let (state, keys) = UserState::default().changed(false, &both);
        assert_eq!((state.values().collect::<Vec<_>>(), keys.len()), (vec![("b", "2")], 1));
    }

    #[test]
    fn others_see_public_keys_alone() {
        let keys = Some(vec![Box::from("b"), Box::from("z")]);
        let set = UserChange { public_keys: keys, ..change(values(&[("a", "1"), ("b", "2")])) };
        let (state, _) = UserState::default().changed(true, &set);
        assert_eq!(state.public().collect::<Vec<_>>(), [("b", "2")]);
        let (state, _) = state.changed(false, &UserChange { public_keys: Some(Vec::new()), ..set });
        assert_eq!(state.public().count(), 0);
    }
}
