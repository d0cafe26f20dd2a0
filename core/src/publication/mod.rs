//! Publications: the messages and notices that sessions receive, with their audiences. Every dialect encodes
//! from this vocabulary. A publication is data, and holds no dialect's text.

mod audience;
mod body;
mod given;
mod owned;
mod user;

use std::sync::Arc;

pub(crate) use self::{audience::EVERYONE, owned::text};
pub use self::{
    audience::{Audience, WithoutUser},
    body::{Body, IdentityCard, Kind},
    given::{Given, GivenTime},
    owned::{Lost, OwnedPayload, OwnedPublication},
    user::{KnownUser, UserCard, UserChange, UserState, UserValue},
};

use crate::id::{MessageId, SessionId};

/// A payload as its sender wrote it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Payload<'a> {
    /// Well-formed JSON, never re-serialised.
    Json(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// JSON's `null`.
    pub const NULL: Self = Self::Json("null");

    /// Inverse of [`Payload::bytes`] and [`Payload::is_binary`].
    pub(crate) fn restored(bytes: &'a [u8], is_binary: bool) -> Self {
        if is_binary { Payload::Binary(bytes) } else { Payload::Json(text(bytes)) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it is empty; JSON never is.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Whether it is no JSON.
    pub(crate) fn is_binary(&self) -> bool {
        matches!(self, Payload::Binary(_))
    }

    /// As its sender wrote it.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self {
            Payload::Json(json) => json.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

/// Who sent a message.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Sender<'a> {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: Option<&'a str>,
    /// The sender's profile, in apps that show profiles with messages.
    pub profile: Option<&'a Arc<str>>,
    /// Whether receivers are told.
    pub shown: bool,
}

/// A publication on its way, borrowing its text: what encoders read.
#[derive(Copy, Clone, Debug)]
pub struct Publication<'a> {
    /// Its id; of a change, the changed message's.
    pub id: MessageId,
    /// Position in the channel's stream, from 1; `None` for a publication without one.
    pub offset: Option<u64>,
    /// What it tells.
    pub body: Body<'a>,
    /// Who is meant.
    pub audience: &'a Audience,
    /// Who sent it, if that is remembered or shown.
    pub sender: Option<Sender<'a>>,
    /// Until it is published: whether history may keep it. From then on: whether it does.
    pub kept: bool,
    /// When the message was last edited, in Unix milliseconds.
    pub edited_ms: Option<u64>,
    /// The fields that the back end decided.
    pub given: Option<&'a Arc<Given>>,
}

impl<'a> Publication<'a> {
    /// A publication for everyone, without sender, that history does not keep.
    pub fn new(id: MessageId, body: Body<'a>) -> Self {
        let (audience, sender) = (&EVERYONE, None);
        Self { id, offset: None, body, audience, sender, kept: false, edited_ms: None, given: None }
    }

    /// The same, with a message as its body.
    pub fn message(id: MessageId, event: &'a str, payload: Payload<'a>) -> Self {
        Self::new(id, Body::Message { event, payload })
    }

    /// The time at which the message was sent, in Unix milliseconds: the back end's time, or the time in the
    /// id.
    pub fn time_ms(&self) -> u64 {
        let given = self.given.and_then(|given| given.time.as_ref());
        given.map_or_else(|| self.id.time_ms(), |time| time.unix_ms)
    }

    /// The sender's name that a back end gave.
    pub fn label(&self) -> Option<&'a str> {
        self.given.and_then(|given| given.label.as_deref())
    }

    /// What it tells, without its data.
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// Name of the event of a message, or of the message that an edit replaces; else empty.
    pub fn event(&self) -> &'a str {
        match self.body {
            Body::Message { event, .. } | Body::Edit { event, .. } => event,
            _ => "",
        }
    }

    /// Payload of a message or an edit; else `null`.
    pub fn payload(&self) -> Payload<'a> {
        match self.body {
            Body::Message { payload, .. } | Body::Edit { payload, .. } => payload,
            _ => Payload::NULL,
        }
    }
}

#[cfg(test)]
mod tests;
