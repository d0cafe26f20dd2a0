//! What one worker counted: its windows, and what went wrong in the whole run. Merged by the coordinator at
//! the end.
//!
//! A delivery, an operation and its latency belong to the window in which they were *due*, also if they come
//! in a later window or in the drain. What the server does meanwhile ([`WindowTally::arrived`]) belongs to
//! the time in which it is done, as CPU time does.

use serde::{Deserialize, Serialize};

use crate::{
    control::{Control, Snapshot, Stage},
    faults::FaultLog,
    histogram::{Latency, add_some},
    ledger::Faults,
    net::Handshakes,
    timeline::{Piece, Timeline},
};

/// One worker's counts of one window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct WindowTally {
    /// Messages or notices due in the window that reached someone for the first time.
    pub(crate) deliveries: u64,
    /// Messages or notices that reached someone during the window, whenever they were due; of cycles, those
    /// that joined.
    pub(crate) arrived: u64,
    /// Deliveries that the schedule has in the window; 0 in a closed loop.
    pub(crate) due: u64,
    /// Messages sent.
    pub(crate) messages: u64,
    /// Cycles, joins, leaves: what the scenario counts.
    pub(crate) operations: u64,
    /// Messages sent and cycles begun by a schedule that latencies count from.
    pub(crate) scheduled: u64,
    /// Those of them that were later than [`LATE_NS`] after they were due.
    pub(crate) late: u64,
    /// Cycles that failed.
    pub(crate) errors: u64,
    /// What was due and never came. Its latency is at least the time to the end of the drain, and recorded as
    /// that.
    pub(crate) censored: u64,
    /// Time in turns in which something came in, of a worker that spins, or CPU time, of one that sleeps; of
    /// several workers, of the one that had most.
    pub(crate) busy_ns: u64,
    /// From due to delivered, or of an operation.
    pub(crate) latency: Latency,
    /// Of deliveries to those who have no part in a storm, if there are any.
    pub(crate) bystanders: Option<Latency>,
}

/// One worker's counts of one tick of the clock, of what was due in it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Tick {
    /// Latencies recorded.
    pub(crate) count: u64,
    pub(crate) max_ns: u64,
}

/// Where something that was due at some time is counted.
pub(crate) struct Moment<'a> {
    pub(crate) window: &'a mut WindowTally,
    tick: &'a mut Tick,
}

impl Moment<'_> {
    /// Takes note of a latency.
    #[inline]
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.window.latency.record(latency_ns);
        self.tick.count += 1;
        self.tick.max_ns = self.tick.max_ns.max(latency_ns);
    }

    /// Takes note of what never came, and had so long to come.
    pub(crate) fn censor(&mut self, waited_ns: u64) {
        self.window.censored += 1;
        self.window.latency.record(waited_ns);
        self.tick.max_ns = self.tick.max_ns.max(waited_ns);
    }
}

/// A message sent, or a cycle begun, this long after it was due is late.
pub(crate) const LATE_NS: u64 = 1_000_000;

/// So few cycles that no queue can grow before them, and enough for a median.
const FIRST_CYCLES: u64 = 8;

/// What became of the subscribers that stopped reading.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Slow {
    /// How many did.
    pub readers: u64,
    /// How many of them the server disconnected.
    pub disconnected: u64,
    /// For how many of them the server's side of the socket held something back; unknown if it is another
    /// machine.
    pub backlogged: Option<u64>,
    /// Deliveries the server told the others they had missed.
    pub missed: u64,
}

/// How those came back whom a storm dropped while messages went on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Returns {
    /// The server sent what they had missed.
    pub recovered: u64,
    /// The server said that it could not.
    pub unrecovered: u64,
    /// The server has no recovery.
    pub adrift: u64,
    /// Their sessions went on.
    pub resumed: u64,
    /// Their tickets were good no more: the server had ended their sessions.
    pub lapsed: u64,
    /// Publications that they had missed, and that followed.
    pub missed: u64,
}

