//! Revocation: the session tokens of a user that were issued up to some time, or the tokens with some id, are
//! refused from now on, on every worker and in every dialect.
//!
//! ```text
//!   revoke ─▶ the node's list ─▶ the sessions of these tokens end, on all workers
//!                 └─ looked at after each signature that holds
//! ```
//!
//! The list is written before the workers are told to end sessions. A worker verifies a token and opens its
//! session in one turn, so a session that escaped the list is there when the worker is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Engine, Node, waiting::Progress};
use crate::{
    app::App,
    command::{Disconnection, TokensOf},
    disconnect::Disconnect,
    error::ReplyError,
    id::{AppId, SessionSlot},
    limits::{REVOCATIONS, SIGNATURE_WORK},
    token::{Claims, TokenError, Verified},
};

/// The users of an app whose tokens are revoked, or the ids of revoked tokens.
#[derive(Default)]
pub(super) struct Revocations {
    names: papaya::HashMap<Box<str>, Revocation>,
    /// The entries of `names`: while there are none, a token costs a load.
    count: AtomicUsize,
}

/// Which tokens of a user or of an id are revoked, and for how long that is known, in Unix seconds.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Revocation {
    /// Tokens that were issued in this second or before are revoked, as are those that do not say when.
    issued_until: u64,
    /// When the entry is removed: no revoked token should be valid for longer.
    kept_until: u64,
}

impl Revocations {
    /// Adds an entry. An earlier entry of the name stays in force where it says more.
    fn insert(&self, name: &str, new: Revocation, now_s: u64) -> Result<(), ReplyError> {
        let names = self.names.pin();
        if names.len() >= REVOCATIONS && !names.contains_key(name) {
            names.retain(|_, entry| entry.kept_until > now_s);
            if names.len() >= REVOCATIONS {
                return Err(ReplyError::Overloaded);
            }
        }
        let merged = |old: &Revocation| Revocation {
            issued_until: old.issued_until.max(new.issued_until),
            kept_until: old.kept_until.max(new.kept_until),
        };
        names.update_or_insert(name.into(), merged, new);
        // Release: pairs with the load in `revokes`.
        self.count.store(names.len(), Ordering::Release);
        Ok(())
    }

    fn revokes(&self, name: &str, issued_at: Option<u64>, now_s: u64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let names = self.names.pin();
        let Some(entry) = names.get(name) else { return false };
        if entry.kept_until <= now_s {
            names.remove(name);
            self.count.store(names.len(), Ordering::Release);
            return false;
        }
        issued_at.is_none_or(|issued_at| issued_at <= entry.issued_until)
    }

    /// The number of entries, for metrics.
    fn count(&self) -> usize {
        // Relaxed: the number orders no other memory access.
        self.count.load(Ordering::Relaxed)
    }
}

impl Node {
    /// Whether a token with these claims is revoked.
    fn is_revoked(&self, app: AppId, claims: &Claims, issued_at: Option<u64>, now_s: u64) -> bool {
        let tenant = self.tenant(app);
        tenant.revoked_users.revokes(&claims.user, issued_at, now_s)
            || claims.id.as_ref().is_some_and(|id| tenant.revoked_tokens.revokes(id, None, now_s))
    }

    /// The users of an app whose tokens are revoked.
    pub fn revoked_users(&self, app: AppId) -> usize {
        self.tenant(app).revoked_users.count()
    }

    /// The ids of an app's revoked tokens.
    pub fn revoked_tokens(&self, app: AppId) -> usize {
        self.tenant(app).revoked_tokens.count()
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
        match self.node.is_revoked(app.id, &claims, issued_at, now_s) {
            true => Err(TokenError::Revoked),
            false => Ok(claims),
        }
    }

    /// The session tokens since the last call that were not made with a key of their app.
    pub fn take_forged_tokens(&mut self) -> u32 {
        std::mem::take(&mut self.forged_tokens)
    }

    /// Revokes tokens for some seconds, and ends the sessions of these tokens, parked ones too.
    pub(super) fn revoke(
        &mut self,
        app: AppId,
        tokens: TokensOf<'_>,
        for_s: u64,
    ) -> Result<Progress, ReplyError> {
        let now_s = self.now_ms / 1000;
        let until = |issued_until| Revocation { issued_until, kept_until: now_s.saturating_add(for_s) };
        let tenant = self.node.tenant(app);
        let whom = match tokens {
            TokensOf::User { name, issued_until } => {
                tenant.revoked_users.insert(name, until(issued_until.unwrap_or(now_s)), now_s)?;
                Disconnection::User(name.into())
            }
            TokensOf::Id(_) if self.apps.of(app).sessions.id_claim().is_none() => {
                return Err(ReplyError::InvalidCommand("The app has no session_id_claim."));
            }
            TokensOf::Id(id) => {
                tenant.revoked_tokens.insert(id, until(now_s), now_s)?;
                Disconnection::Token(id.into())
            }
        };
        self.disconnect(app, whom, Disconnect::ByServer { reconnect: false })
    }

    /// Notes the id of a session's token, in the place of the id before.
    pub(super) fn set_token_id(&mut self, slot: SessionSlot, id: Option<Arc<str>>) {
        let session = self.sessions.get_mut(slot);
        let app = session.app;
        if let Some(before) = session.set_token_id(id.clone()) {
            self.token_ids.remove(app, &before, slot);
        }
        if let Some(id) = id {
            self.token_ids.insert(app, id, slot);
        }
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
