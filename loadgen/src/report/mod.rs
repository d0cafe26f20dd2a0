//! What came out of a run, in numbers: a row for each window, their median, and what was wrong. Knows nothing of how
//! it is shown; see [`mod@table`], [`mod@file`] and [`mod@html`].

mod file;
mod html;
mod machine;
mod setting;
mod table;

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    histogram::{Latency, Percentiles, add_some},
    ledger::Faults,
    pacer::Schedule,
    plan::{IdlePlan, Plan, Work},
    procfs::Memory,
    tally::{Returns, Slow, Tally, WindowTally},
};

pub(crate) use file::FORMAT;
pub use file::{to_hlog, to_json};
pub use html::to_html;
pub use machine::Machine;

/// Share of messages that may be late before the generator is blamed.
const LATE_SHARE: f64 = 0.01;
/// Share of what a schedule asks for in a window that must be done in it, but for so many.
const KEPT_SHARE: f64 = 0.98;
const KEPT_SLACK: f64 = 2.0;
/// Share of its time at which a worker, of a core at which a thread, and of its cores at which a server is saturated.
const SATURATED: f64 = 0.95;

/// What the processes had used at the edge of a window.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) at_ns: u64,
    pub(crate) unix_ns: u64,
    pub(crate) server_cpu_ns: Option<u64>,
    /// CPU time of each of the server's threads, by its id.
    pub(crate) server_threads: HashMap<u32, u64>,
    /// Cores that the server may run on.
    pub(crate) server_cores: usize,
    pub(crate) generator_cpu_ns: Option<u64>,
}

/// Everything a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// When the schedule began, by [`crate::clock`].
    pub(crate) start_ns: u64,
    pub(crate) readings: Vec<Reading>,
    pub(crate) idling: Option<Idling>,
    pub(crate) failure: Option<String>,
    pub(crate) server_known: bool,
}

/// What connections at rest cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Idling {
    /// The server before the first connection.
    pub before: Option<Memory>,
    /// The server with the base number of connections.
    pub base: Option<Memory>,
    /// The server with all of them.
    pub full: Option<Memory>,
    /// The generator's processes at the same two times.
    pub generator_base: Option<Memory>,
    /// See [`Idling::generator_base`].
    pub generator_full: Option<Memory>,
    /// Time from the base number to all of them, until the last was ready.
    pub connect_seconds: f64,
}

/// One window, or the median of several.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Row {
    /// Length.
    pub seconds: f64,
    /// Verified first deliveries per second.
    pub deliveries_per_second: f64,
    /// Messages sent per second.
    pub messages_per_second: f64,
    /// Cycles, joins and leaves per second.
    pub operations_per_second: f64,
    /// Cycles per second that the schedule asked for, if it asks for any.
    pub asked_per_second: Option<f64>,
    /// Whether it got as many as were due, but for two in a hundred, and none failed.
    pub kept_up: Option<bool>,
    /// Cycles that failed.
    pub errors: u64,
    /// CPU time of the server, in cores.
    pub server_cores: Option<f64>,
    /// CPU time of that thread of the server which used most, in cores.
    pub server_thread_cores: Option<f64>,
    /// CPU time of the generator, in cores.
    pub generator_cores: Option<f64>,
    /// Share of the time in which the generator's busiest worker had something to do.
    pub busy_share: Option<f64>,
    /// CPU seconds of the server for a million deliveries, which is microseconds for one.
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

