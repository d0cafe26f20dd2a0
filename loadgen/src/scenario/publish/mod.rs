//! `fanout`, `send`, `broadcast` and `slow`: publishers, channels, members; every delivery verified.
//!
//! Publisher `g` of all sends to channel `g / publishers`. In `fanout` publishers only send; in `send` a
//! channel's publishers are its first members. In `broadcast` there is one channel, and it is everyone. In
//! `slow` the last members stop reading when the warm-up begins, and read on when the run cools down, to see
//! what became of them.

mod closed_loop;
mod missing;
mod sending;
mod slow;
mod verdicts;
mod verifying;

use std::collections::HashMap;

use bytes::BytesMut;

use super::{
    Scenario, Seat,
    audit::{Audited, RoundTrips},
    flights::Flights,
    layout::Layout,
};
use crate::{
    clock::now_ns,
    control::Stage,
    drivers::{Need, Reply, Role},
    ledger::Ledger,
    net::{Closed, Net, Slot, Wait},
    order::Order,
    pacer::{Pacer, Schedule},
    peer_signal::PeerSignal,
    plan::{Pace, PublishPlan, Scope},
    tally::{Tally, Verdicts},
};
use closed_loop::ClosedLoop;
use verdicts::Refusals;

/// The part of the scenario on one worker.
pub(crate) struct Publish {
    seat: Seat,
    plan: PublishPlan,
    run: u32,
    /// The signal by which workers tell each other of completed messages; `None` if every worker has whole
    /// channels.
    signal: Option<PeerSignal>,
    layout: Layout,
    /// The publishers by number. A publisher of another worker has no slot.
    publishers: Vec<Publisher>,
    /// Whether no publisher may hear itself.
    is_echo_off: bool,
    opened: bool,
    paused: bool,
    cooling: bool,
    /// The time at which a slow member last read something.
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
    /// What was refused, if triggers decide.
    refusals: Option<Box<Refusals>>,
    pacing: Pacing,
    frames: BytesMut,
    text: Vec<u8>,
}

struct Publisher {
    slot: Option<Slot>,
    sequence: u32,
    /// The text before the payload.
    before: Box<str>,
    behind: Box<str>,
}

enum Pacing {
    Closed(Box<ClosedLoop>),
    Open(Pacer),
}

impl Publish {
    pub(crate) fn new(seat: Seat, plan: PublishPlan, run: u32, signal: Option<PeerSignal>) -> Self {
        let total = plan.channels * plan.publishers;
        let layout = Layout::new(&plan, seat.worker, seat.workers);
        let numbered = seat.driver.numbered();
        let publishers = (0..total).map(|publisher| {
            let channel = seat.channel(publisher / plan.publishers);
            let (before, behind) = match plan.scope {
                Scope::Channel => seat.driver.send_around(&channel, plan.payload),
                Scope::Everyone => seat.driver.broadcast_around(),
            };
            let slot = layout.publishers[publisher as usize];
            let behind = numbered.map_or(behind, |(before_number, _)| before_number.into());
            Publisher { slot, sequence: 0, before: before.into(), behind: behind.into() }
        });
        let publishers = publishers.collect();
        let mut tally = Tally::new(seat.windows);
        tally.verdicts = numbered.map(|_| Verdicts::default());
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
            tally,
            refusals: numbered.map(|_| Box::new(Refusals::new(&layout))),
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

    /// The role of a connection. In `broadcast` no connection joins a channel. A publisher joins its channel
    /// only if the protocol lets members alone publish.
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

    /// Whether everything that was sent to this worker's members has come.
    fn is_quiet(&self) -> bool {
        let receivers = self.layout.receivers.iter().zip(0..);
        let expected: u64 = receivers
            .map(|(receivers, publisher)| {
                u64::from(*receivers) * u64::from(self.seat.control.published(publisher))
            })
            .sum();
        let excused = self.refusals.as_ref().map_or(0, |refusals| refusals.excused);
        self.arrived + excused >= expected && self.slow_have_read()
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
            Reply::Welcome { session, .. } if self.role(slot) == Role::Member => {
                self.seat.join_first(net, slot, &self.channel_of(slot), session);
            }
            Reply::Welcome { .. } | Reply::Done(_) => self.ready += 1,
            // Nothing was sent yet: a join failed.
            Reply::Failed { code } if !self.paused => {
                self.seat.control.fail(format!("The server refused a join: {code}."));
            }
            Reply::Failed { code } => self.tally.refuse(code),
            Reply::Verdict { number, refusal } => self.on_verdict(slot, number, refusal),
            Reply::Answer if self.is_publisher(slot) => self.count_answer(),
            Reply::Gap { missed } if self.is_slow(slot) => self.tally.slow.missed += missed,
            Reply::Gap { missed } => self.tally.gaps += missed,
            Reply::Notice { .. } | Reply::Roster { .. } | Reply::Prompt { .. } | Reply::Other => {}
            Reply::Unknown | Reply::Answer => self.on_corrupt(slot, now),
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
                        net.open(slot, self.seat.driver.access(&self.channel_of(slot), self.role(slot)));
                    }
                }
                self.seat.report_ready(self.ready, self.layout.connections);
                Wait::Rest
            }
            Stage::Warm | Stage::Window(_) => {
                if !self.paused {
                    self.paused = true;
                    self.pause_slow(net);
                }
                self.publish(net, stage)
            }
            Stage::Cool | Stage::Stop => {
                if !self.cooling {
                    self.cooling = true;
                    self.slow_read_ns = now_ns();
                    self.look_for_backlogs(net);
                    self.resume_slow(net);
                }
                let wait = self.publish(net, stage);
                let is_settled = self.seat.control.is_settled();
                let is_quiet = is_settled && self.is_quiet();
                if is_settled && !is_quiet {
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
        self.tally.faults = self.audit();
        self.tally
    }
}
