//! Sessions that outlive their connections: parked, resumed by a ticket, ended when nobody returns.

mod support;
mod workers;

use fanfare_core::{
    dialect::Format,
    engine::{Detached, Flow, Opening, Resumption},
    id::{AppId, SessionId, SessionSlot},
    now::Now,
    secret::Secret,
    token::Claims,
    ws::{Message, OpCode, put_frame},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use workers::Workers;

const RESUME_MS: u32 = 30_000;
const RESUME_BYTES: usize = 4096;

/// A client of worker 0 whose session can be resumed, and how many frames it has received in it.
struct Client {
    slot: SessionSlot,
    id: SessionId,
    connection: u32,
    ticket: Secret,
    received: u64,
}

struct World {
    workers: Workers,
    tickets: u128,
    connections: u32,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut fanfare_core::app::App)) -> Self {
        let workers = Workers::new(2, 1024, |app| {
            app.limits.resume_ms = RESUME_MS;
            app.limits.resume_bytes = RESUME_BYTES;
            change(app);
        });
        let mut world = Self { workers, tickets: 0, connections: 1000, now_ms: 1_000 };
        world.pass(0);
        world
    }

    fn ticket(&mut self) -> Secret {
        self.tickets += 1;
        Secret::new(self.tickets)
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now_ms;
        self.workers.engines.iter_mut().for_each(|engine| engine.begin_turn(Now::from(now)));
        self.workers.run_until_idle();
    }

    fn open(&mut self, user: Option<&str>) -> Client {
        let ticket = self.ticket();
        self.connections += 1;
        let connection = self.connections;
        let engine = &mut self.workers.engines[0];
        let app = engine.node().app(AppId(0)).clone();
        let claims = user.map(claims);
        let format = Format::Native;
        let opening = Opening { app: &app, format, echo: None, claims, connection, ticket: Some(ticket) };
        let slot = engine
            .open(opening, |_| (), |out, _, _| put_frame(out, OpCode::Text, b"{\"welcome\":1}"))
            .expect("the app is not full");
        let id = engine.session_id(slot);
        let mut client = Client { slot, id, connection, ticket, received: 0 };
        assert_eq!(self.take(&mut client), [json!({"welcome": 1})]);
        client.received = 0;
        client
    }

    fn command(&mut self, client: &Client, command: &Value) {
        let flow = self.workers.engines[0].receive(client.slot, Message::Text(&command.to_string()));
        assert_eq!(flow, Flow::Continue);
    }

    fn take(&mut self, client: &mut Client) -> Vec<Value> {
        self.workers.run_until_idle();
        let frames = self.workers.sink.take_json(client.connection);
        client.received += frames.len() as u64;
        frames
    }

    fn lose(&mut self, client: &Client, unsent: usize) -> Detached {
        self.workers.engines[0].detach(client.slot, unsent)
    }

    /// Resumes on a new connection; the welcome is taken.
    fn resume(&mut self, client: &mut Client, received: Option<u64>) -> Option<Vec<Value>> {
        self.resume_as(client, received, None)
    }

    fn resume_as(
        &mut self,
        client: &mut Client,
        received: Option<u64>,
        claims: Option<&Claims>,
    ) -> Option<Vec<Value>> {
        self.connections += 1;
        let connection = self.connections;
        let next_ticket = self.ticket();
        let session = self.workers.node.resumable(&client.ticket)?;
        let resumption = Resumption {
            app: AppId(0),
            session,
            ticket: &client.ticket,
            next_ticket,
            received,
            format: Format::Native,
            echo: None,
            claims,
            connection,
        };
        let Workers { engines, sink, .. } = &mut self.workers;
        let welcome = |out: &mut bytes::BytesMut, id: SessionId, _: Option<&str>| {
            assert_eq!(id, client.id);
            put_frame(out, OpCode::Text, b"{\"welcome\":2}");
        };
        let slot = engines[0].resume(&resumption, sink, |_| (), welcome)?;
        client.slot = slot;
        client.connection = connection;
        client.ticket = next_ticket;
        let mut frames = self.take(client);
        assert_eq!(frames.remove(0), json!({"welcome": 2}));
        client.received = received.unwrap_or(client.received) + frames.len() as u64;
        Some(frames)
    }
}

