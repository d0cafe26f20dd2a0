//! One command as it stands in its frame: which members it has, and what each says.

use std::{borrow::Cow, cell::OnceCell};

use crate::{
    error::ReplyError,
    json::{Object, Raw},
    limits::COMMAND_ID_BYTES,
    publication::Payload,
};

/// The members that a command may have.
#[derive(Copy, Clone)]
pub(super) enum Name {
    Type,
    Channel,
    Event,
    Message,
    Id,
    Echo,
    Token,
    Profile,
    Limit,
    By,
    After,
    Before,
    Since,
    NoHistory,
    MessageId,
    IdempotencyKey,
    ToUsers,
    ExceptUsers,
    ToSession,
    SignedIn,
    Notices,
}

/// Number of names.
const NAMES: usize = Name::Notices as usize + 1;

impl Name {
    #[inline]
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "type" => Self::Type,
            "channel" => Self::Channel,
            "event" => Self::Event,
            "message" => Self::Message,
            "id" => Self::Id,
            "echo" => Self::Echo,
            "token" => Self::Token,
            "profile" => Self::Profile,
            "limit" => Self::Limit,
            "by" => Self::By,
            "after" => Self::After,
            "before" => Self::Before,
            "since" => Self::Since,
            "no_history" => Self::NoHistory,
            "message_id" => Self::MessageId,
            "idempotency_key" => Self::IdempotencyKey,
            "to_users" => Self::ToUsers,
            "except_users" => Self::ExceptUsers,
            "to_session" => Self::ToSession,
            "signed_in" => Self::SignedIn,
            "notices" => Self::Notices,
            _ => return None,
        })
    }
}

/// A command as it stands in the frame: its members are read when they are asked for.
pub struct Envelope<'s, 'a> {
    /// `None`: the element of the batch is no object.
    object: Option<Object<'s, 'a>>,
    /// Of a binary message: the payload behind the envelope.
    pub(super) payload: Option<&'a [u8]>,
    /// Which member has each name, counted from 1; 0: no member has it.
    places: [u8; NAMES],
    /// Text without the escapes it was written with, for commands to borrow.
    channel: OnceCell<String>,
    event: OnceCell<String>,
    pub(super) other: OnceCell<String>,
}

const CHANNEL: &str = "channel must be a string.";
const EVENT: &str = "event must be a string.";

impl<'s, 'a> Envelope<'s, 'a> {
    /// Finds the members that a command may have; others are ignored.
    #[inline]
    pub fn read(object: Object<'s, 'a>) -> Self {
        let mut places = [0; NAMES];
        for (place, key) in (1..).zip(object.keys()) {
            if let Some(name) = Name::read(&key.name()) {
                places[name as usize] = place;
            }
        }
        Self { object: Some(object), places, ..Self::not_an_object() }
    }

    /// The envelope of a binary message, and the payload behind it.
    pub(super) fn read_binary(object: Object<'s, 'a>, payload: &'a [u8]) -> Self {
        Self { payload: Some(payload), ..Self::read(object) }
    }

    pub(super) fn not_an_object() -> Self {
        Self {
            object: None,
            payload: None,
            places: [0; NAMES],
            channel: OnceCell::new(),
            event: OnceCell::new(),
            other: OnceCell::new(),
        }
    }

    /// The object, unless the element of the batch is none.
    #[inline]
    pub(super) fn object(&self) -> Option<Object<'s, 'a>> {
        self.object
    }

    /// Which member has this name.
    #[inline]
    pub(super) fn place(&self, name: Name) -> Option<usize> {
        usize::from(self.places[name as usize]).checked_sub(1)
    }

    #[inline]
    pub(super) fn member(&self, name: Name) -> Option<Raw<'a>> {
        Some(self.object?.value(self.place(name)?))
    }

    /// The member, if it is not `null`.
    #[inline]
    pub(super) fn given(&self, name: Name) -> Option<Raw<'a>> {
        self.member(name).filter(|value| !value.is_null())
    }

    /// A member that should be a string.
    #[inline]
    pub(super) fn string(&self, name: Name, wrong: &'static str) -> Result<Option<Cow<'a, str>>, ReplyError> {
        let Some(value) = self.member(name) else { return Ok(None) };
        match value.as_string() {
            None if !value.is_null() => Err(ReplyError::InvalidCommand(wrong)),
            text => Ok(text),
        }
    }

    /// The decoded string. The string borrows from the frame if the frame has no escapes in it, and else from
    /// `decoded`, which belongs to this member alone.
    #[inline]
    pub(super) fn text<'e>(
        &'e self,
        name: Name,
        decoded: &'e OnceCell<String>,
        wrong: &'static str,
    ) -> Result<Option<&'e str>, ReplyError> {
        Ok(match self.string(name, wrong)? {
            Some(Cow::Borrowed(text)) => Some(text),
            Some(Cow::Owned(text)) => Some(decoded.get_or_init(|| text)),
            None => None,
        })
    }

    #[inline]
    pub(super) fn channel(&self) -> Result<&str, ReplyError> {
        self.optional_channel()?.ok_or(ReplyError::InvalidCommand(CHANNEL))
    }

    #[inline]
    pub(super) fn optional_channel(&self) -> Result<Option<&str>, ReplyError> {
        self.text(Name::Channel, &self.channel, CHANNEL)
    }

    pub(super) fn token(&self) -> Result<&str, ReplyError> {
        let wrong = "token must be a string.";
        self.text(Name::Token, &self.other, wrong)?.ok_or(ReplyError::InvalidCommand(wrong))
    }

    #[inline]
    pub(super) fn event(&self) -> Result<&str, ReplyError> {
        self.text(Name::Event, &self.event, EVENT)?.ok_or(ReplyError::InvalidCommand(EVENT))
    }

    /// The message as it was written; `null` if there is none.
    #[inline]
    pub(super) fn message(&self) -> Payload<'a> {
        Payload::Json(self.member(Name::Message).map_or("null", Raw::as_str))
    }

    /// The command's id as JSON, if it has a valid one.
    #[inline]
    pub fn id(&self) -> Option<&'a str> {
        let id = self.given(Name::Id)?;
        let fits = id.is_number() && id.as_str().len() <= COMMAND_ID_BYTES
            || id.as_string().is_some_and(|text| text.len() <= COMMAND_ID_BYTES);
        fits.then_some(id.as_str())
    }

    #[inline]
    pub(super) fn kind(&self) -> Result<Cow<'a, str>, ReplyError> {
        self.is_object()?;
        if self.given(Name::Id).is_some() && self.id().is_none() {
            return Err(ReplyError::InvalidCommand("id must be a number, or a string of at most 64 bytes."));
        }
        let wrong = ReplyError::InvalidCommand("type must be a string.");
        self.member(Name::Type).and_then(Raw::as_string).ok_or(wrong)
    }

    #[inline]
    pub(super) fn is_object(&self) -> Result<(), ReplyError> {
        match self.object {
            None => Err(ReplyError::InvalidCommand("A command is an object.")),
            Some(_) => Ok(()),
        }
    }
}
