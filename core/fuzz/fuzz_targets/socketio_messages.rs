//! Arbitrary messages on one Socket.IO connection.
//!
//! Holds: nothing panics; what is given out is of the shape promised, within the limits, and comes back the
//! same when it is sent again; placeholders are those that a parser of values finds.
//!
//! Each message is a byte of length, whose highest bit says that it is binary, and that many bytes.

#![no_main]

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::engineio::{self, Framing, Message, Packet};
use fanfare_core::socketio::{
    Config, Connection, Incoming, Limits, Outgoing, Payload, Placeholders, put_event,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn config() -> Config {
    let limits = Limits { attachments: 3, attachment_bytes: 64, namespaces: 2, namespace_bytes: 16, acks: 2 };
    Config { limits, ..Config::default() }
}

fn connected(namespace: &str) -> Connection {
    let mut connection = Connection::new(Arc::new(config()), 0);
    connection.handle_text(&format!("0{namespace},"), 0).expect("a CONNECT");
    connection.accept(namespace).expect("it was asked for");
    connection
}

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let mut connection = connected("/");
    connection.expect_ack("/", 0).expect("room");
    while let Some((head, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(usize::from(head & 0x7F).min(after.len()));
        rest = after;
        let message = match std::str::from_utf8(bytes) {
            Ok(text) if head & 0x80 == 0 => Message::Text(text),
            _ => Message::Binary(Cow::Borrowed(bytes)),
        };
        match connection.handle_message(message, 0) {
            Ok(Some(Incoming::Connect { namespace, auth })) => {
                assert!(auth.is_none_or(|auth| auth.trim_start().starts_with('{')));
                connection.accept(namespace).expect("it was asked for");
            }
            Ok(Some(Incoming::Event { namespace, ack, payload })) => {
                check(&payload);
                let attachments = &payload.attachments;
                send_again(
                    &namespace,
                    &payload,
                    &Outgoing { namespace: &namespace, ack, json: &[&payload.json], attachments },
                );
            }
            Ok(Some(Incoming::Ack { payload, .. })) => check(&payload),
            Ok(Some(Incoming::Disconnect { .. } | Incoming::StrayAck { .. }) | None) => {}
            Err(_) => connection = connected("/"),
        }
        assert!(connection.namespaces().count() <= 3);
    }
});

fn check(payload: &Payload<'_>) {
    assert!(payload.json.trim_start().starts_with('['));
    assert!(payload.attachments.len() <= 3);
    assert!(payload.attachments.iter().map(|bytes| bytes.len()).sum::<usize>() <= 64);
    let found = Placeholders::find(&payload.json);
    for placeholder in found.iter() {
        if let Ok(object) = serde_json::from_str::<Value>(&payload.json[placeholder.range.clone()]) {
            assert_eq!(object["_placeholder"], Value::Bool(true));
        }
    }
    if let Ok(value) = serde_json::from_str::<Value>(&payload.json) {
        assert_eq!(found.len(), count(&value), "{}", payload.json);
    }
}

/// The outermost placeholders of a value.
fn count(value: &Value) -> usize {
    match value {
        Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => 1,
        Value::Object(members) => members.values().map(count).sum(),
        Value::Array(elements) => elements.iter().map(count).sum(),
        _ => 0,
    }
}

fn send_again(namespace: &str, payload: &Payload<'_>, event: &Outgoing<'_>) {
    let mut out = BytesMut::new();
    put_event(&mut out, Framing::Payload, event);
    let mut connection = connected(namespace);
    let mut last = None;
    for packet in engineio::Payload::new(&out[1..], engineio::Limits::default()) {
        let message = match packet {
            Ok(Packet::Text(text)) => Message::Text(text),
            Ok(Packet::Binary(bytes)) => Message::Binary(bytes),
            other => panic!("{other:?}"),
        };
        last = connection.handle_message(message, 0).expect("it was read before").map(|it| format!("{it:?}"));
    }
    let ack = event.ack;
    let expected = Incoming::Event { namespace: Cow::Borrowed(namespace), ack, payload: payload.clone() };
    assert_eq!(last, Some(format!("{expected:?}")));
}
