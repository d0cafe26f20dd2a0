//! Packets out. Everything is appended to a buffer that the caller owns, as Engine.IO packets of the framing
//! given, and nothing is remembered: what is encoded once can be sent to every connection of the same
//! framing.

use bytes::{Bytes, BytesMut};

use super::{AckId, MAIN_NAMESPACE};
use crate::engineio::Framing;

/// The payload of [`put_connect_error`] for a namespace that does not exist.
pub const INVALID_NAMESPACE: &str = r#"{"message":"Invalid namespace"}"#;

/// An event or an acknowledgement to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The namespace, from its slash on, without a comma.
    pub namespace: &'a str,
    /// Of an event: the number by which it is to be acknowledged, from
    /// [`Connection::expect_ack`](super::Connection::expect_ack). Of an acknowledgement: that of the event it
    /// answers.
    pub ack: Option<AckId>,
    /// The payload, in pieces that together are a JSON array. An event's begins with its name, which is none
    /// of [`RESERVED_EVENTS`](super::RESERVED_EVENTS).
    pub json: &'a [&'a str],
    /// The attachments that the payload's placeholders name.
    pub attachments: &'a [Bytes],
}

/// Appends a CONNECT that grants a namespace. `sid` consists of characters that JSON does not escape; it is
/// seen by others, so it is another one than Engine.IO's.
pub fn put_connect(out: &mut BytesMut, framing: Framing, namespace: &str, sid: &str) {
    let (namespace, comma) = on_wire(namespace);
    framing.put_text(out, ["0", namespace, comma, "{\"sid\":\"", sid, "\"}"]);
}

/// Appends a CONNECT_ERROR that refuses a namespace. `json` is an object with a member `message`.
pub fn put_connect_error(out: &mut BytesMut, framing: Framing, namespace: &str, json: &str) {
    let (namespace, comma) = on_wire(namespace);
    framing.put_text(out, ["4", namespace, comma, json]);
}

/// Appends a DISCONNECT. A stock client does not connect again after it.
pub fn put_disconnect(out: &mut BytesMut, framing: Framing, namespace: &str) {
    let (namespace, comma) = on_wire(namespace);
    framing.put_text(out, ["1", namespace, comma]);
}

/// Appends an EVENT, or a BINARY_EVENT if there are attachments, and these.
pub fn put_event(out: &mut BytesMut, framing: Framing, event: &Outgoing<'_>) {
    put(out, framing, ["2", "5"], event);
}

/// Appends an ACK, or a BINARY_ACK if there are attachments, and these.
pub fn put_ack(out: &mut BytesMut, framing: Framing, ack: &Outgoing<'_>) {
    debug_assert!(ack.ack.is_some(), "an acknowledgement names its event");
    put(out, framing, ["3", "6"], ack);
}

/// `kinds` are the types without and with attachments.
fn put(out: &mut BytesMut, framing: Framing, kinds: [&str; 2], packet: &Outgoing<'_>) {
    let json_len = packet.json.iter().map(|piece| piece.len()).sum::<usize>();
    if (packet.namespace, packet.ack, packet.attachments) == (MAIN_NAMESPACE, None, &[]) {
        // Nearly every event: the head is its type alone.
        framing.put_text_head(out, 1 + json_len);
        out.extend_from_slice(kinds[0].as_bytes());
    } else {
        put_long_head(out, framing, kinds, packet, json_len);
    }
    for piece in packet.json {
        out.extend_from_slice(piece.as_bytes());
    }
    for attachment in packet.attachments {
        framing.put_binary(out, attachment);
    }
}

fn put_long_head(
    out: &mut BytesMut,
    framing: Framing,
    kinds: [&str; 2],
    packet: &Outgoing<'_>,
    json_len: usize,
) {
    let (mut count, mut id) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (namespace, comma) = on_wire(packet.namespace);
    let (kind, count, dash) = match packet.attachments.len() {
        0 => (kinds[0], "", ""),
        len => (kinds[1], count.format(len), "-"),
    };
    let id = packet.ack.map_or("", |ack| id.format(ack.get()));
    let head = [kind, count, dash, namespace, comma, id];
    framing.put_text_head(out, head.iter().map(|piece| piece.len()).sum::<usize>() + json_len);
    for piece in head {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// A namespace and the comma after it; nothing of the main one.
fn on_wire(namespace: &str) -> (&str, &str) {
    debug_assert!(namespace.starts_with('/') && !namespace.contains(','), "{namespace:?} is no namespace");
    if namespace == MAIN_NAMESPACE { ("", "") } else { (namespace, ",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).expect("a payload is text").replace('\u{1e}', "|")
    }

    #[test]
    fn packets_are_those_of_the_protocol() {
        let framing = Framing::Payload;
        assert_eq!(payload(|out| put_connect(out, framing, "/", "abc")), "|40{\"sid\":\"abc\"}");
        assert_eq!(payload(|out| put_connect(out, framing, "/a", "abc")), "|40/a,{\"sid\":\"abc\"}");
        let refusal = payload(|out| put_connect_error(out, framing, "/random", INVALID_NAMESPACE));
        assert_eq!(refusal, "|44/random,{\"message\":\"Invalid namespace\"}");
        assert_eq!(payload(|out| put_disconnect(out, framing, "/")), "|41");
        assert_eq!(payload(|out| put_disconnect(out, framing, "/admin")), "|41/admin,");
    }

    #[test]
    fn events_and_acknowledgements_are_those_of_the_protocol() {
        let attachments = [Bytes::from_static(&[1, 2]), Bytes::from_static(&[3])];
        let mut packet = Outgoing { namespace: "/", ack: None, json: &["[\"foo\"", "]"], attachments: &[] };
        let event = |packet: &Outgoing<'_>| payload(|out| put_event(out, Framing::Payload, packet));
        let ack = |packet: &Outgoing<'_>| payload(|out| put_ack(out, Framing::Payload, packet));
        assert_eq!(event(&packet), "|42[\"foo\"]");
        packet.ack = AckId::new(12);
        assert_eq!(event(&packet), "|4212[\"foo\"]");
        assert_eq!(ack(&packet), "|4312[\"foo\"]");
        packet.namespace = "/admin";
        assert_eq!(ack(&packet), "|43/admin,12[\"foo\"]");
        packet.attachments = &attachments;
        assert_eq!(event(&packet), "|452-/admin,12[\"foo\"]|bAQI=|bAw==");
        assert_eq!(ack(&packet), "|462-/admin,12[\"foo\"]|bAQI=|bAw==");
    }

    #[test]
    fn attachments_follow_their_event_in_frames_of_their_own() {
        let mut out = BytesMut::new();
        let packet =
            Outgoing { namespace: "/", ack: None, json: &["[1]"], attachments: &[Bytes::from_static(&[7])] };
        put_event(&mut out, Framing::Frames, &packet);
        assert_eq!(out, &b"\x81\x07451-[1]\x82\x01\x07"[..]);
    }
}
