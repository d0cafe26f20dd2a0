//! Encodes envelopes `{action, client, options, payload}`, each in a text frame of its own.

use std::sync::Arc;

use bytes::BytesMut;

use super::{action::MESSAGE, errors::sentence};
use crate::{
    channel::HistoryItem,
    command::Outcome,
    dialect::buffer::write_buffer,
    error::ReplyError,
    id::SessionId,
    json,
    publication::{Audience, Body, IdentityCard, Payload, Publication, Sender, WithoutUser},
    ws::{OpCode, put_frame},
};

/// The event of a back end's publication that clients receive as the action `event`.
pub(super) const EVENT: &str = "event";

/// The member `"channel":<name>` of the channel whose publications are encoded, and a buffer for an envelope.
#[derive(Default)]
pub(in crate::dialect) struct Heading {
    /// The channel's member; empty if it is not written yet, or for a broadcast.
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

    /// Appends the options up to the channel, and leaves the object open.
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

/// Appends a publication. Changes of profiles and notices about a user's number of sessions have no action in
/// this dialect.
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
        Body::MemberJoined(card) => put_notice(heading, channel, "join", card),
        Body::MemberLeft(card) => put_notice(heading, channel, "leave", card),
        Body::MemberUpdated(_)
        | Body::UserJoined(_)
        | Body::UserLeft(_)
        | Body::UserUpdated(_)
        | Body::Worded(_) => return Word::None,
    }
    heading.put(&["}"]);
    Word::Known
}

/// Writes a session's message. An event other than `message` stands beside the message in the payload.
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
    let authenticated = publication.audience.without_user == WithoutUser::Excluded;
    let authenticated = if authenticated { "true" } else { "false" };
    heading.put(&[comma, "\"authenticated\":", authenticated, ",\"socketId\":"]);
    match publication.audience.only_session {
        Some(target) => put_quoted(&mut heading.text, &target.text()),
        None => heading.put(&["null"]),
    }
    heading.put(&["},\"payload\":"]);
    put_payload(&mut heading.text, MESSAGE, publication.event(), publication.payload());
}

/// Writes a back end's publication: `{data, dbo_id, row_id}`. The ids are those of the only user that the
/// publication is for.
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

/// Writes `{action, presence}` for a client that joins or leaves.
fn put_notice(heading: &mut Heading, channel: Option<&str>, action: &str, card: &IdentityCard) {
    heading.begin(channel, "presence_update");
    heading.put(&["null"]);
    heading.put_options();
    heading.put(&["},\"payload\":{\"action\":\"", action, "\",\"presence\":"]);
    put_card(&mut heading.text, card);
    heading.put(&["}"]);
}

fn put_card(text: &mut BytesMut, card: &IdentityCard) {
    put_client(text, card.id, card.user.as_deref(), card.profile.as_deref());
}

/// Writes the edit or deletion of an earlier message as an event, because the protocol has no action for
/// changes.
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

/// Writes a payload, or `{event, message}` if the event is not `own`. Bytes are written as JavaScript writes
/// a buffer.
fn put_payload(text: &mut BytesMut, own: &str, event: &str, payload: Payload<'_>) {
    if event != own {
        put(text, &["{\"event\":"]);
        json::write_string(text, event);
        put(text, &[",\"message\":"]);
    }
    match payload {
        Payload::Json(json) => put(text, &[json]),
        Payload::Binary(bytes) => write_buffer(bytes, |part| put(text, &[part])),
    }
    if event != own {
        put(text, &["}"]);
    }
}

/// Writes a session in the protocol's form: `{socketId, extras, permissions}`.
fn put_client(text: &mut BytesMut, session: SessionId, user: Option<&str>, profile: Option<&str>) {
    put(text, &["{\"socketId\":"]);
    put_quoted(text, &session.text());
    match profile {
        Some(object) if object.starts_with('{') => put(text, &[",\"extras\":", object]),
        // Clients expect an object.
        Some(other) => put(text, &[",\"extras\":{\"profile\":", other, "}"]),
        None => put(text, &[",\"extras\":{}"]),
    }
    put_row(text, ",\"permissions\":{", user);
    put(text, &["}}"]);
}

/// Writes `"dbo_id":…,"row_id":…` of a user after `before`. Both are integers, which are 0 without a user, or
/// if the user's name is not a row.
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

