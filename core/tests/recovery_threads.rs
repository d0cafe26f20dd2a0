//! Sessions that come and go on several threads while others publish at full speed: each sees every message
//! once and in order, whether it comes live or is recovered.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use fanfare_core::{
    app::{App, AppKeys, Apps, HistoryLimits},
    dialect::Format,
    engine::{Engine, Flow, Node},
    id::{SessionSlot, WorkerId},
    ws::Message,
};
use serde_json::{Value, json};
use support::{Memory, open};

const WORKERS: u16 = 4;
const READERS: u32 = 6;
const MESSAGES: u64 = 4_000;
/// How far publishers may be ahead of the slowest reader, so that what it missed can be recovered at once.
const AHEAD: u64 = 2_000;
const TOTAL: u64 = MESSAGES * WORKERS as u64;

#[test]
fn whoever_comes_back_misses_nothing_while_others_publish() {
    let mut app = App::new("default", AppKeys::default());
    app.history = HistoryLimits { messages: 65_536, bytes: u32::MAX, ..HistoryLimits::NONE };
    app.limits.outbound_bytes = usize::MAX;
    app.announce = false;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), WORKERS.into(), 1 << 20, 7));
    let progress = Progress::default();
    let returns: u64 = thread::scope(|scope| {
        let progress = &progress;
        let threads: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let node = node.clone();
                scope.spawn(move || Thread::new(worker, node).run(progress))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    assert!(returns > 100, "{returns}");
}

/// What the threads know of each other.
#[derive(Default)]
struct Progress {
    published: AtomicU64,
    /// For each worker, what its slowest reader has seen.
    seen: [AtomicU64; WORKERS as usize],
    failed: AtomicBool,
}

impl Progress {
    fn may_publish(&self) -> bool {
        let slowest = self.seen.iter().map(|seen| seen.load(Ordering::Relaxed)).min().unwrap_or_default();
        self.published.load(Ordering::Relaxed) < slowest + AHEAD
    }
}

/// Tells the other threads not to wait for one that panics.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A session that reads, and comes and goes.
struct Reader {
    slot: SessionSlot,
    connection: u32,
    epoch: Value,
    last: u64,
    joining: bool,
}

struct Thread {
    worker: u16,
    engine: Engine,
    sink: Memory,
    readers: Vec<Reader>,
    publisher: SessionSlot,
    next_connection: u32,
    random: u64,
    returns: u64,
}

impl Thread {
    fn new(worker: u16, node: Arc<Node>) -> Self {
        let mut engine = Engine::new(WorkerId(worker), node, u64::from(worker) + 1);
        engine.begin_turn(1_000);
        let publisher = open(&mut engine, 0, Format::Native);
        let random = 0x9e37_79b9_7f4a_7c15 ^ u64::from(worker);
        let sink = Memory::default();
        Self { worker, engine, sink, readers: Vec::new(), publisher, next_connection: 1, random, returns: 0 }
    }

    fn run(mut self, progress: &Progress) -> u64 {
        let _alarm = Alarm(&progress.failed);
        self.readers = (0..READERS).map(|_| self.connect(Value::Null, 0)).collect();
        let (mut sent, mut may_send) = (0, true);
        loop {
            if may_send
                && sent < MESSAGES
                && progress.may_publish()
                && self.readers.iter().all(|reader| !reader.epoch.is_null())
            {
                sent += 1;
                let message = json!({"type": "send", "channel": "room", "event": "e", "message": sent});
                may_send = self.engine.receive(self.publisher, Message::Text(&message.to_string()))
                    == Flow::Continue;
                progress.published.fetch_add(1, Ordering::Relaxed);
            }
            self.engine.on_mail();
            self.engine.flush(&mut self.sink);
            may_send |= self.engine.take_unpaused().contains(&0);
            for at in 0..self.readers.len() {
                self.read(at);
            }
            let slowest = self.readers.iter().map(|reader| reader.last).min().unwrap_or_default();
            progress.seen[usize::from(self.worker)].store(slowest, Ordering::Relaxed);
            let done = progress.published.load(Ordering::Relaxed) == TOTAL;
            if done && slowest == TOTAL || progress.failed.load(Ordering::Relaxed) {
                return self.returns;
            }
            if !done {
                self.maybe_return();
            }
        }
    }

    fn connect(&mut self, epoch: Value, last: u64) -> Reader {
        let connection = self.next_connection;
        self.next_connection += 1;
        let slot = open(&mut self.engine, connection, Format::Native);
        let mut join = json!({"id": "join", "type": "join", "channel": "room"});
        if !epoch.is_null() {
            join["since"] = json!({"epoch": epoch, "offset": last});
        }
        match self.engine.receive(slot, Message::Text(&join.to_string())) {
            // Either way nothing more is sent before the answer.
            Flow::Continue | Flow::Pause | Flow::Yield => {}
        }
        Reader { slot, connection, epoch, last, joining: true }
    }

    fn read(&mut self, at: usize) {
        for frame in self.sink.take_json(self.readers[at].connection) {
            let reader = &mut self.readers[at];
            if frame["id"] == "join" {
                reader.joining = false;
                if reader.epoch.is_null() {
                    reader.epoch = frame["ok"]["epoch"].clone();
                    reader.last = frame["ok"]["offset"].as_u64().expect("a number");
                } else {
                    assert_eq!(frame["ok"]["recovered"], true, "{frame}");
                    let missed = frame["ok"]["missed"].as_u64().expect("a number");
                    assert_eq!(frame["ok"]["offset"], reader.last + missed);
                }
            } else if let Some(offset) = frame["offset"].as_u64() {
                assert!(!reader.joining, "a message before the answer");
                assert_eq!(offset, reader.last + 1, "a gap, a repetition or another order");
                reader.last = offset;
            }
        }
    }

    /// Lets a reader go and come back, sometimes before it even was there.
    fn maybe_return(&mut self) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let draw = self.random >> 33;
        let at = (draw % u64::from(READERS)) as usize;
        let reader = &self.readers[at];
        if !draw.is_multiple_of(8) || reader.epoch.is_null() || reader.joining && !draw.is_multiple_of(1024) {
            return;
        }
        self.read(at);
        self.engine.close(self.readers[at].slot);
        self.engine.flush(&mut self.sink);
        let Reader { epoch, last, connection, .. } = &self.readers[at];
        let (epoch, last) = (epoch.clone(), *last);
        self.sink.take_json(*connection);
        self.readers[at] = self.connect(epoch, last);
        self.returns += 1;
    }
}
