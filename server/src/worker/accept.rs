//! Taking sockets in: accepting within a budget, pausing when descriptors run out, registering with the poll.

use std::{io::Write, net::IpAddr};

use mio::{Interest, Token, net::TcpStream};

use super::Worker;
use crate::{
    config::Preamble,
    connection::{ConnectionSlot, Flag, Protocol, Socket},
    http::reply::{Problem, Reply},
    listener::{Accepted, PAUSE_MS},
    timers::{TICK_MS, Tick},
};

/// Connections accepted from one listener before others get their turn.
const ACCEPT_BUDGET: usize = 128;

/// Whether there are connections to accept.
pub(super) enum Accepting {
    /// The kernel tells when.
    Idle,
    /// The budget ran out.
    More,
    /// Descriptors ran out; try again at this tick.
    Paused(Tick),
}

impl Worker {
    /// Accepts from every listener, within the budget.
    pub(super) fn accept(&mut self) {
        self.accepting = Accepting::Idle;
        for at in 0..self.listeners.len() {
            for accepted in 0.. {
                if accepted == ACCEPT_BUDGET {
                    self.accepting = Accepting::More;
                    break;
                }
                match self.listeners[at].accept() {
                    Accepted::Stream(stream, peer) => self.take_in(at, stream, peer),
                    Accepted::Nobody => break,
                    Accepted::Skip => {}
                    Accepted::Exhausted(error) => {
                        if !std::mem::replace(&mut self.starved, true) {
                            tracing::warn!(%error, "accepting pauses: out of descriptors or memory");
                        }
                        self.counters.accept_pauses_total += 1;
                        let rest = Tick::try_from(PAUSE_MS / TICK_MS).expect("it is short");
                        self.accepting = Accepting::Paused(self.now + rest);
                        return;
                    }
                }
            }
        }
        if std::mem::take(&mut self.starved) {
            tracing::info!("accepting goes on");
        }
    }

    fn take_in(&mut self, listener: usize, stream: TcpStream, peer: IpAddr) {
        self.counters.accepted_total += 1;
        let preamble = self.listeners[listener].preamble;
        if preamble == Preamble::Proxy && !self.config.trusted_proxies.trust(Some(peer)) {
            self.counters.closed_total += 1;
            return self.refuse_proxy(Some(peer), "its address is not in `trusted_proxies`");
        }
        if !self.control.capacity.take() {
            self.counters.refused_total += 1;
            let detail = "The server has as many connections as it may.";
            return self.refuse(listener, stream, &Problem::new(503, "too_many_connections", detail));
        }
        let counted = match self.count_connection((preamble == Preamble::None).then_some(peer)) {
            Ok(counted) => counted,
            Err(problem) => {
                self.control.capacity.give_back(1);
                return self.refuse(listener, stream, &problem);
            }
        };
        let tls = match &self.listeners[listener].tls {
            None => None,
            Some(settings) => match settings.begin() {
                Ok(tls) => Some(Box::new(tls)),
                Err(error) => {
                    self.control.capacity.give_back(1);
                    if let Some(block) = counted {
                        self.control.addresses.release(block);
                    }
                    self.counters.closed_total += 1;
                    tracing::error!(%error, "TLS could not begin on a connection");
                    return;
                }
            },
        };
        let slot = self.register(Socket { stream, tls, client: None, counted });
        let Some(slot) = slot else { return };
        self.connections.note_arrival(slot, self.stamps.began);
        if preamble == Preamble::Proxy
            && let Some(connection) = self.connections.live(slot)
        {
            connection.protocol = Protocol::Preamble;
        }
    }

    /// Gives a socket a connection of this worker.
    pub(super) fn register(&mut self, socket: Socket) -> Option<ConnectionSlot> {
        let id = self.connections.insert(socket);
        let connection = self.connections.live(id.slot).expect("it was just taken in");
        let token = Token(usize::try_from(id.token()).expect("pointers are 64 bits"));
        // Not for writing: that would be an event for every connection, and most never fill their socket.
        let interest = Interest::READABLE;
        if let Err(error) = self.poll.registry().register(&mut connection.stream, token, interest) {
            tracing::warn!(%error, "a connection could not be registered");
            self.close(id.slot);
            return None;
        }
        let timeout =
            Tick::try_from(u64::from(self.config.request_timeout_ms) / TICK_MS).unwrap_or(Tick::MAX);
        self.arm(id.slot, self.now.saturating_add(timeout));
        Some(id.slot)
    }

    /// Refuses a connection at a limit. Its descriptor is free again at once, for none may be left.
    fn refuse(&mut self, listener: usize, mut stream: TcpStream, problem: &Problem) {
        self.counters.closed_total += 1;
        tracing::debug!(code = problem.code, "a connection was refused");
        if self.listeners[listener].tls.is_some() {
            // A refusal would need a TLS handshake, for which there is no room.
            return;
        }
        self.out.clear();
        Reply::last(self.date()).put_problem(&mut self.out, problem);
        match stream.write(&self.out) {
            Ok(sent) => self.connections.count_sent(sent),
            Err(error) => tracing::debug!(%error, "a refusal could not be sent"),
        }
    }

    /// From now on the poll also tells when the connection's socket takes bytes again. Arming says so at once
    /// if it already does.
    pub(super) fn watch_for_room(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        if !connection.flags.raise(Flag::Watched) {
            return;
        }
        let token = self.connections.id(slot).token();
        let token = Token(usize::try_from(token).expect("pointers are 64 bits"));
        let interest = Interest::READABLE | Interest::WRITABLE;
        let Some(connection) = self.connections.live(slot) else { return };
        if let Err(error) = self.poll.registry().reregister(&mut connection.stream, token, interest) {
            tracing::warn!(%error, "a connection could not be watched for room");
            self.close(slot);
        }
    }
}
