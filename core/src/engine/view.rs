//! What a session that joins is shown: who is there, and the last messages.
//!
//! Both are read inside the channel's order. The answer comes by mail, behind everything that was published
//! before the reading and before everything after it. So the notices and messages that the session receives
//! as a member go on exactly where the list and the messages end.

use super::{
    Engine, InterestState,
    membership::Joining,
    waiting::Progress,
};
use crate::{
    channel::{Bounds, Channel, ChannelRequest, Delegated, Interest, Operation, Position, Viewer},
    command::{MembersView, Outcome, Recovery, View},
    id::{LocalId, SessionSlot},
    limits::PAGE_BYTES,
};
