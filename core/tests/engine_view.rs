//! Sessions that join and ask for the members and the last messages. The list of members and the notices
//! after it fit together without a gap or a repetition. History and the messages after it fit together
//! without a gap. Both hold whatever the workers do meanwhile.
//!
//! The clients are Xano's. A client keeps its list as Xano's library does: it adds a member for each join and
//! removes a member for each leave, without looking for duplicates. A failure prints its seed.

mod support;
mod workers;

use std::{collections::BTreeSet, sync::Arc};

use fanfare_core::{
    app::{App, Who, XanoChannel, XanoOptions},
    channel::Channel,
    dialect::Format,
    engine::Flow,
    id::AppId,
    ws::Message,
};
use serde_json::{Value, json};
use support::open;
use workers::Workers;

const WORKERS: usize = 3;
const CLIENTS: usize = 9;
const STEPS: usize = 120;

fn configure(app: &mut App) {
    let mut options = XanoOptions::new("c");
    options.channels.push(XanoChannel {
        anonymous_clients: true,
        presence: true,
        history: 5,
        public_messaging: Who::Anybody,
        ..XanoChannel::new("room")
    });
    app.rules = options.channels[0].rules(app.default_options());
    app.xano = Some(options);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("it is below a usize")
    }
}

/// The state of a client.
#[derive(Default)]
struct Client {
    id: String,
    /// Whether the client's last command was a join. Commands are sent one after another.
    is_member: bool,
    is_paused: bool,
    /// The list of members; `None` if the client got no list since it joined.
    members: Option<Vec<String>>,
    /// The messages that the client received since it joined.
    messages: Vec<u64>,
}

struct World {
    workers: Workers,
    clients: Vec<Client>,
    /// The messages that the first client, which never leaves, has received.
    reference: Vec<u64>,
    sent: u64,
}

