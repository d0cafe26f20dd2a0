//! A server that is just enough of one, and misbehaves on request: loses, repeats, reorders, delivers to the
//! wrong one, changes bytes, hangs up. One thread, all of a turn's input before any output, so it is also a
//! fast one.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::{
    collections::{HashMap, HashSet},
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use fanfare_core::{
    http::{HttpLimits, parse_head},
    ws::{DecodeLimits, Decoder, Message, OpCode, Role, Upgrade, put_close, put_frame, put_response},
};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use serde::Deserialize;
use serde_json::value::RawValue;

const LISTENER: Token = Token(usize::MAX);
const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 1 << 20, fragments: 16 };

/// What the server does wrong, at each `every`-th delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mischief {
    None,
    Lose {
        every: u64,
    },
    Repeat {
        every: u64,
    },
    /// The delivery comes after the next one to the same connection.
    Reorder {
        every: u64,
    },
    /// A member of another channel gets it too.
    Misdeliver {
        every: u64,
    },
    Corrupt {
        every: u64,
    },
    /// A number of the channel is left out.
    Skip {
        every: u64,
    },
    /// None: who joins with a position receives what was sent since.
    Recover,
    /// The same, but without the first that was missed.
    RecoverTooFew,
    /// The same, and the last that was missed twice.
    RecoverTooMany,
    /// Nobody recovers, although everyone is told a position.
    Forget,
    /// The first member of a channel hears that the second joined only with what it hears next. No fault.
    TellLate,
    /// The last member of a channel gets a message only when nothing else is going on. Whoever sends the next
    /// one before that is hung up on.
    LastOneLater,
    /// Who sends receives it too, asked for or not.
    Echo,
    /// The connection is closed instead.
    HangUp {
        every: u64,
    },
    /// The connection is closed at each `every`-th join.
    HangUpOnJoin {
        every: u64,
    },
    /// Each handshake takes so long, one after the other.
    Dawdle {
        milliseconds: u64,
    },
    /// The whole server stops, when it has got so many messages.
    Stop {
        at_send: u64,
        milliseconds: u64,
    },
    /// The same, at a join.
    StopAtJoin {
        at_join: u64,
        milliseconds: u64,
    },
    /// Nobody is told of each `every`-th join up to one, nor of the leave after it.
    MergeNotices {
        every: u64,
        until: u64,
    },
    /// The message of this number is delivered to nobody.
    LoseMessage {
        number: u64,
    },
    /// No handshake succeeds.
    Refuse,
    /// Sends are answered with an error.
    Overloaded,
}

/// A running stub; it stops when dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    deliveries: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    pub(crate) fn start(mischief: Mischief) -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address"), mischief)
    }

    pub(crate) fn listen(address: SocketAddr, mischief: Mischief) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let deliveries = Arc::new(AtomicU64::new(0));
        let mut server = Server::new(listener, mischief, Arc::clone(&deliveries));
        let thread = thread::spawn(move || server.run(&stopped));
        Self { address, stop, deliveries, thread: Some(thread) }
    }

    /// Waits until there were so many deliveries from now on.
    pub(crate) fn wait_for_deliveries(&self, count: u64) {
        let end = self.deliveries.load(Ordering::Relaxed) + count;
        while self.deliveries.load(Ordering::Relaxed) < end {
            thread::yield_now();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(outcome.is_some_and(|outcome| outcome.is_ok()), "the stub panicked");
        }
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    mischief: Mischief,
    connections: Vec<Option<Connection>>,
    channels: HashMap<String, Vec<usize>>,
    /// The last number of each channel.
    offsets: HashMap<String, u64>,
    /// What was sent to each channel, if anyone can recover it.
    logs: HashMap<String, Vec<BytesMut>>,
    sends: u64,
    joins: u64,
    deliveries: u64,
    /// Those of whose join nobody was told.
    silent: HashSet<usize>,
    /// The same, for other threads.
    counter: Arc<AtomicU64>,
    dirty: Vec<usize>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    head: Option<Vec<u8>>,
    out: BytesMut,
    /// Held back, to come after the next one.
    held: BytesMut,
    joined: Vec<String>,
    closing: bool,
}

#[derive(Deserialize)]
struct Command<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    channel: Option<&'a str>,
    event: Option<&'a str>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    since: Option<Position<'a>>,
}

#[derive(Deserialize)]
struct Position<'a> {
    epoch: &'a str,
    offset: usize,
}

