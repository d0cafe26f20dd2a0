//! Where clients of Agnost come in: the handshake of Engine.IO, answered in its own words.

use bytes::BytesMut;
use fanfare_core::{
    app::Apps,
    dialect::{self, Format, Lobby},
    engineio::{Carrier, Method, Query, RequestError, Route, Transport},
    http::Head,
    ws::{self, Accept, Upgrade},
};

use super::reply::Reply;
use crate::{config::Config, sys::secret};

/// What the paths of Agnost's clients and of Altogic's begin with.
const PATHS: [&str; 2] = ["/realtime/", "/socket.io/"];

/// Whether a request is for clients of Agnost, in a server that has such an app.
pub(crate) fn is_for(apps: &Apps, head: &Head<'_>) -> bool {
    PATHS.iter().any(|path| head.path.starts_with(path)) && apps.serve_agnost()
}

/// A handshake that opens a WebSocket.
pub(crate) struct Opening {
    accept: Accept,
}

impl Opening {
    /// Reads a request, in the order of checks that clients know.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) fn read(head: &Head<'_>) -> Result<Self, RequestError> {
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let carrier = if upgrade.is_requested() { Carrier::Upgrade } else { Carrier::Http };
        let query = Query::parse(head.query.unwrap_or_default())?;
        match query.route(Method::new(head.method), carrier)? {
            Route::Open(Transport::WebSocket) if head.body.is_empty() => {
                let accept = upgrade.accept().map_err(|_| RequestError::BadRequest)?;
                Ok(Self { accept })
            }
            Route::Open(_) => Err(RequestError::BadRequest),
            // Sessions that others could name are of polling alone.
            Route::Session { .. } => Err(RequestError::UnknownSession),
        }
    }

    /// Appends the response and the first packet.
    pub(crate) fn put(&self, out: &mut BytesMut, lobby: &Lobby, config: &Config) {
        ws::put_response(out, &self.accept, None);
        let heartbeat = dialect::heartbeat(Format::AgnostFrames, u64::from(config.ping_interval_ms));
        lobby.put_open(out, secret(), heartbeat, config.frame_bytes);
    }
}

/// Appends a refusal as clients of Engine.IO know it; every page may read it.
pub(crate) fn put_refusal(out: &mut BytesMut, reply: &Reply, error: RequestError) {
    let headers = [("content-type", error.content_type().unwrap_or("text/plain"))];
    reply.put(out, error.status(), &headers, error.body().as_bytes());
}
