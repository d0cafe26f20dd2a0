//! The list of a channel's members, as the notices of its stream make it: whoever reads the list inside the
//! order, and then receives the notices behind it, knows the members at any time.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    id::SessionId,
    publication::{Body, IdentityCard},
};

/// The members of a channel.
#[derive(Default, Debug)]
pub(super) struct MemberList(BTreeMap<SessionId, Arc<IdentityCard>>);

impl MemberList {
    /// A publication of the channel takes its place in the order.
    pub(super) fn note(&mut self, body: Body<'_>) {
        match body {
            Body::MemberJoined(card) | Body::MemberUpdated(card) => {
                self.0.insert(card.id, card.clone());
            }
            Body::MemberLeft(card) => {
                self.0.remove(&card.id);
            }
            Body::Message { .. }
            | Body::Edit { .. }
            | Body::Delete
            | Body::UserJoined(_)
            | Body::UserLeft(_)
            | Body::Worded(_) => {}
        }
    }

    /// The members now.
    pub(super) fn list(&self) -> Vec<Arc<IdentityCard>> {
        self.0.values().cloned().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
