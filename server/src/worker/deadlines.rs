//! Deadlines: one per connection in the timer wheel, looked at when its tick comes, and moved by nothing
//! else.

use fanfare_core::{
    dialect::{self, Beat, Rhythm},
    disconnect::Disconnect,
    id::SessionSlot,
};

use super::{Accepting, Worker};
use crate::{
    connection::{ConnectionSlot, Flag, NEVER, OutletSlot, Protocol},
    sys::give_back_memory,
    timers::{TICK_MS, Tick},
};

/// Milliseconds as ticks, rounded up.
pub(super) fn ticks(ms: u32) -> Tick {
    Tick::try_from(u64::from(ms).div_ceil(TICK_MS)).unwrap_or(Tick::MAX)
}

impl Worker {
    /// Has the connection's deadline looked at by `due`, if not before.
    pub(super) fn arm_by(&mut self, slot: ConnectionSlot, due: Tick) {
        if self.connections.live(slot).is_some_and(|connection| due < connection.due) {
            self.arm(slot, due);
        }
    }

    /// Sets the connection's deadline.
    pub(super) fn arm(&mut self, slot: ConnectionSlot, due: Tick) {
        let due = self.timers.arm(slot, due);
        if let Some(connection) = self.connections.live(slot) {
            connection.due = due;
        }
    }

    /// Looks at the deadlines that have come.
    pub(super) fn expire(&mut self) {
        if let Accepting::Paused(until) = self.accepting
            && self.now >= until
        {
            self.accepting = Accepting::More;
        }
        if self.tidy_due.is_some_and(|due| self.now >= due) {
            self.tidy_due = None;
            self.engine.give_back();
            self.connections.give_back();
            give_back_memory();
        }
        self.depart();
        self.expire_places();
        let mut due = Vec::new();
        self.timers.expire(self.now, |_, slot, tick| due.push((slot, tick)));
        for (slot, tick) in due {
            if let Some(outlet) = OutletSlot::of(slot) {
                self.on_outlet_due(outlet, tick);
                continue;
            }
            if self.connections.live(slot).is_some_and(|connection| connection.due == tick) {
                self.on_due(slot);
            }
        }
    }

    fn on_due(&mut self, slot: ConnectionSlot) {
        match self.connections.live(slot).map(|connection| &connection.protocol) {
            Some(Protocol::Preamble) => self.on_preamble_due(slot),
            Some(Protocol::Securing) => self.on_unsecured(slot),
            Some(Protocol::Http(_)) => self.on_request_due(slot),
            Some(&Protocol::WebSocket { session, .. }) => self.on_websocket_due(slot, session),
            Some(Protocol::Lobby(_)) => self.on_lobby_due(slot),
            // The deadline of the client's outlet counts instead.
            Some(Protocol::Poll(_) | Protocol::Probe(_)) => {
                self.arm(slot, self.now.saturating_add(ticks(self.config.request_timeout_ms)));
            }
            Some(Protocol::BackEnd(_)) => self.on_back_end_due(slot),
            Some(Protocol::Closing | Protocol::Closed) => self.close(slot),
            None => {}
        }
    }

    /// Two deadlines of a WebSocket: that of the peer's silence, and that of the message under way. While the
    /// connection is paused or held its peer is not read: the peer then shows life by taking output, as long
    /// as some waits, and the message under way has no deadline.
    fn on_websocket_due(&mut self, slot: ConnectionSlot, session: SessionSlot) {
        let (now, heartbeat) = (self.now, self.heartbeat(session));
        let Some(connection) = self.connections.live(slot) else { return };
        let is_read = !connection.is(Flag::Paused) && !connection.is(Flag::Held);
        let taken = connection.stalled_since().filter(|_| !is_read);
        let may_show_life = is_read || taken.is_some();
        let heard = connection.heard.max(taken.unwrap_or_default());
        let silent = now.saturating_sub(heard);
        let must_answer = heartbeat.rhythm != Rhythm::OneWay;
        if silent >= heartbeat.timeout && connection.is(Flag::Pinged) && must_answer && may_show_life {
            return self.disconnect(slot, Disconnect::PingTimeout);
        }
        let message_due = match is_read {
            true => connection.message_began.saturating_add(ticks(self.config.message_timeout_ms)),
            false => NEVER,
        };
        if now >= message_due {
            return self.disconnect(slot, Disconnect::MessageTimeout);
        }
        let is_due = silent >= heartbeat.interval || heartbeat.rhythm != Rhythm::OnSilence;
        if is_due && (connection.flags.raise(Flag::Pinged) || !must_answer) {
            self.engine.on_ping(session);
            self.engine.reply(session, |out| heartbeat.beat.put(out));
        }
        let ping_due = match heartbeat.rhythm {
            Rhythm::Regular | Rhythm::OneWay => now.saturating_add(heartbeat.interval),
            Rhythm::OnSilence if silent >= heartbeat.interval => heard.saturating_add(heartbeat.timeout),
            Rhythm::OnSilence => heard.saturating_add(heartbeat.interval),
        };
        self.arm(slot, ping_due.min(message_due).max(now + 1));
    }

    /// Arms the deadline of a connection that has become a WebSocket: the time of the first heartbeat.
    pub(super) fn watch(&mut self, slot: ConnectionSlot, session: SessionSlot) {
        let due = self.now.saturating_add(self.heartbeat(session).interval);
        // A later heartbeat is armed when the handshake's deadline comes, which saves an entry in the wheel.
        self.arm_by(slot, due);
    }

    /// The heartbeat of a session's connection.
    fn heartbeat(&mut self, session: SessionSlot) -> HeartbeatTicks {
        let format = self.engine.session_format(session);
        let heartbeat = dialect::heartbeat(format, self.config.ping_interval_ms.into());
        let whole_ticks = |ms: u64| Tick::try_from(ms / TICK_MS).unwrap_or(Tick::MAX);
        let interval = whole_ticks(heartbeat.interval_ms).max(1);
        let timeout = whole_ticks(heartbeat.timeout_ms).max(interval.saturating_add(1));
        HeartbeatTicks { interval, timeout, rhythm: heartbeat.rhythm, beat: heartbeat.beat }
    }
}

/// The heartbeat of a dialect in ticks: 1 <= `interval` < `timeout`.
struct HeartbeatTicks {
    interval: Tick,
    timeout: Tick,
    rhythm: Rhythm,
    beat: Beat,
}
