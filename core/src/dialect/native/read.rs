//! Commands in: frames are taken apart, and their members read when they are asked for.

use std::{borrow::Cow, cell::OnceCell, sync::Arc};

use crate::{
    channel::{PageStart, Position},
    command::{ChangeMessage, Command, Cursor, Publish},
    error::ReplyError,
    id::{MessageId, SessionId},
    json::{self, Document, Element, JsonError, Object, Raw, Scanner},
    limits::{AUDIENCE_USERS, BATCH, COMMAND_ID_BYTES, PAGE, PAGE_DEFAULT},
    publication::{Audience, Payload},
};

/// Reads commands. Keeps its tables from frame to frame, and the shape of a publication, the last that was learnt: those
/// that are written by the same code differ in channel and message alone.
#[derive(Default)]
pub struct CommandReader {
    scanner: Scanner,
    last: Template,
}

/// What differs in a publication of a known shape.
#[derive(Copy, Clone, Debug)]
pub struct TemplateMatch<'a> {
    /// The channel; `None` is a broadcast.
    pub channel: Option<&'a str>,
    /// The message, JSON.
    pub message: &'a str,
}

impl CommandReader {
    /// What differs in a frame that is otherwise the publication that was learnt.
    #[inline]
    pub fn match_template<'a>(&self, text: &'a str) -> Option<TemplateMatch<'a>> {
        let Template { before, after, .. } = &self.last;
        if before.is_empty() {
            return None;
        }
        let mut rest = text.strip_prefix(&**before)?;
        let mut channel = None;
        if !after.is_empty() {
            let (name, behind) = json::plain_string(rest)?;
            channel = Some(name);
            rest = behind.strip_prefix(&**after)?;
        }
        Some(TemplateMatch { channel, message: json::last_value(rest)? })
    }

    /// That publication with another channel and message.
    pub fn publish_from<'a>(&'a self, repeated: TemplateMatch<'a>) -> Publish<'a> {
        let Template { event, echo, history, .. } = &self.last;
        let TemplateMatch { channel, message } = repeated;
        let payload = Payload::Json(message);
        Publish { channel, event, payload, echo: *echo, history: *history, audience: None }
    }
}

/// A publication without its channel and its message.
#[derive(Default)]
struct Template {
    /// Its frame up to the channel's name, or, of a broadcast, to the message. Empty: nothing was learnt.
    before: String,
    /// From behind the name to the message, which is the last of its members. Empty: it is a broadcast.
    after: String,
    event: String,
    echo: Option<bool>,
    history: bool,
}

/// The longest beginning of a frame that is kept, in bytes.
const HEAD_BYTES: usize = 512;

impl Template {
    /// Learns from a frame, if it is of a shape that is enough to know.
    fn record(&mut self, envelope: &Envelope<'_, '_>, publish: &Publish<'_>) {
        let place = |name: Name| usize::from(envelope.places[name as usize]).checked_sub(1);
        let (Some(object), Some(message)) = (envelope.object, place(Name::Message)) else { return };
        let head = object.text_before(message);
        let is_like_others = publish.audience.is_none() && place(Name::Id).is_none();
        if !is_like_others || message + 1 != object.len() || head.len() > HEAD_BYTES {
            return;
        }
        let (before, after) = match (place(Name::Channel), publish.channel) {
            (Some(place), Some(channel)) => {
                let (before, value) = head.split_at(object.text_before(place).len());
                let Some((name, after)) = value.strip_prefix('"').and_then(json::plain_string) else {
                    return;
                };
                debug_assert_eq!(name, channel, "it has no escapes");
                (&head[..before.len() + 1], after)
            }
            (None, None) => (head, ""),
            // A broadcast with a channel is not worth knowing.
            _ => return,
        };
        before.clone_into(&mut self.before);
        after.clone_into(&mut self.after);
        publish.event.clone_into(&mut self.event);
        (self.echo, self.history) = (publish.echo, publish.history);
    }
}

/// The commands of one text frame: an object, or an array of objects.
pub struct Batch<'s, 'a>(Commands<'s, 'a>);

enum Commands<'s, 'a> {
    One(Object<'s, 'a>, &'s mut Template),
    Several(json::Array<'s, 'a>),
}

impl<'s, 'a> Batch<'s, 'a> {
    /// Takes a frame apart. Whether each command makes sense shows only when it is asked for.
    pub fn read(reader: &'s mut CommandReader, text: &'a str) -> Result<Self, ReplyError> {
        let CommandReader { scanner, last } = reader;
        match scan(scanner, text)? {
            Document::Object(object) => Ok(Self(Commands::One(object, last))),
            Document::Array(array) if array.len() > BATCH => Err(ReplyError::BatchTooLong),
            Document::Array(array) => Ok(Self(Commands::Several(array))),
            Document::Other(_) => Err(ReplyError::InvalidCommand(
                "A frame is a command, which is an object, or an array of commands.",
            )),
        }
    }

