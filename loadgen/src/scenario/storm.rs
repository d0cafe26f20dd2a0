//! `storm`: at the beginning of each window all connections drop at once, without a word, and come back as fast as
//! they can. An operation is a connection that is back in its channel; its latency counts from the drop.

use super::{Scenario, Seat};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Reply, Role},
    net::{Closed, Net, Slot, Wait},
    plan::StormPlan,
    tally::Tally,
};

/// One worker's connections.
pub(crate) struct Storm {
    seat: Seat,
    plan: StormPlan,
    /// Whether each connection is in its channel.
    is_back: Vec<bool>,
    away: u32,
    opened: bool,
    stage: Stage,
    dropped_ns: u64,
    tally: Tally,
}

impl Storm {
    pub(crate) fn new(seat: Seat, plan: StormPlan) -> Self {
        let away = seat.share(plan.connections);
        let is_back = vec![false; away as usize];
        let tally = Tally::new(seat.windows);
        Self { seat, plan, is_back, away, opened: false, stage: Stage::Connect, dropped_ns: 0, tally }
    }

    fn channel_of(&self, slot: Slot) -> String {
        let number = slot * self.seat.workers as u32 + self.seat.worker as u32;
        self.seat.channel(number / self.plan.members)
    }

    fn open(&self, net: &mut Net, slot: Slot) {
        net.open(slot, self.seat.driver.path(&self.channel_of(slot), Role::Member));
    }

    /// Drops everyone. Those that are not back from the last storm go on coming back from that one.
    fn strike(&mut self, net: &mut Net) {
        self.tally.stragglers += u64::from(self.away);
        self.dropped_ns = now_ns();
        for slot in 0..self.is_back.len() {
            if std::mem::take(&mut self.is_back[slot]) {
                net.abandon(slot as Slot);
                self.open(net, slot as Slot);
            }
        }
        self.away = self.is_back.len() as u32;
    }

    fn on_back(&mut self, slot: Slot, now: u64) {
        self.is_back[slot as usize] = true;
        self.away -= 1;
        if let Some(window) = self.tally.window() {
            window.operations += 1;
            window.latency.record(now.saturating_sub(self.dropped_ns));
        }
    }
}

impl Scenario for Storm {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        match reply {
            Reply::Welcome { session } => {
                net.send(slot, &self.seat.driver.join(1, &self.channel_of(slot), session));
            }
            Reply::Done => self.on_back(slot, now),
            Reply::Failed { code } => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Unknown => self.tally.faults.corrupt += 1,
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Notice { .. } | Reply::Prompt { .. } | Reply::Other => {}
        }
    }

    fn on_closed(&mut self, _: &mut Net, _: Slot, closed: Closed) {
        self.seat.fail_closed(closed);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        let is_new = stage != self.stage;
        self.tally.enter(stage);
        self.stage = stage;
        match stage {
            Stage::Connect => {
                if !self.opened {
                    self.opened = true;
                    (0..self.away).for_each(|slot| self.open(net, slot));
                }
                let connected = self.is_back.len() as u32 - self.away;
                self.seat.control.report(self.seat.worker, connected, self.away == 0);
            }
            Stage::Window(_) if is_new => self.strike(net),
            Stage::Cool => {
                if is_new {
                    self.tally.stragglers += u64::from(self.away);
                }
                self.seat.control.report_cooling(self.seat.worker, self.away == 0);
            }
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
