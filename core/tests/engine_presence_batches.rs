//! Presence notices that leave together.

mod support;
mod workers;

use std::collections::BTreeSet;

use fanfare_core::{
    app::{ChannelOptions, ChannelRule},
    limits::BATCHED_NOTICES,
    now::Now,
};
use serde_json::{Value, json};
use workers::Workers;

const BATCH_MS: u16 = 20;

fn with_batches(workers: usize, change: impl FnOnce(&mut ChannelOptions)) -> Workers {
    let mut options = ChannelOptions { presence_batch_ms: BATCH_MS, ..ChannelOptions::default() };
    change(&mut options);
    Workers::new(workers, 64, |app| {
        app.rules = vec![ChannelRule { pattern: "room".into(), options }];
    })
}

fn join(workers: &mut Workers, session: usize) {
    workers.command(session, &json!({"type": "join", "channel": "room", "echo": false}));
}

fn leave(workers: &mut Workers, session: usize) {
    workers.command(session, &json!({"type": "leave", "channel": "room", "echo": false}));
}

/// Has time pass, and a turn run.
fn at(workers: &mut Workers, steady_ms: u64) {
    for engine in &mut workers.engines {
        engine.begin_turn(Now { unix_ms: 1, steady_ms });
    }
    workers.run_until_idle();
}

/// The notices that a session has received: event, and the session that it is about.
fn notices(workers: &mut Workers, session: usize) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let frames = workers.received(session);
    let notices = frames.iter().filter(|frame| frame["event"].is_string());
    notices.map(|frame| (text(&frame["event"]), text(&frame["message"]["id"]))).collect()
}

fn id(workers: &Workers, session: usize) -> String {
    let (worker, slot) = workers.sessions[session];
    workers.engines[worker].session_id(slot).to_string()
}

/// A watcher on the last worker, which has been told of itself.
fn watcher(workers: &mut Workers) -> usize {
    let watcher = workers.open(workers.engines.len() - 1);
    join(workers, watcher);
    at(workers, 1_000);
    workers.received(watcher);
    watcher
}

#[test]
fn notices_leave_together_when_the_first_has_waited() {
    for count in [1, 2] {
        let mut workers = with_batches(count, |_| ());
        let watcher = watcher(&mut workers);
        let movers: Vec<_> = (0..5).map(|_| workers.open(0)).collect();
        for (step, mover) in (0..).zip(&movers) {
            at(&mut workers, 2_000 + 2 * step);
            join(&mut workers, *mover);
        }
        assert_eq!(workers.engines[0].next_due_ms(), Some(2_020));
        at(&mut workers, 2_019);
        assert_eq!(notices(&mut workers, watcher), []);
        at(&mut workers, 2_020);
        let expected: Vec<_> =
            movers.iter().map(|mover| ("channel:join".to_owned(), id(&workers, *mover))).collect();
        assert_eq!(notices(&mut workers, watcher), expected, "in order");
        assert_eq!(workers.engines[0].next_due_ms(), None);
    }
}

#[test]
fn a_member_whom_nobody_saw_is_not_told_of() {
    let mut workers = with_batches(2, |_| ());
    let watcher = watcher(&mut workers);
    let [hasty, stays] = [0, 0].map(|worker| workers.open(worker));
    join(&mut workers, hasty);
    join(&mut workers, stays);
    workers.command(hasty, &json!({"type": "update", "profile": {"n": 1}}));
    leave(&mut workers, hasty);
    at(&mut workers, 2_000);
    assert_eq!(notices(&mut workers, watcher), [("channel:join".to_owned(), id(&workers, stays))]);
    // Who was told of, and leaves and joins again, is told of twice.
    leave(&mut workers, stays);
    join(&mut workers, stays);
    at(&mut workers, 3_000);
    let events: Vec<_> = notices(&mut workers, watcher).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["channel:leave", "channel:join"]);
}

