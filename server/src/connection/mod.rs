//! A connection: its socket, what it still has to send, and what of its input waits.
//!
//! A connection at rest holds no buffers. A [`Link`] stands between a connection and its socket: the queue of
//! output, or TLS. A connection without TLS has a link only while output waits. A [`ConnectionSlot`] names a
//! connection within a turn; a [`ConnectionId`] also has the generation, and names a connection beyond a
//! turn.

mod flags;
mod link;
mod outlet;
mod table;

use std::{
    io::{self, Read},
    net::IpAddr,
};

use fanfare_core::{
    dialect,
    http::{BodyDecoder, HeadScan},
    id::SessionSlot,
    ws::Decoder,
};
use mio::net::TcpStream;

pub(crate) use self::{
    flags::{Flag, Flags},
    outlet::{
        Held, OutletId, OutletKind, OutletSlot, Polling, PollingBackEnd, Posting, Stage, Standing, Stranger,
    },
    table::{Client, Connections, Socket, Transport},
};
use self::{link::Link, table::CountedStream};
use crate::{
    outbound::Outbound,
    timers::Tick,
    tls::{Received, SocketState, Tls, WriteScratch},
};

/// A connection's place in its worker's table. A slot that is given back is taken again only after the turn.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct ConnectionSlot(pub(crate) u32);

/// Names a connection beyond the present turn: slot and generation.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct ConnectionId {
    pub(crate) slot: ConnectionSlot,
    generation: u32,
}

impl ConnectionId {
    /// As one number, which is never one of the loop's reserved tokens.
    pub(crate) fn token(self) -> u64 {
        token(self.generation, self.slot.0)
    }

    pub(crate) fn from_token(token: u64) -> Self {
        let [generation, slot] = halves(token);
        Self { slot: ConnectionSlot(slot), generation }
    }
}

/// Generation and slot as one number.
fn token(generation: u32, slot: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

/// The generation and the slot of a token.
fn halves(token: u64) -> [u32; 2] {
    [token >> 32, token & 0xffff_ffff].map(|half| u32::try_from(half).expect("it is half of a token"))
}

/// A tick that does not come.
pub(crate) const NEVER: Tick = Tick::MAX;

/// One connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    generation: u32,
    /// When its deadline is looked at: the tick it is armed for in the wheel.
    pub(crate) due: Tick,
    /// When something was last read from it, or, in HTTP, when the present request or rest began.
    pub(crate) heard: Tick,
    /// When the WebSocket message under way began, or [`NEVER`] while none is.
    pub(crate) message_began: Tick,
    /// Input that waits: the beginning of a request, or whatever came while paused.
    #[allow(
        clippy::box_collection,
        reason = "nearly always None: 8 bytes instead of 24 in every connection"
    )]
    pub(crate) input: Option<Box<Vec<u8>>>,
    link: Option<Box<Link>>,
    pub(crate) protocol: Protocol,
    pub(crate) flags: Flags,
}

/// What is spoken on a connection.
pub(crate) enum Protocol {
    /// The PROXY protocol's header, before any other protocol.
    Preamble,
    /// The TLS handshake, before any other protocol.
    Securing,
    /// HTTP/1.1, possibly with a body under way.
    Http(Option<Box<PartialRequest>>),
    /// RFC 6455, for this session.
    WebSocket { decoder: Decoder, session: SessionSlot },
    /// A WebSocket (RFC 6455) before its session begins.
    Lobby(Box<Lobby>),
    /// HTTP, with a held poll that waits for this outlet's output. The connection is not read.
    Poll(OutletId),
    /// A WebSocket (RFC 6455) to which a client that polls may change.
    Probe(Box<Probe>),
    /// The WebSocket (RFC 6455) of a back end.
    BackEnd(Box<BackEnd>),
    /// The server has said its last word: further input is discarded, and the connection ends when the peer
    /// ends it or when its deadline comes.
    Closing,
    /// Over; the slot is reclaimed at the end of the turn.
    Closed,
}

impl Protocol {
    /// What is spoken first, after the PROXY protocol's header if there is one.
    fn first(tls: Option<&Tls>) -> Self {
        match tls.is_none_or(Tls::is_established) {
            true => Self::Http(None),
            false => Self::Securing,
        }
    }
}

