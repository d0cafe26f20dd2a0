//! Windows that differ from the others by more than chance allows.
//!
//! Deliveries of one message share its fate, so the test counts messages: of those of a window, as many as
//! chance allows may be above the usual 99th percentile of the other windows. Rates are compared by their
//! spread.

use super::Report;
use crate::{histogram::Latency, statistics::binomial_tail};

/// Chance of a false alarm for each window.
const CHANCE: f64 = 1e-4;
/// Share of a window's values above another window's 99th percentile that is no wonder: that percentile is
/// itself one of few values.
const SHARE_ABOVE: f64 = 0.03;
/// Factor by which a percentile differs at least that is worth a word.
const FACTOR: f64 = 2.0;
/// Factor by which a rate does.
const RATE_FACTOR: f64 = 1.5;

impl Report {
    /// A sentence for each number of a window that stands out.
    pub(super) fn find_outliers(&self) -> Vec<String> {
        // A growing rate makes each window another one.
        if self.windows.len() < 2 || self.is_ramp() {
            return Vec::new();
        }
        let windows = 0..self.windows.len();
        windows
            .flat_map(|number| [self.latency_outlier(number), self.rate_outlier(number)])
            .flatten()
            .collect()
    }

    fn latency_outlier(&self, number: usize) -> Option<String> {
        let own = self.latencies.get(number).filter(|latency| latency.count() > 0)?;
        let p99 = |latency: &Latency| latency.percentiles().p99_us;
        let others =
            self.latencies.iter().enumerate().filter(|(at, latency)| *at != number && latency.count() > 0);
        let mut others: Vec<f64> = others.map(|(_, latency)| p99(latency)).collect();
        others.sort_by(f64::total_cmp);
        // An outage may be in several of them: the usual is what at least half of the others have.
        let usual_p99 = *others.get(others.len().checked_sub(1)? / 2)?;
        let own_p99 = p99(own);
        if own_p99 < FACTOR * usual_p99 {
            return None;
        }
        let row = &self.windows[number];
        // In a closed loop, and where there are no messages, each value stands for itself.
        let messages = (row.messages_per_second * row.seconds).round();
        let trials = if messages > 0.0 { messages.min(own.count() as f64) } else { own.count() as f64 };
        let above = own.count_above(usual_p99) as f64 / own.count() as f64 * trials;
        (binomial_tail(trials, SHARE_ABOVE, above) < CHANCE).then(|| {
            let factor = own_p99 / usual_p99;
            let digits = usize::from(factor < 10.0);
            format!(
                "Window {}: p99 {factor:.digits$} × the others ({:.3} ms, {:.3} ms).",
                number + 1,
                own_p99 / 1e3,
                usual_p99 / 1e3
            )
        })
    }

    fn rate_outlier(&self, number: usize) -> Option<String> {
        let rate = |at: usize| {
            let row = &self.windows[at];
            row.deliveries_per_second + row.operations_per_second
        };
        let others: Vec<f64> = (0..self.windows.len()).filter(|at| *at != number).map(rate).collect();
        let (least, most) = others
            .iter()
            .fold((f64::MAX, 0.0), |(least, most): (f64, f64), rate| (least.min(*rate), most.max(*rate)));
        let own = rate(number);
        // Beyond all the others by as much again as they differ among themselves, and by half at least.
        let spread = (most / least).max(RATE_FACTOR);
        let stands_out = least > 0.0 && (own < least / spread || own > most * spread);
        let mean = others.iter().sum::<f64>() / others.len() as f64;
        stands_out.then(|| {
            format!("Window {}: rate {:.2} × the others ({own:.0}/s, {mean:.0}/s).", number + 1, own / mean)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        report::tests::{reading, report_of},
        statistics::normal_quantile,
        tally::WindowTally,
    };

    /// A window of 300 messages to 20 each, which share their message's fate; some share of them takes ten
    /// times as long.
    fn window(seed: &mut u64, slow_share: f64) -> WindowTally {
        let mut uniform = || {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            ((*seed >> 11) as f64 / (1_u64 << 53) as f64).clamp(1e-9, 1.0 - 1e-9)
        };
        let mut window = WindowTally::default();
        (window.messages, window.deliveries, window.due) = (300, 6000, 6000);
        for _ in 0..300 {
            let latency_ns = 1e6 * (0.4 * normal_quantile(uniform())).exp();
            let factor = if uniform() < slow_share { 10.0 } else { 1.0 };
            (0..20).for_each(|_| window.latency.record((latency_ns * factor) as u64));
        }
        window
    }

    /// Of 200 runs of three windows, those in which a window is named.
    fn named(slow_share: f64) -> usize {
        let mut seed = 0x0DDB_1A5E_5BAD_5EED;
        let mut is_named = || {
            let windows = vec![window(&mut seed, 0.0), window(&mut seed, slow_share), window(&mut seed, 0.0)];
            let report = report_of("loadgen fanout -n 20 -r 300", windows, reading(3));
            report.remarks.iter().any(|remark| remark.starts_with("Window "))
        };
        (0..200).filter(|_| is_named()).count()
    }

    #[test]
    fn windows_that_differ_by_chance_are_not_named_and_one_that_is_wrong_is() {
        assert!(named(0.0) <= 2, "{} false alarms", named(0.0));
        assert!(named(0.15) >= 180, "{} found", named(0.15));
    }
}
