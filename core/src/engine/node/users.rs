//! The states of users, which every worker reads and changes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use papaya::Operation;

use super::Node;
use crate::{
    error::ReplyError,
    id::AppId,
    limits::{USER_MS, USER_STATE_BYTES, USER_STATES},
    publication::{UserChange, UserState},
};

/// The states of an app's users.
#[derive(Default)]
pub(in crate::engine) struct Users(papaya::HashMap<Box<str>, Arc<Known>>);

struct Known {
    state: Arc<UserState>,
    /// When the state was last changed, or a worker with sessions of the user swept, on the clock that never
    /// steps back.
    used_ms: AtomicU64,
}

impl Node {
    /// The state of a user.
    pub(in crate::engine) fn user_state(&self, app: AppId, user: &str) -> Option<Arc<UserState>> {
        let users = &self.users(app).0;
        if users.is_empty() {
            return None;
        }
        users.pin().get(user).map(|known| known.state.clone())
    }

    /// Changes the state of a user. Returns the new state and the changed keys. Concurrent changes apply one
    /// after another.
    pub(in crate::engine) fn set_user(
        &self,
        app: AppId,
        user: &str,
        change: &UserChange,
        now_ms: u64,
    ) -> Result<(Arc<UserState>, Vec<Box<str>>), ReplyError> {
        let users = self.users(app).0.pin();
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
            Operation::Insert(Arc::new(Known { state, used_ms: AtomicU64::new(now_ms) }))
        });
        result
    }

    /// Marks the states of users for whom `is_used` returns true as used.
    pub(in crate::engine) fn touch_users(&self, now_ms: u64, is_used: impl Fn(AppId, &str) -> bool) {
        for app in self.app_ids() {
            for (user, known) in &self.users(app).0.pin() {
                if is_used(app, user) {
                    // Relaxed: the time orders no other memory access.
                    known.used_ms.store(now_ms, Ordering::Relaxed);
                }
            }
        }
    }

    /// Removes the states that were not used for [`USER_MS`].
    pub(in crate::engine) fn expire_users(&self, now_ms: u64) {
        for app in self.app_ids() {
            let is_over =
                |known: &Arc<Known>| known.used_ms.load(Ordering::Relaxed).saturating_add(USER_MS) < now_ms;
            self.users(app).0.pin().retain(|_, known| !is_over(known));
        }
    }

    /// Whether any user has a state.
    pub(in crate::engine) fn knows_users(&self) -> bool {
        self.app_ids().any(|app| !self.users(app).0.is_empty())
    }
}
