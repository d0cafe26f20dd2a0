//! Transcripts: a client's bytes, and the packets that it and other clients receive.

mod back_end;

use bytes::BytesMut;
use serde_json::json;

use super::*;
use crate::{
    app::{AgnostOptions, App, AppKeys, Apps, Visitor},
    dialect::{
        self, Format,
        tests::{Room, claims, frames},
    },
    disconnect::Disconnect,
    engine::Flow,
    id::AppId,
    secret::Secret,
    token::TokenError,
    ws::Message,
};

const KEY: &str = "client-key-0123456789";
const SERVER_KEY: &str = "server-key-0123456789";

fn app() -> App {
    let keys = AppKeys::new(&[KEY], &[SERVER_KEY]).expect("two keys");
    App { agnost: Some(AgnostOptions::new("env")), ..App::new("default", keys) }
}

const AGNOST: usize = 0;
const OTHER: usize = 1;
const NATIVE: usize = 2;

fn room() -> Room {
    let mut room = Room::of(app());
    for format in [Format::AgnostFrames, Format::AgnostFrames, Format::Native] {
        room.open(format, None, None);
    }
    room
}

#[test]
fn membership_and_messages_are_byte_for_byte_those_of_the_protocol() {
    let mut room = room();
    let id = room.ids[AGNOST].clone();
    room.send(OTHER, r#"42["join",{"channel":"c","echo":false}]"#);
    room.send(AGNOST, r#"42["join",{"channel":"c"}]"#);
    room.send(AGNOST, r#"42["update",{"data":[1, "ä"],"echo":false}]"#);
    room.send(AGNOST, r#"42["message",{"channel":"c","eventName":"e\"","message":{"a": 1}}]"#);
    room.send(AGNOST, r#"42["message",{"eventName":"all","message":null,"echo":0}]"#);
    room.send(AGNOST, r#"42["leave",{"channel":"c"}]"#);
    let mine = |text: &str| text.replace("ID", &id);
    let expected = [
        mine(r#"42["channel:join",{"channel":"c","message":{"id":"ID"}}]"#),
        mine(r#"42["channel:update",{"channel":"c","message":{"id":"ID","data":[1, "ä"]}}]"#),
        mine(r#"42["e\"",{"channel":"c","message":{"a": 1}}]"#),
        mine(r#"42["all",{"channel":null,"message":null}]"#),
        mine(r#"42["channel:leave",{"channel":"c","message":{"id":"ID","data":[1, "ä"]}}]"#),
    ];
    assert_eq!(room.received(OTHER), expected);
    assert_eq!(room.received(AGNOST), [&expected[0], &expected[2], &expected[4]].map(String::clone));
}

#[test]
fn dialects_share_a_channel_and_each_run_is_encoded_once_for_a_format() {
    let mut room = room();
    room.send(AGNOST, r#"42["join",{"channel":"c","echo":false}]"#);
    room.send(OTHER, r#"42["join",{"channel":"c","echo":false}]"#);
    room.send(NATIVE, r#"{"type":"join","channel":"c","echo":false}"#);
    (0..3).for_each(|session| drop(room.received(session)));
    room.send(NATIVE, r#"{"type":"send","channel":"c","event":"e","message":1,"echo":false}"#);
    let mut frame = b"\0\x2d".to_vec();
    frame.extend_from_slice(br#"{"type":"send","channel":"c","event":"bytes"}"#);
    frame.extend_from_slice(&[1, 255]);
    assert_eq!(room.engine.receive(room.slots[NATIVE], Message::Binary(&frame)), Flow::Continue);
    room.send(AGNOST, r#"42["message",{"channel":"c","eventName":"e","message":"2"}]"#);
    let expected = [
        r#"42["e",{"channel":"c","message":1}]"#,
        r#"451-["bytes",{"channel":"c","message":{"_placeholder":true,"num":0}}]"#,
        "[1, 255]",
        r#"42["e",{"channel":"c","message":"2"}]"#,
    ];
    assert_eq!(
        (room.received(AGNOST), room.received(OTHER)),
        (expected.map(String::from).into(), expected.map(String::from).into())
    );
    let native = room.received(NATIVE);
    assert!(native[1].starts_with(r#"{"channel":"c","event":"e","message":"2""#), "{native:?}");
}

#[test]
fn a_name_that_the_protocol_keeps_for_itself_is_never_sent() {
    let mut room = room();
    room.send(AGNOST, r#"42["join",{"channel":"c","echo":false}]"#);
    for event in ["connect", "disconnect", "e"] {
        room.send(NATIVE, &json!({"type": "send", "channel": "c", "event": event, "message": 1}).to_string());
    }
    assert_eq!(room.received(AGNOST), [r#"42["e",{"channel":"c","message":1}]"#]);
}

#[test]
fn what_makes_no_sense_is_counted_and_unanswered() {
    let mut room = room();
    for text in [
        r#"42["join",{}]"#,
        r#"42["join"]"#,
        r#"42["unknown",{}]"#,
        r#"42["message",{"channel":"c","eventName":"channel:join"}]"#,
        r#"42["message",{"channel":"c","eventName":"message:x"}]"#,
        r#"4299["update",{}]"#,
    ] {
        room.send(AGNOST, text);
    }
    assert_eq!(room.received(AGNOST), Vec::<String>::new());
    assert_eq!(room.engine.counters().command_errors, 6);
    room.send(AGNOST, "40/admin,{}");
    room.send(AGNOST, "3");
    assert_eq!(room.received(AGNOST), [r#"44/admin,{"message":"Invalid namespace"}"#]);
    assert!(room.engine.take_disconnects().is_empty());
}

#[test]
fn a_session_ends_when_its_client_leaves_and_when_it_breaks_the_protocol() {
    for (text, why) in [
        ("41", Disconnect::PeerGone),
        ("1", Disconnect::PeerGone),
        ("2", Disconnect::BrokenDialect),
        ("40", Disconnect::BrokenDialect),
        ("42[", Disconnect::BrokenDialect),
        ("42[\"connect\"]", Disconnect::BrokenDialect),
        ("b", Disconnect::BrokenDialect),
        ("", Disconnect::BrokenDialect),
    ] {
        let mut room = room();
        room.send(AGNOST, text);
        room.send(AGNOST, r#"42["message",{"eventName":"after","message":1}]"#);
        assert_eq!(room.engine.take_disconnects(), [(0, why)], "{text}");
        assert_eq!(room.received(OTHER), Vec::<String>::new(), "{text}: nothing is done behind the end");
    }
    let mut room = room();
    assert_eq!(room.engine.receive(room.slots[AGNOST], Message::Binary(&[1])), Flow::Continue);
    assert_eq!(room.engine.take_disconnects(), [(0, Disconnect::BrokenDialect)]);
}

#[test]
fn a_message_between_a_packet_and_its_attachment_breaks_the_protocol_though_its_form_is_known() {
    let mut room = room();
    let message = r#"42["message",{"channel":"c","eventName":"e","message":1}]"#;
    room.send(AGNOST, message);
    room.send(AGNOST, message);
    assert!(room.engine.take_disconnects().is_empty());
    room.send(AGNOST, r#"451-["update",{"data":{"_placeholder":true,"num":0}}]"#);
    room.send(AGNOST, message);
    assert_eq!(room.engine.take_disconnects(), [(0, Disconnect::BrokenDialect)]);
    room.send(OTHER, message);
    assert!(room.engine.take_disconnects().is_empty(), "another session is not disturbed");
}

#[test]
fn a_message_that_is_bytes_reaches_every_dialect() {
    let mut room = room();
    room.send(AGNOST, r#"42["join",{"channel":"c","echo":false}]"#);
    room.send(NATIVE, r#"{"type":"join","channel":"c","echo":false}"#);
    (0..3).for_each(|session| drop(room.received(session)));
    let attach = |room: &mut Room, text: &str| {
        room.send(OTHER, text);
        assert_eq!(room.engine.receive(room.slots[OTHER], Message::Binary(&[1, 255])), Flow::Continue);
    };
    let message =
        |message: &str| format!(r#"451-["message",{{"channel":"c","eventName":"e","message":{message}}}]"#);
    attach(&mut room, &message(r#"{"num":0,"_placeholder":true}"#));
    let expected = [r#"451-["e",{"channel":"c","message":{"_placeholder":true,"num":0}}]"#, "[1, 255]"];
    assert_eq!(room.received(AGNOST), expected);
    assert!(room.received(NATIVE)[0].ends_with("1, 255]"));
    assert_eq!(room.engine.counters().command_errors, 0);
    assert!(room.engine.take_disconnects().is_empty());
}

#[test]
fn bytes_amid_json_are_bytes_again_for_clients_of_this_dialect() {
    let mut room = room();
    room.send(AGNOST, r#"42["join",{"channel":"c","echo":false}]"#);
    room.send(NATIVE, r#"{"type":"join","channel":"c","echo":false}"#);
    room.send(OTHER, r#"42["join",{"channel":"c","echo":false}]"#);
    (0..3).for_each(|session| drop(room.received(session)));
    let other = room.ids[OTHER].clone();
    let binary = |room: &mut Room, bytes: &[u8]| {
        assert_eq!(room.engine.receive(room.slots[OTHER], Message::Binary(bytes)), Flow::Continue);
    };
    let placeholder = |number: u32| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
    let message = format!(
        r#"452-["message",{{"channel":"c","eventName":"e","echo":false,"message":{{"a":{},"b":[{}]}}}}]"#,
        placeholder(1),
        placeholder(0)
    );
    room.send(OTHER, &message);
    binary(&mut room, &[1, 255]);
    binary(&mut room, &[]);
    let expected = format!(
        r#"452-["e",{{"channel":"c","message":{{"a":{},"b":[{}]}}\t}}]"#,
        placeholder(0),
        placeholder(1)
    );
    assert_eq!(room.received(AGNOST), [expected.replace("\\t", "\t").as_str(), "[]", "[1, 255]"]);
    let native = room.received(NATIVE);
    let native: serde_json::Value = serde_json::from_str(&native[0]).expect("it is JSON");
    let buffer = |bytes: &[u8]| json!({"type": "Buffer", "data": bytes});
    assert_eq!(native["message"], json!({"a": buffer(&[]), "b": [buffer(&[1, 255])]}));
    // A profile with bytes appears in notices and in lists of members.
    room.send(OTHER, &format!(r#"451-["update",{{"data":{},"echo":false}}]"#, placeholder(0)));
    binary(&mut room, &[9]);
    let expected = format!(
        "451-[\"channel:update\",{{\"channel\":\"c\",\"message\":{{\"id\":\"{other}\",\"data\":{}\t}}\t}}]",
        placeholder(0)
    );
    assert_eq!(room.received(AGNOST), [expected.as_str(), "[9]"]);
    // JSON in the form of a buffer from another dialect's client stays JSON.
    room.send(NATIVE, r#"{"type":"send","channel":"c","event":"e","message":{"type":"Buffer","data":[1]}}"#);
    assert_eq!(room.received(AGNOST), [r#"42["e",{"channel":"c","message":{"type":"Buffer","data":[1]}}]"#]);
    assert_eq!(room.engine.counters().command_errors, 0);
}

#[test]
fn only_an_end_without_return_says_disconnect() {
    let put = |why| {
        let mut out = BytesMut::new();
        dialect::put_disconnect(Format::AgnostFrames, &mut out, why);
        frames(&out)
    };
    assert_eq!(put(Disconnect::Restart), ["close None"]);
    assert_eq!(put(Disconnect::ByServer { reconnect: true }), ["close None"]);
    assert_eq!(put(Disconnect::ByServer { reconnect: false }), ["41", "close None"]);
    let heartbeat = |configured| dialect::heartbeat(Format::AgnostFrames, configured);
    assert_eq!((heartbeat(25_000).interval_ms, heartbeat(25_000).timeout_ms), (10_000, 40_000));
    assert_eq!((heartbeat(300).interval_ms, heartbeat(300).timeout_ms), (300, 1_200));
}

fn knock<'a>(lobby: &mut Lobby, text: &'a str) -> (Knock<'a>, Vec<String>) {
    let mut out = BytesMut::new();
    let knock = lobby.handle(Message::Text(text), 0, &mut out);
    (knock, frames(&out))
}

#[test]
fn a_lobby_waits_for_one_connect() {
    let mut lobby = Lobby::new(Format::AgnostFrames, 0);
    let mut out = BytesMut::new();
    let heartbeat = dialect::heartbeat(Format::AgnostFrames, 25_000);
    lobby.put_open(&mut out, Secret::new(7), heartbeat, 1000);
    let open = &frames(&out)[0];
    assert!(
        open.ends_with(r#""upgrades":[],"pingInterval":10000,"pingTimeout":30000,"maxPayload":1000}"#),
        "{open}"
    );
    assert_eq!(knock(&mut lobby, "3"), (Knock::Waits, vec![]));
    let refused = vec![String::from(r#"44/x,{"message":"Invalid namespace"}"#)];
    assert_eq!(knock(&mut lobby, "40/x,{}"), (Knock::Waits, refused));
    assert_eq!(
        knock(&mut lobby, r#"40{"envId":"e"}"#),
        (Knock::Asks { auth: Some(r#"{"envId":"e"}"#) }, vec![])
    );
    let refusal = admit(&Apps::default(), None, &Visitor::default(), |_, _| Err(TokenError::Malformed))
        .expect_err("no app");
    let mut out = BytesMut::new();
    lobby.refuse(&refusal, &mut out);
    let expected = concat!(
        r#"44{"message":"Realtime Connection Error - No Environment Found","data":{"origin":"client_error","#,
        r#""code":"no_environment_found","message":"There is no environment of this identifier."}}"#,
    );
    assert_eq!(frames(&out), [expected]);
    assert_eq!(knock(&mut lobby, "40").0, Knock::Over);
    for text in ["42[\"join\",{\"channel\":\"c\"}]", "2", "1", "41", "", "9", "40[]", "b"] {
        assert_eq!(knock(&mut Lobby::new(Format::AgnostFrames, 0), text).0, Knock::Over, "{text}");
    }
    assert_eq!(
        Lobby::new(Format::AgnostFrames, 0).handle(Message::Binary(&[1]), 0, &mut BytesMut::new()),
        Knock::Over
    );
}

#[test]
fn admission_checks_in_the_order_of_the_original() {
    let mut app = app();
    let options = |change: &dyn Fn(&mut AgnostOptions)| {
        let mut options = AgnostOptions::new("env");
        change(&mut options);
        Some(options)
    };
    let code = |app: &App, auth: &str| {
        let apps = Apps::new(vec![app.clone()]).expect("one app");
        admit(&apps, Some(auth), &Visitor::default(), |_, _| Err(TokenError::Malformed))
            .map_or_else(|refusal| refusal.code(), |_| "")
    };
    app.agnost = options(&|options| (options.enabled, options.session_required) = (false, true));
    assert_eq!(code(&app, r#"{"envId":"x"}"#), "no_environment_found");
    assert_eq!(code(&app, r#"{"envId":"env"}"#), "realtime_not_allowed");
    app.agnost = options(&|options| options.session_required = true);
    assert_eq!(code(&app, r#"{"envId":"env"}"#), "missing_api_key");
    assert_eq!(code(&app, r#"{"envId":"env","apiKey":"x","session":"x"}"#), "invalid_api_key");
    assert_eq!(code(&app, &format!(r#"{{"envId":"env","apiKey":"{SERVER_KEY}"}}"#)), "unauthorizez_api_key");
    assert_eq!(code(&app, &format!(r#"{{"envId":"env","clientKey":"{KEY}"}}"#)), "missing_session_token");
    let with_session = format!(r#"{{"envId":"env","apiKey":"{KEY}","Session":"x"}}"#);
    assert_eq!(code(&app, &with_session), "invalid_session_token");
    app.agnost = options(&|_| {});
    assert_eq!(code(&app, &with_session), "", "a session that is not required is ignored if it is not valid");
    app.agnost = options(&|options| options.key_required = false);
    assert_eq!(
        code(&app, r#"{"envId":"env","apiKey":"x"}"#),
        "",
        "a key that is not required is not looked at"
    );
}
