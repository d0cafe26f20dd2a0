//! A session that comes back gets every message exactly once, in order, under every schedule of two workers.
//!
//! The engines, the combining lock and the mailboxes are the shipped ones. Two workers run the commands of
//! three sessions in turns; each may lose the processor before any access to what they share, three times in
//! all, and between turns as often as they like. So each schedule that a machine could take within three
//! preemptions is taken.
#![cfg(debug_assertions)]

mod schedules;
mod support;
mod workers;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Instant,
};

use fanfare_core::{
    app::{App, HistoryLimits},
    engine::{Engine, Flow},
    id::SessionSlot,
    ws::Message,
};
use schedules::{Body, Turns, explore};
use serde_json::{Value, json};
use support::Memory;
use workers::Workers;

const PREEMPTIONS: usize = 3;

/// The sessions: two on worker 0, and a member on worker 1.
const FIRST: usize = 0;
const SECOND: usize = 1;
const MEMBER: usize = 2;

/// Messages that are published before the workers run side by side.
const BEFORE: u64 = 2;

#[derive(Copy, Clone)]
enum Step {
    Join(usize),
    /// Joins since offset 1.
    Rejoin(usize),
    Leave(usize),
    Send(usize),
    /// The connection is gone.
    Close(usize),
}

impl Step {
    fn session(self) -> usize {
        let (Self::Join(session)
        | Self::Rejoin(session)
        | Self::Leave(session)
        | Self::Send(session)
        | Self::Close(session)) = self;
        session
    }

    fn command(self, epoch: &Value) -> Value {
        match self {
            Self::Join(_) => json!({"id": "join", "type": "join", "channel": "room"}),
            Self::Rejoin(_) => {
                let since = json!({"epoch": epoch, "offset": 1});
                json!({"id": "join", "type": "join", "channel": "room", "since": since})
            }
            Self::Leave(_) => json!({"type": "leave", "channel": "room"}),
            Self::Send(_) => json!({"type": "send", "channel": "room", "event": "e", "message": 0}),
            Self::Close(_) => Value::Null,
        }
    }
}

/// One worker with what its sessions are still to send.
struct Side {
    engine: Engine,
    sink: Memory,
    /// Slot and queue of each session of this worker; a session that waits keeps its queue.
    sessions: Vec<Client>,
}

struct Client {
    session: usize,
    slot: SessionSlot,
    is_paused: bool,
    is_closed: bool,
    /// What is sent in each turn.
    turns: VecDeque<Vec<Step>>,
}

impl Side {
    /// A turn of the shell's: mail, the sessions' commands, output.
    fn turn(&mut self, epoch: &Value) {
        self.engine.begin_turn(1_000);
        self.engine.on_mail();
        for connection in self.engine.take_unpaused() {
            let resumed = |client: &&mut Client| client.session == connection as usize;
            self.sessions.iter_mut().find(resumed).expect("it is one of ours").is_paused = false;
        }
        for client in &mut self.sessions {
            let mut steps = VecDeque::from(client.turns.pop_front().unwrap_or_default());
            while let Some(&step) = steps.front().filter(|_| !client.is_closed) {
                if matches!(step, Step::Close(_)) {
                    self.engine.close(client.slot);
                    client.is_closed = true;
                } else if client.is_paused {
                    break;
                } else {
                    let command = step.command(epoch).to_string();
                    client.is_paused =
                        self.engine.receive(client.slot, Message::Text(&command)) == Flow::Pause;
                }
                steps.pop_front();
            }
            if !steps.is_empty() && !client.is_closed {
                match client.turns.front_mut() {
                    Some(next) => next.splice(0..0, steps).for_each(drop),
                    None => client.turns.push_front(steps.into()),
                }
            }
        }
        self.engine.flush(&mut self.sink);
    }
}

/// What a scenario does: the turns of worker 0 and of worker 1.
struct Scenario {
    name: &'static str,
    turns: [&'static [&'static [Step]]; 2],
    announce: bool,
}

type Shared = Arc<[Mutex<Option<Side>>; 2]>;

struct World {
    sides: Shared,
    epoch: Value,
}

fn make(scenario: &Scenario) -> (Vec<Body>, World) {
    let mut workers = Workers::new(2, 64, |app: &mut App| {
        app.history = HistoryLimits { messages: 100, ..HistoryLimits::NONE };
        app.announce = scenario.announce;
    });
    for worker in [0, 0, 1] {
        workers.open(worker);
    }
    workers.command(MEMBER, &Step::Join(MEMBER).command(&Value::Null));
    for _ in 0..BEFORE {
        workers.command(MEMBER, &Step::Send(MEMBER).command(&Value::Null));
    }
    workers.run_until_idle();
    let epoch = workers.received(MEMBER)[0]["ok"]["epoch"].clone();
    let Workers { engines, sessions, .. } = workers;
    let mut sides = engines.into_iter().enumerate().map(|(worker, engine)| {
        let own = sessions.iter().enumerate().filter(|(_, (of, _))| *of == worker);
        let queue = |session: usize| {
            let of_turn =
                |steps: &&[Step]| steps.iter().copied().filter(|step| step.session() == session).collect();
            scenario.turns[worker].iter().map(of_turn).collect()
        };
        let client = |(session, &(_, slot)): (usize, &(usize, SessionSlot))| Client {
            session,
            slot,
            is_paused: false,
            is_closed: false,
            turns: queue(session),
        };
        Side { engine, sink: Memory::default(), sessions: own.map(client).collect() }
    });
    let mut side = || Mutex::new(sides.next());
    let sides: Shared = Arc::new([side(), side()]);
    let body = |worker: usize| -> Body {
        let (sides, epoch, turns) = (sides.clone(), epoch.clone(), scenario.turns[worker].len() + 1);
        Box::new(move |scheduler: &Turns| {
            let mut side = sides[worker].lock().expect("nobody panics").take().expect("it is there");
            for _ in 0..turns {
                side.turn(&epoch);
                scheduler.end_turn();
            }
            *sides[worker].lock().expect("nobody panics") = Some(side);
        })
    };
    let bodies = vec![body(0), body(1)];
    (bodies, World { sides, epoch })
}