impl World {
    fn new() -> Self {
        let mut workers = Workers::new(WORKERS, 1 << 12, configure);
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let worker = client % WORKERS;
            let connection = u32::try_from(client).expect("they are few");
            let slot = open(&mut workers.engines[worker], connection, Format::XanoFrames);
            workers.sessions.push((worker, slot));
            let id = workers.engines[worker].session_id(slot).to_string();
            clients.push(Client { id, ..Client::default() });
        }
        workers.run_until_idle();
        (0..CLIENTS).for_each(|client| drop(workers.received(client)));
        let mut world = Self { workers, clients, reference: Vec::new(), sent: 0 };
        world.join(0);
        world.settle();
        world
    }

    fn send(&mut self, client: usize, frame: &Value) {
        let (worker, slot) = self.workers.sessions[client];

        let flow = self.workers.engines[worker].receive(slot, Message::Text(&frame.to_string()));
        self.clients[client].is_paused = flow == Flow::Pause;
    }

    fn join(&mut self, client: usize) {
        self.clients[client].is_member = true;
        let payload = json!({"presence": true, "history": true});
        self.send(client, &json!({"action": "join", "options": {"channel": "room"}, "payload": payload}));
    }

    fn leave(&mut self, client: usize) {
        self.clients[client].is_member = false;
        self.send(client, &json!({"action": "leave", "options": {"channel": "room"}}));
    }

    fn say(&mut self, client: usize) {
        self.sent += 1;
        let options = json!({"channel": "room"});
        self.send(client, &json!({"action": "message", "options": options, "payload": self.sent}));
    }

    /// One client sends a command, or one worker handles its mail.
    fn step(&mut self, random: &mut Random) {
        let client = random.below(CLIENTS);
        match (random.below(8), &self.clients[client]) {
            (0..=2, Client { is_paused: false, is_member: false, .. }) => self.join(client),
            // A second join changes nothing.
            (0, Client { is_paused: false, is_member: true, .. }) => self.join(client),
            (1, Client { is_paused: false, is_member: true, .. }) if client > 0 => self.leave(client),
            (2..=4, Client { is_paused: false, is_member: true, .. }) => self.say(client),
            _ => self.turn(random.below(WORKERS)),
        }
    }

    fn turn(&mut self, worker: usize) {
        let Workers { engines, sink, .. } = &mut self.workers;
        engines[worker].on_mail();
        engines[worker].flush(sink);
        for connection in engines[worker].take_unpaused() {
            self.clients[connection as usize].is_paused = false;
        }
        (0..CLIENTS).for_each(|client| self.read(client));
    }

    fn settle(&mut self) {
        (0..10).for_each(|_| (0..WORKERS).for_each(|worker| self.turn(worker)));
    }

    /// A client handles the frames that it has received.
    fn read(&mut self, client: usize) {
        for frame in self.workers.received(client) {
            let knows = &mut self.clients[client];
            let payload = &frame["payload"];
            let id = |client: &Value| client["socketId"].as_str().expect("an id").to_owned();
            match frame["action"].as_str().expect("an action") {
                "join" => {}
                "leave" => (knows.members, knows.messages) = (None, Vec::new()),
                "presence_full" => {
                    let all = payload["presence"].as_array().expect("a list");
                    knows.members = Some(all.iter().map(id).collect());
                }
                "presence_update" => {
                    // Notices before the list are about members that the list already has or no longer has.
                    let Some(members) = &mut knows.members else { continue };
                    let of = id(&payload["presence"]);
                    let place = members.iter().position(|member| *member == of);
                    match (payload["action"].as_str(), place) {
                        (Some("join"), None) => members.push(of),
                        (Some("leave"), Some(place)) => drop(members.remove(place)),
                        other => {
                            panic!("client {client} ({}) of {of}: {other:?}, knows {members:?}", knows.id)
                        }
                    }
                }
                "history" => {
                    let history = payload["history"].as_array().expect("a list");
                    let mut all: Vec<u64> =
                        history.iter().filter_map(|frame| frame["payload"].as_u64()).collect();
                    let before = knows.messages.iter().filter(|message| !all.contains(message)).copied();
                    let earlier: Vec<u64> = before.collect();
                    all.splice(0..0, earlier);
                    knows.messages = all;
                }
                "message" => {
                    let message = payload.as_u64().expect("a number");
                    // A message that is published while history is read may be in both.
                    if !knows.messages.contains(&message) {
                        knows.messages.push(message);
                    }
                }
                other => panic!("{other}: {frame}"),
            }
            if client == 0 && frame["action"] == "message" {
                self.reference.push(payload.as_u64().expect("a number"));
            }
        }
    }

    /// Checks that every client has received everything.
    fn check(&self) {
        let members: BTreeSet<&str> =
            self.clients.iter().filter(|client| client.is_member).map(|client| &*client.id).collect();
        for client in self.clients.iter().filter(|client| client.is_member) {
            let known = client.members.as_ref().expect("it was shown a list");
            assert_eq!(known.len(), members.len(), "nobody is listed twice");
            assert_eq!(known.iter().map(|id| &**id).collect::<BTreeSet<_>>(), members);
            let place =
                |message: &u64| self.reference.iter().position(|sent| sent == message).expect("it was sent");
            let mut places: Vec<usize> = client.messages.iter().map(place).collect();
            places.sort_unstable();
            let start = places.first().copied().unwrap_or(self.reference.len());
            if !places.is_empty() {
                assert_eq!(
                    places,
                    (start..self.reference.len()).collect::<Vec<_>>(),
                    "no message is missing"
                );
            }
        }
        assert_eq!(self.reference.len() as u64, self.sent);
    }
}

#[test]
fn what_a_session_is_shown_and_what_it_is_told_fit_together() {
    for seed in 0..400 {
        println!("seed {seed}");
        let (mut world, mut random) = (World::new(), Random(seed));
        for _ in 0..STEPS {
            // Sometimes a worker stays inside the order, and the others delegate.
            if random.below(8) == 0 {
                let holder = random.below(WORKERS);
                let channel: Arc<Channel> =
                    world.workers.node.channel(AppId(0), Some("room")).expect("the first client is in it");
                if let Some(entered) = channel.lock.try_enter() {
                    (0..random.below(12)).for_each(|_| world.step(&mut random));
                    world.workers.engines[holder].leave_lock(&channel, entered);
                }
            }
            world.step(&mut random);
        }
        world.settle();
        world.check();
    }
}
