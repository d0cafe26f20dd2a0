//! Frames to clients: arrays of objects as JSON, one object each.

use bytes::{BufMut, BytesMut};

use super::timestamp::Moment;
use crate::{
    dialect::{Beat, Closing, Heartbeat, Life, Rhythm, native},
    disconnect::Disconnect,
    json,
    publication::{Body, Payload, Publication},
    ws::{OpCode, put_close, put_frame},
};

/// How often the original shows its clients that it lives.
const BEAT_MS: u64 = 5_000;

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
        Body::Edit { payload, .. } => {
            put_head(text, channel, publication);
            text.put_slice(b",\"message\":");
            put_payload(text, payload);
            text.put_slice(b",\"edited\":");
            put_time(text, publication.edited_ms.unwrap_or_default());
            text.put_slice(b",\"type\":\"message:edit\"}]");
        }
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
    put_head(text, channel, publication);
    text.put_slice(b",\"timestamp\":");
    put_time(text, publication.id.time_ms());
    text.put_slice(b",\"user\":");
    match publication.sender.filter(|sender| sender.shown) {
        Some(sender) => match sender.user {
            Some(user) => json::write_string(text, user),
            None => json::write_string(text, &sender.session.to_string()),
        },
        None => text.put_slice(b"null"),
    }
    text.put_slice(b",\"message\":");
    put_payload(text, payload);
    if event != "message" {
        text.put_slice(b",\"event\":");
        json::write_string(text, event);
    }
    text.put_slice(b",\"edited\":null,\"catchup\":false,\"type\":\"message\"}]");
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

fn put_time(text: &mut BytesMut, unix_ms: u64) {
    json::write_string(text, &Moment(unix_ms * 1000).to_string());
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
