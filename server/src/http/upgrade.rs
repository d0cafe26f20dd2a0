//! The WebSocket handshake: from a request to what is needed to open a session, or to resume one.

use std::{borrow::Cow, sync::Arc};

use bytes::BytesMut;
use fanfare_core::{
    app::{App, InvalidSession, Visitor},
    dialect::{self, Format, Welcome, WelcomeLimits},
    engine::Engine,
    http::Head,
    id::SessionId,
    json::write_string,
    secret::Secret,
    token::Claims,
    ws::{self, Accept, HandshakeError, Upgrade},
};

use super::{
    access::{Parameters, check_client_key, check_origin, find_app, session_token},
    reply::Problem,
};
use crate::config::Config;

/// The subprotocol of the native dialect.
const SUBPROTOCOL: &str = "fanfare.v1";

/// The code of a refusal because the app has as many connections as it may.
pub(crate) const APP_FULL: &str = "too_many_connections";

/// A handshake that may open a session, or resume one.
pub(crate) struct Handshake<'a> {
    pub(crate) app: Arc<App>,
    pub(crate) format: Format,
    pub(crate) echo: Option<bool>,
    pub(crate) claims: Option<Claims>,
    /// When the client's key expires, in Unix seconds.
    pub(crate) key_expires_at: Option<u64>,
    /// The session that the client wants to go on with.
    pub(crate) resume: Option<Resume>,
    /// The session's first command, if the handshake brings one.
    pub(crate) command: Option<String>,
    pub(super) accept: Accept,
    pub(super) subprotocol: Option<&'a str>,
}

/// What a client says of the session that it wants to go on with.
#[derive(Copy, Clone)]
pub(crate) struct Resume {
    /// `None`: the text is no ticket of any server.
    pub(crate) ticket: Option<Secret>,
    /// Data frames that the client has received in the session.
    pub(crate) received: Option<u64>,
}

impl<'a> Handshake<'a> {
    /// Reads and checks a handshake. Nothing is opened yet.
    pub(crate) fn read(engine: &mut Engine, head: &Head<'a>, visitor: &Visitor<'_>) -> Result<Self, Problem> {
        if !head.body.is_empty() {
            return Err(Problem::invalid("A WebSocket handshake has no body."));
        }
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let accept = upgrade.accept().map_err(refusal)?;
        let parameters = Parameters::read(head.query)?;
        let app = find_app(engine.apps(), &parameters)?.clone();
        check_origin(&app, head)?;
        let key_expires_at = check_client_key(&app, head, &parameters, visitor)?;
        let token = session_token(head, &parameters)?;
        let claims = match (token.map(|token| engine.verify_session(&app, token)), app.invalid_session) {
            (None, _) | (Some(Err(_)), InvalidSession::Anonymous) => None,
            (Some(Ok(claims)), _) => Some(claims),
            (Some(Err(error)), InvalidSession::Refuse) => {
                return Err(Problem::new(401, error.code(), error.to_string()));
            }
        };
        Ok(Self {
            format: format(&parameters)?,
            echo: echo(&parameters)?,
            claims,
            key_expires_at,
            resume: resume(&parameters)?,
            command: parameters.join.as_deref().map(join),
            accept,
            subprotocol: upgrade.protocols().find(|offered| *offered == SUBPROTOCOL),
            app,
        })
    }

    /// Appends the response that makes a WebSocket of the connection.
    pub(crate) fn put_response(&self, out: &mut BytesMut) {
        ws::put_response(out, &self.accept, self.subprotocol);
    }

    /// Appends the session's first message.
    pub(crate) fn put_welcome(&self, out: &mut BytesMut, config: &Config, greeted: Greeted<'_>) {
        let limits = &self.app.limits;
        let welcome = Welcome {
            session: greeted.session,
            user: greeted.user,
            app: &self.app.name,
            limits: WelcomeLimits {
                ping_interval_ms: u64::from(config.ping_interval_ms),
                frame_bytes: config.frame_bytes,
                message_bytes: limits.message_bytes,
                profile_bytes: limits.profile_bytes,
                channels: usize::from(limits.channels_per_connection),
            },
            ticket: greeted.ticket,
            resumed: self.resume.map(|_| greeted.outcome == Outcome::Resumed),
        };
        dialect::encode_welcome(self.format, out, &welcome);
    }
}

/// The session that is welcomed.
pub(crate) struct Greeted<'a> {
    pub(crate) session: SessionId,
    pub(crate) user: Option<&'a str>,
    pub(crate) ticket: Option<Secret>,
    pub(crate) outcome: Outcome,
}

/// What a handshake led to.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Outcome {
    Opened,
    Resumed,
}

/// The command to join a channel.
fn join(channel: &str) -> String {
    let mut command = BytesMut::from(&b"{\"id\":\"join\",\"type\":\"join\",\"channel\":"[..]);
    write_string(&mut command, channel);
    command.extend_from_slice(b"}");
    String::from_utf8(command.into()).expect("JSON is UTF-8")
}

fn resume(parameters: &Parameters<'_>) -> Result<Option<Resume>, Problem> {
    let received = match parameters.received.as_deref().map(str::parse) {
        None => None,
        Some(Ok(received)) => Some(received),
        Some(Err(_)) => return Err(Problem::invalid("received is a number of messages.")),
    };
    Ok(parameters.resume.as_deref().map(|text| Resume { ticket: Secret::parse(text), received }))
}

fn format(parameters: &Parameters<'_>) -> Result<Format, Problem> {
    match parameters.binary.as_deref() {
        None | Some("frames") => Ok(Format::Native),
        Some("base64") => Ok(Format::NativeText),
        Some(_) => Err(Problem::invalid("binary is frames or base64.")),
    }
}

fn echo(parameters: &Parameters<'_>) -> Result<Option<bool>, Problem> {
    match parameters.echo.as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Problem::invalid("echo is true or false.")),
    }
}

pub(super) fn refusal(error: HandshakeError) -> Problem {
    let detail: Cow<'static, str> = format!("{error}.").into();
    let code = match error.status() {
        426 => "upgrade_required",
        405 => "method_not_allowed",
        505 => "version_not_supported",
        _ => "invalid_request",
    };
    Problem::new(error.status(), code, detail).with(error.headers())
}