    /// Notes that `publish` is what the only command, `envelope`, says.
    pub fn record_template(&mut self, envelope: &Envelope<'_, '_>, publish: &Publish<'_>) {
        if let Commands::One(_, last) = &mut self.0 {
            last.record(envelope, publish);
        }
    }

    /// Whether it is an array.
    pub fn is_list(&self) -> bool {
        matches!(self.0, Commands::Several(_))
    }

    /// The object, if it is one.
    pub fn object(&self) -> Option<Object<'s, 'a>> {
        match &self.0 {
            Commands::One(object, _) => Some(*object),
            Commands::Several(_) => None,
        }
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        match &self.0 {
            Commands::One(..) => 1,
            Commands::Several(array) => array.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The commands, in order.
    pub fn envelopes(&self) -> impl Iterator<Item = Envelope<'s, 'a>> {
        (0..self.len()).map(|place| self.envelope(place))
    }

    /// The command at this place, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline]
    pub fn envelope(&self, place: usize) -> Envelope<'s, 'a> {
        match &self.0 {
            Commands::One(object, _) => Envelope::read(*object),
            Commands::Several(array) => match array.element(place) {
                Element::Object(object) => Envelope::read(object),
                Element::Other(_) => Envelope::not_an_object(),
            },
        }
    }
}

/// Takes a binary frame apart: length of the envelope (2 bytes, big-endian), envelope, payload.
pub fn read_binary<'s, 'a>(
    reader: &'s mut CommandReader,
    frame: &'a [u8],
) -> Result<(Envelope<'s, 'a>, &'a [u8]), ReplyError> {
    let (length, rest) = frame.split_first_chunk::<2>().ok_or(ReplyError::InvalidBinary)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (envelope, payload) = rest.split_at_checked(length).ok_or(ReplyError::InvalidBinary)?;
    let envelope = std::str::from_utf8(envelope).map_err(|_| ReplyError::MalformedJson)?;
    match scan(&mut reader.scanner, envelope)? {
        Document::Object(object) => Ok((Envelope::read(object), payload)),
        _ => Err(ReplyError::InvalidBinary),
    }
}

fn scan<'s, 'a>(scanner: &'s mut Scanner, text: &'a str) -> Result<Document<'s, 'a>, ReplyError> {
    scanner.scan(text).map_err(|error| match error {
        JsonError::TooDeep { .. } => ReplyError::TooDeep,
        JsonError::TooManyElements { .. } => ReplyError::BatchTooLong,
        JsonError::DuplicateKey { .. } => ReplyError::InvalidCommand("A member appears twice."),
        JsonError::TooManyMembers { .. } => ReplyError::InvalidCommand("A command has too many members."),
        _ => ReplyError::MalformedJson,
    })
}

/// The members that a command may have.
#[derive(Copy, Clone)]
enum Name {
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
}

/// How many those are.
const NAMES: usize = Name::ToSession as usize + 1;

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
            _ => return None,
        })
    }
}

/// A command as it stands in the frame: its members are read when they are asked for.
pub struct Envelope<'s, 'a> {
    /// `None`: what should be a command is no object.
    object: Option<Object<'s, 'a>>,
    /// Which member has each name, counted from 1; 0: none has.
    places: [u8; NAMES],
    /// What was written with escapes, for commands to borrow.
    channel: OnceCell<String>,
    event: OnceCell<String>,
    other: OnceCell<String>,
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

    fn not_an_object() -> Self {
        Self {
            object: None,
            places: [0; NAMES],
            channel: OnceCell::new(),
            event: OnceCell::new(),
            other: OnceCell::new(),
        }
    }

