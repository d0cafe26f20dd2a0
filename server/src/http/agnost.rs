//! HTTP requests of Agnost's clients: Engine.IO requests, read and refused as the original does.

use bytes::BytesMut;
use fanfare_core::{
    app::Apps,
    dialect::{self, Ask, Format, Lobby, PollAnswer},
    engineio::{Action, Carrier, Method, Query, RequestError, Route, Transport},
    http::Head,
    secret::Secret,
    ws::{self, Accept, Upgrade},
};

use super::reply::Reply;
use crate::{config::Config, sys::secret};

/// The beginnings of the paths of Agnost's and of Altogic's clients.
const PATHS: [&str; 2] = ["/realtime/", "/socket.io/"];

/// The methods in the answer to a preflight.
const METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE";

/// Whether a request is for Agnost's clients, on a server with such an app.
pub(crate) fn is_for(apps: &Apps, head: &Head<'_>) -> bool {
    PATHS.iter().any(|path| head.path.starts_with(path)) && apps.serve_agnost()
}

/// The purpose of a request.
pub(crate) enum Asked {
    /// A browser's CORS preflight.
    Preflight,
    /// The request opens a WebSocket.
    WebSocket(Opening),
    /// The request opens a client that polls.
    Polling,
    /// The request belongs to the client that this secret names.
    Client {
        /// The secret; `None` if the name is not a secret.
        secret: Option<Secret>,
        /// The purpose of the request, or the answer to a request that no existing client may send.
        ask: Result<Ask, PollAnswer>,
    },
}

impl Asked {
    /// Reads a request, with checks in the original's order.
    ///
    /// # Errors
    /// The answer to the first check that fails.
    pub(crate) fn read(head: &Head<'_>) -> Result<Self, PollAnswer> {
        if head.method == "OPTIONS" {
            return Ok(Self::Preflight);
        }
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let carrier = if upgrade.is_requested() { Carrier::Upgrade } else { Carrier::Http };
        let query = Query::parse(head.query.unwrap_or_default())?;
        Ok(match query.route(Method::new(head.method), carrier)? {
            Route::Open(Transport::WebSocket) if head.body.is_empty() => {
                let accept = upgrade.accept().map_err(|_| RequestError::BadRequest)?;
                Self::WebSocket(Opening { accept })
            }
            Route::Open(Transport::Polling) if head.body.is_empty() => Self::Polling,
            Route::Open(_) => return Err(RequestError::BadRequest.into()),
            Route::Session { sid, action } => {
                Self::Client { secret: Secret::parse(sid), ask: action.map(ask).map_err(PollAnswer::from) }
            }
        })
    }
}

fn ask(action: Action) -> Ask {
    match action {
        Action::Poll => Ask::Poll,
        Action::Post => Ask::Post,
        Action::Upgrade => Ask::Upgrade,
    }
}

/// The answer to a request for an unknown client.
pub(crate) fn unknown() -> PollAnswer {
    RequestError::UnknownSession.into()
}

/// The answer to a client that is refused now.
pub(crate) fn forbidden() -> PollAnswer {
    RequestError::Forbidden.into()
}

/// The answer to a malformed WebSocket handshake.
pub(crate) fn bad_request() -> PollAnswer {
    RequestError::BadRequest.into()
}

/// A handshake that opens a WebSocket.
pub(crate) struct Opening {
    accept: Accept,
}

impl Opening {
    /// Appends the handshake's response and the first packet.
    pub(crate) fn put(&self, out: &mut BytesMut, lobby: &Lobby, config: &Config) {
        ws::put_response(out, &self.accept, None);
        let heartbeat = dialect::heartbeat(Format::AgnostFrames, u64::from(config.ping_interval_ms));
        lobby.put_open(out, secret(), heartbeat, config.frame_bytes);
    }
}

/// Appends the answer to a preflight, which allows every page every request.
pub(crate) fn put_preflight(out: &mut BytesMut, head: &Head<'_>, reply: &Reply) {
    let mut headers = vec![("access-control-allow-methods", METHODS)];
    if let Some(asked) = head.header_str("access-control-request-headers") {
        headers.push(("access-control-allow-headers", asked));
        headers.push(("vary", "access-control-request-headers"));
    }
    reply.put(out, 204, &headers, b"");
}
