//! Changes that a directory does not know: a dialect with a directory lists the members of other dialects
//! too, so the shell tells the directory of their joins, updates and leaves. It also tells the directory of
//! changes of users' states that did not come from the directory.
//!
//! The engine collects these changes in apps with a directory, and nowhere else. The shell takes them once in
//! a turn. A delivery collects nothing.

use std::sync::Arc;

use super::{Engine, presence::MembershipEvent};
use crate::{
    channel::Channel,
    id::{AppId, LocalId, SessionSlot},
    publication::IdentityCard,
};

/// A change of a channel's members that a directory has to know.
pub struct MemberChange {
    /// The app.
    pub app: AppId,
    /// The channel.
    pub channel: Arc<Channel>,
    /// The member.
    pub member: Arc<IdentityCard>,
    /// Whether the member is still there.
    pub is_member: bool,
}

/// A change of a user's state that a directory has to know.
pub struct ChangedUser {
    /// The app.
    pub app: AppId,
    /// The user.
    pub user: Box<str>,
    /// The changed keys.
    pub changed: Vec<Box<str>>,
}

impl Engine {
    /// Takes the changes of users' states since the last call, in the order in which they happened.
    pub fn take_changed_users(&mut self) -> Vec<ChangedUser> {
        std::mem::take(&mut self.changed_users)
    }

    /// Collects a change for the app's directory.
    pub(super) fn note_user_change(&mut self, app: AppId, user: &str, changed: &[Box<str>]) {
        if self.apps.of(app).has_directory() {
            self.changed_users.push(ChangedUser { app, user: user.into(), changed: changed.into() });
        }
    }

    /// Takes the changes since the last call, in the order in which they happened.
    pub fn take_member_changes(&mut self) -> Vec<MemberChange> {
        std::mem::take(&mut self.member_changes)
    }

    /// Collects a change for the app's directory, unless the member's own dialect keeps the directory.
    #[inline]
    pub(super) fn note_member_change(&mut self, part: LocalId, slot: SessionSlot, what: MembershipEvent) {
        if self.apps.of(self.sessions.get(slot).app).has_directory() {
            self.collect_member_change(part, slot, what);
        }
    }

    #[cold]
    fn collect_member_change(&mut self, part: LocalId, slot: SessionSlot, what: MembershipEvent) {
        let is_drained = self.is_draining && what == MembershipEvent::Leaves;
        if is_drained || self.sessions.hot(slot).format.has_directory() {
            return;
        }
        let (app, channel) = (self.sessions.get(slot).app, self.channels[part].channel.clone());
        let (member, is_member) = (self.card(slot), what != MembershipEvent::Leaves);
        self.member_changes.push(MemberChange { app, channel, member, is_member });
    }
}
