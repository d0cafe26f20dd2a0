//! A session, and which sockets play which role for it.

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::{engineio, engineio::Framing, socketio};
use mio::Token;

use crate::application::{After, Outlet, Planned};

/// What a path serves.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    /// `/engine.io/`: every message comes back.
    Echo,
    /// `/socket.io/`.
    SocketIo,
}

impl Service {
    pub(crate) fn of(path: &str) -> Option<Self> {
        if path.starts_with("/engine.io/") {
            Some(Self::Echo)
        } else if path.starts_with("/socket.io/") {
            Some(Self::SocketIo)
        } else {
            None
        }
    }
}

/// A session and its sockets.
pub(crate) struct Session {
    pub(crate) service: Service,
    pub(crate) engine: engineio::Session,
    pub(crate) connection: Option<socketio::Connection>,
    pub(crate) planned: Vec<Planned>,
    /// The held poll.
    pub(crate) poll: Option<Token>,
    /// The POST whose body arrives.
    pub(crate) post: Option<Token>,
    pub(crate) websocket: Option<Token>,
    pub(crate) probe: Option<Token>,
}

impl Session {
    pub(crate) fn new(
        service: Service,
        engine: engineio::Session,
        config: &Arc<socketio::Config>,
        now_ms: u64,
    ) -> Self {
        let is_socketio = service == Service::SocketIo;
        Self {
            service,
            engine,
            connection: is_socketio.then(|| socketio::Connection::new(Arc::clone(config), now_ms)),
            planned: Vec::new(),
            poll: None,
            post: None,
            websocket: None,
            probe: None,
        }
    }

    /// Reacts to a message; answers are appended to `out`.
    pub(crate) fn on_message(
        &mut self,
        message: engineio::Message<'_>,
        now_ms: u64,
        new_id: String,
        out: &mut BytesMut,
    ) {
        let framing = self.engine.framing();
        let Some(connection) = &mut self.connection else { return echo(framing, out, &message) };
        let after = match connection.handle_message(message, now_ms) {
            Ok(None) => After::Stay,
            Ok(Some(incoming)) => Outlet { framing, out, planned: &mut self.planned, now_ms, new_id }
                .react(connection, incoming),
            Err(_) => After::Close,
        };
        if after == After::Close {
            self.engine.close(now_ms);
        }
    }

    /// Time has passed; what is due is appended to `out`.
    pub(crate) fn on_timeout(&mut self, now_ms: u64, out: &mut BytesMut) {
        self.engine.handle_timeout(now_ms);
        let Some(connection) = &mut self.connection else { return };
        if connection.handle_timeout(now_ms).is_err() {
            self.engine.close(now_ms);
        }
        while connection.take_expired_ack(now_ms).is_some() {}
        let framing = self.engine.framing();
        let mut outlet = Outlet { framing, out, planned: &mut self.planned, now_ms, new_id: String::new() };
        outlet.send_planned(connection);
    }

    /// When [`on_timeout`](Self::on_timeout) has something to do.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let connection = self.connection.as_ref().filter(|_| self.engine.is_open());
        let planned = self.planned.iter().map(|planned| planned.due_ms).min();
        [self.engine.deadline_ms(), connection.and_then(|it| it.deadline_ms()), planned]
            .into_iter()
            .flatten()
            .min()
    }
}

fn echo(framing: Framing, out: &mut BytesMut, message: &engineio::Message<'_>) {
    match message {
        engineio::Message::Text(text) => framing.put_text(out, [*text]),
        engineio::Message::Binary(bytes) => framing.put_binary(out, bytes),
    }
}
