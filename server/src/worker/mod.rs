//! A worker: one thread, one event loop, and the connections it accepted.
//!
//! ```text
//!   turn:  poll ─▶ accept, read, decode ─▶ engine ─▶ mail ─▶ wake others ─▶ flush: one write per connection
//!            ▲        (as long as input is ready, within bounds)                        │
//!            └────────────── timers, disconnects, answers, reclaimed slots ◀────────────┘
//! ```
//!
//! This file owns the turn. The other files of this folder, in the order of a connection's life:
//!
//! | file | what it does |
//! |---|---|
//! | `waiting` | waits for events, until the next deadline |
//! | `accept`, `clients`, `capacity` | accepts sockets, finds the addresses of clients, counts connections |
//! | `secure` | does the handshakes of TLS |
//! | `input`, `handler` | reads and decodes sockets, hands messages over |
//! | `http` | speaks HTTP on a connection |
//! | `handshake`, `session` | makes WebSockets of requests, opens, parks and resumes sessions |
//! | `bare`, `lobby`, `back_end` | decodes WebSockets without a session: of clients, of back ends |
//! | `polling`, `outlets` | serves clients without a WebSocket, and holds their output |
//! | `agnost`, `channelstream` | answers the requests of these dialects |
//! | `lifecycle`, `deadlines` | ends connections, by command and by silence |
//! | `control`, `inquiry` | shares state with other threads, answers questions of the control plane |
//! | `timing`, `memory` | observes how long turns take, and how many bytes a worker holds |

mod accept;
mod agnost;
mod back_end;
mod bare;
mod capacity;
mod channelstream;
mod clients;
mod control;
mod deadlines;
mod handler;
mod handshake;
mod http;
mod input;
mod inquiry;
mod lifecycle;
mod lobby;
mod memory;
mod outlets;
mod polling;
mod secure;
mod session;
mod timing;
mod waiting;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use crossbeam::channel::Sender;
use fanfare_core::{
    dialect::PollConfig,
    engine::{Engine, Node},
    id::WorkerId,
    now::Now,
};
use hashbrown::HashMap;
use mio::{Events, Interest, Poll, Token, Waker};

pub use self::handler::{Greeting, MessageHandler};
use self::{
    accept::Accepting, back_end::Awaiting, channelstream::HeldCalls, inquiry::Inquiries, outlets::Strangers,
    session::Leaving, timing::Stamps, waiting::poll_once,
};
pub(crate) use self::{
    control::Control,
    inquiry::{Answered, Ask, Inquiry},
    session::HandedOver,
};
use crate::{
    config::Config,
    connection::{ConnectionId, ConnectionSlot, Connections, Flag, OutletSlot},
    control::metrics::{WorkerCounters, WorkerMetrics},
    http::api::Requests,
    listener::Listener,
    sys::{Clock, HttpDate, random},
    timers::{TICK_MS, Tick, Timers},
    trigger::manage::ManageRequest,
};

/// The shared read buffer.
const BUFFER_BYTES: usize = 64 << 10;
/// Times a turn looks for more input before it writes.
const GATHER_ROUNDS: usize = 8;
/// Events taken from one poll.
const EVENTS: usize = 1024;
/// The ticks after which the allocator gives back the memory of closed connections.
const TIDY_TICKS: Tick = (5000 / TICK_MS) as Tick;

/// Tokens of listeners count down from here; connections' are below 2^63.
const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX - 1;

