//! The connection of a back end, which sends an access token in its CONNECT. A back end's connection has no
//! session and is a member of no channel. Each event of the connection names its app.
//!
//! ```text
//!   message ──▶ BackEnd::handle ──▶ (app, acknowledgement, BackEndCommand)
//!                                   outcome of get_members ──▶ BackEnd::put_members
//! ```

use std::borrow::Cow;

use bytes::BytesMut;

use super::{
    Carried,
    content::Content,
    encode::put_member,
    event::{is_truthy, name_and_object},
    framing,
    mixed::{self, is_forged, is_mixed, split},
};
use crate::{
    app::{App, Apps, Environment, KeyRole, Visitor},
    command::{BackEndCommand, Publish},
    dialect::Format,
    engineio::Framing,
    error::ReplyError,
    json::{self, Object, Raw, Scanner},
    publication::{IdentityCard, Payload},
    socketio::{
        AckId, Connection, INVALID_NAMESPACE, Incoming, MAIN_NAMESPACE, Outgoing, Payload as Packet,
        RESERVED_EVENTS, put_ack, put_connect_error,
    },
    ws::Message,
};

/// The [`note`](crate::publication::Given::note) of an event for a user, whose message is
/// `{"session":…,"user":…}`.
pub(super) const USER_NOTE: &str = "user_event";

/// The apps that a back end may name.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Scope {
    /// The apps that have this server key.
    Key {
        /// The key.
        key: Box<str>,
        /// When the key expires, in Unix seconds.
        expires_at: Option<u64>,
    },
    /// Every app.
    Everything,
}

impl Scope {
    /// The apps that an access token of this visitor opens; `None` if the token opens no app.
    pub(super) fn of(apps: &Apps, token: &str, visitor: &Visitor<'_>) -> Option<Self> {
        if apps.is_access_token(token) {
            return Some(Self::Everything);
        }
        let grants = apps.iter().filter(|app| app.agnost.is_some());
        let grants = grants.filter_map(|app| app.admit_key(token, visitor).ok());
        let grants = grants.filter(|grant| grant.role == KeyRole::Server);
        let ends = grants.map(|grant| grant.expires_at.unwrap_or(u64::MAX));
        let first = ends.min()?;
        Some(Self::Key { key: token.into(), expires_at: (first < u64::MAX).then_some(first) })
    }

    /// When the back end's key expires, in Unix seconds.
    pub fn expires_at(&self) -> Option<u64> {
        match self {
            Self::Everything => None,
            Self::Key { expires_at, .. } => *expires_at,
        }
    }

    fn includes(&self, app: &App) -> bool {
        match self {
            Self::Everything => app.agnost.is_some(),
            Self::Key { key, .. } => app.agnost.is_some() && app.keys.role(key) == Some(KeyRole::Server),
        }
    }
}

/// The state of a back end's connection.
#[derive(Debug)]
pub struct BackEnd {
    connection: Connection,
    framing: Framing,
    scope: Scope,
    scanner: Scanner,
}

/// The result of a back end's message.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Heard {
    /// The message's command was handed over, or the message needs no action.
    Done,
    /// The event is malformed, or names an app that this back end may not name. The shell counts the refusal.
    Refused(ReplyError),
    /// The back end broke the protocol or closed its connection, so the shell closes the connection.
    Over,
}

/// The acknowledgement number of an event.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Receipt(pub(super) AckId);

/// Takes a back end's command, with its app and with the receipt for its acknowledgement.
type Run<'r> = dyn FnMut(&App, Option<Receipt>, BackEndCommand<'_>) + 'r;

impl BackEnd {
    /// The state of a connection whose CONNECT was admitted.
    pub(super) fn new(connection: Connection, format: Format, scope: Scope) -> Self {
        Self { connection, framing: framing(format), scope, scanner: Scanner::new() }
    }

    /// The back end has upgraded from polling to a WebSocket.
    pub fn upgrade(&mut self) {
        self.framing = framing(Format::AgnostFrames);
    }

    /// When the back end's key expires, in Unix seconds.
    pub fn expires_at(&self) -> Option<u64> {
        self.scope.expires_at()
    }

    /// Handles a message of the back end. An immediate answer is appended to `out`.
    pub fn handle(
        &mut self,
        message: Message<'_>,
        apps: &Apps,
        now_ms: u64,
        out: &mut BytesMut,
        run: &mut Run<'_>,
    ) -> Heard {
        let incoming = match message {
            Message::Text(text) => match Carried::by(text) {
                Carried::Packet(text) => self.connection.handle_text(text, now_ms),
                Carried::Nothing => return Heard::Done,
                Carried::Close | Carried::Broken => return Heard::Over,
            },
            Message::Binary(bytes) => self.connection.handle_binary(bytes.into(), now_ms),
            _ => return Heard::Done,
        };
        match incoming {
            Ok(Some(Incoming::Event { ack, payload, .. })) => match self.read(&payload, ack, apps, run) {
                Ok(()) => Heard::Done,
                Err(error) => Heard::Refused(error),
            },
            Ok(Some(Incoming::Connect { namespace, .. })) => {
                self.connection.disconnect(namespace);
                put_connect_error(out, self.framing, namespace, INVALID_NAMESPACE);
                Heard::Done
            }
            Ok(Some(Incoming::Disconnect { namespace: MAIN_NAMESPACE })) | Err(_) => Heard::Over,
            Ok(_) => Heard::Done,
        }
    }

