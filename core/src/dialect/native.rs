//! The native dialect, `docs/PROTOCOL.md`: JSON commands in, JSON publications and answers out.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, BytesMut};

use crate::{
    app::{ChannelOptions, SlowConsumer},
    channel::{PageFrom, Position, Remembered},
    command::{ChangeMessage, Command, Cursor, Member, Outcome, Publish, UserSession},
    error::ReplyError,
    id::{MessageId, SessionId},
    json::{self, Document, Element, JsonError, Object, Raw, Scanner},
    limits::{AUDIENCE_USERS, BATCH, COMMAND_ID_BYTES, PAGE, PAGE_DEFAULT},
    publication::{Audience, Payload, Publication, Sender},
    ws::{OpCode, put_header},
};

/// The commands of one text frame: an object, or an array of objects.
pub struct Batch<'s, 'a>(Commands<'s, 'a>);

enum Commands<'s, 'a> {
    One(Object<'s, 'a>),
    Several(json::Array<'s, 'a>),
}

impl<'s, 'a> Batch<'s, 'a> {
    /// Takes a frame apart. Whether each command makes sense shows only when it is asked for.
    pub fn read(scanner: &'s mut Scanner, text: &'a str) -> Result<Self, ReplyError> {
        match scan(scanner, text)? {
            Document::Object(object) => Ok(Self(Commands::One(object))),
            Document::Array(array) if array.len() > BATCH => Err(ReplyError::BatchTooLong),
            Document::Array(array) => Ok(Self(Commands::Several(array))),
            Document::Other(_) => Err(ReplyError::InvalidCommand(
                "A frame is a command, which is an object, or an array of commands.",
            )),
        }
    }

    /// Whether it is an array.
    pub fn is_list(&self) -> bool {
        matches!(self.0, Commands::Several(_))
    }

    /// The object, if it is one.
    pub fn object(&self) -> Option<Object<'s, 'a>> {
        match &self.0 {
            Commands::One(object) => Some(*object),
            Commands::Several(_) => None,
        }
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        match &self.0 {
            Commands::One(_) => 1,
            Commands::Several(array) => array.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The commands, in order.
    pub fn envelopes(&self) -> impl Iterator<Item = Envelope<'a>> {
        let (one, several) = match &self.0 {
            Commands::One(object) => (Some(Envelope::read(*object)), None),
            Commands::Several(array) => (None, Some(array.elements())),
        };
        one.into_iter().chain(several.into_iter().flatten().map(|element| match element {
            Element::Object(object) => Envelope::read(object),
            Element::Other(_) => Envelope { not_an_object: true, ..Envelope::default() },
        }))
    }
}

/// Takes a binary frame apart: length of the envelope (2 bytes, big-endian), envelope, payload.
pub fn read_binary<'a>(
    scanner: &mut Scanner,
    frame: &'a [u8],
) -> Result<(Envelope<'a>, &'a [u8]), ReplyError> {
    let (length, rest) = frame.split_first_chunk::<2>().ok_or(ReplyError::InvalidBinary)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (envelope, payload) = rest.split_at_checked(length).ok_or(ReplyError::InvalidBinary)?;
    let envelope = std::str::from_utf8(envelope).map_err(|_| ReplyError::MalformedJson)?;
    match scan(scanner, envelope)? {
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

/// A command's members, as they stand in the frame.
#[derive(Default)]
pub struct Envelope<'a> {
    not_an_object: bool,
    id: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    channel: Text<'a>,
    event: Text<'a>,
    message: Option<Raw<'a>>,
    echo: Option<Raw<'a>>,
    /// Members that few commands have; apart, so that the others need not carry them about.
    rare: Option<Box<Rare<'a>>>,
}

/// See [`Envelope::rare`].
#[derive(Default)]
struct Rare<'a> {
    token: Text<'a>,
    profile: Option<Raw<'a>>,
    limit: Option<Raw<'a>>,
    by: Text<'a>,
    after: Option<Raw<'a>>,
    /// The same, if it should be a user.
    after_user: Text<'a>,
    before: Option<Raw<'a>>,
    since: Option<Raw<'a>>,
    no_history: Option<Raw<'a>>,
    message_id: Text<'a>,
    idempotency_key: Text<'a>,
    to_users: Option<Raw<'a>>,
    except_users: Option<Raw<'a>>,
    to_session: Text<'a>,
}

