//! Handshakes of TLS on the loop.
//!
//! A handshake costs as much as hundreds of messages, so a turn makes only [`HANDSHAKES_PER_TURN`] steps of
//! them; connections that wait for a step are asked in order. A handshake has as long as a request may take.

use std::{collections::VecDeque, io};

use super::Worker;
use crate::connection::{ConnectionSlot, Flag, Protocol};

/// Steps of handshakes in one turn. The dear one of each is a signature: 0.03 ms with ECDSA, 0.7 ms with RSA
/// of 2048 bits.
const HANDSHAKES_PER_TURN: u32 = 8;

/// The handshakes of a worker.
pub(super) struct Securing {
    /// Steps that this turn may still make.
    left: u32,
    /// Connections that wait for a step. Each is in there once, and has [`Flag::Ready`].
    waiting: VecDeque<ConnectionSlot>,
}

impl Default for Securing {
    fn default() -> Self {
        Self { left: HANDSHAKES_PER_TURN, waiting: VecDeque::new() }
    }
}

impl Securing {
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether this turn has room for a step of a handshake, which is then taken.
    pub(super) fn take_step(&mut self) -> bool {
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }
}

impl Worker {
    /// Goes on with the handshakes that waited for this turn.
    pub(super) fn go_on_securing(&mut self, buffer: &mut [u8]) {
        self.securing.left = HANDSHAKES_PER_TURN;
        while self.securing.left > 0
            && let Some(slot) = self.securing.waiting.pop_front()
        {
            if let Some(connection) = self.connections.live(slot) {
                connection.flags.lower(Flag::Ready);
                self.on_readable(slot, buffer);
            }
        }
    }

    pub(super) fn secure_later(&mut self, slot: ConnectionSlot) {
        if let Some(connection) = self.connections.live(slot)
            && connection.flags.raise(Flag::Ready)
        {
            self.securing.waiting.push_back(slot);
        }
    }

    /// Records came on a secured connection: what TLS answers is sent, and a handshake may be over.
    pub(super) fn on_records(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        let Some(tls) = connection.tls() else { return };
        let (unsent, established, resumed) = (tls.unsent(), tls.is_established(), tls.is_resumed());
        if established && matches!(connection.protocol, Protocol::Securing) {
            connection.protocol = Protocol::Http(None);
            self.counters.tls_handshakes_total += 1;
            self.counters.tls_resumptions_total += u64::from(resumed);
        }
        if unsent > 0 {
            self.connections.send_records(slot);
        }
    }

    /// A read failed: the socket is broken, or what came is not TLS.
    pub(super) fn on_read_error(&mut self, slot: ConnectionSlot, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            self.counters.tls_failures_total += 1;
            tracing::debug!(%error, "a connection ends: TLS failed");
            // The alert, if the socket takes it.
            self.connections.send_records(slot);
        }
        self.close(slot);
    }

    /// A handshake that is not over ends: its time is, or its peer has gone.
    pub(super) fn on_unsecured(&mut self, slot: ConnectionSlot) {
        self.counters.tls_failures_total += 1;
        tracing::debug!("a connection ends: its TLS handshake was not finished");
        self.close(slot);
    }
}
