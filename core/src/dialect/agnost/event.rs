//! Events of a client: reads the payload of an EVENT packet as a command.

use std::borrow::Cow;

use bytes::Bytes;

use super::{content::Content, mixed};
use crate::{
    command::{Command, Publish},
    dialect::{
        TemplateMatch,
        template::{Shape, Template},
    },
    error::ReplyError,
    json::{Document, Element, Object, Raw, Scanner},
    publication::Payload,
    socketio::{self, RESERVED_EVENTS},
};

/// Reads events. It keeps the scanner's tables from event to event, and the shape of the last message.
#[derive(Default)]
pub(super) struct EventReader {
    scanner: Scanner,
    last: Template,
}

impl EventReader {
    /// Channel and message of a payload that is otherwise the recorded message.
    #[inline]
    pub(super) fn match_template<'a>(&self, payload: &'a str) -> Option<TemplateMatch<'a>> {
        // A message to a channel without a name is for everybody.
        self.last.match_text(payload, "}]").filter(|repeated| repeated.channel != Some(""))
    }

    /// The recorded message with another channel and message.
    #[inline]
    pub(super) fn publish_from<'a>(&'a self, repeated: TemplateMatch<'a>) -> Publish<'a> {
        self.last.publish_from(repeated)
    }

    /// Reads the payload of an EVENT packet.
    pub(super) fn read<'a>(&mut self, payload: &'a str) -> Result<Event<'a>, ReplyError> {
        let (name, object) = name_and_object(&mut self.scanner, payload)?;
        let event = Event::read(&name, object)?;
        if let Command::Publish(publish) = event.command()
            && let Some(shape) = shape(object)
        {
            self.last.record(shape, &publish);
        }
        Ok(event)
    }

    /// Reads the payload of an EVENT packet with attachments.
    pub(super) fn read_binary(
        &mut self,
        payload: &socketio::Payload<'_>,
    ) -> Result<Event<'static>, ReplyError> {
        let (name, object) = name_and_object(&mut self.scanner, &payload.json)?;
        Event::read(&name, object)?.with_attachments(&payload.attachments)
    }
}

/// The shape of a message's event.
fn shape<'a>(object: Object<'_, 'a>) -> Option<Shape<'a>> {
    let place = |name| object.keys().position(|key| key.is(name));
    Shape::of(object, place("channel"), place("message")?)
}

/// A well-formed event of a client.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    verb: Verb<'a>,
    /// The event's own echo; `None` if the connection's echo counts.
    echo: Option<bool>,
}

#[derive(Clone, Debug)]
enum Verb<'a> {
    Join {
        channel: Cow<'a, str>,
    },
    Leave {
        channel: Cow<'a, str>,
    },
    Update {
        profile: Content<'a>,
    },
    /// A message to a channel's members, or to everybody if the channel is missing.
    Message {
        channel: Option<Cow<'a, str>>,
        event: Cow<'a, str>,
        message: Content<'a>,
    },
}

impl<'a> Event<'a> {
    fn read(name: &str, object: Object<'_, 'a>) -> Result<Self, ReplyError> {
        let verb = match name {
            "join" => Verb::Join { channel: channel(object)? },
            "leave" => Verb::Leave { channel: channel(object)? },
            "update" => Verb::Update {
                profile: object
                    .member("data")
                    .map(|raw| Content::Json(raw.as_str()))
                    .ok_or(ReplyError::InvalidCommand("An update has data."))?,
            },
            "message" => Verb::Message {
                channel: optional_channel(object)?,
                event: event_name(object)?,
                message: object.member("message").map_or(Content::Absent, |raw| Content::Json(raw.as_str())),
            },
            _ => return Err(ReplyError::UnknownCommand),
        };
        let echo = object.given("echo").map(is_truthy);
        Ok(Self { verb, echo })
    }

