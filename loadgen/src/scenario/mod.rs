//! What the connections do. Each scenario is a state machine driven by its worker's loop: told what came in,
//! it sends, counts and verifies. One instance for each worker; they share only what their module says.

mod audit;
mod connect;
mod flights;
mod idle;
mod layout;
mod presence;
mod publish;
mod storm;

pub(crate) use connect::Connect;
pub(crate) use idle::Idle;
pub(crate) use presence::Presence;
pub(crate) use publish::Publish;
pub(crate) use storm::Storm;

use std::sync::Arc;

use crate::{
    control::{Control, Stage},
    drivers::{Driver, Reply},
    faults::{FaultKind, FaultRecord},
    ledger::{Faults, Ledger},
    net::{Closed, Net, Slot, Wait},
    tally::Tally,
    verdict::Reason,
};

/// One worker's part of a scenario.
pub(crate) trait Scenario: Sized {
    /// Where this worker stands.
    fn seat(&self) -> &Seat;

    /// Called before each wait for events: begins what is due, says how long to wait, and reports how far it
    /// is.
    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait;

    /// A publication came in, by a read that returned at `now`; its stamp, or what is left of one, comes
    /// first. A scenario that has none expects none.
    fn on_publication(&mut self, net: &mut Net, slot: Slot, _stamped: &[u8], now: u64) {
        self.on_reply(net, slot, Reply::Unknown, now);
    }

    /// The server said something else.
    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64);

    /// The server answered a ping.
    fn on_pong(&mut self, _slot: Slot) {}

    /// A connection is gone.
    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed);

    /// What was counted so far; see [`Scenario::faults`] for what went wrong.
    fn tally(&self) -> &Tally;

    /// What came of each stream, if the scenario has streams.
    fn ledger(&self) -> Option<&Ledger> {
        None
    }

    /// What went wrong so far.
    fn faults(&self) -> Faults {
        let mut faults = self.tally().faults;
        if let Some(ledger) = self.ledger() {
            faults.add(&ledger.faults);
        }
        faults
    }

    /// The end: what was counted.
    fn finish(self) -> Tally;
}

/// Where a worker stands among the others.
#[derive(Clone)]
pub(crate) struct Seat {
    /// Number of this worker.
    pub(crate) worker: usize,
    /// Number of workers.
    pub(crate) workers: usize,
    pub(crate) control: Arc<Control>,
    pub(crate) driver: Arc<dyn Driver>,
    /// Windows that will be measured.
    pub(crate) windows: usize,
    /// What channels' names begin with.
    pub(crate) prefix: Arc<str>,
}

impl Seat {
    /// The name of the channel of this number.
    pub(crate) fn channel(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }

    /// A member is welcome: joins its channel, unless it has asked for that with its path.
    pub(crate) fn join_first(&self, net: &mut Net, slot: Slot, channel: &str, session: &str) {
        if let Some(join) = self.driver.join_first(channel, session) {
            net.send(slot, &join);
        }
    }

    /// The same of one that watches who joins and leaves.
    pub(crate) fn watch_first(&self, net: &mut Net, slot: Slot, channel: &str, session: &str) {
        if let Some(join) = self.driver.watch_first(channel, session) {
            net.send(slot, &join);
        }
    }

    /// A fault that a connection of this worker found.
    pub(crate) fn fault(&self, kind: FaultKind, slot: Slot, at_ns: u64) -> FaultRecord {
        FaultRecord::new(kind, at_ns, (self.worker, slot))
    }

    /// Ends the run because a connection ended that should not have.
    pub(crate) fn fail_closed(&self, closed: Closed) {
        let blame = closed.blame();
        if let Some(sentence) = closed.into_sentence() {
            self.control.fail_as(Reason { blame, sentence });
        }
    }

    /// Tells how many connections there are `of` so many.
    pub(crate) fn report_ready(&self, connected: u32, of: u32) {
        let quota = self.control.quota();
        self.control.report(self.worker, connected, (connected == of).then_some(quota));
    }

    /// Tells whether everything has come that this worker waits for when the run cools down.
    pub(crate) fn report_cooling(&self, is_quiet: bool) {
        self.control.report_cooling(self.worker, is_quiet);
    }

    /// This worker's share of `total`, dealt out one by one.
    pub(crate) fn share(&self, total: u32) -> u32 {
        let (workers, worker) = (self.workers as u32, self.worker as u32);
        total / workers + u32::from(worker < total % workers)
    }

    /// The numbers below `total` that are this worker's.
    pub(crate) fn own(&self, total: u32) -> impl Iterator<Item = u32> + use<> {
        (self.worker as u32..total).step_by(self.workers)
    }
}
