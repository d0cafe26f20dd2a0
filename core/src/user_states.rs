//! The states of an app's users, which every worker and every dialect reads and changes.
//!
//! Concurrent changes of a user apply one after another. A state expires some time after its last use.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use papaya::Operation;

use crate::{
    error::ReplyError,
    limits::{USER_MS, USER_STATE_BYTES, USER_STATES},
    publication::{UserChange, UserState},
};

/// The states of an app's users.
#[derive(Default)]
pub struct UserStates(papaya::HashMap<Box<str>, Arc<Known>>);

struct Known {
    state: Arc<UserState>,
    /// When a sweep last found the state in use, on the clock that never steps back. 0: no sweep has come
    /// since the last change.
    used_ms: AtomicU64,
}

impl fmt::Debug for UserStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserStates").field(&self.0.len()).finish()
    }
}

impl UserStates {
    /// Whether no user has a state.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The state of a user.
    pub fn state(&self, user: &str) -> Option<Arc<UserState>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.pin().get(user).map(|known| known.state.clone())
    }

    /// Changes the state of a user. Returns the new state and the changed keys.
    ///
    /// # Errors
    /// The state is too long, or too many users have states.
    pub fn change(
        &self,
        user: &str,
        change: &UserChange,
    ) -> Result<(Arc<UserState>, Vec<Box<str>>), ReplyError> {
        let users = self.0.pin();
        let is_full = users.len() >= USER_STATES;
        let mut result = Err(ReplyError::TooManyUsers);
        users.compute(Box::from(user), |entry| {
            let before = entry.map(|(_, known)| known);
            if before.is_none() && is_full {
                result = Err(ReplyError::TooManyUsers);
                return Operation::Abort(());
            }
            let unknown = UserState::default();
            let state = before.map_or(&unknown, |known| &known.state);
            let (state, changed) = state.changed(before.is_none(), change);
            if state.bytes() > USER_STATE_BYTES {
                result = Err(ReplyError::ProfileTooLarge);
                return Operation::Abort(());
            }
            let state = Arc::new(state);
            result = Ok((state.clone(), changed));
            Operation::Insert(Arc::new(Known { state, used_ms: AtomicU64::new(0) }))
        });
        result
    }

    /// Marks the states of users for whom `is_used` returns true as used.
    pub(crate) fn touch(&self, now_ms: u64, is_used: impl Fn(&str) -> bool) {
        for (user, known) in &self.0.pin() {
            // Relaxed: the time orders no other memory access.
            if known.used_ms.load(Ordering::Relaxed) == 0 || is_used(user) {
                known.used_ms.store(now_ms.max(1), Ordering::Relaxed);
            }
        }
    }

    /// Removes the states that were not used for [`USER_MS`].
    pub(crate) fn expire(&self, now_ms: u64) {
        let is_over = |known: &Arc<Known>| {
            let used_ms = known.used_ms.load(Ordering::Relaxed);
            used_ms != 0 && used_ms.saturating_add(USER_MS) < now_ms
        };
        self.0.pin().retain(|_, known| !is_over(known));
    }
}