    /// The event with the attachments of its packet in the place of their placeholders.
    fn with_attachments(self, attachments: &[Bytes]) -> Result<Event<'static>, ReplyError> {
        let Self { verb, echo } = self;
        let with_bytes = |content| match content {
            Content::Json(json) => Content::read(Some(json), attachments),
            _ => Ok(Content::Absent),
        };
        let verb = match verb {
            Verb::Update { profile } => {
                let profile = mixed::join(profile.text(), attachments)?;
                Verb::Update { profile: Content::Mixed(profile) }
            }
            Verb::Message { channel, event, message } => {
                Verb::Message { channel, event, message: with_bytes(message)? }
            }
            verb @ (Verb::Join { .. } | Verb::Leave { .. }) => verb,
        };
        Ok(Event { verb, echo }.into_owned())
    }

    /// The event with texts of its own.
    pub(super) fn into_owned(self) -> Event<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let verb = match self.verb {
            Verb::Join { channel } => Verb::Join { channel: owned(channel) },
            Verb::Leave { channel } => Verb::Leave { channel: owned(channel) },
            Verb::Update { profile } => Verb::Update { profile: profile.into_owned() },
            Verb::Message { channel, event, message } => Verb::Message {
                channel: channel.map(owned),
                event: owned(event),
                message: message.into_owned(),
            },
        };
        Event { verb, echo: self.echo }
    }

    /// The event as a command.
    pub(super) fn command(&self) -> Command<'_> {
        let echo = self.echo;
        match &self.verb {
            Verb::Join { channel } => {
                Command::Join { channel, echo, since: None, notices: None, payload: Payload::NULL }
            }
            Verb::Leave { channel } => Command::Leave { channel, echo },
            Verb::Update { profile } => Command::Update { profile: profile.text(), echo },
            Verb::Message { channel, event, message } => {
                let publish = Publish::new(channel.as_deref(), event, message.payload());
                Command::Publish(Publish { echo, ..publish })
            }
        }
    }
}

/// Reads what the payload of every event is: an array with the event's name and an object.
pub(super) fn name_and_object<'s, 'a>(
    scanner: &'s mut Scanner,
    payload: &'a str,
) -> Result<(Cow<'a, str>, Object<'s, 'a>), ReplyError> {
    let Ok(Document::Array(array)) = scanner.scan(payload) else {
        return Err(ReplyError::MalformedJson);
    };
    let wrong = ReplyError::InvalidCommand("An event has a name and an object.");
    if array.len() < 2 {
        return Err(wrong);
    }
    let Element::Object(object) = array.element(1) else { return Err(wrong) };
    let name = array.element(0).raw().as_string().ok_or(wrong)?;
    Ok((name, object))
}

fn channel<'a>(object: Object<'_, 'a>) -> Result<Cow<'a, str>, ReplyError> {
    object.member("channel").and_then(Raw::as_string).ok_or(ReplyError::InvalidChannel)
}

/// The channel of a message. A value that is false in JavaScript counts as no channel.
fn optional_channel<'a>(object: Object<'_, 'a>) -> Result<Option<Cow<'a, str>>, ReplyError> {
    match object.member("channel").filter(|channel| is_truthy(*channel)) {
        None => Ok(None),
        Some(name) => name.as_string().map(Some).ok_or(ReplyError::InvalidChannel),
    }
}

/// The event's name. Names of the server's own events and of the protocol are refused.
fn event_name<'a>(object: Object<'_, 'a>) -> Result<Cow<'a, str>, ReplyError> {
    let name = object.member("eventName").and_then(Raw::as_string).ok_or(ReplyError::InvalidEvent)?;
    if name.starts_with("user:") || RESERVED_EVENTS.contains(&&*name) {
        return Err(ReplyError::ReservedEvent);
    }
    Ok(name)
}

