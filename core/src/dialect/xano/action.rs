//! Actions of a client: reads the text of a frame as a command.

use std::{borrow::Cow, sync::Arc};

use hashbrown::HashMap;

use crate::{
    app::{App, AppId, Apps, XanoChannel},
    channel::PageStart,
    command::{Command, Publish},
    error::ReplyError,
    id::{SessionId, SessionSlot},
    json::{Document, Object, Raw, Scanner},
    limits::PAGE,
    publication::{Audience, Payload, WithoutUser},
    ws::Message,
};

/// The event of a message. The protocol has no events of messages.
pub(super) const MESSAGE: &str = "message";

/// The Xano sessions of a worker, with the app of each session.
#[derive(Default)]
pub(in crate::dialect) struct Sessions {
    sessions: HashMap<SessionSlot, AppId, foldhash::fast::RandomState>,
    /// The apps of the sessions in their present form.
    apps: HashMap<AppId, Arc<App>, foldhash::fast::RandomState>,
    scanner: Scanner,
    options_scanner: Scanner,
}

/// One message of a client about a channel.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The channel's name as JSON, which answers repeat. A command that follows a join has the options as
    /// JSON here.
    name: &'a str,
    options: &'a str,
    channel: Cow<'a, str>,
    verb: Result<Verb<'a>, ReplyError>,
}

#[derive(Copy, Clone, Debug)]
enum Verb<'a> {
    Join {
        presence: bool,
        history: bool,
        /// What the client asks for, as JSON.
        asks: &'static str,
    },
    /// The list of members, after a join.
    Roster,
    Leave,
    History,
    /// A message to a channel's members, or to one of them.
    Message {
        payload: Payload<'a>,
        to: Option<SessionId>,
        signed_in: WithoutUser,
    },
}

impl Sessions {
    /// Begins a session of this app.
    pub(in crate::dialect) fn begin(&mut self, slot: SessionSlot, app: &Arc<App>) {
        self.sessions.insert(slot, app.id);
        self.apps.insert(app.id, app.clone());
    }

    /// Replaces the apps by apps with the same ids.
    pub(in crate::dialect) fn set_apps(&mut self, apps: &Apps) {
        self.apps.iter_mut().for_each(|(id, app)| *app = apps.of(*id).clone());
    }

    /// Forgets a session that has ended.
    pub(in crate::dialect) fn end(&mut self, slot: SessionSlot) {
        self.sessions.remove(&slot);
    }

    /// Reads a session's message.
    ///
    /// # Errors
    /// A frame without an action or without a channel, to which no answer is possible.
    pub(in crate::dialect) fn read<'a>(
        &mut self,
        slot: SessionSlot,
        message: Message<'a>,
    ) -> Result<Frame<'a>, ReplyError> {
        let Message::Text(text) = message else { return Err(ReplyError::InvalidBinary) };
        let Ok(Document::Object(frame)) = self.scanner.scan(text) else {
            return Err(ReplyError::MalformedJson);
        };
        let action = frame.member("action").and_then(Raw::as_string).filter(|action| !action.is_empty());
        let action = action.ok_or(ReplyError::UnknownCommand)?;
        let raw_options = frame.member("options").ok_or(ReplyError::InvalidChannel)?.as_str();
        let Ok(Document::Object(options)) = self.options_scanner.scan(raw_options) else {
            return Err(ReplyError::InvalidChannel);
        };
        let name = options.member("channel").ok_or(ReplyError::InvalidChannel)?;
        let channel = name.as_string().ok_or(ReplyError::InvalidChannel)?;
        let app = self.sessions.get(&slot).and_then(|id| self.apps.get(id));
        let row = app.and_then(|app| app.xano.as_ref()?.channel(&channel));
        let verb = match row {
            Some(row) => verb(&action, row, options, frame.member("payload")),
            None => Err(ReplyError::InvalidCommand("There is no channel of this name.")),
        };
        Ok(Frame { name: name.as_str(), options: raw_options, channel, verb })
    }
}

