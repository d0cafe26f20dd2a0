//! Publications out: one frame each, JSON with the payload as its sender wrote it.

use arrayvec::ArrayVec;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, BytesMut};

use super::{outcome::put_member, put::put_number, users::put_user};
use crate::{
    id::{MessageId, SessionId},
    json,
    publication::{Body, Payload, Publication, Sender},
    ws::{Fin, MAX_UNMASKED_HEADER_LEN, OpCode, header_len, put_header, put_header_at_end},
};

/// Events of the server: of a change of a message, and of presence.
mod event {
    pub(super) const EDIT: &str = "message:edit";
    pub(super) const DELETE: &str = "message:delete";
    pub(super) const JOIN: &str = "channel:join";
    pub(super) const LEAVE: &str = "channel:leave";
    pub(super) const UPDATE: &str = "channel:update";
    pub(super) const USER_JOIN: &str = "channel:user_join";
    pub(super) const USER_LEAVE: &str = "channel:user_leave";
    pub(super) const USER_UPDATE: &str = "channel:user_update";
}

/// Whether an event's name belongs to the server.
pub(in crate::dialect) fn is_reserved_event(event: &str) -> bool {
    ["channel:", "message:"].iter().any(|prefix| event.starts_with(prefix))
}

/// What becomes of a binary payload.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(in crate::dialect) enum Binary {
    /// It travels in a binary frame, behind the envelope.
    Frame,
    /// It becomes `{"base64":"…"}` in the JSON.
    Base64,
}

/// The beginning `{"channel":…,"event":…,"message":` of the last publication. Most publications of a channel
/// in one turn have the same beginning.
#[derive(Default)]
pub(in crate::dialect) struct Heading {
    event: String,
    /// Behind room for the frame's header, so that both are appended together. Empty: not written yet.
    text: BytesMut,
    /// The payload of a notice while it is written.
    notice: BytesMut,
}

const ROOM: usize = MAX_UNMASKED_HEADER_LEN;
const MESSAGE: &[u8] = b",\"message\":";

impl Heading {
    /// Forgets the channel.
    pub(in crate::dialect) fn clear(&mut self) {
        self.text.clear();
    }

    /// Rewrites the heading if its event has changed. `channel` is unchanged since [`Heading::clear`].
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
        json::write_optional_string(&mut self.text, channel);
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

/// Writes `{"channel":…,"event":…,"message":…,"offset":…}` and the optional members in a text frame.
/// [`Binary`] writes payloads of bytes.
#[inline]
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
    binary: Binary,
) {
    match publication.body {
        Body::Message { event, payload } => {
            encode(out, heading, channel, Named { event, payload }, publication, binary);
        }
        _ => encode_event(out, heading, channel, publication, binary),
    }
}

/// Appends a publication whose event is the server's: a change of a message, or a notice of presence.
#[inline(never)]
fn encode_event(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
    binary: Binary,
) {
    let mut text = std::mem::take(&mut heading.notice);
    text.clear();
    let event = match publication.body {
        Body::Worded(_) => {
            heading.notice = text;
            return;
        }
        Body::Message { event, .. } => event,
        Body::Edit { .. } => event::EDIT,
        Body::Delete => event::DELETE,
        Body::MemberJoined(card) => {
            put_member(&mut text, card);
            event::JOIN
        }
        Body::MemberLeft(card) => {
            put_member(&mut text, card);
            event::LEAVE
        }
        Body::MemberUpdated(card) => {
            put_member(&mut text, card);
            event::UPDATE
        }
        Body::UserJoined(user) => {
            put_user(&mut text, user);
            event::USER_JOIN
        }
        Body::UserLeft(user) => {
            put_user(&mut text, user);
            event::USER_LEAVE
        }
        Body::UserUpdated(user) => {
            put_user(&mut text, user);
            event::USER_UPDATE
        }
    };
    let payload = match publication.body {
        Body::Message { payload, .. } | Body::Edit { payload, .. } => payload,
        Body::Delete => Payload::NULL,
        _ => Payload::Json(std::str::from_utf8(&text).expect("JSON is UTF-8")),
    };
    encode(out, heading, channel, Named { event, payload }, publication, binary);
    heading.notice = text;
}

/// What the frame of a publication calls it, and says.
#[derive(Copy, Clone)]
struct Named<'a> {
    event: &'a str,
    payload: Payload<'a>,
}

#[inline(always)]
fn encode(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    Named { event, payload }: Named<'_>,
    publication: &Publication<'_>,
    binary: Binary,
) {
    heading.set(channel, event);
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
    let len = match payload {
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
            put_header(out, OpCode::Binary, Fin::Last, len, None);
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
    debug_assert_eq!(out.len() - start, header_len(len) + len, "the length is that of the parts");
}

/// Room for an offset, an id and the closing brace.
type Tail = ArrayVec<u8, { 30 + ID_MEMBER_LEN + 1 }>;

const ID_MEMBER_LEN: usize = 8 + MessageId::TEXT_LEN;

/// `,"id":"…"`.
#[inline]
pub(super) fn id_member(id: MessageId) -> [u8; ID_MEMBER_LEN] {
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
    } else if let Some(label) = publication.label() {
        len += 8 + json::escaped_len(label);
    }
    if let Some(edited_ms) = publication.edited_ms {
        len += 13 + itoa::Buffer::new().format(edited_ms).len();
    }
    len
}

/// Writes the sender, or the name that a back end gave the sender, and the time of the last edit.
pub(super) fn put_more(out: &mut impl BufMut, publication: &Publication<'_>) {
    if let Some(Sender { session, user, shown: true, .. }) = publication.sender {
        out.put_slice(b",\"sender\":\"");
        out.put_slice(&session.text());
        out.put_u8(b'"');
        if let Some(user) = user {
            out.put_slice(b",\"user\":");
            json::write_string(out, user);
        }
    } else if let Some(label) = publication.label() {
        out.put_slice(b",\"user\":");
        json::write_string(out, label);
    }
    if let Some(edited_ms) = publication.edited_ms {
        put_number(out, ",\"edited_ms\":", edited_ms);
    }
}

fn base64_len(bytes: &[u8]) -> usize {
    13 + bytes.len().div_ceil(3) * 4
}

/// `{"base64":"…"}`.
pub(super) fn put_base64(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_slice(b"{\"base64\":\"");
    out.put_slice(STANDARD.encode(bytes).as_bytes());
    out.put_slice(b"\"}");
}
