//! The addresses of clients: the socket's peer, or the client that a trusted proxy names.
//!
//! ```text
//!   accept ─▶ the PROXY header ─▶ the connection's client ─▶ a request's forwarding header
//! ```
//!
//! The address of a client that connects directly is kept nowhere: the kernel knows it. A proxy's word counts
//! only if the proxy is in `trusted_proxies`.

use std::{io, net::IpAddr};

use fanfare_core::{
    app::{App, Visitor},
    engine::Terms,
    http::{Head, client_address},
    proxy::{self, HEADER_BYTES_MAX},
};

use super::Worker;
use crate::{
    addresses::{AddressBlock, Admission},
    config::AddressLimits,
    connection::{Client, ConnectionSlot, Flag, Protocol},
    http::{access, reply::Problem},
};

/// The seconds between two log lines about refused PROXY headers.
const QUIET_S: u64 = 10;

/// When a client that is refused at a rate may come again.
const RETRY: &[(&str, &str)] = &[("retry-after", "1")];

/// Whether a connection's next protocol may be read.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Preface {
    /// The header is not whole yet, or the connection is over.
    Waits,
    /// The header has been taken from the socket.
    Done,
}

impl Worker {
    /// The address of the client of a request; `None` if the client has no address.
    pub(super) fn client_of(&self, slot: ConnectionSlot, head: &Head<'_>) -> Option<IpAddr> {
        let peer = self.connections.client(slot);
        client_address(head, self.config.forwarding_header, peer, &self.config.trusted_proxies)
    }

