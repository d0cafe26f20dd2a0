//! What a channel remembers, and that whoever comes back gets exactly what was missed.

mod support;
mod workers;

use fanfare_core::{
    app::{App, HistoryLimits},
    command::{BackEndCommand, Publish},
    engine::Flow,
    id::AppId,
    publication::Payload,
};
use serde_json::{Value, json};
use workers::Workers;

fn remember(messages: u32) -> impl FnOnce(&mut App) {
    move |app| {
        app.history = HistoryLimits { messages, ..HistoryLimits::NONE };
        app.announce = false;
    }
}

fn join() -> Value {
    json!({"id": "join", "type": "join", "channel": "room"})
}

fn rejoin(epoch: &Value, offset: u64) -> Value {
    json!({"id": "join", "type": "join", "channel": "room", "since": {"epoch": epoch, "offset": offset}})
}

fn message(number: u64) -> Value {
    json!({"type": "send", "channel": "room", "event": "e", "message": number})
}

fn history(members: Value) -> Value {
    let mut command = json!({"id": "history", "type": "history", "channel": "room"});
    command.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    command
}

/// Offsets of the messages among `frames`.
fn offsets(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["offset"].as_u64()).collect()
}

fn page(workers: &mut Workers, session: usize, members: Value) -> Value {
    workers.command(session, &history(members));
    workers.run_until_idle();
    let answer = workers.received(session).pop().expect("an answer");
    answer["ok"].clone()
}

fn payloads(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["message"].as_u64().expect("a number")).collect()
}

#[test]
fn history_is_read_from_either_end_and_in_pages() {
    let mut workers = Workers::new(1, 64, remember(4));
    let ada = workers.open(0);
    assert_eq!(
        page(&mut workers, ada, json!({})),
        json!({"channel": "room", "epoch": null, "offset": 0, "messages": [], "next": null})
    );
    // Nobody is there, and yet it is remembered.
    for number in 1..=5 {
        workers.command(ada, &message(number));
    }
    workers
        .command(ada, &json!({"id": 1, "type": "send", "channel": "room", "event": "e", "no_history": true}));
    workers.run_until_idle();
    assert_eq!(workers.received(ada)[0]["ok"]["offset"], Value::Null);
    let newest = page(&mut workers, ada, json!({"limit": 3}));
    assert_eq!(
        (payloads(&newest), &newest["next"], &newest["offset"]),
        (vec![5, 4, 3], &json!(3), &json!(5))
    );
    let rest = page(&mut workers, ada, json!({"limit": 3, "before": newest["next"]}));
    assert_eq!((payloads(&rest), &rest["next"]), (vec![2], &Value::Null));
    let oldest = page(&mut workers, ada, json!({"limit": 2, "after": 0}));
    assert_eq!((payloads(&oldest), &oldest["next"]), (vec![2, 3], &json!(3)));
    let first = &oldest["messages"][0];
    assert_eq!((&first["event"], &first["offset"]), (&json!("e"), &json!(2)));
    assert_eq!(first["id"].as_str().map(str::len), Some(36));
    assert!(first["time_ms"].is_u64() && first["edited_ms"].is_null());
    assert_eq!(workers.node.channels(), 1);
    assert!(workers.node.remembered(AppId(0)) > 0);
}

#[test]
fn a_send_without_history_does_not_make_a_channel() {
    let mut workers = Workers::new(1, 64, remember(4));
    let ada = workers.open(0);
    workers.command(ada, &json!({"type": "send", "channel": "room", "event": "e", "no_history": true}));
    assert_eq!(workers.node.channels(), 0);
}

#[test]
fn what_is_too_old_is_not_shown() {
    let mut workers = Workers::new(1, 64, remember(4));
    let ada = workers.open(0);
    for (now_ms, number) in [(1_000, 1), (2_000, 2)] {
        workers.engines[0].begin_turn(now_ms);
        workers.command(ada, &message(number));
    }
    workers.engines[0].begin_turn(1_000 + 3_600_001);
    assert_eq!(payloads(&page(&mut workers, ada, json!({"after": 0}))), [2]);
}

