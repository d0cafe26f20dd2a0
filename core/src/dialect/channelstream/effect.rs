//! The effects of a directory's changes, and the engine's commands that they ask for.

use std::sync::Arc;

use super::frames::EVENT;
use crate::{
    app::{App, HistoryLimits},
    command::{AmendMessage, BackEndCommand, Disconnection, Membership, OptionsChange, Publish, PublishAs},
    id::{MessageId, SessionId},
    publication::{Audience, Given, Payload},
    trigger::Triggers,
};

/// The triggers have decided before the directory applies a call, and the directory remembers the message.
const TRIGGERS: Triggers = Triggers::PassBy;

/// A change that has to happen outside the directory.
#[derive(Debug)]
pub enum Effect {
    /// Clients receive a message or a notice.
    Tell(Box<Tell>),
    /// A client's session enters or leaves a channel.
    Enroll {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: Box<str>,
        /// Whether the session enters or leaves the channel.
        membership: Membership,
    },
    /// A client's session has another profile: the public state of its user.
    Profile {
        /// The session.
        session: SessionId,
        /// The profile, as JSON.
        profile: Box<str>,
    },
    /// Clients of other dialects are told of a change of a user's state, as the channels' options say.
    Announce {
        /// The user.
        user: Box<str>,
        /// The version of the state since the change.
        version: u64,
        /// The changed keys.
        changed: Vec<Box<str>>,
    },
    /// The histories of all dialects keep at least so many messages of a channel.
    Remember {
        /// The channel.
        channel: Box<str>,
        /// The number of messages.
        messages: u32,
    },
    /// A client's session ends.
    End {
        /// The session.
        session: SessionId,
    },
}

/// A message or a notice, with its receivers.
#[derive(Debug)]
pub struct Tell {
    /// The channel; `None`: the users of the audience, in whatever channels they are.
    pub channel: Option<Box<str>>,
    /// The audience of the message or the notice.
    pub audience: Audience,
    /// The message or the notice.
    pub what: What,
}

/// The content of a message or a notice.
#[derive(Debug)]
pub enum What {
    /// A message.
    Message {
        /// The message.
        content: Content,
        /// Whether histories may keep it.
        history: bool,
    },
    /// A message has another content from now on.
    Edit(Content),
    /// The message with this id is deleted.
    Delete(MessageId),
    /// A frame that only this dialect can express, without the brackets around it.
    Words(Arc<str>),
}

/// The content of a message, or its content after an edit.
#[derive(Debug)]
pub struct Content {
    /// The message's id.
    pub id: MessageId,
    /// The payload, if one is given.
    pub payload: Option<Box<str>>,
    /// The time, the name and the further members that the back end gave.
    pub given: Given,
}

impl Effect {
    /// Whether the call's answer waits until the effect has happened.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::Enroll { .. })
    }

    /// The engine's command that makes the effect happen.
    pub fn command(&self, app: &App) -> BackEndCommand<'_> {
        match self {
            Self::Tell(tell) => tell.command(),
            Self::Enroll { session, channel, membership } => {
                BackEndCommand::Enroll { session: *session, channel, membership: *membership }
            }
            Self::Profile { session, profile } => BackEndCommand::SetProfile { session: *session, profile },
            Self::Announce { user, version, changed } => {
                BackEndCommand::AnnounceUser { user, version: *version, changed }
            }
            Self::Remember { channel, messages } => remember(app, channel, *messages),
            Self::End { session } => {
                BackEndCommand::Disconnect { whom: Disconnection::Session(*session), reconnect: true }
            }
        }
    }
}

/// Has a channel's history keep as many messages as its configuration says, and at least `messages`.
fn remember<'a>(app: &App, channel: &'a str, messages: u32) -> BackEndCommand<'a> {
    let configured = app.channel_options(channel).history;
    let age_ms = u32::try_from(*HistoryLimits::AGE_S.end() * 1000).ok();
    let change = match messages > configured.messages {
        true => OptionsChange {
            history_messages: Some(messages),
            history_age_ms: age_ms,
            ..OptionsChange::default()
        },
        false => OptionsChange::default(),
    };
    BackEndCommand::SetOptions { channel, change, only_new: false }
}

impl Tell {
    /// The command that sends clients a back end's message or a notice.
    fn command(&self) -> BackEndCommand<'_> {
        let Self { channel, audience, what } = self;
        let (channel, audience) = (channel.as_deref(), audience.clone());
        match what {
            What::Words(words) => BackEndCommand::Tell { channel, audience, words: words.clone() },
            What::Message { content, history } => {
                let payload = content.payload.as_deref().map_or(Payload::NULL, Payload::Json);
                let publish = Publish::new(channel, EVENT, payload);
                let publish = Publish { history: *history, audience: Some(Box::new(audience)), ..publish };
                let (id, given) = (Some(content.id), content.given.clone());
                let triggers = TRIGGERS;
                BackEndCommand::PublishAs(PublishAs { publish, id, given, only_existing: true, triggers })
            }
            What::Edit(Content { id, payload, given }) => BackEndCommand::Amend(AmendMessage {
                deletes: false,
                payload: payload.as_deref().map(Payload::Json),
                given: given.clone(),
                ..deletion(channel, *id, audience)
            }),
            What::Delete(id) => BackEndCommand::Amend(deletion(channel, *id, audience)),
        }
    }
}

/// The deletion of a message. An edit differs from it in the fields that it sets.
fn deletion(channel: Option<&str>, id: MessageId, audience: Audience) -> AmendMessage<'_> {
    let given = Given::default();
    AmendMessage { channel, id, deletes: true, payload: None, audience, given, triggers: TRIGGERS }
}
