//! Whether a server keeps up with a schedule: as much is done in the windows as is due in them.

use super::{Reading, Report, Row};
use crate::{
    pacer::Schedule,
    plan::Plan,
    tally::{Tally, WindowTally},
};

/// The share of what a schedule asks for in a window that must be done in the window, but for
/// [`KEPT_SLACK`].
const KEPT_SHARE: f64 = 0.98;
const KEPT_SLACK: f64 = 2.0;

/// Marks each window of a schedule of cycles in which the server keeps up.
///
/// With a growing rate, fewer cycles are done than are due at any time, by as much as the rate grows while
/// one cycle lasts. That is no falling behind. How long a cycle lasts is the time of the run's first cycles,
/// which nothing queues before, or the median of the fastest window, if that is shorter. The latencies of a
/// window alone do not tell: the time in the server's queue is part of them.
pub(super) fn find_kept(
    schedule: &Schedule,
    start_ns: u64,
    readings: &[Reading],
    tally: &Tally,
    rows: &mut [Row],
) {
    let first = tally.first.percentiles();
    let medians = rows.iter().map(|row| row.latency).chain([first]);
    let usual_us = medians.filter(|latency| latency.count > 0).map(|latency| latency.p50_us);
    let usual_ns = (usual_us.reduce(f64::min).unwrap_or_default() * 1e3) as u64;
    for ((row, window), edges) in rows.iter_mut().zip(&tally.windows).zip(readings.windows(2)) {
        let between = |shift_ns| {
            let until = |reading: &Reading| schedule.count(reading.at_ns.saturating_sub(start_ns + shift_ns));
            until(&edges[1]) - until(&edges[0])
        };
        let least = between(usual_ns) * KEPT_SHARE - KEPT_SLACK;
        row.kept_up = Some(window.arrived as f64 >= least && row.errors == 0);
    }
}

/// The share of what was due in the windows of a schedule that was done when they ended, if that is too
/// little. What the fastest delivery takes may be on the way, and so may two messages to all their receivers.
pub(super) fn find_behind(plan: &Plan, all: &WindowTally, seconds: f64) -> Option<f64> {
    let due = Some(all.due as f64).filter(|due| *due > 0.0 && plan.work.is_open_loop())?;
    let each = due / all.scheduled.max(1) as f64;
    let fastest_seconds = all.latency.histogram().min() as f64 / 1e9;
    let on_the_way = (fastest_seconds - plan.warmup_seconds).max(0.0) * due / seconds;
    let least = due * KEPT_SHARE - KEPT_SLACK * each - on_the_way;
    ((all.arrived as f64) < least).then(|| all.arrived as f64 / due)
}

impl Report {
    /// Says that the server did not keep up with the schedule, if so.
    pub(crate) fn behind_sentence(&self) -> Option<String> {
        let share = self.behind_share?;
        Some(format!(
            "When the last window ended, only {:.1} % of what was due in the windows was done.",
            share * 100.0
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::reading, *};
    use crate::plan::tests::plan;

    /// Of how many windows, a second each, a server keeps up with a schedule whose cycles take so long when
    /// nothing queues, and which does so many a second at most.
    fn kept(schedule: Schedule, cycle_ms: u64, most_per_second: f64) -> usize {
        let readings: Vec<_> = (1..=16).map(reading).collect();
        let mut tally = Tally::new(15);
        // All cycles before the end of a window that are done, one after the other, from the warm-up on.
        let mut done_ns = 0;
        for number in 0..schedule.count(16_000_000_000) as u64 {
            let due_ns = schedule.due_ns(number);
            done_ns = (due_ns + cycle_ms * 1_000_000).max(done_ns + (1e9 / most_per_second) as u64);
            let window = |at_ns: u64| (at_ns / 1_000_000_000).checked_sub(1).map(|second| second as usize);
            if number < 8 {
                tally.first.record(done_ns - due_ns);
            }
            if let Some(window) = window(due_ns).and_then(|at| tally.windows.get_mut(at)) {
                window.latency.record(done_ns - due_ns);
            }
            if let Some(window) = window(done_ns).and_then(|at| tally.windows.get_mut(at)) {
                window.arrived += 1;
            }
        }
        let edges = readings.windows(2).zip(&tally.windows);
        let mut rows: Vec<_> =
            edges.map(|(edges, window)| Row::new(&edges[0], &edges[1], window, 1.0)).collect();
        find_kept(&schedule, 0, &readings, &tally, &mut rows);
        rows.iter().take_while(|row| row.kept_up == Some(true)).count()
    }

    #[test]
    fn server_far_away_keeps_up_with_a_growing_rate_and_one_that_gets_slower_does_not() {
        let growing = || Schedule::changing((500.0, 8000.0), 1.0, 15.0);
        assert_eq!(kept(growing(), 1, 1e6), 15);
        assert_eq!(kept(growing(), 400, 1e6), 15);
        // In the seventh second 3,750 are due.
        assert_eq!(kept(growing(), 1, 3_300.0), 6);
        assert_eq!(kept(growing(), 400, 3_100.0), 6);
    }

    #[test]
    fn server_that_is_behind_from_the_beginning_never_keeps_up() {
        // Of the warm-up and the first window, cycles wait for seconds already.
        assert_eq!(kept(Schedule::steady(3_000.0), 1, 1_030.0), 0);
        assert_eq!(kept(Schedule::changing((2_000.0, 4_000.0), 1.0, 15.0), 1, 1_030.0), 0);
        assert_eq!(kept(Schedule::steady(3_000.0), 400, 3_001.0), 15);
    }

    #[test]
    fn what_comes_after_the_windows_is_behind_and_what_is_on_the_way_is_not() {
        let behind = |line: &str, arrived: u64, fastest_ms: u64| {
            let mut all = WindowTally { due: 2_000, arrived, scheduled: 100, ..WindowTally::default() };
            all.latency.record(fastest_ms * 1_000_000);
            find_behind(&plan(line), &all, 1.0)
        };
        let line = "loadgen fanout -n 20 -r 100 --warmup 0.1";
        assert_eq!(behind(line, 1_200, 1), Some(0.6));
        assert_eq!(behind(line, 1_930, 1), None, "two messages to twenty");
        assert_eq!(behind(line, 1_400, 401), None, "far away");
        assert_eq!(behind(line, 1_300, 401), Some(0.65));
        assert_eq!(behind("loadgen fanout -n 20", 1_200, 1), None, "no schedule");
    }
}
