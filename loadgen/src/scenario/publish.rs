//! `fanout`, `send`, `broadcast` and `slow`: publishers, channels, members; every delivery verified.
//!
//! Publisher `g` of all sends to channel `g / publishers`. In `fanout` publishers only send; in `send` a
//! channel's publishers are its first members. In `broadcast` there is one channel, and it is everyone. In
//! `slow` the last members stop reading when the warm-up begins, and read on when the run cools down, to see
//! what became of them.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use bytes::BytesMut;

use super::{
    Scenario, Seat,
    audit::{Missing, RoundTrips},
    flights::Flights,
    layout::{Layout, Member, home_of},
};
use crate::{
    clock::{now_ns, seconds},
    control::Stage,
    drivers::{Need, Reply, Role},
    faults::FaultKind,
    ledger::{Arrival, Faults, Ledger},
    net::{Closed, Net, Slot, Wait},
    order::Order,
    pacer::{Pacer, Schedule},
    peer_signal::{Message, PeerSignal},
    plan::{Pace, PublishPlan, Scope},
    procfs,
    stamp::{Stamp, put_payload, read_payload},
    tally::{LATE_NS, Tally},
};

const EXPIRY_CHECK_NS: u64 = 250_000_000;
/// Time after which another worker that reads too slowly is told again.
const RETRY_NS: u64 = 50_000;
/// Silence after which slow members that read on are taken to have read everything.
const SLOW_SILENCE_NS: u64 = 500_000_000;

/// One worker's part.
pub(crate) struct Publish {
    seat: Seat,
    plan: PublishPlan,
    run: u32,
    /// By which workers tell what completed; none if every one keeps to its own channels.
    signal: Option<PeerSignal>,
    layout: Layout,
    /// By publisher; those of other workers have no slot.
    publishers: Vec<Publisher>,
    /// Whether no publisher may hear itself.
    is_echo_off: bool,
    opened: bool,
    paused: bool,
    cooling: bool,
    /// When a slow member last read something.
    slow_read_ns: u64,
    ready: u32,
    ledger: Ledger,
    order: Order,
    /// Corrupt frames of each connection that had any.
    corrupt: HashMap<Slot, u64, foldhash::fast::RandomState>,
    round_trips: RoundTrips,
    tally: Tally,
    /// First deliveries, of the whole run.
    arrived: u64,
    pacing: Pacing,
    frames: BytesMut,
    text: Vec<u8>,
}

struct Publisher {
    slot: Option<Slot>,
    sequence: u32,
    /// What stands before and behind the payload.
    before: Box<str>,
    behind: Box<str>,
}

enum Pacing {
    Closed(Box<ClosedLoop>),
    Open(Pacer),
}

struct ClosedLoop {
    flights: Flights,
    /// By channel.
    credits: Vec<u32>,
    /// The publisher of each channel whose turn it is.
    turn: Vec<u32>,
    /// Channels that have credits.
    waiting: Vec<u32>,
    begun: bool,
    next_expiry_ns: u64,
}

impl Publish {
    pub(crate) fn new(seat: Seat, plan: PublishPlan, run: u32, signal: Option<PeerSignal>) -> Self {
        let total = plan.channels * plan.publishers;
        let layout = Layout::new(&plan, seat.worker, seat.workers);
        let publishers = (0..total).map(|publisher| {
            let channel = seat.channel(publisher / plan.publishers);
            let (before, behind) = match plan.scope {
                Scope::Channel => seat.driver.send_around(&channel, plan.payload),
                Scope::Everyone => seat.driver.broadcast_around(),
            };
            let slot = layout.publishers[publisher as usize];
            Publisher { slot, sequence: 0, before: before.into(), behind: behind.into() }
        });
        let publishers = publishers.collect();
        let pacing = match plan.pace {
            Pace::Closed { window } => Pacing::Closed(Box::new(ClosedLoop {
                flights: Flights::new(window, layout.receivers.clone(), layout.parts.clone()),
                credits: vec![0; plan.channels as usize],
                turn: vec![0; plan.channels as usize],
                waiting: Vec::new(),
                begun: false,
                next_expiry_ns: 0,
            })),
            Pace::Open { rate } => {
                let own = (0..total).filter(|publisher| layout.publishers[*publisher as usize].is_some());
                Pacing::Open(Pacer::new(Schedule::steady(rate), total, own.collect()))
            }
        };
        Self {
            ledger: Ledger::new(layout.members.len() * plan.publishers as usize),
            order: Order::new(
                layout.members.len(),
                if plan.publishers > 1 { plan.channels as usize } else { 0 },
            ),
            corrupt: HashMap::default(),
            round_trips: RoundTrips::default(),
            tally: Tally::new(seat.windows),
            is_echo_off: plan.publishers_join && !plan.echo,
            seat,
            plan,
            run,
            signal,
            layout,
            publishers,
            opened: false,
            paused: false,
            cooling: false,
            slow_read_ns: 0,
            ready: 0,
            arrived: 0,
            pacing,
            frames: BytesMut::new(),
            text: Vec::new(),
        }
    }

