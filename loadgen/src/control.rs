//! What the coordinator and the workers share: which stage the run is in, and how far each worker is.
//!
//! ```text
//!  Connect ──▶ Warm ──▶ Window 0 ──▶ Window 1 ──▶ … ──▶ Cool ──▶ Stop
//!  open up     not counted    ── measured ──       no new work   workers return
//!  to quota                                        until quiet
//! ```
//!
//! The coordinator alone changes stage and quota; a worker alone changes its own row. A failure may be told by any
//! thread, and the first one stays.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    rows: Box<[Row]>,
    failure: Mutex<Option<Failure>>,
}

/// One worker's part. Padded: it is written every turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Row {
    /// As many connections as the quota gives this worker are ready.
    ready: AtomicBool,
    /// The worker has seen [`Stage::Cool`] and begins nothing new.
    stopped: AtomicBool,
    /// Nothing this worker waits for is on the way any more.
    quiet: AtomicBool,
    connected: AtomicU32,
    /// Deliveries and operations of the window so far.
    done: AtomicU64,
}

/// Why a run ended early: one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl Control {
    pub(crate) fn new(workers: usize, quota: u32) -> Self {
        Self {
            stage: AtomicU32::new(encode(Stage::Connect)),
            quota: AtomicU32::new(quota),
            start_ns: AtomicU64::new(0),
            rows: (0..workers).map(|_| Row::default()).collect(),
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

    pub(crate) fn set_start_ns(&self, start_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
    }

    pub(crate) fn quota(&self) -> u32 {
        self.quota.load(Ordering::Relaxed)
    }

    /// Raises the quota. A worker is ready again only when it has its share of the new one.
    pub(crate) fn set_quota(&self, quota: u32) {
        self.quota.store(quota, Ordering::Relaxed);
    }

    pub(crate) fn report(&self, worker: usize, connected: u32, ready: bool) {
        self.rows[worker].connected.store(connected, Ordering::Relaxed);
        self.rows[worker].ready.store(ready, Ordering::Relaxed);
    }

    // A worker marks itself stopped (Release) after its last message is counted; whoever sees all of them stopped
    // (Acquire) sees all the counts.

    pub(crate) fn report_cooling(&self, worker: usize, quiet: bool) {
        self.rows[worker].stopped.store(true, Ordering::Release);
        self.rows[worker].quiet.store(quiet, Ordering::Relaxed);
    }

    pub(crate) fn all_stopped(&self) -> bool {
        self.rows.iter().all(|row| row.stopped.load(Ordering::Acquire))
    }

    pub(crate) fn all_quiet(&self) -> bool {
        self.rows.iter().all(|row| row.quiet.load(Ordering::Relaxed))
    }

    pub(crate) fn all_ready(&self) -> bool {
        self.rows.iter().all(|row| row.ready.load(Ordering::Relaxed))
    }

    /// How much the worker has done in this window.
    pub(crate) fn report_done(&self, worker: usize, done: u64) {
        self.rows[worker].done.store(done, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.rows.iter().map(|row| row.done.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn connected(&self) -> u32 {
        self.rows.iter().map(|row| row.connected.load(Ordering::Relaxed)).sum()
    }

    /// Ends the run for this reason, unless there is one already.
    pub(crate) fn fail(&self, sentence: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(Failure(sentence));
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