#[test]
fn who_comes_back_gets_what_was_missed_and_then_what_comes() {
    for worker in [0, 1] {
        let mut workers = Workers::new(2, 64, remember(100));
        let (ada, bob) = (workers.open(0), workers.open(worker));
        workers.command(ada, &join());
        workers.command(bob, &join());
        workers.run_until_idle();
        let epoch = workers.received(bob)[0]["ok"]["epoch"].clone();
        workers.received(ada);
        for number in 1..=3 {
            workers.command(ada, &message(number));
        }
        workers.run_until_idle();
        assert_eq!(offsets(&workers.received(bob)), [1, 2, 3]);
        workers.close(bob);
        for number in 4..=6 {
            workers.command(ada, &message(number));
        }
        let bob = workers.open(worker);
        // These are on their way to worker 1 when it asks.
        workers.command(ada, &message(7));
        workers.command(bob, &rejoin(&epoch, 3));
        workers.command(ada, &message(8));
        workers.run_until_idle();
        let sees = workers.received(bob);
        let ok = &sees[0]["ok"];
        assert_eq!((&ok["recovered"], &ok["joined"]), (&json!(true), &json!(true)), "{sees:?}");
        let missed = ok["missed"].as_u64().expect("a number");
        assert_eq!(ok["offset"], 3 + missed);
        assert_eq!(offsets(&sees[1..]), [4, 5, 6, 7, 8]);
    }
}

#[test]
fn what_cannot_be_complete_is_not_recovered() {
    let mut workers = Workers::new(1, 64, remember(3));
    let (ada, bob) = (workers.open(0), workers.open(0));
    workers.command(ada, &join());
    workers.run_until_idle();
    let epoch = workers.received(ada)[0]["ok"]["epoch"].clone();
    for number in 1..=5 {
        workers.command(ada, &message(number));
    }
    workers.run_until_idle();
    for (epoch, offset, recovered) in [
        (epoch.clone(), 1, false),
        (epoch.clone(), 2, true),
        (epoch.clone(), 5, true),
        (epoch.clone(), 6, false),
        (json!("0123456789abcdef"), 5, false),
    ] {
        workers.command(bob, &rejoin(&epoch, offset));
        workers.run_until_idle();
        let sees = workers.received(bob);
        assert_eq!(sees[0]["ok"]["recovered"], recovered, "{offset}");
        assert_eq!(sees[0]["ok"]["offset"], 5);
        let expected = if recovered { (offset + 1..=5).collect() } else { Vec::new() };
        assert_eq!(offsets(&sees[1..]), expected);
        workers.command(bob, &json!({"type": "leave", "channel": "room"}));
    }
}

#[test]
fn a_member_has_missed_nothing() {
    let mut workers = Workers::new(1, 64, remember(3));
    let ada = workers.open(0);
    workers.command(ada, &join());
    workers.run_until_idle();
    let epoch = workers.received(ada)[0]["ok"]["epoch"].clone();
    workers.command(ada, &message(1));
    workers.command(ada, &rejoin(&epoch, 0));
    workers.run_until_idle();
    let sees = workers.received(ada);
    assert_eq!(offsets(&sees[1..]), [1], "once");
    assert_eq!((&sees[0]["ok"]["joined"], sees[0]["ok"].get("recovered")), (&json!(false), None));
}

#[test]
fn a_position_that_makes_no_sense_is_refused() {
    let mut workers = Workers::new(1, 64, remember(3));
    let ada = workers.open(0);
    for since in [json!(1), json!([]), json!({"epoch": "0"}), json!({"epoch": "0", "offset": -1})] {
        workers.command(ada, &json!({"id": 1, "type": "join", "channel": "room", "since": since}));
        workers.run_until_idle();
        assert_eq!(workers.received(ada)[0]["error"]["code"], "invalid_command");
    }
    for members in [json!({"after": "x"}), json!({"before": -1}), json!({"after": 1, "before": 2})] {
        workers.command(ada, &history(members));
        workers.run_until_idle();
        assert_eq!(workers.received(ada)[0]["error"]["code"], "invalid_command");
    }
}

