//! A user of the directory: its connections and its private messages.

use std::sync::Arc;

use super::{
    super::{
        entry::{Entry, Replay, Ring},
        timestamp::Moment,
    },
    ConnId, Memory,
};
use crate::id::MessageId;

/// The most private messages that a user keeps for clients that do not poll at the moment.
const FRAMES: usize = 50;

#[derive(Debug)]
pub(super) struct User {
    pub(super) uuid: MessageId,
    pub(super) connections: Vec<ConnId>,
    pub(super) last_active: Moment,
    pub(super) frames: Ring,
}

impl User {
    pub(super) fn new(uuid: MessageId, now: Moment) -> Self {
        Self { uuid, connections: Vec::with_capacity(1), last_active: now, frames: Ring::default() }
    }

    pub(super) fn remember(&mut self, entry: &Arc<Entry>, now: Moment, memory: &mut Memory) {
        self.last_active = now;
        memory.push(&mut self.frames, FRAMES, now, entry);
    }

    /// The private messages of the user since `since`.
    pub(super) fn catch_up(&self, since: Moment) -> impl Iterator<Item = Arc<str>> {
        self.frames.iter().filter(move |(at, _)| *at > since).map(|(_, entry)| entry.frame(Replay::Catchup))
    }
}
