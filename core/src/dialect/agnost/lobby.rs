//! A client without a session: from the open packet to an admitted CONNECT.
//!
//! ```text
//!   put_open ─▶ handle ─▶ CONNECT ─▶ Knock::Asks ─ admitted ─▶ the session takes the WebSocket over
//!                  │                      └─ refused ─▶ refuse ─▶ only the client's close is awaited
//!                  └─ anything that does not belong here ─▶ Knock::Over
//! ```

use std::sync::Arc;

use bytes::BytesMut;

use super::{BackEnd, Carried, Refusal, Scope, framing, life::engine_config};
use crate::{
    dialect::{Format, Heartbeat},
    engineio::{Upgrades, put_open},
    secret::Secret,
    socketio::{
        Config, Connection, INVALID_NAMESPACE, Incoming, MAIN_NAMESPACE, put_connect, put_connect_error,
    },
    ws::Message,
};

/// The state of a client that has no session yet.
#[derive(Debug)]
pub struct Lobby {
    format: Format,
    connection: Connection,
    refusal: Answered,
}

/// Whether the lobby has sent a refusal. A WebSocket gets one refusal, so a peer pays a handshake for every
/// token that the server checks.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Answered {
    No,
    Refused,
}

/// The result of a message in a lobby.
#[derive(Eq, PartialEq, Debug)]
pub enum Knock<'a> {
    /// The client waits; an answer may have been appended to the output.
    Waits,
    /// The client asks for a session.
    Asks {
        /// The payload of the client's CONNECT: a JSON object.
        auth: Option<&'a str>,
    },
    /// The client broke the protocol or closed, so the shell closes the WebSocket.
    Over,
}

impl Lobby {
    /// The milliseconds that a WebSocket may be without a session.
    pub const PATIENCE_MS: u32 = 45_000;
    /// The most bytes of a message in a lobby.
    pub const MESSAGE_BYTES: usize = 16 << 10;

    /// The lobby of a client that receives `format` and came at `now_ms` of a clock that never steps back.
    pub fn new(format: Format, now_ms: u64) -> Self {
        let config = Config { connect_timeout_ms: Self::PATIENCE_MS, ..Config::default() };
        Self { format, connection: Connection::new(Arc::new(config), now_ms), refusal: Answered::No }
    }

    /// The format of the client's future session.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The client has upgraded from polling to a WebSocket.
    pub fn upgrade(&mut self) {
        self.format = Format::AgnostFrames;
    }

    /// Appends the open packet. Only the server and the client know `sid`, which names the WebSocket.
    pub fn put_open(&self, out: &mut BytesMut, sid: Secret, heartbeat: Heartbeat, frame_bytes: usize) {
        let sid = sid.text();
        let sid = std::str::from_utf8(&sid).expect("a secret's text is ASCII");
        put_open(out, framing(self.format), sid, Upgrades::None, &engine_config(heartbeat, frame_bytes));
    }

    /// Handles a client's message. An immediate answer is appended to `out`.
    pub fn handle<'a>(&mut self, message: Message<'a>, now_ms: u64, out: &mut BytesMut) -> Knock<'a> {
        let text = match message {
            Message::Text(text) => match Carried::by(text) {
                Carried::Packet(text) => text,
                Carried::Nothing => return Knock::Waits,
                Carried::Close | Carried::Broken => return Knock::Over,
            },
            _ => return Knock::Over,
        };
        match self.connection.handle_text(text, now_ms) {
            Ok(Some(Incoming::Connect { namespace: MAIN_NAMESPACE, auth })) => match self.refusal {
                Answered::No => Knock::Asks { auth },
                Answered::Refused => Knock::Over,
            },
            Ok(Some(Incoming::Connect { namespace, .. })) => {
                if self.connection.refuse(namespace).is_ok() {
                    put_connect_error(out, framing(self.format), namespace, INVALID_NAMESPACE);
                }
                Knock::Waits
            }
            _ => Knock::Over,
        }
    }

    /// Admits the CONNECT of a back end. `id` names the back end's connection in the answer.
    pub fn admit_back_end(mut self, scope: Scope, id: Secret, out: &mut BytesMut) -> BackEnd {
        let accepted = self.connection.accept(MAIN_NAMESPACE);
        debug_assert!(accepted.is_ok(), "its CONNECT is being answered");
        let id = id.text();
        let id = std::str::from_utf8(&id).expect("a secret's text is ASCII");
        put_connect(out, framing(self.format), MAIN_NAMESPACE, id);
        BackEnd::new(self.connection, self.format, scope)
    }

    /// Appends the refusal of a CONNECT. The WebSocket stays open until its client closes it.
    pub fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        self.refusal = Answered::Refused;
        if self.connection.refuse(MAIN_NAMESPACE).is_ok() {
            put_connect_error(out, framing(self.format), MAIN_NAMESPACE, &refusal.payload());
        }
    }
}
