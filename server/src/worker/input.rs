//! Input: from readiness to messages. Reads go into the worker's one buffer, and messages are slices of it.
//!
//! Sockets are edge-triggered: a read goes on until the kernel has no more, or the connection goes on the
//! ready list. A read that did not fill the buffer has emptied the socket (epoll(7), "Questions and answers",
//! 9), unless the peer has closed.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use fanfare_core::{
    disconnect::Disconnect,
    engine::Flow,
    id::SessionSlot,
    ws::{DecodeLimits, Message, OpCode, Role, put_frame},
};
use mio::event::Event;

use super::{BUFFER_BYTES, Worker, clients::Preface, deadlines::ticks};
use crate::{
    connection::{ConnectionId, ConnectionSlot, Flag, NEVER, Protocol},
    tls::SocketState,
};

/// Bytes read from one connection before others get their turn.
const READ_BUDGET: usize = 4 * BUFFER_BYTES;

impl Worker {
    pub(super) fn on_event(&mut self, event: &Event, id: ConnectionId, buffer: &mut [u8]) {
        let Some(connection) = self.connections.find(id) else { return };
        if event.is_writable() && !connection.is_flushed() {
            self.on_writable(id.slot);
        }
        let Some(connection) = self.connections.find(id) else { return };
        if event.is_read_closed() || event.is_error() {
            connection.flags.raise(Flag::HalfClosed);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.on_readable(id.slot, buffer);
        }
        // A client that ends its side of the connection during a held poll is gone.
        let Some(connection) = self.connections.find(id) else { return };
        if let Protocol::Poll(_) = connection.protocol
            && connection.is(Flag::HalfClosed)
        {
            self.close(id.slot);
        }
    }

