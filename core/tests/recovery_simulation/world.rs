//! A process in one thread: engines moved by hand, clients that come and go, a back end, and a driver that
//! does random things in random order. Everything comes from the seed.
//!
//! A run is a row of bursts. In a burst anything may happen at any time: orders are held as by a thread that
//! is not scheduled, mail waits, connections break. Between two bursts everything comes to rest and is judged
//! (`judge.rs`). The clock, and what a channel may remember, change only then.

use std::collections::HashMap;

use fanfare_core::{
    app::HistoryLimits,
    command::{BackEndCommand, ChangeMessage, Outcome, Publish},
    dialect::native_http::Refusal,
    engine::{Engine, Flow},
    error::ReplyError,
    id::{AppId, MessageId},
    publication::Payload,
};
use serde_json::{Value, json};

use super::{
    client::{Asked, Client, News, Return, Seen},
    judge::Start,
    model::{Audience, Author, ChannelOp, Fate, Number, Op, Stream},
    random::Random,
    workers::Workers,
};

pub(super) const APP: AppId = AppId(0);

/// Users of the clients that come and go.
pub(super) const USERS: [&str; 3] = ["ada", "bob", "cy"];

/// The user of the witness, whom every message for some users is for, too.
pub(super) const WITNESS: &str = "eve";

/// A message that never was.
const NOBODYS: &str = "01234567-89ab-7def-8123-456789abcdef";

/// What this run is like.
pub(super) struct Style {
    pub(super) sender_edits: bool,
    pub(super) echo: bool,
    pub(super) channels: usize,
    /// The first `watched` channels have a witness that never leaves. Another channel may be removed and
    /// created again, but not for lack of memory, which could happen at any time.
    pub(super) watched: usize,
    /// What is forgotten depends on bytes as well, which the model does not count.
    pub(super) bounded_by_bytes: bool,
    /// What a worker's mailbox holds before messages for it are refused.
    pub(super) mailbox_depth: usize,
    /// Bytes that may be queued for a connection.
    pub(super) outbound_bytes: usize,
    /// Bytes that may be remembered.
    pub(super) history_bytes: usize,
    pub(super) limits: HistoryLimits,
}

impl Style {
    fn new(random: &mut Random) -> Self {
        let channel_bytes = if random.chance(10) { 1500 + random.below(4000) as u32 } else { u32::MAX };
        let history_bytes = if random.chance(15) { 4_000 + random.below(12_000) } else { 1 << 30 };
        let channels = 2 + random.below(3);
        Self {
            sender_edits: random.chance(80),
            echo: random.chance(50),
            channels,
            watched: if history_bytes < 1 << 30 { channels } else { channels - 1 },
            bounded_by_bytes: channel_bytes != u32::MAX || history_bytes < 1 << 30,
            mailbox_depth: if random.chance(15) { 1 << random.below(5) } else { 1 << 20 },
            outbound_bytes: if random.chance(15) { 800 + random.below(4000) } else { 1 << 22 },
            history_bytes,
            limits: HistoryLimits { bytes: channel_bytes, ..random_limits(random) },
        }
    }
}

/// Few messages or many, for a short time or a long one. No age is a whole number of seconds, as all times
/// are, so no message is just as old as it may be.
pub(super) fn random_limits(random: &mut Random) -> HistoryLimits {
    let messages = if random.chance(60) { 1 + random.below(7) as u32 } else { 1000 };
    let age_ms = if random.chance(40) { 1_500 + 1000 * random.below(8) as u32 } else { 3_600_500 };
    HistoryLimits { messages, age_ms, ..HistoryLimits::NONE }
}

/// What was counted in a run.
#[derive(Default, Debug)]
pub(crate) struct Totals {
    pub(crate) operations: u64,
    pub(crate) changes: u64,
    pub(crate) delegated: u64,
    pub(crate) recovered: u64,
    pub(crate) refused: u64,
    pub(crate) forgotten: u64,
    pub(crate) overloaded: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.changes += other.changes;
        self.delegated += other.delegated;
        self.recovered += other.recovered;
        self.refused += other.refused;
        self.forgotten += other.forgotten;
        self.overloaded += other.overloaded;
    }

    /// Whether everything happened that is to be tested.
    pub(crate) fn is_rich(&self) -> bool {
        let all =
            [self.operations, self.changes, self.delegated, self.recovered, self.refused, self.forgotten];
        all.into_iter().all(|count| count > 0)
    }
}

