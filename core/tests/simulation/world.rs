//! A process in one thread: engines, their sessions, the wire between, and a driver that does random things
//! in random order. Everything comes from the seed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, RwLock};

use bytes::BytesMut;
use fanfare_core::{
    app::{App, AppKeys, Apps, SlowConsumer},
    channel::{Channel, ChannelState, Entered, Operation},
    command::{BackEndCommand, Cursor, Disconnection, Outcome, Publish},
    dialect::Format,
    disconnect::Disconnect,
    engine::{Detached, Engine, Flow, Node, Opening, Resumption, Segments, Sink},
    error::ReplyError,
    id::SessionSlot,
    id::{AppId, SessionId, WorkerId},
    publication::Payload,
    secret::Secret,
    token::{Algorithm, Claims, KeyMaterial, SessionKey, SessionVerifier},
    ws::{Message, OpCode, put_frame},
};

use super::{
    checker::{Checker, Key, Kind, Peer, Seen, Stay},
    client::{Answer, BACK_END, Directory, Received, read},
    command::{Command, SECRET, WRONG, payload},
    model::{Model, Rules},
    random::Random,
};

/// What kind of run it is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Mode {
    /// Nobody ever finds an order taken or a mailbox full: what everybody receives is compared with the
    /// model. Receivers may be slow.
    Exact,
    /// Orders are held from outside for some steps and mailboxes are small: judged by the invariants.
    Contended,
}

const POISON: &str = "nobody panics while holding it";

/// The channel that each app's observer is in from first to last.
const WATCHED: usize = 0;

/// Bytes that have not reached their client.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    stalled: bool,
}

/// The wire: lines by connection. A stalled line keeps everything; another has sent it at once.
#[derive(Default)]
struct Wire(Vec<Line>);

impl Sink for Wire {
    fn write(&mut self, connection: u32, parts: Segments<'_>) -> usize {
        let line = &mut self.0[connection as usize];
        for (buffer, range) in parts {
            line.bytes.extend_from_slice(&buffer[range]);
        }
        if line.stalled { line.bytes.len() } else { 0 }
    }
}

/// What a client has written and its engine not yet taken.
enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

