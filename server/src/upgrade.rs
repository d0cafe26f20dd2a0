//! The WebSocket handshake: from a request to a session.

use std::borrow::Cow;

use bytes::BytesMut;
use fanfare_core::{
    dialect::{self, Format, WelcomeLimits},
    engine::{Engine, Opening},
    http::Head,
    id::SessionSlot,
    json::write_string,
    ws::{self, HandshakeError, Upgrade},
};

use crate::{
    access::{Parameters, Problem, bearer, check_key, check_origin, find_app},
    config::Config,
};

/// The subprotocol of the native dialect.
const SUBPROTOCOL: &str = "fanfare.v1";

/// A session that a handshake has opened.
pub(crate) struct Opened {
    pub(crate) session: SessionSlot,
    /// Its first command, if the handshake brought one.
    pub(crate) command: Option<String>,
}

/// The code of a refusal because the app has as many connections as it may.
pub(crate) const APP_FULL: &str = "too_many_connections";

/// Opens a session for a handshake; its response, and the welcome if there is to be one, are the session's first
/// output.
pub(crate) fn upgrade(
    engine: &mut Engine,
    config: &Config,
    head: &Head<'_>,
    connection: u32,
    now_ms: u64,
    welcomes: bool,
) -> Result<Opened, Problem> {
    let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
    let accept = upgrade.accept().map_err(refusal)?;
    let parameters = Parameters::read(head.query)?;
    let node = engine.node().clone();
    let app = find_app(node.apps(), &parameters)?;
    check_origin(app, head)?;
    let key = parameters.key.as_deref().or_else(|| head.header_str("x-fanfare-key"));
    check_key(app, key)?;
    let claims = match parameters.session.as_deref().or_else(|| bearer(head)) {
        Some(token) => Some(
            app.verify_session(token, now_ms / 1000)
                .map_err(|error| Problem::new(401, error.code(), error.to_string()))?,
        ),
        None => None,
    };
    let opening = Opening {
        app,
        format: format(&parameters)?,
        echo: echo(&parameters)?,
        claims,
        connection,
        ticket: None,
    };
    let selected = upgrade.protocols().find(|offered| *offered == SUBPROTOCOL);
    let format = opening.format;
    let limits = WelcomeLimits {
        ping_interval_ms: u64::from(config.ping_interval_ms),
        frame_bytes: config.frame_bytes,
        message_bytes: app.limits.message_bytes,
        profile_bytes: app.limits.profile_bytes,
        channels: usize::from(app.limits.channels_per_connection),
    };
    let session = engine
        .open(
            opening,
            |out| ws::put_response(out, &accept, selected),
            |out: &mut BytesMut, id, user| {
                if welcomes {
                    dialect::encode_welcome(format, out, id, user, &app.name, &limits);
                }
            },
        )
        .map_err(|_| Problem::new(503, APP_FULL, "The app has as many connections as it may."))?;
    Ok(Opened { session, command: parameters.join.as_deref().map(join) })
}

/// The command to join a channel.
fn join(channel: &str) -> String {
    let mut command = BytesMut::from(&b"{\"id\":\"join\",\"type\":\"join\",\"channel\":"[..]);
    write_string(&mut command, channel);
    command.extend_from_slice(b"}");
    String::from_utf8(command.into()).expect("JSON is UTF-8")
}

fn format(parameters: &Parameters<'_>) -> Result<Format, Problem> {
    match parameters.binary.as_deref() {
        None | Some("frames") => Ok(Format::Native),
        Some("base64") => Ok(Format::NativeText),
        Some(_) => Err(Problem::new(400, "invalid_request", "binary is frames or base64.")),
    }
}

fn echo(parameters: &Parameters<'_>) -> Result<Option<bool>, Problem> {
    match parameters.echo.as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Problem::new(400, "invalid_request", "echo is true or false.")),
    }
}

fn refusal(error: HandshakeError) -> Problem {
    let detail: Cow<'static, str> = format!("{error}.").into();
    let code = match error.status() {
        426 => "upgrade_required",
        405 => "method_not_allowed",
        505 => "version_not_supported",
        _ => "invalid_request",
    };
    Problem::new(error.status(), code, detail).with(error.headers())
}
