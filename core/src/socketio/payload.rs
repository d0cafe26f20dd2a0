//! Payloads: what each type of packet asks of its JSON (the protocol, "Exchange protocol").

use std::borrow::Cow;

use bytes::Bytes;

use super::{Packet, PacketType, ProtocolError};
use crate::json;

/// Names that no event may have: the implementations of the protocol use them for themselves, and their
/// parsers close a connection on which one arrives.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The payload of an event or an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a> {
    /// An array, as it was written, with a placeholder where each attachment belongs. Borrowed unless there
    /// are attachments.
    pub json: Cow<'a, str>,
    /// The attachments, in the order of the numbers by which placeholders name them.
    pub attachments: Vec<Bytes>,
}

/// Checks the payload of `packet`, all but its placeholders.
///
/// # Errors
///
/// [`ProtocolError::Payload`], or [`ProtocolError::AckId`] if an acknowledgement has no number.
pub fn check_payload(packet: &Packet<'_>) -> Result<(), ProtocolError> {
    let is_sound = match packet.kind {
        PacketType::Connect => packet.payload.is_empty() || is_object(packet.payload),
        PacketType::Disconnect => packet.payload.is_empty(),
        PacketType::Event => is_event(packet.payload),
        PacketType::Ack if packet.ack.is_none() => return Err(ProtocolError::AckId),
        PacketType::Ack => is_array(packet.payload),
        PacketType::ConnectError => return Err(ProtocolError::ConnectErrorFromPeer),
    };
    if is_sound { Ok(()) } else { Err(ProtocolError::Payload) }
}

fn is_object(text: &str) -> bool {
    json::value(text).is_ok_and(json::Raw::is_object)
}

fn is_array(text: &str) -> bool {
    json::value(text).is_ok_and(json::Raw::is_array)
}

/// Whether `text` is an array that begins with the name of an event: a string, or a number as npm allows.
fn is_event(text: &str) -> bool {
    let mut elements = json::elements(text);
    let Some(Ok(name)) = elements.next() else { return false };
    let is_name = if name.is_string() { !is_reserved(name) } else { name.is_number() };
    is_name && elements.all(|element| element.is_ok())
}

fn is_reserved(name: json::Raw<'_>) -> bool {
    name.as_string().is_some_and(|name| RESERVED_EVENTS.contains(&&*name))
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    fn check(text: &str) -> Result<(), ProtocolError> {
        check_payload(&Packet::decode(text, Limits::default()).expect("a head"))
    }

    #[test]
    fn payloads_of_the_right_shape_are_accepted() {
        for text in [
            "0",
            "0{}",
            "0/a,{\"token\":\"123\"}",
            "1",
            "1/a,",
            "2[\"foo\"]",
            "2[1,2]",
            "2[\"a\", {\"b\":[1e400]} ] ",
            "31[]",
            "31[\"a\"]",
            "2[\"\\ud800\"]",
            "51-[\"a\",{\"_placeholder\":true,\"num\":0}]",
            "2[\"connected\"]",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn payloads_of_another_shape_are_refused() {
        for text in [
            "0[]",
            "0\"a\"",
            "0{",
            "0{}{}",
            "1{}",
            "1[]",
            "2",
            "2[]",
            "2{}",
            "2\"a\"",
            "2[null]",
            "2[{}]",
            "2[[\"a\"]]",
            "2[\"a\"",
            "2[\"a\"]]",
            "2[\"a\",]",
            "2[\"a\"]x",
            "31",
            "31{}",
            "31[",
            "31\"a\"",
            "2[\"connect\"]",
            "2[\"disconn\\u0065ct\",1]",
            "2[\"newListener\"]",
            "2/a,",
            "2 ",
            "2[\"a\" \"b\"]",
        ] {
            assert_eq!(check(text), Err(ProtocolError::Payload), "{text}");
        }
        assert_eq!(check("3[]"), Err(ProtocolError::AckId));
        assert_eq!(check("4{\"message\":\"no\"}"), Err(ProtocolError::ConnectErrorFromPeer));
    }

    #[test]
    fn payload_nested_too_deep_is_refused() {
        let nested = |depth| format!("2[\"a\",{}{}]", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(json::MAX_DEPTH - 1)), Ok(()));
        assert_eq!(check(&nested(json::MAX_DEPTH)), Err(ProtocolError::Payload));
    }
}