/// Somebody is inside the order when a session comes back, and others publish behind that.
#[test]
fn nothing_overtakes_what_was_missed() {
    for others in [0, 1] {
        let mut workers = Workers::new(2, 64, remember(100));
        let (ada, bea) = (workers.open(0), workers.open(1));
        workers.command(ada, &join());
        workers.run_until_idle();
        let epoch = workers.received(ada)[0]["ok"]["epoch"].clone();
        if others > 0 {
            workers.command(bea, &join());
        }
        workers.command(ada, &message(1));
        workers.command(ada, &message(2));
        let bob = workers.open(1);
        workers.inside(0, |workers| {
            assert_eq!(workers.send(ada, &message(3)), Flow::Continue);
            assert_eq!(workers.send(bob, &rejoin(&epoch, 1)), Flow::Pause);
            assert_eq!(workers.send(ada, &message(4)), Flow::Continue);
            workers.run_until_idle();
            assert_eq!(workers.received(bob), [] as [Value; 0]);
        });
        workers.command(ada, &message(5));
        workers.run_until_idle();
        let sees = workers.received(bob);
        assert_eq!(
            (&sees[0]["ok"]["recovered"], &sees[0]["ok"]["missed"]),
            (&json!(true), &json!(2)),
            "{sees:?}"
        );
        assert_eq!(offsets(&sees[1..]), [2, 3, 4, 5]);
        assert_eq!(workers.engines[1].take_unpaused(), [u32::try_from(bob).expect("they are few")]);
    }
}

/// A session that waits for what it missed keeps its worker's part of the channel, and gives it up if it is
/// gone.
#[test]
fn who_is_gone_before_the_answer_leaves_nothing_behind() {
    for others in [false, true] {
        let mut workers = Workers::new(2, 64, remember(100));
        let (ada, bea) = (workers.open(0), workers.open(1));
        workers.command(ada, &join());
        workers.run_until_idle();
        let epoch = workers.received(ada)[0]["ok"]["epoch"].clone();
        if others {
            workers.command(bea, &join());
        }
        let (bob, cy) = (workers.open(1), workers.open(1));
        workers.inside(0, |workers| {
            assert_eq!(workers.send(bob, &rejoin(&epoch, 0)), Flow::Pause);
            assert_eq!(workers.send(cy, &rejoin(&epoch, 0)), Flow::Pause);
            if others {
                assert_eq!(workers.send(bea, &json!({"type": "leave", "channel": "room"})), Flow::Continue);
            }
            workers.close(bob);
        });
        workers.run_until_idle();
        workers.command(ada, &message(1));
        workers.run_until_idle();
        assert_eq!(offsets(&workers.received(cy)), [1]);
        workers.close(cy);
        workers.run_until_idle();
        let bob = workers.open(1);
        workers.inside(0, |workers| {
            assert_eq!(workers.send(bob, &rejoin(&epoch, 0)), Flow::Pause);
            workers.close(bob);
        });
        workers.run_until_idle();
        workers.command(ada, &message(2));
        workers.command(ada, &json!({"type": "leave", "channel": "room"}));
        assert!(workers.engines.iter().all(|engine| !engine.is_busy() || engine.sessions() > 0));
        let mail = workers.engines[1].counters().mail;
        workers.run_until_idle();
        assert_eq!(workers.engines[1].counters().mail, mail, "worker 1 has no interest any more");
    }
}