/// What an envelope without rare members has of them.
static NO_RARE: Rare<'static> = Rare {
    token: Text::Absent,
    profile: None,
    limit: None,
    by: Text::Absent,
    after: None,
    after_user: Text::Absent,
    before: None,
    since: None,
    no_history: None,
    message_id: Text::Absent,
    idempotency_key: Text::Absent,
    to_users: None,
    except_users: None,
    to_session: Text::Absent,
};

impl<'a> Rare<'a> {
    fn read(&mut self, name: &str, value: Raw<'a>) {
        let given = Some(value).filter(|value| !value.is_null());
        match name {
            "token" => self.token = Text::read(value),
            "profile" => self.profile = Some(value),
            "limit" => self.limit = given,
            "by" => self.by = Text::read(value),
            "after" => (self.after, self.after_user) = (given, Text::read(value)),
            "before" => self.before = given,
            "since" => self.since = given,
            "no_history" => self.no_history = given,
            "message_id" => self.message_id = Text::read(value),
            "idempotency_key" => self.idempotency_key = Text::read(value),
            "to_users" => self.to_users = given,
            "except_users" => self.except_users = given,
            "to_session" => self.to_session = Text::read(value),
            _ => {}
        }
    }
}

/// A member that should be a string.
#[derive(Default)]
enum Text<'a> {
    #[default]
    Absent,
    Is(Cow<'a, str>),
    Wrong,
}

impl<'a> Text<'a> {
    fn read(raw: Raw<'a>) -> Self {
        match raw.as_string() {
            Some(text) => Self::Is(text),
            None if raw.is_null() => Self::Absent,
            None => Self::Wrong,
        }
    }

    fn optional(&self, wrong: &'static str) -> Result<Option<&str>, ReplyError> {
        match self {
            Self::Absent => Ok(None),
            Self::Is(text) => Ok(Some(text)),
            Self::Wrong => Err(ReplyError::InvalidCommand(wrong)),
        }
    }

    fn required(&self, wrong: &'static str) -> Result<&str, ReplyError> {
        self.optional(wrong)?.ok_or(ReplyError::InvalidCommand(wrong))
    }
}

const CHANNEL: &str = "channel must be a string.";
const EVENT: &str = "event must be a string.";

impl<'a> Envelope<'a> {
    /// Picks the members that a command may have; others are ignored.
    pub fn read(object: Object<'_, 'a>) -> Self {
        let mut envelope = Self::default();
        for (key, value) in object.members() {
            match &*key.name() {
                "id" => envelope.id = Some(value).filter(|value| !value.is_null()),
                "type" => envelope.kind = Some(value),
                "channel" => envelope.channel = Text::read(value),
                "event" => envelope.event = Text::read(value),
                "message" => envelope.message = Some(value),
                "echo" => envelope.echo = Some(value).filter(|value| !value.is_null()),
                name => envelope.rare.get_or_insert_default().read(name, value),
            }
        }
        envelope
    }

