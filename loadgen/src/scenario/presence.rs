//! `presence`: in each channel some members stay, and watch others join and leave.
//!
//! An operation (a join or a leave) is complete when the one who did it has the answer and **every** watcher has
//! the notice. Each of those who come and go has one operation under way, so a watcher must see its joins and
//! leaves in turn: operation 0 is a join, 1 a leave, and so on. That makes a notice a message with a sequence, and
//! the ledger tells lost and repeated notices apart. Updates come in between, and are told as well; queries are
//! answered, and nobody is told.

use std::collections::HashMap;

use super::{Scenario, Seat};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Notice, Reply, Role},
    ledger::{Arrival, Faults, Ledger},
    net::{Closed, Net, Slot, Wait},
    plan::PresencePlan,
    tally::Tally,
};

/// Time after which an operation whose notices do not come is given up.
const EXPIRY_NS: u64 = 2_000_000_000;
const EXPIRY_CHECK_NS: u64 = 250_000_000;

/// One worker's channels, each wholly its own.
pub(crate) struct Presence {
    seat: Seat,
    plan: PresencePlan,
    /// Channels on this worker. In each, watchers come first and movers follow, in order of slots.
    channels: Vec<u32>,
    /// What movers do, over and over.
    operations: Vec<Operation>,
    /// What of that the others are told.
    notices: Vec<Notice>,
    movers: Vec<Mover>,
    /// Everyone by the name the server gave them.
    sessions: HashMap<Box<str>, Slot, foldhash::fast::RandomState>,
    /// One stream for each mover and watcher of its channel.
    ledger: Ledger,
    tally: Tally,
    opened: bool,
    ready: u32,
    started: bool,
    under_way: u32,
    stage: Stage,
    next_expiry_ns: u64,
}

#[derive(Clone, Copy)]
enum Operation {
    Join,
    Update,
    Query,
    Leave,
}

