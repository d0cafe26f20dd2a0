//! Connections of back ends over a WebSocket: no sessions, but commands for the apps that they name.
//!
//! A command that has to wait stops its connection until it is answered, so one is in flight at a time, and
//! commands are done in the order they came.

use bytes::BytesMut;
use fanfare_core::{
    command::Outcome,
    dialect::{self, BackEnd, Format, Heard, Receipt, Scope},
    error::ReplyError,
    ws::{DecodeLimits, Message, OpCode, Role, put_frame},
};

use super::{Worker, lobby::beats};
use crate::{
    connection::{self, ConnectionId, ConnectionSlot, Flag, Lobby, Protocol},
    sys::secret,
    timers::{TICK_MS, Tick},
};

/// Answers that may wait to be sent before the next command is read.
const BACKLOG_BYTES: usize = 64 << 10;

/// What an answer that comes later belongs to.
pub(super) struct Awaited {
    connection: ConnectionId,
    ack: Option<Receipt>,
}

/// Why no more of a read is handled now.
enum Stop {
    /// There is no more.
    End,
    /// A command waits for its answer.
    Waiting,
    /// The turn is full.
    Full,
    /// Answers wait to be sent.
    Behind,
    /// The connection is over.
    Over,
}

impl Worker {
    /// Makes the connection of a back end of a lobby, whose input is handled from here on.
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
        // Closing is what it is should this panic.
        let Protocol::BackEnd(mut back_end) = std::mem::replace(&mut connection.protocol, Protocol::Closing)
        else {
            return;
        };
        connection.heard = self.now;
        let mut at = 0;
        let stop = self.run_back_end(slot, &mut back_end, input, &mut at);
        let Some(connection) = self.connections.live(slot) else { return };
        connection.protocol = Protocol::BackEnd(back_end);
        match stop {
            Stop::End => {}
            Stop::Waiting => self.pause(slot, &input[at..]),
            Stop::Full => {
                self.keep_input(slot, &input[at..]);
                self.make_ready(slot);
            }
            Stop::Behind => {
                connection.flags.raise(Flag::Held);
                self.keep_input(slot, &input[at..]);
            }
            Stop::Over => self.leave_back_end(slot),
        }
    }

    fn run_back_end(
        &mut self,
        slot: ConnectionSlot,
        back_end: &mut connection::BackEnd,
        input: &mut [u8],
        at: &mut usize,
    ) -> Stop {
        let limits =
            DecodeLimits { message_bytes: self.config.frame_bytes, fragments: self.config.fragments };
        loop {
            if self.engine.is_turn_full() {
                return Stop::Full;
            }
            let Some(connection) = self.connections.live(slot) else { return Stop::Over };
            if connection.backlog() > BACKLOG_BYTES {
                return Stop::Behind;
            }
            let connection::BackEnd { decoder, state } = &mut *back_end;
            let Ok(decoded) = decoder.decode(&mut input[*at..], Role::Server, limits) else {
                return Stop::Over;
            };
            *at += decoded.consumed;
            let mut out = BytesMut::new();
            match decoded.message {
                None => return Stop::End,
                Some(Message::Ping(data)) => put_frame(&mut out, OpCode::Pong, data),
                Some(Message::Pong(_)) => {}
                Some(Message::Close(_)) => return Stop::Over,
                Some(message) => match self.run_event(slot, state, message, &mut out) {
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

    /// Does what an event asks for. What is answered at once is appended to `out`.
    fn run_event(
        &mut self,
        slot: ConnectionSlot,
        state: &mut BackEnd,
        message: Message<'_>,
        out: &mut BytesMut,
    ) -> (Heard, Wait) {
        let now_ms = self.clock.elapsed_ms();
        let connection = self.connections.id(slot);
        let Self { engine, requests, awaited, .. } = self;
        let apps = engine.apps().clone();
        let mut answered = None;
        let mut wait = Wait::No;
        let heard = state.handle(message, &apps, now_ms, out, &mut |app, ack, command| {
            let token = requests.next_token();
            match engine.request(app.id, command, token) {
                Some(result) => answered = Some((ack, result)),
                None => {
                    awaited.insert(token, Awaited { connection, ack });
                    wait = Wait::ForAnswer;
                }
            }
        });
        if let Some((ack, result)) = answered {
            put_answer(out, ack, result);
        }
        if let Heard::Refused(error) = heard {
            self.counters.back_end_refusals_total += 1;
            tracing::debug!(?error, "an event of a back end was refused");
        }
        (heard, wait)
    }

    /// An answer has come that a back end's connection waits for. Returns whether it was one.
    pub(super) fn on_back_end_answer(&mut self, token: u64, result: Answer) -> Option<Answer> {
        let Some(Awaited { connection, ack }) = self.awaited.remove(&token) else { return Some(result) };
        if self.connections.find(connection).is_some() {
            let mut out = BytesMut::new();
            put_answer(&mut out, ack, result);
            self.connections.send(connection.slot, &out);
            self.resume(connection.slot);
        }
        None
    }

    /// The peer has taken all there was.
    pub(super) fn on_back_end_flushed(&mut self, slot: ConnectionSlot) {
        if self.connections.live(slot).is_some_and(|connection| connection.is(Flag::Held)) {
            self.resume(slot);
        }
    }

    /// Ends a back end's connection.
    pub(super) fn leave_back_end(&mut self, slot: ConnectionSlot) {
        self.out.clear();
        put_frame(&mut self.out, OpCode::Close, &[]);
        self.connections.send(slot, &self.out);
        self.linger_detached(slot);
    }

    /// The deadline of a back end's connection: it is asked for a sign of life, or is gone.
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
        self.out.clear();
        heartbeat.beat.put(&mut self.out);
        self.connections.send(slot, &self.out);
        self.arm(slot, now.saturating_add(beats(heartbeat.interval_ms)));
    }
}

type Answer = Result<Outcome, ReplyError>;

/// Whether a command waits for its answer.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Wait {
    No,
    ForAnswer,
}

/// Appends the acknowledgement of an answer. One that failed is not acknowledged: the back end's own time-out
/// tells it.
fn put_answer(out: &mut BytesMut, ack: Option<Receipt>, result: Answer) {
    match (ack, result) {
        (Some(ack), Ok(Outcome::AllMembers(members))) => BackEnd::put_members(out, ack, &members),
        (_, Ok(_)) => {}
        (_, Err(error)) => tracing::debug!(?error, "a command of a back end failed"),
    }
}