impl Frame {
    fn view(&self) -> Message<'_> {
        match self {
            Frame::Text(text) => Message::Text(text),
            Frame::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

/// A command that was sent and not yet answered.
struct Asked {
    id: Option<u64>,
    command: Command,
    /// In exact mode, where the model knows.
    expected: Option<Answer>,
}

/// A client and its session.
struct Client {
    app: u32,
    worker: usize,
    slot: SessionSlot,
    connection: u32,
    echo: bool,
    format: Format,
    session: SessionId,
    profile: u32,
    user: bool,
    open: bool,
    welcomed: bool,
    paused: bool,
    observer: bool,
    /// Got its last word.
    parted: bool,
    /// Resumes the session.
    ticket: Secret,
    /// Data frames that reached the client in this session.
    received: u64,
    /// It has lost its connection and will return.
    parked: bool,
    next_id: u64,
    unread: Vec<Frame>,
    asked: VecDeque<Asked>,
    /// What it received of each stream; `None` is the broadcasts'.
    seen: HashMap<Option<usize>, Vec<Seen>>,
    /// The last message of each sender, wherever it was sent to.
    heard: HashMap<Peer, u32>,
    missed: HashMap<Option<usize>, u64>,
    /// Where it is, as far as it was told.
    stays: BTreeMap<usize, Stay>,
    broadcasts: Stay,
    /// It was slow, and publications may have been dropped: what it received is held against what it was told
    /// to have missed.
    lossy: bool,
}

/// An order that somebody is inside of.
struct Held {
    channel: &'static Arc<Channel>,
    entered: Entered<'static, ChannelState, Operation>,
    worker: usize,
}

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
    /// Clients that ended and get what they still get with the next flush.
    parting: Vec<usize>,
    rules: Vec<Rules>,
    channels: usize,
    sessions_at_most: usize,
    now_ms: u64,
    /// What is received now is not looked at any more.
    judged: bool,
    next_number: u32,
    /// Back-end requests that wait.
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

    fn open_session(&mut self, app: u32, observer: bool) -> usize {
        let worker = self.random.below(self.engines.len());
        let connection = self.free_connection();
        let user = !observer && self.random.chance(30);
        let profile = if user { self.number() } else { 0 };
        // In contended mode such a join is not told apart from its answer, which there is none.
        let claimed = user && self.mode == Mode::Exact && self.random.chance(40);
        let claimed = claimed.then(|| self.random.below(self.channels));
        let claims = user.then(|| Claims {
            user: "u".into(),
            expires_at: None,
            profile: Some(profile.to_string().into()),
            channels: claimed.iter().map(|channel| format!("c{channel}").into()).collect(),
        });
        let of = self.node.app(AppId(app as u16)).clone();
        let ticket = self.ticket();
        let echo = if observer { Some(true) } else { *self.random.pick(&[None, Some(true), Some(false)]) };
        let format = *self.random.pick(&[Format::Native, Format::NativeText]);
        let opening = Opening { app: &of, format, echo, claims, connection, ticket: Some(ticket) };
        let engine = &mut self.engines[worker];
        engine.begin_turn(self.now_ms);
        let welcome = |out: &mut BytesMut, id: SessionId, _: Option<&str>| {
            put_frame(out, OpCode::Text, format!(r#"{{"welcome":"{id}"}}"#).as_bytes());
        };
        let slot = engine.open(opening, |_| {}, welcome).expect("the app takes any number");
        let session = engine.session_id(slot);
        let client = self.clients.len();
        let peer = self.peer(client);
        self.directory.write().expect(POISON).insert(session.to_string(), (peer, app));
        self.connections[connection as usize] = Some(client);
        let echo = echo.unwrap_or(of.echo);
        self.model.open(peer, app, echo, profile);
        let mut stays = BTreeMap::new();
        if let Some(channel) = claimed {
            self.model.join(peer, channel, echo);
            if !echo {
                self.checker.unechoed.insert(Key::Notice { kind: Kind::Join, peer, profile });
            }
            stays.insert(channel, Stay { receiver: peer, ..Stay::default() });
        }
        self.clients.push(Client {
            app,
            worker,
            slot,
            connection,
            echo,
            format,
            session,
            profile,
            user,
            open: true,
            welcomed: false,
            paused: false,
            observer,
            parted: false,
            ticket,
            received: 0,
            parked: false,
            next_id: 0,
            unread: Vec::new(),
            asked: VecDeque::new(),
            seen: HashMap::new(),
            heard: HashMap::new(),
            missed: HashMap::new(),
            stays,
            broadcasts: Stay { receiver: peer, stream: format!("{app}/*"), ..Stay::default() },
            lossy: false,
        });
        client
    }

    /// Numbers are given to the next as soon as they are free.
    fn free_connection(&mut self) -> u32 {
        let free = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
            self.connections.push(None);
            self.wire.0.push(Line::default());
            self.connections.len() - 1
        });
        self.wire.0[free] = Line::default();
        free as u32
    }

    fn random_open(&mut self, with_observers: bool) -> Option<usize> {
        let is_there = |&c: &usize| !self.clients[c].parked && (with_observers || !self.clients[c].observer);
        let all: Vec<usize> = self.open().filter(is_there).collect();
        (!all.is_empty()).then(|| *self.random.pick(&all))
    }

    fn ticket(&mut self) -> Secret {
        Secret::new(u128::from(self.random.next()) << 64 | u128::from(self.random.next()))
    }

    /// A connection is lost, sometimes with frames that were on their way.
    fn lose_random(&mut self) {
        let Some(client) = self.random_open(false) else { return };
        let Client { connection, worker, slot, .. } = self.clients[client];
        // A disconnection that is under way would end a parked session unseen.
        if self.wire.0[connection as usize].stalled || !self.requests.is_empty() {
            return;
        }
        if self.random.chance(50) {
            self.deliver(client);
        }
        self.connections[connection as usize] = None;
        match self.engines[worker].detach(slot, 0) {
            Detached::Parked => self.clients[client].parked = true,
            // It was about to be disconnected.
            Detached::Ended => {
                self.model.close(self.peer(client));
                self.clients[client].open = false;
                self.clients[client].paused = false;
                self.forget(client);
            }
        }
    }

    fn return_random(&mut self) {
        let parked: Vec<usize> = self.open().filter(|&c| self.clients[c].parked).collect();
        if !parked.is_empty() {
            let client = *self.random.pick(&parked);
            self.come_back(client);
        }
    }

    fn all_come_back(&mut self) {
        let parked: Vec<usize> = self.open().filter(|&c| self.clients[c].parked).collect();
        parked.into_iter().for_each(|client| self.come_back(client));
    }

    /// A client goes on with its session on a new connection. It has to receive what it has not.
    fn come_back(&mut self, client: usize) {
        let connection = self.free_connection();
        let next_ticket = self.ticket();
        let of = &mut self.clients[client];
        let session = self.node.resumable(&of.ticket).expect("the session is kept");
        let resumption = Resumption {
            app: AppId(of.app as u16),
            session,
            ticket: &of.ticket,
            next_ticket,
            received: Some(of.received),
            format: of.format,
            echo: None,
            claims: None,
            connection,
        };
        let welcome = |out: &mut BytesMut, id: SessionId, _: Option<&str>| {
            put_frame(out, OpCode::Text, format!(r#"{{"welcome":"{id}"}}"#).as_bytes());
        };
        let engine = &mut self.engines[of.worker];
        let resumed = engine.resume(&resumption, &mut self.wire, |_| {}, welcome);
        assert_eq!(resumed, Some(of.slot), "client {client} has received {}", of.received);
        of.paused = engine.is_paused(of.slot);
        let disconnects = engine.take_disconnects();
        (of.parked, of.welcomed, of.connection, of.ticket) = (false, false, connection, next_ticket);
        self.connections[connection as usize] = Some(client);
        if !self.clients[client].paused {
            let unread = std::mem::take(&mut self.clients[client].unread);
            self.hand_over(client, unread);
        }
        // Resuming may have written the turn's output so far.
        disconnects.into_iter().for_each(|(connection, why)| self.disconnect(connection, why));
    }

    fn close_random(&mut self) {
        if let Some(client) = self.random_open(false) {
            // Sometimes it has read everything, sometimes bytes are lost with the connection.
            if self.random.chance(50) {
                self.deliver(client);
            }
            if self.random.chance(40) {
                self.part_with(client);
            } else {
                self.close(client);
            }
        }
    }

    /// Ends a session with a last word. What it receives until then still counts.
    fn part_with(&mut self, client: usize) {
        self.model.close(self.peer(client));
        let of = &mut self.clients[client];
        let last = |out: &mut BytesMut| put_frame(out, OpCode::Text, br#"{"welcome":"last"}"#);
        self.engines[of.worker].end(of.slot, last);
        of.open = false;
        of.paused = false;
        self.parting.push(client);
    }

    /// Those who have had their last word go.
    fn see_off(&mut self, worker: usize) {
        let (gone, stay): (Vec<usize>, Vec<usize>) =
            std::mem::take(&mut self.parting).into_iter().partition(|&c| self.clients[c].worker == worker);
        self.parting = stay;
        for client in gone {
            let of = &mut self.clients[client];
            self.wire.0[of.connection as usize].stalled = false;
            self.deliver(client);
            let of = &self.clients[client];
            assert!(of.parted || self.judged, "client {client} waits for the last word");
            if self.mode == Mode::Exact && !of.lossy && !self.judged {
                for channel in (0..self.channels).map(Some).chain([None]) {
                    let seen = of.seen.get(&channel).map_or(0, Vec::len);
                    let expected = self.model.expected.get(&(self.peer(client), channel)).map_or(0, Vec::len);
                    assert_eq!(seen, expected, "client {client} receives everything until it ends");
                }
            }
            self.forget(client);
        }
    }

    fn close(&mut self, client: usize) {
        self.model.close(self.peer(client));
        let of = &mut self.clients[client];
        self.engines[of.worker].close(of.slot);
        of.open = false;
        of.paused = false;
        self.forget(client);
    }

    /// Frees a client's connection; what it has received is to be judged.
    fn forget(&mut self, client: usize) {
        let of = &mut self.clients[client];
        if !std::mem::take(&mut of.parked) && self.connections[of.connection as usize] == Some(client) {
            self.connections[of.connection as usize] = None;
        }
        let mut stays = std::mem::take(&mut of.stays);
        for asked in &of.asked {
            if let Command::Send { channel, .. } = asked.command
                && let Some(stay) = stays.get_mut(&channel)
            {
                stay.own_unknown += 1;
            }
        }
        let broadcasts = std::mem::take(&mut of.broadcasts);
        if !of.lossy {
            self.checker.stays.push(broadcasts);
            self.checker.stays.extend(stays.into_values());
        }
    }

    /// Whether a client's engine has read all that the client has written, and takes more.
    fn may_send(&self, client: usize) -> bool {
        let of = &self.clients[client];
        let backlog = self.wire.0[of.connection as usize].bytes.len();
        let is_behind = self.engines[of.worker].is_behind(of.slot, backlog);
        !of.paused && of.unread.is_empty() && !is_behind
    }

    /// Frames that a turn left go on in the next, if their client has read enough.
    fn go_on(&mut self, worker: usize) {
        let left = |client: &usize| {
            let of = &self.clients[*client];
            of.worker == worker && !of.paused && !of.parked && !of.unread.is_empty()
        };
        let clients: Vec<usize> = self.open().filter(left).collect();
        for client in clients {
            let of = &self.clients[client];
            let backlog = self.wire.0[of.connection as usize].bytes.len();
            if !self.engines[worker].is_behind(of.slot, backlog) {
                let unread = std::mem::take(&mut self.clients[client].unread);
                self.hand_over(client, unread);
            }
        }
    }

    fn send_random(&mut self) {
        let Some(client) = self.random_open(false) else { return };
        if !self.may_send(client) {
            return;
        }
        let count = if self.random.chance(70) { 1 } else { 1 + self.random.below(5) };
        let mut commands = Vec::new();
        for _ in 0..count {
            self.random_command(client, &mut commands);
        }
        self.send_commands(client, commands);
    }

    /// Many frames at once, most of them messages to one channel that want no answer.
    fn send_burst(&mut self) {
        let Some(client) = self.random_open(false) else { return };
        if !self.may_send(client) {
            return;
        }
        let mut channel = self.random.below(self.channels);
        // Its own messages are to come back: without answers nothing else says which offsets they took.
        let echo = (!self.clients[client].echo || self.random.chance(30)).then_some(true);
        let mut frames = Vec::new();
        for _ in 0..1 + self.random.below(50) {
            let number = self.number();
            let command = match self.random.below(100) {
                0..85 => Command::Send { channel, number, echo, binary: false },
                85..90 => Command::Broadcast { number, echo, binary: false },
                90..93 => Command::Send { channel, number, echo, binary: true },
                93..95 => Command::Ping,
                _ => {
                    channel = self.random.below(self.channels);
                    continue;
                }
            };
            frames.push(self.frame(client, vec![command], false));
        }
        self.hand_over(client, frames);
    }

    fn random_command(&mut self, client: usize, commands: &mut Vec<Command>) {
        let channel = self.random.below(self.channels);
        let echo = *self.random.pick(&[None, None, Some(true), Some(false)]);
        let binary = self.random.chance(15);
        let command = match self.random.below(100) {
            0..18 => {
                // A fresh profile makes the notice unique.
                let profile = self.number();
                commands.push(Command::Update { profile, echo });
                Command::Join { channel, echo }
            }
            18..28 => Command::Leave { channel, echo },
            28..70 => Command::Send { channel, number: self.number(), echo, binary },
            70..78 => Command::Broadcast { number: self.number(), echo, binary },
            78..84 => Command::Update { profile: self.number(), echo },
            84..90 => {
                Command::Members { channel, limit: 1 + self.random.below(4), after: self.random_cursor() }
            }
            90..93 => Command::Session { valid: self.random.chance(50) },
            93..96 => {
                let &(text, code) = self.random.pick(WRONG);
                Command::Wrong { text, code }
            }
            _ => Command::Ping,
        };
        if matches!(command, Command::Session { valid: true }) {
            self.clients[client].user = true;
        }
        commands.push(command);
    }

    fn random_cursor(&mut self) -> Option<String> {
        let worker = self.random.below(self.engines.len());
        self.random.chance(30).then(|| format!("{worker}.{}", self.random.below(9)))
    }

    /// Sends commands in one frame; a binary one goes alone.
    fn send_commands(&mut self, client: usize, mut commands: Vec<Command>) {
        if self.mode == Mode::Exact
            && let Some(first) = commands.iter().position(|c| matches!(c, Command::Members { .. }))
        {
            // The model takes commands to happen now, and a page of members may take longer.
            commands.truncate(first + 1);
        }
        if let Some(first) = commands.iter().position(|c| c.binary(0, 0).is_some()) {
            commands = vec![commands.swap_remove(first)];
        }
        let frame = self.frame(client, commands, true);
        self.hand_over(client, vec![frame]);
    }

    /// Commands as one frame, which is about to be handed over.
    fn frame(&mut self, client: usize, commands: Vec<Command>, answered: bool) -> Frame {
        let peer = self.peer(client);
        let app = self.clients[client].app;
        let mut texts = Vec::new();
        for command in &commands {
            let members = command.write(app, peer, &mut self.random);
            let of = &mut self.clients[client];
            let anonymous = !answered || self.random.chance(15) && !must_be_answered(command);
            let id = (!anonymous).then_some(of.next_id);
            of.next_id += 1;
            texts.push(match id {
                Some(id) => format!(r#"{{"id":{id},{members}}}"#),
                None => format!("{{{members}}}"),
            });
            self.expect(client, id, command.clone());
        }
        let binary = commands[0].binary(app, peer);
        self.commands += commands.len() as u64;
        let text = match texts.len() {
            1 => texts.remove(0),
            _ => format!("[{}]", texts.join(",")),
        };
        if self.trace {
            eprintln!("{} client {client}: {text}", self.now_ms);
        }
        match binary {
            Some(payload) => Frame::Binary(binary_frame(&text, &payload)),
            None => Frame::Text(text),
        }
    }

    /// Gives a client's engine what it has written, as far as that takes it.
    fn hand_over(&mut self, client: usize, frames: Vec<Frame>) {
        let of = &mut self.clients[client];
        let engine = &mut self.engines[of.worker];
        engine.begin_turn(self.now_ms);
        let mut rest = frames.iter();
        let flow = engine.receive_all(of.slot, rest.by_ref().map(Frame::view));
        of.paused = flow == Flow::Pause;
        let left = rest.len();
        assert!(flow != Flow::Continue || left == 0, "only a pause leaves anything");
        assert!(flow != Flow::Yield || self.mode == Mode::Contended, "answers are few");
        of.unread = frames;
        of.unread.drain(..of.unread.len() - left);
    }

    /// Notes that an answer is to come, and in exact mode which.
    fn expect(&mut self, client: usize, id: Option<u64>, command: Command) {
        let peer = self.peer(client);
        let of = &mut self.clients[client];
        let echo = command.echo().unwrap_or(of.echo);
        let key = match command {
            Command::Update { profile, .. } => {
                of.profile = profile;
                Some(Key::Notice { kind: Kind::Update, peer, profile })
            }
            Command::Join { .. } => Some(Key::Notice { kind: Kind::Join, peer, profile: of.profile }),
            Command::Send { number, .. } | Command::Broadcast { number, .. } => {
                Some(Key::Message { sender: peer, number })
            }
            _ => None,
        };
        if let Some(key) = key.filter(|_| !echo) {
            self.checker.unechoed.insert(key);
        }
        let expected = match self.mode {
            Mode::Exact => self.model.execute(peer, &command),
            Mode::Contended => None,
        };
        let silent = id.is_none() && !matches!(expected, Some(Answer::Error(_)));
        if !silent || matches!(command, Command::Wrong { .. } | Command::Session { valid: false }) {
            self.clients[client].asked.push_back(Asked { id, command, expected });
        }
    }

    fn request_random(&mut self) {
        let worker = self.random.below(self.engines.len());
        let app = self.random.below(self.rules.len()) as u32;
        let id = AppId(app as u16);
        let channel = self.random.below(self.channels);
        let name = format!("c{channel}");
        let token = self.next_request;
        self.next_request += 1;
        self.engines[worker].begin_turn(self.now_ms);
        let answer = match self.random.below(10) {
            0..6 => {
                let number = self.number();
                let sender = BACK_END - Peer::from(self.first_worker) - worker as Peer;
                let text = payload(app, sender, number);
                let channel = self.random.chance(80).then_some(channel);
                let to = channel.map(|_| &*name);
                let key = Key::Message { sender, number };
                let publish = Publish::new(to, "e", Payload::Json(&text));
                let answer = self.engines[worker].request(id, BackEndCommand::publish(publish), token);
                if self.mode == Mode::Exact {
                    let offset = self.model.send(app, channel, key, None);
                    match &answer {
                        Some(Ok(Outcome::Sent { offset: got, .. })) => assert_eq!(*got, offset),
                        other => assert!(channel.is_none(), "{other:?}"),
                    }
                }
                answer
            }
            6..8 => {
                let limit = 1 + self.random.below(3);
                let command = BackEndCommand::Members { channel: &name, limit, after: None };
                self.engines[worker].request(id, command, token)
            }
            8 => {
                let Some(client) = self.random_open(false) else { return };
                let whom = Disconnection::Session(self.clients[client].session);
                self.engines[worker].request(id, BackEndCommand::Disconnect { whom, reconnect: true }, token)
            }
            _ if self.random.chance(30) => {
                // A session that is disconnected while it is parked ends unseen.
                self.all_come_back();
                let whom = Disconnection::User("u".into());
                self.engines[worker].request(id, BackEndCommand::Disconnect { whom, reconnect: false }, token)
            }
            _ => {
                let command = BackEndCommand::Channels { prefix: "c", limit: 2, after: None };
                let answer = self.engines[worker].request(id, command, token);
                assert!(matches!(answer, Some(Ok(Outcome::Channels(_)))), "{answer:?}");
                return;
            }
        };
        match answer {
            None => assert!(self.requests.insert(token)),
            Some(Err(error)) => assert_eq!(error, ReplyError::Overloaded),
            Some(Ok(_)) => {}
        }
    }

    /// Stops a line, or lets it flow again.
    fn toggle_line(&mut self) {
        let Some(client) = self.random_open(false) else { return };
        let connection = self.clients[client].connection as usize;
        match self.wire.0[connection].stalled {
            true => self.drain(client),
            false => {
                self.wire.0[connection].stalled = true;
                let app = self.node.app(AppId(self.clients[client].app as u16));
                self.clients[client].lossy |= app.slow_consumer == SlowConsumer::Drop;
            }
        }
    }

    fn drain(&mut self, client: usize) {
        let Client { connection, worker, slot, .. } = self.clients[client];
        self.wire.0[connection as usize].stalled = false;
        self.deliver(client);
        self.engines[worker].on_drained(slot);
    }

    fn toggle_hold(&mut self) {
        if !self.held.is_empty() && self.random.chance(60) {
            let at = self.random.below(self.held.len());
            let held = self.held.swap_remove(at);
            self.engines[held.worker].leave_lock(held.channel, held.entered);
            return;
        }
        let app = AppId(self.random.below(self.rules.len()) as u16);
        let name = format!("c{}", self.random.below(self.channels));
        let name = self.random.chance(85).then_some(&*name);
        let Some(channel) = self.node.channel(app, name) else { return };
        // Leaked, so that being inside may outlive this step.
        let channel: &'static Arc<Channel> = Box::leak(Box::new(channel));
        if let Some(entered) = channel.lock.try_enter() {
            let worker = self.random.below(self.engines.len());
            self.held.push(Held { channel, entered, worker });
        }
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

    fn disconnect(&mut self, connection: u32, why: Disconnect) {
        // It may be named twice.
        let Some(client) = self.connections[connection as usize] else { return };
        let of = &self.clients[client];
        if !of.open {
            return;
        }
        match why {
            Disconnect::SlowConsumer => {
                let app = self.node.app(AppId(of.app as u16));
                // Where publications are dropped, answers are not, up to as much again.
                let share = if app.slow_consumer == SlowConsumer::Drop { 2 } else { 1 };
                assert!(self.wire.0[connection as usize].bytes.len() > share * app.limits.outbound_bytes);
            }
            Disconnect::ByServer { reconnect: false } => assert!(of.user, "only users' sessions"),
            _ => {}
        }
        assert!(!of.observer);
        self.close(client);
    }

    /// Lets a client read what its line has sent.
    fn deliver(&mut self, client: usize) {
        if self.clients[client].parked {
            return;
        }
        let connection = self.clients[client].connection as usize;
        let line = &mut self.wire.0[connection];
        if self.judged || line.stalled || line.bytes.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut line.bytes);
        if self.clients[client].open {
            self.engines[self.clients[client].worker].on_taken(self.clients[client].slot, 0);
        }
        let app = self.clients[client].app;
        let received = read(&mut bytes, app, &self.directory.read().expect(POISON))
            .unwrap_or_else(|e| panic!("client {client}: {e}"));
        let is_welcome = |one: &&Received| matches!(one, Received::Welcome(_));
        self.clients[client].received += (received.len() - received.iter().filter(is_welcome).count()) as u64;
        for one in received {
            if self.trace {
                eprintln!("{} client {client} receives {one:?}", self.now_ms);
            }
            self.take(client, one);
        }
    }

    fn take(&mut self, client: usize, received: Received) {
        let of = &mut self.clients[client];
        assert!(!of.parted, "client {client}: {received:?} after the last word");
        match received {
            Received::Welcome(id) if id == "last" => of.parted = true,
            Received::Welcome(id) => {
                assert_eq!(id, of.session.to_string());
                assert!(!std::mem::replace(&mut of.welcomed, true), "one welcome");
            }
            Received::Publication { channel, seen } => {
                assert!(of.welcomed, "the welcome is first");
                let channel = channel.map(|name| name[1..].parse().expect("channels are c0, c1, …"));
                of.seen.entry(channel).or_default().push(seen);
                if let Key::Message { sender, number } = seen.key
                    && sender <= BACK_END - self.node.workers() as Peer
                {
                    let before = of.heard.insert(sender, number);
                    assert!(
                        before < Some(number),
                        "client {client}: {seen:?} of {channel:?} after {before:?}"
                    );
                }
                self.place(client, channel, seen);
            }
            Received::Answer { id, answer } => self.take_answer(client, id, answer),
            Received::Gap { channel, missed } => {
                let app = self.node.app(AppId(of.app as u16));
                assert_eq!(app.slow_consumer, SlowConsumer::Drop, "only by policy");
                assert!(missed > 0);
                let channel = channel.map(|name| name[1..].parse().expect("channels are c0, c1, …"));
                *of.missed.entry(channel).or_default() += missed;
                assert!(of.lossy, "only who was slow misses anything");
            }
        }
    }

    /// Puts a publication into the stay it belongs to.
    fn place(&mut self, client: usize, channel: Option<usize>, seen: Seen) {
        let peer = self.peer(client);
        let of = &mut self.clients[client];
        let Some(channel) = channel else {
            of.broadcasts.seen.push(seen);
            return;
        };
        // One's own leaving comes with the answer, not from the stream.
        if matches!(seen.key, Key::Notice { kind: Kind::Leave, peer: who, .. } if who == peer) {
            return;
        }
        let joining =
            |asked: &Asked| matches!(asked.command, Command::Join { channel: c, .. } if c == channel);
        if !of.stays.contains_key(&channel) {
            // The answer may be behind, when the join had to wait.
            assert!(of.asked.iter().any(joining), "client {client} is not in c{channel}: {seen:?}");
            of.stays.insert(channel, Stay { receiver: peer, ..Stay::default() });
        }
        of.stays.get_mut(&channel).expect("it is there").seen.push(seen);
    }

    fn take_answer(&mut self, client: usize, id: Option<u64>, answer: Answer) {
        let mode = self.mode;
        let peer = self.peer(client);
        let of = &mut self.clients[client];
        if mode == Mode::Contended && id.is_none() && answer == Answer::Error("overloaded".into()) {
            return;
        }
        let asked =
            of.asked.pop_front().unwrap_or_else(|| panic!("client {client}: asked nothing {answer:?}"));
        assert_eq!(
            asked.id, id,
            "client {client}: answers in the order of the commands; {:?}",
            asked.command
        );
        let mut comparable = answer.clone();
        if let Answer::Joined { epoch, .. } = &mut comparable {
            epoch.clear();
        }
        if let Some(expected) = &asked.expected {
            assert_eq!(comparable, *expected, "client {client}: {:?}", asked.command);
        }
        match (&asked.command, answer) {
            (&Command::Join { channel, .. }, Answer::Joined { joined, members, offset, epoch }) => {
                assert!(members > 0);
                let app = of.app;
                let stay = of.stays.entry(channel).or_default();
                stay.receiver = peer;
                stay.stream = stream(app, channel, &epoch);
                if joined {
                    stay.from = Some(offset);
                }
            }
            (&Command::Leave { channel, .. }, Answer::Left(left)) => {
                let stay = of.stays.remove(&channel);
                assert_eq!(stay.is_some(), left, "client {client}");
                let lossy = of.lossy;
                self.checker.stays.extend(stay.filter(|_| !lossy));
            }
            (&Command::Send { channel, .. }, Answer::Sent(offset)) => {
                if let Some(stay) = of.stays.get_mut(&channel) {
                    stay.own_offsets.extend(offset);
                    assert!(offset.is_some(), "client {client} itself listens in c{channel}");
                }
            }
            (Command::Members { limit, .. }, Answer::Members { next, ids, .. }) => {
                assert!(ids.len() <= *limit && (next.is_none() || ids.len() == *limit));
                let unique: HashSet<&String> = ids.iter().collect();
                assert_eq!(unique.len(), ids.len(), "nobody is listed twice");
                let directory = self.directory.read().expect(POISON);
                assert!(ids.iter().all(|id| directory[id].1 == of.app), "members of this app");
            }
            (Command::Wrong { code, .. }, Answer::Error(got)) => assert_eq!(*code, got),
            (Command::Broadcast { .. }, Answer::Sent(None))
            | (Command::Update { .. }, Answer::Updated)
            | (Command::Session { valid: true }, Answer::Session)
            | (Command::Ping, Answer::Pong) => {}
            (_, Answer::Error(_)) if asked.expected.is_some() => {}
            (command, Answer::Error(code)) => {
                let may = match command {
                    Command::Send { .. } | Command::Broadcast { .. } => "overloaded",
                    Command::Join { .. } => "too_many_channels",
                    Command::Session { .. } => "invalid_session",
                    Command::Members { .. } => "invalid_cursor",
                    _ => "",
                };
                assert_eq!(code, may, "client {client}: {command:?}");
            }
            (command, answer) => panic!("client {client}: {answer:?} to {command:?}"),
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

    /// Brings the run to its end and judges it.
    pub(crate) fn finish(&mut self) {
        self.quiesce();
        self.check_answered();
        self.check_members();
        self.check_channels();
        if self.mode == Mode::Exact {
            (0..self.clients.len()).for_each(|client| self.check_against_model(client));
        }
        if let Err(violation) = self.take_checker().check() {
            panic!("{violation}");
        }
        self.close_all();
        self.quiesce();
        self.check_gone();
    }

    /// Every command and request has its answer.
    fn check_answered(&self) {
        assert!(self.requests.is_empty(), "every request is answered");
        for (client, of) in self.clients.iter().enumerate().filter(|(_, of)| of.open) {
            assert!(!of.paused, "client {client} waits for ever");
            assert!(of.asked.is_empty(), "client {client}: no answer to {:?}", of.asked[0].command);
        }
    }

    /// Hands out what is to be judged; what is received from now on is not.
    fn take_checker(&mut self) -> Checker {
        for engine in &self.engines {
            let counters = engine.counters();
            self.delegated += counters.delegated;
            self.overloaded += counters.overloaded;
            self.deliveries += counters.deliveries;
            self.missed += counters.missed;
        }
        self.collect_stays();
        self.judged = true;
        std::mem::take(&mut self.checker)
    }

    /// Leaves the orders that are held.
    pub(crate) fn release(&mut self) {
        while let Some(held) = self.held.pop() {
            self.engines[held.worker].leave_lock(held.channel, held.entered);
        }
    }

    /// Runs a turn of every engine.
    pub(crate) fn turn_all(&mut self) {
        (0..self.engines.len()).for_each(|worker| self.turn(worker));
    }

    /// Whether an engine has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.engines.iter().any(Engine::is_busy)
    }

    /// Of a part: when all parts have come to rest, what is to be judged of this one.
    pub(crate) fn take_part(&mut self) -> Checker {
        let clients: Vec<usize> = self.open().collect();
        clients.into_iter().for_each(|client| self.deliver(client));
        self.check_answered();
        self.take_checker()
    }

    fn collect_stays(&mut self) {
        for of in self.clients.iter_mut().filter(|of| of.open && !of.lossy) {
            let stays = std::mem::take(&mut of.stays).into_values();
            for mut stay in stays.chain([std::mem::take(&mut of.broadcasts)]) {
                stay.to_the_end = true;
                // A stay that was claimed on opening is in no stream by name.
                if of.observer {
                    let keys = stay.seen.iter().map(|seen| seen.key).collect();
                    self.checker.references.insert(stay.stream.clone(), keys);
                }
                self.checker.stays.push(stay);
            }
        }
        self.checker.stays.retain(|stay| !stay.stream.is_empty());
    }

    /// Who is where, by what the clients were told.
    fn memberships(&self) -> BTreeMap<(u32, usize), BTreeSet<usize>> {
        let mut all: BTreeMap<(u32, usize), BTreeSet<usize>> = BTreeMap::new();
        for client in self.open() {
            let of = &self.clients[client];
            for &channel in of.stays.keys() {
                all.entry((of.app, channel)).or_default().insert(client);
            }
        }
        all
    }

    /// Pages through every channel's members and compares.
    fn check_members(&mut self) {
        let memberships = self.memberships();
        if self.mode == Mode::Exact {
            let model: BTreeMap<(u32, usize), BTreeSet<usize>> =
                self.model.members().map(|(n, m)| (n, m.iter().map(|&p| p as usize).collect())).collect();
            assert_eq!(memberships, model);
        }
        for app in 0..self.rules.len() as u32 {
            for channel in 0..self.channels {
                let there = memberships.get(&(app, channel)).cloned().unwrap_or_default();
                let listed = self.list_members(app, channel, there.len());
                assert_eq!(listed, there, "members of c{channel}");
            }
        }
    }

    fn list_members(&mut self, app: u32, channel: usize, total: usize) -> BTreeSet<usize> {
        let limit = 1 + self.random.below(4);
        let asker = self.random.below(self.engines.len());
        let mut listed = BTreeSet::new();
        let mut after: Option<Cursor> = None;
        loop {
            let name = format!("c{channel}");
            let id = AppId(app as u16);
            let command = BackEndCommand::Members { channel: &name, limit, after };
            let page = match self.engines[asker].request(id, command, 0) {
                Some(page) => page,
                None => self.await_answer(asker),
            };
            let Ok(Outcome::Members(page)) = page else { panic!("{page:?}") };
            assert_eq!(page.total, total);
            for member in &page.members {
                let (client, of) = self.directory.read().expect(POISON)[&member.id.to_string()];
                let profile = self.clients[client as usize].profile;
                let said = member.profile.as_deref().map_or(0, |text| text.parse().expect("a number"));
                assert_eq!((of, said), (app, profile));
                assert!(member.user.is_none() || self.clients[client as usize].user);
                assert!(listed.insert(client as usize), "nobody is listed twice");
            }
            assert!(page.next.is_none() || page.members.len() == limit);
            after = page.next;
            if after.is_none() {
                return listed;
            }
        }
    }

    fn await_answer(&mut self, worker: usize) -> Result<Outcome, ReplyError> {
        for _ in 0..100 {
            self.engines.iter_mut().for_each(Engine::on_mail);
            if let Some((_, answer)) = self.engines[worker].take_answers().pop() {
                return answer;
            }
        }
        panic!("a query is lost");
    }

    /// Pages through every app's channels and compares.
    fn check_channels(&mut self) {
        let memberships = self.memberships();
        assert_eq!(self.node.channels(), memberships.len());
        for app in 0..self.rules.len() as u32 {
            let mut listed = BTreeMap::new();
            let mut after = None;
            loop {
                let limit = 1 + self.random.below(3);
                let command = BackEndCommand::Channels { prefix: "c", limit, after: after.as_deref() };
                let page = self.engines[0].request(AppId(app as u16), command, 0);
                let Some(Ok(Outcome::Channels(page))) = page else { panic!("{page:?}") };
                assert!(page.channels.len() <= limit);
                for (name, members) in page.channels {
                    let channel: usize = name[1..].parse().expect("channels are c0, c1, …");
                    assert!(listed.insert((app, channel), members).is_none());
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let of_app = memberships.iter().filter(|((of, _), _)| *of == app);
            let expected: BTreeMap<(u32, usize), usize> = of_app.map(|(&n, m)| (n, m.len())).collect();
            assert_eq!(listed, expected);
            let open = self.open().filter(|&client| self.clients[client].app == app).count();
            assert_eq!(self.node.sessions(AppId(app as u16)), open);
        }
    }

    /// What a client received of each stream is what it should have, less what it was told it missed.
    fn check_against_model(&self, client: usize) {
        let of = &self.clients[client];
        for channel in (0..self.channels).map(Some).chain([None]) {
            let seen = of.seen.get(&channel).map_or(&[][..], Vec::as_slice);
            let expected =
                self.model.expected.get(&(self.peer(client), channel)).map_or(&[][..], Vec::as_slice);
            let missed = of.missed.get(&channel).copied().unwrap_or(0);
            let context = || format!("client {client}, {channel:?}\n seen {seen:?}\n expected {expected:?}");
            if !of.lossy {
                let there = if of.open { expected } else { &expected[..seen.len().min(expected.len())] };
                assert_eq!(seen, there, "{}", context());
                continue;
            }
            let mut rest = expected.iter();
            assert!(seen.iter().all(|one| rest.any(|other| other == one)), "{}", context());
            let told = seen.len() as u64 + missed;
            let sent = expected.len() as u64;
            assert!(if of.open { told == sent } else { told <= sent }, "missed {missed}: {}", context());
        }
    }

    /// Closes every session, with turns in between.
    pub(crate) fn close_all(&mut self) {
        let clients: Vec<usize> = self.open().collect();
        for client in clients {
            if self.clients[client].open {
                self.close(client);
            }
            if self.random.chance(30) {
                let worker = self.random.below(self.engines.len());
                self.turn(worker);
            }
        }
    }

    /// When everybody is gone, nothing remains.
    pub(crate) fn check_gone(&self) {
        assert_eq!(self.node.channels(), 0, "every channel is reclaimed");
        assert!(self.engines.iter().all(|engine| engine.sessions() == 0));
        for worker in 0..self.node.workers() {
            assert!(self.node.mailbox(WorkerId(worker as u16)).is_empty());
        }
        for app in 0..self.rules.len() {
            assert_eq!(self.node.sessions(AppId(app as u16)), 0);
        }
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

/// Names a stream for the checker.
fn stream(app: u32, channel: usize, epoch: &str) -> String {
    format!("{app}/c{channel}/{epoch}")
}

/// Commands whose answer the checks depend on.
fn must_be_answered(command: &Command) -> bool {
    matches!(command, Command::Join { .. } | Command::Leave { .. } | Command::Send { .. })
        || matches!(command, Command::Members { .. })
}

fn binary_frame(envelope: &str, payload: &str) -> Vec<u8> {
    let length = u16::try_from(envelope.len()).expect("it is short");
    [&length.to_be_bytes()[..], envelope.as_bytes(), payload.as_bytes()].concat()
}
