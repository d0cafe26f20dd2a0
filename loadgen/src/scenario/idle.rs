//! `idle`: connections that each joined one channel and then rest. What they cost is read by the coordinator.

use super::{Scenario, Seat};
use crate::{
    control::Stage,
    drivers::{Reply, Role},
    net::{Closed, Net, Slot, Wait},
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

    fn channel_of(&self, slot: Slot) -> String {
        let number = slot * self.seat.workers as u32 + self.seat.worker as u32;
        self.seat.channel(number / self.plan.members)
    }
}

impl Scenario for Idle {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, _: u64) {
        match reply {
            Reply::Welcome { session, .. } => {
                self.seat.join_first(net, slot, &self.channel_of(slot), session);
            }
            Reply::Done(_) => self.ready += 1,
            Reply::Failed { code } => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Unknown => self.tally.faults.corrupt += 1,
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Notice { .. } | Reply::Prompt { .. } | Reply::Other => {}
            Reply::Verdict { .. } | Reply::Answer | Reply::Roster { .. } => {}
        }
    }

    fn on_closed(&mut self, _: &mut Net, _: Slot, closed: Closed) {
        self.seat.fail_closed(closed);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        if stage == Stage::Connect {
            let quota = self.seat.control.quota();
            let share = self.seat.share(quota);
            while self.opened < share {
                let path = self.seat.driver.access(&self.channel_of(self.opened), Role::Member);
                net.open(self.opened, path);
                self.opened += 1;
            }
            let ready = (self.ready == share).then_some(quota);
            self.seat.control.report(self.seat.worker, self.ready, ready);
        } else if stage == Stage::Cool {
            let is_quiet = true;
            self.seat.report_cooling(is_quiet);
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