    #[inline]
    fn member(&self, name: Name) -> Option<Raw<'a>> {
        let place = usize::from(self.places[name as usize]);
        Some(self.object?.value(place.checked_sub(1)?))
    }

    /// The same, if it is not `null`.
    #[inline]
    fn given(&self, name: Name) -> Option<Raw<'a>> {
        self.member(name).filter(|value| !value.is_null())
    }

    /// A member that should be a string.
    #[inline]
    fn string(&self, name: Name, wrong: &'static str) -> Result<Option<Cow<'a, str>>, ReplyError> {
        let Some(value) = self.member(name) else { return Ok(None) };
        match value.as_string() {
            None if !value.is_null() => Err(ReplyError::InvalidCommand(wrong)),
            text => Ok(text),
        }
    }

    /// The same, to be borrowed from `decoded`, which is for this member alone, if it cannot be from the frame.
    #[inline]
    fn text<'e>(
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
    fn channel(&self) -> Result<&str, ReplyError> {
        self.optional_channel()?.ok_or(ReplyError::InvalidCommand(CHANNEL))
    }

    #[inline]
    fn optional_channel(&self) -> Result<Option<&str>, ReplyError> {
        self.text(Name::Channel, &self.channel, CHANNEL)
    }

    fn token(&self) -> Result<&str, ReplyError> {
        let wrong = "token must be a string.";
        self.text(Name::Token, &self.other, wrong)?.ok_or(ReplyError::InvalidCommand(wrong))
    }

    #[inline]
    fn event(&self) -> Result<&str, ReplyError> {
        self.text(Name::Event, &self.event, EVENT)?.ok_or(ReplyError::InvalidCommand(EVENT))
    }

    /// The message as it was written; `null` if there is none.
    #[inline]
    fn message(&self) -> Payload<'a> {
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

    /// The command.
    #[inline]
    pub fn command(&self) -> Result<Command<'_>, ReplyError> {
        let kind = self.kind()?;
        let command = match &*kind {
            "send" | "broadcast" => Command::Publish(self.publish(&kind, self.message())?),
            "join" => Command::Join {
                channel: self.channel()?,
                echo: self.echo()?,
                since: self.given(Name::Since).map(position).transpose()?,
            },
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

    /// The command of a binary frame.
    pub fn binary_command<'e>(&'e self, payload: &'e [u8]) -> Result<Publish<'e>, ReplyError> {
        let kind = self.kind()?;
        if !matches!(&*kind, "send" | "broadcast") || self.member(Name::Message).is_some() {
            return Err(ReplyError::InvalidBinary);
        }
        self.publish(&kind, Payload::Binary(payload))
    }

    /// What a back end publishes; without `type`, a broadcast is what has no channel.
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

    /// What a message is to say.
    pub fn edit(&self) -> Result<ChangeMessage<'_>, ReplyError> {
        let message =
            self.member(Name::Message).ok_or(ReplyError::InvalidCommand("edit needs a message."))?;
        Ok(ChangeMessage { payload: Some(Payload::Json(message.as_str())), ..self.deletion()? })
    }

    /// Which message is to go.
    pub fn deletion(&self) -> Result<ChangeMessage<'_>, ReplyError> {
        self.is_object()?;
        let wrong = "message_id must be a message's id.";
        let id = self.string(Name::MessageId, wrong)?.and_then(|text| MessageId::parse(&text));
        let id = id.ok_or(ReplyError::InvalidCommand(wrong))?;
        let audience = self.audience()?;
        Ok(ChangeMessage { channel: self.channel()?, id, payload: None, audience })
    }

    /// Whom the message is for, if not for everyone.
    #[inline]
    fn audience(&self) -> Result<Option<Audience>, ReplyError> {
        let names = [Name::ToSession, Name::ToUsers, Name::ExceptUsers];
        if names.into_iter().all(|name| self.places[name as usize] == 0) {
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
        Ok(Audience { except_session: None, only_session, only_users, except_users })
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

    #[inline]
    fn kind(&self) -> Result<Cow<'a, str>, ReplyError> {
        self.is_object()?;
        if self.given(Name::Id).is_some() && self.id().is_none() {
            return Err(ReplyError::InvalidCommand("id must be a number, or a string of at most 64 bytes."));
        }
        let wrong = ReplyError::InvalidCommand("type must be a string.");
        self.member(Name::Type).and_then(Raw::as_string).ok_or(wrong)
    }

    #[inline]
    fn is_object(&self) -> Result<(), ReplyError> {
        match self.object {
            None => Err(ReplyError::InvalidCommand("A command is an object.")),
            Some(_) => Ok(()),
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
    let wrong = ReplyError::InvalidCommand("to_users and except_users must be lists of at most 256 strings.");
    let mut users = Vec::new();
    for element in json::elements(raw.as_str()) {
        let user = element.ok().and_then(Raw::as_string).ok_or(wrong)?;
        if users.len() == AUDIENCE_USERS {
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
    // An epoch of another form, or none, is of no stream: it recovers nothing, and nothing is wrong with asking.
    let epoch = match value.get("epoch").ok_or(wrong)? {
        serde_json::Value::String(text) if text.len() == 16 => {
            u64::from_str_radix(text, 16).unwrap_or(NO_EPOCH)
        }
        serde_json::Value::String(_) | serde_json::Value::Null => NO_EPOCH,
        _ => return Err(wrong),
    };
    Ok(Position { epoch, offset: value["offset"].as_u64().ok_or(wrong)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `reader` reads in a frame, command by command.
    fn commands(reader: &mut CommandReader, frame: &str) -> Vec<String> {
        if let Some(repeated) = reader.match_template(frame) {
            return vec![format!(
                "None {:?}",
                Ok::<_, ReplyError>(Command::Publish(reader.publish_from(repeated)))
            )];
        }
        let mut batch = match Batch::read(reader, frame) {
            Ok(batch) => batch,
            Err(error) => return vec![format!("{error:?}")],
        };
        let mut commands = Vec::new();
        for place in 0..batch.len() {
            let envelope = batch.envelope(place);
            let command = envelope.command();
            if let Ok(Command::Publish(publish)) = &command {
                batch.record_template(&envelope, publish);
            }
            commands.push(format!("{:?} {command:?}", envelope.id()));
        }
        commands
    }

    const SEND: &str = r#"{"type":"send","channel":"c","event":"e","message":"#;

    #[test]
    fn a_publication_that_differs_in_its_message_alone_is_known_again() {
        let mut reader = CommandReader::default();
        let seen = |reader: &mut CommandReader, text: &str| {
            let known = reader.match_template(text).is_some();
            (known, commands(reader, text))
        };
        assert!(!seen(&mut reader, &format!("{SEND}1}}")).0);
        let (known, read) = seen(&mut reader, &format!("{SEND}[2,\"\\\"}}\"]}}"));
        assert!(known && read[0].contains(r#"[2,\"\\\"}\"]"#), "{read:?}");
        for other in ["2", "{\"a\":1}", "2,\"id\":7}", "2} x", "2}}", "", "nul}", "\"}"] {
            assert!(seen(&mut reader, &format!("{SEND}1}}")).1.len() == 1);
            assert!(!seen(&mut reader, &format!("{SEND}{other}")).0, "{other}");
        }
    }

    #[test]
    fn what_has_an_id_an_audience_or_members_behind_its_message_is_always_read() {
        for frame in [
            r#"{"id":1,"type":"send","channel":"c","event":"e","message":1}"#,
            r#"{"to_users":["u"],"type":"send","channel":"c","event":"e","message":1}"#,
            r#"{"type":"send","channel":"c","message":1,"event":"e"}"#,
            r#"{"type":"send","channel":"c","event":"e"}"#,
            r#"{"type":"join","channel":"c","event":"e","message":1}"#,
            r#"[{"type":"send","channel":"c","event":"e","message":1}]"#,
        ] {
            let mut reader = CommandReader::default();
            commands(&mut reader, frame);
            assert!(reader.match_template(frame).is_none(), "{frame}");
        }
    }

    proptest! {
        /// What a reader has read before changes nothing.
        #[test]
        fn a_used_reader_reads_as_a_new_one(
            frames in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        r#"{"type":"send","channel":"c","event":"e","message":"#,
                        r#"{"type":"send","channel":"\u0063","event":"\"","echo":false,"message":"#,
                        r#"{"type":"broadcast","event":"e","no_history":true,"message":"#,
                        r#"{"id":7,"type":"send","channel":"c","event":"e","message":"#,
                        r#"{"type":"send","event":"e","message":"#,
                        r#"{"type":"join","channel":"c","echo":"#,
                        r#"[{"type":"send","channel":"c","event":"e","message":"#,
                        r#"{"message":"#,
                        "",
                    ]),
                    prop::sample::select(vec![
                        "1", "null", "true", r#""a""#, r#""\u0061\n""#, r#""\ud800""#, "[{}]", " 2 ", "nul", "",
                        r#"1,"channel":"d""#, r#"1,"event":"f""#, r#"1,"id":3"#, r#"1}{"#,
                    ]),
                    prop::sample::select(vec!["}", "}}", "}]", " } ", "", "}x"]),
                ),
                1..20,
            ),
        ) {
            let mut used = CommandReader::default();
            for (head, value, tail) in frames {
                let frame = format!("{head}{value}{tail}");
                prop_assert_eq!(commands(&mut used, &frame), commands(&mut CommandReader::default(), &frame), "{}", frame);
            }
        }
    }
}