/// Who was in a channel that never had a message may come back to it, for as long as a message would be
/// remembered.
#[test]
fn an_empty_channel_waits_for_those_who_left_it() {
    let mut workers = Workers::new(1, 64, remember(3));
    workers.engines[0].begin_turn(1_000);
    let ada = workers.open(0);
    workers.command(ada, &join());
    workers.run_until_idle();
    let epoch = workers.received(ada)[0]["ok"]["epoch"].clone();
    workers.command(ada, &json!({"type": "leave", "channel": "room"}));
    let bob = workers.open(0);
    workers.command(bob, &message(1));
    workers.command(ada, &rejoin(&epoch, 0));
    workers.run_until_idle();
    let sees = workers.received(ada);
    assert_eq!((&sees[0]["ok"]["recovered"], offsets(&sees[1..])), (&json!(true), vec![1]));
    workers.command(ada, &json!({"type": "leave", "channel": "room"}));
    for second in 0..60 {
        assert_eq!(workers.node.channels(), 1);
        workers.engines[0].begin_turn(3_000_000 + second * 1_000);
    }
    for second in 0..60 {
        workers.engines[0].begin_turn(3_602_000 + second * 1_000);
    }
    assert_eq!((workers.node.channels(), workers.node.remembered(AppId(0))), (0, 0));
}

/// Whoever asks for something in a channel that is over already does not keep it for ever.
#[test]
fn a_channel_that_is_over_goes_even_if_somebody_still_asks_for_it() {
    const HOUR: u64 = 3_600_000;
    let delete =
        json!({"type": "delete", "channel": "room", "message_id": "01234567-89ab-7def-8123-456789abcdef"});
    let unkept = json!({"type": "send", "channel": "room", "event": "e", "no_history": true});
    for last in [history(json!({})), delete, unkept] {
        let mut workers = Workers::new(1, 64, sender_edits);
        let ada = workers.open(0);
        workers.engines[0].begin_turn(1_000);
        workers.command(ada, &message(1));
        workers.engines[0].begin_turn(HOUR / 2);
        workers.command(ada, &join());
        workers.command(ada, &json!({"type": "leave", "channel": "room"}));
        // The message is forgotten, but who left may still come back.
        workers.engines[0].begin_turn(HOUR + 2_000);
        workers.command(ada, &history(json!({})));
        assert!(workers.node.remembered(AppId(0)) > 0);
        workers.engines[0].begin_turn(2 * HOUR);
        workers.command(ada, &last);
        for second in 0..60 {
            workers.engines[0].begin_turn(2 * HOUR + second * 1_000);
        }
        assert_eq!((workers.node.channels(), workers.node.remembered(AppId(0))), (0, 0), "{last}");
    }
}

/// A message that comes while the old ones are being forgotten is remembered.
#[test]
fn a_channel_that_was_over_lives_on_with_the_next_message() {
    let mut workers = Workers::new(2, 64, remember(4));
    workers.engines.iter_mut().for_each(|engine| engine.begin_turn(1_000));
    let ada = workers.open(0);
    workers.command(ada, &message(1));
    workers.inside(0, |workers| {
        for second in 0..60 {
            workers.engines[1].begin_turn(3_700_000 + second * 1_000);
            workers.engines[0].begin_turn(3_700_000 + second * 1_000);
        }
        assert_eq!(workers.send(ada, &message(2)), Flow::Continue);
    });
    workers.run_until_idle();
    assert_eq!(payloads(&page(&mut workers, ada, json!({}))), [2]);
}

#[test]
fn the_largest_channels_forget_first_when_an_app_remembers_too_much() {
    const LIMIT: usize = 200_000;
    let mut workers = Workers::new(2, 64, |app| {
        app.history = HistoryLimits { messages: 60_000, bytes: u32::MAX, ..HistoryLimits::NONE };
        app.limits.history_bytes = LIMIT;
    });
    let ada = workers.open(0);
    let send = |workers: &mut Workers, channel: &str, bytes: usize| {
        let text = "x".repeat(bytes);
        workers.command(ada, &json!({"type": "send", "channel": channel, "event": "e", "message": text}));
        workers.engines[0].begin_turn(1_000);
        workers.run_until_idle();
    };
    for number in 0..20 {
        send(&mut workers, &format!("small-{number}"), 500);
    }
    for _ in 0..300 {
        send(&mut workers, "large", 1_000);
        send(&mut workers, "larger", 2_000);
        assert!(workers.node.remembered(AppId(0)) <= LIMIT + LIMIT / 8 + 4_000);
    }
    for turn in 0..200 {
        workers.engines[0].begin_turn(2_000 + turn);
        workers.run_until_idle();
    }
    assert!(workers.node.remembered(AppId(0)) <= LIMIT, "{}", workers.node.remembered(AppId(0)));
    assert!(workers.engines[0].counters().history_forgotten > 400);
    let kept = |name: &str| workers.node.channel(AppId(0), Some(name)).expect("it is there").remembered();
    for number in 0..20 {
        assert!(kept(&format!("small-{number}")) > 1_000, "the small ones keep what they have");
    }
    assert!(kept("large").abs_diff(kept("larger")) < kept("large") / 3);
}

