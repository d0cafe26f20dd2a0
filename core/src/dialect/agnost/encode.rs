//! Publications out: events of Socket.IO, each with one object `{channel, message}`.

use bytes::BytesMut;

use super::{
    FRAMING,
    back_end::USER_NOTE,
    mixed::{MARK_TEXT, is_mixed, split},
};
use crate::{
    dialect::Welcome,
    id::MessageId,
    json::{self, Document, Raw, Scanner},
    publication::{Body, IdentityCard, Payload, Publication},
    socketio::{
        INVALID_NAMESPACE, MAIN_NAMESPACE, Outgoing, RESERVED_EVENTS, put_connect, put_connect_error,
        put_event,
    },
};

/// What stands in the JSON for the bytes that follow.
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

/// `["<event>",{"channel":<channel>,"message":`, as the last publication of the channel began.
#[derive(Default)]
pub(in crate::dialect) struct Heading {
    event: String,
    /// Empty: not written yet.
    text: BytesMut,
    /// The message of a notice while it is written.
    notice: BytesMut,
}

impl Heading {
    /// Drops the channel's name.
    pub(in crate::dialect) fn clear(&mut self) {
        self.text.clear();
    }

    fn set(&mut self, channel: Option<&str>, event: &str) {
        if !self.text.is_empty() && self.event == event {
            return;
        }
        event.clone_into(&mut self.event);
        self.text.clear();
        self.text.extend_from_slice(b"[");
        json::write_string(&mut self.text, event);
        self.text.extend_from_slice(b",{\"channel\":");
        match channel {
            Some(channel) => json::write_string(&mut self.text, channel),
            None => self.text.extend_from_slice(b"null"),
        }
        self.text.extend_from_slice(b",\"message\":");
    }

    fn put(&mut self, out: &mut BytesMut, channel: Option<&str>, event: &str, payload: Payload<'_>) {
        // A client's own library takes these names for itself, and closes a connection on which one arrives.
        if RESERVED_EVENTS.contains(&event) {
            return;
        }
        self.set(channel, event);
        if let Payload::Json(json) = payload
            && is_mixed(json)
        {
            return self.put_mixed(out, json);
        }
        let (kind, json) = match payload {
            Payload::Json(json) => ("2", json),
            Payload::Binary(_) => ("51-", PLACEHOLDER),
        };
        FRAMING.put_text_head(out, kind.len() + self.text.len() + json.len() + 2);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(&self.text);
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(b"}]");
        if let Payload::Binary(bytes) = payload {
            FRAMING.put_binary(out, bytes);
        }
    }
}

impl Heading {
    /// Appends an event whose message has bytes in it.
    #[cold]
    fn put_mixed(&self, out: &mut BytesMut, json: &str) {
        let mut message = BytesMut::new();
        let attachments = split(&mut message, json);
        let text = |bytes| std::str::from_utf8(bytes).expect("JSON is UTF-8");
        let json = [text(&self.text), text(&message), "}]"];
        let event = Outgoing { namespace: MAIN_NAMESPACE, ack: None, json: &json, attachments: &attachments };
        put_event(out, FRAMING, &event);
    }
}

/// Appends a publication. The counts of a user's sessions have no event here.
#[inline]
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    match publication.body {
        Body::Message { event, payload } if is_for_user(publication) => {
            put_user_event(out, event, payload);
        }
        Body::Message { event, payload } => heading.put(out, channel, event, payload),
        Body::MemberJoined(card) => put_notice(out, heading, channel, "channel:join", card),
        Body::MemberLeft(card) => put_notice(out, heading, channel, "channel:leave", card),
        Body::MemberUpdated(card) => put_notice(out, heading, channel, "channel:update", card),
        Body::Edit { payload, .. } => put_change(out, heading, channel, publication.id, Some(payload)),
        Body::Delete => put_change(out, heading, channel, publication.id, None),
        Body::UserJoined(_) | Body::UserLeft(_) | Body::UserUpdated(_) | Body::Worded(_) => {}
    }
}

