//! A turn of a worker's loop: makes connections, waits for events, reads, and tells the handler.
//!
//! Edge-triggered, registered once for reading and writing. A read that returns less than the buffer holds
//! has emptied the socket (epoll(7)), which saves the read that would say `WouldBlock`; only when the peer
//! has also ended its stream is the read repeated, to see that end.

use std::{
    io::{self, ErrorKind},
    mem,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::BytesMut;
use fanfare_core::ws::{DecodeLimits, Message, OpCode, Role, put_masked_frame};
use mio::{Events, Interest, Token, event::Event, net::TcpStream};

use super::{
    Closed, Handler, LONGEST_WAIT, Net, SIGNAL, Slot, TIMER, Wait,
    peer::{Opening, Peer, PeerStage, connect_from},
    stream::Stream,
};
use crate::clock::now_ns;

/// Reads in a row from one connection before the others have their turn.
const READ_ROUNDS: usize = 8;
const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 16 << 20, fragments: 1 << 16 };

/// How far a socket is read.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Reading {
    /// What has come.
    Present,
    /// Until the system says that no more is there: the peer may have ended its stream.
    ToTheEnd,
}

impl Net {
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
            self.on_readable(slot, Reading::ToTheEnd, handler);
        }
        for event in &*events {
            match event.token() {
                SIGNAL => self.has_signal = true,
                TIMER => self.timer.clear(),
                Token(slot) => self.on_event(slot as Slot, event, handler),
            }
        }
        self.tell_broken(handler);
        Ok(is_any)
    }

    fn start_opening(&mut self, handler: &mut impl Handler) {
        while self.opening < self.target.parallel
            && let Some((slot, access)) = self.queue.pop_front()
        {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&self.next_random().to_le_bytes());
            key[8..].copy_from_slice(&self.next_random().to_le_bytes());
            match self.connect(slot) {
                Ok(stream) => {
                    self.peers[slot as usize] = Some(Peer::new(stream, access, key));
                    self.opening += 1;
                }
                Err(error) => handler.on_closed(self, slot, Closed::unreachable(&error)),
            }
        }
    }

    fn connect(&mut self, slot: Slot) -> io::Result<Stream> {
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
        Stream::new(stream, self.target.tls.as_ref())
    }

    fn on_event(&mut self, slot: Slot, event: &Event, handler: &mut impl Handler) {
        if event.is_writable() {
            self.on_writable(slot, handler);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let ends = event.is_read_closed() || event.is_error();
            self.on_readable(slot, if ends { Reading::ToTheEnd } else { Reading::Present }, handler);
        }
    }

    #[inline]
    fn on_writable(&mut self, slot: Slot, handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        match peer.on_writable(&self.target.host) {
            Ok(Opening::UnderWay) => {}
            Ok(Opening::Done) => {
                self.opening -= 1;
                handler.on_open(self, slot);
                self.ask(slot, handler);
            }
            Err(error) => self.end(slot, handler, |stage| match stage {
                PeerStage::Connecting => Closed::unreachable(&error),
                _ => Closed::Broken(format!("a write failed: {error}")),
            }),
        }
    }

    /// The next request of a connection that speaks HTTP. One that closes and has nothing left to ask ends.
    fn ask(&mut self, slot: Slot, handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        match peer.ask(&self.target.host) {
            Ok(false) if peer.stage == PeerStage::Closing => self.end(slot, handler, |_| Closed::ByUs),
            Ok(_) => {}
            Err(error) => {
                self.end(slot, handler, |_| Closed::Broken(format!("a write failed: {error}")));
            }
        }
    }

    /// Bytes of an answer to a connection that speaks HTTP.
    fn take_answer(&mut self, slot: Slot, bytes: &[u8], handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        let now = now_ns();
        let mut items = Vec::new();
        let outcome = peer.read_answer(bytes, &mut |item| items.push(item.to_vec()));
        for item in items {
            handler.on_message(self, slot, &item, now);
        }
        match outcome {
            Ok(()) => self.ask(slot, handler),
            Err(why) => self.end(slot, handler, |_| Closed::Refused(why)),
        }
    }

    fn on_readable(&mut self, slot: Slot, reading: Reading, handler: &mut impl Handler) {
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
                    if read < buffer.len() && reading == Reading::Present && self.is_emptied(slot) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end(slot, handler, |stage| match stage {
                        PeerStage::Closing => Closed::ByUs,
                        PeerStage::Connecting => Closed::unreachable(&error),
                        PeerStage::Asking | PeerStage::Upgrading
                            if error.kind() == ErrorKind::InvalidData =>
                        {
                            Closed::Refused(format!("The TLS handshake failed: {error}."))
                        }
                        _ => Closed::Broken(format!("a read failed: {error}")),
                    });
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Whether a read that did not fill the buffer has left nothing behind.
    fn is_emptied(&self, slot: Slot) -> bool {
        self.peers[slot as usize].as_ref().is_none_or(|peer| peer.stream.short_read_is_the_last())
    }

    #[inline]
    fn take_bytes(&mut self, slot: Slot, bytes: &mut [u8], handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        match peer.stage {
            PeerStage::Asking => {
                if let Err(why) = peer.read_first(bytes, &self.target.host) {
                    self.end(slot, handler, |_| Closed::Refused(why));
                }
            }
            PeerStage::Connecting | PeerStage::Upgrading => self.take_head(slot, bytes, handler),
            _ if peer.is_http => self.take_answer(slot, bytes, handler),
            PeerStage::Open | PeerStage::Closing => self.take_frames(slot, bytes, handler),
        }
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
                        Some(Message::Pong(_)) => handler.on_pong(slot),
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
        match peer.stream.finish() {
            Ok(()) => None,
            Err(_) => Some(Closed::ByUs),
        }
    }

    fn take_head(&mut self, slot: Slot, bytes: &mut [u8], handler: &mut impl Handler) {
        let Some(peer) = self.peers[slot as usize].as_mut() else { return };
        match peer.read_head(bytes, &mut self.handshakes.software) {
            Ok(None) => {}
            Ok(Some(mut rest)) => {
                self.opening -= 1;
                self.count_handshake(slot);
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
