//! `storm`: at the beginning of each window all connections drop at once, without a word, and come back as
//! fast as they can. An operation is a connection that is back in its channel; its latency counts from the
//! drop.
//!
//! With messages (`rate`), each channel has a publisher that stays and goes on. Who comes back joins with the
//! last position it knows, and is back when it also has what the server says it missed:
//!
//! ```text
//!  drop ─▶ open ─▶ welcome ─▶ join since (epoch, offset) ─▶ recovered, missed n ─▶ n messages ─▶ live ones
//!    └──────────────────────────────── latency ───────────────────────────────────────┘
//! ```
//!
//! With tickets (`resume`) it comes back to its session instead, joins nothing, and is back when it also has
//! what had been published until it was welcomed.
//!
//! The ledger goes on across the drop: in the end every member must have had every message once, in order.
//! Where the server has no recovery, what was missed while away is not asked for. *Bystanders* are
//! subscribers of a channel of their own that stay connected: what a storm costs those who have no part in
//! it. With several workers they have the last one to themselves.

mod returning;

use std::{collections::HashMap, sync::Arc};

use super::{
    Scenario, Seat,
    audit::{Audited, Missing, RoundTrips},
};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Reply, Role},
    faults::FaultKind,
    ledger::{Arrival, Ledger},
    net::{Closed, Net, Slot, Wait},
    order::Order,
    pacer::{Pacer, Schedule},
    plan::StormPlan,
    stamp::{Stamp, put_payload, read_payload},
    tally::{LATE_NS, Tally},
};

/// One worker's connections. Slots of members come first, then bystanders, then publishers.
pub(crate) struct Storm {
    seat: Seat,
    plan: StormPlan,
    run: u32,
    members: Vec<Member>,
    /// Members and bystanders.
    subscribers: u32,
    publishers: Vec<Publisher>,
    /// Of the channels of the storm, and of the bystanders' channel.
    pacers: [Pacer; 2],
    /// The last epoch of each channel that anyone was told, to be shared by its members.
    epochs: Vec<Option<Arc<str>>>,
    /// Connections that are not in their channels.
    away: u32,
    opened: bool,
    stage: Stage,
    /// One stream for each subscriber.
    ledger: Ledger,
    order: Order,
    /// Corrupt frames of each connection that had any.
    corrupt: HashMap<Slot, u64, foldhash::fast::RandomState>,
    round_trips: RoundTrips,
    /// First deliveries, of the whole run.
    arrived: u64,
    text: Vec<u8>,
    tally: Tally,
}

#[derive(Clone, Default)]
struct Member {
    is_back: bool,
    /// When it was dropped; 0 before the first storm.
    dropped_ns: u64,
    /// It was in its channel before; with this epoch, if the server gives one. `order` has the offset.
    has_been_back: bool,
    epoch: Option<Arc<str>>,
    /// It is back without recovery, and what comes next is where it goes on.
    is_adrift: bool,
    /// Publications that it missed and that are to come now.
    missed: u64,
    session: Option<Session>,
}

/// A session that outlives its connections.
#[derive(Clone)]
struct Session {
    ticket: Box<str>,
    /// Messages of every kind that came in it, but for welcomes.
    received: u64,
    /// While its member comes back: messages of the channel's publisher that were out when it was welcomed.
    awaited: Option<u32>,
}

struct Publisher {
    number: u32,
    slot: Slot,
    sequence: u32,
    before: String,
    behind: String,
}

