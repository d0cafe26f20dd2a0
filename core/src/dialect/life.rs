//! How a dialect keeps a connection alive and ends it.

use bytes::BytesMut;

#[cfg(test)]
use super::probe;
use super::{Dialect, Format, agnost, channelstream, native, xano};
use crate::{
    disconnect::Disconnect,
    error::ReplyError,
    ws::{OpCode, put_frame},
};

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

/// How a connection of this format is kept alive, if the configuration wants a ping every `ping_interval_ms`.
pub fn heartbeat(format: Format, ping_interval_ms: u64) -> Heartbeat {
    match format.dialect() {
        Dialect::Native => native::heartbeat(ping_interval_ms),
        Dialect::Agnost => agnost::heartbeat(ping_interval_ms),
        Dialect::Channelstream => channelstream::heartbeat(ping_interval_ms),
        Dialect::Xano => xano::heartbeat(ping_interval_ms),
        #[cfg(test)]
        Dialect::Probe => probe::heartbeat(format),
    }
}

/// How a connection of this format is told why it ends.
pub fn closing(format: Format, why: Disconnect) -> Closing {
    match format.dialect() {
        Dialect::Native => native::closing(why),
        Dialect::Agnost => agnost::closing(why),
        Dialect::Channelstream => channelstream::closing(why),
        Dialect::Xano => xano::closing(why),
        #[cfg(test)]
        Dialect::Probe => probe::closing(why),
    }
}

/// Appends the last that a connection receives.
pub fn put_disconnect(format: Format, out: &mut BytesMut, why: Disconnect) {
    match format.dialect() {
        Dialect::Native => native::put_disconnect(out, why),
        Dialect::Agnost => agnost::put_disconnect(format, out, why),
        Dialect::Channelstream => channelstream::put_disconnect(format, out, why),
        Dialect::Xano => xano::put_disconnect(out, why),
        #[cfg(test)]
        Dialect::Probe => probe::put_disconnect(format, out, why),
    }
}

/// Appends why no session begins on a connection that is open already.
pub fn put_refusal(format: Format, out: &mut BytesMut, error: ReplyError) {
    match format.dialect() {
        Dialect::Native => native::put_refusal(out, error),
        // This refusal is temporary: Agnost's clients reconnect after a close without a CONNECT_ERROR.
        Dialect::Agnost => agnost::put_disconnect(format, out, Disconnect::Restart),
        Dialect::Channelstream => channelstream::put_disconnect(format, out, Disconnect::Restart),
        Dialect::Xano => xano::put_refusal(out, error),
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["refused", probe::word(error)]),
    }
}
