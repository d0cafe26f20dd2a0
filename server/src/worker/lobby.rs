//! WebSockets before their sessions, in dialects whose clients authenticate by a message.
//!
//! The engine does not know lobbies. A lobby's output goes to the socket at once, and a session's output goes
//! out with the turn.

use std::net::IpAddr;

use bytes::BytesMut;
use fanfare_core::{
    app::Visitor,
    dialect::{self, Admission, Entrance, Format, Knock, Scope, Welcome, WelcomeLimits},
    engine,
    http::Head,
    id::SessionSlot,
    ws::{DecodeLimits, Decoder, Message},
};

use super::{
    Worker,
    bare::{Bare, BareInput, beats},
    clients::terms,
    deadlines::ticks,
    http::Next,
};
use crate::{
    connection::{Client, ConnectionSlot, Lobby, Protocol},
    http::{access, agnost},
    timers::Tick,
};

/// The sender of a message before its session begins.
#[derive(Copy, Clone)]
pub(super) struct Caller<'a> {
    /// The number of the client's connection or outlet.
    pub(super) slot: ConnectionSlot,
    /// The origin of the client's page.
    pub(super) origin: Option<&'a str>,
    pub(super) address: Option<IpAddr>,
}

/// Whether a lobby goes on.
pub(super) enum Stay {
    Yes,
    /// The lobby is over.
    No,
    /// A session has begun.
    Session(SessionSlot),
    /// A back end was admitted.
    BackEnd(Scope),
}

impl Worker {
    /// Turns the connection into a WebSocket without a session.
    pub(super) fn enter_lobby(
        &mut self,
        slot: ConnectionSlot,
        head: &Head<'_>,
        opening: &agnost::Opening,
    ) -> Next {
        self.out.clear();
        let state = dialect::Lobby::new(Format::AgnostFrames, self.clock.elapsed_ms());
        opening.put(&mut self.out, &state, &self.config);
        self.connections.send(slot, &self.out);
        self.count_handshake(slot);
        let due = self.now.saturating_add(self.lobby_interval(&state));
        let origin = access::origin(head).map(Into::into);
        let address = self.keep_client(slot, head);
        let Some(connection) = self.connections.live(slot) else { return Next::End };
        let lobby = Lobby { decoder: Decoder::new(), state, origin, address, began: self.now };
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
        // If this function panics, the connection is closing.
        let Protocol::Lobby(mut lobby) = std::mem::replace(&mut connection.protocol, Protocol::Closing)
        else {
            return;
        };
        connection.heard = self.now;
        let limits = DecodeLimits {
            message_bytes: dialect::Lobby::MESSAGE_BYTES.min(self.config.frame_bytes),
            fragments: self.config.fragments,
        };
        let mut input = BareInput::new(input, limits);
        let mut out = BytesMut::new();
        let stay = loop {
            let Lobby { decoder, state, origin, address, .. } = &mut *lobby;
            let caller = Caller { slot, origin: origin.as_deref(), address: *address };
            match input.next(decoder, &mut out) {
                Bare::Nothing => break Stay::Yes,
                Bare::Control => {}
                Bare::Over => break Stay::No,
                Bare::Message(message) => match self.knock(caller, state, message, &mut out) {
                    Stay::Yes => {}
                    end => break end,
                },
            }
        };
        if !out.is_empty() {
            self.connections.send(slot, &out);
        }
        let Some(connection) = self.connections.live(slot) else { return };
        match stay {
            Stay::Yes => connection.protocol = Protocol::Lobby(lobby),
            Stay::No => self.close_bare(slot),
            Stay::BackEnd(scope) => self.begin_back_end(slot, *lobby, scope, input.rest()),
            Stay::Session(session) => {
                let Lobby { decoder, .. } = *lobby;
                connection.protocol = Protocol::WebSocket { decoder, session };
                self.feed_frames(slot, input.rest());
            }
        }
    }

    /// Handles a message of a client without a session. An immediate answer is appended to `out`.
    pub(super) fn knock(
        &mut self,
        caller: Caller<'_>,
        state: &mut dialect::Lobby,
        message: Message<'_>,
        out: &mut BytesMut,
    ) -> Stay {
        let auth = match state.handle(message, self.clock.elapsed_ms(), out) {
            Knock::Waits => return Stay::Yes,
            Knock::Over => return Stay::No,
            Knock::Asks { auth } => auth,
        };
        let apps = self.engine.apps().clone();
        let engine = &mut self.engine;
        let verify = |app: &_, token: &_| engine.verify_session(app, token);
        let now_s = self.now_ms / 1000;
        let visitor = Visitor { origin: caller.origin, address: caller.address, now_s };
        let entrance = dialect::admit(&apps, auth, &visitor, verify);
        self.count_forged_tokens(|_| caller.address);
        match entrance {
            Ok(Entrance::BackEnd(scope)) => Stay::BackEnd(scope),
            // If the app is full, the client retries by itself.
            Ok(Entrance::Session(admission)) => {
                self.begin_session(caller, admission, state.format()).map_or(Stay::No, Stay::Session)
            }
            Err(refusal) => {
                self.counters.session_refusals_total += 1;
                self.metrics.count_refusal(state.format().dialect());
                if refusal.is_wrong_key() {
                    self.count_failed_key(caller.address);
                }
                let (address, code) = (Client(caller.address), refusal.code());
                tracing::debug!(%address, code, "a session was refused");
                state.refuse(&refusal, out);
                Stay::Yes
            }
        }
    }

    /// Opens the session of an admitted client; `None` if the app is full.
    fn begin_session(
        &mut self,
        caller: Caller<'_>,
        Admission { app, echo, claims, key_expires_at }: Admission,
        format: dialect::Format,
    ) -> Option<SessionSlot> {
        let Self { engine, config, .. } = self;
        let opening = engine::Opening {
            app: &app,
            format,
            echo: Some(echo),
            claims,
            connection: caller.slot.0,
            ticket: None,
        };
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
        engine.set_terms(session, terms(&app, caller.address, key_expires_at));
        let (session_id, address) = (engine.session_id(session), Client(caller.address));
        tracing::debug!(app = %app.name, session = %session_id, %address, "a session begins");
        Some(session)
    }

    /// Handles the deadline of a WebSocket without a session: sends a heartbeat, or closes the WebSocket if
    /// its peer has been silent for the heartbeat's time-out, or has had no session for some time.
    pub(super) fn on_lobby_due(&mut self, slot: ConnectionSlot) {
        let now = self.now;
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::Lobby(lobby) = &connection.protocol else { return };
        let patience = ticks(dialect::Lobby::PATIENCE_MS);
        if now >= lobby.began.saturating_add(patience) {
            self.counters.request_timeouts_total += 1;
            return self.close_bare(slot);
        }
        let (last, format) = (lobby.began.saturating_add(patience), lobby.state.format());
        let heartbeat = dialect::heartbeat(format, u64::from(self.config.ping_interval_ms));
        if now.saturating_sub(connection.heard) >= beats(heartbeat.timeout_ms) {
            self.counters.ping_timeouts_total += 1;
            return self.close_bare(slot);
        }
        self.send_beat(slot, &heartbeat);
        let next = now.saturating_add(beats(heartbeat.interval_ms));
        self.arm(slot, next.min(last).max(now + 1));
    }

    pub(super) fn lobby_interval(&self, state: &dialect::Lobby) -> Tick {
        beats(dialect::heartbeat(state.format(), u64::from(self.config.ping_interval_ms)).interval_ms)
    }
}