fn sender_edits(app: &mut App) {
    remember(100)(app);
    app.sender_edits = true;
    app.show_sender = true;
}

/// The answer to a command, and what else the session received.
fn ask(workers: &mut Workers, session: usize, command: Value) -> Value {
    workers.command(session, &command);
    workers.run_until_idle();
    let seen = workers.received(session);
    seen.into_iter()
        .find(|frame| frame["id"] == command["id"] && frame.get("event").is_none())
        .expect("an answer")
}

#[test]
fn an_edit_and_a_deletion_reach_the_members_and_the_history() {
    let mut workers = Workers::new(2, 64, sender_edits);
    let (ada, bob) = (workers.open(0), workers.open(1));
    workers.command(bob, &join());
    workers.run_until_idle();
    let epoch = workers.received(bob)[0]["ok"]["epoch"].clone();
    let mut ids = Vec::new();
    for number in 1..=3 {
        let mut send = message(number);
        send["id"] = json!("send");
        ids.push(ask(&mut workers, ada, send)["ok"]["message_id"].clone());
    }
    let sent = workers.received(bob);
    let session = workers.engines[0].session_id(workers.sessions[ada].1).to_string();
    assert_eq!((&sent[0]["sender"], &sent[0]["id"]), (&json!(session), &ids[0]));
    workers.engines[0].begin_turn(5_000);
    let edit = json!({"id": 1, "type": "edit", "channel": "room", "message_id": ids[0], "message": "new"});
    assert_eq!(ask(&mut workers, ada, edit.clone())["ok"], json!({"message_id": ids[0], "offset": 4}));
    let delete = json!({"id": 1, "type": "delete", "channel": "room", "message_id": ids[1]});
    assert_eq!(ask(&mut workers, ada, delete.clone())["ok"], json!({"message_id": ids[1], "offset": 5}));
    let edited = json!({"channel": "room", "event": "message:edit", "message": "new", "offset": 4, "id": ids[0],
        "sender": session, "edited_ms": 5_000});
    let deleted = json!({"channel": "room", "event": "message:delete", "message": null, "offset": 5, "id": ids[1],
        "sender": session, "edited_ms": 5_000});
    assert_eq!(workers.received(bob), [edited.clone(), deleted.clone()]);
    let page = page(&mut workers, ada, json!({"after": 0}));
    let messages = page["messages"].as_array().expect("a list");
    assert_eq!(messages.len(), 2);
    assert_eq!((&messages[0]["message"], &messages[0]["edited_ms"]), (&json!("new"), &json!(5_000)));
    assert_eq!((&messages[0]["event"], &messages[0]["offset"]), (&json!("e"), &json!(1)));
    // Whoever had the first two learns what became of them.
    let cy = workers.open(1);
    workers.command(cy, &rejoin(&epoch, 2));
    workers.run_until_idle();
    let sees = workers.received(cy);
    assert_eq!((offsets(&sees[1..]), &sees[2], &sees[3]), (vec![3, 4, 5], &edited, &deleted));
    // Another session may not, a deleted message is gone, and others are unknown.
    assert_eq!(ask(&mut workers, bob, edit)["error"]["code"], "edit_not_allowed");
    assert_eq!(ask(&mut workers, ada, delete)["error"]["code"], "unknown_message");
    for (channel, id, code) in [
        ("room", "01234567-89ab-7def-8123-456789abcdef", "unknown_message"),
        ("other", "01234567-89ab-7def-8123-456789abcdef", "unknown_message"),
        ("room", "x", "invalid_command"),
    ] {
        let delete = json!({"id": 1, "type": "delete", "channel": channel, "message_id": id});
        assert_eq!(ask(&mut workers, ada, delete)["error"]["code"], code);
    }
    let edit = json!({"id": 1, "type": "edit", "channel": "room", "message_id": ids[0]});
    assert_eq!(ask(&mut workers, ada, edit)["error"]["code"], "invalid_command");
}