impl Returns {
    fn add(&mut self, other: &Self) {
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        self.adrift += other.adrift;
        self.resumed += other.resumed;
        self.lapsed += other.lapsed;
        self.missed += other.missed;
    }
}

/// What triggers made of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Messages that were published.
    pub passed: u64,
    /// Messages that a trigger refused.
    pub refused: u64,
    /// Messages that were refused because a trigger failed.
    pub failed: u64,
    /// Deliveries in which the payload is a part of what a trigger made of it.
    pub replaced: u64,
    /// Messages to senders alone.
    pub answered: u64,
}

impl Verdicts {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.refused += other.refused;
        self.failed += other.failed;
        self.replaced += other.replaced;
        self.answered += other.answered;
    }
}

/// How far connections were after a storm had dropped them: times from the drop.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StormStages {
    /// Until the server welcomed them again.
    pub(crate) welcomed: Latency,
    /// Until their joins were answered.
    pub(crate) joined: Latency,
}

/// One worker's counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) windows: Vec<WindowTally>,
    /// From the beginning of the first window.
    pub(crate) ticks: Vec<Tick>,
    /// Of the whole run, warm-up and cool-down included.
    pub(crate) faults: Faults,
    /// The first of them, one by one.
    pub(crate) fault_log: FaultLog,
    /// Messages the server refused, and the first reason.
    pub(crate) refused: u64,
    pub(crate) refusal: Option<String>,
    /// Deliveries the server said it left out.
    pub(crate) gaps: u64,
    /// What became of those that stopped reading.
    pub(crate) slow: Slow,
    /// How connections came back.
    pub(crate) returns: Returns,
    /// What triggers made of messages, if there are any.
    pub(crate) verdicts: Option<Verdicts>,
    /// How far they were, and when; of storms.
    pub(crate) stages: Option<StormStages>,
    /// Connections that were not back when the next storm broke.
    pub(crate) stragglers: u64,
    /// Cycles that failed, and why the first one did.
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    /// Cycles that were due while as many as may be were under way.
    pub(crate) held_up: u64,
    /// Latencies of the run's first cycles, the warm-up's included.
    pub(crate) first: Latency,
    /// Pairs of notices that cancelled each other out.
    pub(crate) merged: u64,
    /// What handshakes came to.
    pub(crate) handshakes: Handshakes,
    /// Cycles that never came to an end.
    pub(crate) unfinished: u64,
    /// Cycles that were due and never began, since all that may be were under way to the end.
    pub(crate) never_begun: u64,
    #[serde(skip)]
    current: Option<usize>,
    #[serde(skip)]
    timeline: Option<Timeline>,
    /// Where the last one that was due was counted: most are counted where the last one was.
    #[serde(skip)]
    piece: Piece,
}

impl Tally {
    pub(crate) fn new(windows: usize) -> Self {
        Self {
            windows: vec![WindowTally::default(); windows],
            ticks: Vec::new(),
            faults: Faults::default(),
            fault_log: FaultLog::default(),
            refused: 0,
            refusal: None,
            gaps: 0,
            slow: Slow::default(),
            returns: Returns::default(),
            verdicts: None,
            stages: None,
            stragglers: 0,
            failed: 0,
            failure: None,
            held_up: 0,
            first: Latency::default(),
            merged: 0,
            handshakes: Handshakes::default(),
            unfinished: 0,
            never_begun: 0,
            current: None,
            timeline: None,
            piece: Piece::default(),
        }
    }

    /// What is counted from now on belongs to this stage.
    pub(crate) fn enter(&mut self, stage: Stage, control: &Control) {
        self.current = match stage {
            Stage::Window(number) => Some(number as usize),
            _ => None,
        };
        if self.timeline.is_none() && stage != Stage::Connect {
            self.timeline = Some(control.timeline());
            self.ticks = vec![Tick::default(); control.timing().ticks()];
        }
    }

