//! Channels that exist only because options were set for them.

mod support;
mod workers;

use fanfare_core::{
    command::{BackEndCommand, Outcome},
    engine::Engine,
    id::AppId,
};
use serde_json::{Value, json};
use workers::{Workers, request};

const DAY: u64 = 24 * 3_600_000;

fn put(workers: &mut Workers, worker: usize, body: Value) -> Value {
    request(workers, worker, "PUT", "/v1/options", &body)
}

/// All of the app's channels, read in pages of `limit` channels.
fn channels(engine: &mut Engine, limit: usize) -> Vec<(String, usize)> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let command = BackEndCommand::Channels { prefix: "", limit, after: after.as_deref() };
        let Some(Ok(Outcome::Channels(page))) = engine.request(AppId(0), command, 1) else {
            panic!("a page is answered at once")
        };
        assert!(page.channels.len() <= limit);
        all.extend(page.channels.into_iter().map(|(name, members)| (String::from(name), members)));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

#[test]
fn options_for_new_channels_leave_those_that_exist_as_they_are() {
    let mut workers = Workers::new(2, 64, |_| ());
    let ada = workers.open(0);
    workers.command(ada, &json!({"type": "join", "channel": "live"}));
    let word = json!({"history_messages": 7, "announce": false, "only_new": true});
    let set = |channel: &str| {
        let mut body = word.clone();
        body["channel"] = json!(channel);
        body
    };
    let is_set = |answer: &Value| answer["history_messages"] == 7;
    assert!(!is_set(&put(&mut workers, 1, set("live"))), "somebody is in it");
    assert!(is_set(&put(&mut workers, 1, set("new"))));
    let other = json!({"channel": "new", "history_messages": 9, "only_new": true});
    assert!(is_set(&put(&mut workers, 0, other)), "it exists, though nobody was ever in it");
    let reset = json!({"channel": "new", "history_messages": 9, "only_new": false});
    assert!(!is_set(&put(&mut workers, 0, reset)));
    assert_eq!(put(&mut workers, 0, json!({"channel": "new", "only_new": 1})), "invalid_command");
}

#[test]
fn configured_channels_are_listed_once_on_any_page() {
    let mut workers = Workers::new(1, 64, |_| ());
    let ada = workers.open(0);
    for number in 0..7 {
        put(&mut workers, 0, json!({"channel": format!("set-{number}"), "announce": false}));
    }
    for channel in ["live", "set-3"] {
        workers.command(ada, &json!({"type": "join", "channel": channel}));
    }
    for limit in [1, 2, 7, 100] {
        let mut all = channels(&mut workers.engines[0], limit);
        all.sort();
        let mut expected: Vec<_> = (0..7).map(|n| (format!("set-{n}"), usize::from(n == 3))).collect();
        expected.insert(0, ("live".into(), 1));
        assert_eq!(all, expected, "{limit}");
    }
}

#[test]
fn a_configured_channel_is_forgotten_after_seven_days_without_use() {
    let mut workers = Workers::new(1, 64, |_| ());
    let ada = workers.open(0);
    for channel in ["idle", "asked", "live"] {
        put(&mut workers, 0, json!({"channel": channel, "announce": false}));
    }
    workers.command(ada, &json!({"type": "join", "channel": "live"}));
    for day in 1..=6 {
        workers.engines[0].begin_turn(day * DAY);
        let asked = BackEndCommand::Options { channel: "asked" };
        assert!(workers.engines[0].request(AppId(0), asked, 1).is_some());
    }
    assert!(workers.engines[0].wants_sweep(), "the shell begins turns for it");
    let names = |workers: &mut Workers| {
        let mut all: Vec<_> =
            channels(&mut workers.engines[0], 10).into_iter().map(|(name, _)| name).collect();
        all.sort();
        all
    };
    assert_eq!(names(&mut workers), ["asked", "idle", "live"]);
    workers.engines[0].begin_turn(8 * DAY + 1);
    assert_eq!(names(&mut workers), ["asked", "live"]);
    workers.engines[0].begin_turn(15 * DAY + 2);
    assert_eq!(names(&mut workers), ["live"], "as long as somebody is in it");
    workers.close(ada);
    workers.engines[0].begin_turn(23 * DAY);
    assert!(names(&mut workers).is_empty() && !workers.engines[0].wants_sweep());
}

#[test]
fn so_many_channels_are_configured_and_no_more() {
    let mut workers = Workers::new(1, 64, |_| ());
    let set = |workers: &mut Workers, number: usize| {
        let body = json!({"channel": format!("c{number}"), "announce": false, "only_new": true});
        put(workers, 0, body)
    };
    let most = fanfare_core::limits::CHANNEL_OPTIONS;
    (0..most).for_each(|number| assert_eq!(set(&mut workers, number)["announce"], false));
    assert_eq!(set(&mut workers, most), "too_many_options");
    assert_eq!(set(&mut workers, 0)["announce"], false, "those that are there are not concerned");
    put(&mut workers, 0, json!({"channel": "c0"}));
    assert_eq!(set(&mut workers, most)["announce"], false);
}
