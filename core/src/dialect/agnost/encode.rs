//! Encodes publications as Socket.IO events, each with one object `{channel, message}`.

use bytes::BytesMut;

use super::{
    back_end::USER_NOTE,
    framing,
    mixed::{MARK_TEXT, is_mixed, split},
};
use crate::{
    dialect::{Format, Welcome},
    engineio::Framing,
    id::MessageId,
    json::{self, Document, Raw, Scanner},
    publication::{Body, IdentityCard, Payload, Publication},
    socketio::{
        INVALID_NAMESPACE, MAIN_NAMESPACE, Outgoing, RESERVED_EVENTS, put_connect, put_connect_error,
        put_event,
    },
};

/// The placeholder that stands in the JSON for the attachment after it.
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

/// The beginning `2["<event>",{"channel":<channel>,"message":` of the channel's last publication.
pub(in crate::dialect) struct Heading {
    framing: Framing,
    event: String,
    /// The packet's type and the beginning of its payload; empty until a publication is written.
    text: BytesMut,
    /// Whether Socket.IO's client library reserves the event's name. It closes a connection on which such an
    /// event arrives.
    is_reserved: bool,
    /// A buffer for the message of a notice.
    notice: BytesMut,
}

impl Heading {
    /// The heading of a channel's publications in `format`.
    pub(in crate::dialect) fn new(format: Format) -> Self {
        let (event, text, is_reserved, notice) = Default::default();
        Self { framing: framing(format), event, text, is_reserved, notice }
    }

    /// Drops the channel's name.
    pub(in crate::dialect) fn restart(&mut self, format: Format) {
        self.framing = framing(format);
        self.text.clear();
    }

    fn set(&mut self, channel: Option<&str>, event: &str) {
        if !self.text.is_empty() && self.event == event {
            return;
        }
        event.clone_into(&mut self.event);
        self.is_reserved = RESERVED_EVENTS.contains(&event);
        self.text.clear();
        self.text.extend_from_slice(b"2[");
        json::write_string(&mut self.text, event);
        self.text.extend_from_slice(b",{\"channel\":");
        json::write_optional_string(&mut self.text, channel);
        self.text.extend_from_slice(b",\"message\":");
    }

    fn put(&mut self, out: &mut BytesMut, channel: Option<&str>, event: &str, payload: Payload<'_>) {
        self.set(channel, event);
        if self.is_reserved {
            return;
        }
        match payload {
            Payload::Json(json) if is_mixed(json) => self.put_mixed(out, json),
            Payload::Json(json) => {
                self.framing.put_text_head(out, self.text.len() + json.len() + 2);
                out.extend_from_slice(&self.text);
                out.extend_from_slice(json.as_bytes());
                out.extend_from_slice(b"}]");
            }
            Payload::Binary(bytes) => self.put_binary(out, bytes),
        }
    }

    /// Appends an event whose message is bytes.
    fn put_binary(&self, out: &mut BytesMut, bytes: &[u8]) {
        let pieces = [b"51-", &self.text[1..], PLACEHOLDER.as_bytes(), b"}]"];
        self.framing.put_text_head(out, pieces.iter().map(|piece| piece.len()).sum());
        pieces.into_iter().for_each(|piece| out.extend_from_slice(piece));
        self.framing.put_binary(out, bytes);
    }

    /// Appends an event whose message contains bytes.
    #[cold]
    fn put_mixed(&self, out: &mut BytesMut, json: &str) {
        let mut message = BytesMut::new();
        let attachments = split(&mut message, json);
        let text = |bytes| std::str::from_utf8(bytes).expect("JSON is UTF-8");
        let json = [text(&self.text[1..]), text(&message), "}]"];
        let event = Outgoing { namespace: MAIN_NAMESPACE, ack: None, json: &json, attachments: &attachments };
        put_event(out, self.framing, &event);
    }
}

/// Appends a publication. A notice about a user's number of sessions has no event in this dialect.
#[inline]
pub(in crate::dialect) fn encode_publication(
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    match publication.body {
        Body::Message { event, payload } if is_for_user(publication) => {
            put_user_event(out, heading.framing, event, payload);
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

/// Appends a `user_event` of a back end, which has three arguments.
#[cold]
fn put_user_event(out: &mut BytesMut, framing: Framing, event: &str, payload: Payload<'_>) {
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
    put_event(out, framing, &event);
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

/// Appends a member in Agnost's form.
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

/// Appends an edit `{"id":…,"message":…}` or a deletion `{"id":…}` by a client of another dialect.
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

/// Appends the CONNECT packet that tells a client its session's id.
pub(in crate::dialect) fn encode_welcome(format: Format, out: &mut BytesMut, welcome: &Welcome<'_>) {
    let id = welcome.session.text();
    let id = std::str::from_utf8(&id).expect("base64 is ASCII");
    put_connect(out, framing(format), MAIN_NAMESPACE, id);
}

/// Appends the answer to a failed command: a CONNECT to an unknown namespace is refused, and every other
/// failed command has no answer.
pub(in crate::dialect) fn encode_answer(format: Format, out: &mut BytesMut, id: Option<&str>) {
    if let Some(namespace) = id {
        put_connect_error(out, framing(format), namespace, INVALID_NAMESPACE);
    }
}