/// One worker.
pub(crate) struct Worker {
    id: WorkerId,
    config: Arc<Config>,
    /// The generation of the worker's configuration.
    generation: u64,
    control: Arc<Control>,
    metrics: Arc<WorkerMetrics>,
    counters: WorkerCounters,
    poll: Poll,
    listeners: Vec<Listener>,
    accepting: Accepting,
    /// Until when no further refusal of a PROXY header is logged, in Unix seconds.
    proxy_quiet_until_s: u64,
    /// Accepting has paused, and not gone on since.
    starved: bool,
    engine: Engine,
    handler: MessageHandler,
    connections: Connections,
    requests: Requests,
    inquiries: Inquiries,
    awaited: Awaiting,
    /// Answers to calls of Channelstream that wait for other workers.
    held: HeldCalls,
    timers: Timers,
    clock: Clock,
    date: HttpDate,
    now: Tick,
    now_ms: u64,
    stamps: Stamps,
    /// Connections with input that was not read for want of budget.
    ready: VecDeque<ConnectionSlot>,
    /// Connections whose last word is part of this turn's output.
    closing: Vec<ConnectionSlot>,
    /// Connections whose held request was answered. Their input is handled at the end of the turn.
    answered: Vec<ConnectionId>,
    /// The WebSockets to which clients changed from polling, with the outlets that keep the clients' secrets
    /// known.
    upgraded: HashMap<u32, OutletSlot>,
    strangers: Strangers,
    poll_config: PollConfig,
    /// Connections that go to other workers at the end of the turn.
    leaving: Vec<Leaving>,
    securing: secure::Securing,
    /// The buffer for ciphertext before it is decrypted. Empty without TLS.
    ciphertext: Vec<u8>,
    out: BytesMut,
    /// When draining must be over.
    drain_deadline: Option<Tick>,
    /// Sessions that the drain closes, the next one first.
    departures: VecDeque<lifecycle::Departing>,
    /// When the memory of closed connections is given back.
    tidy_due: Option<Tick>,
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) id: WorkerId,
    pub(crate) config: Arc<Config>,
    pub(crate) node: Arc<Node>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) poll: Poll,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) handler: MessageHandler,
    /// Takes requests about triggers.
    pub(crate) manage: Sender<ManageRequest>,
}

