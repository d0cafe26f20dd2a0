//! One worker's connections: sockets, handshakes, frames. Knows nothing of what the messages mean.
//!
//! ```text
//!  open ─▶ queue ─▶ Connecting ─▶ Upgrading ─▶ Open ─▶ Closing ─▶ gone
//!          (at most `parallel` of these two)    │                  ▲
//!                                               └── peer closes ───┘
//! ```
//!
//! A connection that speaks HTTP is open as soon as it stands; requests and answers follow each other on it.
//!
//! All reads go through one buffer, so a connection at rest is a [`Peer`]: some thirty bytes. What a
//! connection needs only for a while (its handshake, bytes the kernel would not take) hangs off it in a box.
//!
//! | module | has |
//! |---|---|
//! | this one | what a scenario asks of its connections |
//! | [`turn`] | the loop: connections are made, events become calls of the [`Handler`] |
//! | [`peer`] | one connection's handshake and writes |
//! | [`exchange`] | what connections that speak HTTP ask and hear |
//! | [`stream`], [`tls`] | bytes of a connection, with TLS or without |
//! | [`closed`] | why a connection is no more |

mod closed;
mod exchange;
mod peer;
mod stream;
mod tls;
mod turn;

use std::{collections::VecDeque, io, mem, net::SocketAddr, ops::Range, os::fd::RawFd, time::Duration};

use bytes::BytesMut;
pub(crate) use closed::Closed;
pub(crate) use exchange::{Access, Conversation, Exchange, Request, Response, Texts};
use fanfare_core::ws::{OpCode, put_close, put_masked_frame};
use mio::{Interest, Poll, Token, unix::SourceFd};
use peer::{Peer, PeerStage};
use rustls::HandshakeKind;
use serde::{Deserialize, Serialize};
pub(crate) use tls::TlsClient;

use crate::timer::Timer;

/// A connection of this worker.
pub(crate) type Slot = u32;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// How long a worker waits for events at most.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(20);

const SIGNAL: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// What a worker's loop calls for each thing that happens.
pub(crate) trait Handler {
    /// A connection is open and may be written to.
    fn on_open(&mut self, net: &mut Net, slot: Slot);
    /// A text or binary message came in, by a read that returned at `now`.
    fn on_message(&mut self, net: &mut Net, slot: Slot, message: &[u8], now: u64);
    /// The server answered a ping.
    fn on_pong(&mut self, slot: Slot);
    /// A connection is gone.
    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed);
}

/// How to reach the server.
#[derive(Clone)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// Value of the `Host` header.
    pub(crate) host: String,
    /// With TLS.
    pub(crate) tls: Option<TlsClient>,
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
    queue: VecDeque<(Slot, Access)>,
    opening: usize,
    /// Slots with more to read than one turn allows.
    unread: Vec<Slot>,
    /// Connections that broke outside of an event; told to the handler at the end of the turn.
    broken: Vec<(Slot, Closed)>,
    has_signal: bool,
    buffer: Box<[u8]>,
    scratch: BytesMut,
    /// Of the messages sent.
    opcode: OpCode,
    random: u64,
    next_source: u32,
    handshakes: Handshakes,
}

/// What the handshakes of connections came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// TLS handshakes with certificates and signatures.
    pub full: u64,
    /// TLS handshakes that resumed an earlier connection's session.
    pub resumed: u64,
    /// What the server called itself in a `Server` header.
    pub software: Option<String>,
}