    /// Appends the acknowledgement of a `get_members` event.
    pub fn put_members(&self, out: &mut BytesMut, Receipt(ack): Receipt, members: &[IdentityCard]) {
        let profiles = || members.iter().filter_map(|member| member.profile.as_deref());
        let mut list = BytesMut::new();
        let attachments = match profiles().any(is_mixed) {
            false => {
                put_member_list(&mut list, members);
                Vec::new()
            }
            true => {
                // A member whose profile looks like an attachment's placeholder is sent without its profile.
                let plain = |member: &IdentityCard| {
                    let profile = member.profile.clone().filter(|profile| !is_forged(profile));
                    IdentityCard { profile, ..member.clone() }
                };
                let members: Vec<_> = members.iter().map(plain).collect();
                let mut json = BytesMut::new();
                put_member_list(&mut json, &members);
                split(&mut list, std::str::from_utf8(&json).expect("JSON is UTF-8"))
            }
        };
        let list = std::str::from_utf8(&list).expect("JSON is UTF-8");
        let (namespace, json) = (MAIN_NAMESPACE, &["[", list, "]"]);
        let answer = Outgoing { namespace, ack: Some(ack), json, attachments: &attachments };
        put_ack(out, self.framing, &answer);
    }

    fn read(
        &mut self,
        packet: &Packet<'_>,
        ack: Option<AckId>,
        apps: &Apps,
        run: &mut Run<'_>,
    ) -> Result<(), ReplyError> {
        let (name, object) = name_and_object(&mut self.scanner, &packet.json)?;
        let env_id = text(object, "envId").ok_or(UNKNOWN_APP)?;
        let app = apps.by_environment(Environment::Id(&env_id));
        let app = app.filter(|app| self.scope.includes(app)).ok_or(UNKNOWN_APP)?;
        match &*name {
            "send_message" => {
                let channel = text(object, "channelName").ok_or(ReplyError::InvalidChannel)?;
                publish(app, Some(&channel), object, packet, run)
            }
            "broadcast_message" => publish(app, None, object, packet, run),
            "user_event" => {
                let user = text(object, "userId").filter(|user| !user.is_empty());
                let user = user.ok_or(ReplyError::InvalidCommand("An event for a user has a userId."))?;
                let event = event_name(object)?;
                let json = |name| object.member(name).map_or("null", Raw::as_str);
                let message = [r#"{"session":"#, json("session"), r#","user":"#, json("user"), "}"].concat();
                let message = mixed::join(&message, &packet.attachments)?;
                let (payload, note) = (Payload::Json(&message), Some(USER_NOTE.into()));
                run(app, None, BackEndCommand::PublishToUser { user: &user, event: &event, payload, note });
                Ok(())
            }
            "get_members" => {
                let channel = text(object, "channel").ok_or(ReplyError::InvalidChannel)?;
                run(app, ack.map(Receipt), BackEndCommand::AllMembers(&channel));
                Ok(())
            }
            _ => Err(ReplyError::UnknownCommand),
        }
    }
}

const UNKNOWN_APP: ReplyError = ReplyError::InvalidCommand("There is no such envId for this access token.");

fn publish(
    app: &App,
    channel: Option<&str>,
    object: Object<'_, '_>,
    packet: &Packet<'_>,
    run: &mut Run<'_>,
) -> Result<(), ReplyError> {
    let event = event_name(object)?;
    let content = Content::read(object.member("message").map(Raw::as_str), &packet.attachments)?;
    let payload: Payload<'_> = content.payload();
    run(app, None, BackEndCommand::publish(Publish::new(channel, &event, payload)));
    Ok(())
}

/// A string member of an object. A value that is false in JavaScript counts as missing.
fn text<'a>(object: Object<'_, 'a>, name: &str) -> Option<Cow<'a, str>> {
    object.member(name).filter(|value| is_truthy(*value)).and_then(Raw::as_string)
}

/// The event's name. Names that the protocol reserves are refused.
fn event_name<'a>(object: Object<'_, 'a>) -> Result<Cow<'a, str>, ReplyError> {
    let name = text(object, "eventName").ok_or(ReplyError::InvalidEvent)?;
    match RESERVED_EVENTS.contains(&&*name) {
        true => Err(ReplyError::ReservedEvent),
        false => Ok(name),
    }
}

/// Appends members as a JSON array.
pub(super) fn put_member_list(json: &mut BytesMut, members: &[IdentityCard]) {
    json::write_array(json, members, put_member);
}
