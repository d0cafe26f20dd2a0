//! WebSockets without a session: reading their frames, answering pings, and ending them.

use bytes::BytesMut;
use fanfare_core::{
    dialect::Heartbeat,
    ws::{DecodeLimits, Decoder, Message, OpCode, Role, put_frame},
};

use super::Worker;
use crate::{
    connection::ConnectionSlot,
    timers::{TICK_MS, Tick},
};

/// Input of a WebSocket without a session.
pub(super) struct BareInput<'i> {
    input: &'i mut [u8],
    at: usize,
    limits: DecodeLimits,
}

/// The next part of the input.
pub(super) enum Bare<'m> {
    /// The input has no further whole frame.
    Nothing,
    /// The input had a control frame. A pong may have been appended to the output.
    Control,
    Message(Message<'m>),
    /// The peer closes the WebSocket, or breaks its protocol.
    Over,
}

impl<'i> BareInput<'i> {
    pub(super) fn new(input: &'i mut [u8], limits: DecodeLimits) -> Self {
        Self { input, at: 0, limits }
    }

    /// Reads the next part of the input. A pong is appended to `out`.
    pub(super) fn next<'m>(&'m mut self, decoder: &'m mut Decoder, out: &mut BytesMut) -> Bare<'m> {
        let Ok(decoded) = decoder.decode(&mut self.input[self.at..], Role::Server, self.limits) else {
            return Bare::Over;
        };
        self.at += decoded.consumed;
        match decoded.message {
            None => Bare::Nothing,
            Some(Message::Ping(data)) => {
                put_frame(out, OpCode::Pong, data);
                Bare::Control
            }
            Some(Message::Pong(_)) => Bare::Control,
            Some(Message::Close(_)) => Bare::Over,
            Some(message) => Bare::Message(message),
        }
    }

    /// The input that is not decoded yet.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.input[self.at..]
    }
}

impl Worker {
    /// Sends the heartbeat of a WebSocket without a session.
    pub(super) fn send_beat(&mut self, slot: ConnectionSlot, heartbeat: &Heartbeat) {
        self.out.clear();
        heartbeat.beat.put(&mut self.out);
        self.connections.send(slot, &self.out);
    }

    /// Closes a WebSocket without a session, with a close frame without a code.
    pub(super) fn close_bare(&mut self, slot: ConnectionSlot) {
        self.out.clear();
        put_frame(&mut self.out, OpCode::Close, &[]);
        self.connections.send(slot, &self.out);
        self.linger_detached(slot);
    }
}

/// The ticks of an interval between heartbeats.
pub(super) fn beats(interval_ms: u64) -> Tick {
    Tick::try_from(interval_ms / TICK_MS).unwrap_or(Tick::MAX).max(1)
}