impl Storm {
    pub(crate) fn new(seat: Seat, plan: StormPlan, run: u32) -> Self {
        let (channels, workers) = (plan.channels(), plan.storm_workers(seat.workers as u32));
        let is_storm = (seat.worker as u32) < workers;
        let is_last = seat.worker + 1 == seat.workers;
        let own =
            |total: u32| (seat.worker as u32..if is_storm { total } else { 0 }).step_by(workers as usize);
        let members = vec![Member::default(); own(plan.connections).len()];
        let subscribers = members.len() as u32 + if is_last { plan.bystanders } else { 0 };
        let storm: Vec<u32> = own(if plan.rate > 0.0 { channels } else { 0 }).collect();
        let bystander = if is_last && plan.bystanders > 0 { vec![0] } else { Vec::new() };
        let numbers = storm.iter().copied().chain(bystander.iter().map(|_| channels));
        let publishers = numbers.zip(subscribers..).map(|(number, slot)| {
            let (before, behind) = seat.driver.send_around(&seat.channel(number), plan.payload);
            Publisher { number, slot, sequence: 0, before, behind }
        });
        let publishers: Vec<_> = publishers.collect();
        Self {
            away: subscribers + publishers.len() as u32,
            ledger: Ledger::new(subscribers as usize),
            order: Order::new(subscribers as usize, 0),
            tally: Tally::new(seat.windows),
            pacers: [
                Pacer::new(Schedule::steady(plan.rate), channels, (0..storm.len() as u32).collect()),
                Pacer::new(Schedule::steady(plan.bystander_rate), 1, bystander),
            ],
            epochs: vec![None; if plan.rate > 0.0 { channels as usize } else { 0 }],
            seat,
            plan,
            run,
            members,
            subscribers,
            publishers,
            opened: false,
            stage: Stage::Connect,
            corrupt: HashMap::default(),
            round_trips: RoundTrips::default(),
            arrived: 0,
            text: Vec::new(),
        }
    }

    /// The channel of a subscriber.
    fn channel(&self, slot: Slot) -> u32 {
        if slot as usize >= self.members.len() {
            return self.plan.channels();
        }
        let workers = self.plan.storm_workers(self.seat.workers as u32);
        (slot * workers + self.seat.worker as u32) / self.plan.members
    }

    fn open(&self, net: &mut Net, slot: Slot) {
        if let Some(access) = self.access_resuming(slot) {
            return net.open(slot, access);
        }
        let (channel, role) = match slot.checked_sub(self.subscribers) {
            Some(publisher) => (self.publishers[publisher as usize].number, Role::Publisher),
            // A path names no position: who may come back with one joins by a command.
            None => (self.channel(slot), Role::Guest),
        };
        net.open(slot, self.seat.driver.access(&self.seat.channel(channel), role));
    }

    /// Drops everyone. Those that are not back from the last storm go on coming back from that one.
    fn strike(&mut self, net: &mut Net) {
        self.tally.stragglers += u64::from(self.away);
        let now = now_ns();
        for slot in 0..self.members.len() {
            if std::mem::take(&mut self.members[slot].is_back) {
                self.away += 1;
                self.members[slot].dropped_ns = now;
                net.abandon(slot as Slot);
                self.open(net, slot as Slot);
            }
        }
    }

    /// A message of ours came in, or what is left of one.
    fn verify(&mut self, slot: Slot, stamped: &[u8], now: u64) {
        let Ok(stamp) = read_payload(stamped) else { return self.on_corrupt(slot, now) };
        let is_mine = slot < self.subscribers && stamp.run == self.run;
        if !is_mine || stamp.publisher != self.channel(slot) {
            self.tally.faults.misdelivered += 1;
            return self.put_fault(FaultKind::Misdelivered, slot, now, stamp.sequence);
        }
        let stream = slot as usize;
        if let Some(member) = self.members.get_mut(stream)
            && std::mem::take(&mut member.is_adrift)
        {
            self.ledger.skip(stream, stamp.sequence);
        }
        self.observe(slot, stamped, &stamp, now);
        self.follow(slot, stamp.sequence, now);
    }

    /// Puts a delivery into the ledger.
    fn observe(&mut self, slot: Slot, stamped: &[u8], stamp: &Stamp, now: u64) {
        let stream = slot as usize;
        let reordered = self.ledger.faults.reordered;
        if self.ledger.observe(stream, stamp.sequence) == Arrival::Again {
            return self.put_fault(FaultKind::Repeated, slot, now, stamp.sequence);
        }
        let is_late = self.ledger.faults.reordered != reordered;
        let mut is_reordered = is_late;
        self.arrived += 1;
        if let Some(number) = self.seat.driver.number(&stamped[stamp.length as usize - 1..]) {
            let in_order = self.order.observe(stream, 0, number, (stamp.publisher, stamp.sequence));
            self.tally.faults.reordered += u64::from(!in_order && !is_late);
            is_reordered |= !in_order;
        }
        if is_reordered {
            self.put_fault(FaultKind::Reordered, slot, now, stamp.sequence);
        }
        if let Some(window) = self.tally.window() {
            window.arrived += 1;
        }
        if let Some(at) = self.tally.at(stamp.due_ns) {
            at.window.deliveries += 1;
            if stream >= self.members.len() {
                let latency = at.window.bystanders.get_or_insert_default();
                latency.record(now.saturating_sub(stamp.due_ns));
            }
        }
    }

