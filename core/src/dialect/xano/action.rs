//! Actions of a client: from the text of a frame to a command.

use std::{borrow::Cow, sync::Arc};

use hashbrown::HashMap;

use crate::{
    app::{App, XanoChannel},
    channel::PageStart,
    command::{Command, Publish},
    error::ReplyError,
    id::{SessionId, SessionSlot},
    json::{Document, Object, Raw, Scanner},
    limits::PAGE,
    publication::{Audience, Payload},
    ws::Message,
};

/// The event of a message: the protocol has none of its own.
pub(super) const MESSAGE: &str = "message";

/// The sessions of a worker: of which app each is.
#[derive(Default)]
pub(in crate::dialect) struct Sessions {
    apps: HashMap<SessionSlot, Arc<App>, foldhash::fast::RandomState>,
    scanner: Scanner,
    options_scanner: Scanner,
}

/// What one message says of a channel.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The channel's name as JSON, which answers repeat.
    name: &'a str,
    channel: Cow<'a, str>,
    verb: Result<Verb<'a>, ReplyError>,
}

#[derive(Copy, Clone, Debug)]
enum Verb<'a> {
    Join,
    Leave,
    History,
    /// A message for a channel's members, or for one of them.
    Message {
        payload: Payload<'a>,
        to: Option<SessionId>,
    },
}

impl Sessions {
    /// A session of this app begins.
    pub(in crate::dialect) fn begin(&mut self, slot: SessionSlot, app: &Arc<App>) {
        self.apps.insert(slot, app.clone());
    }

    /// A session has ended.
    pub(in crate::dialect) fn end(&mut self, slot: SessionSlot) {
        self.apps.remove(&slot);
    }

    /// Reads a session's message.
    ///
    /// # Errors
    /// For what has no action or names no channel: nobody could be told.
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
        let options = frame.member("options").ok_or(ReplyError::InvalidChannel)?;
        let Ok(Document::Object(options)) = self.options_scanner.scan(options.as_str()) else {
            return Err(ReplyError::InvalidChannel);
        };
        let name = options.member("channel").ok_or(ReplyError::InvalidChannel)?;
        let channel = name.as_string().ok_or(ReplyError::InvalidChannel)?;
        let row = self.apps.get(&slot).and_then(|app| app.xano.as_ref()?.channel(&channel));
        let verb = match row {
            Some(row) => verb(&action, row, options, frame.member("payload")),
            None => Err(ReplyError::InvalidCommand("There is no channel of this name.")),
        };
        Ok(Frame { name: name.as_str(), channel, verb })
    }
}

fn verb<'a>(
    action: &str,
    _row: &XanoChannel,
    options: Object<'_, 'a>,
    payload: Option<Raw<'a>>,
) -> Result<Verb<'a>, ReplyError> {
    match action {
        "join" => Ok(Verb::Join),
        "leave" => Ok(Verb::Leave),
        "history" => Ok(Verb::History),
        "message" => {
            let to = options.member("socketId").filter(|id| !id.is_null()).map(session).transpose()?;
            Ok(Verb::Message {
                payload: payload.map_or(Payload::NULL, |json| Payload::Json(json.as_str())),
                to,
            })
        }
        _ => Err(ReplyError::UnknownCommand),
    }
}

fn session(id: Raw<'_>) -> Result<SessionId, ReplyError> {
    let id = id.as_string().and_then(|id| SessionId::parse(&id));
    id.ok_or(ReplyError::InvalidCommand("socketId is not that of a client."))
}

impl<'a> Frame<'a> {
    /// What answers name: the channel, as JSON.
    pub(in crate::dialect) fn id(&self) -> Option<&'a str> {
        Some(self.name)
    }

    /// The command.
    pub(in crate::dialect) fn command(&self) -> Result<Command<'_>, ReplyError> {
        let channel = &*self.channel;
        Ok(match self.verb? {
            Verb::Join => Command::Join { channel, echo: Some(false), since: None, notices: None },
            Verb::Leave => Command::Leave { channel, echo: Some(false) },
            Verb::History => Command::History { channel, from: PageStart::Before(u64::MAX), limit: PAGE },
            Verb::Message { payload, to } => {
                let audience = to
                    .map(|session| Box::new(Audience { only_session: Some(session), ..Audience::default() }));
                let publish = Publish::new(Some(channel), MESSAGE, payload);
                Command::Publish(Publish { echo: Some(true), audience, ..publish })
            }
        })
    }
}
