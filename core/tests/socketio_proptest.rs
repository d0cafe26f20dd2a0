//! Socket.IO against random input: packets come back as they were put, placeholders are found as a parser of
//! values finds them, and no bytes panic.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fanfare_core::engineio::{
    Framing, Limits as EngineLimits, Message, Packet as EnginePacket, PacketError, Payload,
};
use fanfare_core::socketio::{
    AckId, Config, Connection, Incoming, Limits, Outgoing, Packet, Placeholders, check_payload,
    has_placeholder, put_event, put_renumbered,
};
use fanfare_core::ws::{DecodeLimits, Decoder, Message as Frame, Role};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;
use serde_json::{Value, json};

fn connected(namespace: &str) -> Connection {
    let mut connection = Connection::new(Arc::new(Config::default()), 0);
    connection.handle_text(&format!("0{namespace},"), 0).expect("a CONNECT");
    connection.accept(namespace).expect("it was asked for");
    connection
}

/// Values with keys and strings that look like placeholders, and with some.
fn value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![Just("_placeholder".to_owned()), Just("num".to_owned()), "[a-z\"\\\\é]{0,3}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0..4_u32).prop_map(|number| json!(number)),
        "[a-z_\"\\\\{}\\[\\],:é]{0,8}".prop_map(Value::String),
        Just(json!("_placeholder")),
        (0..4_u32).prop_map(|number| json!({"_placeholder": true, "num": number})),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Array),
            vec((key.clone(), inner), 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The numbers of a value's placeholders, outermost only, in the order of their text.
fn numbers(value: &Value, found: &mut Vec<Option<u32>>) {
    match value {
        Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
            found.push(members.get("num").and_then(Value::as_u64).and_then(|number| number.try_into().ok()));
        }
        Value::Object(members) => members.values().for_each(|member| numbers(member, found)),
        Value::Array(elements) => elements.iter().for_each(|element| numbers(element, found)),
        _ => {}
    }
}

