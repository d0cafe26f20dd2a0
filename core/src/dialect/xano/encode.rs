//! Envelopes out: `{action, client, options, payload}`, one text frame each.

use bytes::BytesMut;

use super::{action::MESSAGE, errors::sentence};
use crate::{
    channel::HistoryItem,
    command::Outcome,
    error::ReplyError,
    id::SessionId,
    json,
    publication::{Audience, Body, Payload, Publication, Sender},
    ws::{OpCode, put_frame},
};

/// The event of a publication of the app's back end, which clients know by the action of that name.
pub(super) const EVENT: &str = "event";

/// `"channel":<name>` of the channel whose publications are encoded, and room for an envelope.
#[derive(Default)]
pub(in crate::dialect) struct Heading {
    /// Empty: not written yet, or a broadcast's.
    channel: BytesMut,
    text: BytesMut,
}

impl Heading {
    /// Drops the channel's name.
    pub(in crate::dialect) fn clear(&mut self) {
        self.channel.clear();
    }

    /// Begins an envelope.
    fn begin(&mut self, channel: Option<&str>, action: &str) {
        if let Some(channel) = channel
            && self.channel.is_empty()
        {
            self.channel.extend_from_slice(b"\"channel\":");
            json::write_string(&mut self.channel, channel);
        }
        self.text.clear();
        put(&mut self.text, &["{\"action\":\"", action, "\",\"client\":"]);
    }

    fn put(&mut self, parts: &[&str]) {
        put(&mut self.text, parts);
    }

    /// Appends the options up to the channel: the object is still open.
    fn put_options(&mut self) {
        put(&mut self.text, &[",\"options\":{"]);
        self.text.extend_from_slice(&self.channel);
    }
}

fn put(text: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        text.extend_from_slice(part.as_bytes());
    }
}

/// Appends a publication. Changes of a profile and counts of a user's sessions have no action here.
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    if write_publication(heading, channel, publication) == Word::Known {
        put_frame(out, OpCode::Text, &heading.text);
    }
}

/// Whether the protocol has a word for a publication.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Word {
    Known,
    None,
}

/// Writes the envelope of a publication into the heading's text.
fn write_publication(heading: &mut Heading, channel: Option<&str>, publication: &Publication<'_>) -> Word {
    match publication.body {
        Body::Message { event, payload } => match publication.sender {
            Some(sender) => put_message(heading, channel, publication, sender),
            None => put_event(heading, channel, publication.audience, event, payload),
        },
        Body::Edit { payload, .. } => {
            put_change(heading, channel, publication, "message:edit", Some(payload));
        }
        Body::Delete => put_change(heading, channel, publication, "message:delete", None),
        Body::MemberJoined(_)
        | Body::MemberLeft(_)
        | Body::MemberUpdated(_)
        | Body::UserJoined(_)
        | Body::UserLeft(_)
        | Body::UserUpdated(_)
        | Body::Worded(_) => return Word::None,
    }
    heading.put(&["}"]);
    Word::Known
}

/// What a session sent. An event of another name than the protocol's only one stands beside the message.
fn put_message(
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
    sender: Sender<'_>,
) {
    heading.begin(channel, "message");
    let Sender { session, user, profile, .. } = sender;
    put_client(&mut heading.text, session, user, profile.map(|profile| &**profile));
    heading.put_options();
    let comma = if heading.channel.is_empty() { "" } else { "," };
    heading.put(&[comma, "\"authenticated\":false,\"socketId\":"]);
    match publication.audience.only_session {
        Some(target) => put_quoted(&mut heading.text, &target.text()),
        None => heading.put(&["null"]),
    }
    heading.put(&["},\"payload\":"]);
    put_payload(&mut heading.text, MESSAGE, publication.event(), publication.payload());
}

/// What the app's back end published: `{data, dbo_id, row_id}`, the latter two of the user it is for alone.
fn put_event(
    heading: &mut Heading,
    channel: Option<&str>,
    audience: &Audience,
    event: &str,
    payload: Payload<'_>,
) {
    heading.begin(channel, "event");
    heading.put(&["null"]);
    heading.put_options();
    heading.put(&["},\"payload\":{\"data\":"]);
    let own = if event == MESSAGE { MESSAGE } else { EVENT };
    put_payload(&mut heading.text, own, event, payload);
    let user = match audience.only_users.as_deref() {
        Some([user]) => Some(&**user),
        _ => None,
    };
    put_row(&mut heading.text, ",", user);
    heading.put(&["}"]);
}

/// The change of an earlier message, for which the protocol has no action: an event that says so.
#[cold]
fn put_change(
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
    kind: &str,
    payload: Option<Payload<'_>>,
) {
    heading.begin(channel, "event");
    heading.put(&["null"]);
    heading.put_options();
    heading.put(&["},\"payload\":{\"data\":{\"type\":\"", kind, "\",\"uuid\":"]);
    put_quoted(&mut heading.text, &publication.id.text());
    if let Some(payload) = payload {
        heading.put(&[",\"message\":"]);
        put_payload(&mut heading.text, publication.event(), publication.event(), payload);
    }
    heading.put(&["},\"dbo_id\":0,\"row_id\":0}"]);
}