/// A finished run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: &'static str,
    /// The machine it ran on.
    pub machine: Machine,
    /// A row for each window.
    pub windows: Vec<Row>,
    /// The median of each number over the windows.
    pub median: Row,
    /// Latencies of all windows together.
    pub latency: Percentiles,
    /// Quantiles of those, and their values in microseconds.
    pub curve: Vec<(f64, f64)>,
    /// Latencies of deliveries to those who have no part in a storm, of all windows together.
    pub bystander_latency: Option<Percentiles>,
    /// Quantiles of those, and their values in microseconds.
    pub bystander_curve: Vec<(f64, f64)>,
    /// What was wrong with deliveries, in the whole run.
    pub faults: Faults,
    /// Messages the server refused.
    pub refused: u64,
    /// Deliveries the server said it left out.
    pub gaps: u64,
    /// What became of those that stopped reading.
    pub slow: Slow,
    /// How connections came back in storms with messages.
    pub returns: Returns,
    /// Connections that were not back when a storm's window ended.
    pub stragglers: u64,
    /// Cycles that failed.
    pub failed: u64,
    /// Cycles that were due while as many as may be were under way.
    pub held_up: u64,
    /// Cycles that never came to an end.
    pub unfinished: u64,
    /// Of cycles by a schedule: how many a second the last window asked for before the first that fell behind.
    pub kept_up_per_second: Option<f64>,
    /// What connections at rest cost.
    pub idling: Option<Idling>,
    /// Growth of the server's proportional set size for each connection at rest.
    pub idle_bytes: Option<f64>,
    /// CPU time of the server for each connection at rest, in microseconds a second.
    pub idle_cpu_us_per_second: Option<f64>,
    /// When the first window began, since 1970.
    pub started_unix_ns: u64,
    /// Whether the run ended early.
    pub partial: bool,
    /// What makes this run a failure, a sentence each.
    pub problems: Vec<String>,
    /// What to know when reading the numbers, a sentence each.
    pub remarks: Vec<String>,
    #[serde(skip)]
    plan: Plan,
    /// Of each window.
    #[serde(skip)]
    latencies: Vec<Latency>,
    /// Of the bystanders of each window, if there are any.
    #[serde(skip)]
    bystander_latencies: Vec<Option<Latency>>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let Outcome { tally, start_ns, readings, idling, failure, server_known } = outcome;
        let edges = readings.windows(2);
        let mut windows: Vec<Row> =
            edges.zip(&tally.windows).map(|(edges, window)| Row::new(&edges[0], &edges[1], window)).collect();
        if let Some(schedule) = plan.connect_schedule() {
            find_kept(&schedule, start_ns, &readings, &mut windows);
        }
        let mut latency = Latency::new();
        tally.windows.iter().for_each(|window| latency.add(&window.latency));
        let mut bystanders = None;
        tally.windows.iter().for_each(|window| add_some(&mut bystanders, window.bystanders.as_ref()));
        let (latencies, bystander_latencies) =
            tally.windows.into_iter().map(|window| (window.latency, window.bystanders)).unzip();
        let mut report = Self {
            scenario: plan.work.name(),
            machine: Machine::read(),
            median: Row::median(&windows),
            windows,
            latency: latency.percentiles(),
            curve: latency.curve(),
            bystander_latency: bystanders.as_ref().map(Latency::percentiles),
            bystander_curve: bystanders.as_ref().map_or_else(Vec::new, Latency::curve),
            faults: tally.faults,
            refused: tally.refused,
            gaps: tally.gaps,
            slow: tally.slow,
            returns: tally.returns,
            stragglers: tally.stragglers,
            failed: tally.failed,
            held_up: tally.held_up,
            unfinished: tally.unfinished,
            kept_up_per_second: None,
            idling,
            idle_bytes: None,
            idle_cpu_us_per_second: None,
            started_unix_ns: readings.first().map_or(0, |reading| reading.unix_ns),
            partial: failure.is_some(),
            problems: Vec::new(),
            remarks: Vec::new(),
            plan: plan.clone(),
            latencies,
            bystander_latencies,
        };
        report.idle_bytes = report.idle_growth().map(|(pss, _)| pss);
        let kept_up = report.windows.iter().take_while(|row| row.kept_up == Some(true)).last();
        report.kept_up_per_second = kept_up.and_then(|row| row.asked_per_second);
        if let Some(sentence) = tally.failure {
            report.problems.push(format!("{} cycles failed, the first so: {sentence}", report.failed));
        }
        report.idle_cpu_us_per_second = report.idle_cpu();
        report.find_problems(failure, tally.refusal);
        report.find_remarks(server_known, &readings);
        report
    }

    /// A run that never began.
    pub(crate) fn failed(plan: &Plan, sentence: String) -> Self {
        let tally = Tally::new(0);
        let outcome = Outcome {
            tally,
            start_ns: 0,
            readings: Vec::new(),
            idling: None,
            failure: Some(sentence),
            server_known: true,
        };
        Self::new(plan, outcome)
    }

    /// Whether everything arrived as it should, and the generator kept up.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn find_problems(&mut self, failure: Option<String>, refusal: Option<String>) {
        let Faults { lost, repeated, reordered, misdelivered, corrupt, holes } = self.faults;
        self.problems.extend(failure);
        let kinds = [
            (lost, "lost"),
            (repeated, "repeated"),
            (reordered, "reordered"),
            (misdelivered, "misdelivered"),
            (corrupt, "corrupt"),
            (holes, "holes in the numbering"),
        ];
        let wrong: Vec<_> = kinds.iter().filter(|(count, _)| *count > 0).collect();
        if !wrong.is_empty() {
            let list: Vec<_> = wrong.iter().map(|(count, kind)| format!("{count} {kind}")).collect();
            self.problems.push(format!("Deliveries went wrong: {}.", list.join(", ")));
        }
        if let Some(code) = refusal {
            self.problems.push(format!("The server refused {} messages, the first as {code}.", self.refused));
        }
        if self.gaps > 0 {
            self.problems.push(format!("The server said that it left out {} deliveries.", self.gaps));
        }
        if self.returns.unrecovered > 0 {
            self.problems.push(format!(
                "{} of those that came back did not recover: the server remembers too little of their channels.",
                self.returns.unrecovered
            ));
        }
        if self.stragglers > 0 {
            let sentence = format!("{} connections were not back when a window ended.", self.stragglers);
            self.problems.push(sentence);
        }
        if self.unfinished > 0 {
            self.problems.push(format!("{} cycles never came to an end.", self.unfinished));
        }
        let late = self.windows.iter().map(|row| row.late_share).fold(0.0, f64::max);
        if late > LATE_SHARE {
            self.problems.push(format!(
                "The generator was late with {:.1} % of what was due in a window: its latencies say little.",
                late * 100.0
            ));
        }
        if !self.partial && self.windows.iter().any(|row| row.is_empty()) && self.idling.is_none() {
            self.problems.push("Nothing was delivered in a window.".into());
        }
    }

    /// What to know of a run.
    fn find_remarks(&mut self, server_known: bool, readings: &[Reading]) {
        if !server_known {
            self.remarks.push(
                "The server's process is not known: no CPU time and memory of it (--server-pid).".into(),
            );
        }
        if self.returns.adrift > 0 {
            let sentence = "The server has no recovery: what was missed while away is not counted.";
            self.remarks.push(sentence.into());
        }
        if self.held_up > 0 {
            self.remarks.push(format!(
                "{} cycles were due while all that may be at a time were under way (--cycles): they waited for the \
                 server, and their latencies say so.",
                self.held_up
            ));
        }
        let is_server_saturated = self.find_saturated_server(readings);
        self.judge_generator(is_server_saturated);
    }

    /// Whether the server had all the CPU time that it could use: all of its cores, or one for a thread.
    fn find_saturated_server(&mut self, readings: &[Reading]) -> bool {
        let (Some(cores), Some(reading)) = (self.median.server_cores, readings.first()) else { return false };
        let is_whole = cores > SATURATED * reading.server_cores.max(1) as f64;
        let is_thread = self.median.server_thread_cores > Some(SATURATED);
        if is_whole {
            self.remarks.push(format!("The server was saturated ({cores:.2} cores)."));
        } else if is_thread {
            self.remarks.push(format!("A thread of the server was saturated (of {cores:.2} cores in all)."));
        }
        is_whole || is_thread
    }

    /// Whether the generator was the limit. Where one side is meant to be, that is no failure if the server was one as
    /// well, or if the plan says so.
    fn judge_generator(&mut self, is_server_saturated: bool) {
        let Some(share) = self.median.busy_share.filter(|share| *share > SATURATED) else { return };
        let what = format!("A worker of the generator was busy for {:.0} % of the time", share * 100.0);
        if self.plan.work.is_open_loop() {
            self.problems.push(format!("{what}: its latencies say little."));
        } else if is_server_saturated {
            self.remarks.push(format!("{what}, too."));
        } else if self.plan.lower_bound {
            self.remarks.push(format!(
                "{what}: the server can do at least this. Its CPU time for each delivery or operation holds."
            ));
        } else {
            self.problems.push(format!(
                "{what}, and the server was not: it can do at least this (--lower-bound if that will do)."
            ));
        }
    }

    /// The server's CPU time in the windows, in microseconds a second for each connection.
    fn idle_cpu(&self) -> Option<f64> {
        let Work::Idle(IdlePlan { connections, .. }) = &self.plan.work else { return None };
        Some(self.median.server_cores? * 1e6 / f64::from(*connections))
    }

    /// Growth of the server's memory for each connection, in bytes: proportional set size, resident set size.
    pub fn idle_growth(&self) -> Option<(f64, f64)> {
        let Work::Idle(IdlePlan { base, connections, .. }) = &self.plan.work else { return None };
        let idling = self.idling.as_ref()?;
        let (before, after) = (idling.base?, idling.full?);
        let each = |before: u64, after: u64| (after as f64 - before as f64) / f64::from(connections - base);
        Some((each(before.pss_bytes, after.pss_bytes), each(before.rss_bytes, after.rss_bytes)))
    }
}

