//! The requests by which the console enters a worker: for each dialect the handshake of one of its clients.

use bytes::BytesMut;
use fanfare_core::{
    app::App,
    dialect::Dialect,
    json::write_string,
    ws::{OpCode, put_masked_frame},
};

/// The parts of a console's request that a handshake contains.
#[derive(Default)]
pub(super) struct Visitor<'a> {
    /// The key of the browser's WebSocket handshake.
    pub(super) nonce: &'a str,
    /// The subprotocol that the page offers.
    pub(super) subprotocol: Option<&'a str>,
    /// A session token, or nothing.
    pub(super) session: String,
    /// The id of a connection that a back end's call made, or nothing.
    pub(super) conn_id: String,
}

impl Visitor<'_> {
    /// The first bytes that a worker reads from this console.
    ///
    /// # Errors
    /// Why the console cannot be a client of this dialect, in a sentence.
    pub(super) fn handshake(&self, app: &App, dialect: Dialect) -> Result<Vec<u8>, &'static str> {
        let key = app.keys.client_key();
        match dialect {
            Dialect::Native => {
                let key = key.ok_or("The app has no client key.")?;
                let Self { session, .. } = self;
                let session = if session.is_empty() { String::new() } else { format!("&session={session}") };
                let path = format!("/v1/ws?app={}&binary=base64{session}", app.name);
                Ok(self.upgrade(&path, &format!("x-fanfare-key: {key}\r\n")))
            }
            Dialect::Agnost => {
                let own = app.agnost.as_ref().ok_or(NOT_SERVED)?;
                let mut handshake = self.upgrade("/realtime/realtime/?EIO=4&transport=websocket", "");
                let mut connect = BytesMut::from(&b"40{\"echoMessages\":true"[..]);
                let session = Some(&*self.session).filter(|session| !session.is_empty());
                for (name, value) in [("envId", Some(&*own.env_id)), ("apiKey", key), ("session", session)] {
                    let Some(value) = value else { continue };
                    connect.extend_from_slice(b",");
                    write_string(&mut connect, name);
                    connect.extend_from_slice(b":");
                    write_string(&mut connect, value);
                }
                connect.extend_from_slice(b"}");
                let mut frame = BytesMut::new();
                put_masked_frame(&mut frame, OpCode::Text, &connect, [0; 4]);
                handshake.extend_from_slice(&frame);
                Ok(handshake)
            }
            Dialect::Channelstream => {
                let own = app.channelstream.as_ref().ok_or(NOT_SERVED)?;
                Ok(self.upgrade(&format!("{}/ws?conn_id={}", own.prefix, self.conn_id), ""))
            }
            Dialect::Xano => {
                let own = app.xano.as_ref().ok_or(NOT_SERVED)?;
                let offered =
                    self.subprotocol.map(|offered| format!("sec-websocket-protocol: {offered}\r\n"));
                Ok(self.upgrade(&format!("/rt/{}", own.canonical), &offered.unwrap_or_default()))
            }
        }
    }

    fn upgrade(&self, path: &str, headers: &str) -> Vec<u8> {
        let nonce = self.nonce;
        format!(
            "GET {path} HTTP/1.1\r\nhost: dashboard\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {nonce}\r\n{headers}\r\n"
        )
        .into_bytes()
    }
}

/// The names of the dialects that an app serves.
pub(super) fn dialects(app: &App) -> impl Iterator<Item = &'static str> {
    let served = |dialect: &Dialect| match dialect {
        Dialect::Native => true,
        Dialect::Agnost => app.agnost.is_some(),
        Dialect::Channelstream => app.channelstream.is_some(),
        Dialect::Xano => app.xano.is_some(),
    };
    Dialect::ALL.iter().filter(move |dialect| served(dialect)).map(|dialect| dialect.name())
}

const NOT_SERVED: &str = "The app does not serve this dialect.";
