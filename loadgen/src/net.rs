//! One worker's connections: sockets, handshakes, frames. Knows nothing of what the messages mean.
//!
//! ```text
//!  open ─▶ queue ─▶ Connecting ─▶ Upgrading ─▶ Open ─▶ Closing ─▶ gone
//!          (at most `parallel` of these two)    │                  ▲
//!                                               └── peer closes ───┘
//! ```
//!
//! All reads go through one buffer, so a connection at rest is a [`Peer`]: some thirty bytes. What a connection
//! needs only for a while (its handshake, bytes the kernel would not take) hangs off it in a box.
//!
//! Edge-triggered, registered once for reading and writing. A read that returns less than the buffer holds has
//! emptied the socket (epoll(7)), which saves the read that would say `WouldBlock`; only when the peer has also
//! ended its stream is the read repeated, to see that end.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    os::fd::RawFd,
    time::Duration,
};

use bytes::BytesMut;
use fanfare_core::{
    http::{HttpLimits, parse_response_head},
    ws::{
        DecodeLimits, Decoder, Message, OpCode, Role, check_response, put_close, put_masked_frame,
        put_request,
    },
};
use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream, unix::SourceFd};

use crate::{clock::now_ns, timer::Timer};

/// A connection of this worker.
pub(crate) type Slot = u32;

const READ_BUFFER_BYTES: usize = 256 << 10;
/// Reads in a row from one connection before the others have their turn.
const READ_ROUNDS: usize = 8;
/// Bytes that may wait for one connection to take them.
const MAX_UNSENT_BYTES: usize = 64 << 20;
const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 16 << 20, fragments: 1 << 16 };

/// How long a worker waits for events at most.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(20);

const POST: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// We closed it.
    ByUs,
    /// The server closed it, with this code and reason.
    ByPeer(Option<(u16, String)>),
    /// There is nobody to connect to, or nothing to connect with: one sentence.
    Unreachable(String),
    /// The handshake failed: one sentence.
    Refused(String),
    /// It broke: one sentence.
    Broken(String),
}

impl Closed {
    /// What there is to say about it, unless we closed it ourselves.
    pub(crate) fn into_sentence(self) -> Option<String> {
        Some(match self {
            Self::ByUs => return None,
            Self::Unreachable(sentence) | Self::Refused(sentence) => sentence,
            Self::ByPeer(Some((code, reason))) if reason.is_empty() => {
                format!("The server closed a connection with code {code}.")
            }
            Self::ByPeer(Some((code, reason))) => {
                format!("The server closed a connection with code {code}: {reason}.")
            }
            Self::ByPeer(None) => "The server closed a connection without a word.".into(),
            Self::Broken(what) => format!("A connection broke: {what}."),
        })
    }
}

/// What a worker's loop calls for each thing that happens.
pub(crate) trait Handler {
    /// A connection is open and may be written to.
    fn on_open(&mut self, net: &mut Net, slot: Slot);
    /// A text or binary message came in, by a read that returned at `now`.
    fn on_message(&mut self, net: &mut Net, slot: Slot, message: &[u8], now: u64);
    /// A connection is gone.
    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed);
}

/// How to reach the server.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// Value of the `Host` header.
    pub(crate) host: String,
    /// Source addresses, as distances from 127.0.0.1; none leaves the address to the system.
    pub(crate) sources: Range<u32>,
    /// Handshakes under way at one time, for each worker.
    pub(crate) parallel: usize,
}

/// One worker's sockets.
pub(crate) struct Net {
    poll: Poll,
    timer: Timer,
    target: Target,
    peers: Vec<Option<Peer>>,
    /// Connections to be made.
    queue: VecDeque<(Slot, String)>,
    opening: usize,
    /// Slots with more to read than one turn allows.
    unread: Vec<Slot>,
    /// Connections that broke outside of an event; told to the handler at the end of the turn.
    broken: Vec<(Slot, Closed)>,
    has_post: bool,
    buffer: Box<[u8]>,
    scratch: BytesMut,
    /// Of the messages sent.
    opcode: OpCode,
    random: u64,
    next_source: u32,
}

struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    stage: PeerStage,
    is_paused: bool,
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerStage {
    Connecting,
    Upgrading,
    Open,
    Closing,
}

/// What only some connections have, and those only for a while.
#[derive(Default)]
struct Extra {
    path: String,
    key: [u8; 16],
    /// The response's head so far.
    head: Vec<u8>,
    /// Bytes to write when the socket takes them again.
    unsent: BytesMut,
}

/// How long to wait for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until this time at most, or [`LONGEST_WAIT`].
    Until(u64),
    /// [`LONGEST_WAIT`] at most.
    Rest,
}