impl Server {
    fn new(mut listener: TcpListener, mischief: Mischief, counter: Arc<AtomicU64>) -> Self {
        let poll = Poll::new().expect("a poll");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
        Self {
            poll,
            listener,
            mischief,
            connections: Vec::new(),
            channels: HashMap::new(),
            offsets: HashMap::new(),
            logs: HashMap::new(),
            sends: 0,
            joins: 0,
            deliveries: 0,
            silent: HashSet::new(),
            counter,
            dirty: Vec::new(),
            buffer: vec![0; 256 << 10],
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut events = Events::with_capacity(1024);
        while !stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(Duration::from_millis(20))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.expect("polled"),
            }
            if events.is_empty() && self.mischief == Mischief::LastOneLater {
                self.release();
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(number) => {
                        self.dirty.push(number);
                        self.read(number);
                    }
                }
            }
            for number in std::mem::take(&mut self.dirty) {
                self.flush(number);
            }
        }
    }

    /// Hands out what is held back.
    fn release(&mut self) {
        for number in 0..self.connections.len() {
            let Some(connection) = self.connections[number].as_mut() else { continue };
            let held = std::mem::take(&mut connection.held);
            connection.out.extend_from_slice(&held);
            self.dirty.push(number);
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let number = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
            stream.set_nodelay(true).expect("an option");
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(number), interest).expect("registered");
            let connection = Connection {
                stream,
                decoder: Decoder::new(),
                head: Some(Vec::new()),
                out: BytesMut::new(),
                held: BytesMut::new(),
                joined: Vec::new(),
                closing: false,
            };
            if number == self.connections.len() {
                self.connections.push(None);
            }
            self.connections[number] = Some(connection);
        }
    }

    fn read(&mut self, number: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = self.connections[number].as_mut() {
            match connection.stream.read(&mut buffer) {
                Ok(0) => self.drop_connection(number),
                Ok(read) if connection.head.is_some() => self.take_head(number, &buffer[..read]),
                Ok(read) => self.take_frames(number, &mut buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.drop_connection(number),
            }
        }
        self.buffer = buffer;
    }

    fn take_head(&mut self, number: usize, bytes: &[u8]) {
        let refuse = self.mischief == Mischief::Refuse;
        let Some(connection) = self.connections[number].as_mut() else { return };
        let mut bytes = [connection.head.take().unwrap_or_default(), bytes.to_vec()].concat();
        let Some((head, len)) = parse_head(&bytes, HttpLimits::default()).expect("a good request") else {
            connection.head = Some(bytes);
            return;
        };
        if refuse {
            connection.out.extend_from_slice(
                b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 28\r\n\r\n{\"detail\":\"No such key here.\"}",
            );
            connection.closing = true;
            return;
        }
        if let Mischief::Dawdle { milliseconds } = self.mischief {
            thread::sleep(Duration::from_millis(milliseconds));
        }
        let accept =
            Upgrade::new(head.method, head.minor_version, head.headers.iter()).accept().expect("upgrade");
        put_response(&mut connection.out, &accept, None);
        let welcome = format!("{{\"welcome\":{{\"session\":\"session-{number}\",\"user\":null}}}}");
        put_frame(&mut connection.out, OpCode::Text, welcome.as_bytes());
        let channel = head.query.and_then(|query| query.split("join=").nth(1)).map(str::to_owned);
        let mut rest = bytes.split_off(len);
        if let Some(channel) = channel {
            let join = format!("{{\"id\":\"join\",\"type\":\"join\",\"channel\":\"{channel}\"}}");
            self.execute(number, &join);
        }
        self.take_frames(number, &mut rest);
    }

    fn take_frames(&mut self, number: usize, bytes: &mut [u8]) {
        let Some(connection) = self.connections[number].as_mut() else { return };
        let mut decoder = std::mem::take(&mut connection.decoder);
        let mut at = 0;
        loop {
            let decoded = decoder.decode(&mut bytes[at..], Role::Server, LIMITS).expect("good frames");
            at += decoded.consumed;
            match decoded.message {
                None => break,
                Some(Message::Text(text)) => self.execute(number, text),
                Some(Message::Close(_)) => self.hang_up(number),
                Some(Message::Ping(payload)) => self.pong(number, payload),
                Some(_) => {}
            }
        }
        if let Some(connection) = self.connections[number].as_mut() {
            connection.decoder = decoder;
        }
    }

    fn execute(&mut self, number: usize, text: &str) {
        let command: Command<'_> = serde_json::from_str(text).expect("a good command");
        let channel = command.channel.unwrap_or_default();
        match command.kind {
            "send" if self.mischief == Mischief::Overloaded => {
                self.put(number, "{\"error\":{\"code\":\"overloaded\",\"message\":\"later\"}}");
            }
            "send" | "broadcast" => self.send(number, &command),
            "join" if self.is_join_to_be_hung_up() => self.hang_up(number),
            "join" => {
                self.notify(number, channel, "join");
                self.channels.entry(channel.to_owned()).or_default().push(number);
                if let Some(connection) = self.connections[number].as_mut() {
                    connection.joined.push(channel.to_owned());
                }
                match self.mischief {
                    Mischief::Recover
                    | Mischief::RecoverTooFew
                    | Mischief::RecoverTooMany
                    | Mischief::Forget => self.recover(number, &command),
                    _ => self.put_ok(number, command.id),
                }
            }
            "update" => {
                let of_member = self.channels.iter().filter(|(_, members)| members.contains(&number));
                for channel in of_member.map(|(channel, _)| channel.clone()).collect::<Vec<_>>() {
                    self.notify(number, &channel, "update");
                }
                self.put_ok(number, command.id);
            }
            "members" => self.put_ok(number, command.id),
            "leave" => {
                self.leave(number, channel);
                self.put_ok(number, command.id);
            }
            other => panic!("unexpected command {other}"),
        }
    }

    fn is_join_to_be_hung_up(&mut self) -> bool {
        self.joins += 1;
        if let Mischief::StopAtJoin { at_join, milliseconds } = self.mischief
            && self.joins == at_join
        {
            thread::sleep(Duration::from_millis(milliseconds));
        }
        matches!(self.mischief, Mischief::HangUpOnJoin { every } if self.joins.is_multiple_of(every))
    }

    /// Answers a join, and sends what was missed.
    fn recover(&mut self, number: usize, command: &Command<'_>) {
        let channel = command.channel.expect("a channel");
        let log = self.logs.entry(channel.to_owned()).or_default();
        let mut missed = Vec::new();
        let mut recovery = String::new();
        if let Some(since) = &command.since {
            assert_eq!(since.epoch, "epoch-1");
            missed = log[since.offset..].to_vec();
            let is_recovered = self.mischief != Mischief::Forget;
            recovery = format!(",\"recovered\":{is_recovered},\"missed\":{}", missed.len());
        }
        let (id, offset) = (command.id.expect("a number"), log.len());
        self.put(
            number,
            &format!("{{\"id\":{id},\"ok\":{{\"epoch\":\"epoch-1\",\"offset\":{offset}{recovery}}}}}"),
        );
        match (self.mischief, missed.last().cloned()) {
            (Mischief::Forget, _) => missed.clear(),
            (Mischief::RecoverTooFew, Some(_)) => drop(missed.remove(0)),
            (Mischief::RecoverTooMany, Some(last)) => missed.push(last),
            _ => {}
        }
        let Some(connection) = self.connections[number].as_mut() else { return };
        missed.iter().for_each(|frame| connection.out.extend_from_slice(frame));
    }

    fn leave(&mut self, number: usize, channel: &str) {
        let members = self.channels.get_mut(channel).expect("a channel that exists");
        members.retain(|member| *member != number);
        self.notify(number, channel, "leave");
    }

    fn notify(&mut self, number: usize, channel: &str, what: &str) {
        if let Mischief::MergeNotices { every, until } = self.mischief {
            let is_merged = match what {
                // Watchers join by their path, before anything is counted.
                "join" if (9..until).contains(&self.joins) && self.joins.is_multiple_of(every) => {
                    self.silent.insert(number)
                }
                "leave" => self.silent.remove(&number),
                _ => false,
            };
            if is_merged {
                return;
            }
        }
        let notice = format!(
            "{{\"channel\":\"{channel}\",\"event\":\"channel:{what}\",\"message\":{{\"id\":\"session-{number}\"}}}}"
        );
        let mut frame = BytesMut::new();
        put_frame(&mut frame, OpCode::Text, notice.as_bytes());
        let members = self.channels.get(channel).cloned().unwrap_or_default();
        if let (Mischief::TellLate, "join", [first]) = (self.mischief, what, &members[..])
            && let Some(first) = self.connections[*first].as_mut()
        {
            first.held.extend_from_slice(&frame);
            return;
        }
        for member in members {
            if member != number {
                self.deliver(member, &frame);
            }
        }
    }

    fn send(&mut self, number: usize, command: &Command<'_>) {
        self.sends += 1;
        match self.mischief {
            Mischief::Stop { at_send, milliseconds } if self.sends == at_send => {
                thread::sleep(Duration::from_millis(milliseconds));
            }
            Mischief::LoseMessage { number } if self.sends == number => return,
            _ => {}
        }
        let channel = command.channel.unwrap_or("everyone");
        let (event, message) = (command.event.expect("an event"), command.message.expect("a message"));
        let is_skipped =
            matches!(self.mischief, Mischief::Skip { every } if self.sends.is_multiple_of(every));
        let offset = self.offsets.entry(channel.to_owned()).or_default();
        *offset += 1 + u64::from(is_skipped);
        let publication = format!(
            "{{\"channel\":\"{channel}\",\"event\":\"{event}\",\"message\":{message},\"offset\":{offset}}}"
        );
        let mut frame = BytesMut::new();
        put_frame(&mut frame, OpCode::Text, publication.as_bytes());
        if let Some(log) = self.logs.get_mut(channel) {
            log.push(frame.clone());
        }
        let members = match command.channel {
            Some(channel) => self.channels.remove(channel).unwrap_or_default(),
            None => (0..self.connections.len()).collect(),
        };
        if let (Mischief::LastOneLater, Some((last, others))) = (self.mischief, members.split_last()) {
            others.iter().for_each(|member| self.deliver(*member, &frame));
            let Some(last) = self.connections[*last].as_mut() else { return };
            if !last.held.is_empty() {
                self.hang_up(number);
            } else {
                last.held.extend_from_slice(&frame);
            }
            self.channels.insert(channel.to_owned(), members);
            return;
        }
        for member in &members {
            if *member != number || self.mischief == Mischief::Echo {
                self.deliver(*member, &frame);
            }
        }
        if let Mischief::Misdeliver { every } = self.mischief
            && self.sends.is_multiple_of(every)
            && let Some(stranger) = self.channels.values().flatten().next()
        {
            self.deliver(*stranger, &frame);
        }
        if command.channel.is_some() {
            self.channels.insert(channel.to_owned(), members);
        }
    }

    fn deliver(&mut self, number: usize, frame: &[u8]) {
        self.deliveries += 1;
        self.counter.store(self.deliveries, Ordering::Relaxed);
        let is_due = |every: u64| self.deliveries.is_multiple_of(every);
        let Some(connection) = self.connections[number].as_mut() else { return };
        if connection.out.is_empty() {
            self.dirty.push(number);
        }
        match self.mischief {
            Mischief::Lose { every } if is_due(every) => return,
            Mischief::Repeat { every } if is_due(every) => connection.out.extend_from_slice(frame),
            Mischief::Reorder { every } if is_due(every) && connection.held.is_empty() => {
                connection.held.extend_from_slice(frame);
                return;
            }
            Mischief::Corrupt { every } if is_due(every) => {
                let mut frame = frame.to_vec();
                let at = frame.windows(4).position(|bytes| bytes == b"~FF~").map_or(8, |at| at + 20);
                frame[at] = if frame[at] == b'a' { b'b' } else { b'a' };
                connection.out.extend_from_slice(&frame);
                return;
            }
            Mischief::HangUp { every } if is_due(every) => return self.hang_up(number),
            _ => {}
        }
        connection.out.extend_from_slice(frame);
        let held = std::mem::take(&mut connection.held);
        connection.out.extend_from_slice(&held);
    }

    fn put(&mut self, number: usize, text: &str) {
        if let Some(connection) = self.connections[number].as_mut() {
            put_frame(&mut connection.out, OpCode::Text, text.as_bytes());
        }
    }

    fn put_ok(&mut self, number: usize, id: Option<&RawValue>) {
        if let Some(id) = id {
            self.put(number, &format!("{{\"id\":{id},\"ok\":{{}}}}"));
        }
    }

    fn pong(&mut self, number: usize, payload: &[u8]) {
        if let Some(connection) = self.connections[number].as_mut() {
            put_frame(&mut connection.out, OpCode::Pong, payload);
        }
    }

    fn hang_up(&mut self, number: usize) {
        if let Some(connection) = self.connections[number].as_mut() {
            put_close(&mut connection.out, 1000, "", None);
            connection.closing = true;
            self.dirty.push(number);
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(connection) = self.connections[number].as_mut() else { return };
        while !connection.out.is_empty() {
            match connection.stream.write(&connection.out) {
                Ok(written) => connection.out.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.drop_connection(number),
            }
        }
        if connection.closing {
            self.drop_connection(number);
        } else if connection.out.capacity() > 64 << 10 {
            connection.out = BytesMut::new();
        }
    }

    fn drop_connection(&mut self, number: usize) {
        let Some(connection) = self.connections[number].take() else { return };
        for channel in &connection.joined {
            if self.channels.get(channel).is_some_and(|members| members.contains(&number)) {
                self.leave(number, channel);
            }
        }
    }
}
