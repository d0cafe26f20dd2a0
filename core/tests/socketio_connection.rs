//! Socket.IO connections, transcript by transcript. The cases of the official suite, and those of bad input.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fanfare_core::engineio::{Framing, Message, Packet, Payload};
use fanfare_core::socketio::{
    AckId, Config, Connection, INVALID_NAMESPACE, Incoming, Limits, NotRequested, Outgoing, PayloadCheck,
    ProtocolError, TooManyAcks, put_ack, put_connect, put_connect_error, put_event,
};

fn config() -> Config {
    Config {
        connect_timeout_ms: 1000,
        attachment_timeout_ms: 500,
        ack_timeout_ms: 200,
        payload_check: PayloadCheck::Connection,
        limits: Limits {
            attachments: 10,
            attachment_bytes: 100,
            namespaces: 3,
            namespace_bytes: 20,
            acks: 2,
        },
    }
}

fn new() -> Connection {
    Connection::new(Arc::new(config()), 0)
}

/// A connection that is in these namespaces.
fn connected(namespaces: &[&str]) -> Connection {
    let mut connection = new();
    for namespace in namespaces {
        connection.handle_text(&format!("0{namespace},"), 0).expect("a CONNECT");
        connection.accept(namespace).expect("it was asked for");
    }
    connection
}

/// What a packet without attachments becomes, as text.
fn text(connection: &mut Connection, text: &str) -> Result<String, ProtocolError> {
    connection.handle_text(text, 0).map(|incoming| format!("{incoming:?}"))
}

fn event(namespace: &str, ack: Option<u64>, json: &str) -> Result<String, ProtocolError> {
    let payload = fanfare_core::socketio::Payload { json: Cow::Borrowed(json), attachments: Vec::new() };
    let ack = ack.and_then(AckId::new);
    Ok(format!("{:?}", Some(Incoming::Event { namespace: Cow::Borrowed(namespace), ack, payload })))
}

/// What is written for a client that polls.
fn written(put: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    put(&mut out);
    String::from_utf8(out[1..].to_vec()).expect("a payload is text").replace('\u{1e}', "|")
}

// Namespaces

#[test]
fn namespaces_are_asked_for_and_granted_or_refused() {
    let mut connection = new();
    for (packet, namespace, auth) in [
        ("0", "/", None),
        ("0/custom,{\"token\":\"abc\"}", "/custom", Some("{\"token\":\"abc\"}")),
        ("0/random", "/random", None),
    ] {
        let incoming = connection.handle_text(packet, 0);
        assert_eq!(incoming, Ok(Some(Incoming::Connect { namespace, auth })));
        assert!(!connection.is_connected(namespace));
    }
    assert_eq!(connection.accept("/"), Ok(()));
    assert_eq!(connection.accept("/custom"), Ok(()));
    assert_eq!(connection.refuse("/random"), Ok(()));
    assert_eq!(connection.namespaces().collect::<Vec<_>>(), ["/", "/custom"]);
    assert_eq!(connection.accept("/random"), Err(NotRequested), "it was refused");
    assert_eq!(connection.refuse("/"), Err(NotRequested), "it was granted");
    assert_eq!(
        written(|out| put_connect(out, Framing::Payload, "/custom", "x")),
        "40/custom,{\"sid\":\"x\"}"
    );
    let refusal = written(|out| put_connect_error(out, Framing::Payload, "/random", INVALID_NAMESPACE));
    assert_eq!(refusal, "44/random,{\"message\":\"Invalid namespace\"}");
}

#[test]
fn packet_before_its_connect_closes() {
    for packet in ["2[\"a\"]", "1", "31[]", "51-[\"a\",{\"_placeholder\":true,\"num\":0}]"] {
        assert_eq!(text(&mut new(), packet), Err(ProtocolError::NotConnected), "{packet}");
        let mut connection = connected(&["/custom"]);
        assert_eq!(
            text(&mut connection, packet),
            Err(ProtocolError::NotConnected),
            "{packet} for another namespace"
        );
    }
    let mut connection = new();
    connection.handle_text("0", 0).expect("a CONNECT");
    assert_eq!(text(&mut connection, "2[\"a\"]"), Err(ProtocolError::NotConnected), "no answer yet");
}