    fn rare(&self) -> &Rare<'a> {
        self.rare.as_deref().unwrap_or(&NO_RARE)
    }

    /// The command's id as JSON, if it has a valid one.
    pub fn id(&self) -> Option<&'a str> {
        let id = self.id?;
        let fits = id.is_number() && id.as_str().len() <= COMMAND_ID_BYTES
            || id.as_string().is_some_and(|text| text.len() <= COMMAND_ID_BYTES);
        fits.then_some(id.as_str())
    }

    /// The command.
    pub fn command(&self) -> Result<Command<'_>, ReplyError> {
        let kind = self.kind()?;
        let command = match &*kind {
            "send" | "broadcast" => {
                let payload = Payload::Json(self.message.map_or("null", Raw::as_str));
                self.publish(&kind, payload)?
            }
            "join" => Command::Join {
                channel: self.channel.required(CHANNEL)?,
                echo: self.echo()?,
                since: self.rare().since.map(position).transpose()?,
            },
            "history" => Command::History {
                channel: self.channel.required(CHANNEL)?,
                from: self.page_from()?,
                limit: self.limit()?,
            },
            "edit" => Command::Change(self.edit()?),
            "delete" => Command::Change(self.deletion()?),
            "leave" => Command::Leave { channel: self.channel.required(CHANNEL)?, echo: self.echo()? },
            "update" => Command::Update {
                profile: self
                    .rare()
                    .profile
                    .ok_or(ReplyError::InvalidCommand("update needs a profile."))?
                    .as_str(),
                echo: self.echo()?,
            },
            "members" if self.by_user()? => Command::Users {
                channel: self.channel.required(CHANNEL)?,
                limit: self.limit()?,
                after: self.rare().after_user.optional("after must be a string.")?,
            },
            "members" => Command::Members {
                channel: self.channel.required(CHANNEL)?,
                limit: self.limit()?,
                after: match self.rare().after.map(Raw::as_string) {
                    Some(Some(text)) => Some(Cursor::parse(&text).ok_or(ReplyError::InvalidCursor)?),
                    Some(None) => return Err(ReplyError::InvalidCommand("after must be a string.")),
                    None => None,
                },
            },
            "session" => Command::Session { token: self.rare().token.required("token must be a string.")? },
            "ping" => Command::Ping,
            _ => return Err(ReplyError::UnknownCommand),
        };
        Ok(command)
    }

    /// The command of a binary frame.
    pub fn binary_command<'e>(&'e self, payload: &'e [u8]) -> Result<Command<'e>, ReplyError> {
        let kind = self.kind()?;
        if !matches!(&*kind, "send" | "broadcast") || self.message.is_some() {
            return Err(ReplyError::InvalidBinary);
        }
        self.publish(&kind, Payload::Binary(payload))
    }

    /// What a back end publishes; without `type`, a broadcast is what has no channel.
    pub fn publication(&self) -> Result<Publish<'_>, ReplyError> {
        self.is_object()?;
        let payload = Payload::Json(self.message.map_or("null", Raw::as_str));
        self.published(self.channel.optional(CHANNEL)?, payload)
    }

    /// The key by which a back end's repetition of this publication is known.
    pub fn idempotency_key(&self) -> Result<Option<&str>, ReplyError> {
        self.rare().idempotency_key.optional("idempotency_key must be a string of 1 to 128 bytes.")
    }

    fn publish<'e>(&'e self, kind: &str, payload: Payload<'e>) -> Result<Command<'e>, ReplyError> {
        let channel = match kind {
            "send" => Some(self.channel.required(CHANNEL)?),
            _ => None,
        };
        Ok(Command::Publish(Publish { echo: self.echo()?, ..self.published(channel, payload)? }))
    }

    fn published<'e>(
        &'e self,
        channel: Option<&'e str>,
        payload: Payload<'e>,
    ) -> Result<Publish<'e>, ReplyError> {
        let history =
            !boolean(self.rare().no_history, "no_history must be true, false or null.")?.unwrap_or(false);
        let event = self.event.required(EVENT)?;
        let audience = self.audience()?;
        Ok(Publish { channel, event, payload, echo: None, history, audience })
    }

    /// What a message is to say.
    pub fn edit(&self) -> Result<ChangeMessage<'_>, ReplyError> {
        let message = self.message.ok_or(ReplyError::InvalidCommand("edit needs a message."))?;
        Ok(ChangeMessage { payload: Some(Payload::Json(message.as_str())), ..self.deletion()? })
    }

    /// Which message is to go.
    pub fn deletion(&self) -> Result<ChangeMessage<'_>, ReplyError> {
        self.is_object()?;
        let wrong = "message_id must be a message's id.";
        let id = MessageId::parse(self.rare().message_id.required(wrong)?);
        let id = id.ok_or(ReplyError::InvalidCommand(wrong))?;
        let audience = Some(self.audience()?).filter(|audience| !audience.is_everyone());
        Ok(ChangeMessage { channel: self.channel.required(CHANNEL)?, id, payload: None, audience })
    }

    fn audience(&self) -> Result<Audience, ReplyError> {
        let wrong = "to_session must be a session's id.";
        let only_session = match self.rare().to_session.optional(wrong)? {
            Some(text) => Some(SessionId::parse(text).ok_or(ReplyError::InvalidCommand(wrong))?),
            None => None,
        };
        let users = |raw: Option<Raw<'_>>| raw.map(users).transpose();
        let (only_users, except_users) = (users(self.rare().to_users)?, users(self.rare().except_users)?);
        Ok(Audience { except_session: None, only_session, only_users, except_users })
    }

    /// `after` or `before`; without both, from the newest backwards.
    fn page_from(&self) -> Result<PageFrom, ReplyError> {
        let offset = |raw: Raw<'_>| {
            raw.as_u64().ok_or(ReplyError::InvalidCommand("after and before must be offsets."))
        };
        match (self.rare().after, self.rare().before) {
            (Some(after), None) => offset(after).map(PageFrom::After),
            (None, Some(before)) => offset(before).map(PageFrom::Before),
            (None, None) => Ok(PageFrom::Before(u64::MAX)),
            _ => Err(ReplyError::InvalidCommand("Either after or before may be given.")),
        }
    }

    fn kind(&self) -> Result<Cow<'a, str>, ReplyError> {
        self.is_object()?;
        if self.id.is_some() && self.id().is_none() {
            return Err(ReplyError::InvalidCommand("id must be a number, or a string of at most 64 bytes."));
        }
        let wrong = ReplyError::InvalidCommand("type must be a string.");
        self.kind.and_then(Raw::as_string).ok_or(wrong)
    }

    fn is_object(&self) -> Result<(), ReplyError> {
        match self.not_an_object {
            true => Err(ReplyError::InvalidCommand("A command is an object.")),
            false => Ok(()),
        }
    }

    fn by_user(&self) -> Result<bool, ReplyError> {
        let wrong = "by must be session or user.";
        match self.rare().by.optional(wrong)? {
            None | Some("session") => Ok(false),
            Some("user") => Ok(true),
            Some(_) => Err(ReplyError::InvalidCommand(wrong)),
        }
    }

    fn echo(&self) -> Result<Option<bool>, ReplyError> {
        boolean(self.echo, "echo must be true, false or null.")
    }

    fn limit(&self) -> Result<usize, ReplyError> {
        let wrong = ReplyError::InvalidCommand("limit must be a number from 1 to 1000.");
        let Some(raw) = self.rare().limit else { return Ok(PAGE_DEFAULT) };
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

/// `{"epoch","offset"}`, as the answer to a join has it.
fn position(raw: Raw<'_>) -> Result<Position, ReplyError> {
    let wrong = ReplyError::InvalidCommand("since must have epoch and offset, as a join was answered.");
    let value: serde_json::Value = serde_json::from_str(raw.as_str()).map_err(|_| wrong)?;
    let epoch = value["epoch"].as_str().filter(|text| text.len() == 16).ok_or(wrong)?;
    let epoch = u64::from_str_radix(epoch, 16).map_err(|_| wrong)?;
    Ok(Position { epoch, offset: value["offset"].as_u64().ok_or(wrong)? })
}

/// What becomes of a binary payload.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Binary {
    /// It travels in a binary frame, behind the envelope.
    Frame,
    /// It becomes `{"base64":"…"}` in the JSON.
    Base64,
}

