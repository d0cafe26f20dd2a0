//! `presence`: in each channel some members stay, and watch others join and leave.
//!
//! Each of those who come and go does the same operations over and over, so a watcher must be told of its
//! joins and leaves in turn: notice 0 is a join, 1 a leave, and so on. That makes a notice a message with a
//! sequence, and the ledger tells lost and repeated notices apart. Updates come in between, and are told as
//! well; queries are answered, and nobody is told. It makes no difference whether notices come in messages of
//! their own or several in one.
//!
//! In a closed loop each mover has one operation under way: it is complete when the mover has the answer and
//! **every** watcher has the notice. In an open loop operations are due by a schedule, whatever became of the
//! last one; the latency of a notice counts from when its operation was due. Where the server may let a join
//! and the leave after it cancel each other out (`--notices merged`), a pair that nobody is told of is
//! *merged* and not lost. A notice does not say which of two joins it is about; it is taken for the earlier
//! one, unless that is long ago.

use std::{collections::HashMap, ops::Range};

use super::{
    Scenario, Seat,
    audit::{Audited, Missing, RoundTrips},
};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Notice, Reply, Role},
    faults::FaultKind,
    ledger::{Arrival, Ledger},
    net::{Closed, Net, Slot, Wait},
    pacer::{Pacer, Schedule},
    plan::{MOVER_GAP_NS, Notices, PresencePlan},
    tally::{LATE_NS, Tally},
};

/// Closed loop: time after which a mover goes on although its notices do not come.
const EXPIRY_NS: u64 = 2_000_000_000;
const EXPIRY_CHECK_NS: u64 = 250_000_000;
/// Age of an operation at which an earlier one of the same kind that nobody was told of is taken to be
/// merged.
const MERGED_NS: u64 = 2_000_000_000;
/// Operations of a mover in a closed loop whose beginnings are known.
const KNOWN: usize = 4;

/// One worker's channels, each wholly its own.
pub(crate) struct Presence {
    seat: Seat,
    plan: PresencePlan,
    /// Channels on this worker. In each, watchers come first and movers follow, in order of slots.
    channels: Vec<u32>,
    /// What movers do, over and over.
    operations: Vec<Operation>,
    /// What of that the others are told, and the place among the operations.
    notices: Vec<(Notice, u32)>,
    movers: Vec<Mover>,
    /// Open loop.
    pacer: Option<Pacer>,
    /// Everyone by the name the server gave them.
    sessions: HashMap<Box<str>, Slot, foldhash::fast::RandomState>,
    /// One stream for each mover and watcher of its channel.
    ledger: Ledger,
    round_trips: RoundTrips,
    arrived: u64,
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
    /// Operations begun, and answered; and those begun of which others are told.
    begun: u32,
    answered: u32,
    told: u32,
    /// When the last one was sent.
    sent_ns: u64,
    /// Closed loop: when the last ones began of which others are told, by number.
    since_ns: [u64; KNOWN],
    /// Closed loop: answer and notices that the operation under way still waits for; 0 if none is under way.
    awaited: u32,
}

