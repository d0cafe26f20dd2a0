//! The loop: sockets in and out, requests to sessions, effects to sockets.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fanfare_core::{
    engineio::{
        self, Action, Carrier, CloseReason, Control, Effect, Framing, Method, Packet, Payload, PostHead,
        Query, RequestError, Route, Transport, UpgradeAnswer, Upgrades, put_open,
    },
    http::{BodyDecoder, Head, HttpError, HttpLimits, Persistence, parse_head, put_error, put_response},
    socketio,
    ws::{DecodeLimits, Message, OpCode, Role as Side, Upgrade, put_close, put_frame},
};
use mio::{Events, Interest, Poll, Token, net::TcpListener};

use crate::answer::Answer;
use crate::session::{Service, Session};
use crate::socket::{Life, Role, Socket};

const LISTENER: Token = Token(0);

/// Sockets and sessions at a time.
const MAX_SOCKETS: usize = 4096;
const MAX_SESSIONS: usize = 4096;

/// How long a head, a close or a pause between requests may take, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// Bytes that may wait to be written to one socket.
const OUTPUT_BYTES: usize = 8 << 20;

/// Heads are bounded by this; bodies by Engine.IO, so that the answer to a large one is Engine.IO's.
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
    /// Sockets with input that nobody has looked at since they were freed for it.
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
                // The peer has gone already, or descriptors have run out: those who wait are accepted with
                // the next one.
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
        // One message, and what else came with it, may wait while a poll is held.
        let limit = self.engine.limits.payload_bytes + HEADS.head_bytes + (1 << 20);
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        let life = socket.read(limit);
        self.advance(token);
        if life == Life::Over {
            self.on_ended(token);
        }
    }

    /// Consumes what was read, as far as the socket's role allows.
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

    fn on_head(&mut self, token: Token) -> Step {
        let Some(socket) = self.sockets.get_mut(&token) else { return Step::Wait };
        let input = std::mem::take(&mut socket.input);
        match parse_head(&input, HEADS) {
            Ok(None) => {
                socket.input = input;
                Step::Wait
            }
            Ok(Some((head, len))) => {
                socket.input = input[len..].to_vec();
                self.on_request(token, &head);
                Step::Again
            }
            Err(error) => {
                put_error(&mut socket.output, error);
                socket.close(self.now_ms);
                Step::Wait
            }
        }
    }

    fn on_request(&mut self, token: Token, head: &Head<'_>) {
        // A refused body is not waited for.
        let persistence = if head.body.is_empty() { head.persistence() } else { Persistence::Close };
        let Some(service) = Service::of(head.path) else {
            return self.answer(token, &Answer::empty(404, persistence));
        };
        if head.method == "OPTIONS" {
            return self.answer(token, &Answer::empty(204, persistence));
        }
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let carrier = if upgrade.is_requested() { Carrier::Upgrade } else { Carrier::Http };
        let query = Query::parse(head.query.unwrap_or_default());
        let outcome = match &query {
            Ok(query) => match query.route(Method::new(head.method), carrier) {
                Ok(Route::Open(transport)) => self.open(token, service, transport, &upgrade, persistence),
                Ok(Route::Session { sid, action }) => self.on_action(token, sid, action, head, &upgrade),
                Err(error) => Err(error),
            },
            Err(error) => Err(*error),
        };
        if let Err(error) = outcome {
            self.refuse(token, error, persistence);
        }
    }

    fn open(
        &mut self,
        token: Token,
        service: Service,
        transport: Transport,
        upgrade: &Upgrade<'_>,
        persistence: Persistence,
    ) -> Result<(), RequestError> {
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(RequestError::Forbidden);
        }
        let sid: Arc<str> = new_id().into();
        let mut packet = BytesMut::new();
        let engine = engineio::Session::open(Arc::clone(&self.engine), transport, self.now_ms);
        let mut session = Session::new(service, engine, &self.connection, self.now_ms);
        match transport {
            Transport::Polling => {
                put_open(&mut packet, Framing::Payload, &sid, Upgrades::WebSocket, &self.engine);
                self.answer(token, &Answer::payload(&packet[1..], persistence));
            }
            Transport::WebSocket => {
                if self.become_websocket(token, &sid, upgrade) == Life::Over {
                    return Ok(());
                }
                put_open(&mut packet, Framing::Frames, &sid, Upgrades::None, &self.engine);
                self.write(token, &packet);
                session.websocket = Some(token);
            }
        }
        self.sessions.insert(sid, session);
        Ok(())
    }

    fn on_action(
        &mut self,
        token: Token,
        sid: &str,
        action: Result<Action, RequestError>,
        head: &Head<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Result<(), RequestError> {
        let (sid, session) = self.sessions.get_key_value(sid).ok_or(RequestError::UnknownSession)?;
        let sid = Arc::clone(sid);
        if Service::of(head.path) != Some(session.service) {
            return Err(RequestError::UnknownSession);
        }
        let outcome = match action? {
            Action::Poll => self.on_poll(token, &sid, head.persistence()),
            Action::Post => self.on_post(token, &sid, head),
            Action::Upgrade => self.on_upgrade(token, &sid, upgrade),
        };
        self.carry_out(&sid);
        outcome
    }

    fn on_poll(
        &mut self,
        token: Token,
        sid: &Arc<str>,
        persistence: Persistence,
    ) -> Result<(), RequestError> {
        let Some(session) = self.sessions.get_mut(sid) else { return Err(RequestError::UnknownSession) };
        session.engine.handle_poll(self.now_ms)?;
        session.poll = Some(token);
        self.set_role(token, Role::Poll { sid: Arc::clone(sid), persistence });
        Ok(())
    }

    fn on_post(&mut self, token: Token, sid: &Arc<str>, head: &Head<'_>) -> Result<(), RequestError> {
        let Some(session) = self.sessions.get_mut(sid) else { return Err(RequestError::UnknownSession) };
        let post = PostHead { content_type: head.header("content-type"), content_length: length_of(head) };
        session.engine.handle_post(post, self.now_ms)?;
        session.post = Some(token);
        if head.expect_continue {
            self.write(token, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let limits = HttpLimits { body_bytes: self.engine.limits.payload_bytes, ..HEADS };
        let decoder = BodyDecoder::new(head.body, limits);
        let role =
            Role::Post { sid: Arc::clone(sid), body: Vec::new(), decoder, persistence: head.persistence() };
        self.set_role(token, role);
        Ok(())
    }

    fn on_upgrade(
        &mut self,
        token: Token,
        sid: &Arc<str>,
        upgrade: &Upgrade<'_>,
    ) -> Result<(), RequestError> {
        let Some(session) = self.sessions.get_mut(sid) else { return Err(RequestError::UnknownSession) };
        let answer = session.engine.handle_upgrade(self.now_ms)?;
        if answer == UpgradeAnswer::Probe {
            session.probe = Some(token);
        }
        match (self.become_websocket(token, sid, upgrade), answer) {
            (Life::On, UpgradeAnswer::Close) => self.close_websocket(Some(token)),
            (Life::Over, UpgradeAnswer::Probe) => {
                if let Some(session) = self.sessions.get_mut(sid) {
                    session.engine.handle_probe_ended();
                    session.probe = None;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Answers a WebSocket's handshake.
    fn become_websocket(&mut self, token: Token, sid: &Arc<str>, upgrade: &Upgrade<'_>) -> Life {
        let Some(socket) = self.sockets.get_mut(&token) else { return Life::Over };
        match upgrade.accept() {
            Ok(accept) => {
                fanfare_core::ws::put_response(&mut socket.output, &accept, None);
                socket.role = Role::WebSocket { sid: Arc::clone(sid), decoder: Default::default() };
                Life::On
            }
            Err(error) => {
                put_response(&mut socket.output, error.status(), error.headers(), b"", Persistence::Close);
                socket.close(self.now_ms);
                Life::Over
            }
        }
    }

    fn on_body(&mut self, token: Token) -> Step {
        let Some(socket) = self.sockets.get_mut(&token) else { return Step::Wait };
        let Role::Post { sid, body, decoder, persistence } = &mut socket.role else { return Step::Wait };
        let (sid, persistence) = (Arc::clone(sid), *persistence);
        match decoder.decode(&socket.input, body) {
            Ok((consumed, true)) => {
                socket.input.drain(..consumed);
                let body = std::mem::take(body);
                self.on_packets(token, &sid, &body, persistence);
                Step::Again
            }
            Ok((consumed, false)) => {
                socket.input.drain(..consumed);
                Step::Wait
            }
            Err(HttpError::BodyTooLarge) => {
                self.with_session(&sid, |session, _| {
                    session.post = None;
                    session.engine.handle_post_body();
                });
                self.refuse(token, RequestError::BodyTooLarge, Persistence::Close);
                Step::Wait
            }
            Err(_) => {
                self.on_ended(token);
                Step::Wait
            }
        }
    }

    fn on_packets(&mut self, token: Token, sid: &Arc<str>, body: &[u8], persistence: Persistence) {
        let (now_ms, limits) = (self.now_ms, self.engine.limits);
        self.with_session(sid, |session, out| {
            session.post = None;
            session.engine.handle_post_body();
            for packet in Payload::new(body, limits) {
                if let Some(message) = session.engine.handle_packet(packet, now_ms) {
                    session.on_message(message, now_ms, new_id(), out);
                }
            }
        });
        self.answer(token, &Answer::post(persistence));
    }

    fn on_frame(&mut self, token: Token) -> Step {
        let Some(socket) = self.sockets.get_mut(&token) else { return Step::Wait };
        let mut input = std::mem::take(&mut socket.input);
        let Role::WebSocket { sid, decoder } = &mut socket.role else { return Step::Wait };
        let (sid, mut decoder) = (Arc::clone(sid), std::mem::take(decoder));
        let limits = DecodeLimits { message_bytes: self.engine.limits.payload_bytes, fragments: 1024 };
        let step = match decoder.decode(&mut input, Side::Server, limits) {
            Ok(decoded) => {
                let consumed = decoded.consumed;
                let step = if decoded.message.is_some() { Step::Again } else { Step::Wait };
                if let Some(message) = decoded.message {
                    self.on_websocket_message(token, &sid, message);
                }
                input.drain(..consumed);
                step
            }
            Err(error) => {
                if let Some(socket) = self.sockets.get_mut(&token) {
                    put_close(&mut socket.output, error.close_code(), error.reason(), None);
                    socket.close(self.now_ms);
                }
                self.detach_websocket(token, &sid);
                return Step::Wait;
            }
        };
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.input = input;
            if let Role::WebSocket { decoder: place, .. } = &mut socket.role {
                *place = decoder;
            }
        }
        step
    }

    fn on_websocket_message(&mut self, token: Token, sid: &Arc<str>, message: Message<'_>) {
        let packet = match message {
            Message::Text(text) => Packet::from_text(text),
            Message::Binary(bytes) => Ok(Packet::from_binary(bytes)),
            Message::Ping(payload) => {
                if let Some(socket) = self.sockets.get_mut(&token) {
                    put_frame(&mut socket.output, OpCode::Pong, payload);
                }
                return;
            }
            Message::Pong(_) => return,
            Message::Close(_) => {
                self.close_websocket(Some(token));
                return self.detach_websocket(token, sid);
            }
        };
        let now_ms = self.now_ms;
        self.with_session(sid, |session, out| {
            if session.probe == Some(token) {
                session.engine.handle_probe(packet);
            } else if let Some(message) = session.engine.handle_packet(packet, now_ms) {
                session.on_message(message, now_ms, new_id(), out);
            }
        });
    }

    /// The peer's end of a socket is gone.
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

    fn cut(&mut self, sid: &Arc<str>, action: Action) {
        self.with_session(sid, |session, _| session.engine.handle_request_cut(action));
    }

    fn detach_websocket(&mut self, token: Token, sid: &Arc<str>) {
        self.with_session(sid, |session, _| {
            if session.probe.take_if(|probe| *probe == token).is_some() {
                session.engine.handle_probe_ended();
            } else if session.websocket.take_if(|websocket| *websocket == token).is_some() {
                session.engine.handle_websocket_ended();
            }
        });
    }

    /// Lets `act` work on a session, then sends what it has written and carries out what the session asks
    /// for.
    fn with_session(&mut self, sid: &Arc<str>, act: impl FnOnce(&mut Session, &mut BytesMut)) {
        let Some(session) = self.sessions.get_mut(sid) else { return };
        let mut out = BytesMut::new();
        let framing = session.engine.framing();
        act(session, &mut out);
        match (framing, session.websocket) {
            _ if out.is_empty() => {}
            (Framing::Frames, Some(token)) => self.write(token, &out),
            (Framing::Frames, None) => {}
            (Framing::Payload, _) => {
                if session.engine.queue(&out) == Err(engineio::QueueError::Full) {
                    session.engine.abort(CloseReason::SlowConsumer);
                }
            }
        }
        self.carry_out(sid);
    }

    fn carry_out(&mut self, sid: &Arc<str>) {
        while let Some(session) = self.sessions.get_mut(sid) {
            let Some(effect) = session.engine.poll_effect() else { return };
            match effect {
                Effect::AnswerPoll => {
                    let (token, body) = (session.poll.take(), session.engine.take_payload());
                    self.answer_poll(token, &body);
                }
                Effect::CutPost => {
                    if let Some(token) = session.post.take() {
                        self.sockets.remove(&token);
                    }
                }
                Effect::AnswerProbe => {
                    let token = session.probe;
                    self.write_control(token, Control::ProbeAnswer);
                }
                Effect::CloseProbe => {
                    let token = session.probe.take();
                    self.close_websocket(token);
                }
                Effect::Upgraded => {
                    session.websocket = session.probe.take();
                    let (token, mut frames) = (session.websocket, BytesMut::new());
                    session.engine.take_frames(&mut frames);
                    if let Some(token) = token {
                        self.write(token, &frames);
                    }
                }
                Effect::SendPing => {
                    let token = session.websocket;
                    self.write_control(token, Control::Ping);
                }
                Effect::CloseWebSocket => {
                    let token = session.websocket.take();
                    self.close_websocket(token);
                }
                Effect::Closed(_) => {
                    self.sessions.remove(sid);
                }
            }
        }
    }

    fn answer_poll(&mut self, token: Option<Token>, body: &[u8]) {
        let Some(token) = token else { return };
        let Some(Socket { role: Role::Poll { persistence, .. }, .. }) = self.sockets.get(&token) else {
            return;
        };
        let persistence = *persistence;
        self.answer(token, &Answer::payload(body, persistence));
    }

    fn refuse(&mut self, token: Token, error: RequestError, persistence: Persistence) {
        self.answer(token, &Answer::refusal(error, persistence));
    }

    /// Writes an answer; the socket is ready for the next request.
    fn answer(&mut self, token: Token, answer: &Answer<'_>) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        answer.put(&mut socket.output);
        socket.role = Role::Http;
        socket.deadline_ms = self.now_ms + PATIENCE_MS;
        if answer.persistence == Persistence::Close {
            socket.close(self.now_ms);
        }
        self.ready.push(token);
    }

    fn set_role(&mut self, token: Token, role: Role) {
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.role = role;
        }
    }

    fn write(&mut self, token: Token, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.output.extend_from_slice(bytes);
        }
    }

    fn write_control(&mut self, token: Option<Token>, control: Control) {
        if let Some(socket) = token.and_then(|token| self.sockets.get_mut(&token)) {
            Framing::Frames.put_control(&mut socket.output, control);
        }
    }

    fn close_websocket(&mut self, token: Option<Token>) {
        if let Some(socket) = token.and_then(|token| self.sockets.get_mut(&token)) {
            socket.close_websocket();
            socket.deadline_ms = self.now_ms + PATIENCE_MS;
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
    /// Whether no session decides about the socket's end.
    fn is_outside(&self) -> bool {
        matches!(self.role, Role::Http | Role::Closing)
    }

    fn close(&mut self, now_ms: u64) {
        self.role = Role::Closing;
        self.deadline_ms = now_ms + PATIENCE_MS;
    }
}

fn length_of(head: &Head<'_>) -> Option<u64> {
    match head.body {
        fanfare_core::http::BodyFraming::None => Some(0),
        fanfare_core::http::BodyFraming::Length(length) => Some(length),
        fanfare_core::http::BodyFraming::Chunked => None,
    }
}

/// 160 bits of the operating system's randomness, in hexadecimal.
fn new_id() -> String {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