/// A poll and the waker that interrupts it.
pub(crate) fn poll_and_waker() -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, waker))
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts { id, config, node, control, metrics, poll, mut listeners, handler, manage } = parts;
        for (at, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener.socket.source(), Token(LISTENERS - at), Interest::READABLE)?;
        }
        let poll_config = PollConfig::new(u64::from(config.ping_interval_ms), config.frame_bytes);
        Ok(Self {
            id,
            config,
            generation: 0,
            control,
            metrics,
            counters: WorkerCounters::default(),
            poll,
            listeners,
            accepting: Accepting::More,
            proxy_quiet_until_s: 0,
            starved: false,
            engine: Engine::new(id, node, random()),
            handler,
            connections: Connections::default(),
            requests: Requests::new(id, manage),
            inquiries: Inquiries::default(),
            awaited: Awaiting::default(),
            held: HeldCalls::default(),
            timers: Timers::new(),
            clock: Clock::new(),
            date: HttpDate::default(),
            now: 0,
            now_ms: 0,
            stamps: Stamps::default(),
            ready: VecDeque::new(),
            closing: Vec::new(),
            answered: Vec::new(),
            upgraded: HashMap::new(),
            strangers: Strangers::default(),
            poll_config,
            leaving: Vec::new(),
            securing: secure::Securing::default(),
            ciphertext: Vec::new(),
            out: BytesMut::new(),
            drain_deadline: None,
            departures: VecDeque::new(),
            tidy_due: None,
        })
    }

    /// Runs until drained.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        while !self.is_finished() {
            self.wait(&mut events)?;
            self.begin_turn();
            self.engine.on_early_mail();
            self.gather(&mut events, &mut buffer)?;
            self.stamp_read();
            self.engine.on_mail();
            self.tell_others();
            self.stamp_ordered();
            self.engine.flush(&mut self.connections);
            self.observe_stages();
            self.settle();
            self.expire();
            self.finish_turn();
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.drain_deadline.is_some_and(|deadline| self.connections.len() == 0 || self.now >= deadline)
    }

    fn begin_turn(&mut self) {
        self.stamps.began = Instant::now();
        let steady_ms = self.clock.ms_at(self.stamps.began);
        self.now = Tick::try_from(steady_ms / TICK_MS).unwrap_or(Tick::MAX);
        self.connections.now = self.now;
        self.now_ms = self.clock.unix_ms();
        self.engine.begin_turn(Now { unix_ms: self.now_ms, steady_ms });
        if self.generation != self.control.current.generation() {
            self.reconfigure();
        }
        if self.drain_deadline.is_none() && self.control.drain.load(Ordering::Relaxed) {
            self.drain();
        }
    }

    /// Takes over a reloaded configuration. Its listeners are those of the start.
    fn reconfigure(&mut self) {
        self.generation = self.control.current.generation();
        self.config = self.control.current.config();
        self.engine.set_apps(self.engine.node().apps());
        for listener in &mut self.listeners {
            listener.tls = listener.group.and_then(|place| self.config.tls_of(place)).cloned();
        }
        self.control.current.take(usize::from(self.id.0), self.generation);
    }

    /// Handles all input that is ready, looking again as long as more comes, so that what belongs together is
    /// written together.
    fn gather(&mut self, events: &mut Events, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..self.ready.len() {
            // What is left stays where it is: looking at each again in every turn would cost more than its
            // input.
            if self.engine.is_turn_full() {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            if let Some(outlet) = OutletSlot::of(slot) {
                self.resume_outlet(outlet);
                continue;
            }
            if let Some(connection) = self.connections.live(slot) {
                connection.flags.lower(Flag::Ready);
                self.on_readable(slot, buffer);
            }
        }
        self.take_handed_over();
        self.take_managed();
        self.take_inquiries();
        self.go_on_securing(buffer);
        for round in 1.. {
            let mut listening = matches!(self.accepting, Accepting::More);
            for event in events.iter() {
                match event.token() {
                    WAKER => {}
                    Token(token) if token > LISTENERS - self.listeners.len().max(1) => listening = true,
                    Token(token) => self.on_event(event, ConnectionId::from_token(token as u64), buffer),
                }
            }
            // While it pauses, whoever comes waits in the queue: the pause ends with a look at all listeners.
            if listening && !matches!(self.accepting, Accepting::Paused(_)) {
                self.accept();
            }
            let more = !events.is_empty() && self.engine.is_busy();
            if !more || round == GATHER_ROUNDS || self.engine.is_turn_full() {
                break;
            }
            poll_once(&mut self.poll, events, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// The present second, for an answer.
    fn date(&mut self) -> HttpDate {
        self.date.advance(self.now_ms / 1000);
        self.date
    }

    fn wake_others(&mut self) {
        for worker in self.engine.take_touched() {
            if self.engine.node().mailbox(worker).must_wake()
                && let Err(error) = self.control.wakers[usize::from(worker.0)].wake()
            {
                tracing::error!(%error, worker = worker.0, "a worker could not be woken");
            }
        }
    }

    /// Does what the engine and the writes of this turn ask for.
    fn settle(&mut self) {
        for outlet in self.connections.outlets.take_touched() {
            self.serve_outlet(outlet);
        }
        // The last word of each of these was part of the flush that is done.
        for slot in std::mem::take(&mut self.closing) {
            match OutletSlot::of(slot) {
                Some(outlet) => self.close_outlet(outlet),
                None => self.finish_close(slot),
            }
        }
        for slot in self.connections.take_broken() {
            self.close(slot);
        }
        for slot in self.connections.take_blocked() {
            self.watch_for_room(slot);
        }
        for (slot, why) in self.engine.take_disconnects() {
            self.disconnect(ConnectionSlot(slot), why);
        }
        for slot in self.engine.take_unpaused() {
            let slot = ConnectionSlot(slot);
            match OutletSlot::of(slot) {
                Some(outlet) => self.resume_outlet(outlet),
                None => self.guard(slot, |worker| worker.resume(slot)),
            }
        }
        for (token, answer) in self.engine.take_answers() {
            self.on_answer(token, answer);
        }
        for id in std::mem::take(&mut self.answered) {
            if self.connections.find(id).is_some() {
                self.guard(id.slot, |worker| worker.resume(id.slot));
            }
        }
    }

    fn finish_turn(&mut self) {
        self.finish_hand_over();
        for block in self.connections.take_released() {
            self.control.addresses.release(block);
        }
        let reclaimed = self.connections.reclaim();
        if reclaimed > 0 {
            self.tidy_due.get_or_insert(self.now.saturating_add(TIDY_TICKS));
            self.control.capacity.give_back(reclaimed);
        }
        self.counters.connections = self.connections.len() as u64;
        self.counters.polling = (self.connections.outlets.len() - self.upgraded.len()) as u64;
        self.counters.sessions = self.engine.sessions() as u64;
        self.counters.presence_ghost_seconds_max = self.engine.longest_parked_ms() / 1000;
        self.counters.mailbox_depth = self.engine.node().mailbox(self.id).depth() as u64;
        self.counters.sent_bytes_total = self.connections.sent_bytes();
        self.counters.take_engine(self.engine.counters());
        self.metrics.publish(&self.counters, &self.engine.counters().dialects);
        self.metrics.memory.publish(&self.memory());
        self.observe_turn();
    }
}