/// A payload; `{event, message}` if its event has another name than `own`. Bytes are written as JavaScript
/// writes a buffer.
fn put_payload(text: &mut BytesMut, own: &str, event: &str, payload: Payload<'_>) {
    if event != own {
        put(text, &["{\"event\":"]);
        json::write_string(text, event);
        put(text, &[",\"message\":"]);
    }
    match payload {
        Payload::Json(json) => put(text, &[json]),
        Payload::Binary(bytes) => {
            put(text, &["{\"type\":\"Buffer\",\"data\":["]);
            for (at, byte) in bytes.iter().enumerate() {
                put(text, &[if at > 0 { "," } else { "" }, itoa::Buffer::new().format(*byte)]);
            }
            put(text, &["]}"]);
        }
    }
    if event != own {
        put(text, &["}"]);
    }
}

/// A session as the protocol shows it: `{socketId, extras, permissions}`.
fn put_client(text: &mut BytesMut, session: SessionId, user: Option<&str>, profile: Option<&str>) {
    put(text, &["{\"socketId\":"]);
    put_quoted(text, &session.text());
    match profile {
        Some(object) if object.starts_with('{') => put(text, &[",\"extras\":", object]),
        // Whatever reads them expects an object.
        Some(other) => put(text, &[",\"extras\":{\"profile\":", other, "}"]),
        None => put(text, &[",\"extras\":{}"]),
    }
    put_row(text, ",\"permissions\":{", user);
    put(text, &["}}"]);
}

/// `"dbo_id":…,"row_id":…` of a user, behind `before`: always integers, and 0 if there is no user or one that
/// is named otherwise.
fn put_row(text: &mut BytesMut, before: &str, user: Option<&str>) {
    let Row { table, row } = user.and_then(Row::of).unwrap_or_default();
    put(text, &[before, "\"dbo_id\":", itoa::Buffer::new().format(table)]);
    put(text, &[",\"row_id\":", itoa::Buffer::new().format(row)]);
}

fn put_quoted(text: &mut BytesMut, name: &[u8]) {
    put(text, &["\""]);
    text.extend_from_slice(name);
    put(text, &["\""]);
}

/// The row of a table that a user is: its name is `<table>:<row>`.
#[derive(Copy, Clone, Default)]
pub(super) struct Row {
    pub(super) table: u64,
    pub(super) row: u64,
}

impl Row {
    fn of(user: &str) -> Option<Self> {
        let (table, row) = user.split_once(':')?;
        Some(Self { table: Self::number(table)?, row: Self::number(row)? })
    }

    /// The user's name.
    pub(super) fn user(self) -> Box<str> {
        format!("{}:{}", self.table, self.row).into()
    }

    /// An integer that JavaScript holds exactly, as it is written there.
    pub(super) fn number(text: &str) -> Option<u64> {
        const MAX: u64 = 1 << 53;
        let is_plain = text == "0" || !text.starts_with(['0', '+']);
        text.parse().ok().filter(|number| is_plain && *number < MAX)
    }
}

/// Appends what answers a command that succeeded. `channel` is its name as JSON. Messages are not answered:
/// their sender receives them.
pub(in crate::dialect) fn encode_ok(out: &mut BytesMut, channel: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Joined { .. } => put_answer(out, "join", channel, |text| put(text, &["null"])),
        Outcome::Left { .. } => put_answer(out, "leave", channel, |text| put(text, &["null"])),
        Outcome::History { channel: name, page, .. } => {
            // A page that ends with the newest message begins with it.
            let messages = page.messages.iter().rev();
            put_answer(out, "history", channel, |text| put_history(text, name, messages));
        }
        _ => {}
    }
}

/// `{"history":[…]}`, the oldest message first, each as its members received it.
fn put_history<'i>(text: &mut BytesMut, channel: &str, messages: impl Iterator<Item = &'i HistoryItem>) {
    let mut heading = Heading::default();
    put(text, &["{\"history\":["]);
    for (at, message) in messages.enumerate() {
        write_publication(&mut heading, Some(channel), &message.view());
        put(text, &[if at > 0 { "," } else { "" }]);
        text.extend_from_slice(&heading.text);
    }
    put(text, &["]}"]);
}

/// Appends why a command was refused, if it named a channel: a frame without one goes to every listener.
pub(in crate::dialect) fn encode_error(out: &mut BytesMut, channel: Option<&str>, error: ReplyError) {
    if let Some(channel) = channel {
        put_answer(out, "error", channel, |text| put_sentence(text, sentence(error)));
    }
}

/// Appends word of publications lost to a connection's own slowness.
pub(in crate::dialect) fn encode_gap(out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    let mut name = BytesMut::new();
    match channel {
        Some(channel) => json::write_string(&mut name, channel),
        None => put(&mut name, &["null"]),
    }
    let name = std::str::from_utf8(&name).expect("JSON is UTF-8");
    let mut number = itoa::Buffer::new();
    put_answer(out, "error", name, |text| {
        put(
            text,
            &["{\"message\":\"", number.format(missed), " messages were lost on a slow connection.\"}"],
        );
    });
}

/// `{"message":…}` of a sentence that JSON need not escape.
pub(super) fn put_sentence(text: &mut BytesMut, sentence: &str) {
    put(text, &["{\"message\":"]);
    json::write_string(text, sentence);
    put(text, &["}"]);
}

/// An envelope that no client sent.
fn put_answer(out: &mut BytesMut, action: &str, channel: &str, payload: impl FnOnce(&mut BytesMut)) {
    let mut text = BytesMut::with_capacity(128);
    put(
        &mut text,
        &[
            "{\"action\":\"",
            action,
            "\",\"client\":null,\"options\":{\"channel\":",
            channel,
            "},\"payload\":",
        ],
    );
    payload(&mut text);
    put(&mut text, &["}"]);
    put_frame(out, OpCode::Text, &text);
}