#[test]
fn senders_edit_only_where_the_app_allows_it() {
    let mut workers = Workers::new(1, 64, remember(3));
    let ada = workers.open(0);
    let mut send = message(1);
    send["id"] = json!(1);
    let id = ask(&mut workers, ada, send)["ok"]["message_id"].clone();
    let delete = json!({"id": 1, "type": "delete", "channel": "room", "message_id": id});
    assert_eq!(ask(&mut workers, ada, delete)["error"]["code"], "edit_not_allowed");
}

/// An edit is delegated as everything is.
#[test]
fn an_edit_that_finds_the_order_taken_is_answered_when_it_is_left() {
    let mut workers = Workers::new(2, 64, sender_edits);
    let (ada, bob) = (workers.open(0), workers.open(1));
    workers.command(bob, &join());
    let mut send = message(1);
    send["id"] = json!(1);
    let id = ask(&mut workers, ada, send)["ok"]["message_id"].clone();
    let missing = "01234567-89ab-7def-8123-456789abcdef";
    workers.inside(1, |workers| {
        let edit = json!({"id": 1, "type": "edit", "channel": "room", "message_id": id, "message": 2});
        let wrong = json!({"id": 2, "type": "edit", "channel": "room", "message_id": missing, "message": 2});
        let history = json!({"id": 3, "type": "history", "channel": "room"});
        assert_eq!(workers.send(ada, &json!([edit, wrong, history])), Flow::Pause);
    });
    workers.run_until_idle();
    let sees = workers.received(ada);
    assert_eq!(sees[0]["ok"]["offset"], 2);
    assert_eq!(sees[1]["error"]["code"], "unknown_message");
    assert_eq!(sees[2]["ok"]["messages"][0]["message"], 2);
}

/// The owner of a key may have to wait for the order, while the same request comes again.
#[test]
fn a_key_is_used_once_even_while_the_first_request_waits() {
    let mut workers = Workers::new(2, 64, remember(10));
    let ada = workers.open(0);
    workers.command(ada, &join());
    workers.run_until_idle();
    let publish = |workers: &mut Workers, worker: usize, key: &str, token| {
        let publish = Publish::new(Some("room"), "e", Payload::Json("1"));
        let command = BackEndCommand::Publish { publish, idempotency_key: Some(key) };
        workers.engines[worker].request(AppId(0), command, token)
    };
    workers.inside(0, |workers| {
        for round in 0..3 {
            for worker in [0, 1] {
                for (at, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
                    assert!(publish(workers, worker, key, round * 10 + at as u64).is_none());
                }
            }
            workers.run_until_idle();
        }
    });
    workers.run_until_idle();
    assert_eq!(offsets(&workers.received(ada)), [1, 2, 3, 4]);
    for engine in &mut workers.engines {
        let mut answers = engine.take_answers();
        assert_eq!(answers.len(), 12);
        answers.sort_by_key(|(token, _)| token % 10);
        for of_one_key in answers.chunks(3) {
            let texts: Vec<String> = of_one_key.iter().map(|(_, answer)| format!("{answer:?}")).collect();
            assert!(texts.iter().all(|text| *text == texts[0] && text.starts_with("Ok")), "{texts:?}");
        }
    }
    // Two minutes later a key is new.
    for engine in &mut workers.engines {
        engine.begin_turn(120_001);
    }
    assert!(publish(&mut workers, 0, "a", 1).is_none());
    workers.run_until_idle();
    assert_eq!(offsets(&workers.received(ada)), [5]);
}