    /// Reads until the socket is empty or the budget is spent.
    pub(super) fn on_readable(&mut self, slot: ConnectionSlot, buffer: &mut [u8]) {
        let mut budget = READ_BUDGET;
        while let Some(connection) = self.connections.live(slot) {
            if [Flag::Paused, Flag::Held, Flag::Ready].iter().any(|flag| connection.is(*flag)) {
                return;
            }
            if budget == 0 || self.engine.is_turn_full() {
                return self.make_ready(slot);
            }
            if let Protocol::Preamble = connection.protocol {
                match self.on_preamble(slot, buffer) {
                    Preface::Done => continue,
                    Preface::Waits => return,
                }
            }
            if let Protocol::Securing = connection.protocol
                && !self.securing.take_step()
            {
                return self.secure_later(slot);
            }
            if let Protocol::WebSocket { session, .. } = connection.protocol {
                if self.engine.is_behind(session, connection.backlog()) {
                    connection.flags.raise(Flag::Held);
                    return;
                }
                if let Some(mut rest) = connection.input.take() {
                    // The rest of a read that a full turn left.
                    self.guard(slot, |worker| worker.feed_frames(slot, &mut rest));
                    continue;
                }
            }
            if let Protocol::BackEnd(_) = connection.protocol
                && let Some(mut rest) = connection.input.take()
            {
                self.guard(slot, |worker| worker.feed_back_end(slot, &mut rest));
                continue;
            }
            let received = match connection.read(buffer, &mut self.ciphertext) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.on_read_error(slot, &error),
            };
            let emptied = received.socket == SocketState::Emptied && !connection.is(Flag::HalfClosed);
            if received.socket == SocketState::Ended {
                return self.on_end(slot);
            }
            self.counters.received_bytes_total += received.wire_bytes as u64;
            budget = budget.saturating_sub(received.wire_bytes);
            if connection.is_secured() {
                self.on_records(slot);
            }
            if received.bytes > 0 {
                self.guard(slot, |worker| worker.feed(slot, &mut buffer[..received.bytes]));
            }
            if emptied {
                return;
            }
        }
    }

    /// Puts a connection on the ready list: it goes on in the next turn without waiting for an edge.
    pub(super) fn make_ready(&mut self, slot: ConnectionSlot) {
        if let Some(connection) = self.connections.live(slot)
            && connection.flags.raise(Flag::Ready)
        {
            self.ready.push_back(slot);
        }
    }

    /// Does what one connection asks for. A panic on the way ends this connection, and no other notices.
    ///
    /// Input is decoded and commands are checked before anything shared is touched, so the state that others
    /// see is whole. A panic while a channel's operations are applied would leave that channel taken; no
    /// input is known to cause one.
    pub(super) fn guard(&mut self, slot: ConnectionSlot, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.counters.panics_total += 1;
            tracing::error!("a connection ends: handling its input panicked");
            self.close(slot);
        }
    }

    /// Handles input.
    pub(super) fn feed(&mut self, slot: ConnectionSlot, input: &mut [u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        match &mut connection.protocol {
            Protocol::Http(_) => self.feed_http(slot, input),
            Protocol::WebSocket { .. } => self.feed_frames(slot, input),
            Protocol::Lobby(_) => self.feed_lobby(slot, input),
            Protocol::Probe(_) => self.feed_probe(slot, input),
            Protocol::BackEnd(_) => self.feed_back_end(slot, input),
            Protocol::Preamble
            | Protocol::Securing
            | Protocol::Poll(_)
            | Protocol::Closing
            | Protocol::Closed => {}
        }
    }

    pub(super) fn feed_frames(&mut self, slot: ConnectionSlot, input: &mut [u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::WebSocket { decoder, session } = &mut connection.protocol else { return };
        let (mut taken, session) = (std::mem::take(decoder), *session);
        connection.heard = self.now;
        connection.flags.lower(Flag::Pinged);
        let limits =
            DecodeLimits { message_bytes: self.config.frame_bytes, fragments: self.config.fragments };
        let mut at = 0;
        let mut completed = false;
        // Asking once more than there are messages lets the decoder free a long message that was delivered.
        while at < input.len() || !taken.is_idle() {
            let mut messages = taken.messages(&mut input[at..], Role::Server, limits);
            let mut flow = (self.handler.on_messages)(&mut self.engine, session, &mut messages);
            match messages.end() {
                Ok(consumed) => {
                    at += consumed;
                    completed |= consumed > 0;
                }
                Err(error) => return self.disconnect(slot, Disconnect::Protocol(error)),
            }
            if self.stops(slot, flow, &input[at..]) {
                break;
            }
            // What is not there as a whole, and control frames.
            let decoded = match taken.decode(&mut input[at..], Role::Server, limits) {
                Ok(decoded) => decoded,
                Err(error) => return self.disconnect(slot, Disconnect::Protocol(error)),
            };
            at += decoded.consumed;
            flow = match decoded.message {
                None => break,
                Some(Message::Ping(data)) => {
                    self.engine.reply(session, |out| put_frame(out, OpCode::Pong, data));
                    Flow::Continue
                }
                Some(Message::Pong(_)) => {
                    self.engine.on_pong(session);
                    Flow::Continue
                }
                Some(Message::Close(frame)) => {
                    let code = frame.map(|frame| frame.code);
                    return self.on_close_frame(slot, code);
                }
                Some(message) => {
                    completed = true;
                    (self.handler.on_message)(&mut self.engine, session, message)
                }
            };
            if self.stops(slot, flow, &input[at..]) {
                break;
            }
        }
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::WebSocket { decoder, .. } = &mut connection.protocol else { return };
        let incomplete = !taken.is_idle();
        *decoder = taken;
        if !incomplete {
            connection.message_began = NEVER;
        } else if completed || connection.message_began == NEVER {
            connection.message_began = self.now;
            self.arm_by(slot, self.now.saturating_add(ticks(self.config.message_timeout_ms)));
        }
    }

    /// Whether nothing more of a read is handled now; its rest is kept.
    fn stops(&mut self, slot: ConnectionSlot, flow: Flow, rest: &[u8]) -> bool {
        match flow {
            Flow::Continue => return false,
            Flow::Pause => self.pause(slot, rest),
            Flow::Yield => {
                self.keep_input(slot, rest);
                self.make_ready(slot);
            }
        }
        true
    }

    pub(super) fn keep_input(&mut self, slot: ConnectionSlot, rest: &[u8]) {
        if let Some(connection) = self.connections.live(slot)
            && !rest.is_empty()
        {
            connection.input = Some(Box::new(rest.to_vec()));
        }
    }

    /// Keeps the rest of a read for when the connection goes on.
    pub(super) fn pause(&mut self, slot: ConnectionSlot, rest: &[u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        connection.flags.raise(Flag::Paused);
        self.keep_input(slot, rest);
    }

    /// A connection that was paused or held goes on, first with the input that waited. Its deadlines begin
    /// anew.
    pub(super) fn resume(&mut self, slot: ConnectionSlot) {
        let now = self.now;
        let Some(connection) = self.connections.live(slot) else { return };
        connection.flags.lower(Flag::Paused);
        connection.flags.lower(Flag::Held);
        connection.heard = now;
        if connection.message_began != NEVER {
            connection.message_began = now;
        }
        if let Protocol::Http(_) = connection.protocol {
            self.feed_http(slot, &mut []);
        }
        self.make_ready(slot);
    }

    /// Notes that the peer of a WebSocket has taken output. The connection is read again once little output
    /// is left.
    pub(super) fn on_taken(&mut self, slot: ConnectionSlot, session: SessionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        self.engine.on_taken(session, connection.backlog());
        if connection.is(Flag::Held) && !self.engine.is_behind(session, connection.backlog()) {
            self.resume(slot);
        }
    }

    /// The peer has sent its last byte. What it was promised is still sent: answers first, then the last
    /// word, then FIN.
    fn on_end(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        connection.flags.raise(Flag::HalfClosed);
        connection.flags.raise(Flag::PeerDone);
        match connection.protocol {
            Protocol::Http(_) if !connection.is_flushed() => {}
            Protocol::Securing => self.on_unsecured(slot),
            Protocol::Preamble
            | Protocol::Http(_)
            | Protocol::Lobby(_)
            | Protocol::BackEnd(_)
            | Protocol::Poll(_)
            | Protocol::Probe(_)
            | Protocol::Closed => self.close(slot),
            Protocol::WebSocket { .. } => self.on_half_close(slot),
            // This turn's output may include the connection's last frame, so the connection ends after the
            // flush.
            Protocol::Closing => self.closing.push(slot),
        }
    }
}
