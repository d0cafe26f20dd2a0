//! The state of users: changed in the node, one change after another, and told by the channels in which a
//! user is.
//!
//! Each worker asks the channels of its sessions of the user to tell what the state is now. A channel does so
//! inside its order, so no member is shown an older state after a newer one.

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

/// Whether others are told.
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
        let (state, changed) = self.node.set_user(app, user, change, self.steady_ms)?;
        if telling == Telling::Members && !changed.is_empty() {
            let version = state.version();
            let change = UserAnnouncement { user: user.into(), version, changed: changed.clone() };
            let change = Arc::new(change);
            let workers = u16::try_from(self.node.workers()).expect("workers are few");
            let own = self.worker;
            for worker in (0..workers).map(WorkerId).filter(|worker| *worker != own) {
                self.post(worker, Mail::UserChanged { app, change: change.clone() });
            }
            self.announce_user_here(app, &change);
        }
        Ok(Progress::Finished(Outcome::User { user: user.into(), state: Some(state), changed }))
    }

    /// What is known of a user.
    pub(super) fn user(&self, app: AppId, user: &str) -> Outcome {
        Outcome::User { user: user.into(), state: self.node.user_state(app, user), changed: Vec::new() }
    }

    /// Has the channels tell in which this worker's sessions of a user are.
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
                // Who waits for it has been answered; a channel that has closed has no members.
                Submitted::Done { .. } | Submitted::Waiting(_) | Submitted::Closed => {}
                Submitted::Refused(_) => unreachable!("a notice is not refused"),
            }
        }
    }

    /// Keeps the states of users that have sessions here, and lets go of those that nobody has used for a
    /// day.
    pub(super) fn sweep_users(&mut self) {
        if self.steady_ms < self.users_swept_ms {
            return;
        }
        self.users_swept_ms = self.steady_ms + USER_SWEEP_MS;
        let is_here =
            |app: AppId, user: &str| self.users.sessions(app, user, SessionSlot(0)).next().is_some();
        self.node.touch_users(self.steady_ms, is_here);
        if self.worker == WorkerId(0) {
            self.node.expire_users(self.steady_ms);
        }
    }
}
