//! Verifies every delivery on arrival.

use super::{Pacing, Publish};
use crate::{
    drivers::{Echo, Need},
    faults::FaultKind,
    ledger::Arrival,
    net::Slot,
    peer_signal::Message,
    scenario::layout::{Member, home_of},
    stamp::{Stamp, read_payload},
};

impl Publish {
    /// Verifies a delivery. `stamped` is its payload, or the rest of a corrupt payload.
    #[inline]
    pub(super) fn verify(&mut self, slot: Slot, stamped: &[u8], now: u64) {
        let Ok(stamp) = read_payload(stamped) else { return self.on_corrupt(slot, now) };
        let Stamp { publisher, sequence, .. } = stamp;
        let member = self.layout.members.get(slot as usize);
        let of_channel = |member: &&Member| {
            stamp.run == self.run && publisher.wrapping_sub(member.first_publisher) < self.plan.publishers
        };
        let is_own = |publisher: u32| self.publishers[publisher as usize].slot == Some(slot);
        let Some(member) = member.filter(of_channel).filter(|_| !(self.is_echo_off && is_own(publisher)))
        else {
            if self.hears_itself(slot, stamp) || self.is_answered(slot, stamp) {
                return;
            }
            self.tally.faults.misdelivered += 1;
            return self.put_fault(FaultKind::Misdelivered, slot, now, (publisher, sequence));
        };
        if member.is_slow {
            self.slow_read_ns = now;
            return;
        }
        let stream = member.first_stream + (publisher - member.first_publisher) as usize;
        let channel = (member.first_publisher / self.plan.publishers) as usize;
        if self.refusals.is_some() && !self.is_admitted(stream, (publisher, sequence)) {
            return self.on_refused_delivery(slot, (publisher, sequence), now);
        }
        let reordered = self.ledger.faults.reordered;
        if self.ledger.observe(stream, sequence) == Arrival::Again {
            return self.put_fault(FaultKind::Repeated, slot, now, (publisher, sequence));
        }
        let is_late = self.ledger.faults.reordered != reordered;
        let mut is_reordered = is_late;
        let behind = &stamped[stamp.length as usize - 1..];
        if let Some(verdicts) = &mut self.tally.verdicts {
            verdicts.replaced += u64::from(!self.seat.driver.is_whole(behind));
        }
        if let Some(number) = self.seat.driver.number(behind) {
            let in_order = self.order.observe(slot as usize, channel, number, (publisher, sequence));
            // A late delivery counts once, even if the ledger sees it as well.
            self.tally.faults.reordered += u64::from(!in_order && !is_late);
            is_reordered |= !in_order;
        }
        if is_reordered {
            self.put_fault(FaultKind::Reordered, slot, now, (publisher, sequence));
        }
        self.arrived += 1;
        if let Some(window) = self.tally.window() {
            window.arrived += 1;
        }
        if let Some(mut at) = self.tally.at(stamp.due_ns) {
            at.window.deliveries += 1;
            at.record(now.saturating_sub(stamp.due_ns));
        }
        if let Pacing::Closed(closed) = &mut self.pacing
            && closed.flights.land((publisher, sequence))
        {
            let home = home_of(publisher / self.plan.publishers, self.seat.workers);
            if home == self.seat.worker {
                closed.complete_part((publisher, sequence), self.plan.publishers);
            } else if let Some(signal) = &mut self.signal {
                signal.put(home, (publisher, sequence));
            }
        }
    }

    /// Whether a message came back to a publisher that is a member only because the protocol lets nobody else
    /// publish, and whom the protocol spares nothing. It is nobody's delivery.
    #[cold]
    fn hears_itself(&self, slot: Slot, stamp: Stamp) -> bool {
        let driver = &self.seat.driver;
        slot as usize >= self.layout.members.len()
            && stamp.run == self.run
            && driver.lacks(Need::Outsiders)
            && driver.lacks(Need::Echo(Echo::Off))
            && self.publishers.get(stamp.publisher as usize).is_some_and(|own| own.slot == Some(slot))
    }

    #[cold]
    pub(super) fn on_corrupt(&mut self, slot: Slot, now: u64) {
        self.tally.faults.corrupt += 1;
        *self.corrupt.entry(slot).or_default() += 1;
        self.tally.fault_log.put(self.seat.fault(FaultKind::Corrupt, slot, now));
    }

    #[cold]
    pub(super) fn put_fault(
        &mut self,
        kind: FaultKind,
        slot: Slot,
        at_ns: u64,
        (publisher, sequence): Message,
    ) {
        if !self.tally.fault_log.has_room() {
            return;
        }
        let last = self.layout.members.get(slot as usize).map(|_| self.order.last(slot as usize));
        let fault = self.seat.fault(kind, slot, at_ns).of_message(publisher, sequence);
        let fault = fault.in_channel(self.seat.channel(publisher / self.plan.publishers));
        self.tally.fault_log.put(fault.with_offsets(None, last.filter(|last| *last > 0)));
    }
}
