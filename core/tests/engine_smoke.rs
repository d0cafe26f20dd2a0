//! Two sessions on one engine, from bytes in to bytes out: the shortest path through everything.

mod support;

use fanfare_core::{
    app::{App, AppKeys, Apps, SlowConsumer},
    dialect::Format,
    engine::{Engine, Flow, Node},
    id::{SessionSlot, WorkerId},
    now::Now,
    ws::Message,
};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc};
use support::{Memory, open};

/// One engine whose app has every default.
fn engine() -> (Engine, Memory) {
    let apps = Apps::new(vec![App::new("default", AppKeys::default())]).expect("one app");
    let node = Arc::new(Node::new(apps, 1, 64, 7));
    (Engine::new(WorkerId(0), node, 11), Memory::default())
}

fn send(engine: &mut Engine, slot: SessionSlot, command: Value) {
    let flow = engine.receive(slot, Message::Text(&command.to_string()));
    assert_eq!(flow, Flow::Continue, "one engine never waits");
}

/// What connection `connection` received since the last time.
fn received(engine: &mut Engine, sink: &mut Memory, connection: u32) -> Vec<Value> {
    engine.on_mail();
    engine.flush(sink);
    sink.take_json(connection)
}

#[test]
fn a_message_reaches_the_members_and_the_answer_its_sender() {
    let (mut engine, mut sink) = engine();
    engine.begin_turn(1_000);
    let ada = open(&mut engine, 0, Format::Native);
    let bob = open(&mut engine, 1, Format::NativeText);
    let welcome = received(&mut engine, &mut sink, 0);
    let ada_id = engine.session_id(ada).to_string();
    let bob_id = engine.session_id(bob).to_string();
    assert_eq!(welcome, [json!({"welcome": ada_id})]);
    assert_eq!(sink.take_json(1), [json!({"welcome": bob_id})]);

    send(&mut engine, ada, json!({"id": 1, "type": "join", "channel": "room", "echo": false}));
    send(
        &mut engine,
        bob,
        json!([{"id": "b", "type": "update", "profile": {"name": "Bob"}},
        {"id": 2, "type": "join", "channel": "room"}]),
    );
    let ada_sees = received(&mut engine, &mut sink, 0);
    assert_eq!(ada_sees[0]["ok"]["joined"], true);
    assert_eq!(ada_sees[0]["ok"]["members"], 1);
    let notice = json!({"channel": "room", "event": "channel:join",
        "message": {"id": bob_id, "data": {"name": "Bob"}}});
    assert_eq!(&ada_sees[1..], std::slice::from_ref(&notice));
    let bob_sees = sink.take_json(1);
    assert_eq!(bob_sees[0], json!({"id": "b", "ok": {}}));
    assert_eq!(bob_sees[1]["ok"]["members"], 2);
    assert_eq!(bob_sees[1]["ok"]["offset"], 0);
    assert_eq!(bob_sees[2..], [notice]);

    send(
        &mut engine,
        ada,
        json!({"id": 3, "type": "send", "channel": "room", "event": "chat",
        "message": {"text": "hi"}, "echo": false}),
    );
    let ada_sees = received(&mut engine, &mut sink, 0);
    assert_eq!(ada_sees.len(), 1, "no echo");
    assert_eq!(ada_sees[0]["ok"]["offset"], 1);
    let message = json!({"channel": "room", "event": "chat", "message": {"text": "hi"}, "offset": 1});
    assert_eq!(sink.take_json(1), [message]);

    send(&mut engine, bob, json!({"type": "broadcast", "event": "news"}));
    let news = json!({"channel": null, "event": "news", "message": null});
    assert_eq!(received(&mut engine, &mut sink, 0), std::slice::from_ref(&news));
    assert_eq!(sink.take_json(1), [news]);

    engine.close(bob);
    let ada_sees = received(&mut engine, &mut sink, 0);
    assert_eq!(ada_sees[0]["event"], "channel:leave");
    assert_eq!(ada_sees[0]["message"]["id"], bob_id);
    send(&mut engine, ada, json!({"id": 4, "type": "leave", "channel": "room"}));
    let ada_sees = received(&mut engine, &mut sink, 0);
    assert_eq!(ada_sees[0]["event"], "channel:leave");
    assert_eq!(ada_sees[1], json!({"id": 4, "ok": {"channel": "room", "left": true}}));
    assert_eq!(engine.node().channels(), 0);
    engine.close(ada);
    assert_eq!(engine.sessions(), 0);
}