    /// The sender of a request, for the terms of its key.
    pub(super) fn visitor<'h>(&self, slot: ConnectionSlot, head: &Head<'h>) -> Visitor<'h> {
        let (address, now_s) = (self.client_of(slot, head), self.now_ms / 1000);
        Visitor { origin: access::origin(head), address, now_s }
    }

    /// Keeps the address of a request's client with the connection, which belongs to this client from now on.
    pub(super) fn keep_client(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> Option<IpAddr> {
        let client = self.client_of(slot, head);
        if client != self.connections.client(slot) {
            self.connections.name_client(slot, Client(client));
        }
        client
    }

    /// Counts a connection among those of its client's address, if there is a limit. A trusted proxy and a
    /// client without an address have none.
    pub(super) fn count_connection(
        &mut self,
        address: Option<IpAddr>,
    ) -> Result<Option<AddressBlock>, Problem> {
        let most = self.config.address_limits.connections;
        if most == 0 || self.config.trusted_proxies.trust(address) {
            return Ok(None);
        }
        let Some(block) = address.map(AddressBlock::of) else { return Ok(None) };
        match self.control.addresses.take_connection(block, most, self.now_ms) {
            Admission::Counted => Ok(Some(block)),
            Admission::Uncounted => Ok(None),
            Admission::Refused => {
                self.counters.address_refused_total += 1;
                let detail = "There are as many connections from this address as there may be.";
                Err(Problem::new(429, "too_many_connections", detail))
            }
        }
    }

    /// Counts a connection that is there already among those of its client's address.
    fn count_open(&mut self, slot: ConnectionSlot, address: Option<IpAddr>) -> Result<(), Problem> {
        if !self.connections.is_counted(slot)
            && let Some(block) = self.count_connection(address)?
        {
            self.connections.count_for(slot, block);
        }
        Ok(())
    }

    /// Checks a request by what its client's address has used up. A request that asks for a WebSocket makes
    /// the connection one of its client's.
    pub(super) fn admit_request(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> Result<(), Problem> {
        let AddressLimits { connections, handshakes_per_second, failed_keys_per_minute } =
            self.config.address_limits;
        let addresses = &self.control.addresses;
        if addresses.is_blocked(|| self.client_of(slot, head), failed_keys_per_minute, self.now_ms) {
            self.counters.address_blocked_total += 1;
            let detail = "Too many keys, tokens or signatures from this address were wrong.";
            return Err(Problem::new(429, "too_many_failures", detail).with(RETRY));
        }
        if (connections == 0 && handshakes_per_second == 0) || !head.headers.has_token("upgrade", "websocket")
        {
            return Ok(());
        }
        if let Some(connection) = self.connections.live(slot)
            && connection.flags.lower(Flag::Admitted)
        {
            return Ok(());
        }
        let address = self.client_of(slot, head);
        self.admit_handshake(address)?;
        self.count_open(slot, address)
    }

    /// Counts the handshake of a client against the rate of its address.
    pub(super) fn admit_handshake(&mut self, address: Option<IpAddr>) -> Result<(), Problem> {
        let per_second = self.config.address_limits.handshakes_per_second;
        if per_second == 0 || self.config.trusted_proxies.trust(address) {
            return Ok(());
        }
        let Some(block) = address.map(AddressBlock::of) else { return Ok(()) };
        if self.control.addresses.take_handshake(block, per_second, self.now_ms) {
            return Ok(());
        }
        self.counters.address_refused_total += 1;
        let detail = "There are too many handshakes from this address.";
        Err(Problem::new(429, "too_many_handshakes", detail).with(RETRY))
    }

    /// Counts a wrong key, token or signature of a client.
    pub(super) fn count_failed_key(&mut self, address: Option<IpAddr>) {
        self.counters.failed_keys_total += 1;
        let per_minute = self.config.address_limits.failed_keys_per_minute;
        if per_minute > 0
            && let Some(block) = address.map(AddressBlock::of)
        {
            self.control.addresses.fail(block, per_minute, self.now_ms);
        }
    }

    /// Counts the forged session tokens of a request of this client.
    pub(super) fn count_forged_tokens(&mut self, address: impl FnOnce(&Self) -> Option<IpAddr>) {
        if self.engine.take_forged_tokens() > 0 {
            let address = address(self);
            self.count_failed_key(address);
        }
    }

    /// Reads the header of the PROXY protocol. The bytes stay in the socket until the header is whole, so a
    /// connection keeps no bytes of the header, and TLS finds its first byte where it expects it.
    pub(super) fn on_preamble(&mut self, slot: ConnectionSlot, buffer: &mut [u8]) -> Preface {
        let Some(connection) = self.connections.live(slot) else { return Preface::Waits };
        let buffer = &mut buffer[..HEADER_BYTES_MAX];
        let seen = match connection.stream.peek(buffer) {
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Preface::Waits,
            Err(_) => {
                self.close(slot);
                return Preface::Waits;
            }
        };
        let has_ended = seen == 0 || connection.is(Flag::HalfClosed);
        match proxy::decode(&buffer[..seen]) {
            Ok(Some(header)) => self.end_preamble(slot, &header, buffer),
            Ok(None) if has_ended => {
                self.close(slot);
                Preface::Waits
            }
            Ok(None) => Preface::Waits,
            Err(error) => {
                let peer = self.connections.client(slot);
                self.refuse_proxy(peer, &error.to_string());
                self.close(slot);
                Preface::Waits
            }
        }
    }

    fn end_preamble(
        &mut self,
        slot: ConnectionSlot,
        header: &proxy::ProxyHeader,
        buffer: &mut [u8],
    ) -> Preface {
        let Some(connection) = self.connections.live(slot) else { return Preface::Waits };
        // The kernel has these bytes, so one read takes them all.
        if !matches!(connection.take(&mut buffer[..header.bytes]), Ok(taken) if taken == header.bytes) {
            self.close(slot);
            return Preface::Waits;
        }
        connection.end_preamble();
        self.counters.received_bytes_total += header.bytes as u64;
        let client = match header.client {
            proxy::Client::At(address) => Some(address),
            proxy::Client::Local => None,
            proxy::Client::Proxy => return Preface::Done,
        };
        self.connections.name_client(slot, Client(client));
        match self.count_open(slot, client) {
            Ok(()) => Preface::Done,
            Err(problem) => {
                self.refuse_open(slot, &problem);
                Preface::Waits
            }
        }
    }

    /// Refuses a connection after its PROXY header. A client that awaits TLS is not told the reason.
    fn refuse_open(&mut self, slot: ConnectionSlot, problem: &Problem) {
        match self.connections.live(slot).map(|connection| &connection.protocol) {
            Some(Protocol::Http(_)) => self.refuse_and_close(slot, problem),
            _ => self.close(slot),
        }
    }

    /// Ends a connection whose PROXY header has not arrived in time.
    pub(super) fn on_preamble_due(&mut self, slot: ConnectionSlot) {
        if matches!(self.connections.live(slot).map(|live| &live.protocol), Some(Protocol::Preamble)) {
            self.counters.request_timeouts_total += 1;
            self.close(slot);
        }
    }

    /// Counts a connection that is refused on a listener for proxies, and logs it unless one was logged
    /// lately.
    pub(super) fn refuse_proxy(&mut self, peer: Option<IpAddr>, why: &str) {
        self.counters.proxy_refused_total += 1;
        let now_s = self.now_ms / 1000;
        if now_s < self.proxy_quiet_until_s {
            return;
        }
        self.proxy_quiet_until_s = now_s + QUIET_S;
        let address = Client(peer);
        tracing::warn!(%address, "a connection to a listener with `proxy_protocol` was refused: {why}");
    }
}

/// The terms of a session of a client at this address.
pub(super) fn terms(app: &App, address: Option<IpAddr>, key_expires_at: Option<u64>) -> Terms {
    Terms { address: address.filter(|_| app.member_addresses), key_expires_at }
}