fn claims(user: &str) -> Claims {
    Claims { user: user.into(), expires_at: None, profile: None, channels: Vec::new(), id: None }
}

fn join() -> Value {
    json!({"id": "join", "type": "join", "channel": "room", "echo": false})
}

fn message(number: usize) -> Value {
    json!({"type": "send", "channel": "room", "event": "e", "message": number})
}

fn numbers(frames: &[Value]) -> Vec<u64> {
    frames
        .iter()
        .filter(|frame| frame["event"] == "e")
        .filter_map(|frame| frame["message"].as_u64())
        .collect()
}

fn events(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["event"].as_str()).collect()
}

/// A watcher on the other worker, in the room.
fn watcher(world: &mut World) -> usize {
    let watcher = world.workers.open(1);
    world.workers.command(watcher, &join());
    world.workers.run_until_idle();
    world.workers.received(watcher);
    watcher
}

#[test]
fn a_resumed_session_has_what_it_had_and_nobody_saw_it_leave() {
    let mut world = World::new();
    let mut ada = world.open(Some("ada"));
    world.command(&ada, &join());
    world.command(&ada, &json!({"type": "update", "profile": {"name": "Ada"}, "echo": false}));
    world.take(&mut ada);
    let bob = watcher(&mut world);
    world.take(&mut ada);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    world.workers.command(bob, &message(1));
    world.pass(1_000);
    world.workers.command(bob, &message(2));
    world.pass(1_000);
    let received = ada.received;
    let missed = world.resume(&mut ada, Some(received)).expect("it is kept");
    assert_eq!(numbers(&missed), [1, 2]);
    world.workers.command(bob, &message(3));
    assert_eq!(numbers(&world.take(&mut ada)), [3]);
    let members = json!({"id": 1, "type": "members", "channel": "room"});
    assert_eq!(world.workers.send(bob, &members), Flow::Pause, "the other worker is asked too");
    world.workers.run_until_idle();
    let seen = world.workers.received(bob);
    assert!(!events(&seen).iter().any(|event| event.starts_with("channel:")), "{seen:?}");
    let members = seen.iter().find_map(|frame| frame["ok"]["members"].as_array()).expect("the page");
    let of_ada = json!({"id": ada.id.to_string(), "user": "ada", "data": {"name": "Ada"}});
    assert!(members.contains(&of_ada), "{members:?}");
    assert_eq!(world.workers.node.parked_sessions(AppId(0)), 0);
    assert_eq!(world.workers.node.parked_bytes(AppId(0)), 0);
}

#[test]
fn frames_that_were_on_their_way_are_sent_again_and_none_twice() {
    let mut world = World::new();
    let mut ada = world.open(None);
    world.command(&ada, &join());
    let bob = watcher(&mut world);
    for number in 1..=5 {
        world.workers.command(bob, &message(number));
        world.workers.run_until_idle();
    }
    // The join's answer, Bob's join, and the first two messages have arrived.
    world.workers.sink.take_json(ada.connection);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    let missed = world.resume(&mut ada, Some(4)).expect("it is kept");
    assert_eq!(numbers(&missed), [3, 4, 5]);
    // The count goes on where the client says it is.
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    assert_eq!(world.resume(&mut ada, Some(7)).map(|frames| frames.len()), Some(0));
}

#[test]
fn a_client_that_does_not_count_receives_what_never_left_whole() {
    let mut world = World::new();
    let mut ada = world.open(None);
    world.command(&ada, &join());
    let bob = watcher(&mut world);
    for number in 1..=3 {
        world.workers.command(bob, &message(number));
        world.workers.run_until_idle();
    }
    world.workers.sink.take_json(ada.connection);
    // One byte of the last frame is still here, so the frame is not whole where the client is.
    assert_eq!(world.lose(&ada, 1), Detached::Parked);
    world.workers.command(bob, &message(4));
    world.pass(1);
    assert_eq!(numbers(&world.resume(&mut ada, None).expect("it is kept")), [3, 4]);
}