impl Operation {
    /// What the others are told of it.
    fn notice(self) -> Option<Notice> {
        match self {
            Self::Join => Some(Notice::Join),
            Self::Update => Some(Notice::Update),
            Self::Query => None,
            Self::Leave => Some(Notice::Leave),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Mover {
    /// Operations begun, and those among them of which others are told.
    begun: u32,
    told: u32,
    begun_ns: u64,
    /// Answer and notices that the operation under way still waits for; 0 if none is under way.
    awaited: u32,
}

impl Presence {
    pub(crate) fn new(seat: Seat, plan: PresencePlan) -> Self {
        let channels: Vec<u32> = seat.own(plan.channels).collect();
        let between = [(plan.updates, Operation::Update), (plan.queries, Operation::Query)];
        let between = between.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, operation)| operation);
        let operations =
            [Operation::Join].into_iter().chain(between).chain([Operation::Leave]).collect::<Vec<_>>();
        let movers = vec![Mover::default(); channels.len() * plan.movers as usize];
        Self {
            ledger: Ledger::new(movers.len() * plan.watchers as usize),
            tally: Tally::new(seat.windows),
            seat,
            plan,
            notices: operations.iter().filter_map(|operation| operation.notice()).collect(),
            operations,
            channels,
            movers,
            sessions: HashMap::default(),
            opened: false,
            ready: 0,
            started: false,
            under_way: 0,
            stage: Stage::Connect,
            next_expiry_ns: 0,
        }
    }

    /// A slot's channel, and its place among the members: watchers first.
    fn place(&self, slot: Slot) -> (u32, u32) {
        let members = self.plan.watchers + self.plan.movers;
        (slot / members, slot % members)
    }

    /// A slot's number among the movers, if it is one.
    fn mover(&self, slot: Slot) -> Option<u32> {
        let (channel, place) = self.place(slot);
        Some(channel * self.plan.movers + place.checked_sub(self.plan.watchers)?)
    }

    fn mover_slot(&self, mover: u32) -> Slot {
        let members = self.plan.watchers + self.plan.movers;
        mover / self.plan.movers * members + self.plan.watchers + mover % self.plan.movers
    }

    fn channel_of(&self, slot: Slot) -> String {
        self.seat.channel(self.channels[self.place(slot).0 as usize])
    }

    fn begin(&mut self, net: &mut Net, mover: u32, now: u64) {
        let slot = self.mover_slot(mover);
        let channel = self.channel_of(slot);
        let Mover { begun, told, .. } = self.movers[mover as usize];
        let operation = self.operations[begun as usize % self.operations.len()];
        let is_told = operation.notice().is_some();
        self.movers[mover as usize] = Mover {
            begun: begun + 1,
            told: told + u32::from(is_told),
            begun_ns: now,
            awaited: if is_told { self.plan.watchers + 1 } else { 1 },
        };
        self.under_way += 1;
        let driver = &self.seat.driver;
        let command = match operation {
            Operation::Join => driver.join(2, &channel, ""),
            Operation::Update => driver.update(2, begun),
            Operation::Query => driver.members(2, &channel),
            Operation::Leave => driver.leave(2, &channel),
        };
        net.send(slot, &command);
    }

    /// Something that the operation of a mover waited for is there.
    fn advance(&mut self, net: &mut Net, mover: u32, now: u64) {
        let entry = &mut self.movers[mover as usize];
        if entry.awaited == 0 {
            return;
        }
        entry.awaited -= 1;
        if entry.awaited > 0 {
            return;
        }
        self.under_way -= 1;
        if let Some(window) = self.tally.window() {
            window.operations += 1;
        }
        if self.stage < Stage::Cool {
            self.begin(net, mover, now);
        }
    }

    fn on_notice(&mut self, net: &mut Net, slot: Slot, (kind, session): (Notice, &str), now: u64) {
        let (channel, watcher) = self.place(slot);
        if watcher >= self.plan.watchers || !self.started {
            return;
        }
        let whose = self.sessions.get(session).copied();
        let Some(whose) = whose.filter(|whose| self.place(*whose).0 == channel) else {
            self.tally.faults.misdelivered += 1;
            return;
        };
        // That a fellow watcher joined may be told after its own join was answered, even after the start.
        let Some(mover) = self.mover(whose) else { return };
        let stream = (mover * self.plan.watchers + watcher) as usize;
        let Mover { told, begun_ns, .. } = self.movers[mover as usize];
        let expected = self.ledger.expected(stream);
        if expected >= told || kind != self.notices[expected as usize % self.notices.len()] {
            self.tally.faults.repeated += 1;
            return;
        }
        if self.ledger.observe(stream, expected) == Arrival::First {
            if let Some(window) = self.tally.window() {
                window.deliveries += 1;
                window.latency.record(now.saturating_sub(begun_ns));
            }
            self.advance(net, mover, now);
        }
    }

    fn on_done(&mut self, net: &mut Net, slot: Slot, now: u64) {
        match self.mover(slot) {
            Some(mover) => self.advance(net, mover, now),
            None => self.ready += 1,
        }
    }

    /// Gives up operations that take too long: what their watchers miss is lost.
    fn expire(&mut self, net: &mut Net, now: u64) {
        if now < self.next_expiry_ns {
            return;
        }
        self.next_expiry_ns = now + EXPIRY_CHECK_NS;
        for mover in 0..self.movers.len() as u32 {
            let Mover { told, begun_ns, awaited, .. } = self.movers[mover as usize];
            if awaited == 0 || now.saturating_sub(begun_ns) < EXPIRY_NS {
                continue;
            }
            for watcher in 0..self.plan.watchers {
                self.ledger.close((mover * self.plan.watchers + watcher) as usize, told);
            }
            self.movers[mover as usize].awaited = 1;
            self.advance(net, mover, now);
        }
    }
}

impl Scenario for Presence {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        match reply {
            Reply::Notice { kind, session } => self.on_notice(net, slot, (kind, session), now),
            Reply::Welcome { session } => {
                self.sessions.insert(session.into(), slot);
                match self.mover(slot) {
                    Some(_) => self.ready += 1,
                    None => self.seat.join_first(net, slot, &self.channel_of(slot), session),
                }
            }
            Reply::Done(_) => self.on_done(net, slot, now),
            Reply::Failed { code } => {
                self.seat.control.fail(format!("The server refused a command: {code}."));
            }
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Prompt { .. } | Reply::Other => {}
            Reply::Unknown => self.tally.faults.corrupt += 1,
        }
    }

    fn on_closed(&mut self, _: &mut Net, _: Slot, closed: Closed) {
        self.seat.fail_closed(closed);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        self.tally.enter(stage);
        self.stage = stage;
        match stage {
            Stage::Connect => {
                let connections = self.channels.len() as u32 * (self.plan.watchers + self.plan.movers);
                if !self.opened {
                    self.opened = true;
                    (0..connections).for_each(|slot| {
                        let role = if self.mover(slot).is_some() { Role::Guest } else { Role::Member };
                        net.open(slot, self.seat.driver.path(&self.channel_of(slot), role));
                    });
                }
                self.seat.report_ready(self.ready, self.ready == connections);
            }
            Stage::Warm | Stage::Window(_) => {
                let now = now_ns();
                if !self.started {
                    self.started = true;
                    (0..self.movers.len() as u32).for_each(|mover| self.begin(net, mover, now));
                }
                self.expire(net, now);
            }
            Stage::Cool | Stage::Stop => {
                self.expire(net, now_ns());
                self.seat.control.report_cooling(self.seat.worker, self.under_way == 0);
            }
        }
        Wait::Rest
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn faults(&self) -> Faults {
        let mut faults = self.ledger.faults;
        faults.add(&self.tally.faults);
        faults
    }

    fn finish(mut self) -> Tally {
        // If the run broke off, what was on the way is nobody's loss.
        let movers = if self.seat.control.is_settled() { self.movers.len() } else { 0 };
        for mover in 0..movers {
            for watcher in 0..self.plan.watchers as usize {
                let stream = mover * self.plan.watchers as usize + watcher;
                self.ledger.close(stream, self.movers[mover].told);
            }
        }
        self.tally.faults = self.faults();
        self.tally
    }
}