    /// A message of ours came in, or what is left of one.
    #[inline]
    fn verify(&mut self, slot: Slot, stamped: &[u8], now: u64) {
        let Ok(stamp) = read_payload(stamped) else { return self.on_corrupt(slot, now) };
        let Stamp { publisher, sequence, .. } = stamp;
        let member = self.layout.members.get(slot as usize);
        let of_channel = |member: &&Member| {
            stamp.run == self.run && publisher.wrapping_sub(member.first_publisher) < self.plan.publishers
        };
        let is_own = |publisher: u32| self.publishers[publisher as usize].slot == Some(slot);
        let Some(member) = member.filter(of_channel).filter(|_| !(self.is_echo_off && is_own(publisher)))
        else {
            self.tally.faults.misdelivered += 1;
            return self.put_fault(FaultKind::Misdelivered, slot, now, (publisher, sequence));
        };
        if member.is_slow {
            self.slow_read_ns = now;
            return;
        }
        let stream = member.first_stream + (publisher - member.first_publisher) as usize;
        let channel = (member.first_publisher / self.plan.publishers) as usize;
        let reordered = self.ledger.faults.reordered;
        if self.ledger.observe(stream, sequence) == Arrival::Again {
            return self.put_fault(FaultKind::Repeated, slot, now, (publisher, sequence));
        }
        let is_late = self.ledger.faults.reordered != reordered;
        let mut is_reordered = is_late;
        if let Some(number) = self.seat.driver.number(&stamped[stamp.length as usize - 1..]) {
            let in_order = self.order.observe(slot as usize, channel, number, (publisher, sequence));
            // What comes late is counted once, also if the ledger sees it as well.
            self.tally.faults.reordered += u64::from(!in_order && !is_late);
            is_reordered |= !in_order;
        }
        if is_reordered {
            self.put_fault(FaultKind::Reordered, slot, now, (publisher, sequence));
        }
        self.arrived += 1;
        if let Some(window) = self.tally.window() {
            window.arrived += 1;
        }
        if let Some(mut at) = self.tally.at(stamp.due_ns) {
            at.window.deliveries += 1;
            at.record(now.saturating_sub(stamp.due_ns));
        }
        if let Pacing::Closed(closed) = &mut self.pacing
            && closed.flights.land((publisher, sequence))
        {
            let home = home_of(publisher / self.plan.publishers, self.seat.workers);
            if home == self.seat.worker {
                closed.complete_part((publisher, sequence), self.plan.publishers);
            } else if let Some(signal) = &mut self.signal {
                signal.put(home, (publisher, sequence));
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
    fn put_fault(&mut self, kind: FaultKind, slot: Slot, at_ns: u64, (publisher, sequence): Message) {
        if !self.tally.fault_log.has_room() {
            return;
        }
        let last = self.layout.members.get(slot as usize).map(|_| self.order.last(slot as usize));
        let fault = self.seat.fault(kind, slot, at_ns).of_message(publisher, sequence);
        let fault = fault.in_channel(self.seat.channel(publisher / self.plan.publishers));
        self.tally.fault_log.put(fault.with_offsets(None, last.filter(|last| *last > 0)));
    }

    /// What a connection is for. Nobody joins to hear what is for everyone; publishers do if nobody else may
    /// publish.
    fn role(&self, slot: Slot) -> Role {
        let is_member = (slot as usize) < self.layout.members.len();
        match self.plan.scope {
            Scope::Everyone => Role::Guest,
            Scope::Channel if is_member || self.seat.driver.lacks(Need::Outsiders) => Role::Member,
            Scope::Channel => Role::Publisher,
        }
    }

    /// The channel a connection belongs to.
    fn channel_of(&self, slot: Slot) -> String {
        let publisher = match self.layout.members.get(slot as usize) {
            Some(member) => Some(member.first_publisher),
            None => self.layout.publishers.iter().position(|entry| *entry == Some(slot)).map(|at| at as u32),
        };
        self.seat.channel(publisher.unwrap_or_default() / self.plan.publishers)
    }

    fn publish(&mut self, net: &mut Net, stage: Stage) -> Wait {
        let nothing = Pacer::new(Schedule::steady(1.0), 0, Vec::new());
        let mut pacing = std::mem::replace(&mut self.pacing, Pacing::Open(nothing));
        let wait = match &mut pacing {
            Pacing::Closed(closed) => self.publish_credits(net, closed, stage),
            Pacing::Open(pacer) => self.publish_due(net, pacer),
        };
        self.pacing = pacing;
        wait
    }

    /// Closed loop: sends as much as there are credits.
    fn publish_credits(&mut self, net: &mut Net, closed: &mut ClosedLoop, stage: Stage) -> Wait {
        let publishers = self.plan.publishers;
        let wait = self.exchange_completions(net, closed);
        if stage == Stage::Cool {
            return wait;
        }
        let now = now_ns();
        if !closed.begun {
            closed.begin(&self.plan, &self.seat, now);
        }
        if now > closed.next_expiry_ns {
            let expiry_ns = seconds(self.plan.expiry_seconds);
            closed.expire(now, expiry_ns, publishers);
        }
        while let Some(channel) = closed.waiting.pop() {
            let credits = std::mem::take(&mut closed.credits[channel as usize]);
            let turn = closed.turn[channel as usize];
            closed.turn[channel as usize] = (turn + credits) % publishers;
            for place in 0..publishers.min(credits) {
                let publisher = channel * publishers + (turn + place) % publishers;
                let count = credits / publishers + u32::from(place < credits % publishers);
                self.send(net, publisher, count, now, |message| {
                    if closed.flights.issue(message, now) {
                        closed.credits[channel as usize] += 1;
                    }
                });
            }
            if closed.credits[channel as usize] > 0 {
                closed.waiting.push(channel);
            }
        }
        wait
    }

    /// Open loop: sends what is due, to the end of the last window.
    fn publish_due(&mut self, net: &mut Net, pacer: &mut Pacer) -> Wait {
        let (start_ns, end_ns) = (self.seat.control.start_ns(), self.seat.control.end_ns());
        let receivers = u64::from(self.plan.receivers());
        let mut now = now_ns();
        while let Some((due_ns, publisher)) = pacer.next(start_ns).filter(|(due_ns, _)| *due_ns < end_ns) {
            if due_ns > now {
                now = now_ns();
                if due_ns > now {
                    return Wait::Until(due_ns);
                }
            }
            if let Some(at) = self.tally.at(due_ns) {
                at.window.due += receivers;
                at.window.scheduled += 1;
                at.window.late += u64::from(now - due_ns > LATE_NS);
            }
            self.send(net, publisher, 1, due_ns, |_| {});
            pacer.advance();
        }
        Wait::Rest
    }

    /// Sends the next `count` messages of a publisher with one write.
    fn send(
        &mut self,
        net: &mut Net,
        publisher: u32,
        count: u32,
        due_ns: u64,
        mut each: impl FnMut(Message),
    ) {
        let entry = &mut self.publishers[publisher as usize];
        let Some(slot) = entry.slot else { return };
        self.frames.clear();
        for _ in 0..count {
            let sequence = entry.sequence;
            entry.sequence += 1;
            self.text.clear();
            self.text.extend_from_slice(entry.before.as_bytes());
            let length = self.plan.payload;
            put_payload(&mut self.text, Stamp { length, run: self.run, publisher, sequence, due_ns });
            self.text.extend_from_slice(entry.behind.as_bytes());
            net.put_message(&mut self.frames, &self.text);
            each((publisher, sequence));
        }
        self.seat.control.report_published(publisher, entry.sequence);
        if let Some(at) = self.tally.at(due_ns) {
            at.window.messages += u64::from(count);
        }
        net.send_frames(slot, &self.frames);
    }

    /// Tells other workers what completed here, and takes what completed there.
    fn exchange_completions(&mut self, net: &mut Net, closed: &mut ClosedLoop) -> Wait {
        let Some(signal) = &mut self.signal else { return Wait::Rest };
        let total = self.publishers.len() as u32;
        let received = if net.take_signal() {
            signal.receive(|message| {
                if message.0 < total {
                    closed.complete_part(message, self.plan.publishers);
                }
            })
        } else {
            Ok(())
        };
        match received.and_then(|()| signal.send()) {
            Ok(true) => Wait::Rest,
            Ok(false) => Wait::Until(now_ns() + RETRY_NS),
            Err(error) => {
                self.seat.control.give_up(format!("Workers cannot speak with each other: {error}."));
                Wait::Rest
            }
        }
    }

    fn is_slow(&self, slot: Slot) -> bool {
        self.layout.members.get(slot as usize).is_some_and(|member| member.is_slow)
    }

    /// Lets the slow members stop reading, or read on.
    fn set_reading(&mut self, net: &mut Net, reads: bool) {
        for (slot, member) in self.layout.members.iter().enumerate() {
            if member.is_slow && reads {
                net.resume(slot as Slot);
            } else if member.is_slow {
                net.pause(slot as Slot);
                self.tally.slow.readers += 1;
            }
        }
    }

    /// Sees whether the server has to hold back what the slow members do not read.
    fn look_for_backlogs(&mut self, net: &Net) {
        let slow = self.layout.members.iter().zip(0..).filter(|(member, _)| member.is_slow);
        let ours: HashSet<SocketAddr> = slow.filter_map(|(_, slot)| net.local_address(slot)).collect();
        if !ours.is_empty() {
            self.tally.slow.backlogged = procfs::backlogged(&ours);
        }
    }

    /// The streams that a member listens to: publisher and stream of each.
    fn streams(&self, slot: Slot) -> impl Iterator<Item = (u32, usize)> + use<'_> {
        let member = &self.layout.members[slot as usize];
        let streams = (member.first_publisher..).zip(member.first_stream..);
        streams.take(self.plan.publishers as usize).filter(move |(publisher, _)| {
            !(self.is_echo_off && self.publishers[*publisher as usize].slot == Some(slot))
        })
    }

    /// Members that read.
    fn readers(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let members = self.layout.members.iter().zip(0..);
        members.filter(|(member, _)| !member.is_slow).map(|(_, slot)| slot)
    }

    fn ask_where_something_is_missing(&mut self, net: &mut Net) {
        let control = &self.seat.control;
        let lacks = |slot: &Slot| {
            let mut tails = self.streams(*slot);
            tails
                .any(|(publisher, stream)| !self.ledger.tail(stream, control.published(publisher)).is_empty())
        };
        let lacking: Vec<Slot> = self.readers().filter(lacks).collect();
        lacking.into_iter().for_each(|slot| self.round_trips.ask(net, slot));
    }

    /// What a member misses in the end.
    fn missing(&self, slot: Slot) -> Missing {
        let control = &self.seat.control;
        let mut missing = Missing {
            corrupt: self.corrupt.get(&slot).copied().unwrap_or_default(),
            holes: if self.has_contiguous_numbers() { self.order.holes(slot as usize) } else { 0 },
            is_answered: self.round_trips.is_answered(slot),
            ..Missing::default()
        };
        for (publisher, stream) in self.streams(slot) {
            missing.gaps += self.ledger.gaps(stream).iter().map(|gap| gap.len() as u64).sum::<u64>();
            // If the run broke off, what was on the way is nobody's loss.
            if control.is_settled() {
                missing.tail += self.ledger.tail(stream, control.published(publisher)).len() as u64;
            }
        }
        missing
    }

    /// Writes down what never came to a member: its time is at least that to the end.
    fn censor(&mut self, slot: Slot, now: u64) {
        let start_ns = self.seat.control.start_ns();
        let proven = self.round_trips.is_answered(slot);
        let streams: Vec<_> = self.streams(slot).collect();
        for (publisher, stream) in streams {
            let published = self.seat.control.published(publisher);
            let tail = self.ledger.tail(stream, published);
            let gaps = self.ledger.gaps(stream).to_vec();
            let tail_kind = if proven { FaultKind::Lost } else { FaultKind::NotArrived };
            let kinds = gaps.iter().map(|_| FaultKind::Lost).chain([tail_kind]);
            for (range, kind) in gaps.iter().cloned().chain([tail]).zip(kinds) {
                for sequence in range {
                    let due_ns = match &self.pacing {
                        Pacing::Open(pacer) => Some(pacer.due_ns(start_ns, publisher, sequence)),
                        Pacing::Closed(_) => None,
                    };
                    self.put_fault(kind, slot, due_ns.unwrap_or(now), (publisher, sequence));
                    if let Some((due_ns, mut at)) = due_ns.and_then(|due| Some((due, self.tally.at(due)?))) {
                        at.censor(now.saturating_sub(due_ns));
                    }
                }
            }
        }
    }

    /// Whether a number that a member does not see is one too many that the server has given.
    fn has_contiguous_numbers(&self) -> bool {
        self.seat.driver.is_contiguous() && self.plan.sees_every_number()
    }

    /// Whether everything that was sent to this worker's members has come.
    fn is_quiet(&self) -> bool {
        let receivers = self.layout.receivers.iter().zip(0..);
        let expected: u64 = receivers
            .map(|(receivers, publisher)| {
                u64::from(*receivers) * u64::from(self.seat.control.published(publisher))
            })
            .sum();
        self.arrived >= expected && self.slow_have_read()
    }

    /// Whether the slow members have read what was waiting for them, as far as one can tell.
    fn slow_have_read(&self) -> bool {
        self.tally.slow.readers == self.tally.slow.disconnected
            || now_ns().saturating_sub(self.slow_read_ns) > SLOW_SILENCE_NS
    }
}

impl ClosedLoop {
    /// Gives each channel of this home its window.
    fn begin(&mut self, plan: &PublishPlan, seat: &Seat, now: u64) {
        let Pace::Closed { window } = plan.pace else { return };
        self.begun = true;
        self.next_expiry_ns = now + EXPIRY_CHECK_NS;
        for channel in seat.own(plan.channels) {
            self.credits[channel as usize] = window;
            self.waiting.push(channel);
        }
    }

    fn complete_part(&mut self, message: Message, publishers: u32) {
        if self.flights.complete_part(message) {
            self.give_credit(message.0 / publishers);
        }
    }

    fn give_credit(&mut self, channel: u32) {
        let credits = &mut self.credits[channel as usize];
        if *credits == 0 {
            self.waiting.push(channel);
        }
        *credits += 1;
    }

    fn expire(&mut self, now: u64, expiry_ns: u64, publishers: u32) {
        self.next_expiry_ns = now + EXPIRY_CHECK_NS;
        let mut lost = Vec::new();
        self.flights.expire(now.saturating_sub(expiry_ns), |publisher| lost.push(publisher / publishers));
        for channel in lost {
            self.give_credit(channel);
        }
    }
}

impl Scenario for Publish {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    #[inline]
    fn on_publication(&mut self, _: &mut Net, slot: Slot, stamped: &[u8], now: u64) {
        self.verify(slot, stamped, now);
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, reply: Reply<'_>, now: u64) {
        match reply {
            Reply::Welcome { session } if self.role(slot) == Role::Member => {
                self.seat.join_first(net, slot, &self.channel_of(slot), session);
            }
            Reply::Welcome { .. } | Reply::Done(_) => self.ready += 1,
            // Nothing was sent yet: a join failed.
            Reply::Failed { code } if !self.paused => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Failed { code } => self.tally.refuse(code),
            Reply::Gap { missed } if self.is_slow(slot) => self.tally.slow.missed += missed,
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Notice { .. } | Reply::Prompt { .. } | Reply::Other => {}
            Reply::Unknown => self.on_corrupt(slot, now),
        }
    }

    fn on_pong(&mut self, slot: Slot) {
        self.round_trips.on_pong(slot);
    }

    fn on_closed(&mut self, _: &mut Net, slot: Slot, closed: Closed) {
        if self.is_slow(slot) && self.paused {
            self.tally.slow.disconnected += 1;
            return;
        }
        self.seat.fail_closed(closed);
    }

    fn on_turn(&mut self, net: &mut Net, stage: Stage) -> Wait {
        self.tally.enter(stage, &self.seat.control);
        match stage {
            Stage::Connect => {
                if !self.opened {
                    self.opened = true;
                    for slot in 0..self.layout.connections {
                        net.open(slot, self.seat.driver.path(&self.channel_of(slot), self.role(slot)));
                    }
                }
                self.seat.report_ready(self.ready, self.ready == self.layout.connections);
                Wait::Rest
            }
            Stage::Warm | Stage::Window(_) => {
                if !self.paused {
                    self.paused = true;
                    self.set_reading(net, false);
                }
                self.publish(net, stage)
            }
            Stage::Cool | Stage::Stop => {
                if !self.cooling {
                    self.cooling = true;
                    self.slow_read_ns = now_ns();
                    self.look_for_backlogs(net);
                    self.set_reading(net, true);
                }
                let wait = self.publish(net, stage);
                let is_settled = self.seat.control.is_settled();
                let is_quiet = is_settled && self.is_quiet();
                if is_settled && !is_quiet && self.round_trips.is_time(self.arrived, now_ns()) {
                    self.ask_where_something_is_missing(net);
                }
                self.seat.control.report_cooling(self.seat.worker, is_quiet);
                wait
            }
        }
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
        let now = now_ns();
        let mut faults = self.faults();
        // Gaps are among what is judged now, but for those that the ledger has no room for.
        let readers: Vec<Slot> = self.readers().collect();
        for slot in readers {
            let missing = self.missing(slot);
            faults.lost = faults.lost.saturating_sub(missing.gaps);
            faults.add(&missing.judge());
            if self.seat.control.is_settled() && missing.gaps + missing.tail > 0 {
                self.censor(slot, now);
            }
        }
        self.tally.faults = faults;
        self.tally
    }
}
