//! Frames for clients: JSON arrays with one object each.

use bytes::{BufMut, BytesMut};

use super::timestamp::Moment;
use crate::{
    dialect::{Beat, Closing, Format, Heartbeat, Life, Rhythm, buffer::write_buffer, native},
    disconnect::Disconnect,
    json,
    publication::{Body, Given, GivenTime, Payload, Publication, Sender},
    ws::{OpCode, put_close, put_frame},
};

/// The original's heartbeat interval in milliseconds.
const BEAT_MS: u64 = 5_000;

/// The event of a Channelstream message for clients of other dialects.
pub const EVENT: &str = "message";

/// The state of an encoder: a buffer for the frame.
pub(in crate::dialect) struct Heading {
    text: BytesMut,
    framing: Framing,
    clock: Clock,
}

/// The last time that an encoder has written. Publications of a turn have the same time.
#[derive(Default)]
struct Clock {
    unix_ms: u64,
    text: String,
}

impl Clock {
    /// Writes a time.
    fn put(&mut self, text: &mut BytesMut, unix_ms: u64) {
        if self.unix_ms != unix_ms || self.text.is_empty() {
            self.unix_ms = unix_ms;
            self.text = format!("\"{}\"", Moment(unix_ms.saturating_mul(1000)));
        }
        text.put_slice(self.text.as_bytes());
    }
}

/// How an object travels.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Framing {
    /// The object is an array of its own, in a text frame.
    Frame,
    /// The object is a line. An answer to a poll makes an array of lines.
    Line,
}

impl Framing {
    fn of(format: Format) -> Self {
        if format == Format::ChannelstreamPolls { Self::Line } else { Self::Frame }
    }

    /// Appends one object, given as the text of an array.
    fn put(self, out: &mut BytesMut, text: &[u8]) {
        match self {
            Self::Frame => put_frame(out, OpCode::Text, text),
            Self::Line => {
                let object = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                out.put_slice(object);
                out.put_u8(b'\n');
            }
        }
    }
}

impl Heading {
    /// The heading for a format.
    pub(in crate::dialect) fn new(format: Format) -> Self {
        Self { text: BytesMut::new(), framing: Framing::of(format), clock: Clock::default() }
    }

    /// Restarts the heading for another channel and a format. The heading keeps nothing of a channel.
    pub(in crate::dialect) fn restart(&mut self, format: Format) {
        self.framing = Framing::of(format);
    }
}

/// The heartbeat: an empty array at every interval. A client need not answer, so only its transport shows
/// that it lives.
pub(in crate::dialect) fn heartbeat(_: u64) -> Heartbeat {
    Heartbeat {
        interval_ms: BEAT_MS,
        timeout_ms: 2 * BEAT_MS,
        beat: Beat::TextFrame("[]"),
        life: Life::AnyInput,
        rhythm: Rhythm::OneWay,
    }
}

/// The reason of a close. The protocol has no reasons, so the log uses the native dialect's.
pub(in crate::dialect) fn closing(why: Disconnect) -> Closing {
    native::closing(why)
}

/// Appends the last bytes that a connection receives. A stock client reconnects after every close.
pub(in crate::dialect) fn put_disconnect(format: Format, out: &mut BytesMut, _: Disconnect) {
    // The answer to a poll has no last frame.
    if Framing::of(format) == Framing::Frame {
        put_close(out, 1000, "", None);
    }
}

/// Appends a publication as a frame. A message of another dialect is expressed in this dialect's form. Joins
/// and leaves of other dialects' members have no form here.
#[inline]
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    let Heading { text, framing, clock } = heading;
    text.clear();
    match publication.body {
        Body::Worded(words) => return put_words(out, text, words, *framing),
        Body::Message { event, payload } => put_message((text, clock), channel, publication, event, payload),
        Body::Edit { payload, .. } => put_edit((text, clock), channel, publication, payload),
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
    framing.put(out, text);
}

/// Appends a frame that a back end's words make up.
fn put_words(out: &mut BytesMut, text: &mut BytesMut, words: &str, framing: Framing) {
    text.reserve(words.len() + 2);
    text.put_u8(b'[');
    text.put_slice(words.as_bytes());
    text.put_u8(b']');
    framing.put(out, text);
}

/// Appends a frame that was sent while the client was absent.
pub fn put_missed(format: Format, out: &mut BytesMut, words: &str) {
    put_words(out, &mut BytesMut::new(), words, Framing::of(format));
}

fn put_message(
    (text, clock): (&mut BytesMut, &mut Clock),
    channel: Option<&str>,
    publication: &Publication<'_>,
    event: &str,
    payload: Payload<'_>,
) {
    let given = publication.given.map(|given| &**given);
    put_head(text, channel, publication);
    text.put_slice(b",\"timestamp\":");
    put_time(text, given.and_then(|given| given.time.as_ref()), publication.time_ms(), clock);
    text.put_slice(b",\"user\":");
    match publication.sender.filter(|sender| sender.shown) {
        Some(Sender { user: Some(user), .. }) => json::write_string(text, user),
        Some(sender) => json::write_string(text, &sender.session.to_string()),
        None => json::write_optional_string(text, publication.label()),
    }
    // An edit of this dialect's back end may leave out the payload.
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

/// Writes an edit: the members that its back end gave, and no others.
fn put_edit(
    (text, clock): (&mut BytesMut, &mut Clock),
    channel: Option<&str>,
    publication: &Publication<'_>,
    payload: Payload<'_>,
) {
    let given = publication.given.map(|given| &**given);
    put_head(text, channel, publication);
    if let Some(time) = given.and_then(|given| given.time.as_ref()) {
        text.put_slice(b",\"timestamp\":");
        put_time(text, Some(time), time.unix_ms, clock);
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
    put_time(text, edited, publication.edited_ms.unwrap_or_default(), clock);
    put_note(text, given);
    text.put_slice(b",\"type\":\"message:edit\"}]");
}

/// Writes the unknown members that a back end of this dialect gave. Notes of other dialects do not have this
/// form.
fn put_note(text: &mut BytesMut, given: Option<&Given>) {
    let note = given.and_then(|given| given.note.as_deref()).filter(|note| note.starts_with(",\""));
    text.put_slice(note.unwrap_or_default().as_bytes());
}

/// Writes the head `[{"channel":…,"uuid":…`.
fn put_head(text: &mut BytesMut, channel: Option<&str>, publication: &Publication<'_>) {
    text.put_slice(b"[{\"channel\":");
    json::write_optional_string(text, channel);
    text.put_slice(b",\"uuid\":\"");
    text.put_slice(&publication.id.text());
    text.put_u8(b'"');
}

/// Writes a time: the text that the back end gave, if that text has this dialect's form.
fn put_time(text: &mut BytesMut, given: Option<&GivenTime>, unix_ms: u64, clock: &mut Clock) {
    match given {
        Some(time) if time.text.contains('T') => json::write_string(text, &time.text),
        _ => clock.put(text, unix_ms),
    }
}

/// Writes a payload as the object that this dialect's clients expect.
fn put_payload(text: &mut BytesMut, payload: Payload<'_>) {
    match payload {
        Payload::Json(json) if json.starts_with('{') => text.put_slice(json.as_bytes()),
        Payload::Json(json) => {
            text.put_slice(b"{\"value\":");
            text.put_slice(json.as_bytes());
            text.put_u8(b'}');
        }
        Payload::Binary(bytes) => {
            text.put_slice(b"{\"value\":");
            write_buffer(bytes, |part| text.put_slice(part.as_bytes()));
            text.put_u8(b'}');
        }
    }
}
