//! Sessions of three formats in one channel, and what each of them receives.

use bytes::BytesMut;

use super::*;
use crate::{
    app::{App, AppKeys, HistoryLimits},
    dialect::{
        self,
        tests::{Room, claims, frames},
    },
};

/// A session for each format, all of them in the channel `c`; what they received until then is dropped.
fn room_of(formats: &[Format]) -> Room {
    let mut app = App::new("default", AppKeys::default());
    app.history = HistoryLimits { messages: 10, ..HistoryLimits::NONE };
    app.sender_edits = true;
    app.echo = true;
    let mut room = Room::of(app);
    let sessions: Vec<usize> = formats.iter().map(|format| open(&mut room, *format)).collect();
    sessions.into_iter().for_each(|session| enter(&mut room, session));
    room.forget();
    room
}

fn open(room: &mut Room, format: Format) -> usize {
    let user = format!("user{}", room.slots.len());
    room.open(format, None, Some(claims(&user, None)))
}

fn enter(room: &mut Room, session: usize) {
    match room.engine.session_format(room.slots[session]) {
        Format::Native | Format::NativeText => room.send(session, r#"{"type":"join","channel":"c"}"#),
        _ => room.send(session, "1 enter c"),
    }
}

const NATIVE: usize = 0;
const PUSHED: usize = 1;
const POLLED: usize = 2;

/// A session of each of three formats.
fn room() -> Room {
    room_of(&[Format::Native, Format::ProbePush, Format::ProbePoll])
}

fn native_send(message: &str) -> String {
    format!(r#"{{"type":"send","channel":"c","event":"e","message":{message}}}"#)
}

#[test]
fn members_of_three_formats_receive_the_same_in_the_same_order() {
    let mut room = room();
    for round in 0..3 {
        room.send(NATIVE, &native_send(&format!("1{round}0")));
        room.send(PUSHED, &format!("{} say c 1{round}1", round + 2));
        room.send(POLLED, &format!("{} say c 1{round}2", round + 2));
    }
    room.flush();
    let all: Vec<String> =
        (0..3).flat_map(|round| (0..3).map(move |sender| format!("1{round}{sender}"))).collect();
    let said: Vec<String> = all.iter().map(|text| format!("c says {text}")).collect();
    let of_channel = |packets: Vec<String>| -> Vec<String> {
        packets.into_iter().filter(|packet| !packet.starts_with("ok ")).collect()
    };
    assert_eq!(of_channel(room.received(PUSHED)), said);
    assert_eq!(of_channel(room.received(POLLED)), said);
    let native = room.received(NATIVE);
    let message = |frame: &String| {
        let frame: serde_json::Value = serde_json::from_str(frame).expect("it is JSON");
        frame["message"].to_string()
    };
    assert_eq!(native.iter().map(message).collect::<Vec<_>>(), all);
}

#[test]
fn a_dialect_without_a_word_for_a_kind_delivers_and_counts_nothing_of_it() {
    let mut room = room();
    room.send(NATIVE, &native_send("1"));
    room.flush();
    let sent: serde_json::Value = serde_json::from_str(&room.received(NATIVE)[0]).expect("it is JSON");
    assert_eq!(room.received(PUSHED), ["c says 1"]);
    room.received(POLLED);
    let id = sent["id"].as_str().expect("history keeps it");
    let before = room.engine.counters().deliveries;
    room.send(NATIVE, &format!(r#"{{"type":"edit","channel":"c","message_id":"{id}","message":2}}"#));
    room.send(PUSHED, "2 say c 3");
    room.send(NATIVE, r#"{"type":"update","profile":{}}"#);
    room.send(NATIVE, &format!(r#"{{"type":"delete","channel":"c","message_id":"{id}"}}"#));
    room.flush();
    let native = room.received(NATIVE);
    assert_eq!(native.len(), 4, "{native:?}");
    assert!(native[0].contains("message:edit") && native[2].contains("channel:update"), "{native:?}");
    assert_eq!(room.received(PUSHED), ["ok 2", "c says 3"]);
    assert_eq!(room.received(POLLED), ["c says 3"]);
    assert_eq!(room.engine.counters().deliveries - before, 4 + 1 + 1);
}

#[test]
fn a_member_that_joins_amid_a_turn_begins_there_in_a_format_that_nobody_had() {
    let mut room = room_of(&[Format::Native]);
    room.send(NATIVE, &native_send("1"));
    assert_eq!(open(&mut room, Format::ProbePush), PUSHED);
    enter(&mut room, PUSHED);
    room.send(NATIVE, &native_send("2"));
    room.flush();
    assert_eq!(room.received(PUSHED), ["ok 1", "c enters user1", "c says 2"]);
    assert_eq!(room.received(NATIVE).len(), 3);
}

#[test]
fn publications_of_two_channels_arrive_as_they_came_even_if_some_have_no_word() {
    let mut room = room();
    room.send(NATIVE, r#"{"type":"join","channel":"d"}"#);
    room.send(PUSHED, "2 enter d");
    room.flush();
    (0..3).for_each(|session| drop(room.received(session)));
    let to = |channel: &str, message: u32| {
        format!(r#"{{"type":"send","channel":"{channel}","event":"e","message":{message}}}"#)
    };
    room.send(NATIVE, &to("c", 1));
    room.send(NATIVE, r#"{"type":"update","profile":1}"#);
    room.send(NATIVE, &to("d", 2));
    room.send(NATIVE, r#"{"type":"update","profile":2}"#);
    room.send(NATIVE, &to("c", 3));
    room.flush();
    assert_eq!(room.received(PUSHED), ["c says 1", "d says 2", "c says 3"]);
    assert_eq!(room.received(POLLED), ["c says 1", "c says 3"]);
}

#[test]
fn a_format_whose_members_have_left_is_not_encoded_after_that_turn() {
    let mut room = room();
    room.send(POLLED, "2 exit c");
    room.flush();
    room.send(NATIVE, &native_send("1"));
    room.flush();
    let before = polled();
    room.send(NATIVE, &native_send("2"));
    room.flush();
    assert_eq!(polled(), before, "nobody polls the channel");
    let pushed = room.received(PUSHED);
    assert_eq!(pushed, ["c exits user2", "c says 1", "c says 2"]);
    room.send(POLLED, "3 enter c");
    room.send(NATIVE, &native_send("3"));
    room.flush();
    let polled = room.received(POLLED);
    assert_eq!(polled.last().map(String::as_str), Some("c says 3"), "{polled:?}");
}

#[test]
fn a_broadcast_reaches_each_session_in_its_own_format() {
    let mut room = room();
    room.send(NATIVE, r#"{"type":"broadcast","event":"e","message":7}"#);
    room.flush();
    assert_eq!(room.received(PUSHED), ["* says 7"]);
    assert_eq!(room.received(POLLED), ["* says 7"]);
    let to = r#"{"type":"broadcast","event":"e","message":8,"to_users":["user0","user1","user2"]}"#;
    room.send(NATIVE, to);
    room.flush();
    assert_eq!(
        (room.received(PUSHED), room.received(POLLED)),
        (vec!["* says 8".into()], vec!["* says 8".into()])
    );
    assert_eq!(room.received(NATIVE).len(), 2);
}

#[test]
fn a_decoder_keeps_a_state_of_each_session_until_it_ends() {
    let mut room = room();
    room.send(PUSHED, "3 say c 1");
    room.send(PUSHED, "2 say c 1");
    room.send(POLLED, "2 dance c");
    room.flush();
    assert_eq!(room.received(PUSHED), ["error - no", "ok 2", "c says 1"]);
    assert_eq!(room.received(POLLED), ["error 2 what?", "c says 1"]);
    room.engine.close(room.slots[PUSHED]);
    room.flush();
    let another = open(&mut room, Format::ProbePush);
    assert_eq!(room.slots[another], room.slots[PUSHED]);
    enter(&mut room, another);
    assert_eq!(room.received(another)[0], "ok 1", "another session begins with 1");
}

#[test]
fn heartbeat_refusal_and_end_are_those_of_the_format() {
    let heartbeat = |format| dialect::heartbeat(format, 25_000);
    let native = heartbeat(Format::NativeText);
    assert_eq!((native.interval_ms, native.timeout_ms, native.beat), (25_000, 50_000, Beat::PingFrame));
    assert_eq!(heartbeat(Format::ProbePush).timeout_ms, 40_000);
    assert_eq!((heartbeat(Format::ProbePoll).life, native.life), (Life::Request, Life::AnyInput));
    let put = |format: Format, put: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        put(&mut out);
        match format {
            Format::ProbePoll => String::from_utf8_lossy(&out).into_owned(),
            _ => frames(&out)[0].clone(),
        }
    };
    for (format, end) in [(Format::ProbePush, ""), (Format::ProbePoll, ";")] {
        let beat = put(format, &|out| heartbeat(format).beat.put(out));
        let bye = put(format, &|out| dialect::put_disconnect(format, out, Disconnect::Restart));
        let refused = put(format, &|out| dialect::put_refusal(format, out, ReplyError::Overloaded));
        assert_eq!(
            [beat, bye, refused],
            ["beat", "bye again", "refused no"].map(|text| format!("{text}{end}"))
        );
    }
    let mut out = BytesMut::new();
    dialect::put_disconnect(Format::Native, &mut out, Disconnect::SlowConsumer);
    assert_eq!(&out[..], [b"\x88\x0f\x0f\xa0".as_slice(), b"slow consumer"].concat());
    assert_eq!(dialect::closing(Format::Native, Disconnect::Restart).code, 1012);
    assert_eq!(dialect::closing(Format::ProbePoll, Disconnect::Restart).code, 3001);
}
