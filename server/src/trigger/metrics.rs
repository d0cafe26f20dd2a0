//! Numbers of a trigger, for the admin plane.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the histogram of times, in microseconds.
pub(crate) const BOUNDS_US: [u64; 10] = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000];

/// What a trigger has done since it was made, over changes of its settings.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) runs: AtomicU64,
    pub(crate) passed: AtomicU64,
    pub(crate) replaced: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// Of the errors: budgets of time, of memory and of output.
    pub(crate) out_of_time: AtomicU64,
    pub(crate) out_of_memory: AtomicU64,
    pub(crate) out_of_output: AtomicU64,
    pub(crate) states_dropped: AtomicU64,
    /// Runs that wait for their turn.
    pub(crate) queued: AtomicU64,
    /// Runs up to each bound, and beyond the last.
    times: [AtomicU64; BOUNDS_US.len() + 1],
    time_us: AtomicU64,
}

/// One more. Relaxed: a count, which orders nothing.
pub(crate) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

impl Numbers {
    /// A run took so long.
    pub(crate) fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        count(&self.runs);
        count(&self.times[at]);
        self.time_us.fetch_add(us, Ordering::Relaxed);
    }

    /// One fewer waits.
    pub(crate) fn dequeued(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
