//! Latencies in nanoseconds, to three significant digits, from 1 µs to 2 minutes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 120_000_000_000;

/// The latencies of one worker in one window, or of several put together. Written down as its buckets that
/// are not empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Buckets", into = "Buckets")]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
}

/// A value of each bucket, and how many there are in it.
#[derive(Serialize, Deserialize)]
struct Buckets(Vec<(u64, u64)>);

/// What is reported of a distribution, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many values there are.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// Nine of ten are at most this.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).expect("the bounds are valid");
        Self { histogram }
    }

    /// Counts one value; one out of bounds counts as the bound.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many values are above this one, in microseconds.
    pub(crate) fn count_above(&self, us: f64) -> u64 {
        self.histogram.len() - self.histogram.count_between(0, (us * 1e3) as u64)
    }

    /// Adds another's values, exactly.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
    }

    /// What came in since another state of the same one; all of it if that is no earlier one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        if since.histogram.subtract(&earlier.histogram).is_err() {
            return self.clone();
        }
        since
    }

    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Quantiles from none to all but one in a million, in microseconds, as far as there are values for them.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        const STEPS_PER_NINE: i32 = 10;
        let count = self.histogram.len() as f64;
        let quantiles = (0..=6 * STEPS_PER_NINE)
            .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(STEPS_PER_NINE)))
            .take_while(|quantile| (1.0 - quantile) * count >= 1.0);
        quantiles
            .map(|quantile| (quantile, self.histogram.value_at_quantile(quantile) as f64 / 1e3))
            .collect()
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        if self.histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: self.histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max() as f64 / 1e3,
        }
    }
}

/// Adds latencies where there may be none.
pub(crate) fn add_some(ours: &mut Option<Latency>, theirs: Option<&Latency>) {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.add(theirs),
        (ours @ None, theirs) => *ours = theirs.cloned(),
        (Some(_), None) => {}
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Latency> for Buckets {
    fn from(latency: Latency) -> Self {
        let buckets = latency.histogram.iter_recorded();
        Self(buckets.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect())
    }
}

impl From<Buckets> for Latency {
    fn from(Buckets(buckets): Buckets) -> Self {
        let mut latency = Self::new();
        for (value, count) in buckets {
            latency.histogram.saturating_record_n(value, count);
        }
        latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_that_was_written_down_and_read_is_the_same() {
        let mut latency = Latency::new();
        for step in 0..60 {
            // To and fro over the whole range, and beyond it.
            (0..=step).for_each(|_| latency.record(700 * 7_u64.pow(step % 11) + u64::from(step)));
        }
        let json = serde_json::to_string(&latency).expect("numbers");
        let read: Latency = serde_json::from_str(&json).expect("what was written");
        assert_eq!(read.histogram(), latency.histogram());
        assert_eq!(read.percentiles(), latency.percentiles());
    }

    #[test]
    fn merged_percentiles_are_those_of_all_values() {
        let (mut all, mut even, mut odd) = (Latency::new(), Latency::new(), Latency::new());
        for value in 1..=10_000_u64 {
            all.record(value * 1_000);
            if value % 2 == 0 { &mut even } else { &mut odd }.record(value * 1_000);
        }
        even.add(&odd);
        assert_eq!(even.percentiles(), all.percentiles());
        assert!((all.percentiles().p50_us - 5_000.0).abs() < 10.0);
        assert_eq!(Latency::new().percentiles(), Percentiles::default());
    }
}