/// `{"channel":…,"event":…,"message":…,"offset":…}` in a text frame, with what else there is to tell; see [`Binary`] for
/// payloads that are bytes.
#[inline]
pub(super) fn encode_publication(
    out: &mut BytesMut,
    channel: Option<&str>,
    publication: Publication<'_>,
    binary: Binary,
) {
    let Publication { event, payload, offset, .. } = publication;
    let channel_len = channel.map_or(4, json::escaped_len);
    let mut digits = itoa::Buffer::new();
    let offset = offset.map(|offset| digits.format(offset));
    let offset_len = offset.map_or(0, |digits| 10 + digits.len());
    let more_len = more_len(&publication);
    let envelope_len = 11 + channel_len + 9 + json::escaped_len(event) + offset_len + more_len + 1;
    let put_envelope = |out: &mut BytesMut, message: &dyn Fn(&mut BytesMut)| {
        out.extend_from_slice(b"{\"channel\":");
        match channel {
            Some(name) => json::write_string(out, name),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"event\":");
        json::write_string(out, event);
        message(out);
        if let Some(offset) = offset {
            out.extend_from_slice(b",\"offset\":");
            out.extend_from_slice(offset.as_bytes());
        }
        if more_len > 0 {
            put_more(out, &publication);
        }
        out.put_u8(b'}');
    };
    match payload {
        Payload::Json(json) => {
            let len = envelope_len + 11 + json.len();
            out.reserve(len + 10);
            put_header(out, OpCode::Text, true, len, None);
            put_envelope(out, &|out| {
                out.extend_from_slice(b",\"message\":");
                out.extend_from_slice(json.as_bytes());
            });
        }
        Payload::Binary(bytes) if binary == Binary::Frame => {
            put_header(out, OpCode::Binary, true, 2 + envelope_len + bytes.len(), None);
            out.put_u16(u16::try_from(envelope_len).expect("names are at most 256 bytes, each escaped to 6"));
            put_envelope(out, &|_| {});
            out.extend_from_slice(bytes);
        }
        Payload::Binary(bytes) => {
            put_header(out, OpCode::Text, true, envelope_len + 11 + base64_len(bytes), None);
            put_envelope(out, &|out| {
                out.extend_from_slice(b",\"message\":");
                put_base64(out, bytes);
            });
        }
    }
}