    #[cold]
    fn on_corrupt(&mut self, slot: Slot, now: u64) {
        self.tally.faults.corrupt += 1;
        *self.corrupt.entry(slot).or_default() += 1;
        self.tally.fault_log.put(self.seat.fault(FaultKind::Corrupt, slot, now));
    }

    #[cold]
    fn put_fault(&mut self, kind: FaultKind, slot: Slot, at_ns: u64, sequence: u32) {
        if !self.tally.fault_log.has_room() || slot >= self.subscribers {
            return;
        }
        let channel = self.channel(slot);
        let last = Some(self.order.last(slot as usize)).filter(|last| *last > 0);
        let fault = self.seat.fault(kind, slot, at_ns).of_message(channel, sequence);
        self.tally.fault_log.put(fault.in_channel(self.seat.channel(channel)).with_offsets(None, last));
    }

    /// Sends what is due, in both schedules, to the end of the last window.
    fn publish(&mut self, net: &mut Net) -> Wait {
        let (start_ns, end_ns) = (self.seat.control.start_ns(), self.seat.control.end_ns());
        let mut wait = Wait::Rest;
        for schedule in 0..self.pacers.len() {
            while let Some((due_ns, index)) =
                self.pacers[schedule].next(start_ns).filter(|(due_ns, _)| *due_ns < end_ns)
            {
                let now = now_ns();
                if due_ns > now {
                    wait = match wait {
                        Wait::Until(earlier) => Wait::Until(earlier.min(due_ns)),
                        _ => Wait::Until(due_ns),
                    };
                    break;
                }
                let is_bystanders = schedule == 1;
                self.pacers[schedule].advance();
                // The bystanders' publisher is the last one.
                let index = if is_bystanders { self.publishers.len() - 1 } else { index as usize };
                self.send(net, index, due_ns);
                if let Some(at) = self.tally.at(due_ns) {
                    at.window.messages += 1;
                    // Only of these deliveries is the latency reported.
                    at.window.scheduled += u64::from(is_bystanders);
                    at.window.late += u64::from(is_bystanders && now - due_ns > LATE_NS);
                }
            }
        }
        wait
    }

    fn send(&mut self, net: &mut Net, index: usize, due_ns: u64) {
        let publisher = &mut self.publishers[index];
        self.text.clear();
        self.text.extend_from_slice(publisher.before.as_bytes());
        let stamp = Stamp {
            length: self.plan.payload,
            run: self.run,
            publisher: publisher.number,
            sequence: publisher.sequence,
            due_ns,
        };
        publisher.sequence += 1;
        put_payload(&mut self.text, stamp);
        self.text.extend_from_slice(publisher.behind.as_bytes());
        let text = std::str::from_utf8(&self.text).expect("stamps and names are text");
        net.send(publisher.slot, text);
        self.seat.control.report_published(publisher.number, publisher.sequence);
    }

    /// Whether everyone is back, and everything that was sent has come.
    fn is_quiet(&self) -> bool {
        if self.away > 0 || self.plan.publishers() == 0 {
            return self.away == 0;
        }
        let published = |slot| u64::from(self.seat.control.published(self.channel(slot)));
        self.seat.control.is_settled() && self.arrived >= (0..self.subscribers).map(published).sum()
    }
}

impl Audited for Storm {
    /// Nobody, where there are no messages.
    fn listeners(&self) -> Vec<Slot> {
        (0..if self.plan.publishers() > 0 { self.subscribers } else { 0 }).collect()
    }

    fn round_trips(&mut self) -> &mut RoundTrips {
        &mut self.round_trips
    }

    fn missing(&self, slot: Slot) -> Missing {
        let stream = slot as usize;
        let is_adrift = self.members.get(stream).is_some_and(|member| member.is_adrift);
        let is_settled = self.plan.publishers() > 0 && self.seat.control.is_settled();
        let published = if is_settled { self.seat.control.published(self.channel(slot)) } else { 0 };
        let tail = self.ledger.tail(stream, published);
        Missing {
            gaps: self.ledger.gaps(stream).iter().map(|gap| gap.len() as u64).sum(),
            tail: if is_settled && !is_adrift { tail.len() as u64 } else { 0 },
            corrupt: self.corrupt.get(&slot).copied().unwrap_or_default(),
            holes: if self.seat.driver.is_contiguous() { self.order.holes(stream) } else { 0 },
            is_answered: self.round_trips.is_answered(slot),
        }
    }

