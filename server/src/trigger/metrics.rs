//! The metrics of a trigger, for the admin listener.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the histogram of run times, in microseconds.
pub(crate) const BOUNDS_US: [u64; 10] = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000];

/// The counts of a trigger since it was made. A change of the trigger's settings keeps the counts.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) runs: AtomicU64,
    pub(crate) passed: AtomicU64,
    pub(crate) replaced: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// The errors by exceeded budget: time, memory and output.
    pub(crate) out_of_time: AtomicU64,
    pub(crate) out_of_memory: AtomicU64,
    pub(crate) out_of_output: AtomicU64,
    pub(crate) states_dropped: AtomicU64,
    /// Runs that wait for their turn.
    pub(crate) queued: AtomicU64,
    /// The number of runs up to each bound, and beyond the last bound.
    times: [AtomicU64; BOUNDS_US.len() + 1],
    time_us: AtomicU64,
    pub(crate) http: HttpNumbers,
}

/// The further counts of an http trigger.
#[derive(Default)]
pub(crate) struct HttpNumbers {
    pub(crate) requests: AtomicU64,
    /// The requests that brought no verdict at all.
    pub(crate) failed: AtomicU64,
    /// The connections that were opened, or could not be opened.
    pub(crate) connects: AtomicU64,
    /// How often the breaker opened.
    pub(crate) opened: AtomicU64,
    /// 1 while the breaker is open, and 0 while it is closed.
    pub(crate) is_open: AtomicU64,
    /// The events that failed because the breaker was open.
    pub(crate) shed: AtomicU64,
}

/// Adds one to a count. Relaxed: the count orders no other memory access.
pub(crate) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

impl Numbers {
    /// Counts a run of this time.
    pub(crate) fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        count(&self.runs);
        count(&self.times[at]);
        self.time_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Counts one waiting run less.
    pub(crate) fn dequeued(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
