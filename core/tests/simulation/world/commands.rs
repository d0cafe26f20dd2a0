//! What clients write: random commands, in frames, and the answers that they expect.

use fanfare_core::{engine::Flow, id::AppId, ws::Message};

use super::{Mode, World, clients::Client, receipts::stream};
use crate::{
    checker::{Key, Kind, Stay},
    client::Answer,
    command::{Command, WRONG},
};

/// Frames that a client has written and its engine has not taken yet.
pub(super) enum Frame {
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
pub(super) struct Asked {
    pub(super) id: Option<u64>,
    pub(super) command: Command,
    /// The answer that the model predicts, in exact mode.
    pub(super) expected: Option<Answer>,
}

impl World {
    /// Whether a client's engine has read all that the client has written, and takes more.
    fn may_send(&self, client: usize) -> bool {
        let of = &self.clients[client];
        let backlog = self.wire.0[of.connection as usize].bytes.len();
        let is_behind = self.engines[of.worker].is_behind(of.slot, backlog);
        !of.paused && of.unread.is_empty() && !is_behind
    }

    /// Frames that a turn left go on in the next, if their client has read enough.
    pub(super) fn go_on(&mut self, worker: usize) {
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

    pub(super) fn send_random(&mut self) {
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
    pub(super) fn send_burst(&mut self) {
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
            match self.clients[client].is_agnost() {
                true => {
                    frames.extend(self.packet(client, &command));
                    self.note(client, &command);
                }
                false => frames.push(self.frame(client, vec![command], false)),
            }
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
        if matches!(command, Command::Session { valid: true }) && !self.clients[client].is_agnost() {
            self.clients[client].user = true;
        }
        commands.push(command);
    }

    fn random_cursor(&mut self) -> Option<String> {
        let worker = self.random.below(self.engines.len());
        self.random.chance(30).then(|| format!("{worker}.{}", self.random.below(9)))
    }

    /// Sends commands in one frame; a binary one goes alone.
    pub(super) fn send_commands(&mut self, client: usize, mut commands: Vec<Command>) {
        if self.clients[client].is_agnost() {
            return commands.into_iter().for_each(|command| self.send_packet(client, command));
        }
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

    /// Sends a command in Agnost's dialect, which answers none: the model says what became of it.
    fn send_packet(&mut self, client: usize, command: Command) {
        if !self.clients[client].open {
            return;
        }
        let peer = self.peer(client);
        let had = |command: &Command, of: &Client| match command {
            Command::Join { channel, .. } | Command::Leave { channel, .. } => of.stays.contains_key(channel),
            _ => false,
        };
        let was_there = had(&command, &self.clients[client]);
        let frames = self.packet(client, &command);
        let answer = self.note(client, &command);
        if let (Command::Join { channel, .. }, Some(Answer::Joined { joined: true, .. })) =
            (&command, &answer)
        {
            self.clients[client].stays.insert(*channel, Stay { receiver: peer, ..Stay::default() });
        }
        self.hand_over(client, frames);
        let (Command::Join { channel, .. } | Command::Leave { channel, .. }) = command else { return };
        // With what the client receives now, its stay begins or is complete.
        let worker = self.clients[client].worker;
        self.engines[worker].flush(&mut self.wire);
        self.see_off(worker);
        for (connection, why) in self.engines[worker].take_disconnects() {
            self.disconnect(connection, why);
        }
        if !self.clients[client].open {
            return;
        }
        self.deliver(client);
        let app = self.clients[client].app;
        if let Some(stay) = self.clients[client].stays.get_mut(&channel).filter(|_| !was_there) {
            let of =
                self.node.channel(AppId(app as u16), Some(&format!("c{channel}"))).expect("it has a member");
            stay.stream = stream(app, channel, &format!("{:016x}", of.epoch()));
        }
        if let Some(Answer::Left(left)) = answer {
            assert_eq!(left, was_there, "client {client}");
            let stay = self.clients[client].stays.remove(&channel);
            self.checker.stays.extend(stay);
        }
    }

    /// The frames of a command in Agnost's dialect.
    fn packet(&mut self, client: usize, command: &Command) -> Vec<Frame> {
        let (peer, app) = (self.peer(client), self.clients[client].app);
        let text = command.write_packet(app, peer);
        if self.trace {
            eprintln!("{} client {client}: {text}", self.now_ms);
        }
        self.commands += 1;
        let bytes = command.binary(app, peer).map(|payload| Frame::Binary(payload.into_bytes()));
        [Frame::Text(text)].into_iter().chain(bytes).collect()
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
    pub(super) fn hand_over(&mut self, client: usize, frames: Vec<Frame>) {
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
        let expected = self.note(client, &command);
        let silent = id.is_none() && !matches!(expected, Some(Answer::Error(_)));
        if !silent || matches!(command, Command::Wrong { .. } | Command::Session { valid: false }) {
            self.clients[client].asked.push_back(Asked { id, command, expected });
        }
    }

    /// Applies a command to the model of the client that sends it. Returns the answer that the server owes,
    /// in exact mode.
    fn note(&mut self, client: usize, command: &Command) -> Option<Answer> {
        let peer = self.peer(client);
        let of = &mut self.clients[client];
        let echo = command.echo().unwrap_or(of.echo);
        let key = match *command {
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
        match self.mode {
            Mode::Exact => self.model.execute(peer, command),
            Mode::Contended => None,
        }
    }
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
