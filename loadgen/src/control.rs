//! What the coordinator and the workers share: which stage the run is in, and how far each worker is. Where
//! the work is spread over processes, each has a board for its workers, and the coordinator one for the
//! processes: see [`crate::part`].
//!
//! ```text
//!  Connect ──▶ Warm ──▶ Window 0 ──▶ Window 1 ──▶ … ──▶ Cool ──▶ Stop
//!  open up     not counted    ── measured ──       no new work   workers return
//!  to quota                                        until quiet
//! ```
//!
//! When all have seen that nothing new is to begin, the coordinator *settles* the run: what was published is
//! known then. The coordinator alone changes stage and quota; a worker alone changes its own row. A failure
//! may be told by any thread, and the first one stays.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    child::Status,
    histogram::{Latency, add_some},
    ledger::Faults,
    timeline::{Timeline, Timing},
    verdict::{Blame, Reason},
};

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stage {
    Connect,
    Warm,
    /// The window of this number is measured.
    Window(u32),
    Cool,
    Stop,
}

/// The board all threads look at.
#[derive(Debug)]
pub(crate) struct Control {
    stage: AtomicU32,
    /// Connections to have, of all workers together.
    quota: AtomicU32,
    /// When the warm-up began, by [`crate::clock`].
    start_ns: AtomicU64,
    /// Nothing is due from this time on: the end of the last window, unless the run ends early.
    end_ns: AtomicU64,
    timing: Timing,
    /// The number of the first row's worker.
    first: usize,
    rows: Box<[Row]>,
    /// Messages sent so far, by publisher.
    published: Box<[AtomicU32]>,
    is_settled: AtomicBool,
    /// How often the coordinator has asked for a snapshot.
    asked: AtomicU32,
    failure: Mutex<Option<Reason>>,
}

/// One worker's part. Padded: it is written every turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Row {
    /// The quota of which this worker has its share; [`NOT_READY`] if it has not.
    ready: AtomicU32,
    /// The worker has seen [`Stage::Cool`] and begins nothing new.
    stopped: AtomicBool,
    /// Nothing this worker waits for is on the way any more.
    quiet: AtomicBool,
    connected: AtomicU32,
    snapshot: Mutex<Snapshot>,
    /// How many snapshots were asked for when the last one was given.
    shown: AtomicU32,
}

const NOT_READY: u32 = u32::MAX;

/// What a worker has counted so far, for whoever looks on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Deliveries and operations of the window.
    pub(crate) done: u64,
    /// Latencies of the window.
    pub(crate) latency: Option<Latency>,
    /// Deliveries that went wrong in the whole run.
    pub(crate) faults: Faults,
    /// What the server refused, or said that it left out, in the whole run.
    pub(crate) refused: u64,
    /// Cycles that failed in the whole run.
    pub(crate) failed: u64,
}

impl Control {
    /// A board for these workers, and so many publishers in all.
    pub(crate) fn new(workers: Range<usize>, publishers: usize, quota: u32, timing: Timing) -> Self {
        let row = |_| Row { ready: AtomicU32::new(NOT_READY), ..Row::default() };
        Self {
            stage: AtomicU32::new(encode(Stage::Connect)),
            quota: AtomicU32::new(quota),
            start_ns: AtomicU64::new(0),
            end_ns: AtomicU64::new(u64::MAX),
            timing,
            first: workers.start,
            rows: workers.map(row).collect(),
            published: (0..publishers).map(|_| AtomicU32::new(0)).collect(),
            is_settled: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            failure: Mutex::new(None),
        }
    }

    // The stage is stored with Release after what belongs to it (start time, quota), and loaded with Acquire.

