//! Histograms of times, with the same buckets for all.
//!
//! One thread observes, and others read. An observation is a search in a table of constants and two counts.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the buckets in nanoseconds: 1 µs to 1 s.
pub(crate) const BOUNDS_NS: [u64; 18] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
];

/// The number of buckets. The last one has no bound.
pub(crate) const BUCKETS: usize = BOUNDS_NS.len() + 1;

/// A histogram that one thread writes. Relaxed throughout: a count orders no other memory access, and a
/// reader may see the bucket of an observation before its time.
#[derive(Default, Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// The contents of one histogram, or of several together.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Observations {
    /// The number of observations in each bucket, not cumulative.
    pub(crate) counts: [u64; BUCKETS],
    pub(crate) sum_ns: u64,
}

impl Histogram {
    /// Counts a time. Only one thread may.
    pub(crate) fn observe(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        add(&self.counts[BOUNDS_NS.partition_point(|bound| *bound < ns)], 1);
        add(&self.sum_ns, ns);
    }

    /// Adds the observations to `all`.
    pub(crate) fn add_to(&self, all: &mut Observations) {
        for (sum, count) in all.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        all.sum_ns = all.sum_ns.saturating_add(self.sum_ns.load(Ordering::Relaxed));
    }

    /// The observations of several histograms.
    pub(crate) fn sum<'a>(histograms: impl IntoIterator<Item = &'a Self>) -> Observations {
        let mut all = Observations::default();
        histograms.into_iter().for_each(|histogram| histogram.add_to(&mut all));
        all
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let histograms = [Histogram::default(), Histogram::default()];
        histograms[0].observe(Duration::ZERO);
        histograms[0].observe(Duration::from_nanos(1_000));
        histograms[0].observe(Duration::from_nanos(1_001));
        histograms[1].observe(Duration::from_secs(1));
        histograms[1].observe(Duration::from_secs(2));
        let all = Histogram::sum(&histograms);
        assert_eq!((all.counts[0], all.counts[1]), (2, 1));
        assert_eq!((all.counts[BUCKETS - 2], all.counts[BUCKETS - 1]), (1, 1));
        assert_eq!(all.sum_ns, 3_000_002_001);
        assert!(BOUNDS_NS.is_sorted());
    }
}
