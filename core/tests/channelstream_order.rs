//! Members of two dialects on several workers, whose clients and back ends publish at the same time: all
//! receive the same messages in one order, and every sender's messages in the order of sending.

mod support;
mod workers;

use fanfare_core::{
    app::ChannelstreamOptions,
    command::{BackEndCommand, Membership},
    dialect::{
        Format,
        channelstream::{Call, ConnId, Moment},
    },
    engine::Flow,
    id::AppId,
};
use serde_json::{Value, json};
use support::directory::{BackEnd, follow_up};
use workers::Workers;

const APP: AppId = AppId(0);
const WORKERS: usize = 3;
const SEEDS: u64 = 60;
const STEPS: u64 = 40;

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The members, and the numbers of the messages that each sender has sent.
struct Room {
    workers: Workers,
    back_end: BackEnd,
    natives: Vec<usize>,
    clients: Vec<usize>,
    sent: Vec<(usize, u64)>,
    /// Whether a member's input waits for its message.
    waits: bool,
}

/// The sender of the back end's messages.
const BACK_END: usize = usize::MAX;

impl Room {
    fn new(random: &mut Random) -> Self {
        let mut workers = Workers::new(WORKERS, 1 << 10, |app| {
            app.announce = false;
            app.channelstream = Some(ChannelstreamOptions::new("s3cret"));
        });
        let back_end = BackEnd::new(&workers.engines[0], Moment(1_700_000_000_000_000));
        let natives: Vec<usize> = (0..3).map(|_| workers.open(random.below(WORKERS))).collect();
        let mut room =
            Self { workers, back_end, natives, clients: Vec::new(), sent: Vec::new(), waits: false };
        for native in room.natives.clone() {
            room.workers.command(native, &json!({"type": "join", "channel": "room", "echo": false}));
            room.workers.run_until_idle();
        }
        for user in ["leia", "luke", "han"] {
            let worker = random.below(WORKERS);
            let client = room.announce(user, worker);
            room.clients.push(client);
        }
        room.workers.run_until_idle();
        for member in room.natives.iter().chain(&room.clients) {
            room.workers.received(*member);
        }
        room
    }

    /// A client that the back end announces and that comes to a worker.
    fn announce(&mut self, user: &str, worker: usize) -> usize {
        let body = json!({"username": user, "channels": ["room"]});
        let engine = &mut self.workers.engines[worker];
        let (status, answer) = self.back_end.call(engine, Call::Connect, &body).answer();
        assert_eq!(status, 200);
        let conn = ConnId::parse(answer["conn_id"].as_str().expect("it is text")).expect("it is an id");
        let client = self.workers.open_in(worker, Format::ChannelstreamFrames, Some(user));
        let engine = &mut self.workers.engines[worker];
        let session = engine.session_id(self.workers.sessions[client].1);
        let mut effects = Vec::new();
        self.back_end.directory.attach(conn, session, self.back_end.now, &mut effects);
        follow_up(engine, &effects);
        let membership = Membership::Begins;
        engine.request(APP, BackEndCommand::Enroll { session, channel: "room", membership }, 0);
        client
    }

    /// Some messages by one sender.
    fn publish(&mut self, step: u64, random: &mut Random) {
        if random.below(2) == 0 {
            let native = self.natives[random.below(self.natives.len())];
            self.sent.push((native, step));
            let message = json!({"n": step});
            let send = json!({"type": "send", "channel": "room", "event": "e", "message": message});
            self.waits |= self.workers.send(native, &send) != Flow::Continue;
            return;
        }
        let numbers = [step, step + STEPS, step + 2 * STEPS];
        let numbers = &numbers[..1 + random.below(3)];
        self.sent.extend(numbers.iter().map(|n| (BACK_END, *n)));
        let item = |n: &u64| json!({"user": "x", "channel": "room", "message": {"n": n}});
        let body: Value = numbers.iter().map(item).collect();
        let engine = &mut self.workers.engines[random.below(WORKERS)];
        assert_eq!(self.back_end.call(engine, Call::SendMessages, &body).answer().0, 200);
    }

    /// The numbers of the messages that a member has received.
    fn seen(&mut self, member: usize) -> Vec<u64> {
        let number = |object: &Value| object["message"]["n"].as_u64();
        let frames = self.workers.received(member);
        let objects = frames.iter().flat_map(|frame| match frame {
            Value::Array(objects) => objects.iter().collect(),
            object => vec![object],
        });
        objects.filter_map(number).collect()
    }
}

#[test]
fn members_of_two_dialects_receive_the_same_messages_in_one_order() {
    for seed in 1..=SEEDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut room = Room::new(&mut random);
        let mut delegated = 0;
        for step in 0..STEPS {
            if random.below(3) == 0 {
                // A worker that is inside the channel's order has the others delegate.
                let holder = room.workers.sessions[room.natives[0]].0;
                let channel = room.workers.node.channel(APP, Some("room")).expect("it has members");
                let entered = channel.lock.try_enter().expect("nobody is inside");
                room.publish(step, &mut random);
                room.workers.engines[holder].leave_lock(&channel, entered);
                delegated += 1;
            } else {
                room.publish(step, &mut random);
            }
            // What is not waited for may arrive late, in any turn.
            if std::mem::take(&mut room.waits) || random.below(2) == 0 {
                room.workers.run_until_idle();
            }
        }
        room.workers.run_until_idle();
        assert!(delegated > 0, "seed {seed} delegates nothing");
        let members: Vec<usize> = room.natives.iter().chain(&room.clients).copied().collect();
        let all: Vec<Vec<u64>> = members.iter().map(|member| room.seen(*member)).collect();
        assert_eq!(all[0].len(), room.sent.len(), "seed {seed}: each message once");
        for (member, seen) in members.iter().zip(&all) {
            assert_eq!(seen, &all[0], "seed {seed}: member {member} sees another order");
        }
        for native in &room.natives {
            let own = |sender: usize| room.sent.iter().filter(move |(by, _)| *by == sender).map(|(_, n)| *n);
            let seen = all[0].iter().copied().filter(|n| own(*native).any(|own| own == *n));
            assert!(seen.eq(own(*native)), "seed {seed}: the order of sender {native}");
        }
    }
}