/// A value with every character of its keys escaped, and white space wherever it may be.
fn spread(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| {
                let key: String = key.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                format!(" \"{key}\"\t: {}\n", spread(value))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            format!("[ {} ]", elements.iter().map(spread).collect::<Vec<_>>().join(" ,"))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn placeholders_are_those_of_the_value(value in value()) {
        let mut expected = Vec::new();
        numbers(&value, &mut expected);
        for text in [value.to_string(), spread(&value)] {
            let found = Placeholders::find(&text);
            let read: Vec<_> = found.iter().map(|placeholder| placeholder.number).collect();
            prop_assert_eq!(&read, &expected, "{}", text);
            prop_assert_eq!(has_placeholder(&text), !expected.is_empty());
            for placeholder in found.iter() {
                let object = &text[placeholder.range.clone()];
                let object: Value = serde_json::from_str(object).expect("an object");
                prop_assert_eq!(&object["_placeholder"], &Value::Bool(true));
            }
            let mut out = BytesMut::new();
            put_renumbered(&mut out, &text, 100);
            let renumbered: Value = serde_json::from_slice(&out).expect("JSON");
            let mut moved = Vec::new();
            numbers(&renumbered, &mut moved);
            let shifted: Vec<_> = expected.iter().map(|number| Some(number.unwrap_or(0) + 100)).collect();
            prop_assert_eq!(moved, shifted);
        }
    }

    #[test]
    fn what_is_put_comes_in_the_same(
        namespace in prop_oneof![Just("/".to_owned()), "/[a-z]{1,8}"],
        ack in option::of((0..1_u64 << 53).prop_map(|number| AckId::new(number).expect("small enough"))),
        argument in value(),
        attachments in vec(vec(any::<u8>(), 0..50).prop_map(Bytes::from), 0..5),
        in_frames in any::<bool>(),
    ) {
        // Placeholders of the argument's own would name attachments that there are not.
        let mut own = Vec::new();
        numbers(&argument, &mut own);
        if !own.is_empty() {
            return Ok(());
        }
        let place = |number| format!(",{{\"_placeholder\":true,\"num\":{number}}}");
        let places = (0..attachments.len()).map(place);
        let json = format!("[\"name\",{argument}{}]", places.collect::<String>());
        let event = Outgoing { namespace: &namespace, ack, json: &[&json], attachments: &attachments };
        let mut out = BytesMut::new();
        let framing = if in_frames { Framing::Frames } else { Framing::Payload };
        put_event(&mut out, framing, &event);
        let mut connection = connected(&namespace);
        let mut incoming = Vec::new();
        for message in messages(framing, &mut out) {
            incoming.extend(connection.handle_message(message, 0).expect("well-formed"));
        }
        let [Incoming::Event { namespace: from, ack: id, payload }] = &incoming[..] else {
            panic!("{incoming:?}")
        };
        prop_assert_eq!((&**from, *id), (&*namespace, ack));
        prop_assert_eq!(&payload.json, &json);
        prop_assert_eq!(&payload.attachments, &attachments);
    }

    #[test]
    fn how_packets_are_spread_over_posts_and_reads_makes_no_difference(
        attachments in vec(vec(vec(any::<u8>(), 0..20).prop_map(Bytes::from), 0..4), 1..6),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let (mut payload, mut frames) = (BytesMut::new(), BytesMut::new());
        for (number, attachments) in attachments.iter().enumerate() {
            let place = |num| format!(",{{\"_placeholder\":true,\"num\":{num}}}");
            let places = (0..attachments.len()).map(place);
            let json = format!("[\"name\",{number}{}]", places.collect::<String>());
            let event = Outgoing { namespace: "/", ack: None, json: &[&json], attachments };
            put_event(&mut payload, Framing::Payload, &event);
            put_event(&mut frames, Framing::Frames, &event);
        }
        let packets: Vec<_> = payload[1..].split(|byte| *byte == 0x1E).collect();
        let posts = pieces(&packets, &cuts).map(|packets| packets.join(&0x1E));
        let by_posts = receive(posts, |body, receive| {
            Payload::new(body, EngineLimits::default()).for_each(|packet| receive(message(packet)));
        });
        let (mut decoder, limits) = (Decoder::new(), DecodeLimits { message_bytes: 1 << 20, fragments: 1 });
        let by_reads = receive(pieces(&frames, &cuts).map(<[u8]>::to_vec), |read, receive| {
            let mut rest = &mut read[..];
            loop {
                let decoded = decoder.decode(rest, Role::Client, limits).expect("well-formed");
                let consumed = decoded.consumed;
                let Some(frame) = decoded.message else { break };
                receive(message(packet(frame)));
                rest = &mut rest[consumed..];
            }
        });
        prop_assert_eq!(by_posts.len(), attachments.len());
        prop_assert_eq!(&by_posts, &by_reads);
    }

    #[test]
    fn random_messages_do_not_panic(
        packets in vec(
            prop_oneof![
                "[0-6]?([0-9]{0,3}-)?(/[a-z]{0,3},)?[0-9]{0,2}[\\[\\]{}\",:a-z0-9_\\\\ ]{0,30}",
                Just("51-[\"a\",{\"_placeholder\":true,\"num\":0}]".to_owned()),
                Just(String::new()),
                any::<String>(),
            ],
            0..20,
        ),
    ) {
        let mut connection = connected("/");
        for packet in packets {
            let binary = Cow::Owned(packet.clone().into_bytes());
            let is_binary = packet.len() % 5 == 0;
            let message = if is_binary { Message::Binary(binary) } else { Message::Text(&packet) };
            if connection.handle_message(message, 0).is_err() {
                connection = connected("/");
            }
        }
    }

    #[test]
    fn heads_are_read_without_a_panic(text in "[0-7]{1,3}-?/?[a-z]{0,3},?[0-9]{0,2}.{0,10}") {
        let Ok(packet) = Packet::decode(&text, Limits::default()) else { return Ok(()) };
        prop_assert!(text.ends_with(packet.payload));
        prop_assert!(packet.attachments <= Limits::default().attachments);
        let _outcome = check_payload(&packet);
        // Placeholders may be looked for in anything.
        prop_assert!(Placeholders::find(&text).len() <= text.len());
    }
}

/// What a connection gives out when it is handed `inputs` one after another; `read` takes the messages out of
/// one.
fn receive(
    inputs: impl Iterator<Item = Vec<u8>>,
    mut read: impl FnMut(&mut [u8], &mut dyn FnMut(Message<'_>)),
) -> Vec<String> {
    let (mut connection, mut received) = (connected("/"), Vec::new());
    for mut input in inputs {
        read(&mut input, &mut |message| {
            let incoming = connection.handle_message(message, 0).expect("well-formed");
            received.extend(incoming.map(|incoming| format!("{incoming:?}")));
        });
    }
    received
}

/// `all`, cut at some places.
fn pieces<'a, T>(all: &'a [T], cuts: &[Index]) -> impl Iterator<Item = &'a [T]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).chain([all.len()]).collect();
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().filter_map(move |end| {
        let piece = &all[start..end];
        start = end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The messages that a client reads from `bytes`.
fn messages(framing: Framing, bytes: &mut [u8]) -> Vec<Message<'_>> {
    match framing {
        Framing::Payload => Payload::new(&bytes[1..], EngineLimits::default()).map(message).collect(),
        Framing::Frames => {
            let limits = DecodeLimits { message_bytes: 1 << 20, fragments: 1 };
            let frames = Decoder::new().messages(bytes, Role::Client, limits);
            frames.map(|frame| message(packet(frame))).collect()
        }
    }
}

fn message(packet: Result<EnginePacket<'_>, PacketError>) -> Message<'_> {
    match packet {
        Ok(EnginePacket::Text(text)) => Message::Text(text),
        Ok(EnginePacket::Binary(bytes)) => Message::Binary(bytes),
        other => panic!("{other:?}"),
    }
}

fn packet(frame: Frame<'_>) -> Result<EnginePacket<'_>, PacketError> {
    match frame {
        Frame::Text(text) => EnginePacket::from_text(text),
        Frame::Binary(bytes) => Ok(EnginePacket::from_binary(bytes)),
        other => panic!("{other:?}"),
    }
}
