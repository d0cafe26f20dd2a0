//! The end of a connection, in four steps:
//!
//! ```text
//!   begin_close ─▶ (flush) ─▶ close_write ─▶ (the peer's end, or deadline) ─▶ close ─▶ (turn ends) ─▶ reclaim
//!        └── if the peer has said its last word: straight to close ───────────▲
//! ```
//!
//! [`Worker::begin_close`] says the server's last word, which leaves with the turn's output; `close_write`
//! sends FIN after the last byte; `close` ends the connection;
//! [`Connections::reclaim`](crate::connection::Connections::reclaim) frees its slot and its socket.

use std::net::Shutdown;

use bytes::BytesMut;
use fanfare_core::{
    dialect::{self, Ask, Closing},
    disconnect::Disconnect,
    id::SessionSlot,
    ws::{OpCode, put_close, put_frame},
};

use super::{Worker, deadlines::ticks};
use crate::{
    connection::{
        Client, ConnectionId, ConnectionSlot, Flag, OutletId, OutletSlot, Polling, Protocol, Stage,
    },
    drain::{close_window_ms, departure},
    timers::{TICK_MS, Tick},
};

/// How long a connection may take to end after the server's last word.
const LINGER_MS: u64 = 2_000;
/// The same, for a connection that still has much to read.
const SLOW_LINGER_MS: u64 = 10_000;

/// Logged for a close frame without a code, and for none at all (RFC 6455, section 7.4.1).
const NO_STATUS: u16 = 1005;
const ABNORMAL: u16 = 1006;

impl Worker {
    /// The socket has room again.
    pub(super) fn on_writable(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        let session = match connection.protocol {
            Protocol::WebSocket { session, .. } => Some(session),
            _ => None,
        };
        let Ok(is_flushed) = self.connections.send_queued(slot) else { return self.close(slot) };
        match session {
            Some(session) => {
                if is_flushed {
                    self.engine.on_drained(session);
                }
                self.on_taken(slot, session);
            }
            None if is_flushed => self.on_flushed(slot),
            None => {}
        }
    }

    /// A connection without a session has nothing queued any more.
    fn on_flushed(&mut self, slot: ConnectionSlot) {
        match self.connections.live(slot).map(|connection| &connection.protocol) {
            Some(Protocol::Http(_)) => self.on_answers_taken(slot),
            Some(Protocol::BackEnd(_)) => self.on_back_end_flushed(slot),
            Some(Protocol::Closing) => self.finish_close(slot),
            _ => {}
        }
    }

    /// The peer's close frame: answered with its code, and then the connection is over (RFC 6455, section
    /// 5.5.1).
    pub(super) fn on_close_frame(&mut self, slot: ConnectionSlot, code: Option<u16>) {
        self.log_end(slot, code.unwrap_or(NO_STATUS), "the peer closed it");
        if let Some(connection) = self.connections.live(slot) {
            connection.flags.raise(Flag::PeerDone);
        }
        self.begin_close(slot, LINGER_MS, |out| match code {
            Some(code) => put_close(out, code, "", None),
            None => put_frame(out, OpCode::Close, &[]),
        });
    }

    /// The peer of a WebSocket has sent FIN without a close frame. Everything it sent is answered, and then
    /// the server closes normally.
    ///
    /// A session that can be resumed is parked: a client that vanishes looks the same.
    pub(super) fn on_half_close(&mut self, slot: ConnectionSlot) {
        if let Some(session) = self.session_on(slot)
            && self.keeps(session)
        {
            return self.park(slot, Disconnect::PeerGone);
        }
        self.log_end(slot, ABNORMAL, "the peer ended its side");
        self.say_why(slot, LINGER_MS, Disconnect::PeerGone);
    }

    /// Ends a session, and tells its client the reason.
    pub(super) fn disconnect(&mut self, slot: ConnectionSlot, why: Disconnect) {
        self.count_end(why);
        if why == Disconnect::BadTokens {
            self.engine.take_forged_tokens();
            let address = self.connections.client(slot);
            self.count_failed_key(address);
        }
        if let Some(outlet) = OutletSlot::of(slot) {
            return self.disconnect_outlet(outlet, why);
        }
        if why == Disconnect::PingTimeout
            && let Some(session) = self.session_on(slot)
            && self.keeps(session)
        {
            return self.park(slot, why);
        }
        let linger_ms = if why == Disconnect::SlowConsumer { SLOW_LINGER_MS } else { LINGER_MS };
        self.log_disconnect(slot, why);
        self.say_why(slot, linger_ms, why);
    }

