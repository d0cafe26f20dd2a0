//! The memory ledger: bytes that an engine and the node hold, by kind. Sizes times numbers, and sums that are
//! kept where memory is taken and given back. Nothing is counted for a message.

use super::{Engine, Node};
use crate::{
    channel::Channel,
    id::{AppId, WorkerId},
};

/// Bytes that an engine holds, by kind.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct EngineMemory {
    /// Sessions with their profiles, and the index of users.
    pub sessions: usize,
    /// Lists of members, and lists of channels of sessions.
    pub memberships: usize,
    /// The worker's parts of channels.
    pub channels: usize,
    /// Buffers for a turn's output that are kept for the next turn.
    pub buffers: usize,
}

/// Bytes that the engines of a node share, by kind.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct NodeMemory {
    /// Channels in the table.
    pub channels: usize,
    /// Remembered messages.
    pub history: usize,
    /// Mail between workers, output of parked sessions, and messages that wait for triggers.
    pub buffers: usize,
}

/// What the table keeps of a channel: an entry, and its share of a half empty map of pointers.
const ENTRY_BYTES: usize = 16 + 2 * (size_of::<usize>() + 1);

/// The two counts before a value that is shared.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// The bytes that the allocator takes for a block: a multiple of 16, and beyond 128 bytes one of four sizes
/// between powers of two.
pub(super) const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(bytes.next_power_of_two() / 8),
    }
}

/// The bytes of a shared text.
pub(super) fn text_bytes(text: Option<&str>) -> usize {
    text.map_or(0, |text| block(COUNTS_BYTES + text.len()))
}

impl Engine {
    /// The bytes that this engine holds.
    pub fn memory(&self) -> EngineMemory {
        EngineMemory {
            sessions: self.sessions.bytes() + self.users.bytes(),
            memberships: self.sessions.membership_bytes() + self.member_bytes,
            channels: self.channels.bytes(),
            buffers: self.turn.kept_bytes(),
        }
    }
}

impl Node {
    /// The bytes that the engines share.
    pub fn memory(&self) -> NodeMemory {
        let names = self.table.name_bytes();
        let channel = block(COUNTS_BYTES + size_of::<Channel>()) + block(8 * self.workers()) + ENTRY_BYTES;
        let apps = self.apps();
        let sum = |bytes: fn(&Self, AppId) -> usize| apps.iter().map(|app| bytes(self, app.id)).sum();
        let history: usize = sum(Self::remembered);
        let parked: usize = sum(Self::parked_bytes);
        let calls: usize = sum(Self::trigger_call_bytes);
        let mail: usize = (0..self.worker_count()).map(|at| self.mailbox(WorkerId(at)).bytes()).sum();
        NodeMemory { channels: self.channels() * channel + names, history, buffers: parked + calls + mail }
    }
}