#[test]
fn a_parked_session_ends_when_its_time_is_over_and_leaves_once() {
    let mut world = World::new();
    let mut ada = world.open(None);
    world.command(&ada, &join());
    world.take(&mut ada);
    let bob = watcher(&mut world);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    world.pass(u64::from(RESUME_MS) - 1);
    assert_eq!(world.workers.received(bob), [] as [Value; 0]);
    assert_eq!(world.workers.engines[0].next_due_ms(), Some(1_000 + u64::from(RESUME_MS)));
    assert_eq!(world.workers.engines[0].longest_parked_ms(), u64::from(RESUME_MS) - 1);
    world.pass(1);
    let seen = world.workers.received(bob);
    assert_eq!(events(&seen), ["channel:leave"]);
    assert_eq!(world.resume(&mut ada, Some(1)), None);
    assert_eq!(world.workers.engines[0].sessions(), 0);
    assert_eq!(world.workers.node.parked_sessions(AppId(0)), 0);
}

#[test]
fn a_step_of_the_wall_clock_neither_ends_nor_keeps_a_parked_session() {
    let mut world = World::new();
    let ada = world.open(None);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    let engine = &mut world.workers.engines[0];
    engine.begin_turn(Now { unix_ms: 1_000_000_000, steady_ms: 2_000 });
    assert_eq!(engine.sessions(), 1);
    engine.begin_turn(Now { unix_ms: 0, steady_ms: 1_000 + u64::from(RESUME_MS) });
    assert_eq!(engine.sessions(), 0);
}

#[test]
fn a_session_is_parked_no_longer_than_its_token_lasts() {
    let mut world = World::new();
    let ticket = world.ticket();
    let engine = &mut world.workers.engines[0];
    let app = engine.node().app(AppId(0)).clone();
    let claims = Claims { expires_at: Some(6), ..claims("ada") };
    let opening = Opening {
        app: &app,
        format: Format::Native,
        echo: None,
        claims: Some(claims),
        connection: 1,
        ticket: Some(ticket),
    };
    let slot = engine.open(opening, |_| (), |_, _, _| ()).expect("the app is not full");
    assert_eq!(engine.detach(slot, 0), Detached::Parked);
    assert_eq!(engine.next_due_ms(), Some(6_000));
}

#[test]
fn output_beyond_the_bound_ends_a_parked_session_with_one_leave() {
    let mut world = World::new();
    let mut ada = world.open(None);
    world.command(&ada, &join());
    world.take(&mut ada);
    let bob = watcher(&mut world);
    world.take(&mut ada);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    let long = "x".repeat(RESUME_BYTES / 2);
    for _ in 0..2 {
        let command =
            json!({"type": "send", "channel": "room", "event": "e", "message": long, "echo": false});
        world.workers.command(bob, &command);
        world.pass(1);
    }
    world.pass(1);
    assert_eq!(events(&world.workers.received(bob)), ["channel:leave"]);
    assert_eq!(world.resume(&mut ada, Some(2)), None);
    assert_eq!(world.workers.node.parked_bytes(AppId(0)), 0);
}

#[test]
fn frames_that_a_client_needs_and_that_are_gone_end_its_session() {
    let mut world = World::new();
    let mut ada = world.open(None);
    world.command(&ada, &join());
    let bob = watcher(&mut world);
    let long = "x".repeat(RESUME_BYTES / 3);
    for _ in 0..8 {
        let command =
            json!({"type": "send", "channel": "room", "event": "e", "message": long, "echo": false});
        world.workers.command(bob, &command);
        world.workers.run_until_idle();
    }
    world.workers.sink.take_json(ada.connection);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    assert_eq!(world.resume(&mut ada, Some(1)), None);
    world.pass(1);
    let seen = world.workers.received(bob);
    assert_eq!(events(&seen), ["channel:leave"]);
}