    /// Counts the end of a session.
    pub(super) fn count_end(&mut self, why: Disconnect) {
        match why {
            Disconnect::Protocol(_) | Disconnect::BrokenDialect => self.counters.protocol_errors_total += 1,
            Disconnect::PingTimeout => self.counters.ping_timeouts_total += 1,
            Disconnect::MessageTimeout => self.counters.message_timeouts_total += 1,
            Disconnect::BadTokens => self.counters.bad_tokens_total += 1,
            Disconnect::ByServer { .. } => self.counters.disconnected_total += 1,
            Disconnect::Restart => self.counters.drained_total += 1,
            Disconnect::AppRemoved => self.counters.removed_total += 1,
            // The engine counts these.
            Disconnect::SlowConsumer | Disconnect::Resumed | Disconnect::PeerGone => {}
        }
    }

    /// Ends the session of a WebSocket with its dialect's last frame for `why`.
    fn say_why(&mut self, slot: ConnectionSlot, linger_ms: u64, why: Disconnect) {
        let Some(session) = self.session_on(slot) else { return };
        let format = self.engine.session_format(session);
        self.begin_close(slot, linger_ms, |out| dialect::put_disconnect(format, out, why));
    }

    /// The session of a WebSocket.
    fn session_on(&mut self, slot: ConnectionSlot) -> Option<SessionSlot> {
        match self.connections.live(slot)?.protocol {
            Protocol::WebSocket { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Logs that the server ends a session, and why.
    pub(super) fn log_disconnect(&mut self, slot: ConnectionSlot, why: Disconnect) {
        if let Some(session) = self.session_on(slot) {
            let Closing { code, reason } = dialect::closing(self.engine.session_format(session), why);
            self.log_end(slot, code, reason);
        }
    }

    /// Logs the end of a session. Once each: from here on its connection has none.
    pub(super) fn log_end(&mut self, slot: ConnectionSlot, code: u16, why: &'static str) {
        if let Some(session) = self.session_on(slot) {
            let engine = &self.engine;
            let (app, id) = (&engine.session_app(session).name, engine.session_id(session));
            let address = || Client(self.connections.client(slot));
            tracing::debug!(%app, session = %id, address = %address(), code, why, "a session ends");
        }
    }

    /// Ends a WebSocket's session; `last` is the server's last word, after everything the session was to
    /// receive.
    fn begin_close(&mut self, slot: ConnectionSlot, linger_ms: u64, last: impl FnOnce(&mut BytesMut)) {
        let Some(connection) = self.connections.live(slot) else { return };
        if let Protocol::WebSocket { session, .. } = connection.protocol {
            connection.protocol = Protocol::Closing;
            connection.input = None;
            let departed = self.departing_client(session);
            self.read_to_discard(slot);
            self.engine.end(session, last);
            self.forget_client(departed);
            self.linger(slot, linger_ms);
        }
    }

    /// Ends a connection whose session was taken from it, after what was sent last.
    pub(super) fn linger_detached(&mut self, slot: ConnectionSlot) {
        if let Some(connection) = self.connections.live(slot) {
            connection.protocol = Protocol::Closing;
            self.read_to_discard(slot);
            self.linger(slot, LINGER_MS);
        }
    }

    /// Reads and discards the input that came while a connection was not read. No further readiness event
    /// would announce this input.
    fn read_to_discard(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        let was_paused = connection.flags.lower(Flag::Paused);
        if connection.flags.lower(Flag::Held) || was_paused {
            self.make_ready(slot);
        }
    }

    /// Ends an HTTP connection after the response that was just sent.
    pub(super) fn begin_close_http(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        let before = std::mem::replace(&mut connection.protocol, Protocol::Closing);
        let linger_ms = if connection.is_flushed() { LINGER_MS } else { SLOW_LINGER_MS };
        connection.input = None;
        // The kernel drops unsent output of a socket that is closed with unread input.
        self.read_to_discard(slot);
        self.linger(slot, linger_ms);
        self.on_request_cut(before);
    }

    /// Gives a connection whose last word is said some time to end.
    fn linger(&mut self, slot: ConnectionSlot, linger_ms: u64) {
        self.arm(slot, self.now + Tick::try_from(linger_ms / TICK_MS).expect("it is short"));
        self.closing.push(slot);
    }

    /// Goes on with the end of a connection, if the kernel has its last word: nothing more is awaited of a
    /// peer that has said its own.
    pub(super) fn finish_close(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        if !connection.is_flushed() {
            return;
        }
        let is_peer_done = connection.is(Flag::PeerDone);
        let is_said = !connection.is_secured() || self.connections.say_goodbye(slot);
        match is_peer_done {
            true => self.close(slot),
            false if is_said => self.close_write(slot),
            // The connection goes on closing when the kernel has taken the alert.
            false => {}
        }
    }

    /// Sends FIN after the last byte, so that the peer sees everything before the end.
    fn close_write(&mut self, slot: ConnectionSlot) {
        if let Some(connection) = self.connections.live(slot)
            && connection.stream.shutdown(Shutdown::Write).is_err()
        {
            self.close(slot);
        }
    }

    /// Ends a connection at once.
    pub(super) fn close(&mut self, slot: ConnectionSlot) {
        if self.connections.live(slot).is_none() {
            return;
        }
        self.log_end(slot, ABNORMAL, "the connection is gone");
        self.counters.closed_total += 1;
        let token = self.connections.id(slot).token();
        let unsent = self.connections.live(slot).map_or(0, |connection| connection.backlog());
        match self.connections.close(slot) {
            Protocol::WebSocket { session, .. } if self.keeps(session) => {
                self.engine.detach(session, unsent);
            }
            Protocol::WebSocket { session, .. } => {
                let departed = self.departing_client(session);
                self.engine.close(session);
                self.forget_client(departed);
            }
            Protocol::Preamble
            | Protocol::Securing
            | Protocol::Lobby(_)
            | Protocol::BackEnd(_)
            | Protocol::Closing
            | Protocol::Closed => {}
            request => {
                self.requests.forget(token);
                self.held.forget(token);
                self.on_request_cut(request);
            }
        }
        if !self.upgraded.is_empty() {
            self.forget_upgraded(slot);
        }
    }

    /// Tells a client that polls of a lost connection, if `protocol` was one of the client's requests.
    fn on_request_cut(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::Poll(outlet) => self.on_cut(outlet, Ask::Poll),
            Protocol::Probe(probe) => self.on_cut(probe.outlet, Ask::Upgrade),
            Protocol::Http(Some(partial)) => {
                if let Some(outlet) = partial.body.and_then(|body| body.outlet) {
                    self.on_cut(outlet, Ask::Post);
                }
            }
            _ => {}
        }
    }

    /// Whether the server is about to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    /// Stops accepting, and ends what rests. Sessions leave one after another, within the configured time,
    /// and all have until the deadline.
    pub(super) fn drain(&mut self) {
        self.engine.begin_drain();
        self.listeners.clear();
        self.accepting = super::Accepting::Idle;
        let mut sessions = self.drain_outlets();
        for slot in self.connections.slots() {
            let Some(connection) = self.connections.live(slot) else { continue };
            match connection.protocol {
                Protocol::WebSocket { .. } => sessions.push(Leaver::WebSocket(self.connections.id(slot))),
                // These connections end after the answer that is under way.
                Protocol::Http(_) if connection.is(Flag::Paused) || !connection.is_flushed() => {}
                Protocol::Http(_) if connection.is_amid_request() => self.refuse_restarting(slot),
                Protocol::Preamble
                | Protocol::Securing
                | Protocol::Http(_)
                | Protocol::Lobby(_)
                | Protocol::Probe(_) => self.close(slot),
                Protocol::BackEnd(_) => self.close_bare(slot),
                // The connection ends with its outlet.
                Protocol::Poll(_) | Protocol::Closing | Protocol::Closed => {}
            }
        }
        let (clients, spread_ms) = (sessions.len(), self.config.drain_spread_ms);
        for (rank, leaver) in sessions.into_iter().enumerate() {
            let departure = departure(rank, clients, spread_ms);
            self.departures.push_back(Departing {
                leaver,
                due: self.now.saturating_add(ticks(departure.close_after_ms)),
                reconnect_after_ms: departure.reconnect_after_ms,
            });
        }
        let last = ticks(close_window_ms(clients, spread_ms));
        let deadline = last.saturating_add(ticks(self.config.drain_ms));
        self.drain_deadline = Some(self.now.saturating_add(deadline));
        self.depart();
    }

    /// Tells the sessions whose time has come when to come back, and closes them.
    pub(super) fn depart(&mut self) {
        while let Some(&Departing { leaver, due, reconnect_after_ms }) = self.departures.front()
            && due <= self.now
        {
            self.departures.pop_front();
            let (slot, session) = match leaver {
                Leaver::WebSocket(id) => match self.connections.find(id).map(|live| &live.protocol) {
                    Some(&Protocol::WebSocket { session, .. }) => (id.slot, session),
                    _ => continue,
                },
                Leaver::Outlet(id) => match self.connections.outlets.find_polling(id) {
                    Some(Polling { stage: Stage::Session(session), .. }) => (id.slot.number(), *session),
                    _ => continue,
                },
            };
            self.engine.tell_reconnect(session, reconnect_after_ms);
            self.disconnect(slot, Disconnect::Restart);
        }
    }
}

/// The place of a session that the drain closes.
#[derive(Copy, Clone)]
pub(super) enum Leaver {
    WebSocket(ConnectionId),
    Outlet(OutletId),
}

/// A session that the drain closes.
#[derive(Copy, Clone)]
pub(super) struct Departing {
    leaver: Leaver,
    pub(super) due: Tick,
    reconnect_after_ms: u32,
}