    pub(crate) fn stage(&self) -> Stage {
        decode(self.stage.load(Ordering::Acquire))
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(encode(stage), Ordering::Release);
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Relaxed)
    }

    /// Sets the start, and with it every other line of the run.
    pub(crate) fn set_start_ns(&self, start_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.end_ns.fetch_min(self.timeline().end_ns(), Ordering::Relaxed);
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.end_ns.load(Ordering::Relaxed)
    }

    /// The run ends at this time, if it would not end before.
    pub(crate) fn end_at(&self, end_ns: u64) {
        self.end_ns.fetch_min(end_ns, Ordering::Relaxed);
    }

    /// The windows; meaningful once there is a start.
    pub(crate) fn timeline(&self) -> Timeline {
        Timeline::new(self.timing, self.start_ns())
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    pub(crate) fn quota(&self) -> u32 {
        self.quota.load(Ordering::Relaxed)
    }

    /// Raises the quota. A worker is ready again only when it has its share of the new one.
    pub(crate) fn set_quota(&self, quota: u32) {
        self.quota.store(quota, Ordering::Relaxed);
    }

    /// A worker has so many connections, and its share of this quota if there is one.
    pub(crate) fn report(&self, worker: usize, connected: u32, ready: Option<u32>) {
        let row = self.row(worker);
        row.connected.store(connected, Ordering::Relaxed);
        row.ready.store(ready.unwrap_or(NOT_READY), Ordering::Relaxed);
    }

    // A worker marks itself stopped (Release) after its last message is counted; whoever sees all of them
    // stopped (Acquire) sees all the counts.

    pub(crate) fn report_cooling(&self, worker: usize, quiet: bool) {
        self.row(worker).stopped.store(true, Ordering::Release);
        self.row(worker).quiet.store(quiet, Ordering::Relaxed);
    }

    pub(crate) fn all_stopped(&self) -> bool {
        self.rows.iter().all(|row| row.stopped.load(Ordering::Acquire))
    }

    pub(crate) fn all_quiet(&self) -> bool {
        self.rows.iter().all(|row| row.quiet.load(Ordering::Relaxed))
    }

    pub(crate) fn all_ready(&self) -> bool {
        self.status().ready.is_some()
    }

    /// So many messages of this publisher are sent.
    pub(crate) fn report_published(&self, publisher: u32, count: u32) {
        self.published[publisher as usize].store(count, Ordering::Relaxed);
    }

    /// Messages sent by this publisher.
    pub(crate) fn published(&self, publisher: u32) -> u32 {
        self.published[publisher as usize].load(Ordering::Relaxed)
    }

    /// Messages sent by each publisher.
    pub(crate) fn all_published(&self) -> Vec<u32> {
        self.published.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Takes what another board counts of its own publishers.
    pub(crate) fn add_published(&self, counts: &[u32]) {
        for (ours, theirs) in self.published.iter().zip(counts) {
            ours.fetch_max(*theirs, Ordering::Relaxed);
        }
    }

    // Release after the last count of what was published; Acquire before any of them is used.

    /// From now on the counts of what was published are final.
    pub(crate) fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// Asks every worker for a snapshot.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was done.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether all have answered the question of this number.
    pub(crate) fn is_shown(&self, asked: u32) -> bool {
        self.rows.iter().all(|row| row.shown.load(Ordering::Relaxed) == asked)
    }

    /// Answers the question of this number.
    pub(crate) fn show(&self, worker: usize, asked: u32, snapshot: Snapshot) {
        *self.row(worker).snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.row(worker).shown.store(asked, Ordering::Relaxed);
    }

    /// The last snapshots of all workers together.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for row in &self.rows {
            sum.add(&row.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    /// All rows in one.
    pub(crate) fn status(&self) -> Status {
        let quota = self.quota();
        Status {
            connected: self.connected(),
            ready: self.rows.iter().all(|row| row.ready.load(Ordering::Relaxed) == quota).then_some(quota),
            stopped: self.all_stopped(),
            quiet: self.all_quiet(),
        }
    }

    /// Takes another board's rows as one of this.
    pub(crate) fn report_status(&self, worker: usize, status: Status) {
        self.report(worker, status.connected, status.ready);
        let row = self.row(worker);
        row.quiet.store(status.quiet, Ordering::Relaxed);
        row.stopped.store(status.stopped, Ordering::Release);
    }

    fn row(&self, worker: usize) -> &Row {
        &self.rows[worker - self.first]
    }

    pub(crate) fn connected(&self) -> u32 {
        self.rows.iter().map(|row| row.connected.load(Ordering::Relaxed)).sum()
    }

    /// Ends the run because of the server, unless it has ended already.
    pub(crate) fn fail(&self, sentence: String) {
        self.fail_as(Reason { blame: Blame::Server, sentence });
    }

    /// Ends the run because the generator cannot go on, unless it has ended already.
    pub(crate) fn give_up(&self, sentence: String) {
        self.fail_as(Reason { blame: Blame::Generator, sentence });
    }

    /// Ends the run for this reason, unless there is one already.
    pub(crate) fn fail_as(&self, reason: Reason) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    pub(crate) fn failure(&self) -> Option<Reason> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Snapshot {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.faults.add(&other.faults);
        self.refused += other.refused;
        self.failed += other.failed;
        add_some(&mut self.latency, other.latency.as_ref());
    }
}

const FIRST_WINDOW: u32 = 4;

const fn encode(stage: Stage) -> u32 {
    match stage {
        Stage::Connect => 0,
        Stage::Warm => 1,
        Stage::Cool => 2,
        Stage::Stop => 3,
        Stage::Window(number) => FIRST_WINDOW + number,
    }
}

const fn decode(code: u32) -> Stage {
    match code {
        0 => Stage::Connect,
        1 => Stage::Warm,
        2 => Stage::Cool,
        3 => Stage::Stop,
        window => Stage::Window(window - FIRST_WINDOW),
    }
}
