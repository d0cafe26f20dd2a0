//! The loop: sockets in and out, requests to sessions, effects to sockets.

mod effects;
mod requests;
mod websockets;

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_core::{
    engineio::{self, Action},
    http::HttpLimits,
    socketio,
};
use mio::{Events, Interest, Poll, Token, net::TcpListener};

use crate::session::Session;
use crate::socket::{Life, Role, Socket};

const LISTENER: Token = Token(0);

/// The most sockets, and the most sessions.
const MAX_SOCKETS: usize = 4096;
const MAX_SESSIONS: usize = 4096;

/// The longest time for a request's head, a close, or a pause between requests, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// The most bytes that wait to be written to one socket.
const OUTPUT_BYTES: usize = 8 << 20;

/// The limits of heads. Engine.IO bounds bodies, so that Engine.IO answers a body that is too large.
const HEADS: HttpLimits = HttpLimits { head_bytes: 8 << 10, headers: 64, body_bytes: usize::MAX };

/// Whether there is more to be done with what was read.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Step {
    Again,
    Wait,
}

pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    engine: Arc<engineio::Config>,
    connection: Arc<socketio::Config>,
    sockets: HashMap<Token, Socket>,
    sessions: HashMap<Arc<str>, Session>,
    next_token: usize,
    start: Instant,
    now_ms: u64,
    /// The sockets whose input waits to be handled.
    ready: Vec<Token>,
}

impl Server {
    pub(crate) fn bind(
        address: SocketAddr,
        engine: engineio::Config,
        connection: socketio::Config,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            engine: Arc::new(engine),
            connection: Arc::new(connection),
            sockets: HashMap::new(),
            sessions: HashMap::new(),
            next_token: LISTENER.0 + 1,
            start: Instant::now(),
            now_ms: 0,
            ready: Vec::new(),
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(crate) fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let mut events = Events::with_capacity(256);
        loop {
            let wait_ms = self.deadline_ms().map(|deadline_ms| deadline_ms.saturating_sub(self.now_ms));
            match self.poll.poll(&mut events, wait_ms.map(Duration::from_millis)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => self.now_ms = u64::try_from(self.start.elapsed().as_millis())?,
            }
            self.on_timeouts();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    token => self.on_readable(token),
                }
            }
            while let Some(token) = self.ready.pop() {
                self.advance(token);
            }
            self.flush();
        }
    }

    fn deadline_ms(&self) -> Option<u64> {
        let sessions = self.sessions.values().filter_map(Session::deadline_ms);
        let sockets = self.sockets.values().filter(|socket| socket.is_outside()).map(|it| it.deadline_ms);
        sessions.chain(sockets).min()
    }

    fn on_timeouts(&mut self) {
        let now_ms = self.now_ms;
        let is_due =
            |session: &Session| session.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms);
        let due: Vec<Arc<str>> =
            self.sessions.iter().filter(|(_, it)| is_due(it)).map(|(sid, _)| Arc::clone(sid)).collect();
        for sid in due {
            self.with_session(&sid, |session, out| session.on_timeout(now_ms, out));
        }
        self.sockets.retain(|_, socket| !socket.is_outside() || socket.deadline_ms > now_ms);
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The peer has gone already, or file descriptors have run out. In the latter case the waiting
                // peers are accepted with the next one.
                Err(_) => return Ok(()),
            };
            if self.sockets.len() >= MAX_SOCKETS {
                continue;
            }
            let token = Token(self.next_token);
            self.next_token += 1;
            stream.set_nodelay(true)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            self.sockets.insert(token, Socket::new(stream, self.now_ms + PATIENCE_MS));
        }
    }

    fn on_readable(&mut self, token: Token) {
        // While a poll is held, the buffer may hold one whole message and a megabyte of further input.
        let limit = self.engine.limits.payload_bytes + HEADS.head_bytes + (1 << 20);
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        let life = socket.read(limit);
        self.advance(token);
        if life == Life::Over {
            self.on_ended(token);
        }
    }

    /// Handles the input of a socket, as far as the socket's role allows.
    fn advance(&mut self, token: Token) {
        loop {
            let Some(socket) = self.sockets.get(&token) else { return };
            let step = match socket.role {
                Role::Http => self.on_head(token),
                Role::Post { .. } => self.on_body(token),
                Role::WebSocket { .. } => self.on_frame(token),
                Role::Poll { .. } | Role::Closing => Step::Wait,
            };
            if step == Step::Wait {
                return;
            }
        }
    }

    /// Handles the end of a socket's input.
    fn on_ended(&mut self, token: Token) {
        let Some(mut socket) = self.sockets.remove(&token) else { return };
        // What was answered may still arrive: only the peer's sending side is known to have ended.
        socket.flush();
        match socket.role {
            Role::Poll { sid, .. } => self.cut(&sid, Action::Poll),
            Role::Post { sid, .. } => self.cut(&sid, Action::Post),
            Role::WebSocket { sid, .. } => self.detach_websocket(token, &sid),
            Role::Http | Role::Closing => {}
        }
    }

    fn write(&mut self, token: Token, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.output.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self) {
        let is_over =
            |socket: &mut Socket| socket.flush() == Life::Over || socket.output.len() > OUTPUT_BYTES;
        let over: Vec<Token> =
            self.sockets.iter_mut().filter_map(|(token, it)| is_over(it).then_some(*token)).collect();
        for token in over {
            self.on_ended(token);
        }
    }
}

impl Socket {
    /// Whether the socket ends without a session's decision.
    fn is_outside(&self) -> bool {
        matches!(self.role, Role::Http | Role::Closing)
    }

    fn close(&mut self, now_ms: u64) {
        self.role = Role::Closing;
        self.deadline_ms = now_ms + PATIENCE_MS;
    }
}

/// 160 bits of the operating system's randomness, in hexadecimal.
fn new_id() -> String {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