/// Lets both workers finish, publishes a last message, and checks what each session has received.
fn judge(scenario: &Scenario, world: World) {
    let [mut one, mut two] = [0, 1].map(|worker: usize| {
        world.sides[worker].lock().expect("nobody panics").take().expect("its thread has ended")
    });
    for round in 0..8 {
        if round == 4 {
            let member =
                two.sessions.iter_mut().find(|client| client.session == MEMBER).expect("it is there");
            member.turns.push_back(vec![Step::Send(MEMBER)]);
        }
        one.turn(&world.epoch);
        two.turn(&world.epoch);
    }
    let all = scenario.turns.iter().flat_map(|turns| turns.iter()).flat_map(|turn| turn.iter());
    let sent = all.filter(|step| matches!(step, Step::Send(_))).count() as u64;
    let last = BEFORE + sent + 1;
    for side in [&mut one, &mut two] {
        for client in &side.sessions {
            assert!(
                client.is_closed || !client.is_paused && client.turns.iter().all(Vec::is_empty),
                "it stays paused"
            );
            let frames = side.sink.take_json(u32::try_from(client.session).expect("they are few"));
            if client.session == MEMBER {
                assert_eq!(
                    offsets(&frames),
                    (BEFORE + 1..=last).collect::<Vec<_>>(),
                    "{}: {frames:?}",
                    scenario.name
                );
            } else if !client.is_closed {
                check(scenario, client.session, &frames, last);
            }
        }
    }
}

/// A session that has joined and stayed has all messages from where its answer says.
fn check(scenario: &Scenario, session: usize, frames: &[Value], last: u64) {
    let leaves = |step: &Step| matches!(step, Step::Leave(of) if *of == session);
    let stays = !scenario.turns[0].iter().any(|turn| turn.iter().any(leaves));
    let Some(at) = frames.iter().position(|frame| frame["id"] == "join") else { return };
    assert!(
        offsets(&frames[..at]).is_empty(),
        "{}: nothing comes before the answer: {frames:?}",
        scenario.name
    );
    let ok = &frames[at]["ok"];
    let offset = ok["offset"].as_u64().expect("a position");
    let first = if ok["recovered"] == true { 2 } else { offset + 1 };
    let sees = offsets(frames);
    let until = if stays { last } else { sees.last().copied().unwrap_or(first - 1) };
    assert_eq!(sees, (first..=until).collect::<Vec<_>>(), "{}, session {session}: {frames:?}", scenario.name);
}

fn offsets(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["offset"].as_u64()).collect()
}

fn every_schedule(scenario: &Scenario) {
    let started = Instant::now();
    let schedules = explore(2, PREEMPTIONS, || make(scenario), |world| judge(scenario, world));
    println!("{}: {schedules} schedules in {:.1} s", scenario.name, started.elapsed().as_secs_f64());
    assert!(schedules > 1_000, "the points are there");
}

use Step::{Close, Join, Leave, Rejoin, Send};

#[test]
fn a_rejoin_behind_a_first_join_misses_nothing() {
    every_schedule(&Scenario {
        name: "join and rejoin",
        turns: [&[&[Join(FIRST), Rejoin(SECOND)]], &[&[Send(MEMBER)], &[Send(MEMBER)]]],
        announce: false,
    });
}

#[test]
fn two_rejoins_miss_nothing() {
    every_schedule(&Scenario {
        name: "two rejoins",
        turns: [&[&[Rejoin(FIRST), Rejoin(SECOND)]], &[&[Send(MEMBER)], &[Send(MEMBER)]]],
        announce: false,
    });
}

#[test]
fn a_rejoin_behind_one_whose_session_ends_misses_nothing() {
    every_schedule(&Scenario {
        name: "rejoin, end and rejoin",
        turns: [&[&[Rejoin(FIRST), Rejoin(SECOND)], &[Close(FIRST)]], &[&[Send(MEMBER)]]],
        announce: false,
    });
}

#[test]
fn a_rejoin_between_joining_and_leaving_misses_nothing() {
    every_schedule(&Scenario {
        name: "join, leave and rejoin",
        turns: [&[&[Join(FIRST), Leave(FIRST), Rejoin(SECOND)]], &[&[Send(MEMBER)]]],
        announce: true,
    });
}
