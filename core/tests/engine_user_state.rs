//! States of users: who is told of a change, in which order, and for how long they are known.

mod support;
mod workers;

use fanfare_core::app::{App, ChannelOptions, ChannelRule};
use serde_json::{Value, json};
use workers::{Workers, request};

const HOUR: u64 = 3_600_000;

/// Channels that begin with `told` show users, their states and lists; others show only users.
fn rules(app: &mut App) {
    let users = ChannelOptions { announce: false, presence_by_user: true, ..ChannelOptions::default() };
    let told = ChannelOptions { user_state: true, user_lists: true, ..users };
    app.rules = vec![
        ChannelRule { pattern: "told*".into(), options: told },
        ChannelRule { pattern: "*".into(), options: users },
    ];
}

fn member(workers: &mut Workers, worker: usize, user: Option<&str>, channels: &[&str]) -> usize {
    let session = workers.open_as(worker, user);
    workers.run_until_idle();
    for channel in channels {
        workers.command(session, &json!({"type": "join", "channel": channel, "echo": false}));
        workers.run_until_idle();
    }
    workers.received(session);
    session
}

fn set(workers: &mut Workers, worker: usize, user: &str, body: Value) -> Value {
    request(workers, worker, "PATCH", &format!("/v1/users/{user}"), &body)
}

/// Channel, event and message of what a session received.
fn told(workers: &mut Workers, session: usize) -> Vec<Value> {
    let frames = workers.received(session);
    frames.iter().map(|frame| json!([frame["channel"], frame["event"], frame["message"]])).collect()
}

#[test]
fn a_change_is_told_once_in_each_channel_that_tells_it_with_what_is_public() {
    let mut workers = Workers::new(3, 64, rules);
    // Leia is in the channels with sessions of two workers.
    let leia =
        [0, 1].map(|worker| member(&mut workers, worker, Some("leia"), &["told-1", "told-2", "untold"]));
    let luke = member(&mut workers, 2, Some("luke"), &["told-1", "untold"]);
    let nobody = member(&mut workers, 0, None, &["told-2"]);
    leia.into_iter().chain([luke, nobody]).for_each(|session| drop(workers.received(session)));
    let answer = set(
        &mut workers,
        2,
        "leia",
        json!({"state": {"mood": "well", "age": 19, "gone": null}, "public_keys": ["mood"]}),
    );
    let expected = json!({
        "user": "leia", "state": {"age": 19, "mood": "well"},
        "public_keys": ["mood"], "changed": ["age", "mood"],
    });
    assert_eq!(answer, expected);
    let notice = |channel: &str| {
        let message = json!({"user": "leia", "state": {"mood": "well"}, "changed": ["mood"]});
        json!([channel, "channel:user_update", message])
    };
    for session in leia {
        let mut both = told(&mut workers, session);
        both.sort_by_key(Value::to_string);
        assert_eq!(both, [notice("told-1"), notice("told-2")]);
    }
    assert_eq!(told(&mut workers, luke), [notice("told-1")]);
    assert_eq!(told(&mut workers, nobody), [notice("told-2")]);
    // The same again changes nothing; what is private is told as a change without keys; or nobody is told.
    set(&mut workers, 0, "leia", json!({"state": {"mood": "well"}}));
    set(&mut workers, 0, "leia", json!({"state": {"age": 20}, "announce": false}));
    assert_eq!(told(&mut workers, luke), [] as [Value; 0]);
    set(&mut workers, 1, "leia", json!({"state": {"age": 21}}));
    let message = json!({"user": "leia", "state": {"mood": "well"}, "changed": []});
    assert_eq!(told(&mut workers, luke), [json!(["told-1", "channel:user_update", message])]);
}

/// Changes at several workers at once, while others are inside the order.
#[test]
fn no_member_is_shown_an_older_state_after_a_newer_one() {
    for busy in 0..3 {
        let mut workers = Workers::new(3, 64, rules);
        member(&mut workers, 0, Some("leia"), &["room", "told"]);
        member(&mut workers, 1, Some("leia"), &["told"]);
        let watchers = [0, 1, 2].map(|worker| member(&mut workers, worker, None, &["told"]));
        set(&mut workers, 0, "leia", json!({"public_keys": ["n"]}));
        for number in 0..30u64 {
            let worker = usize::try_from(number).expect("it is small") % 3;
            let body = json!({"state": {"n": number}}).to_string();
            let change = |workers: &mut Workers| {
                use fanfare_core::{command::BackEndCommand, id::AppId, publication::UserChange};
                let values = vec![(Box::from("n"), number.to_string().into())];
                let change = UserChange { values, ..UserChange::default() };
                let command = BackEndCommand::SetUser { user: "leia", change, announce: true };
                assert!(workers.engines[worker].request(AppId(0), command, 1).is_some(), "{body}");
            };
            if number % 3 == 0 {
                workers.inside(busy, change);
            } else {
                change(&mut workers);
            }
            if number % 2 == 0 {
                workers.engines[busy].on_mail();
            }
        }
        workers.run_until_idle();
        for watcher in watchers {
            let shown = told(&mut workers, watcher);
            let numbers: Vec<u64> =
                shown.iter().filter_map(|notice| notice[2]["state"]["n"].as_u64()).collect();
            assert!(numbers.is_sorted() && numbers.last() == Some(&29), "{numbers:?}");
        }
    }
}