impl Row {
    fn new(from: &Reading, to: &Reading, window: &WindowTally) -> Self {
        let seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
        let used = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?) as f64 / 1e9);
        let server = used(from.server_cpu_ns, to.server_cpu_ns);
        let each = |count: u64| Some(server? * 1e6 / count as f64).filter(|_| count > 0);
        Self {
            seconds,
            deliveries_per_second: window.deliveries as f64 / seconds,
            messages_per_second: window.messages as f64 / seconds,
            operations_per_second: window.operations as f64 / seconds,
            asked_per_second: None,
            kept_up: None,
            errors: window.errors,
            server_cores: server.map(|server| server / seconds),
            server_thread_cores: busiest_ns(from, to).map(|busiest| busiest as f64 / 1e9 / seconds),
            generator_cores: used(from.generator_cpu_ns, to.generator_cpu_ns).map(|cpu| cpu / seconds),
            busy_share: Some(window.busy_ns as f64 / 1e9 / seconds).filter(|share| *share > 0.0),
            server_s_per_million_deliveries: each(window.deliveries),
            server_s_per_million_operations: each(window.operations),
            late_share: window.late as f64 / window.scheduled.max(1) as f64,
            latency: window.latency.percentiles(),
            bystander_latency: window.bystanders.as_ref().map(Latency::percentiles),
        }
    }

    /// Whether nothing happened.
    fn is_empty(&self) -> bool {
        self.deliveries_per_second == 0.0 && self.operations_per_second == 0.0
    }

    fn median(rows: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(rows.iter().map(field).collect()).unwrap_or_default();
        let of_some = |field: fn(&Self) -> Option<f64>| median(rows.iter().filter_map(field).collect());
        Self {
            seconds: of(|row| row.seconds),
            deliveries_per_second: of(|row| row.deliveries_per_second),
            messages_per_second: of(|row| row.messages_per_second),
            operations_per_second: of(|row| row.operations_per_second),
            asked_per_second: of_some(|row| row.asked_per_second),
            kept_up: None,
            errors: of(|row| row.errors as f64) as u64,
            server_cores: of_some(|row| row.server_cores),
            server_thread_cores: of_some(|row| row.server_thread_cores),
            generator_cores: of_some(|row| row.generator_cores),
            busy_share: of_some(|row| row.busy_share),
            server_s_per_million_deliveries: of_some(|row| row.server_s_per_million_deliveries),
            server_s_per_million_operations: of_some(|row| row.server_s_per_million_operations),
            late_share: of(|row| row.late_share),
            latency: Percentiles::median(rows.iter().map(|row| row.latency)),
            bystander_latency: rows
                .iter()
                .any(|row| row.bystander_latency.is_some())
                .then(|| Percentiles::median(rows.iter().filter_map(|row| row.bystander_latency))),
        }
    }
}

