//! `connect`: handshake, join, close, again and again.
//!
//! ```text
//!  open ─▶ welcome ─▶ join ─▶ joined ─▶ close ─▶ closed
//!  └─────────── latency ──────────┘                └ one operation
//! ```
//!
//! Nothing is sent to join where the path has asked for it.
//!
//! In a closed loop so many cycles are under way at one time, and one begins when another has ended. In an
//! open loop they begin by a schedule, and latency counts from when a cycle was due. What is under way is
//! bounded there too: a cycle that is due while all are taken begins as soon as one is free, which is the
//! server's delay and not the generator's. A cycle that fails is counted, and the others go on; where none
//! succeeds, and where there is nobody to connect to, that ends the run.

use super::{Scenario, Seat};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Reply, Role},
    net::{Closed, Net, Slot, Wait},
    pacer::{Pacer, Schedule},
    plan::ConnectPlan,
    tally::{LATE_NS, Tally},
    verdict::Reason,
};

/// Cycles of an open loop that may fail before one has succeeded.
const FIRST_FAILURES: u64 = 16;

/// One worker's cycles.
pub(crate) struct Connect {
    seat: Seat,
    plan: ConnectPlan,
    stage: Stage,
    /// From when the latency of each cycle counts that has not joined yet, by slot; 0 if none is under way.
    since_ns: Vec<u64>,
    under_way: u32,
    started: bool,
    /// Open loop: everything that was due has begun.
    all_begun: bool,
    has_succeeded: bool,
    open_loop: Option<OpenLoop>,
    tally: Tally,
}

struct OpenLoop {
    pacer: Pacer,
    free: Vec<Slot>,
    /// When something was due and no slot was free for the last time.
    full_ns: u64,
}

impl Connect {
    pub(crate) fn new(seat: Seat, plan: ConnectPlan, schedule: Option<Schedule>) -> Self {
        let slots = seat.share(plan.parallel);
        // Each worker is one of as many publishers, as it were.
        let (workers, worker) = (seat.workers as u32, seat.worker as u32);
        let open_loop = schedule.map(|schedule| OpenLoop {
            pacer: Pacer::new(schedule, workers, vec![worker]),
            free: (0..slots).rev().collect(),
            full_ns: 0,
        });
        Self {
            tally: Tally::new(seat.windows),
            seat,
            plan,
            stage: Stage::Connect,
            since_ns: vec![0; slots as usize],
            under_way: 0,
            started: false,
            all_begun: false,
            has_succeeded: false,
            open_loop,
        }
    }

    /// A channel for each slot: nobody else is told.
    fn channel_of(&self, slot: Slot) -> String {
        self.seat.channel(slot * self.seat.workers as u32 + self.seat.worker as u32)
    }

    fn begin(&mut self, net: &mut Net, slot: Slot, since_ns: u64) {
        self.since_ns[slot as usize] = since_ns;
        self.under_way += 1;
        let role = if self.plan.join { Role::Member } else { Role::Guest };
        net.open(slot, self.seat.driver.access(&self.channel_of(slot), role));
    }

    /// Open loop: begins what is due, to the end of the last window.
    fn begin_due(&mut self, net: &mut Net) -> Wait {
        let (start_ns, end_ns) = (self.seat.control.start_ns(), self.seat.control.end_ns());
        while let Some(open_loop) = &mut self.open_loop
            && let Some((due_ns, _)) = open_loop.pacer.next(start_ns).filter(|(due_ns, _)| *due_ns < end_ns)
        {
            let now = now_ns();
            if due_ns > now {
                return Wait::Until(due_ns);
            }
            let Some(slot) = open_loop.free.pop() else {
                open_loop.full_ns = now;
                return Wait::Rest;
            };
            open_loop.pacer.advance();
            let is_held_up = due_ns <= open_loop.full_ns;
            self.tally.held_up += u64::from(is_held_up);
            if let Some(at) = self.tally.at(due_ns) {
                at.window.due += 1;
                at.window.scheduled += 1;
                at.window.late += u64::from(now - due_ns > LATE_NS && !is_held_up);
            }
            self.begin(net, slot, due_ns);
        }
        self.all_begun = true;
        Wait::Rest
    }

