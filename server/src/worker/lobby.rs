//! WebSockets before their sessions, in dialects whose clients say who they are in a message of their own.
//!
//! Nothing of a lobby is known to the engine. What it sends goes to the socket at once; from the session's
//! beginning on everything goes out with the turn.

use bytes::BytesMut;
use fanfare_core::{
    dialect::{self, Admission, Entrance, Knock, Scope, Welcome, WelcomeLimits},
    engine,
    http::Head,
    id::SessionSlot,
    ws::{DecodeLimits, Decoder, Message, OpCode, Role, put_frame},
};

use super::{Worker, deadlines::ticks, http::Next};
use crate::{
    connection::{ConnectionSlot, Lobby, Protocol},
    http::{agnost, reply::Reply},
    timers::{TICK_MS, Tick},
};

/// Whether a lobby goes on.
enum Stay {
    Yes,
    /// It is over.
    No,
    /// A session has begun.
    Session(SessionSlot),
    /// A back end has come in.
    BackEnd(Scope),
}

impl Worker {
    /// Makes a WebSocket without a session of the connection, or says why not.
    pub(super) fn enter_lobby(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: Reply) -> Next {
        self.out.clear();
        let opening = match agnost::Opening::read(head) {
            Ok(opening) => opening,
            Err(error) => {
                agnost::put_refusal(&mut self.out, &reply, error);
                return self.sent(slot, error.status(), reply.persistence);
            }
        };
        let state = dialect::Lobby::new(self.now_steady_ms());
        opening.put(&mut self.out, &state, &self.config);
        self.connections.send(slot, &self.out);
        self.counters.handshakes_total += 1;
        let due = self.now.saturating_add(self.lobby_interval(&state));
        let origin = head.header("origin").map(|bytes| std::str::from_utf8(bytes).unwrap_or("").into());
        let Some(connection) = self.connections.live(slot) else { return Next::End };
        let lobby = Lobby { decoder: Decoder::new(), state, origin, began: self.now };
        connection.protocol = Protocol::Lobby(Box::new(lobby));
        connection.heard = self.now;
        self.arm_by(slot, due);
        Next::Frames
    }