impl Percentiles {
    /// The median of each.
    fn median(all: impl Iterator<Item = Self> + Clone) -> Self {
        let of = |field: fn(&Self) -> f64| {
            median(all.clone().map(|each| field(&each)).collect()).unwrap_or_default()
        };
        Self {
            count: of(|each| each.count as f64) as u64,
            p50_us: of(|each| each.p50_us),
            p90_us: of(|each| each.p90_us),
            p99_us: of(|each| each.p99_us),
            p999_us: of(|each| each.p999_us),
            max_us: of(|each| each.max_us),
        }
    }
}

/// CPU time between two readings of that thread of the server which used most.
fn busiest_ns(from: &Reading, to: &Reading) -> Option<u64> {
    let before = |thread| from.server_threads.get(thread).copied().unwrap_or_default();
    to.server_threads.iter().map(|(thread, used)| used.saturating_sub(before(thread))).max()
}

/// What a schedule asked for in each window, and whether the server kept up. Connections that take so long in the first
/// window, when they have the server for themselves, are done so long after they were due in all others: with a growing
/// rate, that is no falling behind.
fn find_kept(schedule: &Schedule, start_ns: u64, readings: &[Reading], windows: &mut [Row]) {
    let usual_ns = windows.first().map_or(0, |row| (row.latency.p50_us * 1e3) as u64);
    for (row, edges) in windows.iter_mut().zip(readings.windows(2)) {
        let between = |shift_ns| {
            let until = |reading: &Reading| schedule.count(reading.at_ns.saturating_sub(start_ns + shift_ns));
            until(&edges[1]) - until(&edges[0])
        };
        row.asked_per_second = Some(between(0) / row.seconds);
        let least = between(usual_ns) * KEPT_SHARE - KEPT_SLACK;
        row.kept_up = Some(row.latency.count as f64 >= least && row.errors == 0);
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some(f64::midpoint(values[low], values[high]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Args, Job};

    fn reading(second: u64) -> Reading {
        Reading {
            at_ns: second * 1_000_000_000,
            unix_ns: second * 1_000_000_000,
            server_cpu_ns: None,
            server_threads: HashMap::new(),
            server_cores: 0,
            generator_cpu_ns: None,
        }
    }

    /// Of a run of one window, a second long.
    fn report(line: &str, window: impl FnOnce(&mut WindowTally), last: Reading) -> Report {
        let args = Args::try_parse_from(line.split_whitespace()).expect("well-formed");
        let (Job::Run(mut phases), _) = args.into_job().expect("valid") else { panic!("a run") };
        let plan = phases.remove(0).plans.remove(0);
        let mut tally = Tally::new(1);
        tally.windows[0].deliveries = 1;
        window(&mut tally.windows[0]);
        let server_cpu_ns = last.server_cpu_ns.map(|_| 0);
        let first = Reading { server_cpu_ns, server_cores: last.server_cores, ..reading(0) };
        let (readings, server_known) = (vec![first, last], true);
        let outcome = Outcome { tally, start_ns: 0, readings, idling: None, failure: None, server_known };
        Report::new(&plan, outcome)
    }

    /// Of a run whose busiest worker had so much to do, against a server of two cores whose threads used so much.
    fn busy_report(line: &str, busy_ms: u64, server_ms: &[u64]) -> Report {
        // One worker has nothing to do; the other may have.
        let both = |window: &mut WindowTally| {
            let mut other = Tally::new(1);
            other.windows[0].busy_ns = busy_ms * 1_000_000;
            let mut tally = Tally::new(1);
            tally.windows[0] = window.clone();
            tally.add(&other);
            *window = tally.windows.remove(0);
        };
        let server_threads: HashMap<_, _> = (1..).zip(server_ms.iter().map(|ms| ms * 1_000_000)).collect();
        let server_cpu_ns = Some(server_threads.values().sum());
        report(line, both, Reading { server_cpu_ns, server_threads, server_cores: 2, ..reading(1) })
    }

    #[test]
    fn generator_that_was_busy_all_the_time_fails_a_run_unless_it_may_be_the_limit() {
        for (line, busy_ms, server_ms, is_clean) in [
            ("loadgen fanout --rate 10", 960, [500, 0], false),
            ("loadgen fanout --rate 10 --lower-bound", 960, [990, 990], false),
            ("loadgen fanout --rate 10", 900, [500, 0], true),
            ("loadgen fanout --threads 2", 960, [500, 0], false),
            ("loadgen fanout --spin", 960, [500, 0], false),
            ("loadgen fanout", 900, [500, 0], true),
            ("loadgen fanout", 960, [980, 10], true),
            ("loadgen fanout", 960, [940, 940], false),
            ("loadgen fanout --lower-bound", 960, [500, 0], true),
            ("loadgen connect", 960, [500, 0], false),
        ] {
            let report = busy_report(line, busy_ms, &server_ms);
            assert_eq!(report.is_clean(), is_clean, "{line} {server_ms:?}: {:?}", report.problems);
        }
        let report = busy_report("loadgen send --lower-bound", 960, &[500, 0]);
        assert!(report.remarks[0].contains("can do at least this"), "{:?}", report.remarks);
        // Threads in turns, on all the cores they have.
        let report = busy_report("loadgen send", 960, &[660, 660, 660]);
        assert!(
            report.is_clean() && report.remarks[0].contains("The server was saturated (1.98"),
            "{report:?}"
        );
    }

    #[test]
    fn server_far_away_keeps_up_with_a_growing_rate_and_one_that_gets_slower_does_not() {
        let schedule = Schedule::changing((500.0, 8000.0), 1.0, 15.0);
        let kept = |latency_ms: u64, most_per_second: f64| {
            let readings: Vec<_> = (1..=16).map(reading).collect();
            let done = |reading: &Reading| schedule.count(reading.at_ns - latency_ms * 1_000_000);
            let rows = readings.windows(2).map(|edges| {
                let mut window = Tally::new(1).windows.remove(0);
                let count = (done(&edges[1]) - done(&edges[0])).min(most_per_second);
                (0..count as u64).for_each(|_| window.latency.record(latency_ms * 1_000_000));
                Row::new(&edges[0], &edges[1], &window)
            });
            let mut rows: Vec<_> = rows.collect();
            find_kept(&schedule, 0, &readings, &mut rows);
            rows.iter().take_while(|row| row.kept_up == Some(true)).count()
        };
        assert_eq!(kept(1, f64::MAX), 15);
        assert_eq!(kept(400, f64::MAX), 15);
        // In the seventh second 3,750 are due.
        assert_eq!(kept(1, 3_300.0), 6);
        assert_eq!(kept(400, 3_100.0), 6);
    }

    #[test]
    fn late_share_is_of_what_latencies_count_from() {
        // A storm's own messages have no latency, and dilute nothing.
        let window = |window: &mut WindowTally| {
            (window.messages, window.scheduled, window.late) = (10_000, 100, 5);
        };
        let report = report("loadgen storm --rate 9900 --bystanders 5", window, reading(1));
        assert!((report.windows[0].late_share - 0.05).abs() < 1e-9);
        assert!(report.problems[0].contains("5.0 %"), "{:?}", report.problems);
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