#[test]
fn who_comes_is_shown_with_its_state_and_the_users_that_are_there() {
    let mut workers = Workers::new(2, 64, rules);
    let luke = member(&mut workers, 0, Some("luke"), &["told", "untold"]);
    let state =
        json!({"fresh": {"a": 1, "b": 1}, "state": {"b": 2}, "public_keys": ["a"], "announce": false});
    set(&mut workers, 1, "leia", state);
    workers.received(luke);
    let leia = [0, 1].map(|worker| member(&mut workers, worker, Some("leia"), &["told", "untold"]));
    let plain = json!({"user": "leia", "state": {"a": 1}});
    let users = json!([plain, {"user": "luke"}]);
    let shown = json!({"user": "leia", "state": {"a": 1}, "users": users});
    let joined = [json!(["told", "channel:user_join", shown]), json!(["untold", "channel:user_join", plain])];
    assert_eq!(told(&mut workers, luke), joined);
    leia.into_iter().for_each(|session| workers.close(session));
    workers.run_until_idle();
    let mut left = told(&mut workers, luke);
    left.sort_by_key(Value::to_string);
    let gone = json!({"user": "leia", "users": [{"user": "luke"}]});
    let parted = [
        json!(["told", "channel:user_leave", gone]),
        json!(["untold", "channel:user_leave", {"user": "leia"}]),
    ];
    assert_eq!(left, parted);
}

#[test]
fn a_state_is_known_for_a_day_and_as_long_as_its_user_is_there() {
    let mut workers = Workers::new(2, 64, rules);
    let leia = member(&mut workers, 1, Some("leia"), &[]);
    for user in ["leia", "luke"] {
        set(&mut workers, 0, user, json!({"state": {"a": 1}}));
    }
    let known = |workers: &mut Workers, user: &str| {
        use fanfare_core::{
            command::{BackEndCommand, Outcome},
            id::AppId,
        };
        match workers.engines[0].request(AppId(0), BackEndCommand::User { user }, 1) {
            Some(Ok(Outcome::User { state, .. })) => state.is_some(),
            other => panic!("{other:?}"),
        }
    };
    let pass = |workers: &mut Workers, hours: std::ops::RangeInclusive<u64>| {
        for hour in hours {
            workers.engines.iter_mut().rev().for_each(|engine| engine.begin_turn(hour * HOUR + hour));
        }
    };
    pass(&mut workers, 1..=23);
    assert!(known(&mut workers, "luke") && workers.engines[0].wants_sweep());
    pass(&mut workers, 24..=26);
    assert!(known(&mut workers, "leia") && !known(&mut workers, "luke"));
    workers.close(leia);
    pass(&mut workers, 27..=60);
    assert!(!known(&mut workers, "leia") && !workers.engines[0].wants_sweep());
}

#[test]
fn what_is_said_of_a_user_is_held_to_its_bounds() {
    let mut workers = Workers::new(1, 64, rules);
    for (body, code) in [
        (json!([]), "invalid_command"),
        (json!({"state": 1}), "invalid_command"),
        (json!({"state": {"a": []}}), "invalid_command"),
        (json!({"fresh": {"a": {}}}), "invalid_command"),
        (json!({"state": {"": 1}}), "invalid_command"),
        (json!({"public_keys": [1]}), "invalid_command"),
        (json!({"public_keys": ["k".repeat(257)]}), "invalid_command"),
        (json!({"announce": 1}), "invalid_command"),
        (json!({"state": {"a": "x".repeat(16 << 10)}}), "profile_too_large"),
    ] {
        assert_eq!(set(&mut workers, 0, "leia", body.clone()), code, "{body}");
    }
    assert_eq!(set(&mut workers, 0, &"u".repeat(513), json!({})), "invalid_command");
    let most = fanfare_core::limits::USER_STATES;
    (0..most).for_each(|number| assert!(set(&mut workers, 0, &format!("u{number}"), json!({})).is_object()));
    assert_eq!(set(&mut workers, 0, "one too many", json!({})), "too_many_users");
    assert!(set(&mut workers, 0, "u0", json!({"state": {"a": 1}})).is_object(), "it is known already");
}