/// Bytes that [`put_more`] appends.
fn more_len(publication: &Publication<'_>) -> usize {
    let mut len = 0;
    if publication.kept {
        len += 8 + MessageId::TEXT_LEN;
    }
    if let Some(Sender { user, shown: true, .. }) = publication.sender {
        len += 12 + SessionId::TEXT_LEN + user.map_or(0, |user| 8 + json::escaped_len(user));
    }
    if let Some(edited_ms) = publication.edited_ms {
        len += 13 + itoa::Buffer::new().format(edited_ms).len();
    }
    len
}

/// The id of what can be asked for again; sender and time of the last edit.
fn put_more(out: &mut BytesMut, publication: &Publication<'_>) {
    if publication.kept {
        out.extend_from_slice(b",\"id\":\"");
        out.extend_from_slice(&publication.id.text());
        out.put_u8(b'"');
    }
    if let Some(Sender { session, user, shown: true }) = publication.sender {
        out.extend_from_slice(b",\"sender\":\"");
        out.extend_from_slice(&session.text());
        out.put_u8(b'"');
        if let Some(user) = user {
            out.extend_from_slice(b",\"user\":");
            json::write_string(out, user);
        }
    }
    if let Some(edited_ms) = publication.edited_ms {
        put_number(out, ",\"edited_ms\":", edited_ms);
    }
}

fn base64_len(bytes: &[u8]) -> usize {
    13 + bytes.len().div_ceil(3) * 4
}

/// `{"base64":"…"}`.
fn put_base64(out: &mut BytesMut, bytes: &[u8]) {
    out.extend_from_slice(b"{\"base64\":\"");
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.extend_from_slice(b"\"}");
}

/// A message of a page of history: `{"event","message","offset","id","time_ms"}` and what else there is to tell.
fn put_remembered(out: &mut BytesMut, remembered: &Remembered) {
    let message = remembered.view();
    out.extend_from_slice(b"{\"event\":");
    json::write_string(out, message.event);
    out.extend_from_slice(b",\"message\":");
    match message.payload {
        Payload::Json(json) => out.extend_from_slice(json.as_bytes()),
        Payload::Binary(bytes) => put_base64(out, bytes),
    }
    put_number(out, ",\"offset\":", remembered.offset());
    put_more(out, &message);
    put_number(out, ",\"time_ms\":", message.id.time_ms());
    out.put_u8(b'}');
}

/// Writes a text frame around what `write` appends. For frames that are not the hot path: the text is moved once.
fn put_text(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let mut text = BytesMut::with_capacity(256);
    write(&mut text);
    put_header(out, OpCode::Text, true, text.len(), None);
    out.extend_from_slice(&text);
}

