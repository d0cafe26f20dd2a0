//! What fan-out keeps of each session.

use super::NONE;
use crate::dialect::Format;

/// The per-session fields that fan-out touches, apart from the rest so that they stay in cache. 16 bytes.
pub(in crate::engine) struct SessionOutput {
    /// First and last segment of this turn: both NONE or neither.
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The shell's name for the session's connection; NONE while the session is parked.
    pub(in crate::engine) connection: u32,
    pub(in crate::engine) format: Format,
    /// How many of the segments are to runs, up to 2.
    pub(super) runs: u8,
    flags: u8,
}

/// [`SessionOutput::flags`]: the outbound queue is over its limit and the app's policy is to drop, so
/// publications are counted, not linked.
const CONGESTED: u8 = 1;

/// [`SessionOutput::flags`]: output is recorded in the session's outbox.
const RECORDED: u8 = 2;

/// [`SessionOutput::flags`]: the session has left everything and goes after the next flush.
const ENDED: u8 = 4;

/// [`SessionOutput::flags`]: some run of this turn has an exception for the session.
const EXCEPTED: u8 = 8;

impl SessionOutput {
    pub(in crate::engine) fn new(connection: u32, format: Format) -> Self {
        Self { head: NONE, tail: NONE, connection, format, runs: 0, flags: 0 }
    }

    /// Whether the session receives what most sessions receive: no run has an exception for the session, and
    /// the session is not congested.
    #[inline]
    pub(super) fn sees_as_most(&self) -> bool {
        self.flags & (EXCEPTED | CONGESTED) == 0
    }

    /// Some run of this turn has an exception for the session.
    pub(super) fn set_excepted(&mut self) {
        self.flags |= EXCEPTED;
    }

    /// The turn with the exception has ended.
    pub(super) fn clear_excepted(&mut self) {
        self.flags &= !EXCEPTED;
    }

    /// Whether publications are counted as missed instead of being linked.
    pub(in crate::engine) fn is_congested(&self) -> bool {
        self.flags & CONGESTED != 0
    }

    /// The session's connection cannot take what it is sent.
    pub(in crate::engine) fn set_congested(&mut self) {
        self.flags |= CONGESTED;
    }

    /// Ends that; returns whether it was so.
    pub(in crate::engine) fn clear_congested(&mut self) -> bool {
        let was = self.is_congested();
        self.flags &= !CONGESTED;
        was
    }

    /// The session goes after the next flush.
    pub(in crate::engine) fn set_ended(&mut self) {
        self.flags |= ENDED;
    }

    /// Whether the session goes after the next flush.
    pub(in crate::engine) fn is_ended(&self) -> bool {
        self.flags & ENDED != 0
    }

    /// From now on the session's output is recorded in its outbox.
    pub(in crate::engine) fn set_recorded(&mut self) {
        self.flags |= RECORDED;
    }

    /// Whether it is to receive something in this turn.
    pub(in crate::engine) fn has_segments(&self) -> bool {
        self.head != NONE
    }

    /// Whether its output is recorded in its outbox.
    pub(in crate::engine) fn is_recorded(&self) -> bool {
        self.flags & RECORDED != 0
    }

    /// Whether no connection takes the session's output at present.
    pub(in crate::engine) fn is_parked(&self) -> bool {
        self.connection == NONE
    }
}
