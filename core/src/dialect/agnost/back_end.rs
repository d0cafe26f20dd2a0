//! The connection of a back end: one that says an access token in its CONNECT. It is no session and no
//! member of anything; each of its events names the app that it is about.
//!
//! ```text
//!   message ──▶ BackEnd::handle ──▶ (app, acknowledgement, BackEndCommand)
//!                                   outcome of get_members ──▶ BackEnd::put_members
//! ```

use std::borrow::Cow;

use bytes::BytesMut;

use super::{
    FRAMING,
    content::Content,
    encode::put_member,
    event::is_truthy,
    mixed::{self, is_forged, is_mixed, split},
};
use crate::{
    app::{App, Apps, Environment, KeyRole},
    command::{BackEndCommand, Publish},
    engineio,
    error::ReplyError,
    json::{Document, Element, Object, Raw, Scanner},
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

/// Which apps a back end may name.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Scope {
    /// Those that have this server key.
    Key(Box<str>),
    /// Every one.
    Everything,
}

impl Scope {
    /// What an access token opens; `None`: nothing.
    pub(super) fn of(apps: &Apps, token: &str) -> Option<Self> {
        if apps.is_access_token(token) {
            return Some(Self::Everything);
        }
        let key = || Self::Key(token.into());
        apps.iter().any(|app| opens(app, token)).then(key)
    }

    fn includes(&self, app: &App) -> bool {
        match self {
            Self::Everything => app.agnost.is_some(),
            Self::Key(key) => opens(app, key),
        }
    }
}

fn opens(app: &App, token: &str) -> bool {
    app.agnost.is_some() && app.key_role(token) == Some(KeyRole::Server)
}

/// The state of a back end's connection.
#[derive(Debug)]
pub struct BackEnd {
    connection: Connection,
    scope: Scope,
    scanner: Scanner,
}

/// What a message comes to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Heard {
    /// A command was handed over, or there is nothing to do.
    Done,
    /// The event makes no sense, or names an app that this back end may not name. To be counted.
    Refused(ReplyError),
    /// The back end broke the protocol or has closed: the connection is to be closed.
    Over,
}

/// Under which number an event is to be acknowledged.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Receipt(pub(super) AckId);

/// Takes a command of a back end: the app it is about, how it is to be acknowledged, and what is to be done.
type Run<'r> = dyn FnMut(&App, Option<Receipt>, BackEndCommand<'_>) + 'r;

impl BackEnd {
    /// That of a connection whose CONNECT was granted.
    pub(super) fn new(connection: Connection, scope: Scope) -> Self {
        Self { connection, scope, scanner: Scanner::new() }
    }

    /// A message. What is answered at once is appended to `out`.
    pub fn handle(
        &mut self,
        message: Message<'_>,
        apps: &Apps,
        now_ms: u64,
        out: &mut BytesMut,
        run: &mut Run<'_>,
    ) -> Heard {
        let incoming = match message {
            Message::Text(text) => match engineio::Packet::from_text(text) {
                Ok(engineio::Packet::Text(text)) => self.connection.handle_text(text, now_ms),
                Ok(
                    engineio::Packet::Pong(_)
                    | engineio::Packet::Noop
                    | engineio::Packet::Upgrade
                    | engineio::Packet::Open(_),
                ) => return Heard::Done,
                Ok(_) | Err(_) => return Heard::Over,
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
                put_connect_error(out, FRAMING, namespace, INVALID_NAMESPACE);
                Heard::Done
            }
            Ok(Some(Incoming::Disconnect { namespace: MAIN_NAMESPACE })) | Err(_) => Heard::Over,
            Ok(_) => Heard::Done,
        }
    }

    /// Appends the acknowledgement of a question for a channel's members.
    pub fn put_members(out: &mut BytesMut, Receipt(ack): Receipt, members: &[IdentityCard]) {
        let profiles = || members.iter().filter_map(|member| member.profile.as_deref());
        let mut list = BytesMut::new();
        let attachments = match profiles().any(is_mixed) {
            false => {
                put_member_list(&mut list, members);
                Vec::new()
            }
            true => {
                // What looks like an attachment is none.
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
        put_ack(out, FRAMING, &Outgoing { namespace, ack: Some(ack), json, attachments: &attachments });
    }

    fn read(
        &mut self,
        packet: &Packet<'_>,
        ack: Option<AckId>,
        apps: &Apps,
        run: &mut Run<'_>,
    ) -> Result<(), ReplyError> {
        let Ok(Document::Array(array)) = self.scanner.scan(&packet.json) else {
            return Err(ReplyError::MalformedJson);
        };
        let wrong = ReplyError::InvalidCommand("An event has a name and an object.");
        if array.len() < 2 {
            return Err(wrong);
        }
        let Element::Object(object) = array.element(1) else { return Err(wrong) };
        let name = array.element(0).raw().as_string().ok_or(wrong)?;
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

/// A member that is a string; what JavaScript takes for false is none.
fn text<'a>(object: Object<'_, 'a>, name: &str) -> Option<Cow<'a, str>> {
    object.member(name).filter(|value| is_truthy(*value)).and_then(Raw::as_string)
}

/// The protocol keeps some names for itself.
fn event_name<'a>(object: Object<'_, 'a>) -> Result<Cow<'a, str>, ReplyError> {
    let name = text(object, "eventName").ok_or(ReplyError::InvalidEvent)?;
    match RESERVED_EVENTS.contains(&&*name) {
        true => Err(ReplyError::ReservedEvent),
        false => Ok(name),
    }
}

/// Appends members as a JSON array.
pub(super) fn put_member_list(json: &mut BytesMut, members: &[IdentityCard]) {
    json.extend_from_slice(b"[");
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            json.extend_from_slice(b",");
        }
        put_member(json, member);
    }
    json.extend_from_slice(b"]");
}