fn verb<'a>(
    action: &str,
    row: &XanoChannel,
    options: Object<'_, 'a>,
    payload: Option<Raw<'a>>,
) -> Result<Verb<'a>, ReplyError> {
    match action {
        "join" => Ok(join(row, payload)),
        "leave" => Ok(Verb::Leave),
        "history" => Ok(Verb::History),
        "message" => {
            let to = options.given("socketId").map(session).transpose()?;
            Ok(Verb::Message {
                payload: payload.map_or(Payload::NULL, |json| Payload::Json(json.as_str())),
                to,
                signed_in: match options.member("authenticated").and_then(Raw::as_bool) {
                    Some(true) => WithoutUser::Excluded,
                    _ => WithoutUser::AsOthers,
                },
            })
        }
        _ => Err(ReplyError::UnknownCommand),
    }
}

/// Reads which answers a join's payload asks for. A client gets no members if the channel's setting forbids
/// presence, and an empty history if the channel has none.
fn join<'a>(row: &XanoChannel, payload: Option<Raw<'_>>) -> Verb<'a> {
    let mut scanner = Scanner::new();
    let payload = payload.map(|payload| scanner.scan(payload.as_str()));
    let asks = |name| match &payload {
        Some(Ok(Document::Object(payload))) => payload.member(name).and_then(Raw::as_bool) == Some(true),
        _ => false,
    };
    let (history, presence) = (asks("history"), asks("presence"));
    let asks = match (history, presence) {
        (false, false) => r#"{"history":false,"presence":false}"#,
        (false, true) => r#"{"history":false,"presence":true}"#,
        (true, false) => r#"{"history":true,"presence":false}"#,
        (true, true) => r#"{"history":true,"presence":true}"#,
    };
    Verb::Join { presence: row.presence && presence, history, asks }
}

fn session(id: Raw<'_>) -> Result<SessionId, ReplyError> {
    let id = id.as_string().and_then(|id| SessionId::parse(&id));
    id.ok_or(ReplyError::InvalidCommand("socketId is not that of a client."))
}

impl<'a> Frame<'a> {
    /// The number of commands: a join may also ask for the members and for history.
    pub(in crate::dialect) fn len(&self) -> usize {
        match self.verb {
            Ok(Verb::Join { presence, history, .. }) => 1 + usize::from(presence) + usize::from(history),
            _ => 1,
        }
    }

    /// The command at `place`.
    pub(in crate::dialect) fn at(&self, place: usize) -> Self {
        let verb = match (self.verb, place) {
            (Ok(Verb::Join { presence: true, .. }), 1) => Ok(Verb::Roster),
            (Ok(Verb::Join { .. }), 1..) => Ok(Verb::History),
            (verb, _) => verb,
        };
        let name = if place > 0 { self.options } else { self.name };
        Self { name, options: self.options, channel: self.channel.clone(), verb }
    }

    /// The id that answers repeat: the channel as JSON, or, for a command that follows a join, the options as
    /// JSON.
    pub(in crate::dialect) fn id(&self) -> Option<&'a str> {
        Some(self.name)
    }

    /// The frame as a command.
    pub(in crate::dialect) fn command(&self) -> Result<Command<'_>, ReplyError> {
        let channel = &*self.channel;
        Ok(match self.verb? {
            Verb::Join { presence, asks, .. } => Command::Join {
                channel,
                echo: Some(false),
                since: None,
                notices: Some(presence),
                payload: Payload::Json(asks),
            },
            Verb::Roster => Command::Roster { channel },
            Verb::Leave => Command::Leave { channel, echo: Some(false) },
            Verb::History => Command::History { channel, from: PageStart::Before(u64::MAX), limit: PAGE },
            Verb::Message { payload, to, signed_in } => {
                let audience = Audience { only_session: to, without_user: signed_in, ..Audience::default() };
                let audience = Some(audience).filter(|audience| !audience.is_everyone()).map(Box::new);
                let publish = Publish::new(Some(channel), MESSAGE, payload);
                Command::Publish(Publish { echo: Some(true), audience, ..publish })
            }
        })
    }
}