#[test]
fn bytes_reach_each_format_in_its_way() {
    let (mut engine, mut sink) = engine();
    engine.begin_turn(1_000);
    let ada = open(&mut engine, 0, Format::Native);
    let bob = open(&mut engine, 1, Format::NativeText);
    for slot in [ada, bob] {
        send(&mut engine, slot, json!({"type": "join", "channel": "room", "echo": false}));
    }
    received(&mut engine, &mut sink, 0);
    sink.take_json(1);
    let envelope = br#"{"id":1,"type":"send","channel":"room","event":"raw"}"#;
    let mut frame = Vec::from(u16::try_from(envelope.len()).expect("it is short").to_be_bytes());
    frame.extend_from_slice(envelope);
    frame.extend_from_slice(&[0, 255, 7]);
    assert_eq!(engine.receive(ada, Message::Binary(&frame)), Flow::Continue);
    let ada_sees = received(&mut engine, &mut sink, 0);
    assert_eq!(ada_sees.len(), 2, "{ada_sees:?}");
    let bytes = json!({"channel": "room", "event": "raw", "offset": 1, "bytes": [0, 255, 7]});
    assert_eq!(ada_sees[1], bytes);
    let text = json!({"channel": "room", "event": "raw", "offset": 1, "message": {"base64": "AP8H"}});
    assert_eq!(sink.take_json(1), [text]);
}

/// Closing a session in the turn in which its channel had a publication must leave nothing to be written to
/// it.
#[test]
fn a_closed_session_receives_nothing_more() {
    let (mut engine, mut sink) = engine();
    engine.begin_turn(1_000);
    let ada = open(&mut engine, 0, Format::Native);
    let bob = open(&mut engine, 1, Format::Native);
    for slot in [ada, bob] {
        send(&mut engine, slot, json!({"type": "join", "channel": "room"}));
    }
    received(&mut engine, &mut sink, 0);
    sink.take_json(1);
    send(&mut engine, bob, json!({"type": "send", "channel": "room", "event": "bye"}));
    send(&mut engine, bob, json!({"type": "broadcast", "event": "bye"}));
    sink.backlog = usize::MAX;
    engine.close(bob);
    engine.flush(&mut sink);
    assert_eq!(sink.take_json(1), [] as [Value; 0]);
    assert_eq!(sink.take_json(0).len(), 3);
}

/// An app that drops what slow consumers do not read.
#[test]
fn a_gap_says_exactly_what_was_missed() {
    let mut app = App::new("default", AppKeys::default());
    app.slow_consumer = SlowConsumer::Drop;
    app.limits.outbound_bytes = 10;
    app.announce = false;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    let mut sink = Memory::default();
    let ada = open(&mut engine, 0, Format::Native);
    let bob = open(&mut engine, 1, Format::Native);
    for channel in ["room", "other"] {
        for slot in [ada, bob] {
            send(&mut engine, slot, json!({"type": "join", "channel": channel}));
        }
    }
    sink.backlog = 11;
    engine.flush(&mut sink);
    sink.take_json(1);
    let message = |channel| json!({"type": "send", "channel": channel, "event": "e", "echo": false});
    send(&mut engine, ada, message("room"));
    send(&mut engine, bob, message("other"));
    send(&mut engine, ada, message("room"));
    engine.flush(&mut sink);
    engine.on_drained(bob);
    send(&mut engine, ada, message("room"));
    let bob_sees = received(&mut engine, &mut sink, 1);
    assert_eq!(bob_sees[0], json!({"gap": {"channel": "room", "missed": 2}}));
    assert_eq!(bob_sees[1]["offset"], 3);
    assert_eq!(bob_sees.len(), 2, "its own message was not for it, and is no gap: {bob_sees:?}");
    assert_eq!(engine.counters().missed, 2);
}

