//! All connections of a worker, and the one way for bytes to the kernel.
//!
//! What is written at once, and what was queued and is sent later, goes through [`CountedStream`]: it alone
//! counts sent bytes. A closed connection keeps its slot until [`Connections::reclaim`], so nothing noted
//! during a turn can mean another connection.

use std::{
    fmt,
    io::{self, IoSlice, Write},
    net::IpAddr,
    time::Instant,
};

use fanfare_core::{
    engine::{Segments, Sink},
    slots::Slots,
};
use hashbrown::HashMap;
use mio::net::TcpStream;

use super::{Connection, ConnectionId, ConnectionSlot, Protocol, outlet::Outlets};
use crate::{
    addresses::AddressBlock,
    outbound::SLICES,
    timers::Tick,
    tls::{Tls, TlsWriter, WriteScratch},
};

/// All connections of a worker.
#[derive(Default)]
pub(crate) struct Connections {
    /// The turn's tick.
    pub(crate) now: Tick,
    slots: Slots<Connection>,
    next_generation: u32,
    /// Slots to reclaim at the end of the turn.
    closed: Vec<ConnectionSlot>,
    /// Connections whose socket failed while output was written.
    broken: Vec<ConnectionSlot>,
    /// Connections that have bytes queued and are not watched for room.
    blocked: Vec<ConnectionSlot>,
    /// Bytes handed to the kernel.
    sent_bytes: u64,
    /// The clients that proxies have named, by the connections' slots.
    clients: HashMap<u32, Client>,
    /// The addresses among whose connections these connections count, where a limit is set.
    counted: HashMap<u32, AddressBlock>,
    /// The addresses of counted connections that have ended.
    released: Vec<AddressBlock>,
    /// Clients that poll.
    pub(crate) outlets: Outlets,
    scratch: WriteScratch,
    /// When connections were accepted that have not yet been answered.
    arrivals: HashMap<u32, Instant>,
    /// The number of connections with TLS.
    secured: usize,
    /// When the writes of this turn's output began.
    writes_began: Option<Instant>,
}

/// The bytes of a connection go to the socket as they are, or encrypted.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Transport {
    Tcp,
    Tls,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Tls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// What TLS 1.3 adds to a connection: the bytes that the allocator is asked for, which a test bounds
/// (`server/tests/tls_bytes.rs`), rounded up as the allocator does.
const SECURED_BYTES: usize = 1100;

/// A socket with its TLS state.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) tls: Option<Box<Tls>>,
    /// The client that a proxy has named.
    pub(crate) client: Option<Client>,
    /// The address among whose connections the socket counts.
    pub(crate) counted: Option<AddressBlock>,
}

