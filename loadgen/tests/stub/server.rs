//! The stub server's loop: connections, their handshakes and their frames.

use std::{
    collections::{HashMap, HashSet},
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
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

use super::Mischief;

const LISTENER: Token = Token(usize::MAX);
const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 1 << 20, fragments: 16 };

pub(super) struct Server {
    poll: Poll,
    listener: TcpListener,
    pub(super) mischief: Mischief,
    pub(super) connections: Vec<Option<Connection>>,
    pub(super) channels: HashMap<String, Vec<usize>>,
    /// The last number of each channel.
    pub(super) offsets: HashMap<String, u64>,
    /// The messages of each channel, if the stub supports recovery.
    pub(super) logs: HashMap<String, Vec<BytesMut>>,
    pub(super) sends: u64,
    pub(super) joins: u64,
    pub(super) deliveries: u64,
    /// The members whose join was told to no member.
    pub(super) silent: HashSet<usize>,
    /// The same, for other threads.
    pub(super) counter: Arc<AtomicU64>,
    pub(super) dirty: Vec<usize>,
    buffer: Vec<u8>,
}

pub(super) struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    head: Option<Vec<u8>>,
    pub(super) out: BytesMut,
    /// A delivery that is held back until after the next delivery.
    pub(super) held: BytesMut,
    pub(super) joined: Vec<String>,
    closing: bool,
    /// The messages of the session so far, if the stub gives tickets.
    pub(super) record: Vec<BytesMut>,
    missed: Vec<BytesMut>,
    /// Whether the session waits for its client to resume it.
    pub(super) is_parked: bool,
    tickets: u32,
}

impl Server {
    pub(super) fn new(mut listener: TcpListener, mischief: Mischief, counter: Arc<AtomicU64>) -> Self {
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

    pub(super) fn run(&mut self, stop: &AtomicBool) {
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

    /// Releases the delivery that is held back.
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
                record: Vec::new(),
                missed: Vec::new(),
                is_parked: false,
                tickets: 0,
            };
            if number == self.connections.len() {
                self.connections.push(None);
            }
            self.connections[number] = Some(connection);
        }
    }

    fn read(&mut self, number: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) =
            self.connections[number].as_mut().filter(|connection| !connection.is_parked)
        {
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
        let asked = head.query.and_then(|query| query.split("resume=").nth(1)).map(str::to_owned);
        let (number, resumption) = match asked {
            Some(asked) => self.resume(number, &asked),
            None => (number, String::new()),
        };
        self.welcome(number, &resumption);
        let channel = head.query.and_then(|query| query.split("join=").nth(1)).map(str::to_owned);
        let mut rest = bytes.split_off(len);
        if let Some(channel) = channel {
            let join = format!("{{\"id\":\"join\",\"type\":\"join\",\"channel\":\"{channel}\"}}");
            self.execute(number, &join);
        }
        self.take_frames(number, &mut rest);
    }

    fn welcome(&mut self, number: usize, resumption: &str) {
        let has_tickets = self.mischief.has_tickets();
        let Some(connection) = self.connections[number].as_mut() else { return };
        connection.tickets += 1;
        let ticket = match has_tickets {
            true => format!(",\"resume\":\"{number}-{}\"", connection.tickets),
            false => String::new(),
        };
        let welcome =
            format!("{{\"welcome\":{{\"session\":\"session-{number}\",\"user\":null{ticket}{resumption}}}}}");
        put_frame(&mut connection.out, OpCode::Text, welcome.as_bytes());
        let missed = std::mem::take(&mut connection.missed);
        missed.iter().for_each(|frame| connection.out.extend_from_slice(frame));
    }

    /// Moves a connection to the session that it asks for. Its number from now on, and what its welcome says.
    fn resume(&mut self, number: usize, asked: &str) -> (usize, String) {
        let (ticket, received) = asked.split_once("&received=").expect("a ticket and a number");
        let (session, tickets) = ticket.split_once('-').expect("a ticket of ours");
        let session: usize = session.parse().expect("a number");
        let received: usize =
            received.split('&').next().and_then(|text| text.parse().ok()).expect("a number");
        let is_good = self.connections[session]
            .as_ref()
            .is_some_and(|parked| tickets.parse() == Ok(parked.tickets) && received <= parked.record.len());
        if !is_good || self.mischief == Mischief::Lapse {
            return (number, ",\"resumed\":false".into());
        }
        let mut connection = self.connections[number].take().expect("it asks");
        let parked = self.connections[session].as_mut().expect("it is there");
        std::mem::swap(&mut parked.stream, &mut connection.stream);
        (parked.out, parked.is_parked) = (connection.out, false);
        (parked.decoder, parked.head) = (Decoder::new(), None);
        parked.missed = parked.record[received..].to_vec();
        if self.mischief == Mischief::ResumeTooLittle && !parked.missed.is_empty() {
            parked.missed.remove(0);
        }
        let registry = self.poll.registry();
        registry.deregister(&mut connection.stream).ok();
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut parked.stream, Token(session), interest).expect("registered");
        self.dirty.push(session);
        (session, ",\"resumed\":true".into())
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

    pub(super) fn put(&mut self, number: usize, text: &str) {
        let mut frame = BytesMut::new();
        put_frame(&mut frame, OpCode::Text, text.as_bytes());
        self.put_frame(number, &frame);
    }

    /// Puts a message of the session.
    pub(super) fn put_frame(&mut self, number: usize, frame: &[u8]) {
        let has_tickets = self.mischief.has_tickets();
        let Some(connection) = self.connections[number].as_mut() else { return };
        if has_tickets {
            connection.record.push(frame.into());
        }
        if !connection.is_parked {
            connection.out.extend_from_slice(frame);
        }
    }

    fn pong(&mut self, number: usize, payload: &[u8]) {
        if let Some(connection) = self.connections[number].as_mut() {
            put_frame(&mut connection.out, OpCode::Pong, payload);
        }
    }

    pub(super) fn hang_up(&mut self, number: usize) {
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
        if self.mischief.has_tickets() {
            // What has not been read waits in the record.
            if let Some(connection) = self.connections[number].as_mut() {
                (connection.is_parked, connection.out) = (true, BytesMut::new());
                self.poll.registry().deregister(&mut connection.stream).ok();
            }
            return;
        }
        let Some(connection) = self.connections[number].take() else { return };
        for channel in &connection.joined {
            if self.channels.get(channel).is_some_and(|members| members.contains(&number)) {
                self.leave(number, channel);
            }
        }
    }
}