/// Whether a value is true in JavaScript.
pub(super) fn is_truthy(value: Raw<'_>) -> bool {
    let text = value.as_str();
    match text {
        "false" | "null" | "\"\"" => false,
        _ if value.is_number() => text.parse::<f64>().is_ok_and(|number| number != 0.0),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json;

    /// What a reader makes of a payload.
    fn command(reader: &mut EventReader, payload: &str) -> String {
        if let Some(repeated) = reader.match_template(payload) {
            return format!("{:?}", Ok::<_, ReplyError>(Command::Publish(reader.publish_from(repeated))));
        }
        let event = reader.read(payload);
        format!("{:?}", event.as_ref().map(Event::command))
    }

    #[test]
    fn a_message_that_differs_in_channel_or_content_alone_is_known_again() {
        let mut reader = EventReader::default();
        let known = |reader: &mut EventReader, payload: &str| {
            let known = reader.match_template(payload).is_some();
            command(reader, payload);
            known
        };
        let first = r#"["message",{"channel":"c","eventName":"e","message":1}]"#;
        assert!(!known(&mut reader, first));
        assert!(known(&mut reader, r#"["message",{"channel":"d","eventName":"e","message":{"a":[]}}]"#));
        for other in [
            r#"["message",{"channel":"","eventName":"e","message":1}]"#,
            r#"["message",{"channel":"c","eventName":"f","message":1}]"#,
            r#"["message",{"channel":"c","eventName":"e","message":1,"echo":false}]"#,
            r#"["message",{"channel":"c","eventName":"e","message":1},2]"#,
            r#"["message",{"eventName":"e","message":1}]"#,
        ] {
            command(&mut reader, first);
            assert!(!known(&mut reader, other), "{other}");
        }
        assert!(!known(&mut reader, r#"["message",{"eventName":"e","message":1,"echo":0}]"#));
        assert!(!known(&mut reader, r#"["message",{"eventName":"e","message":1,"echo":0}]"#), "echo is last");
    }

    proptest! {
        #[test]
        fn a_used_reader_reads_as_a_new_one(
            payloads in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        r#"["message",{"channel":"c","eventName":"e","message":"#,
                        r#"["message",{"channel":"d","eventName":"e","message":"#,
                        r#"["message",{"channel":"","eventName":"e","message":"#,
                        r#"["message",{"channel":"\u0063","eventName":"e","message":"#,
                        r#"["message",{"eventName":"e","message":"#,
                        r#"["message",{"echo":0,"eventName":"e","channel":"c","message":"#,
                        r#"["message",{"channel":null,"eventName":"e","message":"#,
                        r#"["message",{"eventName":"user:e","message":"#,
                        r#"["join",{"channel":"#,
                        r#"["update",{"data":"#,
                        "",
                    ]),
                    prop::sample::select(vec![
                        "1", r#""a""#, r#""\u0061\n""#, "[{}]", " 2 ", "nul", "", r#"1,"echo":false"#,
                        r#"1,"channel":"d""#, r#"1}{"#, r#"1},{"a":2"#,
                    ]),
                    prop::sample::select(vec!["}]", "}]", "}", "]", "}]]", "},1]", " } ] ", "}]x", ""]),
                ),
                1..20,
            ),
        ) {
            let mut used = EventReader::default();
            for (head, value, tail) in payloads {
                let payload = format!("{head}{value}{tail}");
                let read = (command(&mut used, &payload), command(&mut EventReader::default(), &payload));
                prop_assert_eq!(&read.0, &read.1, "{}", payload);
            }
        }
    }

    #[test]
    fn truth_is_that_of_javascript() {
        for (text, truth) in [
            ("true", true),
            ("false", false),
            ("null", false),
            ("0", false),
            ("-0.0", false),
            ("0e5", false),
            ("1e-400", false),
            ("1", true),
            ("-1", true),
            ("\"\"", false),
            ("\"false\"", true),
            ("\"0\"", true),
            ("[]", true),
            ("{}", true),
        ] {
            assert_eq!(is_truthy(json::value(text).expect("it is JSON")), truth, "{text}");
        }
    }

    fn read(payload: &str) -> Result<String, ReplyError> {
        EventReader::default().read(payload).map(|event| format!("{:?}", event.command()))
    }

    #[test]
    fn events_become_commands() {
        let echo = |payload: &str| read(payload).expect("an event").split("echo: ").nth(1).map(String::from);
        assert_eq!(
            echo(r#"["join",{"channel":"c","echo":"false"}]"#).as_deref(),
            Some("Some(true), since: None, notices: None, payload: Json(\"null\") }")
        );
        assert_eq!(
            echo(r#"["join",{"channel":"c","echo":null}]"#).as_deref(),
            Some("None, since: None, notices: None, payload: Json(\"null\") }")
        );
        assert_eq!(echo(r#"["leave",{"channel":"c","echo":0}]"#).as_deref(), Some("Some(false) }"));
        let message =
            read(r#"["message",{"channel":"","eventName":"e","message":{"a":1}}]"#).expect("an event");
        assert!(message.contains("channel: None") && message.contains(r#"Json("{\"a\":1}")"#), "{message}");
        let message = read(r#"["message",{"channel":"\u0063","eventName":"\u0065"}]"#).expect("an event");
        assert!(message.contains(r#"channel: Some("c"), event: "e", payload: Json("null")"#), "{message}");
        assert_eq!(
            read(r#"["update",{"data":null}]"#).expect("an event"),
            r#"Update { profile: "null", echo: None }"#
        );
    }

    #[test]
    fn events_that_make_no_sense_are_refused() {
        let invalid = ReplyError::InvalidCommand("An event has a name and an object.");
        for (payload, error) in [
            (r#"["join"]"#, invalid),
            (r#"["join",null]"#, invalid),
            (r#"[5,{}]"#, invalid),
            (r#"["join",{}]"#, ReplyError::InvalidChannel),
            (r#"["leave",{"channel":7}]"#, ReplyError::InvalidChannel),
            (r#"["message",{"channel":7,"eventName":"e"}]"#, ReplyError::InvalidChannel),
            (r#"["message",{"channel":"c"}]"#, ReplyError::InvalidEvent),
            (r#"["message",{"channel":"c","eventName":"user:signin"}]"#, ReplyError::ReservedEvent),
            (r#"["message",{"channel":"c","eventName":"disconnect"}]"#, ReplyError::ReservedEvent),
            (r#"["get_members",{"channel":"c"}]"#, ReplyError::UnknownCommand),
            (r#"["send_message",{"envId":"e"}]"#, ReplyError::UnknownCommand),
        ] {
            assert_eq!(read(payload), Err(error), "{payload}");
        }
    }
}