#[test]
fn a_ticket_works_once_and_for_nobody_else() {
    let mut world = World::new();
    let mut ada = world.open(Some("ada"));
    let ticket = ada.ticket;
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    let mut thief = Client { ticket: Secret::new(u128::MAX), ..world.open(None) };
    assert_eq!(world.resume(&mut thief, Some(0)), None);
    // Another user's token does not go with the ticket, and leaves it as it is.
    assert_eq!(world.resume_as(&mut ada, Some(0), Some(&claims("bob"))), None);
    assert!(world.resume_as(&mut ada, Some(0), Some(&claims("ada"))).is_some());
    let mut again = Client { ticket, ..ada };
    assert_eq!(world.resume(&mut again, Some(0)), None);
}

#[test]
fn what_a_client_claims_to_have_beyond_what_there_was_ends_its_session() {
    let mut world = World::new();
    let mut ada = world.open(None);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    assert_eq!(world.resume(&mut ada, Some(1)), None);
    assert_eq!(world.workers.engines[0].sessions(), 0);
}

#[test]
fn a_session_that_the_back_end_disconnects_is_not_kept() {
    let mut world = World::new();
    let mut ada = world.open(Some("ada"));
    world.command(&ada, &join());
    world.take(&mut ada);
    let bob = watcher(&mut world);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    let whom = fanfare_core::command::Disconnection::User("ada".into());
    let command = fanfare_core::command::BackEndCommand::Disconnect { whom, reconnect: true };
    let answer = world.workers.engines[0].request(AppId(0), command, 1);
    assert!(answer.is_none(), "another worker is asked too");
    assert_eq!(world.workers.node.resumable(&ada.ticket), None, "the ticket is good no more, from now on");
    world.pass(1);
    world.pass(1);
    assert_eq!(events(&world.workers.received(bob)), ["channel:leave"]);
    assert_eq!(world.resume(&mut ada, Some(1)), None);
}

#[test]
fn an_app_parks_no_more_sessions_and_bytes_than_it_may() {
    let mut world = World::with(|app| app.limits.parked_sessions = 2);
    let clients = [world.open(None), world.open(None), world.open(None)];
    let parked = clients.iter().map(|client| world.lose(client, 0)).collect::<Vec<_>>();
    assert_eq!(parked, [Detached::Parked, Detached::Parked, Detached::Ended]);

    let mut world = World::with(|app| app.limits.parked_bytes = 300);
    let mut ada = world.open(None);
    world.command(&ada, &join());
    world.take(&mut ada);
    let bob = watcher(&mut world);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    for number in 0..6 {
        world.workers.command(bob, &message(number));
        world.pass(1);
    }
    world.pass(1);
    assert_eq!(world.resume(&mut ada, Some(1)), None);
    assert_eq!(world.workers.node.parked_bytes(AppId(0)), 0);
}

#[test]
fn a_take_over_needs_no_room_among_the_parked() {
    let mut world = World::with(|app| app.limits.parked_sessions = 0);
    let mut ada = world.open(None);
    assert_eq!(world.workers.engines[0].detach_for_resume(ada.slot, 0), Detached::Parked);
    assert_eq!(world.resume(&mut ada, Some(0)), Some(Vec::new()));
    assert_eq!(world.lose(&ada, 0), Detached::Ended);
    assert_eq!(world.workers.node.sessions(AppId(0)), 0);
}

#[test]
fn a_parked_session_takes_none_of_the_apps_connections() {
    let mut world = World::with(|app| app.limits.connections = 1);
    let mut ada = world.open(None);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    let bob = world.open(None);
    assert!(world.resume(&mut ada, Some(0)).is_some(), "a client that returns is not turned away");
    assert_eq!(world.workers.node.sessions(AppId(0)), 2);
    for client in [ada, bob] {
        world.workers.engines[0].close(client.slot);
    }
    assert_eq!(world.workers.node.sessions(AppId(0)), 0);
}

#[test]
fn no_more_parked_sessions_end_than_have_to_for_the_others_to_have_room() {
    let mut world = World::with(|app| {
        app.limits.parked_bytes = 3_000;
        app.announce = false;
    });
    let mut clients: Vec<Client> = (0..10).map(|_| world.open(None)).collect();
    for client in &mut clients {
        world.command(client, &join());
        world.take(client);
    }
    let bob = watcher(&mut world);
    for client in &mut clients {
        world.take(client);
        assert_eq!(world.lose(client, 0), Detached::Parked);
    }
    for number in 0..8 {
        world.workers.command(bob, &message(number));
        world.pass(1);
    }
    world.pass(1);
    let left = world.workers.node.parked_sessions(AppId(0));
    let bytes = world.workers.node.parked_bytes(AppId(0));
    assert!((2..10).contains(&left), "{left} sessions are left");
    assert!(bytes <= 3_000 && bytes + bytes / left > 2_000, "{bytes} bytes are left of {left} sessions");
}