    /// Where what was due at this time is counted; nothing outside of windows is.
    #[inline]
    pub(crate) fn at(&mut self, due_ns: u64) -> Option<Moment<'_>> {
        if !self.piece.time_ns.contains(&due_ns) {
            self.piece = self.timeline?.piece(due_ns)?;
        }
        let window = self.windows.get_mut(self.piece.window)?;
        Some(Moment { window, tick: self.ticks.get_mut(self.piece.tick)? })
    }

    /// The window that is measured now; nothing outside of windows is.
    #[inline]
    pub(crate) fn window(&mut self) -> Option<&mut WindowTally> {
        self.windows.get_mut(self.current?)
    }

    /// What there is to see of it now, these faults included.
    pub(crate) fn snapshot(&self, faults: Faults) -> Snapshot {
        let window = self.current.and_then(|number| self.windows.get(number));
        Snapshot {
            done: window.map_or(0, |window| window.arrived + window.operations),
            latency: window.map(|window| window.latency.clone()),
            faults,
            refused: self.refused + self.gaps,
            failed: self.failed,
        }
    }

    /// Takes note of the latency of a cycle, if it is one of this worker's first.
    pub(crate) fn record_first(&mut self, latency_ns: u64) {
        if self.first.count() < FIRST_CYCLES {
            self.first.record(latency_ns);
        }
    }

    /// Counts a refused message.
    pub(crate) fn refuse(&mut self, code: &str) {
        self.refused += 1;
        self.refusal.get_or_insert_with(|| code.to_owned());
    }

    /// Counts a cycle that failed, and was due at this time.
    pub(crate) fn fail(&mut self, due_ns: u64, sentence: String) {
        self.failed += 1;
        self.failure.get_or_insert(sentence);
        if let Some(at) = self.at(due_ns) {
            at.window.errors += 1;
        }
    }

    /// Adds another worker's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.windows.iter_mut().zip(&other.windows) {
            ours.deliveries += theirs.deliveries;
            ours.arrived += theirs.arrived;
            ours.due += theirs.due;
            ours.censored += theirs.censored;
            ours.messages += theirs.messages;
            ours.operations += theirs.operations;
            ours.scheduled += theirs.scheduled;
            ours.late += theirs.late;
            ours.errors += theirs.errors;
            ours.busy_ns = ours.busy_ns.max(theirs.busy_ns);
            ours.latency.add(&theirs.latency);
            add_some(&mut ours.bystanders, theirs.bystanders.as_ref());
        }
        if self.ticks.len() < other.ticks.len() {
            self.ticks.resize_with(other.ticks.len(), Tick::default);
        }
        for (ours, theirs) in self.ticks.iter_mut().zip(&other.ticks) {
            ours.count += theirs.count;
            ours.max_ns = ours.max_ns.max(theirs.max_ns);
        }
        self.faults.add(&other.faults);
        self.fault_log.add(&other.fault_log);
        self.refused += other.refused;
        self.gaps += other.gaps;
        self.slow.readers += other.slow.readers;
        self.slow.disconnected += other.slow.disconnected;
        self.slow.missed += other.slow.missed;
        if let Some(theirs) = other.slow.backlogged {
            *self.slow.backlogged.get_or_insert_default() += theirs;
        }
        self.returns.add(&other.returns);
        if let Some(theirs) = &other.verdicts {
            self.verdicts.get_or_insert_default().add(theirs);
        }
        if let Some(theirs) = &other.stages {
            let ours = self.stages.get_or_insert_default();
            ours.welcomed.add(&theirs.welcomed);
            ours.joined.add(&theirs.joined);
        }
        self.stragglers += other.stragglers;
        self.failed += other.failed;
        self.held_up += other.held_up;
        self.first.add(&other.first);
        self.merged += other.merged;
        self.handshakes.add(&other.handshakes);
        self.unfinished += other.unfinished;
        self.never_begun += other.never_begun;
        if self.refusal.is_none() {
            self.refusal.clone_from(&other.refusal);
        }
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
    }
}