#[test]
fn second_connect_closes() {
    let mut connection = new();
    connection.handle_text("0", 0).expect("a CONNECT");
    assert_eq!(text(&mut connection, "0"), Err(ProtocolError::AlreadyConnected));
    assert_eq!(text(&mut connected(&["/a"]), "0/a"), Err(ProtocolError::AlreadyConnected));
}

#[test]
fn namespace_that_was_left_may_be_asked_for_again_and_the_others_stay() {
    let mut connection = connected(&["/", "/custom"]);
    let left = connection.handle_text("1/custom", 0);
    assert_eq!(left, Ok(Some(Incoming::Disconnect { namespace: "/custom" })));
    assert_eq!(text(&mut connection, "2[\"message\"]"), event("/", None, "[\"message\"]"));
    assert_eq!(text(&mut connection, "0/custom").map(|_| ()), Ok(()));
    connection.disconnect("/");
    assert_eq!(text(&mut connection, "2[\"message\"]"), Err(ProtocolError::NotConnected));
    assert_eq!(connection.deadline_ms(), None, "a connection without a namespace stays");
}

#[test]
fn namespaces_are_bounded() {
    let mut connection = connected(&["/", "/a", "/b", "/c"]);
    assert_eq!(text(&mut connection, "0/d"), Err(ProtocolError::TooManyNamespaces));
    assert_eq!(text(&mut new(), &format!("0/{}", "x".repeat(20))), Err(ProtocolError::NamespaceTooLong));
}

#[test]
fn connection_without_a_namespace_is_closed_in_time() {
    let mut connection = new();
    assert_eq!(connection.deadline_ms(), Some(1000));
    connection.handle_text("0/random", 10).expect("a CONNECT");
    connection.refuse("/random").expect("it was asked for");
    assert_eq!(connection.handle_timeout(999), Ok(()));
    assert_eq!(connection.handle_timeout(1000), Err(ProtocolError::ConnectTimeout));
    assert_eq!(connected(&["/"]).handle_timeout(u64::MAX), Ok(()));
}

// Messages

#[test]
fn events_are_given_out_as_they_were_written() {
    let mut connection = connected(&["/", "/custom"]);
    for json in ["[\"message\",1,\"2\",{\"3\":[true]}]", "[ \"a\" , 1e400 , \"\\u00e9\" ]", "[7]"] {
        assert_eq!(text(&mut connection, &format!("2{json}")), event("/", None, json));
        assert_eq!(text(&mut connection, &format!("2/custom,456{json}")), event("/custom", Some(456), json));
    }
}

#[test]
fn event_without_attachments_is_borrowed_from_its_message() {
    let message = String::from("2[\"message\",1]");
    let mut connection = connected(&["/"]);
    let Ok(Some(Incoming::Event { payload, .. })) = connection.handle_text(&message, 0) else { panic!() };
    assert_eq!(payload.json.as_ptr(), message[1..].as_ptr());
    assert_eq!(payload.attachments.capacity(), 0);
}

#[test]
fn malformed_packets_close() {
    for (packet, error) in [
        ("abc", ProtocolError::UnknownType),
        ("", ProtocolError::UnknownType),
        ("2{}", ProtocolError::Payload),
        ("2", ProtocolError::Payload),
        ("2[]", ProtocolError::Payload),
        ("2[\"disconnect\"]", ProtocolError::Payload),
        ("2abc[\"message-with-ack\",1]", ProtocolError::AckId),
        ("3[]", ProtocolError::AckId),
        ("4{\"message\":\"no\"}", ProtocolError::ConnectErrorFromPeer),
        ("5-[\"a\"]", ProtocolError::AttachmentCount),
        ("511-[\"a\"]", ProtocolError::TooManyAttachments),
        ("51-[\"a\",{\"_placeholder\":true,\"num\":1}]", ProtocolError::Placeholder),
        (
            "52-[\"a\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":0}]",
            ProtocolError::Placeholder,
        ),
    ] {
        assert_eq!(text(&mut connected(&["/"]), packet), Err(error), "{packet}");
    }
}

