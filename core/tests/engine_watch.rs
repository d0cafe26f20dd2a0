//! Watches of a channel: the content and the number of samples. Members notice nothing of a watch.

mod support;
mod workers;

use fanfare_core::{
    command::{BackEndCommand, Outcome, Watched},
    id::AppId,
    limits::{WATCH_FRAME_BYTES, WATCH_IDLE_MS, WATCH_SAMPLES, WATCH_SAMPLES_PER_SECOND, WATCHES},
    ws,
};
use serde_json::{Value, json};
use workers::Workers;

const PER_SECOND: usize = WATCH_SAMPLES_PER_SECOND as usize;

fn watch(workers: &mut Workers, channel: &str, after: u64) -> Watched {
    let command = BackEndCommand::Watch { channel, after };
    match workers.engines[0].request(AppId(0), command, 1) {
        Some(Ok(Outcome::Watched(watched))) => watched,
        other => panic!("{other:?}"),
    }
}

/// The messages of samples; `null` for a sample whose frame is too long.
fn messages(watched: &Watched) -> Vec<Value> {
    let message = |frame: &[u8]| -> Value {
        let payload = ws::sent_payload(frame).expect("a frame");
        serde_json::from_slice::<Value>(payload).expect("JSON")["message"].clone()
    };
    let frames = watched.samples.iter().map(|sample| sample.frame.as_deref());
    frames.map(|frame| frame.map_or(Value::Null, message)).collect()
}

/// Workers with one member of `room`.
fn with_member() -> (Workers, usize) {
    let mut workers = Workers::new(1, 64, |_| {});
    let member = workers.open(0);
    workers.command(member, &json!({"type": "join", "channel": "room"}));
    workers.run_until_idle();
    workers.received(member);
    (workers, member)
}

/// Runs a turn at `ms`, in which `member` sends `messages`.
fn turn(workers: &mut Workers, ms: u64, member: usize, messages: &[Value]) {
    workers.engines[0].begin_turn(ms);
    for message in messages {
        let send = json!({"type": "send", "channel": "room", "event": "e", "message": message});
        workers.command(member, &send);
    }
    workers.run_until_idle();
}

#[test]
fn what_is_published_is_sampled_once_and_in_order_from_the_first_question_on() {
    let (mut workers, member) = with_member();
    turn(&mut workers, 1, member, &[json!("before")]);
    assert_eq!(messages(&watch(&mut workers, "room", 0)), Vec::<Value>::new());
    turn(&mut workers, 2, member, &[json!("a"), json!({"b": 1})]);
    turn(&mut workers, 3, member, &[json!("c")]);
    let watched = watch(&mut workers, "room", 0);
    assert_eq!(messages(&watched), [json!("a"), json!({"b": 1}), json!("c")]);
    assert_eq!((watched.next, watched.offset), (3, 4));
    assert_eq!(messages(&watch(&mut workers, "room", 2)), [json!("c")]);
    assert_eq!(messages(&watch(&mut workers, "room", 3)), Vec::<Value>::new());
    // A page with a number from an earlier watch misses no sample.
    assert_eq!(watch(&mut workers, "room", 99).samples.len(), 3);
}

#[test]
fn members_receive_everything_while_few_samples_are_taken() {
    let (mut workers, member) = with_member();
    watch(&mut workers, "room", 0);
    let many: Vec<Value> = (0..4 * PER_SECOND).map(|number| json!(number)).collect();
    turn(&mut workers, 1, member, &many);
    let received: Vec<Value> =
        workers.received(member).iter().map(|frame| frame["message"].clone()).collect();
    assert_eq!(received, many);
    let first = watch(&mut workers, "room", 0);
    assert_eq!(messages(&first), many[..PER_SECOND]);
    // After a tenth of a second, a tenth of the allowance is back.
    turn(&mut workers, 101, member, &many);
    let second = watch(&mut workers, "room", first.next);
    assert_eq!(messages(&second), many[..PER_SECOND / 10]);
    assert_eq!(second.offset, 2 * many.len() as u64);
}

#[test]
fn samples_that_nobody_fetches_and_frames_that_are_long_are_not_kept() {
    let (mut workers, member) = with_member();
    watch(&mut workers, "room", 0);
    for second in 1..4 {
        let many: Vec<Value> = (0..PER_SECOND).map(|number| json!(number)).collect();
        turn(&mut workers, second * 1000, member, &many);
    }
    let watched = watch(&mut workers, "room", 0);
    assert_eq!((watched.samples.len(), watched.next), (WATCH_SAMPLES, 3 * WATCH_SAMPLES_PER_SECOND));
    turn(&mut workers, 5000, member, &[json!("x".repeat(WATCH_FRAME_BYTES))]);
    assert_eq!(messages(&watch(&mut workers, "room", watched.next)), [Value::Null]);
}

#[test]
fn watching_ends_when_nobody_asks_and_when_too_much_is_watched() {
    let (mut workers, member) = with_member();
    watch(&mut workers, "room", 0);
    turn(&mut workers, 1 + WATCH_IDLE_MS, member, &[json!("unwatched")]);
    assert_eq!(watch(&mut workers, "room", 0).next, 0, "a watch begins anew");
    turn(&mut workers, 2 + WATCH_IDLE_MS, member, &[json!("watched")]);
    assert_eq!(watch(&mut workers, "room", 0).next, 1);
    workers.engines[0].begin_turn(3 + WATCH_IDLE_MS);
    for other in 0..WATCHES {
        watch(&mut workers, &format!("other-{other}"), 0);
    }
    assert_eq!(watch(&mut workers, "room", 0).next, 0, "it made room for others");
}

#[test]
fn a_session_is_listed_with_its_user_until_it_ends() {
    let mut workers = Workers::new(2, 64, |_| {});
    let sessions: Vec<usize> = (0..5).map(|at| workers.open_as(at % 2, (at == 3).then_some("ada"))).collect();
    workers.run_until_idle();
    workers.close(sessions[4]);
    let page = workers::request(&mut workers, 1, "GET", "/v1/sessions", &Value::Null);
    let listed = page["sessions"].as_array().expect("a list");
    assert_eq!(listed.len(), 4);
    assert_eq!(listed.iter().filter(|session| session["user"] == "ada").count(), 1);
    assert_eq!((&page["next"], page.get("user")), (&Value::Null, None));
}