    /// Handles input of a WebSocket that has no session.
    pub(super) fn feed_lobby(&mut self, slot: ConnectionSlot, input: &mut [u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        if !matches!(connection.protocol, Protocol::Lobby(_)) {
            return;
        }
        // Closing is what it is should this panic.
        let Protocol::Lobby(mut lobby) = std::mem::replace(&mut connection.protocol, Protocol::Closing)
        else {
            return;
        };
        connection.heard = self.now;
        let mut at = 0;
        let limits = DecodeLimits {
            message_bytes: dialect::Lobby::MESSAGE_BYTES.min(self.config.frame_bytes),
            fragments: self.config.fragments,
        };
        let mut out = BytesMut::new();
        let stay = loop {
            let Lobby { decoder, state, origin, .. } = &mut *lobby;
            let Ok(decoded) = decoder.decode(&mut input[at..], Role::Server, limits) else { break Stay::No };
            at += decoded.consumed;
            match decoded.message {
                None => break Stay::Yes,
                Some(Message::Ping(data)) => put_frame(&mut out, OpCode::Pong, data),
                Some(Message::Pong(_)) => {}
                Some(Message::Close(_)) => break Stay::No,
                Some(message) => match state.handle(message, self.clock.elapsed_ms(), &mut out) {
                    Knock::Waits => {}
                    Knock::Over => break Stay::No,
                    Knock::Asks { auth } => {
                        let apps = self.engine.apps().clone();
                        let engine = &mut self.engine;
                        let verify = |app: &_, token: &_| engine.verify_session(app, token);
                        match dialect::admit(&apps, auth, origin.as_deref(), verify) {
                            Ok(Entrance::BackEnd(scope)) => break Stay::BackEnd(scope),
                            Ok(Entrance::Session(admission)) => {
                                match self.begin_session(slot, admission, state.format()) {
                                    Some(session) => break Stay::Session(session),
                                    // The app is full: the client comes back by itself.
                                    None => break Stay::No,
                                }
                            }
                            Err(refusal) => {
                                self.counters.session_refusals_total += 1;
                                tracing::debug!(code = refusal.code(), "a session was refused");
                                state.refuse(&refusal, &mut out);
                            }
                        }
                    }
                },
            }
        };
        if !out.is_empty() {
            self.connections.send(slot, &out);
        }
        let Some(connection) = self.connections.live(slot) else { return };
        match stay {
            Stay::Yes => connection.protocol = Protocol::Lobby(lobby),
            Stay::No => self.leave_lobby(slot),
            Stay::BackEnd(scope) => self.begin_back_end(slot, *lobby, scope, &mut input[at..]),
            Stay::Session(session) => {
                let Lobby { decoder, .. } = *lobby;
                connection.protocol = Protocol::WebSocket { decoder, session };
                self.feed_frames(slot, &mut input[at..]);
            }
        }
    }

    /// Opens a session for a client that was admitted. `None`: the app is full.
    fn begin_session(
        &mut self,
        slot: ConnectionSlot,
        Admission { app, echo, claims }: Admission,
        format: dialect::Format,
    ) -> Option<SessionSlot> {
        let Self { engine, config, .. } = self;
        let opening =
            engine::Opening { app: &app, format, echo: Some(echo), claims, connection: slot.0, ticket: None };
        let limits = WelcomeLimits {
            ping_interval_ms: u64::from(config.ping_interval_ms),
            frame_bytes: config.frame_bytes,
            message_bytes: app.limits.message_bytes,
            profile_bytes: app.limits.profile_bytes,
            channels: usize::from(app.limits.channels_per_connection),
        };
        let welcome = |out: &mut BytesMut, session, user: Option<&str>| {
            let welcome = Welcome { session, user, app: &app.name, limits, ticket: None, resumed: None };
            dialect::encode_welcome(format, out, &welcome);
        };
        let Ok(session) = engine.open(opening, |_| {}, welcome) else {
            self.counters.app_full_total += 1;
            return None;
        };
        tracing::debug!(app = %app.name, session = %engine.session_id(session), "a session begins");
        Some(session)
    }

    /// Ends a WebSocket that has no session.
    fn leave_lobby(&mut self, slot: ConnectionSlot) {
        self.out.clear();
        put_frame(&mut self.out, OpCode::Close, &[]);
        self.connections.send(slot, &self.out);
        self.linger_detached(slot);
    }

    /// The deadline of a WebSocket without a session: it is kept alive for some time.
    pub(super) fn on_lobby_due(&mut self, slot: ConnectionSlot) {
        let now = self.now;
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::Lobby(lobby) = &connection.protocol else { return };
        let patience = ticks(dialect::Lobby::PATIENCE_MS);
        if now >= lobby.began.saturating_add(patience) {
            self.counters.request_timeouts_total += 1;
            return self.leave_lobby(slot);
        }
        let (last, format) = (lobby.began.saturating_add(patience), lobby.state.format());
        let heartbeat = dialect::heartbeat(format, u64::from(self.config.ping_interval_ms));
        self.out.clear();
        heartbeat.beat.put(&mut self.out);
        self.connections.send(slot, &self.out);
        let next = now.saturating_add(beats(heartbeat.interval_ms));
        self.arm(slot, next.min(last).max(now + 1));
    }

    fn lobby_interval(&self, state: &dialect::Lobby) -> Tick {
        beats(dialect::heartbeat(state.format(), u64::from(self.config.ping_interval_ms)).interval_ms)
    }

    fn now_steady_ms(&self) -> u64 {
        self.clock.elapsed_ms()
    }
}

/// An interval between beats.
pub(super) fn beats(interval_ms: u64) -> Tick {
    Tick::try_from(interval_ms / TICK_MS).unwrap_or(Tick::MAX).max(1)
}