#[test]
fn caller_may_check_the_payloads_of_events_itself() {
    let config = Config { payload_check: PayloadCheck::Caller, ..config() };
    let mut connection = Connection::new(Arc::new(config), 0);
    connection.handle_text("0", 0).expect("a CONNECT");
    connection.accept("/").expect("it was asked for");
    assert_eq!(text(&mut connection, "2[\"a\""), event("/", None, "[\"a\""));
    // Whatever else there is, is checked all the same.
    assert_eq!(text(&mut connection, "31{}"), Err(ProtocolError::Payload));
    assert_eq!(text(&mut connection, "51-[\"a\""), Err(ProtocolError::Payload));
}

// Attachments

const TWO: &str = "52-7[\"m\",{\"_placeholder\":true,\"num\":0},[{\"num\":1,\"_placeholder\":true}]]";

#[test]
fn attachments_are_gathered_in_order() {
    let mut connection = connected(&["/"]);
    assert_eq!(connection.handle_text(TWO, 0), Ok(None));
    assert_eq!(connection.handle_binary(Cow::Borrowed(&[1, 2, 3]), 0), Ok(None));
    let Ok(Some(incoming)) = connection.handle_binary(Cow::Owned(vec![4]), 0) else { panic!("an event") };
    let Incoming::Event { namespace, ack, payload } = incoming else { panic!("an event") };
    assert_eq!((&*namespace, ack), ("/", AckId::new(7)));
    assert_eq!(payload.json, &TWO[4..]);
    assert_eq!(payload.attachments, [&[1, 2, 3][..], &[4]]);
    // What came in goes out the same, with the type of an acknowledgement.
    let packet = Outgoing { namespace: "/", ack, json: &[&payload.json], attachments: &payload.attachments };
    let ack = written(|out| put_ack(out, Framing::Payload, &packet));
    assert_eq!(ack, format!("462-7{}|bAQID|bBA==", &TWO[4..]));
    assert_eq!(connection.deadline_ms(), None);
}

#[test]
fn nothing_may_come_between_attachments() {
    for packet in ["2[\"a\"]", "1", "0/a", TWO, "x"] {
        let mut connection = connected(&["/"]);
        assert_eq!(connection.handle_text(TWO, 0), Ok(None));
        assert_eq!(text(&mut connection, packet), Err(ProtocolError::AttachmentExpected), "{packet}");
    }
    let mut connection = connected(&["/"]);
    assert_eq!(connection.handle_binary(Cow::Borrowed(&[1]), 0), Err(ProtocolError::UnexpectedBinary));
    let incoming = connection.handle_message(Message::Binary(Cow::Borrowed(&[])), 0);
    assert_eq!(incoming, Err(ProtocolError::UnexpectedBinary));
}

#[test]
fn attachments_are_bounded_in_bytes_and_time() {
    let mut connection = connected(&["/"]);
    assert_eq!(connection.handle_text(TWO, 100), Ok(None));
    assert_eq!(connection.deadline_ms(), Some(600));
    assert_eq!(connection.handle_binary(Cow::Owned(vec![0; 60]), 300), Ok(None));
    assert_eq!(connection.deadline_ms(), Some(800), "each has its own time");
    assert_eq!(connection.handle_timeout(799), Ok(()));
    assert_eq!(connection.handle_timeout(800), Err(ProtocolError::AttachmentTimeout));
    let refused = connection.handle_binary(Cow::Owned(vec![0; 41]), 300);
    assert_eq!(refused, Err(ProtocolError::AttachmentsTooLarge));
}

