//! Changes of users' states. The node applies the changes of a user one after another. The channels of the
//! user's sessions tell their members.
//!
//! Each worker asks the channels of its own sessions of the user to tell the present state. A channel tells
//! it inside the channel's order, so no member sees an older state after a newer one.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Engine, Mail,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    channel::{ChannelRequest, UserAnnouncement},
    command::Outcome,
    error::ReplyError,
    id::{AppId, LocalId, SessionSlot, WorkerId},
    limits::{LABEL_BYTES, USER_SWEEP_MS},
    publication::UserChange,
};

/// Whether the members of the user's channels are told of a change.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Telling {
    Members,
    Nobody,
}

impl Engine {
    /// Changes the state of a user.
    pub(super) fn set_user(
        &mut self,
        app: AppId,
        user: &str,
        change: &UserChange,
        telling: Telling,
    ) -> Result<Progress, ReplyError> {
        if !(1..=LABEL_BYTES).contains(&user.len()) {
            return Err(ReplyError::InvalidCommand("A user has 1 to 512 bytes."));
        }
        if self.node.is_saturated() {
            self.counters.overloaded += 1;
            return Err(ReplyError::Overloaded);
        }
        let (state, changed) = self.node.user_states(app).change(user, change)?;
        if telling == Telling::Members {
            self.note_user_change(app, user, &changed);
            let (user, version) = (user.into(), state.version());
            self.announce_user(app, UserAnnouncement { user, version, changed: changed.clone() });
        }
        Ok(Progress::Finished(Outcome::User { user: user.into(), state: Some(state), changed }))
    }

    /// Has the channels of a user's sessions tell their members of a change.
    pub(super) fn announce_user(&mut self, app: AppId, change: UserAnnouncement) {
        if change.changed.is_empty() {
            return;
        }
        let change = Arc::new(change);
        let workers = u16::try_from(self.node.workers()).expect("workers are few");
        let own = self.worker;
        for worker in (0..workers).map(WorkerId).filter(|worker| *worker != own) {
            self.post(worker, Mail::UserChanged { app, change: change.clone() });
        }
        self.announce_user_here(app, &change);
    }

    /// The state of a user, as an outcome.
    pub(super) fn user(&self, app: AppId, user: &str) -> Outcome {
        let state = self.node.user_states(app).state(user);
        Outcome::User { user: user.into(), state, changed: Vec::new() }
    }

    /// Asks the channels of this worker's sessions of a user to tell the user's state.
    pub(super) fn announce_user_here(&mut self, app: AppId, change: &Arc<UserAnnouncement>) {
        let mut parts: BTreeSet<LocalId> = BTreeSet::new();
        for slot in self.users.sessions(app, &change.user, SessionSlot(0)) {
            let memberships = self.sessions.get(slot).memberships.as_slice().iter();
            parts.extend(memberships.map(|membership| membership.local));
        }
        self.work += parts.len();
        for part in parts {
            let channel = self.channels[part].channel.clone();
            if !channel.options().shows_user_state() {
                continue;
            }
            let request = Some(Box::new(ChannelRequest::AnnounceUser(change.clone())));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                // The back end has its answer already, and a closed channel has no members.
                Submitted::Done { .. } | Submitted::Waiting(_) | Submitted::Closed => {}
                Submitted::Refused(_) => unreachable!("a notice is not refused"),
            }
        }
    }

    /// Whether any user has a state.
    pub(super) fn knows_users(&self) -> bool {
        self.node.app_ids().any(|app| !self.node.user_states(app).is_empty())
    }

    /// Marks the states of users with sessions on this worker as used. One worker removes the states that
    /// were not used for [`USER_MS`](crate::limits::USER_MS).
    pub(super) fn sweep_users(&mut self) {
        if self.steady_ms < self.sweep.users_ms {
            return;
        }
        self.sweep.users_ms = self.steady_ms + USER_SWEEP_MS;
        for app in self.node.app_ids() {
            let states = self.node.user_states(app);
            states.touch(self.steady_ms, |user| {
                self.users.sessions(app, user, SessionSlot(0)).next().is_some()
            });
            if self.worker == WorkerId(0) {
                states.expire(self.steady_ms);
            }
        }
    }
}
