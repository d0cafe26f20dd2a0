//! Whom a publication is for.

use std::{collections::BTreeSet, sync::Arc};

use crate::id::SessionId;

/// Which members a publication is for. The default is everyone.
#[derive(Clone, Default, Debug)]
pub struct Audience {
    /// Not this session: a sender without echo.
    pub except_session: Option<SessionId>,
    /// This session alone.
    pub only_session: Option<SessionId>,
    /// Only sessions of these users.
    pub only_users: Option<Arc<[Box<str>]>>,
    /// No session of these users.
    pub except_users: Option<Arc<[Box<str>]>>,
    /// The rule for sessions without user.
    pub without_user: WithoutUser,
}

/// Whether sessions without user are in the audience.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub enum WithoutUser {
    /// A session without user is in the audience unless users are named.
    #[default]
    AsOthers,
    /// A session without user is in the audience beside the named users.
    Included,
    /// Only sessions with a user are in the audience.
    Excluded,
}

impl Audience {
    /// Everyone but `session`.
    pub fn except(session: SessionId) -> Self {
        Self { except_session: Some(session), ..Self::default() }
    }

    /// The audience of all sessions with a user.
    pub fn signed_in() -> Self {
        Self { without_user: WithoutUser::Excluded, ..Self::default() }
    }

    /// Whether nobody is left out.
    pub fn is_everyone(&self) -> bool {
        self.except_session.is_none() && !self.is_filtered()
    }

    /// Whether `user` may read it later: sessions come and go, but users stay.
    pub fn admits_user(&self, user: Option<&str>) -> bool {
        self.only_session.is_none() && self.admits_one_of(user)
    }

    fn admits_one_of(&self, user: Option<&str>) -> bool {
        let Some(user) = user else { return self.admits_without_user() };
        let names = |list: &[Box<str>]| list.iter().any(|name| **name == *user);
        self.only_users.as_deref().is_none_or(names) && !self.except_users.as_deref().is_some_and(names)
    }

    fn admits_without_user(&self) -> bool {
        match self.without_user {
            WithoutUser::AsOthers => self.only_users.is_none(),
            WithoutUser::Included => true,
            WithoutUser::Excluded => false,
        }
    }

    /// Whether every member must be asked, one by one.
    pub fn is_filtered(&self) -> bool {
        let named = self.only_session.is_some() || self.only_users.is_some() || self.except_users.is_some();
        named || self.without_user != WithoutUser::AsOthers
    }

    /// Whether `session`, of `user`, is meant.
    pub fn admits(&self, session: SessionId, user: Option<&str>) -> bool {
        self.except_session != Some(session)
            && self.only_session.is_none_or(|only| only == session)
            && self.admits_one_of(user)
    }

    /// What its lists cost, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let list = |list: &Option<Arc<[Box<str>]>>| {
            list.iter()
                .flat_map(|list| list.iter())
                .map(|name| size_of::<Box<str>>() + name.len())
                .sum::<usize>()
        };
        list(&self.only_users) + list(&self.except_users)
    }

    /// Who is in this audience and not in `other`, by user, as messages are remembered; `None`: nobody.
    pub(super) fn without(&self, other: &Audience) -> Option<Self> {
        let (these, those) = (self.users(), other.users());
        let named = match (these.named, those.named) {
            (Named::Only(these), Named::Only(those)) => Named::Only(&these - &those),
            (Named::Only(these), Named::AllBut(those)) => Named::Only(&these & &those),
            (Named::AllBut(these), Named::Only(those)) => Named::AllBut(&these | &those),
            (Named::AllBut(these), Named::AllBut(those)) => Named::Only(&those - &these),
        };
        let rest = Users { named, unnamed: these.unnamed && !those.unnamed };
        let nobody = !rest.unnamed && matches!(&rest.named, Named::Only(users) if users.is_empty());
        (!nobody).then(|| rest.into())
    }

    /// Whom [`Audience::admits_user`] admits.
    fn users(&self) -> Users<'_> {
        let except = names(&self.except_users);
        let named = match &self.only_users {
            _ if self.only_session.is_some() => Named::Only(BTreeSet::new()),
            Some(_) => Named::Only(&names(&self.only_users) - &except),
            None => Named::AllBut(except),
        };
        Users { named, unnamed: self.admits_user(None) }
    }
}