#[test]
fn packet_whose_namespace_was_closed_meanwhile_is_refused() {
    let mut connection = connected(&["/"]);
    assert_eq!(connection.handle_text(TWO, 0), Ok(None));
    assert_eq!(connection.handle_binary(Cow::Borrowed(&[1]), 0), Ok(None));
    connection.disconnect("/");
    assert_eq!(connection.handle_binary(Cow::Borrowed(&[2]), 0), Err(ProtocolError::NotConnected));
}

#[test]
fn packets_survive_the_split_of_a_payload() {
    let mut connection = connected(&["/"]);
    let body = format!("4{TWO}\u{1e}bAQ==\u{1e}bAg==\u{1e}42[\"b\"]");
    let mut incoming = Vec::new();
    for packet in Payload::new(body.as_bytes(), Default::default()) {
        let message = match packet {
            Ok(Packet::Text(text)) => Message::Text(text),
            Ok(Packet::Binary(bytes)) => Message::Binary(bytes),
            other => panic!("{other:?}"),
        };
        incoming.extend(connection.handle_message(message, 0).expect("well-formed"));
    }
    let [Incoming::Event { payload, .. }, Incoming::Event { payload: second, .. }] = &incoming[..] else {
        panic!("{incoming:?}")
    };
    assert_eq!(payload.attachments, [Bytes::from_static(&[1]), Bytes::from_static(&[2])]);
    assert_eq!(second.json, "[\"b\"]");
}

// Acknowledgements

#[test]
fn acknowledgement_that_is_waited_for_is_given_out_once() {
    let mut connection = connected(&["/", "/custom"]);
    let ack = connection.expect_ack("/custom", 0).expect("room");
    let question = Outgoing { namespace: "/custom", ack: Some(ack), json: &["[\"q\"]"], attachments: &[] };
    assert_eq!(written(|out| put_event(out, Framing::Payload, &question)), "42/custom,0[\"q\"]");
    let stray = Ok(Some(Incoming::StrayAck { ack }));
    assert_eq!(connection.handle_text("30[]", 0), stray, "of another namespace");
    let Ok(Some(Incoming::Ack { ack: id, payload })) = connection.handle_text("3/custom,0[1,\"2\"]", 0)
    else {
        panic!("an acknowledgement")
    };
    assert_eq!((id, &*payload.json), (ack, "[1,\"2\"]"));
    assert_eq!(connection.handle_text("3/custom,0[]", 0), stray, "a second time");
}

#[test]
fn acknowledgement_may_have_attachments() {
    let mut connection = connected(&["/"]);
    let ack = connection.expect_ack("/", 0).expect("room");
    assert_eq!(connection.handle_text("61-0[{\"_placeholder\":true,\"num\":0}]", 0), Ok(None));
    let Ok(Some(Incoming::Ack { ack: id, payload })) = connection.handle_binary(Cow::Borrowed(&[9]), 0)
    else {
        panic!("an acknowledgement")
    };
    assert_eq!((id, &payload.attachments[..]), (ack, &[Bytes::from_static(&[9])][..]));
}

#[test]
fn acknowledgements_are_bounded_in_number_and_time() {
    let mut connection = connected(&["/"]);
    let first = connection.expect_ack("/", 0).expect("room");
    let second = connection.expect_ack("/", 50).expect("room");
    assert_eq!(connection.expect_ack("/", 60), Err(TooManyAcks));
    assert_eq!(connection.deadline_ms(), Some(200));
    assert_eq!(connection.take_expired_ack(199), None);
    assert_eq!(connection.take_expired_ack(200), Some(first));
    assert_eq!(connection.take_expired_ack(200), None);
    assert_eq!(connection.handle_text("30[]", 210), Ok(Some(Incoming::StrayAck { ack: first })));
    assert_eq!(connection.take_expired_ack(250), Some(second));
    assert_eq!(connection.deadline_ms(), None);
    let third = connection.expect_ack("/", 300).expect("room again");
    assert_ne!(third, first);
    connection.disconnect("/");
    assert_eq!(connection.deadline_ms(), None, "nobody answers for a namespace that was left");
}
