//! Users with many sessions.

mod support;
mod workers;

use std::collections::BTreeSet;

use fanfare_core::{
    command::{BackEndCommand, Disconnection, Outcome, Publish},
    engine::{Segments, Sink},
    id::AppId,
    publication::{Audience, Payload},
};
use workers::Workers;

const SESSIONS: usize = 500;

/// Where in memory the parts of each write lie.
#[derive(Default)]
struct Places {
    writes: usize,
    places: BTreeSet<(usize, usize)>,
}

impl Sink for Places {
    fn write(&mut self, _: u32, parts: Segments<'_>) -> usize {
        self.writes += 1;
        self.places.extend(parts.map(|(buffer, range)| (buffer.as_ptr().addr() + range.start, range.len())));
        0
    }
}

fn with_many_sessions() -> Workers {
    let mut workers = Workers::new(1, 64, |_| ());
    for _ in 0..SESSIONS {
        workers.open_as(0, Some("leia"));
        workers.engines[0].begin_turn(1);
    }
    workers.run_until_idle();
    workers
}

#[test]
fn a_message_to_a_user_is_encoded_once_for_all_of_its_sessions() {
    let mut workers = with_many_sessions();
    let audience = Audience { only_users: Some([Box::from("leia")].into()), ..Audience::default() };
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let publish =
        Publish { audience: Some(Box::new(audience)), ..Publish::new(None, "e", Payload::Json(&payload)) };
    let answer = workers.engines[0].request(AppId(0), BackEndCommand::publish(publish), 1);
    assert!(matches!(answer, Some(Ok(Outcome::Broadcast { .. }))));
    assert!(!workers.engines[0].is_turn_full(), "one copy does not fill a turn");
    let mut sink = Places::default();
    workers.engines[0].flush(&mut sink);
    assert_eq!((sink.writes, sink.places.len()), (SESSIONS, 1));
}

#[test]
fn a_user_whose_sessions_have_gone_is_forgotten() {
    let mut workers = with_many_sessions();
    (0..SESSIONS).for_each(|session| workers.close(session));
    let disconnect = |workers: &mut Workers| {
        let whom = Disconnection::User("leia".into());
        workers.engines[0].request(AppId(0), BackEndCommand::Disconnect { whom, reconnect: false }, 1)
    };
    assert!(matches!(disconnect(&mut workers), Some(Ok(Outcome::Disconnected { sessions: 0 }))));
    workers.open_as(0, Some("leia"));
    assert!(matches!(disconnect(&mut workers), Some(Ok(Outcome::Disconnected { sessions: 1 }))));
}

fn publish_to(workers: &mut Workers, worker: usize, channel: Option<&str>, payload: &str) {
    let audience = Audience { only_users: Some([Box::from("leia")].into()), ..Audience::default() };
    let audience = channel.is_none().then(|| Box::new(audience));
    let publish = Publish { audience, ..Publish::new(channel, "e", Payload::Json(payload)) };
    let answer = workers.engines[worker].request(AppId(0), BackEndCommand::publish(publish), 1);
    assert!(matches!(answer, Some(Ok(_))));
}

/// A back end that has its answer may send the next request to any worker.
#[test]
fn a_message_to_a_user_comes_after_what_was_sent_to_a_channel_before_it() {
    for asked in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1]] {
        let mut workers = Workers::new(2, 64, |_| ());
        let leia = workers.open_as(1, Some("leia"));
        workers.command(leia, &serde_json::json!({"type": "join", "channel": "room"}));
        workers.run_until_idle();
        workers.received(leia);
        for (number, worker) in asked.into_iter().enumerate() {
            let channel = (number % 2 == 0).then_some("room");
            publish_to(&mut workers, worker, channel, &number.to_string());
        }
        workers.run_until_idle();
        let numbers: Vec<_> = workers.received(leia).iter().map(|frame| frame["message"].as_u64()).collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(3)], "asked {asked:?}");
    }
}

/// A user is 1 to 256 bytes: an audience of other names is refused instead of being kept.
#[test]
fn an_audience_names_no_user_that_there_cannot_be() {
    let mut workers = Workers::new(1, 64, |_| ());
    let ada = workers.open(0);
    for (user, is_fine) in [("u".repeat(256), true), ("u".repeat(257), false), (String::new(), false)] {
        for member in ["to_users", "except_users"] {
            let command = serde_json::json!({"id": 1, "type": "broadcast", "event": "e", member: [user]});
            workers.command(ada, &command);
            workers.run_until_idle();
            let answer = workers.received(ada).into_iter().find(|frame| frame["id"] == 1).expect("an answer");
            assert_eq!(answer["ok"].is_object(), is_fine, "{answer}");
        }
    }
}
