//! Fields that a back end decides in its messages (ids, times and senders' names), and changes of messages
//! that the channel does not remember.

mod support;
mod workers;

use fanfare_core::app::{App, HistoryLimits};
use serde_json::{Value, json};
use workers::{Workers, request};

/// UUIDs that contain no time.
const FIRST: &str = "ffffffff-ffff-4fff-bfff-ffffffffffff";
const SECOND: &str = "00000000-0000-4000-8000-000000000000";

/// Gives the app's channels an hour of history.
fn remember(app: &mut App) {
    app.history = HistoryLimits { messages: 10, ..HistoryLimits::NONE };
    app.announce = false;
}

fn member(workers: &mut Workers, worker: usize, user: Option<&str>) -> usize {
    let session = workers.open_as(worker, user);
    workers.command(session, &json!({"type": "join", "channel": "room"}));
    workers.run_until_idle();
    workers.received(session);
    session
}

fn send(workers: &mut Workers, members: Value) -> Value {
    let mut body = json!({"channel": "room", "event": "e"});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    request(workers, 0, "POST", "/v1/send", &body)
}

fn amend(workers: &mut Workers, method: &str, members: Value) -> Value {
    let mut body = json!({"channel": "room", "lenient": true});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    request(workers, 0, method, "/v1/messages", &body)
}

fn page(workers: &mut Workers, reader: usize) -> Vec<Value> {
    workers.command(reader, &json!({"id": "h", "type": "history", "channel": "room", "after": 0}));
    workers.run_until_idle();
    let answer = workers.received(reader).into_iter().find(|frame| frame["id"] == "h").expect("an answer");
    answer["ok"]["messages"].as_array().expect("a list").clone()
}

#[test]
fn a_message_has_the_id_the_time_and_the_name_that_its_back_end_gives() {
    let mut workers = Workers::new(2, 64, remember);
    let (ada, bob) = (member(&mut workers, 0, None), member(&mut workers, 1, None));
    workers.engines.iter_mut().for_each(|engine| engine.begin_turn(5_000_000));
    let given = json!({"message_id": FIRST, "time_ms": 4_000_000, "label": "bot", "message": 1});
    assert_eq!(send(&mut workers, given), json!({"message_id": FIRST, "offset": 1}));
    for reader in [ada, bob] {
        let expected =
            json!({"channel": "room", "event": "e", "message": 1, "offset": 1, "id": FIRST, "user": "bot"});
        assert_eq!(workers.received(reader), [expected]);
        let messages = page(&mut workers, reader);
        let shown = [&messages[0]["id"], &messages[0]["time_ms"], &messages[0]["user"]];
        assert_eq!(shown, [&json!(FIRST), &json!(4_000_000), &json!("bot")]);
    }
}

#[test]
fn an_age_counts_from_the_time_that_was_given_and_never_from_the_future() {
    let mut workers = Workers::new(1, 64, remember);
    let ada = member(&mut workers, 0, None);
    workers.engines[0].begin_turn(10_000_000);
    send(&mut workers, json!({"message": "now"}));
    // The first message is half an hour old when it comes, and the second is three hours in the future.
    send(&mut workers, json!({"message_id": FIRST, "time_ms": 8_200_000, "message": "old"}));
    send(&mut workers, json!({"message_id": SECOND, "time_ms": 20_800_000, "message": "ahead"}));
    let shown = |workers: &mut Workers| -> Vec<Value> {
        page(workers, ada).iter().map(|message| message["message"].clone()).collect()
    };
    assert_eq!(shown(&mut workers), ["now", "old", "ahead"]);
    workers.engines[0].begin_turn(8_200_000 + 3_600_001);
    assert_eq!(shown(&mut workers), ["now", "ahead"], "it is behind a younger one, and too old");
    let edit = json!({"channel": "room", "message_id": FIRST, "message": 2});
    assert_eq!(request(&mut workers, 0, "PATCH", "/v1/messages", &edit), "unknown_message");
    workers.engines[0].begin_turn(10_000_000 + 3_600_001);
    assert_eq!(shown(&mut workers), [] as [Value; 0]);
}

#[test]
fn a_recovery_that_misses_a_message_too_old_says_so() {
    let mut workers = Workers::new(1, 64, remember);
    let ada = workers.open(0);
    workers.engines[0].begin_turn(10_000_000);
    send(&mut workers, json!({"message": "now"}));
    send(&mut workers, json!({"time_ms": 8_200_000, "message": "old"}));
    let epoch = {
        workers.command(ada, &json!({"id": 1, "type": "history", "channel": "room"}));
        workers.run_until_idle();
        workers.received(ada)[0]["ok"]["epoch"].clone()
    };
    let recovered = |workers: &mut Workers, offset: u64| {
        let session = workers.open(0);
        let since = json!({"epoch": epoch, "offset": offset});
        workers.command(session, &json!({"id": 1, "type": "join", "channel": "room", "since": since}));
        workers.run_until_idle();
        workers.received(session)[0]["ok"]["recovered"].clone()
    };
    assert_eq!(recovered(&mut workers, 1), true);
    workers.engines[0].begin_turn(8_200_000 + 3_600_001);
    assert_eq!((recovered(&mut workers, 1), recovered(&mut workers, 2)), (json!(false), json!(true)));
}

