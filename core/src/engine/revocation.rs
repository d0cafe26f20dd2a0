//! Revocation: the session tokens of a user that were issued up to some time are refused from now on, on
//! every worker and in every dialect.
//!
//! ```text
//!   revoke ─▶ the node's list ─▶ the user's sessions end, on all workers
//!                 └─ looked at after each signature that holds
//! ```
//!
//! The list is written before the workers are told to end sessions. A worker verifies a token and opens its
//! session in one turn, so a session that escaped the list is there when the worker is told.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Engine, Node, waiting::Progress};
use crate::{
    app::App,
    command::Disconnection,
    error::ReplyError,
    id::AppId,
    limits::{REVOCATIONS, SIGNATURE_WORK},
    token::{Claims, TokenError, Verified},
};

/// The revoked users of an app.
#[derive(Default)]
pub(super) struct Revocations {
    users: papaya::HashMap<Box<str>, Revocation>,
    /// The entries of `users`: while there are none, a token costs a load.
    count: AtomicUsize,
}

/// Which tokens of a user are revoked, and for how long that is known, in Unix seconds.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Revocation {
    /// Tokens that were issued in this second or before are revoked, as are those that do not say when.
    pub(super) issued_until: u64,
    /// When the entry is removed: no revoked token should be valid for longer.
    pub(super) kept_until: u64,
}

impl Revocations {
    /// Adds an entry. An earlier entry of the user stays in force where it says more.
    fn insert(&self, user: &str, new: Revocation, now_s: u64) -> Result<(), ReplyError> {
        let users = self.users.pin();
        if users.len() >= REVOCATIONS && !users.contains_key(user) {
            users.retain(|_, entry| entry.kept_until > now_s);
            if users.len() >= REVOCATIONS {
                return Err(ReplyError::Overloaded);
            }
        }
        let merged = |old: &Revocation| Revocation {
            issued_until: old.issued_until.max(new.issued_until),
            kept_until: old.kept_until.max(new.kept_until),
        };
        users.update_or_insert(user.into(), merged, new);
        // Release: pairs with the load in `revokes`.
        self.count.store(users.len(), Ordering::Release);
        Ok(())
    }

    fn revokes(&self, user: &str, issued_at: Option<u64>, now_s: u64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let users = self.users.pin();
        let Some(entry) = users.get(user) else { return false };
        if entry.kept_until <= now_s {
            users.remove(user);
            self.count.store(users.len(), Ordering::Release);
            return false;
        }
        issued_at.is_none_or(|issued_at| issued_at <= entry.issued_until)
    }
}

impl Node {
    /// Whether a token of this user is revoked.
    pub(super) fn is_revoked(&self, app: AppId, user: &str, issued_at: Option<u64>, now_s: u64) -> bool {
        self.tenant(app).revocations.revokes(user, issued_at, now_s)
    }

    /// The users of an app whose tokens are revoked.
    pub fn revoked_users(&self, app: AppId) -> usize {
        // Relaxed: for metrics.
        self.tenant(app).revocations.count.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// The claims of a session token that is valid now. What the check costs is charged to the turn.
    ///
    /// # Errors
    /// As [`App::verify_session`].
    pub fn verify_session(&mut self, app: &App, token: &str) -> Result<Claims, TokenError> {
        let mut checks = 0;
        let now_s = self.now_ms / 1000;
        let verified = app.verify_session(token, now_s, &mut checks);
        self.work += checks as usize * SIGNATURE_WORK;
        self.forged_tokens += u32::from(verified.as_ref().is_err_and(TokenError::is_forged));
        let Verified { claims, issued_at } = verified?;
        match self.node.is_revoked(app.id, &claims.user, issued_at, now_s) {
            true => Err(TokenError::Revoked),
            false => Ok(claims),
        }
    }

    /// The session tokens since the last call that were not made with a key of their app.
    pub fn take_forged_tokens(&mut self) -> u32 {
        std::mem::take(&mut self.forged_tokens)
    }

    /// Revokes the tokens of a user, and ends the user's sessions, parked ones too.
    pub(super) fn revoke(
        &mut self,
        app: AppId,
        user: &str,
        revocation: Revocation,
    ) -> Result<Progress, ReplyError> {
        let now_s = self.now_ms / 1000;
        self.node.tenant(app).revocations.insert(user, revocation, now_s)?;
        self.disconnect(app, Disconnection::User(user.into()), false)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn until(issued_until: u64, kept_until: u64) -> Revocation {
        Revocation { issued_until, kept_until }
    }

    #[test]
    fn tokens_up_to_a_second_are_revoked_until_the_entry_ends() {
        let revocations = Revocations::default();
        assert!(!revocations.revokes("ada", None, 100));
        revocations.insert("ada", until(100, 200), 100).expect("there is room");
        assert!(revocations.revokes("ada", Some(100), 100) && revocations.revokes("ada", Some(7), 199));
        assert!(revocations.revokes("ada", None, 100), "a token that does not say when");
        assert!(!revocations.revokes("ada", Some(101), 150) && !revocations.revokes("bob", Some(1), 150));
        assert!(!revocations.revokes("ada", Some(100), 200), "the entry has ended");
        assert_eq!(revocations.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_entry_does_not_take_back_an_earlier_one() {
        let revocations = Revocations::default();
        revocations.insert("ada", until(100, 200), 100).expect("there is room");
        revocations.insert("ada", until(50, 150), 100).expect("there is room");
        assert!(revocations.revokes("ada", Some(100), 199));
    }

    #[test]
    fn the_list_is_bounded_and_makes_room_by_entries_that_have_ended() {
        let revocations = Revocations::default();
        for n in 0..REVOCATIONS {
            revocations
                .insert(&n.to_string(), until(1, if n == 0 { 100 } else { 200 }), 1)
                .expect("there is room");
        }
        assert_eq!(revocations.insert("ada", until(1, 200), 99), Err(ReplyError::Overloaded));
        revocations.insert("7", until(2, 200), 99).expect("the user has an entry");
        revocations.insert("ada", until(1, 200), 100).expect("one entry has ended");
        assert_eq!(revocations.insert("bob", until(1, 200), 100), Err(ReplyError::Overloaded));
    }
}