/// The row of a table that a user's name `<table>:<row>` means.
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

    /// Reads an integer that JavaScript holds exactly, in the form in which JavaScript writes it.
    pub(super) fn number(text: &str) -> Option<u64> {
        const MAX: u64 = 1 << 53;
        let is_plain = text == "0" || !text.starts_with(['0', '+']);
        text.parse().ok().filter(|number| is_plain && *number < MAX)
    }
}

/// Appends the answer to a successful command. `channel` is the channel's name as JSON. A message has no
/// answer, because its sender receives the message.
pub(in crate::dialect) fn encode_ok(out: &mut BytesMut, channel: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Joined { .. } => put_answer(out, "join", channel, |text| put(text, &["null"])),
        Outcome::Roster(roster) => {
            put_answer(out, "presence_full", channel, |text| put_roster(text, &roster.members));
        }
        Outcome::Left { .. } => put_answer(out, "leave", channel, |text| put(text, &["null"])),
        Outcome::History { channel: name, page, .. } => {
            // A page that ends with the newest message lists the newest message first.
            let messages = page.messages.iter().rev();
            put_answer(out, "history", channel, |text| put_history(text, name, messages));
        }
        _ => {}
    }
}

/// Writes the members, `{"presence":[…]}`.
fn put_roster(text: &mut BytesMut, members: &[Arc<IdentityCard>]) {
    put(text, &["{\"presence\":"]);
    json::write_array(text, members, |text, card| put_card(text, card));
    put(text, &["}"]);
}

/// Writes `{"history":[…]}`, the oldest message first, each message in the form in which members received it.
fn put_history<'i>(text: &mut BytesMut, channel: &str, messages: impl Iterator<Item = &'i HistoryItem>) {
    let mut heading = Heading::default();
    put(text, &["{\"history\":"]);
    json::write_array(text, messages, |text, message| {
        write_publication(&mut heading, Some(channel), &message.view());
        text.extend_from_slice(&heading.text);
    });
    put(text, &["}"]);
}

/// Appends the error of a refused command, if the command named a channel: a frame without a channel goes to
/// every listener. A command that follows a join fails only if the join failed, so its error is not sent.
pub(in crate::dialect) fn encode_error(out: &mut BytesMut, channel: Option<&str>, error: ReplyError) {
    if let Some(channel) = channel.filter(|channel| !follows_join(channel)) {
        put_answer(out, "error", channel, |text| put_sentence(text, sentence(error)));
    }
}

/// Appends the error of a command that a trigger refused.
pub(in crate::dialect) fn encode_refused(out: &mut BytesMut, channel: Option<&str>, why: &str) {
    let Some(channel) = channel else { return };
    put_answer(out, "error", channel, |text| {
        put(text, &["{\"message\":"]);
        json::write_string(text, why);
        put(text, &["}"]);
    });
}

/// Appends an error that tells a slow client how many publications it lost.
pub(in crate::dialect) fn encode_gap(out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    let mut name = BytesMut::new();
    json::write_optional_string(&mut name, channel);
    let name = std::str::from_utf8(&name).expect("JSON is UTF-8");
    let mut number = itoa::Buffer::new();
    put_answer(out, "error", name, |text| {
        put(
            text,
            &["{\"message\":\"", number.format(missed), " messages were lost on a slow connection.\"}"],
        );
    });
}

/// Writes `{"message":…}` with a sentence that needs no escapes in JSON.
pub(super) fn put_sentence(text: &mut BytesMut, sentence: &str) {
    put(text, &["{\"message\":"]);
    json::write_string(text, sentence);
    put(text, &["}"]);
}

/// Writes an answer's envelope, which has no client; see [`Frame::id`](super::Frame::id).
fn put_answer(out: &mut BytesMut, action: &str, channel: &str, payload: impl FnOnce(&mut BytesMut)) {
    let mut text = BytesMut::with_capacity(128);
    put(&mut text, &["{\"action\":\"", action, "\",\"client\":null,\"options\":"]);
    match follows_join(channel) {
        true => put(&mut text, &[channel]),
        false => put(&mut text, &["{\"channel\":", channel, "}"]),
    }
    put(&mut text, &[",\"payload\":"]);
    payload(&mut text);
    put(&mut text, &["}"]);
    put_frame(out, OpCode::Text, &text);
}

/// Whether an id is that of a command that follows a join. Such an id is an object.
fn follows_join(id: &str) -> bool {
    id.starts_with('{')
}