fn is_for_user(publication: &Publication<'_>) -> bool {
    publication.given.is_some_and(|given| given.note.as_deref() == Some(USER_NOTE))
}

/// What a back end tells a user: three arguments instead of one.
#[cold]
fn put_user_event(out: &mut BytesMut, event: &str, payload: Payload<'_>) {
    let mut name = BytesMut::new();
    json::write_string(&mut name, event);
    let Payload::Json(json) = payload else { return };
    let mut scanner = Scanner::new();
    let Ok(Document::Object(object)) = scanner.scan(json) else { return };
    let part = |name| object.member(name).map_or("null", Raw::as_str);
    let name = std::str::from_utf8(&name).expect("JSON is UTF-8");
    let arguments = ["[", name, ",", name, ",", part("session"), ",", part("user"), "]"].concat();
    let mut text = BytesMut::new();
    let attachments = match is_mixed(json) {
        true => split(&mut text, &arguments),
        false => {
            text.extend_from_slice(arguments.as_bytes());
            Vec::new()
        }
    };
    let json = &[std::str::from_utf8(&text).expect("JSON is UTF-8")];
    let event = Outgoing { namespace: MAIN_NAMESPACE, ack: None, json, attachments: &attachments };
    put_event(out, FRAMING, &event);
}

/// `{"id":…,"data":…}`, without `data` until the member has set a profile.
fn put_notice(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    event: &str,
    card: &IdentityCard,
) {
    let mut text = std::mem::take(&mut heading.notice);
    text.clear();
    put_member(&mut text, card);
    if card.profile.as_deref().is_some_and(is_mixed) {
        text.extend_from_slice(MARK_TEXT);
    }
    put_json(out, heading, channel, event, &text);
    heading.notice = text;
}

/// A member as Agnost shows it.
pub(super) fn put_member(text: &mut BytesMut, card: &IdentityCard) {
    text.extend_from_slice(b"{\"id\":\"");
    text.extend_from_slice(&card.id.text());
    text.extend_from_slice(b"\"");
    if let Some(profile) = &card.profile {
        text.extend_from_slice(b",\"data\":");
        text.extend_from_slice(profile.as_bytes());
    }
    text.extend_from_slice(b"}");
}

/// What other dialects do to a message: `{"id":…,"message":…}`, or the id alone of one that is gone.
#[cold]
fn put_change(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    id: MessageId,
    payload: Option<Payload<'_>>,
) {
    let mut text = BytesMut::new();
    text.extend_from_slice(b"{\"id\":\"");
    text.extend_from_slice(&id.text());
    text.extend_from_slice(b"\"");
    if let Some(Payload::Json(json)) = payload {
        text.extend_from_slice(b",\"message\":");
        text.extend_from_slice(json.as_bytes());
    }
    text.extend_from_slice(b"}");
    let event = if payload.is_some() { "message:edit" } else { "message:delete" };
    put_json(out, heading, channel, event, &text);
}

fn put_json(out: &mut BytesMut, heading: &mut Heading, channel: Option<&str>, event: &str, text: &[u8]) {
    let json = std::str::from_utf8(text).expect("JSON is UTF-8");
    heading.put(out, channel, event, Payload::Json(json));
}

/// Appends the CONNECT that tells a client its id.
pub(in crate::dialect) fn encode_welcome(out: &mut BytesMut, welcome: &Welcome<'_>) {
    let id = welcome.session.text();
    let id = std::str::from_utf8(&id).expect("base64 is ASCII");
    put_connect(out, FRAMING, MAIN_NAMESPACE, id);
}

/// Appends what a command that failed is answered: a namespace that does not exist is refused, and everything
/// else stays unanswered.
pub(in crate::dialect) fn encode_answer(out: &mut BytesMut, id: Option<&str>) {
    if let Some(namespace) = id {
        put_connect_error(out, FRAMING, namespace, INVALID_NAMESPACE);
    }
}
