//! Back ends, over WebSockets and by polling. A back end's connection has no session. Each of its commands
//! names the app that it is for.
//!
//! A command that has to wait stops its connection until the command is answered. So one command of a
//! connection is in flight at a time, and commands take effect in the order in which they came.

use bytes::BytesMut;
use fanfare_core::{
    command::Outcome,
    dialect::{self, BackEnd, Format, Heard, Receipt, Scope},
    engine::Flow,
    error::ReplyError,
    ws::{DecodeLimits, Decoder, Message},
};

use hashbrown::HashMap;

use super::{
    Worker,
    bare::{Bare, BareInput, beats},
};
use crate::{
    asker::{Asker, Tokens},
    connection::{
        self, ConnectionId, ConnectionSlot, Flag, Lobby, OutletId, OutletSlot, PollingBackEnd, Protocol,
        Stage, Standing,
    },
    sys::secret,
    timers::{TICK_MS, Tick},
};

/// The bytes of unsent answers beyond which the next command is not read.
const BACKLOG_BYTES: usize = 64 << 10;

/// The answers that the connections of back ends wait for.
pub(super) struct Awaiting {
    tokens: Tokens,
    answers: HashMap<u64, Awaited>,
}

impl Default for Awaiting {
    fn default() -> Self {
        Self { tokens: Tokens::of(Asker::BackEnd), answers: HashMap::new() }
    }
}

/// The command of a back end whose answer comes later.
struct Awaited {
    peer: Peer,
    ack: Option<Receipt>,
}

/// Who waits for an answer.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Peer {
    WebSocket(ConnectionId),
    Outlet(OutletId),
}

/// Why the rest of a read is not handled now.
enum Stop {
    /// The read has no more messages.
    End,
    /// A command waits for its answer.
    Waiting,
    /// The turn is full.
    Full,
    /// Too many answers wait to be sent.
    Behind,
    /// The connection is over.
    Over,
}

impl Worker {
    /// Turns the connection of a lobby into that of a back end, and handles its further input.
    pub(super) fn begin_back_end(
        &mut self,
        slot: ConnectionSlot,
        lobby: Lobby,
        scope: Scope,
        rest: &mut [u8],
    ) {
        let mut out = BytesMut::new();
        let Lobby { decoder, state, .. } = lobby;
        let state = state.admit_back_end(scope, secret(), &mut out);
        self.connections.send(slot, &out);
        tracing::debug!("a back end has connected");
        let Some(connection) = self.connections.live(slot) else { return };
        let back_end = connection::BackEnd { decoder, state };
        connection.protocol = Protocol::BackEnd(Box::new(back_end));
        self.feed_back_end(slot, rest);
    }