/// A client that a proxy has named, by its address; `None` if the client has no address.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Client(pub(crate) Option<IpAddr>);

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Connections {
    /// Takes in a socket.
    pub(crate) fn insert(&mut self, socket: Socket) -> ConnectionId {
        self.next_generation = self.next_generation.wrapping_add(1) & 0x7fff_ffff;
        let generation = self.next_generation;
        let (client, counted) = (socket.client, socket.counted);
        self.secured += usize::from(socket.tls.is_some());
        let slot = self.slots.insert(Connection::new(socket, generation, self.now));
        if let Some(client) = client {
            self.clients.insert(slot, client);
        }
        if let Some(block) = counted {
            self.counted.insert(slot, block);
        }
        ConnectionId { slot: ConnectionSlot(slot), generation }
    }

    /// Notes the client of a connection by the word of a trusted proxy.
    pub(crate) fn name_client(&mut self, slot: ConnectionSlot, client: Client) {
        if self.live(slot).is_some() {
            self.clients.insert(slot.0, client);
        }
    }

    /// Notes that a connection counts among those of an address.
    pub(crate) fn count_for(&mut self, slot: ConnectionSlot, block: AddressBlock) {
        self.counted.insert(slot.0, block);
    }

    /// Whether a connection counts among those of its address.
    pub(crate) fn is_counted(&self, slot: ConnectionSlot) -> bool {
        self.counted.contains_key(&slot.0)
    }

    /// The addresses of counted connections that have ended.
    pub(crate) fn take_released(&mut self) -> Vec<AddressBlock> {
        std::mem::take(&mut self.released)
    }

    /// The address of a connection's client: the address that a trusted proxy has named, or the socket's.
    /// `None` for a client without an address, and for a socket that is no longer connected.
    pub(crate) fn client(&self, slot: ConnectionSlot) -> Option<IpAddr> {
        match self.clients.get(&slot.0) {
            Some(Client(address)) => *address,
            None => self.slots.get(slot.0)?.stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
        }
    }

    /// The connection in `slot` was accepted at `at`.
    pub(crate) fn note_arrival(&mut self, slot: ConnectionSlot, at: Instant) {
        self.arrivals.insert(slot.0, at);
    }

    /// When the connection was accepted, if nothing was answered on it. Only the first call returns it.
    pub(crate) fn take_arrival(&mut self, slot: ConnectionSlot) -> Option<(Transport, Instant)> {
        let at = self.arrivals.remove(&slot.0)?;
        let is_secured = self.slots.get(slot.0).is_some_and(Connection::is_secured);
        Some((if is_secured { Transport::Tls } else { Transport::Tcp }, at))
    }

    /// When the writes of this turn's output began, if there was output.
    pub(crate) fn take_writes_began(&mut self) -> Option<Instant> {
        self.writes_began.take()
    }

    /// The bytes of all connections and outlets, without what waits to be sent.
    pub(crate) fn bytes(&self) -> usize {
        let arrivals = self.arrivals.capacity() * 8 / 7 * (size_of::<(u32, Instant)>() + 1);
        self.slots.bytes() + self.secured * SECURED_BYTES + arrivals + self.outlets.bytes()
    }

    /// The bytes of the buffers that all connections share.
    pub(crate) fn scratch_bytes(&self) -> usize {
        self.scratch.bytes()
    }

    /// Gives back memory that closed connections used.
    pub(crate) fn give_back(&mut self) {
        self.arrivals.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slots(&self) -> Vec<ConnectionSlot> {
        self.slots.occupied().map(ConnectionSlot).collect()
    }

    pub(crate) fn id(&self, slot: ConnectionSlot) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot.0].generation }
    }

    /// The connection, if it is the one meant and not closed.
    pub(crate) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.live(id.slot).filter(|connection| connection.generation == id.generation)
    }

    /// The connection in `slot`, unless it is closed.
    pub(crate) fn live(&mut self, slot: ConnectionSlot) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(slot.0)?;
        (!matches!(connection.protocol, Protocol::Closed)).then_some(connection)
    }

    /// Closes a connection; gives back what was spoken on it.
    pub(crate) fn close(&mut self, slot: ConnectionSlot) -> Protocol {
        self.arrivals.remove(&slot.0);
        self.clients.remove(&slot.0);
        self.released.extend(self.counted.remove(&slot.0));
        let connection = &mut self.slots[slot.0];
        self.closed.push(slot);
        self.secured -= usize::from(connection.is_secured());
        connection.link = None;
        connection.input = None;
        std::mem::replace(&mut connection.protocol, Protocol::Closed)
    }

    /// Retires a connection: the worker does nothing more with it, and [`Connections::take_socket`] takes its
    /// socket.
    pub(crate) fn retire(&mut self, slot: ConnectionSlot) {
        let connection = &mut self.slots[slot.0];
        connection.input = None;
        connection.protocol = Protocol::Closed;
    }

    /// Takes the socket of a retired connection. Only at the end of a turn, for the slot is free then.
    pub(crate) fn take_socket(&mut self, slot: ConnectionSlot) -> Socket {
        self.arrivals.remove(&slot.0);
        let (client, counted) = (self.clients.remove(&slot.0), self.counted.remove(&slot.0));
        let connection = self.slots.remove(slot.0);
        self.secured -= usize::from(connection.is_secured());
        Socket { stream: connection.stream, tls: connection.link.and_then(|link| link.tls), client, counted }
    }

    /// Reclaims the slots of closed connections, which closes their sockets. Returns how many there were.
    pub(crate) fn reclaim(&mut self) -> usize {
        let reclaimed = self.closed.len();
        for slot in self.closed.drain(..) {
            self.slots.remove(slot.0);
        }
        reclaimed
    }

    /// Connections whose socket failed during writes.
    pub(crate) fn take_broken(&mut self) -> Vec<ConnectionSlot> {
        std::mem::take(&mut self.broken)
    }

    /// Connections that must be watched for room to send.
    pub(crate) fn take_blocked(&mut self) -> Vec<ConnectionSlot> {
        std::mem::take(&mut self.blocked)
    }

    /// Bytes that the kernel has taken.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Counts bytes that went to a socket that never came into the table.
    pub(crate) fn count_sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// Sends bytes at once, or queues what the kernel does not take.
    pub(crate) fn send(&mut self, slot: ConnectionSlot, bytes: &[u8]) {
        self.transmit(slot, Output::Bytes(bytes));
    }

    /// Sends what is queued for a connection. Returns whether nothing is left.
    pub(crate) fn send_queued(&mut self, slot: ConnectionSlot) -> io::Result<bool> {
        match self.slots.get_mut(slot.0) {
            Some(connection) => connection.send_queued(&mut self.scratch, &mut self.sent_bytes, self.now),
            None => Ok(true),
        }
    }

    /// Hands `output` to the kernel, and queues what that does not take. Returns how many bytes are queued
    /// now.
    #[inline]
    fn transmit(&mut self, slot: ConnectionSlot, output: Output<'_>) -> usize {
        let now = self.now;
        let Some(connection) = self.slots.get_mut(slot.0) else {
            return match output {
                Output::Segments(parts) => self.outlets.write(slot, parts),
                Output::Bytes(_) => 0,
            };
        };
        if matches!(connection.protocol, Protocol::Closed) {
            return 0;
        }
        let was_flushed = connection.is_flushed();
        let mut sent = 0;
        if was_flushed {
            let Connection { stream, link, .. } = connection;
            let mut stream = CountedStream::new(stream, &mut self.sent_bytes);
            let written = match link.as_mut().and_then(|link| link.tls.as_mut()) {
                None => output.write_once(&mut stream),
                Some(tls) => {
                    output.write_once(&mut TlsWriter { tls, socket: stream, scratch: &mut self.scratch })
                }
            };
            match written {
                Ok(n) => sent = n,
                Err(error) if would_block(&error) => {}
                Err(_) => {
                    self.broken.push(slot);
                    return 0;
                }
            }
        }
        output.queue_rest(connection, sent, now);
        // More parts than one write takes: no edge will tell that the kernel has room, so ask.
        if was_flushed
            && !connection.is_flushed()
            && connection.send_queued(&mut self.scratch, &mut self.sent_bytes, now).is_err()
        {
            self.broken.push(slot);
        }
        let backlog = connection.backlog();
        if backlog > 0 && !connection.is(super::Flag::Watched) {
            self.blocked.push(slot);
        }
        backlog
    }

    /// Sends TLS records of the handshake, or an alert.
    pub(crate) fn send_records(&mut self, slot: ConnectionSlot) {
        match self.send_queued(slot) {
            Ok(true) => {}
            Ok(false) => self.blocked.push(slot),
            Err(_) => self.broken.push(slot),
        }
    }

    /// Sends a TLS close alert. Returns whether the kernel has taken the alert.
    pub(crate) fn say_goodbye(&mut self, slot: ConnectionSlot) -> bool {
        let Some(connection) = self.slots.get_mut(slot.0) else { return true };
        let Some(tls) = connection.tls() else { return true };
        if tls.say_goodbye().is_ok() {
            self.send_records(slot);
        }
        self.slots[slot.0].is_flushed()
    }
}

