//! Rosters, which agree with the presence notices around them, and members without presence notices.

#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/seeds.rs"]
mod seeds;
mod support;
mod workers;

use std::{cell::Cell, collections::BTreeMap};

use fanfare_core::{
    app::{App, ChannelOptions, ChannelRule},
    id::AppId,
};
use random::Random;
use serde_json::{Value, json};
use workers::{Workers, request};

const WORKERS: usize = 3;
const WATCHERS: usize = 3;
const OTHERS: usize = 5;

fn with_roster(app: &mut App) {
    let options = ChannelOptions { roster: true, ..ChannelOptions::default() };
    app.rules = vec![ChannelRule { pattern: "room".into(), options }];
}

fn roster() -> Value {
    json!({"id": "roster", "type": "roster", "channel": "room"})
}

fn join() -> Value {
    json!({"type": "join", "channel": "room", "echo": false})
}

/// A watcher's view: profiles by session, from the latest roster and the notices after it.
#[derive(Default)]
struct Watcher {
    session: usize,
    members: Option<BTreeMap<String, Value>>,
    rosters: usize,
}

impl Watcher {
    fn read(&mut self, frames: Vec<Value>) {
        for frame in frames {
            if frame["id"] == "roster" {
                let list = frame["ok"]["members"].as_array().expect("a list");
                assert_eq!(frame["ok"]["total"], list.len());
                let members = list.iter().map(|member| (id(member), member["data"].clone()));
                self.members = Some(members.collect());
                self.rosters += 1;
                continue;
            }
            let Some(members) = &mut self.members else { continue };
            let member = &frame["message"];
            match frame["event"].as_str().expect("a notice") {
                "channel:join" => {
                    let before = members.insert(id(member), member["data"].clone());
                    assert!(before.is_none(), "{member} was in the roster before its join was told");
                }
                "channel:leave" => {
                    assert!(members.remove(&id(member)).is_some(), "{member} was not in the roster");
                }
                "channel:update" => {
                    let before = members.insert(id(member), member["data"].clone());
                    assert_ne!(before.as_ref(), Some(&member["data"]), "the roster knew it already");
                    assert!(before.is_some());
                }
                other => panic!("{other}"),
            }
        }
    }
}

fn id(member: &Value) -> String {
    member["id"].as_str().expect("an id").into()
}

/// Sends a command of a session, unless the session is paused.
fn try_send(workers: &mut Workers, session: usize, command: &Value) -> bool {
    let (worker, slot) = workers.sessions[session];
    let is_free = !workers.engines[worker].is_paused(slot);
    if is_free {
        let _flow = workers.send(session, command);
    }
    is_free
}

fn step(workers: &mut Workers, watchers: &mut [Watcher], others: &[usize], random: &mut Random, number: u64) {
    match random.below(10) {
        0..3 => {
            let other = *random.pick(others);
            let leave = json!({"type": "leave", "channel": "room", "echo": false});
            let update = json!({"type": "update", "profile": number, "echo": false});
            let command = [join(), leave, update][random.below(3)].clone();
            try_send(workers, other, &command);
        }
        3..5 => {
            let watcher = &watchers[random.below(WATCHERS)];
            try_send(workers, watcher.session, &roster());
        }
        5..7 => {
            let worker = random.below(WORKERS);
            workers.engines[worker].on_mail();
        }
        7..9 => {
            let worker = random.below(WORKERS);
            let Workers { engines, sink, .. } = workers;
            engines[worker].flush(sink);
        }
        // One worker is inside the channel's order, so the others delegate.
        _ if random.chance(90) => {
            let commands: Vec<(usize, Value)> = (0..3)
                .map(|_| (*random.pick(others), join()))
                .chain([(watchers[0].session, roster())])
                .collect();
            workers.inside(random.below(WORKERS), |workers| {
                for (session, command) in &commands {
                    try_send(workers, *session, command);
                }
            });
        }
        _ => workers.run_until_idle(),
    }
}

