//! How a dialect keeps a connection alive and ends it.

use bytes::BytesMut;

use crate::ws::{OpCode, put_frame};

/// When a server asks whether the peer of a connection still lives, and how.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Heartbeat {
    /// Milliseconds between two heartbeats, see [`Heartbeat::rhythm`].
    pub interval_ms: u64,
    /// Milliseconds without a sign of life after which the connection ends: above `interval_ms`.
    pub timeout_ms: u64,
    /// What is sent.
    pub beat: Beat,
    /// What counts as a sign of life.
    pub life: Life,
    /// When a heartbeat is sent.
    pub rhythm: Rhythm,
}

/// When a heartbeat is sent.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Rhythm {
    /// A heartbeat is sent after an interval of silence. A peer that sends gets none.
    OnSilence,
    /// A heartbeat is sent at every interval, because the peer expects one, unless the last heartbeat is
    /// unanswered.
    Regular,
    /// A heartbeat is sent at every interval, and the peer need not answer. Only the transport shows that the
    /// peer is gone.
    OneWay,
}

/// What asks a peer for a sign of life.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Beat {
    /// A WebSocket ping frame.
    PingFrame,
    /// A packet of the dialect in a WebSocket text frame.
    TextFrame(&'static str),
    /// A packet of the dialect in the answer to a poll.
    PollPacket(&'static str),
}

impl Beat {
    /// Appends it.
    pub fn put(self, out: &mut BytesMut) {
        match self {
            Self::PingFrame => put_frame(out, OpCode::Ping, &[]),
            Self::TextFrame(packet) => put_frame(out, OpCode::Text, packet.as_bytes()),
            Self::PollPacket(packet) => out.extend_from_slice(packet.as_bytes()),
        }
    }
}

/// What shows that the peer of a connection lives.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Life {
    /// Any bytes of the peer's.
    AnyInput,
    /// A completed request, such as a poll.
    Request,
}

/// How a connection is told that it ends.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Closing {
    /// Close code (RFC 6455, section 7.4), or the dialect's own number.
    pub code: u16,
    /// Reason, for a person.
    pub reason: &'static str,
}
