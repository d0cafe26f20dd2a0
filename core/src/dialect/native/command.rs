//! From an envelope to a command.

use std::sync::Arc;

use super::envelope::{Envelope, Name};
use crate::{
    channel::{PageStart, Position},
    command::{ChangeMessage, Command, Cursor, Publish},
    error::ReplyError,
    id::{MessageId, SessionId},
    json::{self, Raw},
    limits::{AUDIENCE_USERS, NAME_BYTES, PAGE, PAGE_DEFAULT},
    publication::{Audience, Payload, WithoutUser},
};

impl Envelope<'_, '_> {
    /// The command.
    #[inline]
    pub fn command(&self) -> Result<Command<'_>, ReplyError> {
        if let Some(payload) = self.payload {
            return self.binary_command(payload).map(Command::Publish);
        }
        let kind = self.kind()?;
        let command = match &*kind {
            "send" | "broadcast" => Command::Publish(self.publish(&kind, self.message())?),
            "join" => Command::Join {
                channel: self.channel()?,
                echo: self.echo()?,
                since: self.given(Name::Since).map(position).transpose()?,
                notices: self.notices()?,
                payload: Payload::NULL,
            },
            "roster" => Command::Roster { channel: self.channel()? },
            "history" => {
                Command::History { channel: self.channel()?, from: self.page_from()?, limit: self.limit()? }
            }
            "edit" => Command::Change(self.edit()?),
            "delete" => Command::Change(self.deletion()?),
            "leave" => Command::Leave { channel: self.channel()?, echo: self.echo()? },
            "update" => Command::Update {
                profile: self
                    .member(Name::Profile)
                    .ok_or(ReplyError::InvalidCommand("update needs a profile."))?
                    .as_str(),
                echo: self.echo()?,
            },
            "members" if self.by_user()? => Command::Users {
                channel: self.channel()?,
                limit: self.limit()?,
                after: self.text(Name::After, &self.other, "after must be a string.")?,
            },
            "members" => Command::Members {
                channel: self.channel()?,
                limit: self.limit()?,
                after: match self.given(Name::After).map(Raw::as_string) {
                    Some(Some(text)) => Some(Cursor::parse(&text).ok_or(ReplyError::InvalidCursor)?),
                    Some(None) => return Err(ReplyError::InvalidCommand("after must be a string.")),
                    None => None,
                },
            },
            "session" => Command::Session { token: self.token()? },
            "ping" => Command::Ping,
            _ => return Err(ReplyError::UnknownCommand),
        };
        Ok(command)
    }

    /// The command of a binary message.
    fn binary_command<'e>(&'e self, payload: &'e [u8]) -> Result<Publish<'e>, ReplyError> {
        let kind = self.kind()?;
        if !matches!(&*kind, "send" | "broadcast") || self.member(Name::Message).is_some() {
            return Err(ReplyError::InvalidBinary);
        }
        self.publish(&kind, Payload::Binary(payload))
    }

    /// The publication of a back end, which has no `type`: without channel it is a broadcast.
    pub fn publication(&self) -> Result<Publish<'_>, ReplyError> {
        self.is_object()?;
        self.published(self.optional_channel()?, self.message())
    }

    /// The key by which a back end's repetition of this publication is known.
    pub fn idempotency_key(&self) -> Result<Option<&str>, ReplyError> {
        let wrong = "idempotency_key must be a string of 1 to 128 bytes.";
        self.text(Name::IdempotencyKey, &self.other, wrong)
    }

    #[inline]
    fn publish<'e>(&'e self, kind: &str, payload: Payload<'e>) -> Result<Publish<'e>, ReplyError> {
        let channel = match kind {
            "send" => Some(self.channel()?),
            _ => None,
        };
        Ok(Publish { echo: self.echo()?, ..self.published(channel, payload)? })
    }

    #[inline]
    fn published<'e>(
        &'e self,
        channel: Option<&'e str>,
        payload: Payload<'e>,
    ) -> Result<Publish<'e>, ReplyError> {
        let history = !boolean(self.given(Name::NoHistory), "no_history must be true, false or null.")?
            .unwrap_or(false);
        let event = self.event()?;
        let audience = self.audience()?.map(Box::new);
        Ok(Publish { channel, event, payload, echo: None, history, audience })
    }

    /// The edit of a message.
    pub fn edit(&self) -> Result<ChangeMessage<'_>, ReplyError> {
        let message =
            self.member(Name::Message).ok_or(ReplyError::InvalidCommand("edit needs a message."))?;
        Ok(ChangeMessage { payload: Some(Payload::Json(message.as_str())), ..self.deletion()? })
    }

    /// The deletion of a message.
    pub fn deletion(&self) -> Result<ChangeMessage<'_>, ReplyError> {
        let id = self.changed_id()?;
        let audience = self.audience()?;
        Ok(ChangeMessage { channel: self.channel()?, id, payload: None, audience })
    }

    /// The id of the message that a change names.
    pub(super) fn changed_id(&self) -> Result<MessageId, ReplyError> {
        self.is_object()?;
        let wrong = "message_id must be a message's id.";
        let id = self.string(Name::MessageId, wrong)?.and_then(|text| MessageId::parse(&text));
        id.ok_or(ReplyError::InvalidCommand(wrong))
    }

    /// Whom the message is for, if not for everyone.
    #[inline]
    pub(super) fn audience(&self) -> Result<Option<Audience>, ReplyError> {
        let names = [Name::ToSession, Name::ToUsers, Name::ExceptUsers, Name::SignedIn];
        if names.into_iter().all(|name| self.place(name).is_none()) {
            return Ok(None);
        }
        self.named_audience().map(|audience| Some(audience).filter(Audience::is_filtered))
    }

    #[cold]
    fn named_audience(&self) -> Result<Audience, ReplyError> {
        let wrong = "to_session must be a session's id.";
        let only_session = match self.string(Name::ToSession, wrong)? {
            Some(text) => Some(SessionId::parse(&text).ok_or(ReplyError::InvalidCommand(wrong))?),
            None => None,
        };
        let users = |raw: Option<Raw<'_>>| raw.map(users).transpose();
        let (only_users, except_users) =
            (users(self.given(Name::ToUsers))?, users(self.given(Name::ExceptUsers))?);
        let without_user =
            match boolean(self.given(Name::SignedIn), "signed_in must be true, false or null.")? {
                Some(true) => WithoutUser::Excluded,
                _ => WithoutUser::AsOthers,
            };
        Ok(Audience { except_session: None, only_session, only_users, except_users, without_user })
    }

    /// `after` or `before`; without both, from the newest backwards.
    fn page_from(&self) -> Result<PageStart, ReplyError> {
        let offset = |raw: Raw<'_>| {
            raw.as_u64().ok_or(ReplyError::InvalidCommand("after and before must be offsets."))
        };
        match (self.given(Name::After), self.given(Name::Before)) {
            (Some(after), None) => offset(after).map(PageStart::After),
            (None, Some(before)) => offset(before).map(PageStart::Before),
            (None, None) => Ok(PageStart::Before(u64::MAX)),
            _ => Err(ReplyError::InvalidCommand("Either after or before may be given.")),
        }
    }

    fn by_user(&self) -> Result<bool, ReplyError> {
        let wrong = "by must be session or user.";
        match self.string(Name::By, wrong)?.as_deref() {
            None | Some("session") => Ok(false),
            Some("user") => Ok(true),
            Some(_) => Err(ReplyError::InvalidCommand(wrong)),
        }
    }

    #[inline]
    fn echo(&self) -> Result<Option<bool>, ReplyError> {
        boolean(self.given(Name::Echo), "echo must be true, false or null.")
    }

    #[inline]
    fn notices(&self) -> Result<Option<bool>, ReplyError> {
        boolean(self.given(Name::Notices), "notices must be true, false or null.")
    }

    fn limit(&self) -> Result<usize, ReplyError> {
        let wrong = ReplyError::InvalidCommand("limit must be a number from 1 to 1000.");
        let Some(raw) = self.given(Name::Limit) else { return Ok(PAGE_DEFAULT) };
        let limit = raw.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or(wrong)?;
        if (1..=PAGE).contains(&limit) { Ok(limit) } else { Err(wrong) }
    }
}

