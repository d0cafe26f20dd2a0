//! The connections of a worker: their sockets, what they still have to send, and what of their input waits.
//!
//! At rest a connection holds no buffers. A slot that is vacated is given out again only after the turn, so nothing noted during a
//! turn can mean another connection; what outlives a turn carries the generation too, see [`ConnectionId`].

use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use fanfare_core::{
    engine::{Segments, Sink},
    http::{BodyDecoder, HeadScan},
    id::SessionSlot,
    slots::Slots,
    ws::Decoder,
};
use mio::net::TcpStream;

use crate::{
    outbound::{Outbound, SLICES},
    timers::Tick,
};

/// Names a connection beyond the present turn: slot and generation.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct ConnectionId {
    pub(crate) slot: u32,
    generation: u32,
}

impl ConnectionId {
    /// As one number, which is never one of the loop's reserved tokens.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub(crate) fn from_token(token: u64) -> Self {
        let low = |n: u64| u32::try_from(n & 0xffff_ffff).expect("it is masked");
        Self { slot: low(token), generation: low(token >> 32) }
    }
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    generation: u32,
    /// When its deadline is looked at: the tick it is armed for in the wheel.
    pub(crate) due: Tick,
    /// When something was last read from it, or, in HTTP, when the present request or rest began.
    pub(crate) heard: Tick,
    /// Input that waits: the beginning of a request, or whatever came while paused.
    #[allow(
        clippy::box_collection,
        reason = "nearly always None: 8 bytes instead of 24 in every connection"
    )]
    pub(crate) input: Option<Box<Vec<u8>>>,
    outbound: Option<Box<Outbound>>,
    pub(crate) protocol: Protocol,
    /// A command or request waits for another thread: no more is read or handled.
    pub(crate) paused: bool,
    /// Its answers wait for the peer to take them: no more is read or handled. HTTP only, and never while paused.
    pub(crate) held: bool,
    /// The poll tells when the socket takes bytes again; it does not from the start, for most never need it.
    pub(crate) watched: bool,
    /// A ping was sent and nothing was heard since.
    pub(crate) pinged: bool,
    /// At least one HTTP request was answered.
    pub(crate) served: bool,
    /// It is on the ready list.
    pub(crate) ready: bool,
    /// The peer has sent all it will.
    pub(crate) half_closed: bool,
}

/// What is spoken on a connection.
pub(crate) enum Protocol {
    /// HTTP/1.1, possibly with a body under way.
    Http(Option<Box<Exchange>>),
    /// RFC 6455, for this session.
    WebSocket { decoder: Decoder, session: SessionSlot },
    /// Our last word is said: what still comes is discarded, and the connection ends when the peer ends it or its
    /// deadline comes.
    Closing,
    /// Over; the slot is vacated at the end of the turn.
    Dead,
}

/// An HTTP request that is not yet complete.
#[derive(Default)]
pub(crate) struct Exchange {
    /// How far the head has been scanned for its end.
    pub(crate) scan: HeadScan,
    /// Head and decoder of a request whose body is under way.
    pub(crate) body: Option<PendingBody>,
}

/// A body under way.
pub(crate) struct PendingBody {
    pub(crate) head: Vec<u8>,
    pub(crate) decoder: BodyDecoder,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    /// Bytes that wait to be sent.
    pub(crate) fn backlog(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.len())
    }

    /// Whether everything has been handed to the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbound.is_none()
    }

    /// Since when the kernel has taken nothing of what is queued; `None` if nothing is.
    pub(crate) fn stalled_since(&self) -> Option<Tick> {
        self.outbound.as_ref().map(|outbound| outbound.moved())
    }

    /// Whether part of an HTTP request is here, or what may be one.
    pub(crate) fn is_amid_request(&self) -> bool {
        self.input.is_some() || matches!(self.protocol, Protocol::Http(Some(_)))
    }

    fn queue(&mut self, bytes: Bytes, now: Tick) {
        self.outbound.get_or_insert_with(|| Box::new(Outbound::new(now))).push(bytes);
    }

    /// Sends what is queued. Returns whether nothing is left.
    pub(crate) fn send_queued(&mut self, now: Tick) -> io::Result<bool> {
        let Some(outbound) = &mut self.outbound else { return Ok(true) };
        let done = outbound.send(&mut self.stream, now)?;
        if done {
            self.outbound = None;
        }
        Ok(done)
    }
}

/// All connections of a worker.
#[derive(Default)]
pub(crate) struct Connections {
    /// The turn's tick.
    pub(crate) now: Tick,
    slots: Slots<Connection>,
    next_generation: u32,
    /// Slots to vacate at the end of the turn.
    dead: Vec<u32>,
    /// Connections whose socket failed while output was written.
    broken: Vec<u32>,
    /// Connections that have bytes queued and are not watched for room.
    blocked: Vec<u32>,
    /// Bytes handed to the kernel.
    pub(crate) sent_bytes: u64,
}

