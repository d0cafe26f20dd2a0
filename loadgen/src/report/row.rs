//! One window in numbers, or all of them in one: counts and histograms are added up, and nothing is averaged
//! that an outage could hide behind.

use serde::Serialize;

use super::{Reading, SATURATED};
use crate::{
    histogram::{Latency, Percentiles, add_some},
    tally::{Tally, WindowTally},
};

/// By how much the coarse account of CPU time may be off.
const COARSE_NS: u64 = 50_000_000;

/// How far the connections of a storm were, and when.
#[derive(Debug, Clone, Serialize)]
pub struct StageRow {
    /// What they had reached.
    pub stage: &'static str,
    /// From the drop until then.
    pub latency: Percentiles,
}

/// The stages of a storm; none of anything else. The last one is what the storm's operations are.
pub(super) fn stages(tally: &Tally, all: &WindowTally) -> Vec<StageRow> {
    let Some(stages) = &tally.stages else { return Vec::new() };
    let row = |stage, latency: &Latency| StageRow { stage, latency: latency.percentiles() };
    let mut rows = vec![row("welcomed", &stages.welcomed), row("joined", &stages.joined)];
    if tally.returns.recovered + tally.returns.resumed > 0 {
        rows.push(row("with what they missed", &all.latency));
    }
    // Sessions that go on join nothing.
    rows.retain(|row| row.latency.count > 0);
    rows
}

/// One window, or all of them together.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Row {
    /// Length.
    pub seconds: f64,
    /// Deliveries that the schedule has per second, or cycles of `connect`, if there is a schedule.
    pub due_per_second: Option<f64>,
    /// Verified first deliveries per second, of what was due or sent in the window, however late they came.
    pub deliveries_per_second: f64,
    /// Messages sent per second.
    pub messages_per_second: f64,
    /// Cycles, joins and leaves per second.
    pub operations_per_second: f64,
    /// Share of what was due that came at all; of cycles, that joined.
    pub arrived_share: Option<f64>,
    /// Whether the server got as many cycles done as were due, but for two in a hundred, and none failed.
    pub kept_up: Option<bool>,
    /// Cycles of a schedule that joined during the window, whenever they were due; per second.
    #[serde(skip)]
    pub(super) done_in_time_per_second: f64,
    /// Cycles that failed.
    pub errors: u64,
    /// What was due and had not come when the drain ended. Its latency counts as the time until then.
    pub censored: u64,
    /// CPU time of the server, in cores.
    pub server_cores: Option<f64>,
    /// CPU time of that thread of the server which used most, in cores.
    pub server_thread_cores: Option<f64>,
    /// Whether the server had all the CPU time it could use: all of its cores, or one for a thread.
    pub server_saturated: Option<bool>,
    /// CPU time of the generator, in cores.
    pub generator_cores: Option<f64>,
    /// Share of the time in which the generator's busiest worker had something to do.
    pub busy_share: Option<f64>,
    /// CPU seconds of the server for a million deliveries that arrived meanwhile, which is microseconds for
    /// one.
    pub server_s_per_million_deliveries: Option<f64>,
    /// CPU seconds of the server for a million operations.
    pub server_s_per_million_operations: Option<f64>,
    /// Share of messages sent, or cycles begun, more than a millisecond after they were due.
    pub late_share: f64,
    /// Latencies: of deliveries from when they were due, or of operations.
    pub latency: Percentiles,
    /// Latencies of deliveries to those who have no part in a storm.
    pub bystander_latency: Option<Percentiles>,
}

impl Row {
    /// Of the time between two readings, and what belongs to it.
    pub(super) fn new(from: &Reading, to: &Reading, window: &WindowTally, seconds: f64) -> Self {
        let read_seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
        // A server that has ended took its account with it.
        let used = |from: Option<u64>, to: Option<u64>| Some(to?.checked_sub(from?)? as f64 / 1e9);
        let server = used_by_server(from, to).map(|used| used as f64 / 1e9);
        let each = |count: u64| Some(server? * 1e6 / count as f64).filter(|_| count > 0);
        let server_cores = server.map(|server| server / read_seconds);
        let thread_cores =
            server.and(busiest_ns(from, to)).map(|busiest| busiest as f64 / 1e9 / read_seconds);
        let counted = window.latency.count();
        let due = window.due;
        Self {
            seconds,
            due_per_second: Some(due as f64 / seconds).filter(|due| *due > 0.0),
            deliveries_per_second: window.deliveries as f64 / seconds,
            messages_per_second: window.messages as f64 / seconds,
            operations_per_second: window.operations as f64 / seconds,
            arrived_share: (due > 0).then(|| counted.saturating_sub(window.censored) as f64 / due as f64),
            kept_up: None,
            done_in_time_per_second: window.arrived as f64 / read_seconds,
            errors: window.errors,
            censored: window.censored,
            server_cores,
            server_thread_cores: thread_cores,
            server_saturated: server_cores.map(|cores| {
                cores > SATURATED * from.server_cores.max(1) as f64 || thread_cores > Some(SATURATED)
            }),
            generator_cores: used(from.generator_cpu_ns, to.generator_cpu_ns).map(|cpu| cpu / read_seconds),
            busy_share: Some(window.busy_ns as f64 / 1e9 / read_seconds).filter(|share| *share > 0.0),
            server_s_per_million_deliveries: each(window.arrived).filter(|_| window.deliveries > 0),
            server_s_per_million_operations: each(window.operations),
            late_share: window.late as f64 / window.scheduled.max(1) as f64,
            latency: window.latency.percentiles(),
            bystander_latency: window.bystanders.as_ref().map(Latency::percentiles),
        }
    }

    /// Whether nothing happened.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries_per_second == 0.0 && self.operations_per_second == 0.0
    }

    /// Leaves out what belongs to all parts of a phase and cannot be told apart.
    pub(super) fn leave_out_shared(&mut self) {
        self.server_cores = None;
        self.server_thread_cores = None;
        self.generator_cores = None;
        self.server_s_per_million_deliveries = None;
        self.server_s_per_million_operations = None;
    }
}

/// CPU time of the server between two readings. Threads that have ended are missing in the fine account, and
/// what they used is taken from the coarse one, if that shows more.
fn used_by_server(from: &Reading, to: &Reading) -> Option<u64> {
    let fine = to.server_cpu_ns?.checked_sub(from.server_cpu_ns?);
    let coarse = to.server_ticks_ns.zip(from.server_ticks_ns).and_then(|(to, from)| to.checked_sub(from));
    match (fine, coarse) {
        (Some(fine), Some(coarse)) if coarse > fine + COARSE_NS => Some(coarse),
        (Some(fine), _) => Some(fine),
        (None, coarse) => coarse,
    }
}

/// All windows as one.
pub(super) fn merge(windows: &[WindowTally]) -> WindowTally {
    let mut all = WindowTally::default();
    for window in windows {
        all.deliveries += window.deliveries;
        all.arrived += window.arrived;
        all.due += window.due;
        all.messages += window.messages;
        all.operations += window.operations;
        all.scheduled += window.scheduled;
        all.late += window.late;
        all.errors += window.errors;
        all.censored += window.censored;
        all.busy_ns += window.busy_ns;
        all.latency.add(&window.latency);
        add_some(&mut all.bystanders, window.bystanders.as_ref());
    }
    all
}

/// CPU time between two readings of that thread of the server which used most.
fn busiest_ns(from: &Reading, to: &Reading) -> Option<u64> {
    let before = |thread| from.server_threads.get(thread).copied().unwrap_or_default();
    to.server_threads.iter().map(|(thread, used)| used.saturating_sub(before(thread))).max()
}
