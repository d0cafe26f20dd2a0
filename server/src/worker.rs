//! A worker: one thread, one event loop, and the connections it accepted.
//!
//! ```text
//!   turn:  poll ─▶ accept, read, decode ─▶ engine ─▶ mail ─▶ wake others ─▶ flush: one write per touched connection
//!            ▲        (as long as input is ready, within bounds)                        │
//!            └────────────── timers, disconnects, answers, vacated slots ◀──────────────┘
//! ```
//!
//! Sockets are edge-triggered: a read goes on until the kernel has no more, or the connection goes on the ready list. A read that
//! did not fill the buffer has emptied the socket (epoll(7), "Questions and answers", 9), unless the peer has closed.

use std::{
    collections::VecDeque,
    io::{self, Read},
    iter::once,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fanfare_core::{
    disconnect::Disconnect,
    engine::{Engine, Flow, Node},
    id::{SessionSlot, WorkerId},
    ws::{Message, OpCode, Role, put_close, put_frame},
};
use mio::{Events, Interest, Poll, Token, Waker, event::Event, net::TcpListener};

use crate::{
    config::Config,
    connection::{Connection, ConnectionId, Connections, Protocol},
    exchange,
    listener::{Accepted, PAUSE_MS, accept},
    metrics::{Numbers, WorkerMetrics},
    rest::Requests,
    sys::{Clock, random},
    timers::{TICK_MS, Tick, Timers},
};

/// What a connection's messages mean. Fanfare's own is [`Commands`]; the conformance example brings an echo.
pub trait Handler: Send + 'static {
    /// Whether a connection is greeted.
    const WELCOMES: bool;

    /// Handles text and binary messages, in order. Those that are not taken when it pauses are handed over later.
    fn on_messages<'m>(
        &mut self,
        engine: &mut Engine,
        session: SessionSlot,
        messages: impl Iterator<Item = Message<'m>>,
    ) -> Flow;
}

/// Messages are commands.
#[derive(Copy, Clone, Default, Debug)]
pub struct Commands;

impl Handler for Commands {
    const WELCOMES: bool = true;

    #[inline]
    fn on_messages<'m>(
        &mut self,
        engine: &mut Engine,
        session: SessionSlot,
        messages: impl Iterator<Item = Message<'m>>,
    ) -> Flow {
        engine.receive_all(session, messages)
    }
}

/// The shared read buffer.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes read from one connection before others get their turn.
const READ_BUDGET: usize = 4 * BUFFER_BYTES;
/// Connections accepted before others get their turn.
const ACCEPT_BUDGET: usize = 128;
/// Times a turn looks for more input before it writes.
const GATHER_ROUNDS: usize = 8;
/// Events taken from one poll.
const EVENTS: usize = 1024;
/// How often a worker that sleeps looks after what its channels remember.
const SWEEP_TICKS: Tick = (1000 / TICK_MS) as Tick;
/// How long a connection whose last word is said may take to end.
const LINGER_MS: u64 = 2_000;
/// The same, for one that still has much to read.
const SLOW_LINGER_MS: u64 = 10_000;

/// What stands for the code of a close frame without one, and of none at all (RFC 6455, section 7.4.1).
const NO_STATUS: u16 = 1005;
const ABNORMAL: u16 = 1006;

/// Tokens of listeners count down from here; connections' are below 2^63.
const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX - 1;

/// Wakes workers, and tells them to stop.
pub(crate) struct Control {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) drain: AtomicBool,
    /// Connections of all workers, and how many there may be.
    pub(crate) connections: AtomicUsize,
    pub(crate) capacity: usize,
}

/// One worker.
pub(crate) struct Worker<H> {
    pub(crate) id: WorkerId,
    pub(crate) config: Arc<Config>,
    control: Arc<Control>,
    metrics: Arc<WorkerMetrics>,
    pub(crate) numbers: Numbers,
    poll: Poll,
    listeners: Vec<TcpListener>,
    accepting: Accepting,
    /// Accepting has paused, and not gone on since.
    starved: bool,
    pub(crate) engine: Engine,
    pub(crate) handler: H,
    pub(crate) connections: Connections,
    pub(crate) requests: Requests,
    timers: Timers,
    clock: Clock,
    pub(crate) now: Tick,
    pub(crate) now_ms: u64,
    /// Connections with input that was not read for want of budget.
    ready: VecDeque<u32>,
    /// Connections that are to be shut down once all is sent.
    closing: Vec<(u32, Then)>,
    pub(crate) out: BytesMut,
    /// When draining must be over.
    deadline: Option<Tick>,
}