impl Net {
    pub(crate) fn new(target: Target, seed: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        Ok(Self {
            poll,
            timer,
            target,
            peers: Vec::new(),
            queue: VecDeque::new(),
            opening: 0,
            unread: Vec::new(),
            broken: Vec::new(),
            has_post: false,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            scratch: BytesMut::with_capacity(64 << 10),
            opcode: OpCode::Text,
            random: seed | 1,
            next_source: (seed >> 32) as u32,
        })
    }

    /// Messages go out as binary ones from now on.
    pub(crate) fn use_binary(&mut self) {
        self.opcode = OpCode::Binary;
    }

    /// Wakes this worker when there is something to read from this descriptor, too. For one at most.
    pub(crate) fn watch_post(&self, fd: RawFd) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), POST, Interest::READABLE)
    }

    /// Whether there was something since the last time.
    pub(crate) fn take_post(&mut self) -> bool {
        mem::take(&mut self.has_post)
    }

    /// Connects `slot`, which is free, in its turn.
    pub(crate) fn open(&mut self, slot: Slot, path: String) {
        if self.peers.len() <= slot as usize {
            self.peers.resize_with(slot as usize + 1, || None);
        }
        self.queue.push_back((slot, path));
    }

    /// Sends a message. To a connection that is gone, nothing is sent.
    pub(crate) fn send(&mut self, slot: Slot, text: &str) {
        let mask = self.mask();
        let mut scratch = mem::take(&mut self.scratch);
        scratch.clear();
        put_masked_frame(&mut scratch, self.opcode, text.as_bytes(), mask);
        self.send_frames(slot, &scratch);
        self.scratch = scratch;
    }

    /// Appends a masked message to `out`, for [`Net::send_frames`].
    pub(crate) fn put_message(&mut self, out: &mut BytesMut, text: &[u8]) {
        put_masked_frame(out, self.opcode, text, self.mask());
    }

    /// Sends whole frames with one write; what the socket does not take follows when it can.
    pub(crate) fn send_frames(&mut self, slot: Slot, frames: &[u8]) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        if let Err(error) = peer.write(frames) {
            self.broken.push((slot, Closed::Broken(format!("a write failed: {error}"))));
        }
    }

    /// Reads nothing more from a connection, as a slow consumer does.
    pub(crate) fn pause(&mut self, slot: Slot) {
        if let Some(peer) = self.peers[slot as usize].as_mut() {
            peer.is_paused = true;
        }
    }

    /// Reads on.
    pub(crate) fn resume(&mut self, slot: Slot) {
        if let Some(peer) = self.peers[slot as usize].as_mut() {
            peer.is_paused = false;
            self.unread.push(slot);
        }
    }

    /// Drops a connection without a word; the handler is not told. One that is still to be made is kept.
    pub(crate) fn abandon(&mut self, slot: Slot) {
        if let Some(peer) = self.peers[slot as usize].take() {
            self.opening -= usize::from(peer.is_opening());
        }
    }

    /// Begins to close; `on_closed` follows when the server agrees.
    pub(crate) fn close(&mut self, slot: Slot) {
        let mask = self.mask();
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        peer.stage = PeerStage::Closing;
        let mut frame = BytesMut::with_capacity(16);
        put_close(&mut frame, 1000, "", Some(mask));
        self.send_frames(slot, &frame);
    }

    /// Makes new connections, then waits for events and hands them out. Says whether there were any.
    pub(crate) fn turn(
        &mut self,
        events: &mut Events,
        wait: Wait,
        handler: &mut impl Handler,
    ) -> io::Result<bool> {
        self.start_opening(handler);
        self.tell_broken(handler);
        let timeout = match wait {
            _ if !self.unread.is_empty() => Duration::ZERO,
            Wait::No => Duration::ZERO,
            Wait::Until(due_ns) => {
                self.timer.arm(due_ns)?;
                LONGEST_WAIT
            }
            Wait::Rest => LONGEST_WAIT,
        };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            outcome => outcome?,
        }
        let unread = mem::take(&mut self.unread);
        let is_any = !unread.is_empty() || !events.is_empty();
        for slot in unread {
            self.on_readable(slot, true, handler);
        }
        for event in &*events {
            match event.token() {
                POST => self.has_post = true,
                TIMER => self.timer.clear(),
                Token(slot) => self.on_event(slot as Slot, event, handler),
            }
        }
        self.tell_broken(handler);
        Ok(is_any)
    }

    /// A mask need not be unpredictable here: no script chooses what this program sends.
    fn mask(&mut self) -> [u8; 4] {
        (self.next_random() as u32).to_le_bytes()
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn start_opening(&mut self, handler: &mut impl Handler) {
        while self.opening < self.target.parallel
            && let Some((slot, path)) = self.queue.pop_front()
        {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&self.next_random().to_le_bytes());
            key[8..].copy_from_slice(&self.next_random().to_le_bytes());
            match self.connect(slot) {
                Ok(stream) => {
                    let extra = Some(Box::new(Extra { path, key, ..Extra::default() }));
                    let (decoder, stage) = (Decoder::new(), PeerStage::Connecting);
                    let peer = Peer { stream, decoder, stage, is_paused: false, extra };
                    self.peers[slot as usize] = Some(peer);
                    self.opening += 1;
                }
                Err(error) => handler.on_closed(self, slot, Closed::Unreachable(describe(&error))),
            }
        }
    }

    fn connect(&mut self, slot: Slot) -> io::Result<TcpStream> {
        let address = self.target.address;
        let sources = &self.target.sources;
        let mut stream = if sources.is_empty() {
            TcpStream::connect(address)?
        } else {
            self.next_source = (self.next_source + 1) % sources.len() as u32;
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + sources.start + self.next_source);
            connect_from(IpAddr::V4(source), address)?
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(slot as usize), interest)?;
        Ok(stream)
    }

    fn on_event(&mut self, slot: Slot, event: &Event, handler: &mut impl Handler) {
        if event.is_writable() {
            self.on_writable(slot, handler);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.on_readable(slot, event.is_read_closed() || event.is_error(), handler);
        }
    }

    #[inline]
    fn on_writable(&mut self, slot: Slot, handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        let outcome = match &mut peer.extra {
            None => return,
            Some(_) if peer.stage == PeerStage::Connecting => peer.request(&self.target.host),
            Some(_) => peer.flush(),
        };
        if let Err(error) = outcome {
            self.end(slot, handler, |stage| match stage {
                PeerStage::Connecting => Closed::Unreachable(describe(&error)),
                _ => Closed::Broken(format!("a write failed: {error}")),
            });
        }
    }

    /// Reads what there is. `to_the_end` if the peer may have ended its stream.
    fn on_readable(&mut self, slot: Slot, to_the_end: bool, handler: &mut impl Handler) {
        let mut buffer = mem::take(&mut self.buffer);
        for round in 0.. {
            let Some(peer) = self.peers[slot as usize].as_mut() else { break };
            if peer.is_paused {
                break;
            }
            if round == READ_ROUNDS {
                self.unread.push(slot);
                break;
            }
            match peer.stream.read(&mut buffer) {
                Ok(0) => {
                    self.end(slot, handler, |stage| match stage {
                        PeerStage::Closing => Closed::ByUs,
                        PeerStage::Open => Closed::ByPeer(None),
                        _ => Closed::Refused("The server closed the connection during the handshake.".into()),
                    });
                    break;
                }
                Ok(read) => {
                    self.take_bytes(slot, &mut buffer[..read], handler);
                    if read < buffer.len() && !to_the_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end(slot, handler, |stage| match stage {
                        PeerStage::Closing => Closed::ByUs,
                        PeerStage::Connecting => Closed::Unreachable(describe(&error)),
                        _ => Closed::Broken(format!("a read failed: {error}")),
                    });
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    #[inline]
    fn take_bytes(&mut self, slot: Slot, bytes: &mut [u8], handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        if peer.is_opening() {
            return self.take_head(slot, bytes, handler);
        }
        self.take_frames(slot, bytes, handler);
    }

    fn take_frames(&mut self, slot: Slot, bytes: &mut [u8], handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        let now = now_ns();
        // Taken out, so that the handler may use the connections while a message borrows from the decoder.
        let mut decoder = mem::take(&mut peer.decoder);
        let mut at = 0;
        let end = loop {
            match decoder.decode(&mut bytes[at..], Role::Client, LIMITS) {
                Err(error) => {
                    break Some(Closed::Broken(format!("the server broke the WebSocket protocol: {error}")));
                }
                Ok(decoded) => {
                    at += decoded.consumed;
                    match decoded.message {
                        None => break None,
                        Some(Message::Text(text)) => handler.on_message(self, slot, text.as_bytes(), now),
                        Some(Message::Binary(bytes)) => handler.on_message(self, slot, bytes, now),
                        Some(Message::Ping(payload)) => self.pong(slot, payload),
                        Some(Message::Pong(_)) => {}
                        Some(Message::Close(frame)) => {
                            let why = frame.map(|frame| (frame.code, frame.reason.to_owned()));
                            break self.on_close_frame(slot, why);
                        }
                    }
                }
            }
        };
        if let Some(end) = end {
            self.end(slot, handler, |_| end);
        } else if let Some(peer) = self.peers[slot as usize].as_mut() {
            peer.decoder = decoder;
        }
    }

    /// The server's close frame: the end, or the answer to ours, behind which the stream ends.
    fn on_close_frame(&mut self, slot: Slot, why: Option<(u16, String)>) -> Option<Closed> {
        let peer = self.peers[slot as usize].as_mut()?;
        if peer.stage != PeerStage::Closing {
            return Some(Closed::ByPeer(why));
        }
        match peer.stream.shutdown(std::net::Shutdown::Write) {
            Ok(()) => None,
            Err(_) => Some(Closed::ByUs),
        }
    }

    fn take_head(&mut self, slot: Slot, bytes: &mut [u8], handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        match peer.read_head(bytes) {
            Ok(None) => {}
            Ok(Some(mut rest)) => {
                self.opening -= 1;
                handler.on_open(self, slot);
                self.take_frames(slot, &mut rest, handler);
            }
            Err(why) => self.end(slot, handler, |_| Closed::Refused(why)),
        }
    }

    fn pong(&mut self, slot: Slot, payload: &[u8]) {
        let mut frame = BytesMut::with_capacity(payload.len() + 14);
        let mask = self.mask();
        put_masked_frame(&mut frame, OpCode::Pong, payload, mask);
        self.send_frames(slot, &frame);
    }

    /// Drops a connection and says so.
    fn end(&mut self, slot: Slot, handler: &mut impl Handler, why: impl FnOnce(PeerStage) -> Closed) {
        let Some(peer) = self.peers[slot as usize].take() else { return };
        self.opening -= usize::from(peer.is_opening());
        // Closing its only descriptor takes the socket out of the poll (epoll(7)).
        drop(peer.stream);
        handler.on_closed(self, slot, why(peer.stage));
    }

    fn tell_broken(&mut self, handler: &mut impl Handler) {
        while let Some((slot, closed)) = self.broken.pop() {
            self.end(slot, handler, |_| closed);
        }
    }
}

impl Peer {
    fn is_opening(&self) -> bool {
        matches!(self.stage, PeerStage::Connecting | PeerStage::Upgrading)
    }

    /// Writes the handshake's request, if the connection stands.
    fn request(&mut self, host: &str) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        self.stream.set_nodelay(true)?;
        self.stage = PeerStage::Upgrading;
        let extra = self.extra.get_or_insert_default();
        let mut request = BytesMut::with_capacity(512);
        put_request(&mut request, host, &extra.path, extra.key, []);
        self.write(&request)
    }

    /// Takes bytes of the response's head. When it is complete and good, what follows it; when it is not good, a
    /// sentence.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let extra = self.extra.get_or_insert_default();
        extra.head.extend_from_slice(bytes);
        let parsed = parse_response_head(&extra.head, HttpLimits::default())
            .map_err(|error| format!("The server does not speak HTTP: {error}."))?;
        let Some((head, len)) = parsed else { return Ok(None) };
        if let Err(error) = check_response(head.status, head.headers.iter(), extra.key) {
            let body = String::from_utf8_lossy(&extra.head[len..]);
            let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
            let detail = detail.as_ref().and_then(|problem| problem.get("detail")?.as_str());
            let colon = if detail.is_some() { ": " } else { "." };
            return Err(format!("The handshake was refused, {error}{colon}{}", detail.unwrap_or_default()));
        }
        let rest = extra.head.split_off(len);
        self.stage = PeerStage::Open;
        if extra.unsent.is_empty() {
            self.extra = None;
        }
        Ok(Some(rest))
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.extra.as_ref().is_none_or(|extra| extra.unsent.is_empty()) {
            bytes = &bytes[write_some(&mut self.stream, bytes)?..];
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let extra = self.extra.get_or_insert_default();
        if extra.unsent.len() + bytes.len() > MAX_UNSENT_BYTES {
            return Err(io::Error::other("the server does not read what is sent to it"));
        }
        extra.unsent.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(extra) = &mut self.extra else { return Ok(()) };
        let written = write_some(&mut self.stream, &extra.unsent)?;
        if written < extra.unsent.len() {
            bytes::Buf::advance(&mut extra.unsent, written);
        } else if self.stage == PeerStage::Upgrading {
            extra.unsent = BytesMut::new();
        } else {
            self.extra = None;
        }
        Ok(())
    }
}

/// Writes until the socket takes no more; says how much it took.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(taken) => written += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => {
            format!(
                "No local port is free for one more connection ({error}); more --sources have more ports."
            )
        }
        _ => format!("A connection could not be made: {error}."),
    }
}
