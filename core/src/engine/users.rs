//! The index of users: which sessions of this worker belong to a user of an app.
//!
//! Most users have one session, which needs no allocation; of many, each is found in logarithmic time.

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::{Equivalent, HashMap};

use super::{Engine, RandomState};
use crate::{
    channel::TOMBSTONE,
    id::{AppId, LocalId, SessionId, SessionSlot},
    publication::{Audience, WithoutUser},
};

/// See the module.
#[derive(Default)]
pub(super) struct UserIndex(HashMap<User, UserSessions, RandomState>);

#[derive(Eq, PartialEq, Hash)]
struct User {
    app: AppId,
    name: Arc<str>,
}

/// Looks a user up without owning its name.
#[derive(Hash)]
struct UserRef<'a> {
    app: AppId,
    name: &'a str,
}

impl Equivalent<User> for UserRef<'_> {
    fn equivalent(&self, user: &User) -> bool {
        self.app == user.app && *self.name == *user.name
    }
}

enum UserSessions {
    One(SessionSlot),
    /// At least one.
    Many(BTreeSet<SessionSlot>),
}

impl UserIndex {
    /// The bytes of the index, without the names and without sets of sessions.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * 8 / 7 * (size_of::<(User, UserSessions)>() + 1)
    }

    /// Adds a session.
    pub(super) fn insert(&mut self, app: AppId, name: Arc<str>, slot: SessionSlot) {
        let sessions = self.0.entry(User { app, name }).or_insert(UserSessions::One(slot));
        match sessions {
            UserSessions::One(one) if *one == slot => {}
            UserSessions::One(one) => *sessions = UserSessions::Many([*one, slot].into()),
            UserSessions::Many(slots) => {
                slots.insert(slot);
            }
        }
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, app: AppId, name: &str, slot: SessionSlot) {
        let user = UserRef { app, name };
        let is_last = match self.0.get_mut(&user) {
            None => false,
            Some(UserSessions::One(one)) => *one == slot,
            Some(UserSessions::Many(slots)) => slots.remove(&slot) && slots.is_empty(),
        };
        if is_last {
            self.0.remove(&user);
        }
    }

    /// The sessions of a user from the slot `from` on, in order.
    pub(super) fn sessions(
        &self,
        app: AppId,
        name: &str,
        from: SessionSlot,
    ) -> impl Iterator<Item = SessionSlot> {
        let (one, many) = match self.0.get(&UserRef { app, name }) {
            None => (None, None),
            Some(UserSessions::One(one)) => (Some(*one), None),
            Some(UserSessions::Many(slots)) => (None, Some(slots)),
        };
        let many = many.into_iter().flat_map(move |slots| slots.range(from..).copied());
        one.into_iter().filter(move |one| *one >= from).chain(many)
    }
}

/// Sessions of this worker that an audience names, in order.
pub(super) enum Addressed {
    /// It is for these alone.
    Only(Vec<SessionSlot>),
    /// It is not for these.
    AllBut(Vec<SessionSlot>),
}

/// Names looked up, or sessions found, in about a microsecond.
const RESOLVED: usize = 8;

impl Engine {
    /// The sessions that an audience names. What that costs is charged to the turn.
    pub(super) fn resolve(&mut self, app: AppId, audience: &Audience) -> Addressed {
        let Audience { except_session, only_session, only_users, except_users, without_user: _ } = audience;
        let of_users = |users: &Option<Arc<[Box<str>]>>| {
            let users = users.iter().flat_map(|users| users.iter());
            let mut slots: Vec<SessionSlot> =
                users.flat_map(|user| self.users.sessions(app, user, SessionSlot(0))).collect();
            slots.sort_unstable();
            slots.dedup();
            slots
        };
        let of_session = |session: SessionId| {
            let here = Some(session).filter(|session| session.worker() == self.worker);
            here.and_then(|session| self.sessions.find(session))
        };
        let mut left_out = of_users(except_users);
        if let Some(slot) = except_session.and_then(of_session)
            && let Err(at) = left_out.binary_search(&slot)
        {
            left_out.insert(at, slot);
        }
        let mut only = match only_session {
            Some(session) => of_session(*session).into_iter().collect(),
            None => of_users(only_users),
        };
        if only_session.is_some() && only_users.is_some() {
            let named = of_users(only_users);
            only.retain(|slot| named.binary_search(slot).is_ok());
        }
        let names = [only_users, except_users].map(|users| users.as_ref().map_or(0, |users| users.len()));
        self.work += (names.iter().sum::<usize>() + only.len() + left_out.len()) / RESOLVED;
        if only_session.is_none() && only_users.is_none() {
            return Addressed::AllBut(left_out);
        }
        only.retain(|slot| left_out.binary_search(slot).is_err());
        Addressed::Only(only)
    }

    /// Restricts the addressed sessions by whether they have a user, as the audience says.
    pub(super) fn by_user(&mut self, part: LocalId, addressed: Addressed, audience: &Audience) -> Addressed {
        let without = audience.without_user;
        if without == WithoutUser::AsOthers {
            return addressed;
        }
        let members = self.channels[part].subscribers.slots();
        self.work += members.len() / RESOLVED;
        let has_user = |slot: SessionSlot| self.sessions.get(slot).user.is_some();
        let there = members.iter().copied().filter(|slot| *slot != TOMBSTONE);
        let mut slots: Vec<SessionSlot> = match (addressed, without) {
            (Addressed::Only(mut only), WithoutUser::Excluded) => {
                only.retain(|slot| has_user(*slot));
                only
            }
            (Addressed::Only(mut only), _) => {
                let is_excepted = |slot| audience.except_session == Some(self.sessions.get(slot).id(slot));
                only.extend(there.filter(|slot| !has_user(*slot) && !is_excepted(*slot)));
                only
            }
            (Addressed::AllBut(left_out), WithoutUser::Excluded) => {
                there.filter(|slot| has_user(*slot) && left_out.binary_search(slot).is_err()).collect()
            }
            (left_out @ Addressed::AllBut(_), _) => return left_out,
        };
        slots.sort_unstable();
        slots.dedup();
        Addressed::Only(slots)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_a_user_come_in_order_and_go() {
        let (mut users, app) = (UserIndex::default(), AppId(0));
        let of = |users: &UserIndex, from: u32| -> Vec<u32> {
            users.sessions(app, "leia", SessionSlot(from)).map(|slot| slot.0).collect()
        };
        for slot in [7, 3, 9] {
            users.insert(app, "leia".into(), SessionSlot(slot));
            users.insert(AppId(1), "leia".into(), SessionSlot(slot + 100));
        }
        assert_eq!((of(&users, 0), of(&users, 4)), (vec![3, 7, 9], vec![7, 9]));
        users.remove(app, "luke", SessionSlot(3));
        for slot in [3, 9, 7] {
            users.remove(app, "leia", SessionSlot(slot));
        }
        assert_eq!(of(&users, 0), [] as [u32; 0]);
        assert_eq!(users.0.len(), 1, "nothing is kept of a user without sessions");
    }
}
