//! How long turns, the stages of deliveries and handshakes take. The clock is read a few times a turn and
//! once a handshake, and never for a message.

use std::time::Instant;

use super::Worker;
use crate::connection::ConnectionSlot;

/// The moments of the present turn.
pub(super) struct Stamps {
    /// The wait for events ended.
    pub(super) began: Instant,
    /// All ready input was read and handled.
    read: Instant,
    /// Mail and operations of other workers were handled.
    ordered: Instant,
}

impl Default for Stamps {
    fn default() -> Self {
        let now = Instant::now();
        Self { began: now, read: now, ordered: now }
    }
}

impl Worker {
    pub(super) fn stamp_read(&mut self) {
        self.stamps.read = Instant::now();
    }

    pub(super) fn stamp_ordered(&mut self) {
        self.stamps.ordered = Instant::now();
    }

    /// Observes the stages of a turn whose output was written. A turn without output is not observed.
    pub(super) fn observe_stages(&mut self) {
        let Some(linked) = self.connections.take_writes_began() else { return };
        let Stamps { began, read, ordered } = self.stamps;
        let moments = [began, read, ordered, linked, Instant::now()];
        for (stage, pair) in self.metrics.times.stages.iter().zip(moments.windows(2)) {
            stage.observe(pair[1] - pair[0]);
        }
    }

    pub(super) fn observe_turn(&self) {
        self.metrics.times.turn.observe(self.stamps.began.elapsed());
    }

    /// Counts a handshake that succeeded, and observes its time if it was the first request.
    pub(super) fn count_handshake(&mut self, slot: ConnectionSlot) {
        self.counters.handshakes_total += 1;
        if let Some((transport, arrival)) = self.connections.take_arrival(slot) {
            self.metrics.times.handshakes[transport as usize].observe(arrival.elapsed());
        }
    }
}