/// What follows our last word on a connection.
#[derive(Copy, Clone)]
enum Then {
    /// Nothing: the peer has said its own last word.
    Close,
    /// The peer's end, or the deadline.
    AwaitPeer,
}

/// Whether there are connections to accept.
enum Accepting {
    /// The kernel tells when.
    Idle,
    /// The budget ran out.
    More,
    /// Descriptors ran out; try again then.
    Paused(Tick),
}

/// What a worker is made of.
pub(crate) struct Parts<H> {
    pub(crate) id: WorkerId,
    pub(crate) config: Arc<Config>,
    pub(crate) node: Arc<Node>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) poll: Poll,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) handler: H,
}

/// A poll and the waker that interrupts it.
pub(crate) fn poll_and_waker() -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, waker))
}

impl<H: Handler> Worker<H> {
    pub(crate) fn new(parts: Parts<H>) -> io::Result<Self> {
        let Parts { id, config, node, control, metrics, poll, mut listeners, handler } = parts;
        for (at, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(LISTENERS - at), Interest::READABLE)?;
        }
        Ok(Self {
            id,
            config,
            control,
            metrics,
            numbers: Numbers::default(),
            poll,
            listeners,
            accepting: Accepting::More,
            starved: false,
            engine: Engine::new(id, node, random()),
            handler,
            connections: Connections::default(),
            requests: Requests::default(),
            timers: Timers::new(),
            clock: Clock::new(),
            now: 0,
            now_ms: 0,
            ready: VecDeque::new(),
            closing: Vec::new(),
            out: BytesMut::new(),
            deadline: None,
        })
    }

    /// Runs until drained.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        while !self.is_finished() {
            self.wait(&mut events)?;
            self.begin_turn();
            self.gather(&mut events, &mut buffer)?;
            self.engine.on_mail();
            self.wake_others();
            self.engine.flush(&mut self.connections);
            self.settle();
            self.expire();
            self.finish_turn();
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.connections.len() == 0 || self.now >= deadline)
    }

    /// Waits for events, unless there is work already.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        if self.has_work() || !self.may_sleep() {
            return poll_once(&mut self.poll, events, Some(Duration::ZERO));
        }
        if self.config.spin_us > 0 {
            let start = Instant::now();
            let spin = Duration::from_micros(u64::from(self.config.spin_us));
            while start.elapsed() < spin {
                poll_once(&mut self.poll, events, Some(Duration::ZERO))?;
                if !events.is_empty() || self.has_work() {
                    self.mailbox_awake();
                    return Ok(());
                }
            }
        }
        let timeout = self.sleep();
        poll_once(&mut self.poll, events, timeout)?;
        self.mailbox_awake();
        Ok(())
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.closing.is_empty()
            || matches!(self.accepting, Accepting::More)
            || self.engine.is_busy()
    }

    fn may_sleep(&self) -> bool {
        self.engine.node().mailbox(self.id).fall_asleep()
    }

    fn mailbox_awake(&self) {
        self.engine.node().mailbox(self.id).awake();
    }

    /// How long to sleep at most: until the next deadline.
    fn sleep(&self) -> Option<Duration> {
        let mut next = self.timers.next_due();
        if let Accepting::Paused(until) = self.accepting {
            next = Some(next.map_or(until, |next| next.min(until)));
        }
        if let Some(deadline) = self.deadline {
            next = Some(next.map_or(deadline, |next| next.min(deadline)));
        }
        if self.engine.wants_sweep() {
            let sweep = self.now.saturating_add(SWEEP_TICKS);
            next = Some(next.map_or(sweep, |next| next.min(sweep)));
        }
        let next_ms = u64::from(next?) * TICK_MS;
        // One millisecond more, so that the tick has come when we look.
        Some(Duration::from_millis(next_ms.saturating_sub(self.clock.elapsed_ms()) + 1))
    }

    fn begin_turn(&mut self) {
        self.now = Tick::try_from(self.clock.elapsed_ms() / TICK_MS).unwrap_or(Tick::MAX);
        self.connections.now = self.now;
        self.now_ms = self.clock.unix_ms();
        self.engine.begin_turn(self.now_ms);
        if self.deadline.is_none() && self.control.drain.load(Ordering::Relaxed) {
            self.drain();
        }
    }

    /// Handles all input that is ready, looking again as long as more comes, so that what belongs together is
    /// written together.
    fn gather(&mut self, events: &mut Events, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..self.ready.len() {
            // What is left stays where it is: looking at each again in every turn would cost more than its input.
            if self.engine.is_turn_full() {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            if let Some(connection) = self.connections.live(slot) {
                connection.ready = false;
                self.on_readable(slot, buffer);
            }
        }
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

    fn on_event(&mut self, event: &Event, id: ConnectionId, buffer: &mut [u8]) {
        let Some(connection) = self.connections.find(id) else { return };
        if event.is_writable() && !connection.is_flushed() {
            self.on_writable(id.slot);
        }
        let Some(connection) = self.connections.find(id) else { return };
        if event.is_read_closed() || event.is_error() {
            connection.half_closed = true;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.on_readable(id.slot, buffer);
        }
    }

    /// Reads until the socket is empty or the budget is spent.
    fn on_readable(&mut self, slot: u32, buffer: &mut [u8]) {
        let mut budget = READ_BUDGET;
        while let Some(connection) = self.connections.live(slot) {
            if connection.paused || connection.held {
                return;
            }
            if budget == 0 || self.engine.is_turn_full() {
                return self.make_ready(slot);
            }
            let n = match connection.stream.read(buffer) {
                Ok(0) => return self.on_end(slot),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.close(slot),
            };
            self.numbers.received_bytes_total += n as u64;
            budget = budget.saturating_sub(n);
            let emptied = n < buffer.len() && !connection.half_closed;
            self.feed(slot, &mut buffer[..n]);
            if emptied {
                return;
            }
        }
    }

    /// Puts a connection on the ready list: it goes on in the next turn without waiting for an edge.
    pub(crate) fn make_ready(&mut self, slot: u32) {
        if let Some(connection) = self.connections.live(slot)
            && !std::mem::replace(&mut connection.ready, true)
        {
            self.ready.push_back(slot);
        }
    }

    /// Handles input.
    fn feed(&mut self, slot: u32, input: &mut [u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        match &mut connection.protocol {
            Protocol::Http(_) => exchange::feed(self, slot, input),
            Protocol::WebSocket { .. } => self.feed_frames(slot, input),
            Protocol::Closing | Protocol::Dead => {}
        }
    }

    pub(crate) fn feed_frames(&mut self, slot: u32, input: &mut [u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::WebSocket { decoder, session } = &mut connection.protocol else { return };
        let (mut taken, session) = (std::mem::take(decoder), *session);
        connection.heard = self.now;
        connection.pinged = false;
        let limits = fanfare_core::ws::DecodeLimits {
            message_bytes: self.config.frame_bytes,
            fragments: self.config.fragments,
        };
        let mut at = 0;
        // Asking once more than there are messages lets the decoder free a long message that was delivered.
        while at < input.len() || !taken.is_idle() {
            let mut messages = taken.messages(&mut input[at..], Role::Server, limits);
            let mut flow = self.handler.on_messages(&mut self.engine, session, &mut messages);
            match messages.end() {
                Ok(consumed) => at += consumed,
                Err(error) => return self.disconnect(slot, Disconnect::Protocol(error)),
            }
            if flow == Flow::Pause {
                self.pause(slot, &input[at..]);
                break;
            }
            // What is not there as a whole, and control frames.
            let decoded = match taken.decode(&mut input[at..], Role::Server, limits) {
                Ok(decoded) => decoded,
                Err(error) => return self.disconnect(slot, Disconnect::Protocol(error)),
            };
            at += decoded.consumed;
            flow = match decoded.message {
                None => break,
                Some(Message::Ping(data)) => {
                    self.engine.reply(session, |out| put_frame(out, OpCode::Pong, data));
                    Flow::Continue
                }
                Some(Message::Pong(_)) => Flow::Continue,
                Some(Message::Close(frame)) => {
                    let code = frame.map(|frame| frame.code);
                    return self.on_close_frame(slot, code);
                }
                Some(message) => self.handler.on_messages(&mut self.engine, session, once(message)),
            };
            if flow == Flow::Pause {
                self.pause(slot, &input[at..]);
                break;
            }
        }
        if let Some(Connection { protocol: Protocol::WebSocket { decoder, .. }, .. }) =
            self.connections.live(slot)
        {
            *decoder = taken;
        }
    }

    /// Keeps the rest of a read for when the connection goes on.
    pub(crate) fn pause(&mut self, slot: u32, rest: &[u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        connection.paused = true;
        if !rest.is_empty() {
            connection.input = Some(Box::new(rest.to_vec()));
        }
    }

    /// A connection that was paused or held goes on, first with the input that waited.
    pub(crate) fn resume(&mut self, slot: u32) {
        let Some(connection) = self.connections.live(slot) else { return };
        connection.paused = false;
        connection.held = false;
        match connection.protocol {
            Protocol::Http(_) => exchange::feed(self, slot, &mut []),
            _ => {
                if let Some(mut input) = connection.input.take() {
                    self.feed_frames(slot, &mut input);
                }
            }
        }
        self.make_ready(slot);
    }

    /// The peer has sent its last.
    fn on_end(&mut self, slot: u32) {
        let Some(connection) = self.connections.live(slot) else { return };
        match connection.protocol {
            Protocol::Http(_) if !connection.is_flushed() => connection.half_closed = true,
            _ => self.close(slot),
        }
    }

    fn on_writable(&mut self, slot: u32) {
        let now = self.now;
        let Some(connection) = self.connections.live(slot) else { return };
        match connection.send_queued(now) {
            Ok(false) => {}
            Ok(true) => match connection.protocol {
                Protocol::WebSocket { session, .. } => self.engine.on_drained(session),
                Protocol::Closing => self.shut_down(slot),
                Protocol::Http(_) => exchange::on_drained(self, slot),
                Protocol::Dead => {}
            },
            Err(_) => self.close(slot),
        }
    }

    /// The peer's close frame: answered with its code, and then the connection is over (RFC 6455, section 5.5.1).
    fn on_close_frame(&mut self, slot: u32, code: Option<u16>) {
        self.log_end(slot, code.unwrap_or(NO_STATUS), "the peer closed it");
        self.end(slot, LINGER_MS, Then::Close, |out| match code {
            Some(code) => put_close(out, code, "", None),
            None => put_frame(out, OpCode::Close, &[]),
        });
    }

    /// Tells a WebSocket peer why, and ends its session.
    pub(crate) fn disconnect(&mut self, slot: u32, why: Disconnect) {
        match why {
            Disconnect::Protocol(_) => self.numbers.protocol_errors_total += 1,
            Disconnect::PingTimeout => self.numbers.ping_timeouts_total += 1,
            Disconnect::ByServer { .. } => self.numbers.disconnected_total += 1,
            Disconnect::Restart => self.numbers.drained_total += 1,
            // The engine counts these.
            Disconnect::SlowConsumer => {}
        }
        let linger_ms = if why == Disconnect::SlowConsumer { SLOW_LINGER_MS } else { LINGER_MS };
        self.log_end(slot, why.code(), why.reason());
        self.end(slot, linger_ms, Then::AwaitPeer, |out| put_close(out, why.code(), why.reason(), None));
    }

    /// Logs the end of a session. Once each: from here on its connection has none.
    fn log_end(&mut self, slot: u32, code: u16, why: &'static str) {
        if let Some(Connection { protocol: Protocol::WebSocket { session, .. }, .. }) =
            self.connections.live(slot)
        {
            let (engine, session) = (&self.engine, *session);
            let app = &engine.session_app(session).name;
            tracing::debug!(%app, session = %engine.session_id(session), code, why, "a session ends");
        }
    }

    fn end(&mut self, slot: u32, linger_ms: u64, then: Then, last: impl FnOnce(&mut BytesMut)) {
        let Some(connection) = self.connections.live(slot) else { return };
        if let Protocol::WebSocket { session, .. } = connection.protocol {
            connection.protocol = Protocol::Closing;
            connection.input = None;
            // What it has sent meanwhile is read and discarded: nobody else would tell us of it.
            if std::mem::take(&mut connection.paused) {
                self.make_ready(slot);
            }
            self.engine.end(session, last);
            self.linger(slot, linger_ms, then);
        }
    }

    /// Gives a connection whose last word is said some time to end. Its side is shut down once that is sent.
    fn linger(&mut self, slot: u32, linger_ms: u64, then: Then) {
        self.arm(slot, self.now + Tick::try_from(linger_ms / TICK_MS).expect("it is short"));
        self.closing.push((slot, then));
    }

    /// Ends an HTTP connection after the response that was just sent.
    pub(crate) fn end_http(&mut self, slot: u32) {
        if let Some(connection) = self.connections.live(slot) {
            connection.protocol = Protocol::Closing;
            connection.paused = false;
            let linger_ms = if connection.is_flushed() { LINGER_MS } else { SLOW_LINGER_MS };
            connection.input = None;
            // What it has not read yet is discarded, for a socket closed with input in it loses what was sent.
            if std::mem::take(&mut connection.held) {
                self.make_ready(slot);
            }
            self.linger(slot, linger_ms, Then::AwaitPeer);
        }
    }

    /// Sends our FIN after the last byte, so that the peer sees it all before the end.
    fn shut_down(&mut self, slot: u32) {
        if let Some(connection) = self.connections.live(slot)
            && connection.stream.shutdown(Shutdown::Write).is_err()
        {
            self.close(slot);
        }
    }

    /// Ends a connection at once.
    pub(crate) fn close(&mut self, slot: u32) {
        if self.connections.live(slot).is_none() {
            return;
        }
        self.log_end(slot, ABNORMAL, "the connection is gone");
        self.numbers.closed_total += 1;
        let token = self.connections.id(slot).token();
        match self.connections.bury(slot) {
            Protocol::WebSocket { session, .. } => self.engine.close(session),
            Protocol::Http(_) => self.requests.forget(token),
            Protocol::Closing | Protocol::Dead => {}
        }
    }

    fn accept(&mut self) {
        self.accepting = Accepting::Idle;
        for at in 0..self.listeners.len() {
            for accepted in 0.. {
                if accepted == ACCEPT_BUDGET {
                    self.accepting = Accepting::More;
                    break;
                }
                match accept(&self.listeners[at]) {
                    Accepted::Stream(stream) => self.take_in(stream),
                    Accepted::Nobody => break,
                    Accepted::Skip => {}
                    Accepted::Exhausted(error) => {
                        if !std::mem::replace(&mut self.starved, true) {
                            tracing::warn!(%error, "accepting pauses: out of descriptors or memory");
                        }
                        self.numbers.accept_pauses_total += 1;
                        let rest = Tick::try_from(PAUSE_MS / TICK_MS).expect("it is short");
                        self.accepting = Accepting::Paused(self.now + rest);
                        return;
                    }
                }
            }
        }
        if std::mem::take(&mut self.starved) {
            tracing::info!("accepting goes on");
        }
    }

    fn take_in(&mut self, stream: mio::net::TcpStream) {
        self.numbers.accepted_total += 1;
        let id = self.connections.insert(stream);
        // Relaxed: a count, which orders nothing.
        if self.control.connections.fetch_add(1, Ordering::Relaxed) >= self.control.capacity {
            self.numbers.refused_total += 1;
            exchange::refuse_full(self, id.slot);
            return;
        }
        let connection = self.connections.live(id.slot).expect("it was just taken in");
        let token = Token(usize::try_from(id.token()).expect("pointers are 64 bits"));
        // Not for writing: that would be an event for every connection, and most never fill their socket.
        let interest = Interest::READABLE;
        if let Err(error) = self.poll.registry().register(&mut connection.stream, token, interest) {
            tracing::warn!(%error, "a connection could not be registered");
            return self.close(id.slot);
        }
        let timeout =
            Tick::try_from(u64::from(self.config.request_timeout_ms) / TICK_MS).unwrap_or(Tick::MAX);
        self.arm(id.slot, self.now.saturating_add(timeout));
    }

    /// From now on the poll also tells when the connection's socket takes bytes again. Arming says so at once if it
    /// already does.
    fn watch_for_room(&mut self, slot: u32) {
        let Some(connection) = self.connections.live(slot) else { return };
        if std::mem::replace(&mut connection.watched, true) {
            return;
        }
        let token = self.connections.id(slot).token();
        let token = Token(usize::try_from(token).expect("pointers are 64 bits"));
        let interest = Interest::READABLE | Interest::WRITABLE;
        let Some(connection) = self.connections.live(slot) else { return };
        if let Err(error) = self.poll.registry().reregister(&mut connection.stream, token, interest) {
            tracing::warn!(%error, "a connection could not be watched for room");
            self.close(slot);
        }
    }

    /// Has the connection's deadline looked at by `due`, if not before.
    pub(crate) fn arm_by(&mut self, slot: u32, due: Tick) {
        if self.connections.live(slot).is_some_and(|connection| due < connection.due) {
            self.arm(slot, due);
        }
    }

    /// Sets the connection's deadline.
    pub(crate) fn arm(&mut self, slot: u32, due: Tick) {
        let due = self.timers.arm(slot, due);
        if let Some(connection) = self.connections.live(slot) {
            connection.due = due;
        }
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
        // Whoever is on the list now said its last word before this turn's flush.
        for (slot, then) in std::mem::take(&mut self.closing) {
            if self.connections.live(slot).is_some_and(|connection| connection.is_flushed()) {
                match then {
                    Then::Close => self.close(slot),
                    Then::AwaitPeer => self.shut_down(slot),
                }
            }
        }
        for slot in self.connections.take_broken() {
            self.close(slot);
        }
        for slot in self.connections.take_blocked() {
            self.watch_for_room(slot);
        }
        for (slot, why) in self.engine.take_disconnects() {
            self.disconnect(slot, why);
        }
        for slot in self.engine.take_unpaused() {
            self.resume(slot);
        }
        for (token, answer) in self.engine.take_answers() {
            exchange::on_answer(self, token, answer);
        }
    }

    /// Looks at the deadlines that have come.
    fn expire(&mut self) {
        if let Accepting::Paused(until) = self.accepting
            && self.now >= until
        {
            self.accepting = Accepting::More;
        }
        let mut due = Vec::new();
        self.timers.expire(self.now, |_, slot, tick| due.push((slot, tick)));
        for (slot, tick) in due {
            if self.connections.live(slot).is_some_and(|connection| connection.due == tick) {
                self.on_due(slot);
            }
        }
    }

    fn on_due(&mut self, slot: u32) {
        let interval = self.ping_interval();
        let Some(connection) = self.connections.live(slot) else { return };
        let heard = connection.heard;
        match connection.protocol {
            Protocol::Http(_) => exchange::on_due(self, slot),
            Protocol::Closing | Protocol::Dead => self.close(slot),
            Protocol::WebSocket { session, .. } => {
                let silent = self.now.saturating_sub(heard);
                let paused = connection.paused;
                let pinged = connection.pinged;
                if silent >= 2 * interval && pinged && !paused {
                    return self.disconnect(slot, Disconnect::PingTimeout);
                }
                if silent >= interval && !pinged {
                    connection.pinged = true;
                    self.engine.reply(session, |out| put_frame(out, OpCode::Ping, &[]));
                }
                let next = if silent >= interval { heard + 2 * interval } else { heard + interval };
                self.arm(slot, next.max(self.now + 1));
            }
        }
    }

    /// A connection has become a WebSocket: its deadline is now that of the first ping.
    pub(crate) fn watch(&mut self, slot: u32) {
        let due = self.now.saturating_add(self.ping_interval());
        // A later ping is armed when the handshake's deadline comes, which spares the wheel an entry.
        self.arm_by(slot, due);
    }

    fn ping_interval(&self) -> Tick {
        Tick::try_from(u64::from(self.config.ping_interval_ms) / TICK_MS).unwrap_or(Tick::MAX).max(1)
    }

    /// Whether the server is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.deadline.is_some()
    }

    /// Stops accepting, tells everybody, and gives them until the deadline.
    fn drain(&mut self) {
        let deadline = Tick::try_from(u64::from(self.config.drain_ms) / TICK_MS).unwrap_or(Tick::MAX);
        self.deadline = Some(self.now.saturating_add(deadline));
        self.listeners.clear();
        self.accepting = Accepting::Idle;
        for slot in self.connections.slots() {
            let Some(connection) = self.connections.live(slot) else { continue };
            match connection.protocol {
                Protocol::WebSocket { .. } => self.disconnect(slot, Disconnect::Restart),
                // They end with the answer that is under way.
                Protocol::Http(_) if connection.paused || !connection.is_flushed() => {}
                Protocol::Http(_) if connection.is_amid_request() => exchange::refuse_restarting(self, slot),
                Protocol::Http(_) => self.close(slot),
                Protocol::Closing | Protocol::Dead => {}
            }
        }
    }

    fn finish_turn(&mut self) {
        let vacated = self.connections.vacate();
        if vacated > 0 {
            self.control.connections.fetch_sub(vacated, Ordering::Relaxed);
        }
        self.numbers.connections = self.connections.len() as u64;
        self.numbers.sessions = self.engine.sessions() as u64;
        self.numbers.mailbox_depth = self.engine.node().mailbox(self.id).depth() as u64;
        self.numbers.sent_bytes_total = self.connections.sent_bytes;
        self.numbers.take_engine(self.engine.counters());
        self.metrics.publish(&self.numbers);
    }
}

/// Polls; an interruption is no events.
fn poll_once(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}