fn names(list: &Option<Arc<[Box<str>]>>) -> BTreeSet<&str> {
    list.iter().flat_map(|list| list.iter()).map(|name| &**name).collect()
}

/// Users by name, and perhaps sessions without user.
struct Users<'a> {
    named: Named<'a>,
    /// Whether sessions without user are included.
    unnamed: bool,
}

enum Named<'a> {
    Only(BTreeSet<&'a str>),
    AllBut(BTreeSet<&'a str>),
}

impl From<Users<'_>> for Audience {
    fn from(Users { named, unnamed }: Users<'_>) -> Self {
        let list = |names: BTreeSet<&str>| names.into_iter().map(Box::from).collect::<Arc<[Box<str>]>>();
        let without_user = match (&named, unnamed) {
            (Named::Only(_), true) => WithoutUser::Included,
            (Named::AllBut(_), false) => WithoutUser::Excluded,
            _ => WithoutUser::AsOthers,
        };
        let everyone = Self { without_user, ..Self::default() };
        match named {
            Named::Only(names) => Self { only_users: Some(list(names)), ..everyone },
            Named::AllBut(names) if names.is_empty() => everyone,
            Named::AllBut(names) => Self { except_users: Some(list(names)), ..everyone },
        }
    }
}

/// The audience of most publications.
pub(crate) static EVERYONE: Audience = Audience {
    except_session: None,
    only_session: None,
    only_users: None,
    except_users: None,
    without_user: WithoutUser::AsOthers,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::WorkerId;

    fn session(slot: u32) -> SessionId {
        SessionId::new(WorkerId(0), crate::id::SessionSlot(slot), [0; 9])
    }

    #[test]
    fn audience_admits_whom_it_names() {
        let users = |names: &[&str]| Some(names.iter().map(|&n| n.into()).collect::<Arc<[Box<str>]>>());
        assert!(Audience::default().admits(session(1), None));
        assert!(!Audience::except(session(1)).admits(session(1), None));
        assert!(Audience::except(session(1)).admits(session(2), None));
        let only = Audience { only_users: users(&["luke", "leia"]), ..Audience::default() };
        assert!(only.admits(session(1), Some("leia")));
        assert!(!only.admits(session(1), Some("vader")) && !only.admits(session(1), None));
        let except = Audience { except_users: users(&["vader"]), ..only };
        assert!(except.admits(session(1), Some("luke")));
        let both = Audience { except_users: users(&["luke"]), ..except };
        assert!(!both.admits(session(1), Some("luke")));
        let one = Audience { only_session: Some(session(3)), ..Audience::default() };
        assert!(one.admits(session(3), None) && !one.admits(session(4), None));
        let signed_in = Audience::signed_in();
        assert!(signed_in.admits(session(1), Some("leia")) && !signed_in.admits(session(1), None));
        assert!(signed_in.is_filtered() && !signed_in.is_everyone());
    }

    fn any_audience() -> impl Strategy<Value = Audience> {
        let users = || prop::option::of(prop::sample::subsequence(vec!["a", "b", "c"], 0..=3));
        let list = |names: Vec<&str>| names.into_iter().map(Box::from).collect::<Arc<[Box<str>]>>();
        let without_user =
            prop::sample::select(vec![WithoutUser::AsOthers, WithoutUser::Included, WithoutUser::Excluded]);
        (users(), users(), any::<bool>(), without_user).prop_map(move |(only, except, one, without_user)| {
            Audience {
                except_session: Some(session(1)),
                only_session: one.then(|| session(2)).filter(|_| only.is_none()),
                only_users: only.map(list),
                except_users: except.map(list),
                without_user,
            }
        })
    }

    proptest! {
        #[test]
        fn an_audience_without_another_admits_whom_only_the_first_admits(one in any_audience(), other in any_audience()) {
            let without = one.without(&other);
            let mut anybody = false;
            for user in [None, Some("a"), Some("b"), Some("c"), Some("d")] {
                let (in_one, in_other) = (one.admits_user(user), other.admits_user(user));
                let rest = without.as_ref().is_some_and(|rest| rest.admits_user(user));
                prop_assert_eq!(rest, in_one && !in_other, "{:?}", user);
                anybody |= rest;
            }
            prop_assert_eq!(without.is_some(), anybody);
        }
    }
}
