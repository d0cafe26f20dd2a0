//! Deliveries to clients: each delivery is checked on receipt and kept for the checks at the end.

use std::collections::HashSet;

use fanfare_core::{app::SlowConsumer, id::AppId};

use super::{Mode, POISON, World, commands::Asked};
use crate::{
    checker::{Key, Kind, Peer, Seen, Stay},
    client::{Answer, BACK_END, Received, read},
    command::Command,
};

impl World {
    /// Lets a client read what its line has sent.
    pub(super) fn deliver(&mut self, client: usize) {
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
        // A client's own leave comes with the answer, not from the stream.
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
}

/// Names a stream for the checker.
pub(super) fn stream(app: u32, channel: usize, epoch: &str) -> String {
    format!("{app}/c{channel}/{epoch}")
}