    /// Handles input of a back end's connection.
    pub(super) fn feed_back_end(&mut self, slot: ConnectionSlot, input: &mut [u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        if !matches!(connection.protocol, Protocol::BackEnd(_)) {
            return;
        }
        // If this function panics, the connection is closing.
        let Protocol::BackEnd(mut back_end) = std::mem::replace(&mut connection.protocol, Protocol::Closing)
        else {
            return;
        };
        connection.heard = self.now;
        if has_expired(&back_end.state, self.now_ms) {
            return self.close_bare(slot);
        }
        let limits =
            DecodeLimits { message_bytes: self.config.frame_bytes, fragments: self.config.fragments };
        let mut input = BareInput::new(input, limits);
        let stop = self.run_back_end(slot, &mut back_end, &mut input);
        let Some(connection) = self.connections.live(slot) else { return };
        connection.protocol = Protocol::BackEnd(back_end);
        match stop {
            Stop::End => {}
            Stop::Waiting => self.pause(slot, input.rest()),
            Stop::Full => {
                self.keep_input(slot, input.rest());
                self.make_ready(slot);
            }
            Stop::Behind => {
                connection.flags.raise(Flag::Held);
                self.keep_input(slot, input.rest());
            }
            Stop::Over => self.close_bare(slot),
        }
    }

    fn run_back_end(
        &mut self,
        slot: ConnectionSlot,
        back_end: &mut connection::BackEnd,
        input: &mut BareInput<'_>,
    ) -> Stop {
        loop {
            if self.engine.is_turn_full() {
                return Stop::Full;
            }
            let Some(connection) = self.connections.live(slot) else { return Stop::Over };
            if connection.backlog() > BACKLOG_BYTES {
                return Stop::Behind;
            }
            let peer = Peer::WebSocket(self.connections.id(slot));
            let connection::BackEnd { decoder, state } = &mut *back_end;
            let mut out = BytesMut::new();
            match input.next(decoder, &mut out) {
                Bare::Nothing => return Stop::End,
                Bare::Control => {}
                Bare::Over => return Stop::Over,
                Bare::Message(message) => match self.run_event(peer, state, message, &mut out) {
                    (Heard::Over, _) => return Stop::Over,
                    (_, Wait::ForAnswer) => return Stop::Waiting,
                    (_, Wait::No) => {}
                },
            }
            if !out.is_empty() {
                self.connections.send(slot, &out);
            }
        }
    }

    /// Executes the command of an event. An immediate answer is appended to `out`.
    fn run_event(
        &mut self,
        peer: Peer,
        state: &mut BackEnd,
        message: Message<'_>,
        out: &mut BytesMut,
    ) -> (Heard, Wait) {
        let now_ms = self.clock.elapsed_ms();
        let Self { engine, awaited: Awaiting { tokens, answers }, .. } = self;
        let apps = engine.apps().clone();
        let mut answered = None;
        let mut wait = Wait::No;
        let heard = state.handle(message, &apps, now_ms, out, &mut |app, ack, command| {
            let token = tokens.next();
            match engine.request(app.id, command, token) {
                Some(result) => answered = Some((ack, result)),
                None => {
                    answers.insert(token, Awaited { peer, ack });
                    wait = Wait::ForAnswer;
                }
            }
        });
        if let Some((ack, result)) = answered {
            put_answer(state, out, ack, result);
        }
        if let Heard::Refused(error) = heard {
            self.counters.back_end_refusals_total += 1;
            tracing::debug!(?error, "an event of a back end was refused");
        }
        (heard, wait)
    }

    /// Sends a back end the answer that it waits for, if it still exists.
    pub(super) fn on_back_end_answer(&mut self, token: u64, result: Answer) {
        let Some(Awaited { peer, ack }) = self.awaited.answers.remove(&token) else { return };
        let mut out = BytesMut::new();
        match peer {
            Peer::WebSocket(id) => {
                let Some(connection) = self.connections.find(id) else { return };
                if let Protocol::BackEnd(back_end) = &connection.protocol {
                    put_answer(&back_end.state, &mut out, ack, result);
                    self.connections.send(id.slot, &out);
                }
                self.resume(id.slot);
            }
            Peer::Outlet(id) => {
                let Some(polling) = self.connections.outlets.find_polling(id) else { return };
                let Stage::BackEnd(back_end) = &mut polling.stage else { return };
                back_end.standing = Standing::Reads;
                put_answer(&back_end.state, &mut out, ack, result);
                polling.polled.queue(&out);
                self.serve_outlet(id.slot);
                self.resume_outlet(id.slot);
            }
        }
    }

    /// Turns a client that polls into a back end.
    pub(super) fn begin_polling_back_end(&mut self, slot: OutletSlot, state: dialect::Lobby, scope: Scope) {
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let mut out = BytesMut::new();
        let state = state.admit_back_end(scope, secret(), &mut out);
        polling.polled.queue(&out);
        polling.stage = Stage::BackEnd(Box::new(PollingBackEnd { state, standing: Standing::Reads }));
        tracing::debug!("a back end has connected");
    }

    /// Handles a message of a back end that polls.
    pub(super) fn on_posted_event(&mut self, slot: OutletSlot, message: Message<'_>) -> Flow {
        self.expire_polling_back_end(slot);
        let peer = Peer::Outlet(self.connections.outlets.id(slot));
        let now_ms = self.clock.elapsed_ms();
        let Some(polling) = self.connections.outlets.polling(slot) else { return Flow::Continue };
        // If this function panics, the client is over.
        let Stage::BackEnd(mut back_end) = std::mem::replace(&mut polling.stage, Stage::Over) else {
            return Flow::Continue;
        };
        let mut out = BytesMut::new();
        let (heard, wait) = self.run_event(peer, &mut back_end.state, message, &mut out);
        let is_full = self.engine.is_turn_full();
        let Some(polling) = self.connections.outlets.polling(slot) else { return Flow::Continue };
        if !out.is_empty() {
            polling.polled.queue(&out);
        }
        if heard == Heard::Over {
            polling.polled.close(now_ms);
            return Flow::Continue;
        }
        back_end.standing = match wait {
            Wait::ForAnswer => Standing::Waits,
            Wait::No if polling.polled.queued_bytes() > BACKLOG_BYTES => Standing::Behind,
            Wait::No => Standing::Reads,
        };
        let standing = back_end.standing;
        polling.stage = Stage::BackEnd(back_end);
        match standing {
            Standing::Waits => Flow::Pause,
            Standing::Behind => {
                // A poll that is held takes the answers.
                self.serve_outlet(slot);
                Flow::Pause
            }
            Standing::Reads if is_full => Flow::Yield,
            Standing::Reads => Flow::Continue,
        }
    }

    /// Ends a back end that polls if its key has expired.
    pub(super) fn expire_polling_back_end(&mut self, slot: OutletSlot) {
        let (now_ms, unix_ms) = (self.clock.elapsed_ms(), self.now_ms);
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        if let Stage::BackEnd(back_end) = &polling.stage
            && has_expired(&back_end.state, unix_ms)
        {
            polling.stage = Stage::Over;
            polling.polled.close(now_ms);
        }
    }

    /// Moves a back end to a WebSocket.
    pub(super) fn move_back_end(&mut self, outlet: OutletId, id: ConnectionId, back_end: PollingBackEnd) {
        let PollingBackEnd { mut state, standing } = back_end;
        state.upgrade();
        for awaited in self.awaited.answers.values_mut() {
            if awaited.peer == Peer::Outlet(outlet) {
                awaited.peer = Peer::WebSocket(id);
            }
        }
        let interval_ms =
            dialect::heartbeat(Format::AgnostFrames, self.config.ping_interval_ms.into()).interval_ms;
        let due = self.now.saturating_add(beats(interval_ms));
        let Some(connection) = self.connections.live(id.slot) else { return };
        if standing == Standing::Waits {
            connection.flags.raise(Flag::Paused);
        }
        connection.heard = self.now;
        connection.protocol =
            Protocol::BackEnd(Box::new(connection::BackEnd { decoder: Decoder::new(), state }));
        self.arm_by(id.slot, due);
    }

    /// Reads on after the peer has taken all output.
    pub(super) fn on_back_end_flushed(&mut self, slot: ConnectionSlot) {
        if self.connections.live(slot).is_some_and(|connection| connection.is(Flag::Held)) {
            self.resume(slot);
        }
    }

    /// The deadline of a back end's connection has come: sends a heartbeat, or closes the connection if its
    /// peer has been silent for the heartbeat's time-out.
    pub(super) fn on_back_end_due(&mut self, slot: ConnectionSlot) {
        let now = self.now;
        let heartbeat = dialect::heartbeat(Format::AgnostFrames, self.config.ping_interval_ms.into());
        let timeout = Tick::try_from(heartbeat.timeout_ms / TICK_MS).unwrap_or(Tick::MAX);
        let Some(connection) = self.connections.live(slot) else { return };
        let is_read = !connection.is(Flag::Paused) && !connection.is(Flag::Held);
        if now.saturating_sub(connection.heard) >= timeout && is_read {
            self.counters.ping_timeouts_total += 1;
            return self.close(slot);
        }
        if let Protocol::BackEnd(back_end) = &connection.protocol
            && has_expired(&back_end.state, self.now_ms)
        {
            return self.close_bare(slot);
        }
        self.send_beat(slot, &heartbeat);
        self.arm(slot, now.saturating_add(beats(heartbeat.interval_ms)));
    }
}

/// Whether the key of a back end has expired.
fn has_expired(back_end: &BackEnd, now_ms: u64) -> bool {
    back_end.expires_at().is_some_and(|end| now_ms / 1000 >= end)
}

type Answer = Result<Outcome, ReplyError>;

/// Whether a command waits for its answer.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Wait {
    No,
    ForAnswer,
}

/// Appends the acknowledgement of an answer. A failed command is not acknowledged, so it fails with the back
/// end's own time-out.
fn put_answer(state: &BackEnd, out: &mut BytesMut, ack: Option<Receipt>, result: Answer) {
    match (ack, result) {
        (Some(ack), Ok(Outcome::AllMembers(members))) => state.put_members(out, ack, &members),
        (_, Ok(_)) => {}
        (_, Err(error)) => tracing::debug!(?error, "a command of a back end failed"),
    }
}
