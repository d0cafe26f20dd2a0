//! `idle`: connections that each joined one channel and then rest. What they cost is read by the coordinator.

use super::{Scenario, Seat};
use crate::{
    control::Stage,
    drivers::{Echo, Reply},
    net::{Closed, Handler, Net, Slot, Wait},
    plan::IdlePlan,
    tally::Tally,
};

/// One worker's connections.
pub(crate) struct Idle {
    seat: Seat,
    plan: IdlePlan,
    opened: u32,
    ready: u32,
    tally: Tally,
}

impl Idle {
    pub(crate) fn new(seat: Seat, plan: IdlePlan) -> Self {
        let tally = Tally::new(seat.windows);
        Self { seat, plan, opened: 0, ready: 0, tally }
    }
}

impl Handler for Idle {
    fn on_open(&mut self, _: &mut Net, _: Slot) {}

    fn on_message(&mut self, net: &mut Net, slot: Slot, message: &[u8], _: u64) {
        let text = std::str::from_utf8(message).unwrap_or_default();
        match self.seat.driver.read(text) {
            Reply::Welcome { .. } => {
                let number = slot * self.seat.workers as u32 + self.seat.worker as u32;
                let channel = self.seat.channel(number / self.plan.members);
                net.send_text(slot, &self.seat.driver.join(1, &channel));
            }
            Reply::Done { .. } => self.ready += 1,
            Reply::Failed { code, .. } => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Unknown => self.tally.faults.corrupt += 1,
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Notice { .. } | Reply::Other => {}
        }
    }

    fn on_closed(&mut self, _: &mut Net, _: Slot, closed: Closed) {
        self.seat.fail_closed(closed);
    }
}

impl Scenario for Idle {
    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        if stage == Stage::Connect {
            let quota = self.seat.control.quota();
            let share = self.seat.share(quota);
            while self.opened < share {
                net.open(self.opened, self.seat.driver.path(Echo::Off));
                self.opened += 1;
            }
            let ready = (self.ready == share).then_some(quota);
            self.seat.control.report(self.seat.worker, self.ready, ready);
        } else if stage == Stage::Cool {
            self.seat.control.report_cooling(self.seat.worker, true);
        }
        Wait::Rest
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn finish(self) -> Tally {
        self.tally
    }
}
