//! TLS handshakes on the worker's loop.
//!
//! A handshake costs as much as hundreds of messages, so a turn makes only [`HANDSHAKES_PER_TURN`] steps of
//! handshakes. Connections that wait for a step get it in order. A handshake may take as long as a request.

use std::{collections::VecDeque, io};

use super::Worker;
use crate::connection::{ConnectionSlot, Flag, Protocol};

/// The most handshake steps in one turn. The most expensive step of a handshake is a signature: 0.03 ms with
/// ECDSA, 0.7 ms with RSA of 2048 bits.
const HANDSHAKES_PER_TURN: u32 = 8;

/// The handshakes of a worker.
pub(super) struct Securing {
    /// The steps that are left in this turn.
    left: u32,
    /// The connections that wait for a step. Each stands here once, and has [`Flag::Ready`].
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

    /// Takes a handshake step of this turn. Returns false if none is left.
    pub(super) fn take_step(&mut self) -> bool {
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }
}

impl Worker {
    /// Continues the handshakes that waited for this turn.
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

    /// Sends the answers of TLS after records came, and begins HTTP when the handshake is over.
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

    /// Handles a failed read: the socket is broken, or the peer broke TLS.
    pub(super) fn on_read_error(&mut self, slot: ConnectionSlot, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            self.counters.tls_failures_total += 1;
            tracing::debug!(%error, "a connection ends: TLS failed");
            // Sends the alert, if the socket takes it.
            self.connections.send_records(slot);
        }
        self.close(slot);
    }

    /// Ends an unfinished handshake after its time-out, or because its peer has gone.
    pub(super) fn on_unsecured(&mut self, slot: ConnectionSlot) {
        self.counters.tls_failures_total += 1;
        tracing::debug!("a connection ends: its TLS handshake was not finished");
        self.close(slot);
    }
}
