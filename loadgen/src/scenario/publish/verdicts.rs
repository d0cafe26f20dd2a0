//! What triggers make of messages: the server says of each message whether it was published or refused. A
//! refused message is for nobody; a member that has it all the same has something that was not for it.

use std::collections::{HashMap, HashSet};

use super::{Pacing, Publish};
use crate::{
    clock::now_ns, faults::FaultKind, ledger::Excused, net::Slot, peer_signal::Message,
    scenario::layout::Layout, stamp::Stamp,
};

/// Codes with which a server refuses what its triggers do not let pass.
const REFUSED: &str = "refused";
const FAILED: &str = "trigger_failed";

/// What was refused. One worker has all publishers and members.
pub(super) struct Refusals {
    refused: HashSet<Message, foldhash::fast::RandomState>,
    /// Deliveries that are not to come.
    pub(super) excused: u64,
    /// The publisher of each connection that has one.
    publishers: HashMap<Slot, u32, foldhash::fast::RandomState>,
}

impl Refusals {
    pub(super) fn new(layout: &Layout) -> Self {
        let publishers = layout.publishers.iter().zip(0..).filter_map(|(slot, at)| Some(((*slot)?, at)));
        Self { refused: HashSet::default(), excused: 0, publishers: publishers.collect() }
    }
}

impl Publish {
    /// The server said what became of a message.
    pub(super) fn on_verdict(&mut self, slot: Slot, number: u32, refusal: Option<&str>) {
        let publisher = self.refusals.as_ref().and_then(|refusals| refusals.publishers.get(&slot).copied());
        let (Some(publisher), Some(verdicts)) = (publisher, &mut self.tally.verdicts) else { return };
        match refusal {
            None => verdicts.passed += 1,
            Some(REFUSED) => verdicts.refused += 1,
            Some(FAILED) => verdicts.failed += 1,
            Some(code) => self.tally.refuse(code),
        }
        if refusal.is_some() && number < self.publishers[publisher as usize].sequence {
            self.excuse((publisher, number));
        }
    }

    /// A message that was sent is not to come.
    fn excuse(&mut self, message: Message) {
        let (publisher, sequence) = message;
        let receivers = u64::from(self.layout.receivers[publisher as usize]);
        let Some(refusals) = &mut self.refusals else { return };
        if !refusals.refused.insert(message) {
            return;
        }
        refusals.excused += receivers;
        let streams: Vec<_> = self
            .readers()
            .flat_map(|slot| self.streams(slot).map(move |(of, stream)| (slot, of, stream)))
            .filter(|(_, of, _)| *of == publisher)
            .collect();
        for (slot, _, stream) in streams {
            if self.ledger.excuse(stream, sequence) == Excused::Delivered {
                self.on_refused_delivery(slot, message, now_ns());
            }
        }
        match &mut self.pacing {
            Pacing::Closed(closed) => closed.complete_part(message, self.plan.publishers),
            Pacing::Open(pacer) => {
                let due_ns = pacer.due_ns(self.seat.control.start_ns(), publisher, sequence);
                if let Some(at) = self.tally.at(due_ns) {
                    at.window.due = at.window.due.saturating_sub(receivers);
                }
            }
        }
    }

    pub(super) fn is_refused(&self, publisher: u32, sequence: u32) -> bool {
        self.refusals.as_ref().is_some_and(|refusals| refusals.refused.contains(&(publisher, sequence)))
    }

    /// Whether a message that came was not refused. What was refused before it is passed over.
    pub(super) fn is_admitted(&mut self, stream: usize, (publisher, sequence): Message) -> bool {
        while self.ledger.expected(stream) < sequence
            && self.is_refused(publisher, self.ledger.expected(stream))
        {
            self.ledger.skip(stream, self.ledger.expected(stream) + 1);
        }
        !self.is_refused(publisher, sequence)
    }

    #[cold]
    pub(super) fn on_refused_delivery(&mut self, slot: Slot, message: Message, now: u64) {
        self.tally.faults.misdelivered += 1;
        self.put_fault(FaultKind::Misdelivered, slot, now, message);
    }

    pub(super) fn is_publisher(&self, slot: Slot) -> bool {
        self.refusals.as_ref().is_some_and(|refusals| refusals.publishers.contains_key(&slot))
    }

    /// A trigger answered a sender.
    pub(super) fn count_answer(&mut self) {
        if let Some(verdicts) = &mut self.tally.verdicts {
            verdicts.answered += 1;
        }
    }

    /// Whether a stamp came back to its sender as an answer of a trigger. It is nobody's delivery.
    #[cold]
    pub(super) fn is_answered(&mut self, slot: Slot, stamp: Stamp) -> bool {
        let publisher = self.refusals.as_ref().and_then(|refusals| refusals.publishers.get(&slot));
        let is_answer = stamp.run == self.run && publisher == Some(&stamp.publisher);
        if is_answer {
            self.count_answer();
        }
        is_answer
    }
}