/// A session that opens does not receive what was broadcast before.
#[test]
fn broadcasts_from_before_a_session_are_not_for_it() {
    let apps = Apps::new(vec![App::new("default", AppKeys::default())]).expect("one app");
    let node = Arc::new(Node::new(apps, 2, 64, 7));
    let mut engines = [0, 1].map(|worker| Engine::new(WorkerId(worker), node.clone(), u64::from(worker)));
    let mut sink = Memory::default();
    let ada = open(&mut engines[0], 0, Format::Native);
    open(&mut engines[1], 1, Format::Native);
    send(&mut engines[0], ada, json!({"type": "broadcast", "event": "news"}));
    open(&mut engines[1], 2, Format::Native);
    assert_eq!(received(&mut engines[1], &mut sink, 1).len(), 2);
    assert_eq!(sink.take_json(2).len(), 1, "only its welcome");
}

/// Dropping publications does not bound answers: who asks for ever and never reads is disconnected after all.
#[test]
fn who_asks_and_never_reads_is_disconnected_though_the_app_drops() {
    let mut app = App::new("default", AppKeys::default());
    app.slow_consumer = SlowConsumer::Drop;
    app.limits.outbound_bytes = 100;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    let mut sink = Memory::default();
    let ada = open(&mut engine, 7, Format::Native);
    for (backlog, disconnected) in [(101, false), (200, false), (201, true)] {
        sink.backlog = backlog;
        send(&mut engine, ada, json!({"type": "ping", "id": 1}));
        engine.flush(&mut sink);
        let connections: Vec<u32> =
            engine.take_disconnects().iter().map(|(connection, _)| *connection).collect();
        assert_eq!(connections, if disconnected { vec![7] } else { vec![] }, "with {backlog} bytes waiting");
    }
}

/// Large profiles make a page short, and paging brings everybody once.
#[test]
fn a_page_of_members_is_bounded_by_bytes() {
    const MEMBERS: usize = 20;
    let mut app = App::new("default", AppKeys::default());
    app.limits.profile_bytes = 200_000;
    app.announce = false;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    let mut sink = Memory::default();
    for connection in 0..MEMBERS as u32 {
        let slot = open(&mut engine, connection, Format::Native);
        send(&mut engine, slot, json!({"type": "update", "profile": "x".repeat(150_000)}));
        send(&mut engine, slot, json!({"type": "join", "channel": "room"}));
    }
    let reader = open(&mut engine, 99, Format::Native);
    received(&mut engine, &mut sink, 99);
    let (mut seen, mut after, mut pages) = (HashSet::new(), Value::Null, 0);
    loop {
        let mut query = json!({"id": 1, "type": "members", "channel": "room", "limit": 1000});
        if !after.is_null() {
            query["after"] = after;
        }
        send(&mut engine, reader, query);
        let answer = received(&mut engine, &mut sink, 99).remove(0);
        assert!(answer.to_string().len() < 1_500_000);
        for member in answer["ok"]["members"].as_array().expect("a list") {
            assert!(seen.insert(member["id"].to_string()));
        }
        pages += 1;
        after = answer["ok"]["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (MEMBERS, 3));
}

/// An allowance is measured on the clock that does not step: an hour back on the wall refuses nobody.
#[test]
fn a_step_back_of_the_wall_clock_takes_no_allowance_away() {
    let mut app = App::new("default", AppKeys::default());
    app.limits.messages_per_second = 2;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    let hour_ms = 3_600_000;
    engine.begin_turn(Now { unix_ms: 10 * hour_ms, steady_ms: 5_000 });
    let slot = open(&mut engine, 1, Format::Native);
    let message = json!({"type": "broadcast", "event": "e", "message": 1});
    (0..2).for_each(|_| send(&mut engine, slot, message.clone()));
    engine.begin_turn(Now { unix_ms: 9 * hour_ms, steady_ms: 6_000 });
    (0..2).for_each(|_| send(&mut engine, slot, message.clone()));
    assert_eq!(engine.counters().rate_limited, 0);
}