pub(super) fn encode_ok(out: &mut BytesMut, id: &str, outcome: &Outcome) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"id\":");
        text.extend_from_slice(id.as_bytes());
        text.extend_from_slice(b",\"ok\":");
        put_outcome(text, outcome);
        text.put_u8(b'}');
    });
}

pub(super) fn encode_error(out: &mut BytesMut, id: Option<&str>, error: ReplyError) {
    put_text(out, |text| {
        text.put_u8(b'{');
        if let Some(id) = id {
            text.extend_from_slice(b"\"id\":");
            text.extend_from_slice(id.as_bytes());
            text.put_u8(b',');
        }
        text.extend_from_slice(b"\"error\":");
        put_error(text, error);
        text.put_u8(b'}');
    });
}

pub(super) fn encode_gap(out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"gap\":{\"channel\":");
        put_optional_string(text, channel);
        put_number(text, ",\"missed\":", missed);
        text.extend_from_slice(b"}}");
    });
}

/// What the welcome says about limits.
pub struct WelcomeLimits {
    /// Milliseconds between pings.
    pub ping_interval_ms: u64,
    /// Bytes of a WebSocket message.
    pub frame_bytes: usize,
    /// Bytes of a payload.
    pub message_bytes: usize,
    /// Bytes of a profile.
    pub profile_bytes: usize,
    /// Channels for each connection.
    pub channels: usize,
}

pub(super) fn encode_welcome(
    out: &mut BytesMut,
    session: SessionId,
    user: Option<&str>,
    app: &str,
    limits: &WelcomeLimits,
) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"welcome\":{\"session\":\"");
        text.extend_from_slice(&session.text());
        text.extend_from_slice(b"\",\"user\":");
        put_optional_string(text, user);
        text.extend_from_slice(b",\"app\":");
        json::write_string(text, app);
        put_number(text, ",\"ping_interval_ms\":", limits.ping_interval_ms);
        put_number(text, ",\"limits\":{\"frame_bytes\":", limits.frame_bytes as u64);
        put_number(text, ",\"message_bytes\":", limits.message_bytes as u64);
        put_number(text, ",\"profile_bytes\":", limits.profile_bytes as u64);
        put_number(text, ",\"channels\":", limits.channels as u64);
        put_number(text, ",\"batch\":", BATCH as u64);
        text.extend_from_slice(b"}}}");
    });
}

/// An outcome as JSON: the `ok` of an answer, or the body of an HTTP response.
pub(super) fn put_outcome(out: &mut BytesMut, outcome: &Outcome) {
    match outcome {
        Outcome::Joined { channel, joined, members, position, missed } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_bool(out, ",\"joined\":", *joined);
            put_number(out, ",\"members\":", *members as u64);
            put_position(out, Some(*position));
            if let Some(missed) = missed {
                put_bool(out, ",\"recovered\":", missed.is_some());
                put_number(out, ",\"missed\":", missed.as_ref().map_or(0, |missed| missed.len() as u64));
            }
        }
        Outcome::History { channel, position, page } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_position(out, *position);
            out.extend_from_slice(b",\"messages\":[");
            for (at, message) in page.messages.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_remembered(out, message);
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_number(out, page.next);
        }
        Outcome::Left { channel, left } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_bool(out, ",\"left\":", *left);
        }
        Outcome::Sent { message_id, offset } => {
            out.extend_from_slice(b"{\"message_id\":\"");
            out.extend_from_slice(&message_id.text());
            out.extend_from_slice(b"\",\"offset\":");
            put_optional_number(out, *offset);
        }
        Outcome::Broadcast { message_id } => {
            out.extend_from_slice(b"{\"message_id\":\"");
            out.extend_from_slice(&message_id.text());
            out.put_u8(b'"');
        }
        Outcome::Updated => out.put_u8(b'{'),
        Outcome::Members(page) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &page.channel);
            put_number(out, ",\"total\":", page.total as u64);
            out.extend_from_slice(b",\"members\":[");
            for (at, Member { id, user, profile }) in page.members.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_member(out, *id, user.as_deref(), profile.as_deref());
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.map(|next| next.text()).as_deref());
        }
        Outcome::Session { user, expires_at } => {
            out.extend_from_slice(b"{\"user\":");
            json::write_string(out, user);
            out.extend_from_slice(b",\"expires_at\":");
            put_optional_number(out, *expires_at);
        }
        Outcome::Pong { time_ms } => put_number(out, "{\"time_ms\":", *time_ms),
        Outcome::Users(page) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &page.channel);
            put_number(out, ",\"total\":", page.total as u64);
            out.extend_from_slice(b",\"users\":[");
            for (at, (user, sessions)) in page.users.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b",{\"user\":" } else { b"{\"user\":" });
                json::write_string(out, user);
                put_number(out, ",\"sessions\":", u64::from(*sessions));
                out.put_u8(b'}');
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.as_deref());
        }
        Outcome::Options { channel, options } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_options(out, options);
        }
        Outcome::Sessions(page) => {
            out.extend_from_slice(b"{\"user\":");
            json::write_string(out, &page.user);
            out.extend_from_slice(b",\"sessions\":[");
            for (at, session) in page.sessions.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_session(out, session);
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.map(|next| next.text()).as_deref());
        }
        Outcome::Disconnected { sessions } => put_number(out, "{\"disconnected\":", *sessions as u64),
    }
    out.put_u8(b'}');
}

