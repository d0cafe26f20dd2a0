//! A worker's part of a channel.

use std::sync::Arc;

use crate::{
    channel::{Channel, Subscribers},
    dialect::FormatSet,
};

/// This worker's part of a channel.
pub(super) struct LocalChannel {
    pub(super) channel: Arc<Channel>,
    pub(super) subscribers: Subscribers,
    /// The wire formats of its members, and perhaps of some who have left since the last run.
    pub(super) formats: FormatSet,
    /// The channel's run of this turn, or NONE.
    pub(super) run: u32,
    pub(super) interest_state: InterestState,
    /// Where the stream of a member that joins now begins: the last offset passed on here, or given out
    /// before our interest. The channel's own may be ahead, by what is in our mailbox.
    pub(super) offset: u64,
    /// Sessions that become members when what they missed has been read.
    pub(super) joining: u32,
}

/// A worker's interest in a channel of which it holds members.
#[derive(Copy, Clone)]
pub(super) enum InterestState {
    /// Being gained by the operation of this ticket, once it is delegated. Mail that arrives now is from
    /// before.
    Gaining { ticket: Option<u64> },
    /// Publications up to this sequence were before it, and messages up to this offset.
    Live { from: u64, offset: u64 },
}
