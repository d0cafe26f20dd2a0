//! WebSocket handshakes of Xano's clients: the path names the app, and the subprotocol is a session token.
//! The answer always repeats the subprotocol, because a client closes the connection otherwise.

use bytes::BytesMut;
use fanfare_core::{
    app::Apps,
    dialect::{
        Format,
        xano::{Admission, Stranger, admit, canonical_at, put_stranger},
    },
    engine::Engine,
    http::Head,
    ws::{self, Accept, Upgrade},
};

use super::{
    access,
    reply::Problem,
    upgrade::{Handshake, refusal},
};

/// Whether a request is for Xano's clients, on a server with such an app.
pub(crate) fn is_for(apps: &Apps, head: &Head<'_>) -> bool {
    canonical_at(head.path).is_some() && apps.serve_xano()
}

/// A handshake that opens a WebSocket.
pub(crate) enum Arrival<'a> {
    /// A session may begin.
    Client(Handshake<'a>),
    /// No app admits this client. The refusal is sent on the WebSocket, because a client retries after an
    /// HTTP error.
    Stranger(Farewell<'a>),
}

/// The answer to a client that no app admits.
pub(crate) struct Farewell<'a> {
    accept: Accept,
    token: Option<&'a str>,
    stranger: Stranger,
}

impl<'a> Arrival<'a> {
    /// Reads and checks a handshake. Nothing is opened yet.
    ///
    /// # Errors
    /// If the request is not a WebSocket handshake.
    pub(crate) fn read(engine: &mut Engine, head: &Head<'a>) -> Result<Self, Problem> {
        if !head.body.is_empty() {
            return Err(Problem::invalid("A WebSocket handshake has no body."));
        }
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let accept = upgrade.accept().map_err(refusal)?;
        let token = upgrade.protocols().next();
        let origin = access::origin(head);
        let canonical = canonical_at(head.path).unwrap_or_default();
        let apps = engine.apps().clone();
        let verify = |app: &_, token: &_| engine.verify_session(app, token);
        Ok(match admit(&apps, canonical, (token, origin), verify) {
            Ok(Admission { app, claims }) => Self::Client(Handshake {
                app,
                format: Format::XanoFrames,
                echo: Some(true),
                claims,
                key_expires_at: None,
                resume: None,
                command: None,
                accept,
                subprotocol: token,
            }),
            Err(stranger) => Self::Stranger(Farewell { accept, token, stranger }),
        })
    }
}

impl Farewell<'_> {
    /// The reason of the refusal in one sentence.
    pub(crate) fn sentence(&self) -> &'static str {
        self.stranger.sentence()
    }

    /// Appends the handshake's response and the last frames that the client receives.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        ws::put_response(out, &self.accept, self.token);
        put_stranger(out, self.stranger);
    }
}