#[test]
fn what_shows_a_member_tells_of_it_first() {
    let mut workers = with_batches(2, |_| ());
    let watcher = watcher(&mut workers);
    let mover = workers.open(0);
    join(&mut workers, mover);
    workers.command(mover, &json!({"type": "send", "channel": "room", "event": "e", "message": 1}));
    workers.run_until_idle();
    let events: Vec<_> = notices(&mut workers, watcher).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["channel:join", "e"]);
    leave(&mut workers, mover);
    join(&mut workers, mover);
    let _flow = workers.send(watcher, &json!({"type": "members", "id": 1, "channel": "room"}));
    workers.run_until_idle();
    let events: Vec<_> = notices(&mut workers, watcher).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["channel:leave", "channel:join"]);
    // Nobody keeps a member of a list for ever.
    leave(&mut workers, mover);
    at(&mut workers, 2_000);
    let events: Vec<_> = notices(&mut workers, watcher).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["channel:leave"]);
}

#[test]
fn the_notices_of_the_last_member_leave_with_it() {
    let mut workers = with_batches(2, |_| ());
    let watcher = watcher(&mut workers);
    let mover = workers.open(0);
    join(&mut workers, mover);
    at(&mut workers, 2_000);
    workers.received(watcher);
    workers.close(mover);
    workers.run_until_idle();
    let events: Vec<_> = notices(&mut workers, watcher).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["channel:leave"]);
    assert_eq!(workers.engines[0].next_due_ms(), None);
}

#[test]
fn a_long_batch_leaves_at_once() {
    let mut workers = with_batches(1, |_| ());
    let watcher = watcher(&mut workers);
    for _ in 0..BATCHED_NOTICES {
        let mover = workers.open(0);
        join(&mut workers, mover);
    }
    workers.run_until_idle();
    assert_eq!(notices(&mut workers, watcher).len(), BATCHED_NOTICES);
}

#[test]
fn users_are_counted_as_if_each_change_left_alone() {
    let mut workers = with_batches(2, |options| options.presence_by_user = true);
    let watcher = watcher(&mut workers);
    let [first, second] = [0, 1].map(|worker| workers.open_as(worker, Some("leia")));
    workers.run_until_idle();
    join(&mut workers, first);
    join(&mut workers, second);
    leave(&mut workers, second);
    at(&mut workers, 2_000);
    let frames = workers.received(watcher);
    let of_users = frames.iter().filter(|frame| frame["event"] == "channel:user_join").count();
    assert_eq!(of_users, 1, "{frames:?}");
    leave(&mut workers, first);
    at(&mut workers, 3_000);
    let frames = workers.received(watcher);
    assert_eq!(frames.iter().filter(|frame| frame["event"] == "channel:user_leave").count(), 1, "{frames:?}");
}

/// Numbers that look random, the same for each seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// Whatever happens, a watcher that adds and removes whom it is told of knows the members in the end.
#[test]
fn a_watcher_knows_the_members_in_the_end() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let mut workers = with_batches(2, |_| ());
        let watcher = watcher(&mut workers);
        let mut movers: Vec<_> = (0..6).map(|n| (workers.open(n % 2), false)).collect();
        let (mut seen, mut now_ms) = (BTreeSet::new(), 2_000);
        for _ in 0..60 {
            let (mover, is_member) = &mut movers[random.below(6)];
            match random.below(8) {
                0..4 => {
                    if *is_member {
                        leave(&mut workers, *mover)
                    } else {
                        join(&mut workers, *mover)
                    }
                    *is_member = !*is_member;
                }
                4 if *is_member => {
                    let send = json!({"type": "send", "channel": "room", "event": "e", "message": 1});
                    workers.command(*mover, &send);
                }
                5 => workers.command(*mover, &json!({"type": "update", "profile": 1})),
                _ => {
                    now_ms += random.below(30) as u64;
                    at(&mut workers, now_ms);
                }
            }
        }
        at(&mut workers, now_ms + u64::from(BATCH_MS));
        for (event, about) in notices(&mut workers, watcher) {
            match &*event {
                "channel:join" => assert!(seen.insert(about), "told twice, seed {seed}"),
                "channel:leave" => assert!(seen.remove(&about), "nobody was told of it before, seed {seed}"),
                _ => {}
            }
        }
        let members = movers.iter().filter(|(_, is_member)| *is_member);
        let members: BTreeSet<_> = members.map(|(mover, _)| id(&workers, *mover)).collect();
        assert_eq!(seen, members, "seed {seed}");
    }
}