impl Presence {
    pub(crate) fn new(seat: Seat, plan: PresencePlan) -> Self {
        let channels: Vec<u32> = seat.own(plan.channels).collect();
        let between = [(plan.updates, Operation::Update), (plan.queries, Operation::Query)];
        let between = between.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, operation)| operation);
        let operations =
            [Operation::Join].into_iter().chain(between).chain([Operation::Leave]).collect::<Vec<_>>();
        let notices = operations.iter().zip(0..).filter_map(|(of, at)| Some((of.notice()?, at))).collect();
        let movers = vec![Mover::default(); channels.len() * plan.movers as usize];
        let pacer = plan.rate.map(|rate| {
            // One after the other in all channels, then the next of each.
            let own = (0..plan.movers).flat_map(|mover| channels.iter().map(move |at| (mover, *at)));
            let own = own.map(|(mover, channel)| mover * plan.channels + channel).collect();
            Pacer::new(Schedule::steady(rate), plan.channels * plan.movers, own)
        });
        Self {
            ledger: Ledger::new(movers.len() * plan.watchers as usize),
            round_trips: RoundTrips::default(),
            arrived: 0,
            tally: Tally::new(seat.windows),
            seat,
            plan,
            notices,
            operations,
            channels,
            movers,
            pacer,
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

    fn stream(&self, mover: u32, watcher: u32) -> usize {
        (mover * self.plan.watchers + watcher) as usize
    }

    /// Of the schedule's number of a mover of this worker, this worker's.
    fn mover_of(&self, scheduled: u32) -> u32 {
        let (mover, channel) = (scheduled / self.plan.channels, scheduled % self.plan.channels);
        channel / self.seat.workers as u32 * self.plan.movers + mover
    }

    /// Of a mover of this worker, the schedule's number.
    fn scheduled(&self, mover: u32) -> u32 {
        let channel = self.channels[(mover / self.plan.movers) as usize];
        mover % self.plan.movers * self.plan.channels + channel
    }

    /// From when the latency counts of the notice of this number.
    fn since_ns(&self, mover: u32, notice: u32) -> u64 {
        match &self.pacer {
            Some(pacer) => {
                let (told, all) = (self.notices.len() as u32, self.operations.len() as u32);
                let number = notice / told * all + self.notices[(notice % told) as usize].1;
                pacer.due_ns(self.seat.control.start_ns(), self.scheduled(mover), number)
            }
            None => self.movers[mover as usize].since_ns[notice as usize % KNOWN],
        }
    }

    /// Begins a mover's next operation, whose latency counts from `since_ns`.
    fn begin(&mut self, net: &mut Net, mover: u32, (since_ns, now): (u64, u64)) {
        let slot = self.mover_slot(mover);
        let channel = self.channel_of(slot);
        let entry = &mut self.movers[mover as usize];
        let begun = entry.begun;
        let operation = self.operations[begun as usize % self.operations.len()];
        entry.begun += 1;
        entry.sent_ns = now;
        entry.awaited = 1;
        if operation.notice().is_some() {
            entry.since_ns[entry.told as usize % KNOWN] = since_ns;
            entry.told += 1;
            entry.awaited += self.plan.watchers;
        }
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

    /// Open loop: begins what is due, to the end of the last window.
    fn begin_due(&mut self, net: &mut Net) -> Wait {
        let (start_ns, end_ns) = (self.seat.control.start_ns(), self.seat.control.end_ns());
        while let Some((due_ns, number)) = self.pacer.as_ref().and_then(|pacer| pacer.next(start_ns))
            && due_ns < end_ns
        {
            let (mover, now) = (self.mover_of(number), now_ns());
            let begins_ns = due_ns.max(self.movers[mover as usize].sent_ns + MOVER_GAP_NS);
            if begins_ns > now {
                return Wait::Until(begins_ns);
            }
            if let Some(pacer) = &mut self.pacer {
                pacer.advance();
            }
            let told = self.movers[mover as usize].told;
            self.begin(net, mover, (due_ns, now));
            let is_told = self.movers[mover as usize].told > told;
            if let Some(at) = self.tally.at(due_ns) {
                at.window.due += if is_told { u64::from(self.plan.watchers) } else { 0 };
                at.window.scheduled += 1;
                at.window.late += u64::from(now - due_ns > LATE_NS);
            }
        }
        Wait::Rest
    }

    /// Closed loop: something that the operation of a mover waited for is there.
    fn advance(&mut self, net: &mut Net, mover: u32, now: u64) {
        let entry = &mut self.movers[mover as usize];
        if self.pacer.is_some() || entry.awaited == 0 {
            return;
        }
        entry.awaited -= 1;
        if entry.awaited > 0 {
            return;
        }
        let since_ns = entry.sent_ns;
        self.under_way -= 1;
        if let Some(at) = self.tally.at(since_ns) {
            at.window.operations += 1;
        }
        if self.stage < Stage::Cool {
            self.begin(net, mover, (now, now));
        }
    }

    fn on_notice(&mut self, net: &mut Net, slot: Slot, (kind, session): (Notice, &str), now: u64) {
        let (channel, watcher) = self.place(slot);
        if watcher >= self.plan.watchers || !self.started {
            return;
        }
        let whose = self.sessions.get(session).copied().or_else(|| self.only_mover(channel));
        let Some(whose) = whose.filter(|whose| self.place(*whose).0 == channel) else {
            self.tally.faults.misdelivered += 1;
            return self.tally.fault_log.put(self.seat.fault(FaultKind::Misdelivered, slot, now));
        };
        // That a fellow watcher joined may be told after its own join was answered, even after the start.
        let Some(mover) = self.mover(whose) else { return };
        let stream = self.stream(mover, watcher);
        let Some(number) = self.number_of(kind, mover, stream, now) else {
            self.tally.faults.repeated += 1;
            return self.put_fault(FaultKind::Repeated, slot, now, (mover, self.ledger.expected(stream)));
        };
        let reordered = self.ledger.faults.reordered;
        if self.ledger.observe(stream, number) == Arrival::Again {
            return;
        }
        if self.ledger.faults.reordered != reordered {
            self.put_fault(FaultKind::Reordered, slot, now, (mover, number));
        }
        self.arrived += 1;
        let since_ns = self.since_ns(mover, number);
        if let Some(window) = self.tally.window() {
            window.arrived += 1;
        }
        if let Some(mut at) = self.tally.at(since_ns) {
            at.window.deliveries += 1;
            at.record(now.saturating_sub(since_ns));
        }
        if number + 1 == self.movers[mover as usize].told {
            self.advance(net, mover, now);
        }
    }

    /// A watcher is told who is there: watchers all of them, since no mover has begun.
    fn on_roster(&mut self, slot: Slot, text: &str) {
        if self.mover(slot).is_some() || self.started {
            return;
        }
        for name in self.seat.driver.names(text) {
            self.sessions.entry(name.into()).or_insert(slot);
        }
        self.ready += 1;
    }

    /// Who somebody without a known name is, where members are not told their own: every watcher has been
    /// told of all watchers, so it is the channel's mover.
    fn only_mover(&self, channel: u32) -> Option<Slot> {
        self.seat.driver.tells_roster().then(|| self.mover_slot(channel * self.plan.movers))
    }

    /// Which of a mover's notices this one is: the next of its kind that was begun, or one that was passed
    /// over. None if it was told already.
    fn number_of(&mut self, kind: Notice, mover: u32, stream: usize, now: u64) -> Option<u32> {
        let told = self.movers[mover as usize].told;
        let is_kind = |number: &u32| self.notices[*number as usize % self.notices.len()].0 == kind;
        let Some(mut number) = (self.ledger.expected(stream)..told).find(is_kind) else {
            return self.ledger.gaps(stream).iter().flat_map(|gap| gap.clone()).find(is_kind);
        };
        if self.plan.notices == Notices::Merged {
            // The pair that begins with what is expected was never told of.
            let is_past = |number| self.since_ns(mover, number) + MERGED_NS < now;
            while number + 2 < told && is_past(number + 2) {
                number += 2;
            }
            let expected = self.ledger.expected(stream);
            if (number - expected).is_multiple_of(2) {
                self.merge(mover, expected..number);
                self.ledger.skip(stream, number);
            }
        }
        Some(number)
    }

    fn on_done(&mut self, net: &mut Net, slot: Slot, now: u64) {
        let Some(mover) = self.mover(slot) else {
            // Where a roster follows, the watcher is ready when it has that.
            self.ready += u32::from(!self.seat.driver.tells_roster());
            return;
        };
        let entry = &mut self.movers[mover as usize];
        entry.answered += 1;
        let answered = entry.answered;
        if let Some(pacer) = &self.pacer {
            self.under_way = self.under_way.saturating_sub(1);
            let due_ns = pacer.due_ns(self.seat.control.start_ns(), self.scheduled(mover), answered - 1);
            if let Some(at) = self.tally.at(due_ns) {
                at.window.operations += 1;
            }
        }
        self.advance(net, mover, now);
    }

    /// Closed loop: goes on with movers whose operations take too long. What their watchers miss may still
    /// come.
    fn expire(&mut self, net: &mut Net, now: u64) {
        if now < self.next_expiry_ns || self.pacer.is_some() {
            return;
        }
        self.next_expiry_ns = now + EXPIRY_CHECK_NS;
        for mover in 0..self.movers.len() as u32 {
            let Mover { sent_ns, awaited, .. } = self.movers[mover as usize];
            if awaited > 0 && now.saturating_sub(sent_ns) >= EXPIRY_NS {
                self.movers[mover as usize].awaited = 0;
                self.under_way -= 1;
                if self.stage < Stage::Cool {
                    self.begin(net, mover, (now, now));
                }
            }
        }
    }

    /// A watcher is not to be told of these any more: they have cancelled each other out.
    fn merge(&mut self, mover: u32, notices: Range<u32>) {
        self.tally.merged += notices.len() as u64 / 2;
        for notice in notices {
            let since_ns = self.since_ns(mover, notice);
            if let Some(at) = self.tally.at(since_ns) {
                at.window.due = at.window.due.saturating_sub(1);
            }
        }
    }

    /// The notices that a watcher has still to be told of a mover.
    fn tail(&self, mover: u32, stream: usize) -> Range<u32> {
        let tail = self.ledger.tail(stream, self.movers[mover as usize].told);
        // An even number of them leaves everything as it was.
        let is_merged = self.plan.notices == Notices::Merged && tail.len().is_multiple_of(2);
        if is_merged { tail.end..tail.end } else { tail }
    }

    /// What is left of pairs that nobody was told of.
    fn merge_tails(&mut self) {
        for mover in 0..self.movers.len() as u32 {
            for watcher in 0..self.plan.watchers {
                let stream = self.stream(mover, watcher);
                let whole = self.ledger.tail(stream, self.movers[mover as usize].told);
                if self.tail(mover, stream).is_empty() {
                    self.merge(mover, whole);
                }
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let count = self.movers.len() as u32;
        let mut streams = (0..count).flat_map(|mover| (0..self.plan.watchers).map(move |at| (mover, at)));
        self.under_way == 0
            && streams.all(|(mover, watcher)| self.tail(mover, self.stream(mover, watcher)).is_empty())
    }

    /// The movers of a watcher's channel.
    fn movers_of(&self, channel: u32) -> Range<u32> {
        channel * self.plan.movers..(channel + 1) * self.plan.movers
    }

    #[cold]
    fn put_fault(&mut self, kind: FaultKind, slot: Slot, at_ns: u64, (mover, number): (u32, u32)) {
        if self.tally.fault_log.has_room() {
            let fault = self.seat.fault(kind, slot, at_ns).of_message(mover, number);
            self.tally.fault_log.put(fault.in_channel(self.channel_of(slot)));
        }
    }
}

impl Audited for Presence {
    fn listeners(&self) -> Vec<Slot> {
        let members = self.plan.watchers + self.plan.movers;
        (0..self.channels.len() as u32 * members).filter(|slot| self.mover(*slot).is_none()).collect()
    }

    fn missing(&self, slot: Slot) -> Missing {
        let (channel, watcher) = self.place(slot);
        let is_settled = self.seat.control.is_settled();
        let mut missing = Missing { is_answered: self.round_trips.is_answered(slot), ..Missing::default() };
        for mover in self.movers_of(channel) {
            let stream = self.stream(mover, watcher);
            missing.gaps += self.ledger.gaps(stream).iter().map(|gap| gap.len() as u64).sum::<u64>();
            missing.tail += if is_settled { self.tail(mover, stream).len() as u64 } else { 0 };
        }
        missing
    }

    fn censor(&mut self, slot: Slot, now: u64) {
        let (channel, watcher) = self.place(slot);
        let tail_kind =
            if self.round_trips.is_answered(slot) { FaultKind::Lost } else { FaultKind::NotArrived };
        for mover in self.movers_of(channel) {
            let stream = self.stream(mover, watcher);
            let gaps = self.ledger.gaps(stream).to_vec();
            let kinds: Vec<_> = gaps.iter().map(|_| FaultKind::Lost).chain([tail_kind]).collect();
            for (range, kind) in gaps.into_iter().chain([self.tail(mover, stream)]).zip(kinds) {
                for number in range {
                    let since_ns = self.since_ns(mover, number);
                    self.put_fault(kind, slot, since_ns, (mover, number));
                    if let Some(mut at) = self.tally.at(since_ns).filter(|_| self.pacer.is_some()) {
                        at.censor(now.saturating_sub(since_ns));
                    }
                }
            }
        }
    }

    fn round_trips(&mut self) -> &mut RoundTrips {
        &mut self.round_trips
    }
}

impl Scenario for Presence {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        match reply {
            Reply::Notice { kind, session } => self.on_notice(net, slot, (kind, session), now),
            Reply::Welcome { session, .. } => {
                self.sessions.insert(session.into(), slot);
                match self.mover(slot) {
                    Some(_) => self.ready += 1,
                    None => self.seat.watch_first(net, slot, &self.channel_of(slot), session),
                }
            }
            Reply::Done(_) => self.on_done(net, slot, now),
            Reply::Roster { text } => self.on_roster(slot, text),
            Reply::Failed { code } => {
                self.seat.control.fail(format!("The server refused a command: {code}."));
            }
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Verdict { .. } | Reply::Answer | Reply::Prompt { .. } | Reply::Other => {}
            Reply::Unknown => {
                self.tally.faults.corrupt += 1;
                self.tally.fault_log.put(self.seat.fault(FaultKind::Corrupt, slot, now));
            }
        }
    }

    fn on_pong(&mut self, slot: Slot) {
        self.round_trips.on_pong(slot);
    }

    fn on_closed(&mut self, _: &mut Net, _: Slot, closed: Closed) {
        self.seat.fail_closed(closed);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        self.tally.enter(stage, &self.seat.control);
        self.stage = stage;
        match stage {
            Stage::Connect => {
                let connections = self.channels.len() as u32 * (self.plan.watchers + self.plan.movers);
                if !self.opened {
                    self.opened = true;
                    (0..connections).for_each(|slot| {
                        let role = if self.mover(slot).is_some() { Role::Mover } else { Role::Watcher };
                        net.open(slot, self.seat.driver.access(&self.channel_of(slot), role));
                    });
                }
                self.seat.report_ready(self.ready, connections);
                Wait::Rest
            }
            Stage::Warm | Stage::Window(_) => {
                let now = now_ns();
                if !self.started && self.pacer.is_none() {
                    (0..self.movers.len() as u32).for_each(|mover| self.begin(net, mover, (now, now)));
                }
                self.started = true;
                self.expire(net, now);
                self.begin_due(net)
            }
            Stage::Cool | Stage::Stop => {
                let wait = self.begin_due(net);
                self.expire(net, now_ns());
                let is_quiet = self.is_quiet();
                if !is_quiet {
                    self.ask_where_something_is_missing(net, self.arrived);
                }
                self.seat.report_cooling(is_quiet);
                wait
            }
        }
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn ledger(&self) -> Option<&Ledger> {
        Some(&self.ledger)
    }

    fn finish(mut self) -> Tally {
        self.merge_tails();
        self.tally.faults = self.audit();
        self.tally
    }
}
