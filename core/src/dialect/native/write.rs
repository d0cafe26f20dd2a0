//! Publications, answers and everything else out, as JSON.

use arrayvec::ArrayVec;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, BytesMut};

use crate::{
    app::{ChannelOptions, SlowConsumer},
    channel::{HistoryItem, Position},
    command::{Member, Outcome, UserSession},
    error::ReplyError,
    id::{MessageId, SessionId},
    json,
    limits::BATCH,
    publication::{Payload, Publication, Sender},
    secret::Secret,
    ws::{MAX_UNMASKED_HEADER_LEN, OpCode, header_len, put_header, put_header_at_end},
};

/// What becomes of a binary payload.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(in crate::dialect) enum Binary {
    /// It travels in a binary frame, behind the envelope.
    Frame,
    /// It becomes `{"base64":"…"}` in the JSON.
    Base64,
}

/// `{"channel":…,"event":…,"message":`, as the last publication began: in one turn, most of a channel's begin alike.
#[derive(Default)]
pub struct Heading {
    event: String,
    /// Behind room for the frame's header, so that both are appended together. Empty: not written yet.
    text: BytesMut,
}

const ROOM: usize = MAX_UNMASKED_HEADER_LEN;
const MESSAGE: &[u8] = b",\"message\":";

impl Heading {
    /// Forgets the channel.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// Makes it that of an event of `channel`, which is the same since it was cleared.
    #[inline]
    fn set(&mut self, channel: Option<&str>, event: &str) {
        if self.text.is_empty() || self.event != event {
            self.write(channel, event);
        }
    }

    fn write(&mut self, channel: Option<&str>, event: &str) {
        event.clone_into(&mut self.event);
        self.text.clear();
        self.text.put_bytes(0, ROOM);
        self.text.put_slice(b"{\"channel\":");
        put_optional_string(&mut self.text, channel);
        self.text.put_slice(b",\"event\":");
        json::write_string(&mut self.text, event);
        self.text.put_slice(MESSAGE);
    }

    fn len(&self) -> usize {
        self.text.len() - ROOM
    }

    /// The beginning of a text frame of this length.
    #[inline]
    fn frame(&mut self, len: usize) -> &[u8] {
        let room = self.text.first_chunk_mut().expect("it was written");
        let start = put_header_at_end(room, OpCode::Text, len);
        &self.text[start..]
    }

    /// Without what announces the message.
    fn without_message(&self) -> &[u8] {
        &self.text[ROOM..self.text.len() - MESSAGE.len()]
    }
}

/// `{"channel":…,"event":…,"message":…,"offset":…}` in a text frame, with what else there is to tell; see [`Binary`] for
/// payloads that are bytes.
#[inline]
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
    binary: Binary,
) {
    heading.set(channel, publication.event);
    // What follows the message. Put together first: two appends of a few bytes cost more than one.
    let mut tail = Tail::new();
    if let Some(offset) = publication.offset {
        put_tail(&mut tail, b",\"offset\":");
        put_tail(&mut tail, itoa::Buffer::new().format(offset).as_bytes());
    }
    if publication.kept {
        put_tail(&mut tail, &id_member(publication.id));
    }
    let more_len = more_len(publication);
    let put_rest = |out: &mut BytesMut, mut tail: Tail| {
        if more_len > 0 {
            out.extend_from_slice(&tail);
            tail.clear();
            put_more(out, publication);
        }
        put_tail(&mut tail, b"}");
        out.extend_from_slice(&tail);
    };
    let rest_len = tail.len() + more_len + 1;
    let start = out.len();
    let len = match publication.payload {
        Payload::Json(json) => {
            let len = heading.len() + json.len() + rest_len;
            out.reserve(ROOM + len);
            out.extend_from_slice(heading.frame(len));
            out.extend_from_slice(json.as_bytes());
            put_rest(out, tail);
            len
        }
        Payload::Binary(bytes) if binary == Binary::Frame => {
            let heading = heading.without_message();
            let envelope_len = heading.len() + rest_len;
            let len = 2 + envelope_len + bytes.len();
            put_header(out, OpCode::Binary, true, len, None);
            out.put_u16(u16::try_from(envelope_len).expect("names are at most 256 bytes, each escaped to 6"));
            out.extend_from_slice(heading);
            put_rest(out, tail);
            out.extend_from_slice(bytes);
            len
        }
        Payload::Binary(bytes) => {
            let len = heading.len() + base64_len(bytes) + rest_len;
            out.extend_from_slice(heading.frame(len));
            put_base64(out, bytes);
            put_rest(out, tail);
            len
        }
    };
    debug_assert_eq!(out.len() - start, header_len(len, false) + len, "the length is that of the parts");
}

/// Room for an offset, an id and the closing brace.
type Tail = ArrayVec<u8, { 30 + ID_MEMBER_LEN + 1 }>;

const ID_MEMBER_LEN: usize = 8 + MessageId::TEXT_LEN;

/// `,"id":"…"`.
#[inline]
fn id_member(id: MessageId) -> [u8; ID_MEMBER_LEN] {
    let mut member = *b",\"id\":\"0190a1b2-c3d4-7e5f-8091-a2b3c4d5e6f7\"";
    member[7..7 + MessageId::TEXT_LEN].copy_from_slice(&id.text());
    member
}

