//! What becomes of what a subscriber misses in the end.
//!
//! A message is *lost* when something shows that it will not come: a later one of the same publisher came, or
//! the server answered on the same connection after the message was sent. Else it has *not arrived*: the
//! server may be stopped, or the generator behind with reading. A frame that came and was corrupt stands for
//! one message that is missing, and a number that was passed over for a message that is missing is no hole:
//! each thing counts once.

use std::collections::HashSet;

use super::Scenario;
use crate::{
    clock::now_ns,
    ledger::Faults,
    net::{Net, Slot},
};

/// Silence after which the server is asked for a sign of life on connections that miss something.
const SILENCE_NS: u64 = 300_000_000;

/// What one subscriber misses, has got wrong, and was answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missing {
    /// Messages with a later one of the same publisher.
    pub(super) gaps: u64,
    /// Messages with none.
    pub(super) tail: u64,
    /// Frames that came and were corrupt.
    pub(super) corrupt: u64,
    /// Numbers that were passed over.
    pub(super) holes: u64,
    /// Whether the server answered on its connection after all had been sent.
    pub(super) is_answered: bool,
}

impl Missing {
    /// Puts the judgement into `faults`, in the place of the gaps, which a ledger has counted as lost.
    pub(super) fn settle(&self, faults: &mut Faults) {
        faults.lost = faults.lost.saturating_sub(self.gaps);
        faults.add(&self.judge());
    }

    /// Messages that are lost, that have not arrived, and holes in offsets. Corrupt frames are counted
    /// elsewhere.
    fn judge(&self) -> Faults {
        let excused_gaps = self.corrupt.min(self.gaps);
        let excused_tail = (self.corrupt - excused_gaps).min(self.tail);
        let (gaps, tail) = (self.gaps - excused_gaps, self.tail - excused_tail);
        let (proven, unproven) = if self.is_answered { (tail, 0) } else { (0, tail) };
        Faults {
            lost: gaps + proven,
            not_arrived: unproven,
            holes: self.holes.saturating_sub(self.gaps + self.tail),
            ..Faults::default()
        }
    }
}

/// A scenario whose subscribers may miss something in the end.
pub(super) trait Audited: Scenario {
    /// The connections that are to receive messages.
    fn listeners(&self) -> Vec<Slot>;

    /// What one of them misses.
    fn missing(&self, slot: Slot) -> Missing;

    /// Writes down what never came to one of them: its time is at least that to the end.
    fn censor(&mut self, slot: Slot, now: u64);

    /// How often the server was asked for a sign of life.
    fn round_trips(&mut self) -> &mut RoundTrips;

    /// The end: what went wrong. If the run broke off, what was on the way is nobody's loss.
    fn audit(&mut self) -> Faults {
        let now = now_ns();
        let mut faults = self.faults();
        let is_settled = self.seat().control.is_settled();
        for slot in self.listeners() {
            let missing = self.missing(slot);
            missing.settle(&mut faults);
            if is_settled && missing.gaps + missing.tail > 0 {
                self.censor(slot, now);
            }
        }
        faults
    }

    /// Asks the server where something is missing, if nothing has come for a while: `arrived` is what has.
    fn ask_where_something_is_missing(&mut self, net: &mut Net, arrived: u64) {
        if self.round_trips().is_time(arrived, now_ns()) {
            let listeners = self.listeners().into_iter();
            let lacking = listeners.filter(|slot| self.missing(*slot).tail > 0).collect();
            self.round_trips().ask(net, lacking);
        }
    }
}

/// Asks the server for a sign of life where something is missing, when nothing comes any more.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    last_ns: u64,
    last_arrived: u64,
    asked: HashSet<Slot, foldhash::fast::RandomState>,
    answered: HashSet<Slot, foldhash::fast::RandomState>,
}

impl RoundTrips {
    /// Whether now is the time to ask: nothing has come for a while.
    pub(super) fn is_time(&mut self, arrived: u64, now: u64) -> bool {
        if self.last_ns == 0 || arrived != self.last_arrived {
            (self.last_ns, self.last_arrived) = (now, arrived);
        }
        self.asked.is_empty() && now - self.last_ns >= SILENCE_NS
    }

    pub(super) fn ask(&mut self, net: &mut Net, slots: Vec<Slot>) {
        for slot in slots {
            if self.asked.insert(slot) {
                net.ping(slot);
            }
        }
    }

    pub(super) fn on_pong(&mut self, slot: Slot) {
        if self.asked.contains(&slot) {
            self.answered.insert(slot);
        }
    }

    pub(super) fn is_answered(&self, slot: Slot) -> bool {
        self.answered.contains(&slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(missing: Missing) -> (u64, u64, u64) {
        let Faults { lost, not_arrived, holes, .. } = missing.judge();
        (lost, not_arrived, holes)
    }

    #[test]
    fn loss_needs_proof_and_everything_counts_once() {
        let missing = Missing::default();
        assert_eq!(judged(Missing { gaps: 2, tail: 3, holes: 2, ..missing }), (2, 3, 0));
        assert_eq!(judged(Missing { gaps: 2, tail: 3, is_answered: true, ..missing }), (5, 0, 0));
        assert_eq!(judged(Missing { gaps: 1, corrupt: 1, holes: 1, ..missing }), (0, 0, 0));
        assert_eq!(judged(Missing { tail: 1, corrupt: 1, ..missing }), (0, 0, 0));
        assert_eq!(judged(Missing { gaps: 1, tail: 2, corrupt: 2, ..missing }), (0, 1, 0));
        assert_eq!(judged(Missing { holes: 3, ..missing }), (0, 0, 3));
        assert_eq!(judged(Missing { gaps: 1, corrupt: 9, holes: 2, ..missing }), (0, 0, 1));
    }

    #[test]
    fn server_is_asked_once_and_only_after_a_silence() {
        let mut trips = RoundTrips::default();
        assert!(!trips.is_time(5, 1));
        assert!(!trips.is_time(6, SILENCE_NS), "something came");
        assert!(!trips.is_time(6, 2 * SILENCE_NS - 1));
        assert!(trips.is_time(6, 2 * SILENCE_NS));
        trips.on_pong(3);
        assert!(!trips.is_answered(3), "nobody asked");
        trips.asked.insert(3);
        trips.on_pong(3);
        assert!(trips.is_answered(3) && !trips.is_time(6, 9 * SILENCE_NS));
    }
}