#[test]
fn a_change_is_told_whether_or_not_its_message_is_known() {
    for history in [10, 0] {
        let mut workers = Workers::new(2, 64, |app| {
            remember(app);
            app.history.messages = history;
        });
        let (ada, bob) = (member(&mut workers, 0, Some("ada")), member(&mut workers, 1, Some("bob")));
        let edit = json!({"message_id": FIRST, "message": "new", "label": "bot", "except_users": ["ada"]});
        assert_eq!(amend(&mut workers, "PATCH", edit), json!({"message_id": FIRST, "offset": null}));
        assert_eq!(amend(&mut workers, "DELETE", json!({"message_id": SECOND}))["offset"], Value::Null);
        let kinds = |frames: &[Value]| -> Vec<Value> {
            frames.iter().map(|frame| json!([frame["event"], frame["message"], frame["user"]])).collect()
        };
        let deleted = json!(["message:delete", null, null]);
        assert_eq!(kinds(&workers.received(ada)), std::slice::from_ref(&deleted));
        assert_eq!(kinds(&workers.received(bob)), [json!(["message:edit", "new", "bot"]), deleted]);
    }
}

#[test]
fn a_change_says_what_it_changes_and_a_private_message_stays_private() {
    let mut workers = Workers::new(1, 64, remember);
    let (ada, bob) = (member(&mut workers, 0, Some("ada")), member(&mut workers, 0, Some("bob")));
    let message =
        json!({"message_id": FIRST, "time_ms": 1, "label": "bot", "message": "old", "to_users": ["ada"]});
    workers.engines[0].begin_turn(5_000);
    send(&mut workers, message);
    let edit = json!({"message_id": FIRST, "label": "robot", "edited_ms": 3_000});
    assert_eq!(amend(&mut workers, "PATCH", edit)["offset"], 2);
    // The edit is for its own audience, which is everybody. Later readers see the message only if it was for
    // them.
    for reader in [ada, bob] {
        let edit = workers.received(reader).pop().expect("the edit");
        let shown = [&edit["event"], &edit["message"], &edit["user"], &edit["edited_ms"]];
        assert_eq!(shown, [&json!("message:edit"), &json!("old"), &json!("robot"), &json!(3_000)]);
    }
    assert_eq!(page(&mut workers, bob), [] as [Value; 0]);
    let now = &page(&mut workers, ada)[0];
    let shown = [&now["message"], &now["user"], &now["time_ms"], &now["edited_ms"], &now["offset"]];
    assert_eq!(shown, [&json!("old"), &json!("robot"), &json!(1), &json!(3_000), &json!(1)]);
    assert_eq!(amend(&mut workers, "DELETE", json!({"message_id": FIRST}))["offset"], 3);
    assert_eq!(page(&mut workers, ada), [] as [Value; 0]);
}

#[test]
fn a_change_without_channel_is_for_users_and_must_name_them() {
    let mut workers = Workers::new(2, 64, remember);
    let (ada, bob) = (workers.open_as(0, Some("ada")), workers.open_as(1, Some("bob")));
    workers.run_until_idle();
    workers.received(bob);
    let edit = json!({"channel": null, "message_id": FIRST, "message": 1, "to_users": ["bob"]});
    assert_eq!(amend(&mut workers, "PATCH", edit), json!({"message_id": FIRST}));
    assert_eq!(
        amend(&mut workers, "DELETE", json!({"channel": null, "message_id": FIRST})),
        "invalid_command"
    );
    workers.received(ada);
    let told = workers.received(bob);
    assert_eq!(
        (told.len(), &told[0]["event"], &told[0]["channel"]),
        (1, &json!("message:edit"), &Value::Null)
    );
}

#[test]
fn a_message_for_existing_channels_alone_makes_none() {
    let mut workers = Workers::new(1, 64, remember);
    let body = json!({"if_exists": true, "message": 1});
    assert_eq!(send(&mut workers, body.clone())["offset"], Value::Null);
    assert_eq!(workers.node.channels(), 0);
    let options = json!({"channel": "room", "history_messages": 3});
    request(&mut workers, 0, "PUT", "/v1/options", &options);
    assert_eq!(send(&mut workers, body)["offset"], 1, "a channel whose options were set exists");
}

#[test]
fn what_a_back_end_gives_is_held_to_its_bounds() {
    let mut workers = Workers::new(1, 64, remember);
    for (members, code) in [
        (json!({"message_id": "x"}), "invalid_command"),
        (json!({"message_id": 1}), "invalid_command"),
        (json!({"time_ms": -1}), "invalid_command"),
        (json!({"time_ms": "1"}), "invalid_command"),
        (json!({"label": ""}), "invalid_command"),
        (json!({"label": "l".repeat(513)}), "invalid_command"),
        (json!({"if_exists": 1}), "invalid_command"),
        (json!({"message_id": FIRST, "idempotency_key": "k"}), "invalid_command"),
        (json!({"message_id": FIRST, "message": "m".repeat(65_536)}), "message_too_large"),
    ] {
        assert_eq!(send(&mut workers, members.clone()), code, "{members}");
    }
    assert!(send(&mut workers, json!({"label": "l".repeat(512)}))["message_id"].is_string());
    assert_eq!(
        amend(&mut workers, "PATCH", json!({"message_id": FIRST, "lenient": "yes"})),
        "invalid_command"
    );
}