/// A WebSocket that has no session yet.
pub(crate) struct Lobby {
    pub(crate) decoder: Decoder,
    pub(crate) state: dialect::Lobby,
    /// The origin of the client's page.
    pub(crate) origin: Option<Box<str>>,
    /// The client's address.
    pub(crate) address: Option<IpAddr>,
    pub(crate) began: Tick,
}

/// A WebSocket to which a client that polls may change.
pub(crate) struct Probe {
    pub(crate) decoder: Decoder,
    pub(crate) outlet: OutletId,
}

/// The WebSocket of a back end.
pub(crate) struct BackEnd {
    pub(crate) decoder: Decoder,
    pub(crate) state: dialect::BackEnd,
}

/// An HTTP request that is not yet complete.
#[derive(Default)]
pub(crate) struct PartialRequest {
    /// How far the head has been scanned for its end.
    pub(crate) scan: HeadScan,
    /// Head and decoder of a request whose body is under way.
    pub(crate) body: Option<PartialBody>,
}

/// A body under way.
pub(crate) struct PartialBody {
    pub(crate) head: Vec<u8>,
    pub(crate) decoder: BodyDecoder,
    pub(crate) body: Vec<u8>,
    /// The outlet of the client, if the request is the POST of a client that polls.
    pub(crate) outlet: Option<OutletId>,
}

impl Connection {
    fn new(socket: Socket, generation: u32, now: Tick) -> Self {
        let protocol = Protocol::first(socket.tls.as_deref());
        Self {
            stream: socket.stream,
            generation,
            due: now,
            heard: now,
            message_began: NEVER,
            input: None,
            link: socket.tls.map(|tls| Box::new(Link::secured(tls, now))),
            protocol,
            flags: Flags::default(),
        }
    }

    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.flags.has(flag)
    }

    /// Bytes that wait to be sent.
    pub(crate) fn backlog(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.backlog())
    }

    /// Whether everything has been handed to the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.is_flushed())
    }

    /// Since when the kernel has taken nothing of what is queued; `None` if nothing is.
    pub(crate) fn stalled_since(&self) -> Option<Tick> {
        self.link.as_ref().filter(|link| !link.is_flushed()).map(|link| link.queue.moved())
    }

    /// Whether part of an HTTP request is here, or what may be one.
    pub(crate) fn is_amid_request(&self) -> bool {
        self.input.is_some() || matches!(self.protocol, Protocol::Http(Some(_)))
    }

    /// The queue of output, which is created if the connection has none.
    fn outbound(&mut self, now: Tick) -> &mut Outbound {
        &mut self.link.get_or_insert_with(|| Box::new(Link::queue(now))).queue
    }

    pub(crate) fn is_secured(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.tls.is_some())
    }

    /// The connection's TLS, if it has any.
    pub(crate) fn tls(&mut self) -> Option<&mut Tls> {
        self.link.as_mut()?.tls.as_deref_mut()
    }

    /// Takes bytes from the socket before any protocol of its own reads it.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Begins the protocol that follows the PROXY protocol's header.
    pub(crate) fn end_preamble(&mut self) {
        self.protocol = Protocol::first(self.tls().map(|tls| &*tls));
    }

    /// Reads once. `ciphertext` is the buffer for a read through TLS.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8], ciphertext: &mut Vec<u8>) -> io::Result<Received> {
        if let Some(tls) = self.link.as_mut().and_then(|link| link.tls.as_mut()) {
            ciphertext.resize(buffer.len(), 0);
            return tls.read(&mut self.stream, ciphertext, buffer);
        }
        let bytes = self.stream.read(buffer)?;
        let socket = match bytes {
            0 => SocketState::Ended,
            n if n < buffer.len() => SocketState::Emptied,
            _ => SocketState::MayHaveMore,
        };
        Ok(Received { bytes, wire_bytes: bytes, socket })
    }

    /// Sends what is queued. Returns whether nothing is left.
    fn send_queued(
        &mut self,
        scratch: &mut WriteScratch,
        sent_bytes: &mut u64,
        now: Tick,
    ) -> io::Result<bool> {
        let Some(link) = &mut self.link else { return Ok(true) };
        let done = link.send(CountedStream::new(&mut self.stream, sent_bytes), scratch, now)?;
        if done && link.tls.is_none() {
            self.link = None;
        }
        Ok(done)
    }
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
        let id = ConnectionId { slot: ConnectionSlot(7), generation: 0x7fff_ffff };
        assert_eq!(ConnectionId::from_token(id.token()), id);
    }
}
