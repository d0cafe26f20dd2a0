//! What one worker counted: its windows, and what went wrong in the whole run. Merged by the coordinator at the end.

use serde::{Deserialize, Serialize};

use crate::{
    control::{Snapshot, Stage},
    histogram::{Latency, add_some},
    ledger::Faults,
};

/// One worker's counts of one window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WindowTally {
    /// Messages or notices that reached someone for the first time.
    pub(crate) deliveries: u64,
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
    /// Time in turns in which something came in, of a worker that spins, or CPU time, of one that sleeps; of several
    /// workers, of the one that had most.
    pub(crate) busy_ns: u64,
    /// From due to delivered, or of an operation.
    pub(crate) latency: Latency,
    /// Of deliveries to those who have no part in a storm, if there are any.
    pub(crate) bystanders: Option<Latency>,
}

/// A message sent, or a cycle begun, this long after it was due is late.
pub(crate) const LATE_NS: u64 = 1_000_000;

/// What became of the subscribers that stopped reading.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Slow {
    /// How many did.
    pub readers: u64,
    /// How many of them the server disconnected.
    pub disconnected: u64,
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
}

/// One worker's counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) windows: Vec<WindowTally>,
    /// Of the whole run, warm-up and cool-down included.
    pub(crate) faults: Faults,
    /// Messages the server refused, and the first reason.
    pub(crate) refused: u64,
    pub(crate) refusal: Option<String>,
    /// Deliveries the server said it left out.
    pub(crate) gaps: u64,
    /// What became of those that stopped reading.
    pub(crate) slow: Slow,
    /// How connections came back.
    pub(crate) returns: Returns,
    /// Connections that were not back when the next storm broke.
    pub(crate) stragglers: u64,
    /// Cycles that failed, and why the first one did.
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    /// Cycles that were due while as many as may be were under way.
    pub(crate) held_up: u64,
    /// Cycles that never came to an end.
    pub(crate) unfinished: u64,
    #[serde(skip)]
    current: Option<usize>,
}

impl Tally {
    pub(crate) fn new(windows: usize) -> Self {
        let window = WindowTally {
            deliveries: 0,
            messages: 0,
            operations: 0,
            scheduled: 0,
            late: 0,
            errors: 0,
            busy_ns: 0,
            latency: Latency::new(),
            bystanders: None,
        };
        Self {
            windows: vec![window; windows],
            faults: Faults::default(),
            refused: 0,
            refusal: None,
            gaps: 0,
            slow: Slow::default(),
            returns: Returns::default(),
            stragglers: 0,
            failed: 0,
            failure: None,
            held_up: 0,
            unfinished: 0,
            current: None,
        }
    }

    /// What is counted from now on belongs to this stage.
    pub(crate) fn enter(&mut self, stage: Stage) {
        self.current = match stage {
            Stage::Window(number) => Some(number as usize),
            _ => None,
        };
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
            done: window.map_or(0, |window| window.deliveries + window.operations),
            latency: window.map(|window| window.latency.clone()),
            errors: faults.sum() + self.refused + self.gaps + self.failed,
        }
    }

    /// Counts a refused message.
    pub(crate) fn refuse(&mut self, code: &str) {
        self.refused += 1;
        self.refusal.get_or_insert_with(|| code.to_owned());
    }

    /// Counts a cycle that failed.
    pub(crate) fn fail(&mut self, sentence: String) {
        self.failed += 1;
        self.failure.get_or_insert(sentence);
        if let Some(window) = self.window() {
            window.errors += 1;
        }
    }

    /// Adds another worker's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.windows.iter_mut().zip(&other.windows) {
            ours.deliveries += theirs.deliveries;
            ours.messages += theirs.messages;
            ours.operations += theirs.operations;
            ours.scheduled += theirs.scheduled;
            ours.late += theirs.late;
            ours.errors += theirs.errors;
            ours.busy_ns = ours.busy_ns.max(theirs.busy_ns);
            ours.latency.add(&theirs.latency);
            add_some(&mut ours.bystanders, theirs.bystanders.as_ref());
        }
        self.faults.add(&other.faults);
        self.refused += other.refused;
        self.gaps += other.gaps;
        self.slow.readers += other.slow.readers;
        self.slow.disconnected += other.slow.disconnected;
        self.slow.missed += other.slow.missed;
        self.returns.recovered += other.returns.recovered;
        self.returns.unrecovered += other.returns.unrecovered;
        self.returns.adrift += other.returns.adrift;
        self.stragglers += other.stragglers;
        self.failed += other.failed;
        self.held_up += other.held_up;
        self.unfinished += other.unfinished;
        if self.refusal.is_none() {
            self.refusal.clone_from(&other.refusal);
        }
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
    }
}
