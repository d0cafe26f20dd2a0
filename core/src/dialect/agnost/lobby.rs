//! A WebSocket before its session: from the open packet to a CONNECT that is granted.
//!
//! ```text
//!   put_open ─▶ handle ─▶ CONNECT ─▶ Knock::Asks ─ admitted ─▶ the session takes the WebSocket over
//!                  │                      └─ refused ─▶ refuse ─▶ only the client's close is awaited
//!                  └─ anything that does not belong here ─▶ Knock::Over
//! ```

use std::sync::Arc;

use bytes::BytesMut;

use super::{BackEnd, FRAMING, Refusal, Scope, life::engine_config};
use crate::{
    dialect::{Format, Heartbeat},
    engineio::{self, Upgrades, put_open},
    secret::Secret,
    socketio::{
        Config, Connection, INVALID_NAMESPACE, Incoming, MAIN_NAMESPACE, put_connect, put_connect_error,
    },
    ws::Message,
};

/// The state of a WebSocket that has no session yet.
#[derive(Debug)]
pub struct Lobby {
    connection: Connection,
    refusal: Answered,
}

/// Whether a refusal was sent. There is one for each WebSocket, so that a peer needs a handshake for every
/// token it has checked.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Answered {
    No,
    Refused,
}

/// What a message in a lobby comes to.
#[derive(Eq, PartialEq, Debug)]
pub enum Knock<'a> {
    /// Nothing, or what was appended to the output.
    Waits,
    /// The client asks for a session.
    Asks {
        /// The payload of its CONNECT: a JSON object.
        auth: Option<&'a str>,
    },
    /// The client broke the protocol or has closed: the WebSocket is to be closed.
    Over,
}

impl Lobby {
    /// How long a WebSocket may be without a session, in milliseconds.
    pub const PATIENCE_MS: u32 = 45_000;
    /// Bytes of a message in a lobby.
    pub const MESSAGE_BYTES: usize = 16 << 10;

    /// That of a WebSocket that was opened at `now_ms` of a clock that never steps back.
    pub fn new(now_ms: u64) -> Self {
        let config = Config { connect_timeout_ms: Self::PATIENCE_MS, ..Config::default() };
        Self { connection: Connection::new(Arc::new(config), now_ms), refusal: Answered::No }
    }

    /// The format of the session that may begin.
    pub fn format(&self) -> Format {
        Format::AgnostFrames
    }

    /// Appends what a client receives first. `sid` names the WebSocket, and nobody else knows it.
    pub fn put_open(&self, out: &mut BytesMut, sid: Secret, heartbeat: Heartbeat, frame_bytes: usize) {
        let sid = sid.text();
        let sid = std::str::from_utf8(&sid).expect("a secret's text is ASCII");
        put_open(out, FRAMING, sid, Upgrades::None, &engine_config(heartbeat, frame_bytes));
    }

    /// A message; what is answered at once is appended to `out`.
    pub fn handle<'a>(&mut self, message: Message<'a>, now_ms: u64, out: &mut BytesMut) -> Knock<'a> {
        let text = match message {
            Message::Text(text) => match engineio::Packet::from_text(text) {
                Ok(engineio::Packet::Text(text)) => text,
                Ok(
                    engineio::Packet::Pong(_)
                    | engineio::Packet::Noop
                    | engineio::Packet::Upgrade
                    | engineio::Packet::Open(_),
                ) => return Knock::Waits,
                Ok(_) | Err(_) => return Knock::Over,
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
                    put_connect_error(out, FRAMING, namespace, INVALID_NAMESPACE);
                }
                Knock::Waits
            }
            _ => Knock::Over,
        }
    }

    /// Grants the CONNECT of a back end. `id` names its connection, and nothing else.
    pub fn admit_back_end(mut self, scope: Scope, id: Secret, out: &mut BytesMut) -> BackEnd {
        let accepted = self.connection.accept(MAIN_NAMESPACE);
        debug_assert!(accepted.is_ok(), "its CONNECT is being answered");
        let id = id.text();
        let id = std::str::from_utf8(&id).expect("a secret's text is ASCII");
        put_connect(out, FRAMING, MAIN_NAMESPACE, id);
        BackEnd::new(self.connection, scope)
    }

    /// Appends why no session begins. The WebSocket stays until its client closes it.
    pub fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        self.refusal = Answered::Refused;
        if self.connection.refuse(MAIN_NAMESPACE).is_ok() {
            put_connect_error(out, FRAMING, MAIN_NAMESPACE, &refusal.payload());
        }
    }
}
