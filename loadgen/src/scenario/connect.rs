//! `connect`: handshake, join, close, again and again, with so many under way at one time.
//!
//! ```text
//!  open ─▶ welcome ─▶ join ─▶ joined ─▶ close ─▶ closed ─▶ open …
//!  └─────────── latency ──────────┘                └ one operation
//! ```

use super::{Scenario, Seat};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Reply, Role},
    net::{Closed, Net, Slot, Wait},
    plan::ConnectPlan,
    tally::Tally,
};

/// One worker's cycles.
pub(crate) struct Connect {
    seat: Seat,
    plan: ConnectPlan,
    stage: Stage,
    /// When each cycle under way began, by slot.
    begun: Vec<u64>,
    under_way: u32,
    started: bool,
    tally: Tally,
}

impl Connect {
    pub(crate) fn new(seat: Seat, plan: ConnectPlan) -> Self {
        let slots = seat.share(plan.parallel) as usize;
        let tally = Tally::new(seat.windows);
        Self { seat, plan, stage: Stage::Connect, begun: vec![0; slots], under_way: 0, started: false, tally }
    }

    /// A channel for each slot: nobody else is told.
    fn channel_of(&self, slot: Slot) -> String {
        self.seat.channel(slot * self.seat.workers as u32 + self.seat.worker as u32)
    }

    fn begin(&mut self, net: &mut Net, slot: Slot) {
        self.begun[slot as usize] = now_ns();
        self.under_way += 1;
        net.open(slot, self.seat.driver.path(&self.channel_of(slot), Role::Member));
    }

    fn on_ready(&mut self, net: &mut Net, slot: Slot, now: u64) {
        if let Some(window) = self.tally.window() {
            window.latency.record(now.saturating_sub(self.begun[slot as usize]));
        }
        net.close(slot);
    }
}

impl Scenario for Connect {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        match reply {
            Reply::Welcome { session } if self.plan.join => {
                net.send(slot, &self.seat.driver.join(1, &self.channel_of(slot), session));
            }
            Reply::Welcome { .. } | Reply::Done(_) => self.on_ready(net, slot, now),
            Reply::Failed { code } => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Unknown => self.tally.faults.corrupt += 1,
            Reply::Gap { .. } | Reply::Notice { .. } | Reply::Prompt { .. } | Reply::Other => {}
        }
    }

    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed) {
        self.under_way -= 1;
        if closed != Closed::ByUs {
            return self.seat.fail_closed(closed);
        }
        if let Some(window) = self.tally.window() {
            window.operations += 1;
        }
        if self.stage < Stage::Cool {
            self.begin(net, slot);
        }
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        self.tally.enter(stage);
        self.stage = stage;
        match stage {
            Stage::Connect => self.seat.report_ready(0, true),
            Stage::Warm | Stage::Window(_) if !self.started => {
                self.started = true;
                (0..self.begun.len() as Slot).for_each(|slot| self.begin(net, slot));
            }
            Stage::Cool => self.seat.control.report_cooling(self.seat.worker, self.under_way == 0),
            _ => {}
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
