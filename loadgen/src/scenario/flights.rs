//! The closed loop: which messages are in flight, and how many more may be.
//!
//! A message is in flight until **all** of its receivers have it. Receivers may be spread over workers: each
//! worker counts its own, and tells the publisher's worker (the *home* of the channel) when its part is
//! complete.
//!
//! ```text
//!  credit ──▶ issue ──▶ in flight: parts_left = workers with receivers ──▶ 0 ──▶ credit
//!                             ▲ part complete (own, or another worker's, by signal)
//! ```
//!
//! A message that has not landed after the plan's expiry gives its credit back, so that a server that loses
//! messages is measured on; that is counted nowhere, since the ledger counts what was lost.

use crate::peer_signal::Message;

/// One worker's account of what is in flight.
pub(crate) struct Flights {
    mask: u32,
    /// Deliveries so far among this worker's receivers, by publisher and low bits of the sequence.
    landed: Vec<Landed>,
    /// Messages sent by this worker's publishers, in the same order.
    issued: Vec<Issued>,
    /// Receivers on this worker, by publisher.
    receivers: Vec<u32>,
    /// Workers that have receivers, by publisher.
    parts: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Landed {
    /// 1 + the sequence, so that zero is none.
    message: u32,
    count: u32,
}

#[derive(Clone, Copy, Default)]
struct Issued {
    sequence: u32,
    parts_left: u32,
    sent_ns: u64,
}

impl Flights {
    /// For publishers with at most `window` messages in flight each.
    pub(crate) fn new(window: u32, receivers: Vec<u32>, parts: Vec<u32>) -> Self {
        // Twice the window, so that a sequence that is stuck is not at once in the way of a later one.
        let ring = (window * 2).next_power_of_two();
        let len = ring as usize * receivers.len();
        Self {
            mask: ring - 1,
            landed: vec![Landed::default(); len],
            issued: vec![Issued::default(); len],
            receivers,
            parts,
        }
    }

    /// A receiver of this worker got the message for the first time. Says whether it was the worker's last
    /// one.
    #[inline]
    pub(crate) fn land(&mut self, (publisher, sequence): Message) -> bool {
        let at = self.at((publisher, sequence));
        let landed = &mut self.landed[at];
        if landed.message <= sequence {
            *landed = Landed { message: sequence + 1, count: 0 };
        } else if landed.message != sequence + 1 {
            return false;
        }
        landed.count += 1;
        landed.count == self.receivers[publisher as usize]
    }

    /// A worker's part is complete. Says whether it was the last one: the message has landed.
    pub(crate) fn complete_part(&mut self, message: Message) -> bool {
        let at = self.at(message);
        let issued = &mut self.issued[at];
        if issued.sequence != message.1 || issued.parts_left == 0 {
            return false;
        }
        issued.parts_left -= 1;
        issued.parts_left == 0
    }

    /// A message is sent. Says whether one that has not landed had to make room for it.
    pub(crate) fn issue(&mut self, message: Message, now: u64) -> bool {
        let parts_left = self.parts[message.0 as usize];
        let at = self.at(message);
        let stuck = self.issued[at].parts_left > 0;
        self.issued[at] = Issued { sequence: message.1, parts_left, sent_ns: now };
        stuck
    }

    /// Takes the messages that were sent before a time for lost; calls `lost` with the publisher of each.
    pub(crate) fn expire(&mut self, before: u64, mut lost: impl FnMut(u32)) {
        for (at, issued) in self.issued.iter_mut().enumerate() {
            if issued.parts_left > 0 && issued.sent_ns < before {
                issued.parts_left = 0;
                lost(at as u32 / (self.mask + 1));
            }
        }
    }

    fn at(&self, (publisher, sequence): Message) -> usize {
        (publisher * (self.mask + 1) + (sequence & self.mask)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_landed_when_every_worker_has_all_of_its_receivers() {
        let mut flights = Flights::new(4, vec![2], vec![2]);
        flights.issue((0, 0), 0);
        assert!(!flights.land((0, 0)));
        assert!(flights.land((0, 0)));
        assert!(!flights.complete_part((0, 0)));
        assert!(flights.complete_part((0, 0)));
        assert!(!flights.complete_part((0, 0)), "counted once");
    }

    #[test]
    fn message_that_never_lands_gives_its_credit_back_once() {
        let mut flights = Flights::new(1, vec![1], vec![1]);
        flights.issue((0, 0), 5);
        let mut lost = Vec::new();
        flights.expire(0, |publisher| lost.push(publisher));
        assert!(lost.is_empty());
        flights.expire(6, |publisher| lost.push(publisher));
        flights.expire(7, |publisher| lost.push(publisher));
        assert_eq!(lost, [0]);
        assert!(flights.land((0, 0)), "too late");
        assert!(!flights.complete_part((0, 0)));
    }

    #[test]
    fn stuck_message_makes_room_and_is_forgotten() {
        let mut flights = Flights::new(1, vec![2], vec![1]);
        assert!(!flights.issue((0, 0), 0));
        assert!(!flights.issue((0, 1), 0));
        assert!(flights.issue((0, 2), 0), "the ring holds two");
        assert!(!flights.land((0, 0)));
        assert!(!flights.land((0, 2)));
        assert!(!flights.land((0, 0)), "of a message that is forgotten");
        assert!(flights.land((0, 2)));
    }
}