#[test]
fn a_pong_lets_go_of_what_was_sent_before_its_ping() {
    let mut world = World::new();
    let mut ada = world.open(None);
    world.command(&ada, &join());
    let bob = watcher(&mut world);
    world.workers.command(bob, &message(1));
    world.take(&mut ada);
    world.workers.engines[0].on_ping(ada.slot);
    world.workers.command(bob, &message(2));
    let received = ada.received;
    world.take(&mut ada);
    world.workers.engines[0].on_pong(ada.slot);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    // What follows the ping is kept; what was before it is not, and a client that claims to lack it is wrong.
    assert_eq!(numbers(&world.resume(&mut ada, Some(received)).expect("it is kept")), [2]);
    assert_eq!(world.lose(&ada, 0), Detached::Parked);
    assert_eq!(world.resume(&mut ada, Some(0)), None);
}

#[test]
fn an_app_without_resume_ends_lost_sessions_at_once() {
    let mut world = World::with(|app| app.limits.resume_ms = 0);
    let ada = world.open(None);
    assert_eq!(world.lose(&ada, 0), Detached::Ended);
    assert_eq!(world.workers.engines[0].sessions(), 0);
}

/// A step of a client's life.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody sends so many messages.
    Send(usize),
    /// The client receives what was written.
    Receive,
    /// The connection is lost when the client has received only this part of what was written, in tenths.
    Lose(usize),
    /// The connection is lost and the client resumes before anything else happens.
    Flap,
    /// The client comes back.
    Return,
    /// A ping is sent, and answered if the connection lives.
    Ping,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4usize).prop_map(Step::Send),
        3 => Just(Step::Receive),
        2 => (0..=10usize).prop_map(Step::Lose),
        1 => Just(Step::Flap),
        3 => Just(Step::Return),
        1 => Just(Step::Ping),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Over any number of losses, a client that counts receives every message once and in order.
    #[test]
    fn a_client_that_counts_misses_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::with(|app| app.limits.resume_bytes = 1 << 20);
        let mut ada = world.open(None);
        world.command(&ada, &join());
        let bob = watcher(&mut world);
        let (mut sent, mut seen, mut attached) = (0, Vec::new(), true);
        for step in steps.into_iter().chain([Step::Return, Step::Receive]) {
            match step {
                Step::Send(count) => for _ in 0..count {
                    sent += 1;
                    world.workers.command(bob, &message(sent));
                    world.pass(1);
                },
                Step::Receive if attached => seen.extend(world.take(&mut ada)),
                Step::Lose(tenths) if attached => {
                    let before = ada.received;
                    let frames = world.take(&mut ada);
                    let arrived = frames.len() * tenths / 10;
                    ada.received = before + arrived as u64;
                    seen.extend(frames.into_iter().take(arrived));
                    prop_assert_eq!(world.lose(&ada, 0), Detached::Parked);
                    attached = false;
                }
                Step::Flap if attached => {
                    seen.extend(world.take(&mut ada));
                    prop_assert_eq!(world.lose(&ada, 0), Detached::Parked);
                    let received = ada.received;
                    seen.extend(world.resume(&mut ada, Some(received)).expect("it is kept"));
                }
                Step::Return if !attached => {
                    let received = ada.received;
                    seen.extend(world.resume(&mut ada, Some(received)).expect("it is kept"));
                    attached = true;
                }
                Step::Ping if attached => {
                    seen.extend(world.take(&mut ada));
                    world.workers.engines[0].on_ping(ada.slot);
                    world.workers.engines[0].on_pong(ada.slot);
                }
                _ => {}
            }
        }
        prop_assert_eq!(numbers(&seen), (1..=sent as u64).collect::<Vec<_>>());
    }
}