fn boolean(raw: Option<Raw<'_>>, wrong: &'static str) -> Result<Option<bool>, ReplyError> {
    raw.map(|raw| raw.as_bool().ok_or(ReplyError::InvalidCommand(wrong))).transpose()
}

/// A list of users.
fn users(raw: Raw<'_>) -> Result<Arc<[Box<str>]>, ReplyError> {
    let wrong = ReplyError::InvalidCommand(
        "to_users and except_users must be lists of at most 256 users of 1 to 256 bytes.",
    );
    let mut users = Vec::new();
    for element in json::elements(raw.as_str()) {
        let user = element.ok().and_then(Raw::as_string).ok_or(wrong)?;
        if users.len() == AUDIENCE_USERS || !(1..=NAME_BYTES).contains(&user.len()) {
            return Err(wrong);
        }
        users.push(Box::from(&*user));
    }
    users.sort_unstable();
    users.dedup();
    Ok(users.into())
}

/// No stream has this epoch, but by an accident of one in 2^64.
const NO_EPOCH: u64 = 0;

/// `{"epoch","offset"}`, as the answer to a join has it.
fn position(raw: Raw<'_>) -> Result<Position, ReplyError> {
    let wrong = ReplyError::InvalidCommand("since must have epoch and offset, as a join was answered.");
    let value: serde_json::Value = serde_json::from_str(raw.as_str()).map_err(|_| wrong)?;
    // An epoch in an unknown form belongs to no stream. The join succeeds and recovers nothing.
    let epoch = match value.get("epoch").ok_or(wrong)? {
        serde_json::Value::String(text) if text.len() == 16 => {
            u64::from_str_radix(text, 16).unwrap_or(NO_EPOCH)
        }
        serde_json::Value::String(_) | serde_json::Value::Null => NO_EPOCH,
        _ => return Err(wrong),
    };
    Ok(Position { epoch, offset: value["offset"].as_u64().ok_or(wrong)? })
}