    fn censor(&mut self, slot: Slot, now: u64) {
        let stream = slot as usize;
        let is_adrift = self.members.get(stream).is_some_and(|member| member.is_adrift);
        let published = if is_adrift { 0 } else { self.seat.control.published(self.channel(slot)) };
        let (gaps, tail) = (self.ledger.gaps(stream).to_vec(), self.ledger.tail(stream, published));
        let proven = self.round_trips.is_answered(slot);
        let tail_kind = if proven { FaultKind::Lost } else { FaultKind::NotArrived };
        let kinds = gaps.iter().map(|_| FaultKind::Lost).chain([tail_kind]);
        for (range, kind) in gaps.iter().cloned().chain([tail]).zip(kinds) {
            for sequence in range {
                if stream < self.members.len() {
                    self.put_fault(kind, slot, now, sequence);
                    continue;
                }
                let due_ns = self.pacers[1].due_ns(self.seat.control.start_ns(), 0, sequence);
                self.put_fault(kind, slot, due_ns, sequence);
                if let Some(at) = self.tally.at(due_ns) {
                    at.window.censored += 1;
                    let latency = at.window.bystanders.get_or_insert_default();
                    latency.record(now.saturating_sub(due_ns));
                }
            }
        }
    }
}

impl Scenario for Storm {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn on_publication(&mut self, _: &mut Net, slot: Slot, stamped: &[u8], now: u64) {
        self.count_received(slot);
        self.verify(slot, stamped, now);
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        if !matches!(reply, Reply::Welcome { .. }) {
            self.count_received(slot);
        }
        match reply {
            Reply::Welcome { session, resumption } if slot < self.subscribers => {
                self.reach(slot, now, |stages| &mut stages.welcomed);
                self.on_welcome(net, slot, (session, resumption), now);
            }
            Reply::Welcome { .. } => self.away -= 1,
            Reply::Done(standing) => {
                self.reach(slot, now, |stages| &mut stages.joined);
                self.on_joined(slot, standing, now);
            }
            // Nothing was sent yet: a join failed.
            Reply::Failed { code } if self.stage == Stage::Connect => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Failed { code } => self.tally.refuse(code),
            Reply::Unknown => self.on_corrupt(slot, now),
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Notice { .. } | Reply::Prompt { .. } | Reply::Other => {}
            Reply::Verdict { .. } | Reply::Answer | Reply::Roster { .. } => {}
        }
    }

    fn on_pong(&mut self, slot: Slot) {
        self.round_trips.on_pong(slot);
    }

    fn on_closed(&mut self, _: &mut Net, _: Slot, closed: Closed) {
        self.seat.fail_closed(closed);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        let is_new = stage != self.stage;
        self.tally.enter(stage, &self.seat.control);
        self.stage = stage;
        match stage {
            Stage::Connect => {
                let connections = self.subscribers + self.publishers.len() as u32;
                if !self.opened {
                    self.opened = true;
                    (0..connections).for_each(|slot| self.open(net, slot));
                }
                self.seat.report_ready(connections - self.away, connections);
                Wait::Rest
            }
            Stage::Warm | Stage::Window(_) => {
                if is_new && stage != Stage::Warm {
                    self.strike(net);
                }
                self.publish(net)
            }
            Stage::Cool | Stage::Stop => {
                if is_new {
                    self.tally.stragglers += u64::from(self.away);
                }
                let wait = self.publish(net);
                let is_quiet = self.is_quiet();
                if self.seat.control.is_settled() && !is_quiet && self.plan.publishers() > 0 {
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
        let now = now_ns();
        self.tally.faults = self.audit();
        for slot in 0..if self.seat.control.is_settled() { self.members.len() } else { 0 } {
            let Member { is_back, dropped_ns, .. } = self.members[slot];
            if let (false, Some(mut at)) = (is_back, self.tally.at(dropped_ns)) {
                at.censor(now.saturating_sub(dropped_ns));
            }
        }
        self.tally
    }
}