impl Handshakes {
    /// Adds those of another worker.
    pub(crate) fn add(&mut self, other: &Self) {
        self.full += other.full;
        self.resumed += other.resumed;
        if self.software.is_none() {
            self.software.clone_from(&other.software);
        }
    }
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
            has_signal: false,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            scratch: BytesMut::with_capacity(64 << 10),
            opcode: OpCode::Text,
            random: seed | 1,
            next_source: (seed >> 32) as u32,
            handshakes: Handshakes::default(),
        })
    }

    /// What the handshakes came to so far.
    pub(crate) fn handshakes(&self) -> Handshakes {
        self.handshakes.clone()
    }

    /// A connection is open.
    fn count_handshake(&mut self, slot: Slot) {
        match self.peers[slot as usize].as_ref().and_then(|peer| peer.stream.handshake()) {
            Some(HandshakeKind::Resumed) => self.handshakes.resumed += 1,
            Some(_) => self.handshakes.full += 1,
            None => {}
        }
    }

    /// Messages go out as binary ones from now on.
    pub(crate) fn use_binary(&mut self) {
        self.opcode = OpCode::Binary;
    }

    /// Wakes this worker when there is something to read from this descriptor, too. For one at most.
    pub(crate) fn watch_signal(&self, fd: RawFd) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), SIGNAL, Interest::READABLE)
    }

    /// Whether there was something since the last time.
    pub(crate) fn take_signal(&mut self) -> bool {
        mem::take(&mut self.has_signal)
    }

    /// Connects `slot`, which is free, in its turn.
    pub(crate) fn open(&mut self, slot: Slot, access: Access) {
        if self.peers.len() <= slot as usize {
            self.peers.resize_with(slot as usize + 1, || None);
        }
        self.queue.push_back((slot, access));
    }

    /// Sends a message. To a connection that is gone, nothing is sent.
    pub(crate) fn send(&mut self, slot: Slot, text: &str) {
        if self.is_http(slot) {
            self.queue_text(slot, text.as_bytes());
            return self.send_queued(slot);
        }
        let mask = self.mask();
        let mut scratch = mem::take(&mut self.scratch);
        scratch.clear();
        put_masked_frame(&mut scratch, self.opcode, text.as_bytes(), mask);
        self.send_frames(slot, &scratch);
        self.scratch = scratch;
    }

    /// Appends a masked message to `out`, for [`Net::send_frames`] of a WebSocket.
    pub(crate) fn put_message(&mut self, out: &mut BytesMut, text: &[u8]) {
        put_masked_frame(out, self.opcode, text, self.mask());
    }

    /// Whether a connection speaks HTTP.
    pub(crate) fn is_http(&self, slot: Slot) -> bool {
        self.peers[slot as usize].as_ref().is_some_and(|peer| peer.is_http)
    }

    /// Of a connection that speaks HTTP, whether it is ready as soon as it is open.
    pub(crate) fn is_ready(&self, slot: Slot) -> Option<bool> {
        Some(self.peers[slot as usize].as_ref()?.exchange()?.is_ready())
    }

    /// Of a connection that speaks HTTP, what the server calls it.
    pub(crate) fn session(&self, slot: Slot) -> Option<&str> {
        self.peers[slot as usize].as_ref()?.session()
    }

    /// Keeps a text for the next requests of a connection that speaks HTTP.
    pub(crate) fn queue_text(&mut self, slot: Slot, text: &[u8]) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        if let Err(error) = peer.queue(text) {
            self.broken.push((slot, Closed::Broken(format!("a write failed: {error}"))));
        }
    }

    /// Sends texts that were kept, if no answer is awaited; else they follow when it is there.
    pub(crate) fn send_queued(&mut self, slot: Slot) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        if let Err(error) = peer.ask(&self.target.host) {
            self.broken.push((slot, Closed::Broken(format!("a write failed: {error}"))));
        }
    }

    /// Sends whole frames with one write; what the socket does not take follows when it can.
    pub(crate) fn send_frames(&mut self, slot: Slot, frames: &[u8]) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        if let Err(error) = peer.write(frames) {
            self.broken.push((slot, Closed::Broken(format!("a write failed: {error}"))));
        }
    }

    /// Asks the server for a sign of life.
    pub(crate) fn ping(&mut self, slot: Slot) {
        if self.is_http(slot) {
            return;
        }
        let mut frame = BytesMut::with_capacity(16);
        put_masked_frame(&mut frame, OpCode::Ping, b"there?", self.mask());
        self.send_frames(slot, &frame);
    }

    /// The addresses of a connection's own end.
    pub(crate) fn local_address(&self, slot: Slot) -> Option<SocketAddr> {
        self.peers[slot as usize].as_ref()?.stream.socket().local_addr().ok()
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
        if self.is_http(slot) {
            return self.close_exchange(slot);
        }
        let mask = self.mask();
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        peer.stage = PeerStage::Closing;
        let mut frame = BytesMut::with_capacity(16);
        put_close(&mut frame, 1000, "", Some(mask));
        self.send_frames(slot, &frame);
    }

    /// Says farewell, or closes at once if there is no need to.
    fn close_exchange(&mut self, slot: Slot) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        peer.stage = PeerStage::Closing;
        match peer.exchange().and_then(|exchange| exchange.farewell()) {
            Some(farewell) => {
                self.queue_text(slot, farewell);
                self.send_queued(slot);
            }
            None => self.broken.push((slot, Closed::ByUs)),
        }
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
}
