//! A process in one thread: engines, their sessions, the wire between, and a driver that does random things
//! in random order. Everything comes from the seed.

mod back_end;
mod clients;
mod commands;
mod judge;
mod orders;
mod receipts;
mod wire;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use fanfare_core::{
    app::{App, AppKeys, Apps, SlowConsumer},
    engine::{Engine, Node},
    error::ReplyError,
    id::WorkerId,
    token::{Algorithm, KeyMaterial, SessionKey, SessionVerifier},
};

use super::{
    checker::{Checker, Peer},
    client::Directory,
    command::{Command, SECRET},
    model::{Model, Rules},
    random::Random,
};
use {clients::Client, orders::Held, wire::Wire};

/// The mode of a run.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Mode {
    /// No order is ever contended and no mailbox is ever full, so the model predicts every delivery.
    /// Receivers may be slow.
    Exact,
    /// Orders are held from outside for some steps and mailboxes are small. The invariants judge the
    /// deliveries.
    Contended,
}

const POISON: &str = "nobody panics while holding it";

/// The channel that each app's observer is in from first to last.
const WATCHED: usize = 0;

/// The process.
pub(crate) struct World {
    mode: Mode,
    random: Random,
    node: Arc<Node>,
    engines: Vec<Engine>,
    wire: Wire,
    /// Which client has which connection.
    connections: Vec<Option<usize>>,
    clients: Vec<Client>,
    directory: Arc<RwLock<Directory>>,
    /// What a client's number becomes when others see it: it is unique over all worlds of a process.
    first_peer: Peer,
    /// The worker of the first engine.
    first_worker: u16,
    trace: bool,
    model: Model,
    checker: Checker,
    held: Vec<Held>,
    /// Clients whose session has ended, and whose last output comes with the next flush.
    parting: Vec<usize>,
    rules: Vec<Rules>,
    channels: usize,
    sessions_at_most: usize,
    now_ms: u64,
    /// Whether the checks have run. Later deliveries are ignored.
    judged: bool,
    next_number: u32,
    /// Back-end requests that wait for an answer.
    requests: HashSet<u64>,
    next_request: u64,
    pub(crate) delegated: u64,
    pub(crate) overloaded: u64,
    pub(crate) deliveries: u64,
    pub(crate) missed: u64,
    pub(crate) commands: u64,
}

fn app(index: u32, mode: Mode, random: &mut Random) -> App {
    let mut app = App::new(&format!("app{index}"), AppKeys::default());
    app.announce = random.chance(75);
    app.echo = random.chance(70);
    app.membership_to_send = mode == Mode::Exact && random.chance(20);
    app.slow_consumer = if random.chance(60) { SlowConsumer::Drop } else { SlowConsumer::Disconnect };
    app.limits.outbound_bytes = 100 + random.below(1500);
    if mode == Mode::Contended {
        // The model of the other mode takes the commands of a frame to happen at once.
        app.limits.answer_bytes = 20 + random.below(1500);
    }
    app.limits.resume_ms = 3_600_000;
    app.limits.resume_bytes = 16 << 20;
    app.limits.parked_bytes = 1 << 30;
    app.limits.channels_per_connection = 2 + u16::try_from(random.below(5)).expect("it is small");
    app.sessions = verifier();
    app
}

/// Accepts the simulation's tokens.
pub(crate) fn verifier() -> SessionVerifier {
    let key = SessionKey::new(Algorithm::Hs256, None, KeyMaterial::Secret(SECRET)).expect("a secret");
    SessionVerifier::new(vec![key], 0, false)
}

