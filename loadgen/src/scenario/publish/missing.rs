//! Messages that members miss at the end of a run.

use super::{Pacing, Publish};
use crate::{
    faults::FaultKind,
    net::Slot,
    scenario::audit::{Audited, Missing, RoundTrips},
};

impl Publish {
    /// The streams that a member listens to: publisher and stream of each.
    pub(super) fn streams(&self, slot: Slot) -> impl Iterator<Item = (u32, usize)> + use<'_> {
        let member = &self.layout.members[slot as usize];
        let streams = (member.first_publisher..).zip(member.first_stream..);
        streams.take(self.plan.publishers as usize).filter(move |(publisher, _)| {
            !(self.is_echo_off && self.publishers[*publisher as usize].slot == Some(slot))
        })
    }

    /// Members that read.
    pub(super) fn readers(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let members = self.layout.members.iter().zip(0..);
        members.filter(|(member, _)| !member.is_slow).map(|(_, slot)| slot)
    }

    /// Whether the numbers of a channel are contiguous for each member, so that a gap in them is a fault.
    fn has_contiguous_numbers(&self) -> bool {
        self.seat.driver.is_contiguous() && self.plan.sees_every_number()
    }
}

impl Audited for Publish {
    fn listeners(&self) -> Vec<Slot> {
        self.readers().collect()
    }

    fn round_trips(&mut self) -> &mut RoundTrips {
        &mut self.round_trips
    }

    fn missing(&self, slot: Slot) -> Missing {
        let control = &self.seat.control;
        let mut missing = Missing {
            corrupt: self.corrupt.get(&slot).copied().unwrap_or_default(),
            holes: if self.has_contiguous_numbers() { self.order.holes(slot as usize) } else { 0 },
            is_answered: self.round_trips.is_answered(slot),
            ..Missing::default()
        };
        for (publisher, stream) in self.streams(slot) {
            missing.gaps += self.ledger.gaps(stream).iter().map(|gap| gap.len() as u64).sum::<u64>();
            // If the run broke off, what was on the way is nobody's loss.
            if control.is_settled() {
                let tail = self.ledger.tail(stream, control.published(publisher));
                let refused = tail.clone().filter(|sequence| self.is_refused(publisher, *sequence)).count();
                missing.tail += (tail.len() - refused) as u64;
            }
        }
        missing
    }

    fn censor(&mut self, slot: Slot, now: u64) {
        let start_ns = self.seat.control.start_ns();
        let proven = self.round_trips.is_answered(slot);
        let streams: Vec<_> = self.streams(slot).collect();
        for (publisher, stream) in streams {
            let published = self.seat.control.published(publisher);
            let tail = self.ledger.tail(stream, published);
            let gaps = self.ledger.gaps(stream).to_vec();
            let tail_kind = if proven { FaultKind::Lost } else { FaultKind::NotArrived };
            let kinds = gaps.iter().map(|_| FaultKind::Lost).chain([tail_kind]);
            for (range, kind) in gaps.iter().cloned().chain([tail]).zip(kinds) {
                for sequence in range {
                    if self.is_refused(publisher, sequence) {
                        continue;
                    }
                    let due_ns = match &self.pacing {
                        Pacing::Open(pacer) => Some(pacer.due_ns(start_ns, publisher, sequence)),
                        Pacing::Closed(_) => None,
                    };
                    self.put_fault(kind, slot, due_ns.unwrap_or(now), (publisher, sequence));
                    if let Some((due_ns, mut at)) = due_ns.and_then(|due| Some((due, self.tally.at(due)?))) {
                        at.censor(now.saturating_sub(due_ns));
                    }
                }
            }
        }
    }
}