#[inline(always)]
fn put_tail(tail: &mut Tail, bytes: &[u8]) {
    tail.try_extend_from_slice(bytes).expect("there is room for the longest");
}

/// Bytes that [`put_more`] appends.
fn more_len(publication: &Publication<'_>) -> usize {
    let mut len = 0;
    if let Some(Sender { user, shown: true, .. }) = publication.sender {
        len += 12 + SessionId::TEXT_LEN + user.map_or(0, |user| 8 + json::escaped_len(user));
    }
    if let Some(edited_ms) = publication.edited_ms {
        len += 13 + itoa::Buffer::new().format(edited_ms).len();
    }
    len
}

/// Sender and time of the last edit.
fn put_more(out: &mut impl BufMut, publication: &Publication<'_>) {
    if let Some(Sender { session, user, shown: true }) = publication.sender {
        out.put_slice(b",\"sender\":\"");
        out.put_slice(&session.text());
        out.put_u8(b'"');
        if let Some(user) = user {
            out.put_slice(b",\"user\":");
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
fn put_base64(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_slice(b"{\"base64\":\"");
    out.put_slice(STANDARD.encode(bytes).as_bytes());
    out.put_slice(b"\"}");
}

/// A message of a page of history: `{"event","message","offset","id","time_ms"}` and what else there is to tell.
fn put_remembered(out: &mut BytesMut, remembered: &HistoryItem) {
    let message = remembered.view();
    out.extend_from_slice(b"{\"event\":");
    json::write_string(out, message.event);
    out.extend_from_slice(b",\"message\":");
    match message.payload {
        Payload::Json(json) => out.extend_from_slice(json.as_bytes()),
        Payload::Binary(bytes) => put_base64(out, bytes),
    }
    put_number(out, ",\"offset\":", remembered.offset());
    out.extend_from_slice(&id_member(message.id));
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

pub(in crate::dialect) fn encode_ok(out: &mut BytesMut, id: &str, outcome: &Outcome) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"id\":");
        text.extend_from_slice(id.as_bytes());
        text.extend_from_slice(b",\"ok\":");
        put_outcome(text, outcome);
        text.put_u8(b'}');
    });
}

pub(in crate::dialect) fn encode_error(out: &mut BytesMut, id: Option<&str>, error: ReplyError) {
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

pub(in crate::dialect) fn encode_gap(out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"gap\":{\"channel\":");
        put_optional_string(text, channel);
        put_number(text, ",\"missed\":", missed);
        text.extend_from_slice(b"}}");
    });
}

pub(in crate::dialect) fn encode_reconnect(out: &mut BytesMut, after_ms: u32) {
    put_text(out, |text| {
        put_number(text, "{\"reconnect_after_ms\":", u64::from(after_ms));
        text.extend_from_slice(b"}");
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

/// What a connection begins with.
pub struct Welcome<'a> {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: Option<&'a str>,
    /// The app's name.
    pub app: &'a str,
    /// What the session may do.
    pub limits: WelcomeLimits,
    /// What resumes the session on another connection, if the app keeps lost sessions.
    pub ticket: Option<Secret>,
    /// Whether this is a session that went on, if the client asked for that.
    pub resumed: Option<bool>,
}

pub(in crate::dialect) fn encode_welcome(out: &mut BytesMut, welcome: &Welcome<'_>) {
    let Welcome { session, user, app, limits, ticket, resumed } = welcome;
    put_text(out, |text| {
        text.extend_from_slice(b"{\"welcome\":{\"session\":\"");
        text.extend_from_slice(&session.text());
        text.extend_from_slice(b"\",\"user\":");
        put_optional_string(text, *user);
        text.extend_from_slice(b",\"app\":");
        json::write_string(text, app);
        put_number(text, ",\"ping_interval_ms\":", limits.ping_interval_ms);
        put_number(text, ",\"limits\":{\"frame_bytes\":", limits.frame_bytes as u64);
        put_number(text, ",\"message_bytes\":", limits.message_bytes as u64);
        put_number(text, ",\"profile_bytes\":", limits.profile_bytes as u64);
        put_number(text, ",\"channels\":", limits.channels as u64);
        put_number(text, ",\"batch\":", BATCH as u64);
        text.put_u8(b'}');
        if let Some(ticket) = ticket {
            text.extend_from_slice(b",\"resume\":\"");
            text.extend_from_slice(&ticket.text());
            text.put_u8(b'"');
        }
        if let Some(resumed) = resumed {
            put_bool(text, ",\"resumed\":", *resumed);
        }
        text.extend_from_slice(b"}}");
    });
}

/// An outcome as JSON: the `ok` of an answer, or the body of an HTTP response.
pub(in crate::dialect) fn put_outcome(out: &mut BytesMut, outcome: &Outcome) {
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
pub(in crate::dialect) fn put_error(out: &mut BytesMut, error: ReplyError) {
    out.extend_from_slice(b"{\"code\":\"");
    out.extend_from_slice(error.code().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    json::write_string(out, error.message());
    out.put_u8(b'}');
}

/// A member as JSON: `{"id","user"?,"data"?}`.
pub(in crate::dialect) fn put_member(
    out: &mut BytesMut,
    id: SessionId,
    user: Option<&str>,
    profile: Option<&str>,
) {
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

fn put_number(out: &mut impl BufMut, before: &str, number: u64) {
    out.put_slice(before.as_bytes());
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
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