impl Sink for Connections {
    fn begin_writes(&mut self) {
        self.writes_began = Some(Instant::now());
    }

    #[inline]
    fn write(&mut self, slot: u32, parts: Segments<'_>) -> usize {
        self.transmit(ConnectionSlot(slot), Output::Segments(parts))
    }
}

/// A socket that counts what the kernel takes.
pub(super) struct CountedStream<'a> {
    stream: &'a mut TcpStream,
    sent_bytes: &'a mut u64,
}

impl<'a> CountedStream<'a> {
    pub(super) fn new(stream: &'a mut TcpStream, sent_bytes: &'a mut u64) -> Self {
        Self { stream, sent_bytes }
    }
}

impl Write for CountedStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.stream.write(bytes)?;
        *self.sent_bytes += sent as u64;
        Ok(sent)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.stream.write_vectored(slices)?;
        *self.sent_bytes += sent as u64;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What is to be sent on a connection.
#[derive(Copy, Clone)]
enum Output<'a> {
    /// Ranges of buffers that are shared with other connections.
    Segments(Segments<'a>),
    /// Bytes of this connection alone, copied if they have to wait.
    Bytes(&'a [u8]),
}

impl Output<'_> {
    /// One write: of the single piece there usually is, or of the first [`SLICES`].
    #[inline]
    fn write_once(self, stream: &mut impl Write) -> io::Result<usize> {
        let mut parts = match self {
            Self::Bytes(bytes) => return stream.write(bytes),
            Self::Segments(parts) => parts,
        };
        let Some((buffer, range)) = parts.next() else { return Ok(0) };
        let first = &buffer[range];
        let Some((buffer, range)) = parts.next() else { return stream.write(first) };
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(first);
        slices[1] = IoSlice::new(&buffer[range]);
        let mut used = 2;
        for (slice, (buffer, range)) in slices[2..].iter_mut().zip(parts) {
            *slice = IoSlice::new(&buffer[range]);
            used += 1;
        }
        stream.write_vectored(&slices[..used])
    }

    /// Queues all but the first `sent` bytes.
    fn queue_rest(self, connection: &mut Connection, mut sent: usize, now: Tick) {
        match self {
            Self::Bytes(bytes) => {
                if sent < bytes.len() {
                    connection.outbound(now).push_copy(&bytes[sent..]);
                }
            }
            Self::Segments(parts) => {
                for (buffer, range) in parts {
                    if sent >= range.len() {
                        sent -= range.len();
                    } else {
                        connection.outbound(now).push(buffer, range, sent);
                        sent = 0;
                    }
                }
            }
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