impl Connections {
    /// Takes in a socket.
    pub(crate) fn insert(&mut self, stream: TcpStream) -> ConnectionId {
        self.next_generation = self.next_generation.wrapping_add(1) & 0x7fff_ffff;
        let generation = self.next_generation;
        let slot = self.slots.insert(Connection {
            stream,
            generation,
            due: self.now,
            heard: self.now,
            input: None,
            outbound: None,
            protocol: Protocol::Http(None),
            paused: false,
            held: false,
            watched: false,
            pinged: false,
            served: false,
            ready: false,
            half_closed: false,
        });
        ConnectionId { slot, generation }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slots(&self) -> Vec<u32> {
        self.slots.occupied().collect()
    }

    pub(crate) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot].generation }
    }

    /// The connection, if it is the one meant and not over.
    pub(crate) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.live(id.slot).filter(|connection| connection.generation == id.generation)
    }

    /// The connection in `slot`, unless it is over.
    pub(crate) fn live(&mut self, slot: u32) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(slot)?;
        (!matches!(connection.protocol, Protocol::Dead)).then_some(connection)
    }

    /// Ends a connection; gives back what it spoke.
    pub(crate) fn bury(&mut self, slot: u32) -> Protocol {
        let connection = &mut self.slots[slot];
        self.dead.push(slot);
        connection.outbound = None;
        connection.input = None;
        std::mem::replace(&mut connection.protocol, Protocol::Dead)
    }

    /// Vacates the slots of connections that are over, which closes their sockets. Returns how many there were.
    pub(crate) fn vacate(&mut self) -> usize {
        let vacated = self.dead.len();
        for slot in self.dead.drain(..) {
            self.slots.remove(slot);
        }
        vacated
    }

    /// Connections whose socket failed during writes.
    pub(crate) fn take_broken(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.broken)
    }

    /// Connections that must be watched for room to send.
    pub(crate) fn take_blocked(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.blocked)
    }

    /// Sends bytes at once, or queues what the kernel does not take.
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8]) {
        let now = self.now;
        let Some(connection) = self.live(slot) else { return };
        let mut sent = 0;
        if connection.outbound.is_none() {
            match connection.stream.write(bytes) {
                Ok(n) => sent = n,
                Err(error) if would_block(&error) => {}
                Err(_) => return self.broken.push(slot),
            }
        }
        if sent < bytes.len() {
            connection.queue(Bytes::copy_from_slice(&bytes[sent..]), now);
            if !connection.watched {
                self.blocked.push(slot);
            }
        }
        self.sent_bytes += sent as u64;
    }
}

impl Sink for Connections {
    fn write(&mut self, slot: u32, parts: Segments<'_>) -> usize {
        let now = self.now;
        let Some(connection) = self.slots.get_mut(slot) else { return 0 };
        if matches!(connection.protocol, Protocol::Dead) {
            return 0;
        }
        let sent = match &connection.outbound {
            Some(_) => 0,
            None => match write_parts(&mut connection.stream, parts) {
                Ok(sent) => sent,
                Err(error) if would_block(&error) => 0,
                Err(_) => {
                    self.broken.push(slot);
                    return 0;
                }
            },
        };
        self.sent_bytes += sent as u64;
        let was_flushed = connection.is_flushed();
        queue_rest(connection, parts, sent, now);
        // More parts than one write takes: no edge will tell us that the kernel has room, so ask.
        if was_flushed && !connection.is_flushed() && connection.send_queued(now).is_err() {
            self.broken.push(slot);
        }
        let backlog = connection.backlog();
        if backlog > 0 && !connection.watched {
            self.blocked.push(slot);
        }
        backlog
    }
}

/// One write: of the single part there usually is, or of the first [`SLICES`].
fn write_parts(stream: &mut TcpStream, mut parts: Segments<'_>) -> io::Result<usize> {
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

/// Queues what was not sent, sharing the buffers.
fn queue_rest(connection: &mut Connection, parts: Segments<'_>, mut sent: usize, now: Tick) {
    for (buffer, range) in parts {
        if sent >= range.len() {
            sent -= range.len();
        } else {
            connection.queue(buffer.slice(range.start + sent..range.end), now);
            sent = 0;
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // In debug builds mio keeps a selector's id with each socket.
        let bound = if cfg!(debug_assertions) { 72 } else { 56 };
        assert!(size_of::<Connection>() <= bound, "{}", size_of::<Connection>());
    }

    #[test]
    fn connection_id_survives_its_token() {
        let id = ConnectionId { slot: 7, generation: 0x7fff_ffff };
        assert_eq!(ConnectionId::from_token(id.token()), id);
    }
}