/// An error as JSON: `{"code","message"}`.
pub(super) fn put_error(out: &mut BytesMut, error: ReplyError) {
    out.extend_from_slice(b"{\"code\":\"");
    out.extend_from_slice(error.code().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    json::write_string(out, error.message());
    out.put_u8(b'}');
}

/// A member as JSON: `{"id","user"?,"data"?}`.
pub(super) fn put_member(out: &mut BytesMut, id: SessionId, user: Option<&str>, profile: Option<&str>) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&id.text());
    out.put_u8(b'"');
    if let Some(user) = user {
        out.extend_from_slice(b",\"user\":");
        json::write_string(out, user);
    }
    if let Some(profile) = profile {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(profile.as_bytes());
    }
    out.put_u8(b'}');
}

/// `{"id","data"?,"channels"}`.
fn put_session(out: &mut BytesMut, session: &UserSession) {
    put_member(out, session.id, None, session.profile.as_deref());
    out.truncate(out.len() - 1);
    out.extend_from_slice(b",\"channels\":[");
    for (at, name) in session.channels.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        json::write_string(out, name);
    }
    out.extend_from_slice(b"]}");
}

/// The members of a channel's options, by the names they have in the configuration.
fn put_options(out: &mut BytesMut, options: &ChannelOptions) {
    let ChannelOptions { history, announce, presence_by_user, membership_to_send, slow_consumer } = options;
    put_number(out, ",\"history_messages\":", history.messages.into());
    put_number(out, ",\"history_bytes\":", history.bytes.into());
    put_number(out, ",\"history_age_s\":", u64::from(history.age_ms) / 1000);
    put_bool(out, ",\"announce\":", *announce);
    put_bool(out, ",\"presence_by_user\":", *presence_by_user);
    put_bool(out, ",\"membership_to_send\":", *membership_to_send);
    out.extend_from_slice(match slow_consumer {
        SlowConsumer::Disconnect => b",\"slow_consumer\":\"disconnect\"",
        SlowConsumer::Drop => b",\"slow_consumer\":\"drop\"",
    });
}

fn put_position(out: &mut BytesMut, position: Option<Position>) {
    match position {
        Some(position) => {
            out.extend_from_slice(format!(",\"epoch\":\"{:016x}\"", position.epoch).as_bytes());
            put_number(out, ",\"offset\":", position.offset);
        }
        None => out.extend_from_slice(b",\"epoch\":null,\"offset\":0"),
    }
}

fn put_number(out: &mut BytesMut, before: &str, number: u64) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_bool(out: &mut BytesMut, before: &str, value: bool) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn put_optional_number(out: &mut BytesMut, number: Option<u64>) {
    match number {
        Some(number) => put_number(out, "", number),
        None => out.extend_from_slice(b"null"),
    }
}

fn put_optional_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => json::write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}