    /// Writes down the cycles that never came to an end, or were due and never began.
    fn censor(&mut self) {
        let (start_ns, end_ns, now) = (self.seat.control.start_ns(), self.seat.control.end_ns(), now_ns());
        for slot in 0..self.since_ns.len() {
            let since_ns = std::mem::take(&mut self.since_ns[slot]);
            if since_ns > 0
                && let Some(mut at) = self.tally.at(since_ns)
            {
                at.censor(now.saturating_sub(since_ns));
            }
        }
        while let Some(open_loop) = &mut self.open_loop
            && let Some((due_ns, _)) = open_loop.pacer.next(start_ns).filter(|(due_ns, _)| *due_ns < end_ns)
        {
            open_loop.pacer.advance();
            self.tally.never_begun += 1;
            if let Some(mut at) = self.tally.at(due_ns) {
                at.window.due += 1;
                at.censor(now.saturating_sub(due_ns));
            }
        }
    }

    fn on_ready(&mut self, net: &mut Net, slot: Slot, now: u64) {
        if let Some(window) = self.tally.window() {
            window.arrived += 1;
        }
        let since_ns = self.since_ns[slot as usize];
        let latency_ns = now.saturating_sub(since_ns);
        self.tally.record_first(latency_ns);
        if let Some(mut at) = self.tally.at(since_ns) {
            at.record(latency_ns);
        }
        self.since_ns[slot as usize] = 0;
        self.has_succeeded = true;
        net.close(slot);
    }

    /// A cycle has ended, one way or the other.
    fn on_end(&mut self, net: &mut Net, slot: Slot) {
        self.under_way -= 1;
        match &mut self.open_loop {
            Some(open_loop) => open_loop.free.push(slot),
            None if self.stage < Stage::Cool => self.begin(net, slot, now_ns()),
            None => {}
        }
    }

    fn fail(&mut self, slot: Slot, sentence: String) {
        let since_ns = std::mem::take(&mut self.since_ns[slot as usize]);
        self.tally.fail(if since_ns > 0 { since_ns } else { now_ns() }, sentence);
    }

    /// Whether a cycle that fails is one of many. Else it ends the run. Before one has succeeded, others that
    /// are under way may be the first.
    fn can_fail(&self) -> bool {
        let others_may_succeed = self.under_way > 1 && self.tally.failed < FIRST_FAILURES;
        self.open_loop.is_some() && (self.has_succeeded || others_may_succeed)
    }
}

impl Scenario for Connect {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        match reply {
            Reply::Welcome { session, .. } if self.plan.join => {
                self.seat.join_first(net, slot, &self.channel_of(slot), session);
            }
            Reply::Welcome { .. } | Reply::Done(_) => self.on_ready(net, slot, now),
            Reply::Failed { code } => {
                let sentence = format!("The server refused a join: {code}.");
                if !self.can_fail() {
                    return self.seat.control.fail(sentence);
                }
                self.fail(slot, sentence);
                net.abandon(slot);
                self.on_end(net, slot);
            }
            Reply::Unknown => self.tally.faults.corrupt += 1,
            Reply::Gap { .. } | Reply::Notice { .. } | Reply::Prompt { .. } | Reply::Other => {}
            Reply::Verdict { .. } | Reply::Answer | Reply::Roster { .. } => {}
        }
    }

    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed) {
        let is_one_of_many = self.can_fail() && !matches!(closed, Closed::Unreachable(_) | Closed::NoPort(_));
        let blame = closed.blame();
        match closed.into_sentence() {
            None => {
                if let Some(window) = self.tally.window() {
                    window.operations += 1;
                }
            }
            Some(sentence) if is_one_of_many => self.fail(slot, sentence),
            Some(sentence) => {
                self.under_way -= 1;
                return self.seat.control.fail_as(Reason { blame, sentence });
            }
        }
        self.on_end(net, slot);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        self.tally.enter(stage, &self.seat.control);
        self.stage = stage;
        match stage {
            Stage::Connect => self.seat.report_ready(0, 0),
            Stage::Warm | Stage::Window(_) if self.open_loop.is_some() => return self.begin_due(net),
            Stage::Warm | Stage::Window(_) if !self.started => {
                self.started = true;
                let now = now_ns();
                (0..self.since_ns.len() as Slot).for_each(|slot| self.begin(net, slot, now));
            }
            Stage::Cool => {
                let wait = if self.open_loop.is_some() { self.begin_due(net) } else { Wait::Rest };
                let is_quiet = self.under_way == 0 && (self.all_begun || self.open_loop.is_none());
                self.seat.report_cooling(is_quiet);
                return wait;
            }
            _ => {}
        }
        Wait::Rest
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn finish(mut self) -> Tally {
        // If the run broke off, what was under way is nobody's fault.
        if self.seat.control.is_settled() {
            self.tally.unfinished = u64::from(self.under_way);
            self.censor();
        }
        self.tally
    }
}
