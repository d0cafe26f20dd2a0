//! Frames to clients: arrays of objects as JSON, one object each.

use bytes::{BufMut, BytesMut};

use super::timestamp::Moment;
use crate::{
    dialect::{Beat, Closing, Heartbeat, Life, Rhythm, native},
    disconnect::Disconnect,
    json,
    publication::{Body, Given, GivenTime, Payload, Publication, Sender},
    ws::{OpCode, put_close, put_frame},
};

/// How often the original shows its clients that it lives.
const BEAT_MS: u64 = 5_000;

/// The event by which clients of other dialects know a message.
pub const EVENT: &str = "message";

/// What an encoder keeps: the frame while it is written.
#[derive(Default)]
pub(in crate::dialect) struct Heading {
    text: BytesMut,
}

/// An empty array at every interval. A client may be silent for ever: the transport tells whether it lives.
pub(in crate::dialect) fn heartbeat(_: u64) -> Heartbeat {
    Heartbeat {
        interval_ms: BEAT_MS,
        timeout_ms: 2 * BEAT_MS,
        beat: Beat::TextFrame("[]"),
        life: Life::AnyInput,
        rhythm: Rhythm::OneWay,
    }
}

/// The protocol has no reasons: they are for the log, and the native dialect's.
pub(in crate::dialect) fn closing(why: Disconnect) -> Closing {
    native::closing(why)
}

/// Appends the last that a connection receives. A stock client comes back after every close.
pub(in crate::dialect) fn put_disconnect(out: &mut BytesMut, _: Disconnect) {
    put_close(out, 1000, "", None);
}

/// Appends a publication as a frame. What another dialect published is put into this one's words; members and
/// users that come and go in other dialects have none.
#[inline]
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    let text = &mut heading.text;
    text.clear();
    match publication.body {
        Body::Worded(words) => return put_words(out, text, words),
        Body::Message { event, payload } => put_message(text, channel, publication, event, payload),
        Body::Edit { payload, .. } => put_edit(text, channel, publication, payload),
        Body::Delete => {
            put_head(text, channel, publication);
            text.put_slice(b",\"type\":\"message:delete\"}]");
        }
        Body::MemberJoined(_)
        | Body::MemberLeft(_)
        | Body::MemberUpdated(_)
        | Body::UserJoined(_)
        | Body::UserLeft(_)
        | Body::UserUpdated(_) => return,
    }
    put_frame(out, OpCode::Text, text);
}

/// Appends a frame of these words.
fn put_words(out: &mut BytesMut, text: &mut BytesMut, words: &str) {
    text.reserve(words.len() + 2);
    text.put_u8(b'[');
    text.put_slice(words.as_bytes());
    text.put_u8(b']');
    put_frame(out, OpCode::Text, text);
}

/// Appends a frame for a client that was not there when its words were said.
pub fn put_missed(out: &mut BytesMut, words: &str) {
    put_words(out, &mut BytesMut::new(), words);
}

fn put_message(
    text: &mut BytesMut,
    channel: Option<&str>,
    publication: &Publication<'_>,
    event: &str,
    payload: Payload<'_>,
) {
    let given = publication.given.map(|given| &**given);
    put_head(text, channel, publication);
    text.put_slice(b",\"timestamp\":");
    put_time(text, given.and_then(|given| given.time.as_ref()), publication.time_ms());
    text.put_slice(b",\"user\":");
    match publication.sender.filter(|sender| sender.shown) {
        Some(Sender { user: Some(user), .. }) => json::write_string(text, user),
        Some(sender) => json::write_string(text, &sender.session.to_string()),
        None => match publication.label() {
            Some(label) => json::write_string(text, label),
            None => text.put_slice(b"null"),
        },
    }
    // A back end of this dialect may say nothing but that it has something to say.
    if given.is_none_or(|given| !given.keeps_payload) {
        text.put_slice(b",\"message\":");
        put_payload(text, payload);
    }
    if event != EVENT {
        text.put_slice(b",\"event\":");
        json::write_string(text, event);
    }
    put_note(text, given);
    text.put_slice(b",\"edited\":null,\"catchup\":false,\"type\":\"message\"}]");
}

/// An edit says what its back end gave, and nothing else.
fn put_edit(text: &mut BytesMut, channel: Option<&str>, publication: &Publication<'_>, payload: Payload<'_>) {
    let given = publication.given.map(|given| &**given);
    put_head(text, channel, publication);
    if let Some(time) = given.and_then(|given| given.time.as_ref()) {
        text.put_slice(b",\"timestamp\":");
        put_time(text, Some(time), time.unix_ms);
    }
    if let Some(label) = publication.label() {
        text.put_slice(b",\"user\":");
        json::write_string(text, label);
    }
    if given.is_none_or(|given| !given.keeps_payload) {
        text.put_slice(b",\"message\":");
        put_payload(text, payload);
    }
    text.put_slice(b",\"edited\":");
    let edited = given.and_then(|given| given.edited.as_ref());
    put_time(text, edited, publication.edited_ms.unwrap_or_default());
    put_note(text, given);
    text.put_slice(b",\"type\":\"message:edit\"}]");
}

/// Members that a back end of this dialect gave besides those that are known. Other dialects' notes are not
/// in this form.
fn put_note(text: &mut BytesMut, given: Option<&Given>) {
    let note = given.and_then(|given| given.note.as_deref()).filter(|note| note.starts_with(",\""));
    text.put_slice(note.unwrap_or_default().as_bytes());
}

/// `[{"channel":…,"uuid":…`.
fn put_head(text: &mut BytesMut, channel: Option<&str>, publication: &Publication<'_>) {
    text.put_slice(b"[{\"channel\":");
    match channel {
        Some(channel) => json::write_string(text, channel),
        None => text.put_slice(b"null"),
    }
    text.put_slice(b",\"uuid\":\"");
    text.put_slice(&publication.id.text());
    text.put_u8(b'"');
}

/// A time as its back end gave it, if that was in this dialect's form.
fn put_time(text: &mut BytesMut, given: Option<&GivenTime>, unix_ms: u64) {
    match given {
        Some(time) if time.text.contains('T') => json::write_string(text, &time.text),
        _ => json::write_string(text, &Moment(unix_ms.saturating_mul(1000)).to_string()),
    }
}

/// A payload as the object that clients of this dialect expect.
fn put_payload(text: &mut BytesMut, payload: Payload<'_>) {
    match payload {
        Payload::Json(json) if json.starts_with('{') => text.put_slice(json.as_bytes()),
        Payload::Json(json) => {
            text.put_slice(b"{\"value\":");
            text.put_slice(json.as_bytes());
            text.put_u8(b'}');
        }
        Payload::Binary(bytes) => {
            text.put_slice(b"{\"value\":{\"type\":\"Buffer\",\"data\":[");
            for (at, byte) in bytes.iter().enumerate() {
                text.put_slice(if at == 0 { b"" } else { b"," });
                text.put_slice(itoa::Buffer::new().format(*byte).as_bytes());
            }
            text.put_slice(b"]}}");
        }
    }
}