pub(crate) struct World {
    pub(super) random: Random,
    pub(super) style: Style,
    pub(super) workers: Workers,
    /// The first one is the witness.
    pub(super) clients: Vec<Client>,
    pub(super) ops: Vec<Op>,
    pub(super) streams: Vec<Stream>,
    /// Back-end requests that wait, by token.
    requests: HashMap<u64, Number>,
    /// Ids that anybody has seen, with their channels.
    ids: Vec<(usize, String)>,
    pub(super) now_ms: u64,
    /// What was received in this burst.
    pub(super) seen: Vec<Seen>,
    pub(super) returns: Vec<Return>,
    pub(super) start: Start,
    pub(crate) totals: Totals,
    trace: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0ff5e7);
        let style = Style::new(&mut random);
        let announce = random.chance(30);
        let workers = Workers::new(1 + random.below(4), style.mailbox_depth, |app| {
            app.announce = announce;
            app.echo = style.echo;
            app.sender_edits = style.sender_edits;
            app.history = style.limits;
            app.limits.outbound_bytes = style.outbound_bytes;
            app.limits.history_bytes = style.history_bytes;
        });
        let channels = style.channels;
        let mut clients = vec![Client::new(0, Some(WITNESS), channels)];
        for number in 1..4 + random.below(6) {
            let user = random.chance(70).then(|| *random.pick(&USERS));
            clients.push(Client::new(number, user, channels));
        }
        let mut world = Self {
            random,
            workers,
            clients,
            ops: Vec::new(),
            streams: (0..channels).map(|_| Stream::new(style.limits)).collect(),
            style,
            requests: HashMap::new(),
            ids: Vec::new(),
            now_ms: 1_700_000_000_000,
            seen: Vec::new(),
            returns: Vec::new(),
            start: Start::default(),
            totals: Totals::default(),
            trace: std::env::var_os("FANFARE_TRACE").is_some(),
        };
        world.connect(0);
        let watched =
            (0..world.style.watched).map(|channel| Asked::Join { channel, since: None, early: Vec::new() });
        world.send(0, watched.collect());
        world.rest();
        world
    }

    /// How much to do in a burst.
    pub(crate) fn steps(&mut self, most: usize) -> usize {
        let most = if self.random.chance(30) { 2 } else { most };
        1 + self.random.below(most)
    }

    /// Does one random thing. `depth`: how many orders are held meanwhile.
    pub(crate) fn step(&mut self, depth: usize) {
        match self.random.below(100) {
            0..12 => self.return_random(),
            12..17 => self.drop_random(),
            17..28 => self.move_random(),
            28..60 => self.send_random(),
            60..74 => self.request_random(),
            74..80 if depth < 2 => self.hold_random(depth),
            80..88 => {
                let client = self.random.below(self.clients.len());
                self.read(client);
            }
            _ => {
                let worker = self.random.below(self.workers.engines.len());
                self.turn(worker);
            }
        }
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", what());
        }
    }

    pub(super) fn channels(&self) -> usize {
        self.style.channels
    }

    /// A random client that is connected or not, and may send if it is. Not the witness.
    fn random_client(&mut self, connected: bool) -> Option<usize> {
        let fits = |client: &&Client| match &client.session {
            Some(session) => connected && client.number > 0 && !session.paused,
            None => !connected,
        };
        let all: Vec<usize> = self.clients.iter().filter(fits).map(|client| client.number).collect();
        (!all.is_empty()).then(|| *self.random.pick(&all))
    }

    fn connect(&mut self, client: usize) {
        let worker = self.random.below(self.workers.engines.len());
        let number = self.workers.open_as(worker, self.clients[client].user);
        self.trace(|| format!("client {client} is session {number} on worker {worker}"));
        self.clients[client].connect(number);
    }

    /// A client comes back to everything it knows, in one frame, or to some of it.
    fn return_random(&mut self) {
        let Some(client) = self.random_client(false) else { return };
        self.connect(client);
        let mut joins = Vec::new();
        for channel in 0..self.channels() {
            if self.clients[client].views[channel].is_some() && self.random.chance(90) {
                joins.push(self.join(client, channel));
            }
        }
        self.send(client, joins);
    }

    /// Joins anew, or with what it knows.
    fn join(&mut self, client: usize, channel: usize) -> Asked {
        let anew = self.random.chance(5);
        let view = self.clients[client].views[channel].as_ref().filter(|_| !anew);
        Asked::Join { channel, since: view.map(|view| view.position.clone()), early: Vec::new() }
    }

    /// The connection breaks. Of what the client has not read yet, some may still have arrived.
    fn drop_random(&mut self) {
        let candidates: Vec<usize> =
            self.clients.iter().skip(1).filter(|c| c.session.is_some()).map(|c| c.number).collect();
        if candidates.is_empty() {
            return;
        }
        let client = *self.random.pick(&candidates);
        let session = self.clients[client].session.as_ref().expect("it is connected").number;
        let mut frames = self.workers.received(session);
        frames.truncate(self.random.below(frames.len() + 2));
        self.take(client, frames);
        self.workers.close(session);
        let lost = self.clients[client].drop_connection();
        self.trace(|| format!("client {client} drops, losing {lost:?}"));
        lost.into_iter().for_each(|op| self.ops[op].fate = Fate::Lost);
    }

    /// A client joins or leaves a channel.
    fn move_random(&mut self) {
        let Some(client) = self.random_client(true) else { return };
        let channel = self.random.below(self.channels());
        if self.clients[client].session.as_ref().is_some_and(|session| session.is_moving(channel)) {
            return;
        }
        let leave = self.clients[client].is_member(channel) && self.random.chance(80);
        let asked = if leave { Asked::Leave { channel } } else { self.join(client, channel) };
        self.send(client, vec![asked]);
    }

    fn send_random(&mut self) {
        let Some(client) = self.random_client(true) else { return };
        let count = if self.random.chance(70) { 1 } else { 1 + self.random.below(4) };
        let mut commands = Vec::new();
        for _ in 0..count {
            if self.random.chance(8) {
                commands.push(Asked::History { channel: self.random.below(self.channels()) });
                continue;
            }
            // Of what a client does while it goes away only a witness knows whether it took place.
            let channel = self.random.below(self.style.watched);
            let session = self.clients[client].session.as_ref().expect("it is connected").number;
            let by = Author { client, session, user: self.clients[client].user };
            let deed = self.random_deed(channel, Some(client));
            commands.push(Asked::ChannelOp(self.operation(channel, deed, Some(by))));
        }
        self.send(client, commands);
    }

    fn operation(&mut self, channel: usize, deed: ChannelOp, by: Option<Author>) -> Number {
        self.totals.operations += 1;
        self.totals.changes += u64::from(!matches!(deed, ChannelOp::Send { .. }));
        self.ops.push(Op { channel, deed, by, fate: Fate::Open, meant: None });
        self.ops.len() - 1
    }

    fn random_deed(&mut self, channel: usize, by: Option<usize>) -> ChannelOp {
        if self.random.chance(60) {
            let mut audience = self.random_audience(true);
            // A session without user may not address signed-in members alone.
            audience.signed_in &= by.is_none_or(|client| self.clients[client].user.is_some());
            let echo = by.is_none() || self.random.chance(60);
            return ChannelOp::Send { audience, history: self.random.chance(85), echo };
        }
        let target = self.random_target(channel);
        // Which of several deletions took place is told by nobody if it was lost: those of clients are all
        // alike. Where there is a witness, it must see every change.
        let edit = self.random.chance(65);
        let audience = (self.random.chance(20) && (edit || by.is_none()))
            .then(|| self.random_audience(channel >= self.style.watched));
        let audience = audience.filter(|audience| *audience != Audience::default());
        match edit {
            true => ChannelOp::Edit { target, audience },
            false => ChannelOp::Delete { target, audience },
        }
    }

    /// Own messages and others', seen lately or long ago, or never.
    fn random_target(&mut self, channel: usize) -> String {
        let of: Vec<&String> = self.ids.iter().filter(|(of, _)| *of == channel).map(|(_, id)| id).collect();
        if of.is_empty() || self.random.chance(3) {
            return NOBODYS.into();
        }
        let lately = if self.random.chance(80) { of.len().min(6) } else { of.len() };
        of[of.len() - 1 - self.random.below(lately)].clone()
    }

    fn random_audience(&mut self, sessions: bool) -> Audience {
        let mut audience = Audience::default();
        match self.random.below(100) {
            0..60 => {}
            60..75 => audience.only = Some(vec![*self.random.pick(&USERS), WITNESS]),
            75..88 => audience.except = Some(vec![*self.random.pick(&USERS)]),
            88..92 => {
                audience.only = Some(vec![USERS[0], USERS[1], WITNESS]);
                audience.except = Some(vec![*self.random.pick(&USERS)]);
            }
            _ if sessions => {
                let there: Vec<usize> =
                    self.clients.iter().filter_map(|c| c.session.as_ref()).map(|s| s.number).collect();
                let number = *self.random.pick(&there);
                let (worker, slot) = self.workers.sessions[number];
                audience.session = Some((number, self.workers.engines[worker].session_id(slot)));
            }
            _ => {}
        }
        audience.signed_in = self.random.chance(10);
        audience
    }

    /// Sends commands in one frame.
    fn send(&mut self, client: usize, commands: Vec<Asked>) {
        if commands.is_empty() {
            return;
        }
        let mut written: Vec<Value> = commands.iter().map(|asked| self.write(asked)).collect();
        for (id, command) in written.iter_mut().enumerate() {
            command["id"] = json!(id);
        }
        let frame = if written.len() == 1 { written.remove(0) } else { Value::Array(written) };
        self.trace(|| format!("client {client}: {frame}"));
        let session = self.clients[client].session.as_mut().expect("it is connected");
        session.asked.extend(commands);
        let number = session.number;
        session.paused = self.workers.send(number, &frame) == Flow::Pause;
    }

    fn write(&mut self, asked: &Asked) -> Value {
        let name = |channel: usize| format!("c{channel}");
        match asked {
            Asked::Join { channel, since: None, .. } => json!({"type": "join", "channel": name(*channel)}),
            Asked::Join { channel, since: Some(since), .. } => {
                let since = json!({"epoch": since.epoch, "offset": since.offset});
                json!({"type": "join", "channel": name(*channel), "since": since})
            }
            Asked::Leave { channel } => json!({"type": "leave", "channel": name(*channel)}),
            Asked::History { channel } => {
                let mut command = json!({"type": "history", "channel": name(*channel)});
                command["limit"] = json!(1 + self.random.below(6));
                if self.random.chance(50) {
                    command["after"] = json!(self.random.next() % (self.streams[*channel].offset + 1));
                }
                command
            }
            &Asked::ChannelOp(number) => self.write_deed(number),
        }
    }

    fn write_deed(&mut self, number: Number) -> Value {
        let payload = self.payload(number);
        let op = &self.ops[number];
        let channel = format!("c{}", op.channel);
        let (mut command, audience) = match &op.deed {
            ChannelOp::Send { audience, history, echo } => {
                let mut command =
                    json!({"type": "send", "channel": channel, "event": "e", "message": payload});
                if !history {
                    command["no_history"] = json!(true);
                }
                command["echo"] = json!(echo);
                (command, Some(audience))
            }
            ChannelOp::Edit { target, audience } => {
                let command =
                    json!({"type": "edit", "channel": channel, "message_id": target, "message": payload});
                (command, audience.as_ref())
            }
            ChannelOp::Delete { target, audience } => {
                (json!({"type": "delete", "channel": channel, "message_id": target}), audience.as_ref())
            }
        };
        if let Some(audience) = audience {
            audience.write(&mut command);
        }
        command
    }

    fn payload(&mut self, number: Number) -> Value {
        let pad = if self.random.chance(30) { self.random.below(400) } else { 0 };
        json!({"n": number, "pad": "x".repeat(pad)})
    }

    /// The back end does something.
    fn request_random(&mut self) {
        let worker = self.random.below(self.workers.engines.len());
        let channel = self.random.below(self.channels());
        let deed = self.random_deed(channel, None);
        let number = self.operation(channel, deed, None);
        let payload = self.payload(number).to_string();
        let name = format!("c{channel}");
        let deed = self.ops[number].deed.clone();
        self.trace(|| format!("worker {worker} requests {number} in {name}: {deed:?}"));
        let engine = &mut self.workers.engines[worker];
        let (target, audience) = match &deed {
            ChannelOp::Send { audience, history, .. } => {
                let publish = Publish::new(Some(&name), "e", Payload::Json(&payload));
                let publish =
                    Publish { history: *history, audience: Some(Box::new(audience.of_request())), ..publish };
                let answer = engine.request(APP, BackEndCommand::publish(publish), number as u64);
                return self.requested(number, answer);
            }
            ChannelOp::Edit { target, audience } | ChannelOp::Delete { target, audience } => {
                (target, audience)
            }
        };
        let change = ChangeMessage {
            channel: &name,
            id: MessageId::parse(target).expect("it is one"),
            payload: matches!(deed, ChannelOp::Edit { .. }).then_some(Payload::Json(&payload)),
            audience: audience.as_ref().map(Audience::of_request),
        };
        let answer = engine.request(APP, BackEndCommand::Change(change), number as u64);
        self.requested(number, answer);
    }

    fn requested(&mut self, number: Number, answer: Option<Result<Outcome, ReplyError>>) {
        match answer {
            None => assert!(self.requests.insert(number as u64, number).is_none()),
            Some(Ok(Outcome::Sent { message_id, offset })) => {
                self.decide(number, Ok((message_id.to_string(), offset)));
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(error)) => self.decide(number, Err(Refusal::from(error).code.into())),
        }
    }

    fn decide(&mut self, number: Number, answer: Result<(String, Option<u64>), String>) {
        self.trace(|| format!("operation {number}: {answer:?}"));
        assert_eq!(self.ops[number].fate, Fate::Open, "one answer for each");
        self.ops[number].fate = match answer {
            Ok((id, offset)) => {
                self.know(self.ops[number].channel, &id);
                Fate::Done { id, offset }
            }
            Err(code) => Fate::Refused(code),
        };
    }

    fn know(&mut self, channel: usize, id: &str) {
        if !self.ids.iter().any(|(_, known)| known == id) {
            self.ids.push((channel, id.to_owned()));
        }
    }

    /// Somebody is inside the order of a channel for some steps, as a thread that is not scheduled.
    fn hold_random(&mut self, depth: usize) {
        let name = format!("c{}", self.random.below(self.channels()));
        let Some(channel) = self.workers.node.channel(APP, Some(&name)) else { return };
        let Some(entered) = channel.lock.try_enter() else { return };
        self.trace(|| format!("{name} is held"));
        for _ in 0..1 + self.random.below(12) {
            self.step(depth + 1);
        }
        self.trace(|| format!("{name} is left"));
        let worker = self.random.below(self.workers.engines.len());
        self.workers.engines[worker].leave_lock(&channel, entered);
    }

    /// One turn of a worker.
    pub(super) fn turn(&mut self, worker: usize) {
        let engine = &mut self.workers.engines[worker];
        engine.begin_turn(self.now_ms);
        engine.on_mail();
        let resumed = engine.take_unpaused();
        let answers = engine.take_answers();
        assert!(engine.take_disconnects().is_empty(), "nobody is slow");
        if self.random.chance(70) {
            self.workers.engines[worker].flush(&mut self.workers.sink);
        }
        for session in self.clients.iter_mut().filter_map(|client| client.session.as_mut()) {
            if resumed.contains(&(session.number as u32)) {
                assert!(std::mem::take(&mut session.paused), "it was paused");
            }
        }
        for (token, answer) in answers {
            let number = self.requests.remove(&token).expect("one answer for each request");
            self.requested(number, Some(answer));
        }
    }

    /// A client reads what has arrived.
    pub(super) fn read(&mut self, client: usize) {
        if let Some(session) = &self.clients[client].session {
            let frames = self.workers.received(session.number);
            self.take(client, frames);
        }
    }

    fn take(&mut self, client: usize, frames: Vec<Value>) {
        for frame in frames {
            self.trace(|| format!("client {client} receives {frame}"));
            let mut news = Vec::new();
            self.clients[client].read(frame, &mut news);
            for one in news {
                match one {
                    News::Seen(seen) => {
                        if let Some(id) = &seen.id {
                            self.know(seen.channel, id);
                        }
                        self.seen.push(seen);
                    }
                    News::Returned(back) => {
                        self.totals.recovered += u64::from(back.recovered);
                        self.totals.refused += u64::from(!back.recovered);
                        self.returns.push(back);
                    }
                    News::Answer(number, answer) => self.decide(number, answer),
                }
            }
        }
    }

    /// Lets everything come to rest: nothing is held, no mail waits, everybody has read everything.
    pub(super) fn quiesce(&mut self) {
        for _ in 0..1000 {
            (0..self.workers.engines.len()).for_each(|worker| self.turn(worker));
            if !self.workers.engines.iter().any(Engine::is_busy) {
                (0..self.clients.len()).for_each(|client| self.read(client));
                assert!(self.requests.is_empty(), "every request is answered");
                return;
            }
        }
        panic!("it does not come to rest");
    }
}