impl World {
    /// A process of its own.
    pub(crate) fn new(seed: u64, mode: Mode) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let apps: Vec<App> = (0..1 + random.below(2)).map(|i| app(i as u32, mode, &mut random)).collect();
        let workers = 1 + random.below(4);
        let depth = if mode == Mode::Exact { 1 << 20 } else { 1 << random.below(8) };
        let node = Arc::new(Node::new(Apps::new(apps).expect("the names differ"), workers, depth, seed));
        let many = if random.chance(20) { 38 } else { 12 };
        let sessions = 3 + random.below(many);
        let mut world = Self::part(seed, mode, node, 0..workers as u16, Arc::default());
        world.channels = 1 + random.below(5);
        world.sessions_at_most = sessions;
        world.open_observers();
        world
    }

    /// A part of a process: some of its workers, with at most ten sessions and two channels besides the
    /// watched one.
    pub(crate) fn part(
        seed: u64,
        mode: Mode,
        node: Arc<Node>,
        workers: Range<u16>,
        directory: Arc<RwLock<Directory>>,
    ) -> Self {
        let rules: Vec<Rules> = node.apps().iter().map(|app| Rules::of(app)).collect();
        let engine = |worker: u16| {
            Engine::new(WorkerId(worker), node.clone(), seed.wrapping_mul(31) + u64::from(worker))
        };
        Self {
            mode,
            random: Random::new(seed),
            engines: workers.clone().map(engine).collect(),
            node,
            wire: Wire::default(),
            connections: Vec::new(),
            clients: Vec::new(),
            directory,
            first_peer: Peer::from(workers.start) << 20,
            first_worker: workers.start,
            trace: std::env::var_os("FANFARE_TRACE").is_some(),
            model: Model::new(rules.clone()),
            checker: Checker::default(),
            held: Vec::new(),
            parting: Vec::new(),
            rules,
            channels: 3,
            sessions_at_most: 10,
            now_ms: 1_700_000_000_000,
            judged: false,
            next_number: 0,
            requests: HashSet::new(),
            next_request: 0,
            delegated: 0,
            overloaded: 0,
            deliveries: 0,
            missed: 0,
            commands: 0,
        }
    }

    /// Opens a session for each app that is in the watched channel from first to last.
    pub(crate) fn open_observers(&mut self) {
        for app in 0..self.rules.len() as u32 {
            let client = self.open_session(app, true);
            let join = Command::Join { channel: WATCHED, echo: Some(true) };
            self.send_commands(client, vec![join]);
        }
        self.quiesce();
    }

    /// Does one random thing.
    pub(crate) fn step(&mut self) {
        self.now_ms += self.random.next() % 50;
        match self.random.below(100) {
            0..8 if self.open().count() < self.sessions_at_most => {
                let app = self.random.below(self.rules.len()) as u32;
                self.open_session(app, false);
            }
            8..12 => self.close_random(),
            12..15 => self.lose_random(),
            15..18 => self.return_random(),
            18..55 => self.send_random(),
            55..60 => self.send_burst(),
            60..64 => self.request_random(),
            64..70 if self.mode == Mode::Exact => self.toggle_line(),
            64..67 if self.is_whole() => self.toggle_line(),
            64..72 if self.mode == Mode::Contended => self.toggle_hold(),
            _ => {
                let worker = self.random.below(self.engines.len());
                self.turn(worker);
            }
        }
    }

    /// Whether these are all workers of the process.
    fn is_whole(&self) -> bool {
        self.engines.len() == self.node.workers()
    }

    fn peer(&self, client: usize) -> Peer {
        self.first_peer + client as Peer
    }

    fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.clients.len()).filter(|&client| self.clients[client].open)
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    fn turn(&mut self, worker: usize) {
        let engine = &mut self.engines[worker];
        engine.begin_turn(self.now_ms);
        engine.on_mail();
        for other in engine.take_touched() {
            assert_ne!(usize::from(other.0), worker + usize::from(self.first_worker), "nobody wakes itself");
        }
        for connection in engine.take_unpaused() {
            let client = self.connections[connection as usize].expect("a resumed connection is open");
            assert!(std::mem::take(&mut self.clients[client].paused), "it was paused");
            let unread = std::mem::take(&mut self.clients[client].unread);
            self.hand_over(client, unread);
        }
        for (token, answer) in self.engines[worker].take_answers() {
            assert!(self.requests.remove(&token), "one answer for each request");
            assert!(!matches!(answer, Err(error) if error != ReplyError::Overloaded));
        }
        if self.random.chance(80) {
            self.engines[worker].flush(&mut self.wire);
            self.see_off(worker);
        }
        for (connection, why) in self.engines[worker].take_disconnects() {
            self.disconnect(connection, why);
        }
        self.go_on(worker);
        if self.random.chance(50) {
            let clients: Vec<usize> = self.open().filter(|&c| self.clients[c].worker == worker).collect();
            clients.into_iter().for_each(|client| self.deliver(client));
        }
    }

    /// Lets everything come to rest.
    fn quiesce(&mut self) {
        self.release();
        self.all_come_back();
        for _ in 0..10_000 {
            let stalled: Vec<usize> = self
                .open()
                .filter(|&client| self.wire.0[self.clients[client].connection as usize].stalled)
                .collect();
            stalled.into_iter().for_each(|client| self.drain(client));
            let clients: Vec<usize> = self.open().collect();
            let has_unread = clients.iter().any(|client| !self.clients[*client].unread.is_empty());
            let was_busy = self.is_busy();
            if !was_busy {
                clients.into_iter().for_each(|client| self.deliver(client));
            }
            if !was_busy && !has_unread && !self.is_busy() {
                return;
            }
            self.turn_all();
        }
        panic!("it does not come to rest");
    }

    /// Runs a turn of every engine.
    pub(crate) fn turn_all(&mut self) {
        (0..self.engines.len()).for_each(|worker| self.turn(worker));
    }

    /// Whether an engine has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.engines.iter().any(Engine::is_busy)
    }
}

impl Rules {
    fn of(app: &App) -> Self {
        Self {
            announce: app.announce,
            membership_to_send: app.membership_to_send,
            channels: usize::from(app.limits.channels_per_connection),
        }
    }
}
