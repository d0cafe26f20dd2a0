//! The WebSockets of back ends. A back end's connection has no session. Each of its commands names the app
//! that it is for.
//!
//! A command that has to wait stops its connection until the command is answered. So one command of a
//! connection is in flight at a time, and commands take effect in the order in which they came.

use bytes::BytesMut;
use fanfare_core::{
    command::Outcome,
    dialect::{self, BackEnd, Format, Heard, Receipt, Scope},
    error::ReplyError,
    ws::{DecodeLimits, Message},
};

use hashbrown::HashMap;

use super::{
    Worker,
    bare::{Bare, BareInput, beats},
};
use crate::{
    asker::{Asker, Tokens},
    connection::{self, ConnectionId, ConnectionSlot, Flag, Lobby, Protocol},
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
    connection: ConnectionId,
    ack: Option<Receipt>,
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
        if has_expired(&back_end, self.now_ms) {
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
            let connection::BackEnd { decoder, state } = &mut *back_end;
            let mut out = BytesMut::new();
            match input.next(decoder, &mut out) {
                Bare::Nothing => return Stop::End,
                Bare::Control => {}
                Bare::Over => return Stop::Over,
                Bare::Message(message) => match self.run_event(slot, state, message, &mut out) {
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
        slot: ConnectionSlot,
        state: &mut BackEnd,
        message: Message<'_>,
        out: &mut BytesMut,
    ) -> (Heard, Wait) {
        let now_ms = self.clock.elapsed_ms();
        let connection = self.connections.id(slot);
        let Self { engine, awaited: Awaiting { tokens, answers }, .. } = self;
        let apps = engine.apps().clone();
        let mut answered = None;
        let mut wait = Wait::No;
        let heard = state.handle(message, &apps, now_ms, out, &mut |app, ack, command| {
            let token = tokens.next();
            match engine.request(app.id, command, token) {
                Some(result) => answered = Some((ack, result)),
                None => {
                    answers.insert(token, Awaited { connection, ack });
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

    /// Sends a back end's connection the answer that the connection waits for, if there is such a connection.
    pub(super) fn on_back_end_answer(&mut self, token: u64, result: Answer) {
        let Some(Awaited { connection, ack }) = self.awaited.answers.remove(&token) else { return };
        if self.connections.find(connection).is_some() {
            let mut out = BytesMut::new();
            put_answer(&mut out, ack, result);
            self.connections.send(connection.slot, &out);
            self.resume(connection.slot);
        }
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
            && has_expired(back_end, self.now_ms)
        {
            return self.close_bare(slot);
        }
        self.send_beat(slot, &heartbeat);
        self.arm(slot, now.saturating_add(beats(heartbeat.interval_ms)));
    }
}

/// Whether the key of a back end has expired.
fn has_expired(back_end: &connection::BackEnd, now_ms: u64) -> bool {
    back_end.state.expires_at().is_some_and(|end| now_ms / 1000 >= end)
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
fn put_answer(out: &mut BytesMut, ack: Option<Receipt>, result: Answer) {
    match (ack, result) {
        (Some(ack), Ok(Outcome::AllMembers(members))) => BackEnd::put_members(out, ack, &members),
        (_, Ok(_)) => {}
        (_, Err(error)) => tracing::debug!(?error, "a command of a back end failed"),
    }
}