fn simulate(seed: u64, at: &Cell<usize>) -> usize {
    let mut random = Random::new(seed);
    let mut workers = Workers::new(WORKERS, 1024, with_roster);
    let sessions: Vec<usize> = (0..WATCHERS + OTHERS).map(|_| workers.open(random.below(WORKERS))).collect();
    let (watching, others) = sessions.split_at(WATCHERS);
    let mut watchers: Vec<Watcher> =
        watching.iter().map(|&session| Watcher { session, ..Watcher::default() }).collect();
    for watcher in &watchers {
        workers.command(watcher.session, &join());
        workers.run_until_idle();
    }
    for number in 0..120 {
        at.set(number);
        step(&mut workers, &mut watchers, others, &mut random, number as u64);
    }
    workers.run_until_idle();
    for watcher in &watchers {
        try_send(&mut workers, watcher.session, &roster());
    }
    workers.run_until_idle();
    let all = request(&mut workers, 0, "GET", "/v1/channels", &Value::Null);
    assert_eq!(all["channels"][0]["channel"], "room");
    let total = workers.node.channel(AppId(0), Some("room")).expect("there are watchers").members();
    let mut last = None;
    for watcher in &mut watchers {
        let frames = workers.received(watcher.session);
        watcher.read(frames);
        let members = watcher.members.take().expect("a roster was answered");
        assert_eq!(members.len(), total);
        assert_eq!(last.get_or_insert_with(|| members.clone()), &members, "all know the same");
    }
    watchers.iter().map(|watcher| watcher.rosters).sum()
}

#[test]
fn a_roster_has_what_was_told_before_it_and_nothing_that_is_told_after_it() {
    let mut rosters = 0;
    let count = seeds::each("roster", 400, simulate, |seen| rosters += seen);
    assert!(rosters as u64 >= 3 * count * WATCHERS as u64, "a run that tests little");
}

#[test]
fn a_channel_without_roster_says_so_and_one_that_is_not_there_has_an_empty_one() {
    let mut workers = Workers::new(1, 64, |_| ());
    let ada = workers.open(0);
    workers.command(ada, &roster());
    workers.run_until_idle();
    assert_eq!(workers.received(ada)[0]["ok"]["total"], 0);
    workers.command(ada, &join());
    try_send(&mut workers, ada, &roster());
    workers.run_until_idle();
    assert_eq!(workers.received(ada)[0]["error"]["code"], "no_roster");
    let option = json!({"channel": "room", "roster": true});
    assert_eq!(request(&mut workers, 0, "PUT", "/v1/options", &option), "option_in_use");
}

#[test]
fn a_roster_shows_at_most_so_many_and_says_how_many_there_are() {
    let mut workers = Workers::new(1, 64, with_roster);
    let most = fanfare_core::limits::ROSTER;
    let sessions: Vec<usize> = (0..most + 3)
        .map(|_| {
            let session = workers.open_as(0, None);
            workers.command(
                session,
                &json!({"type": "join", "channel": "room", "notices": false, "echo": false}),
            );
            session
        })
        .collect();
    workers.run_until_idle();
    workers.received(sessions[0]);
    try_send(&mut workers, sessions[0], &roster());
    workers.run_until_idle();
    let answer = workers.received(sessions[0]).pop().expect("an answer");
    let shown = answer["ok"]["members"].as_array().map(Vec::len);
    assert_eq!((shown, &answer["ok"]["total"]), (Some(most), &json!(most + 3)));
}

#[test]
fn members_that_want_no_notices_get_none_and_all_the_messages() {
    let mut workers = Workers::new(2, 64, |_| ());
    let quiet = |notices: bool| json!({"type": "join", "channel": "room", "echo": false, "notices": notices});
    let (ada, bob, eve) = (workers.open(0), workers.open(1), workers.open(1));
    workers.command(ada, &quiet(false));
    workers.command(bob, &quiet(false));
    workers.command(eve, &join());
    workers.run_until_idle();
    let events = |workers: &mut Workers, session: usize| -> Vec<String> {
        let frames = workers.received(session);
        frames.iter().map(|frame| frame["event"].as_str().expect("an event").into()).collect()
    };
    let another = |workers: &mut Workers| {
        let session = workers.open(0);
        workers.command(session, &join());
        workers.command(session, &json!({"type": "send", "channel": "room", "event": "e", "echo": false}));
        workers.run_until_idle();
        session
    };
    let first = another(&mut workers);
    assert_eq!(events(&mut workers, ada), ["e"]);
    assert_eq!(events(&mut workers, bob), ["e"]);
    assert_eq!(events(&mut workers, eve), ["channel:join", "e"]);
    // A second join changes the setting `notices`.
    workers.command(bob, &quiet(true));
    workers.command(eve, &quiet(false));
    workers.close(first);
    workers.run_until_idle();
    assert_eq!(events(&mut workers, ada), [] as [String; 0]);
    assert_eq!(events(&mut workers, bob), ["channel:leave"]);
    assert_eq!(events(&mut workers, eve), [] as [String; 0]);
    // A session that reuses the slot of a member without notices has its own setting.
    workers.close(ada);
    workers.run_until_idle();
    let ann = workers.open(0);
    assert_eq!(workers.sessions[ann], workers.sessions[ada], "the slot is used again");
    workers.command(ann, &join());
    workers.run_until_idle();
    workers.received(ann);
    another(&mut workers);
    assert_eq!(events(&mut workers, ann), ["channel:join", "e"]);
}
