//! The one clock: nanoseconds of `CLOCK_MONOTONIC`, which every process of a machine shares, so a due time
//! stamped by one process can be compared by another.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started.
#[inline]
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock is never negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Seconds as nanoseconds.
pub(crate) fn seconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Nanoseconds since 1970, for logs.
pub(crate) fn unix_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.max(0) as u64 * 1_000_000_000 + now.tv_nsec as u64
}
