//! What came out of a run, in numbers: a row for each window, one for all of them together, and what was
//! wrong. Knows nothing of how it is shown; see [`mod@table`], [`mod@file`] and [`mod@html`].

mod chart;
mod file;
pub(crate) mod html;
mod judge;
mod keeping;
mod machine;
mod outlier;
mod row;
mod setting;
mod table;

use std::collections::HashMap;

use serde::Serialize;

pub(crate) use file::FORMAT;
pub use file::{part_name, to_faults, to_hlog, to_json};
pub use html::to_html;
pub use machine::{Load, Machine};
pub use row::{Row, StageRow};

use crate::{
    doubt::Doubt,
    drivers::Checks,
    faults::FaultLog,
    histogram::Latency,
    ledger::Faults,
    net::Handshakes,
    plan::{IdlePlan, Plan, Work},
    procfs::{Memory, ProcessInfo},
    tally::{Returns, Slow, Tally, Verdicts},
    thresholds::Measured,
    timeline::Timeline,
    verdict::{Blame, Reason, Verdict},
};

/// Share of its time at which a worker, of a core at which a thread, and of its cores at which a server is
/// saturated.
const SATURATED: f64 = 0.95;

/// What the processes had used at the edge of a window.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) at_ns: u64,
    pub(crate) unix_ns: u64,
    pub(crate) server_cpu_ns: Option<u64>,
    /// The same by the coarse account, in which threads that have ended stay.
    pub(crate) server_ticks_ns: Option<u64>,
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
    pub(crate) timeline: Timeline,
    /// Nothing was due from this time on.
    pub(crate) end_ns: u64,
    pub(crate) readings: Vec<Reading>,
    pub(crate) idling: Option<Idling>,
    pub(crate) failure: Option<Reason>,
    /// The server's processes, as far as they are known.
    pub(crate) server: Vec<ProcessInfo>,
    /// What is to be doubted of them.
    pub(crate) doubt: Option<Doubt>,
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

/// CPU time of both sides where several parts of a phase share it, in cores.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct AllParts {
    /// The server's.
    pub server_cores: Option<f64>,
    /// The generator's.
    pub generator_cores: Option<f64>,
}

/// What was due in one tick of the clock.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TickRow {
    /// When it begins, in seconds from the beginning of the first window.
    pub second: f64,
    /// Deliveries, or operations, that were due in it and came; per second.
    pub per_second: f64,
    /// The longest latency, in milliseconds.
    pub max_ms: f64,
}

/// Who was the limit of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The server, and not the generator.
    Server,
    /// The generator, and not the server.
    Generator,
    /// Both.
    Both,
    /// Neither: the rate, the messages in flight, or how either of them waits.
    Neither,
    /// Not the generator; of the server it is not known.
    Unknown,
}

/// A finished run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: &'static str,
    /// What the run comes to.
    pub verdict: Verdict,
    /// Why, if it is not clean.
    pub reasons: Vec<Reason>,
    /// The machine it ran on.
    pub machine: Machine,
    /// What else went on there.
    pub load: Load,
    /// The server's processes.
    pub server: Vec<ProcessInfo>,
    /// A row for each window.
    pub windows: Vec<Row>,
    /// All windows together.
    pub summary: Row,
    /// What was due in each tick of the clock.
    pub ticks: Vec<TickRow>,
    /// Whether messages were sent, or operations begun, when earlier ones were done: latencies are those of a
    /// full queue then, and omit what was not sent meanwhile.
    pub closed_loop: bool,
    /// Who was the limit.
    pub limit: Limit,
    /// Quantiles of all latencies, and their values in microseconds.
    pub curve: Vec<(f64, f64)>,
    /// The same of the bystanders of a storm.
    pub bystander_curve: Vec<(f64, f64)>,
    /// What was wrong with deliveries, in the whole run.
    pub faults: Faults,
    /// Kinds of faults that the scenario or the protocol gives no way to check: their 0 means nothing.
    pub not_checked: Vec<&'static str>,
    /// Messages the server refused.
    pub refused: u64,
    /// Deliveries the server said it left out.
    pub gaps: u64,
    /// What became of those that stopped reading.
    pub slow: Slow,
    /// How connections came back in storms with messages.
    pub returns: Returns,
    /// What triggers made of messages, if there are any.
    pub verdicts: Option<Verdicts>,
    /// How far connections were after a storm, and when.
    pub storm_stages: Vec<StageRow>,
    /// Connections that were not back when a storm's window ended.
    pub stragglers: u64,
    /// Cycles that failed.
    pub failed: u64,
    /// Cycles that were due while as many as may be were under way.
    pub held_up: u64,
    /// Cycles that never came to an end.
    pub unfinished: u64,
    /// Cycles that were due and never began.
    pub never_begun: u64,
    /// Pairs of notices that cancelled each other out.
    pub merged: u64,
    /// What the handshakes of connections came to.
    pub handshakes: Handshakes,
    /// Of cycles by a schedule: how many a second the last window asked for before the first that fell
    /// behind.
    pub kept_up_per_second: Option<f64>,
    /// Of what was due in the windows of a schedule, the share that was done when they ended, if the server
    /// fell behind.
    pub behind_share: Option<f64>,
    /// CPU time that cannot be told apart by parts of a phase.
    pub all_parts: Option<AllParts>,
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
    /// What makes this run a failure, a sentence each: those of `reasons`.
    pub problems: Vec<String>,
    /// What to know when reading the numbers, a sentence each.
    pub remarks: Vec<String>,
    /// Each threshold, and what was measured.
    pub thresholds: Vec<Measured>,
    #[serde(skip)]
    doubt: Option<Doubt>,
    #[serde(skip)]
    plan: Plan,
    /// Of each window.
    #[serde(skip)]
    latencies: Vec<Latency>,
    /// Of the bystanders of each window, if there are any.
    #[serde(skip)]
    bystander_latencies: Vec<Option<Latency>>,
    #[serde(skip)]
    fault_log: FaultLog,
    /// When the warm-up began, by the generator's clock.
    #[serde(skip)]
    start_ns: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let Outcome { tally, timeline, end_ns, readings, idling, failure, server, doubt } = outcome;
        let start_ns = timeline.first_ns.saturating_sub(plan.timing().warmup_ns);
        let seconds = |window: u32| {
            let begun_ns = timeline.first_ns + plan.timing().window_ns * u64::from(window);
            (timeline.end_of(window).min(end_ns).saturating_sub(begun_ns) as f64 / 1e9).max(1e-9)
        };
        let edges = readings.windows(2).zip(0..);
        let mut windows: Vec<_> = edges
            .zip(&tally.windows)
            .map(|((edges, number), window)| Row::new(&edges[0], &edges[1], window, seconds(number)))
            .collect();
        if let Some(schedule) = plan.connect_schedule() {
            keeping::find_kept(&schedule, start_ns, &readings, &tally, &mut windows);
        }
        let all = row::merge(&tally.windows);
        let summary = match &readings[..] {
            [first, .., last] => Row::new(first, last, &all, windows.iter().map(|row| row.seconds).sum()),
            _ => Row::default(),
        };
        let mut report = Self {
            behind_share: keeping::find_behind(plan, &all, summary.seconds),
            scenario: plan.work.name(),
            verdict: Verdict::Clean,
            reasons: Vec::new(),
            machine: Machine::read(),
            load: Load::default(),
            ticks: tick_rows(plan, &tally, &windows),
            closed_loop: plan.work.is_closed_loop(),
            limit: Limit::Unknown,
            not_checked: Checks::of(plan).not_checked(),
            windows,
            summary,
            curve: all.latency.curve(),
            bystander_curve: all.bystanders.as_ref().map_or_else(Vec::new, Latency::curve),
            faults: tally.faults,
            refused: tally.refused,
            gaps: tally.gaps,
            slow: tally.slow,
            storm_stages: row::stages(&tally, &all),
            returns: tally.returns,
            verdicts: tally.verdicts,
            stragglers: tally.stragglers,
            failed: tally.failed,
            held_up: tally.held_up,
            unfinished: tally.unfinished,
            never_begun: tally.never_begun,
            merged: tally.merged,
            handshakes: tally.handshakes,
            kept_up_per_second: None,
            all_parts: None,
            idling,
            idle_bytes: None,
            idle_cpu_us_per_second: None,
            started_unix_ns: readings.first().map_or(0, |reading| reading.unix_ns),
            partial: failure.is_some(),
            problems: Vec::new(),
            remarks: Vec::new(),
            thresholds: Vec::new(),
            server,
            doubt,
            plan: plan.clone(),
            latencies: tally.windows.iter().map(|window| window.latency.clone()).collect(),
            bystander_latencies: tally.windows.iter().map(|window| window.bystanders.clone()).collect(),
            fault_log: tally.fault_log,
            start_ns,
        };
        report.idle_bytes = report.idle_growth().map(|(pss, _)| pss);
        let kept_up = report.windows.iter().take_while(|row| row.kept_up == Some(true)).last();
        report.kept_up_per_second = kept_up.and_then(|row| row.due_per_second);
        report.idle_cpu_us_per_second = report.idle_cpu();
        report.judge(failure, tally.failure, tally.refusal);
        if plan.shared {
            report.leave_out_shared();
        }
        report.judge_thresholds();
        report
    }

    /// A run that never began.
    pub(crate) fn failed(plan: &Plan, reason: Reason) -> Self {
        let outcome = Outcome {
            tally: Tally::new(0),
            timeline: Timeline::new(plan.timing(), 0),
            end_ns: 0,
            readings: Vec::new(),
            idling: None,
            failure: Some(reason),
            server: Vec::new(),
            doubt: None,
        };
        Self::new(plan, outcome)
    }

    /// Whether everything arrived as it should, and the generator kept up.
    pub fn is_clean(&self) -> bool {
        self.verdict == Verdict::Clean
    }

    /// What the load on the machine was when the run ended.
    pub(crate) fn with_load(self, load: Load) -> Self {
        Self { load, ..self }
    }

    fn put_reason(&mut self, blame: Blame, sentence: String) {
        self.problems.push(sentence.clone());
        self.reasons.push(Reason { blame, sentence });
        self.verdict = Verdict::of(&self.reasons);
    }

    /// Compares what was measured with the plan's thresholds.
    fn judge_thresholds(&mut self) {
        let measured: Vec<_> = self.plan.fail_if.iter().map(|threshold| threshold.measure(self)).collect();
        for measured in &measured {
            if let Some(sentence) = measured.failure() {
                self.put_reason(Blame::Threshold, sentence);
            }
        }
        self.thresholds = measured;
    }

    fn leave_out_shared(&mut self) {
        let Row { server_cores, generator_cores, .. } = self.summary;
        self.all_parts = Some(AllParts { server_cores, generator_cores });
        self.windows.iter_mut().chain([&mut self.summary]).for_each(Row::leave_out_shared);
        self.idle_bytes = None;
        self.idle_cpu_us_per_second = None;
    }

    /// The server's CPU time in the windows, in microseconds a second for each connection.
    fn idle_cpu(&self) -> Option<f64> {
        let Work::Idle(IdlePlan { connections, .. }) = &self.plan.work else { return None };
        Some(self.summary.server_cores? * 1e6 / f64::from(*connections))
    }

    /// Connections by which the server's memory grows between its readings.
    fn rests(&self) -> u32 {
        match &self.plan.work {
            Work::Idle(IdlePlan { base, connections, .. }) => connections - base,
            _ => 0,
        }
    }

    /// Growth of the server's memory for each connection, in bytes: proportional set size, resident set size.
    pub fn idle_growth(&self) -> Option<(f64, f64)> {
        let Work::Idle(IdlePlan { base, connections, .. }) = &self.plan.work else { return None };
        let idling = self.idling.as_ref().filter(|_| self.all_parts.is_none())?;
        let (before, after) = (idling.base?, idling.full?);
        let each = |before: u64, after: u64| (after as f64 - before as f64) / f64::from(connections - base);
        Some((each(before.pss_bytes, after.pss_bytes), each(before.rss_bytes, after.rss_bytes)))
    }
}

/// The ticks of the windows that there were.
fn tick_rows(plan: &Plan, tally: &Tally, windows: &[Row]) -> Vec<TickRow> {
    let tick = plan.timing().tick_ns() as f64 / 1e9;
    let end = windows.iter().map(|row| row.seconds).sum::<f64>();
    let rows = tally.ticks.iter().enumerate().map(|(number, counted)| {
        let second = number as f64 * tick;
        let length = (end - second).min(tick);
        TickRow { second, per_second: counted.count as f64 / length, max_ms: counted.max_ns as f64 / 1e6 }
    });
    rows.take_while(|row| row.second + 1e-6 < end).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{plan::tests::plan, tally::WindowTally};

    pub(crate) fn reading(second: u64) -> Reading {
        Reading {
            at_ns: second * 1_000_000_000,
            unix_ns: second * 1_000_000_000,
            server_cpu_ns: None,
            server_ticks_ns: None,
            server_threads: HashMap::new(),
            server_cores: 0,
            generator_cpu_ns: None,
        }
    }

    /// Of a run of these windows, a second long each.
    pub(crate) fn report_of(line: &str, windows: Vec<WindowTally>, last: Reading) -> Report {
        let mut plan = plan(line);
        let count = windows.len() as u32;
        (plan.windows, plan.window_seconds, plan.warmup_seconds) = (count, 1.0, 0.0);
        let mut tally = Tally::new(0);
        tally.windows = windows;
        let server_cpu_ns = last.server_cpu_ns.map(|_| 0);
        let first = Reading { server_cpu_ns, server_cores: last.server_cores, ..reading(0) };
        let between =
            (1..count).map(|second| Reading { at_ns: u64::from(second) * 1_000_000_000, ..first.clone() });
        let readings: Vec<_> = [first.clone()].into_iter().chain(between).chain([last]).collect();
        let timeline = Timeline::new(plan.timing(), 0);
        let server = vec![ProcessInfo { pid: 1, name: "x".into(), version: None, command: "x".into() }];
        let outcome = Outcome {
            tally,
            timeline,
            end_ns: u64::MAX,
            readings,
            idling: None,
            failure: None,
            server,
            doubt: None,
        };
        Report::new(&plan, outcome)
    }

    /// Of a run of one window, a second long.
    fn report(line: &str, window: impl FnOnce(&mut WindowTally), last: Reading) -> Report {
        let mut tally = WindowTally { deliveries: 1, arrived: 1, ..WindowTally::default() };
        window(&mut tally);
        report_of(line, vec![tally], last)
    }

    /// Of a run whose busiest worker had so much to do, against a server of two cores whose threads used so
    /// much.
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
    fn ceiling_must_be_the_servers_unless_a_lower_bound_will_do() {
        for (line, busy_ms, server_ms, limit, is_clean) in [
            ("loadgen fanout --rate 10", 960, [500, 0], Limit::Generator, false),
            ("loadgen fanout --rate 10 --lower-bound", 960, [990, 990], Limit::Both, false),
            ("loadgen fanout --rate 10", 900, [500, 0], Limit::Neither, true),
            ("loadgen fanout --threads 2", 960, [500, 0], Limit::Generator, false),
            ("loadgen fanout --spin", 960, [500, 0], Limit::Generator, false),
            ("loadgen fanout", 480, [370, 0], Limit::Neither, false),
            ("loadgen fanout --lower-bound", 480, [370, 0], Limit::Neither, true),
            ("loadgen presence", 480, [370, 0], Limit::Neither, false),
            ("loadgen connect", 480, [370, 0], Limit::Neither, false),
            ("loadgen fanout", 900, [970, 0], Limit::Server, true),
            ("loadgen fanout", 960, [980, 10], Limit::Both, true),
            ("loadgen fanout", 960, [940, 940], Limit::Generator, false),
            ("loadgen fanout --lower-bound", 960, [500, 0], Limit::Generator, true),
            ("loadgen connect", 960, [500, 0], Limit::Generator, false),
        ] {
            let report = busy_report(line, busy_ms, &server_ms);
            assert_eq!(report.limit, limit, "{line} {server_ms:?}");
            let verdict = if is_clean { Verdict::Clean } else { Verdict::Generator };
            assert_eq!(report.verdict, verdict, "{line} {server_ms:?}: {:?}", report.problems);
        }
        let report = busy_report("loadgen send --lower-bound", 960, &[500, 0]);
        assert!(report.remarks[0].contains("can do at least this"), "{:?}", report.remarks);
        let report = busy_report("loadgen send -w 7", 480, &[370, 0]);
        let problem = &report.problems[0];
        assert!(
            problem.contains("37 %") && problem.contains("48 %") && problem.contains("the 7 messages"),
            "{problem}"
        );
        // Threads in turns, on all the cores they have.
        let report = busy_report("loadgen send", 960, &[660, 660, 660]);
        assert!(
            report.is_clean() && report.remarks[1].contains("The server was saturated (1.98"),
            "{:?}",
            report.remarks
        );
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

    /// A window of messages with this latency each.
    fn window(messages: u64, each: u64, latency_ns: impl Fn(u64) -> u64) -> WindowTally {
        let deliveries = messages * each;
        let mut window = WindowTally {
            deliveries,
            arrived: deliveries,
            due: deliveries,
            messages,
            scheduled: messages,
            ..WindowTally::default()
        };
        (0..messages).for_each(|message| (0..each).for_each(|_| window.latency.record(latency_ns(message))));
        window
    }

    #[test]
    fn summary_is_of_all_windows_and_one_that_stands_out_is_named() {
        let quiet = || window(300, 20, |message| 1_000_000 + message * 1_000);
        // The server stopped for two of three seconds: every message waits for its end.
        let stopped =
            window(300, 20, |message| 2_000_000_000_u64.saturating_sub(message * 10_000_000).max(1_000_000));
        let report = report_of("loadgen fanout -n 20 -r 300", vec![quiet(), quiet(), stopped], reading(3));
        assert!(report.summary.latency.p99_us > 1_800_000.0, "{:?}", report.summary.latency);
        assert!(report.summary.latency.max_us > 1_999_000.0);
        assert_eq!(report.summary.latency.count, 18_000);
        let named: Vec<_> = report.remarks.iter().filter(|remark| remark.starts_with("Window ")).collect();
        assert!(named.len() == 1 && named[0].starts_with("Window 3: p99 15"), "{named:?}");
        // Windows that differ by chance are not.
        let noisy = |seed: u64| window(300, 20, |message| 1_000_000 + message * (seed + 7) % 101 * 5_000);
        let report = report_of("loadgen fanout -n 20 -r 300", (0..3).map(noisy).collect(), reading(3));
        assert!(report.remarks.iter().all(|remark| !remark.starts_with("Window")), "{:?}", report.remarks);
    }

    #[test]
    fn rate_that_falls_short_of_what_was_due_is_named_and_fails() {
        for (came, is_clean) in [(100, true), (99, true), (97, false)] {
            let short = || {
                let mut window = window(came, 1, |_| 1_000_000);
                window.due = 100;
                window
            };
            let report = report_of("loadgen fanout -n 1 -r 100", vec![short()], reading(1));
            assert_eq!(report.is_clean(), is_clean, "{came}: {:?}", report.problems);
            assert_eq!(report.summary.due_per_second, Some(100.0));
        }
    }

    #[test]
    fn what_did_not_come_is_the_servers_fault_unless_the_generator_had_no_time_to_read() {
        for (busy_ms, late, blame) in
            [(500, 0, Blame::Server), (500, 50, Blame::Server), (990, 0, Blame::Generator)]
        {
            let mut half = window(50, 1, |_| 1_000_000);
            (half.due, half.scheduled, half.late, half.busy_ns) = (100, 100, late, busy_ms * 1_000_000);
            let report = report_of("loadgen fanout -n 1 -r 100", vec![half], reading(1));
            let reason =
                report.reasons.iter().find(|reason| reason.sentence.contains("50.0 % of what was due"));
            assert_eq!(reason.map(|reason| reason.blame), Some(blame), "{:?}", report.reasons);
        }
    }

    #[test]
    fn server_that_died_has_no_account_and_halves_nothing() {
        let dead = Reading { server_cpu_ns: None, ..reading(1) };
        let mut alive = reading(0);
        alive.server_cpu_ns = Some(5);
        let row = Row::new(&alive, &dead, &window(10, 1, |_| 1), 1.0);
        assert_eq!((row.server_cores, row.server_s_per_million_deliveries), (None, None));
        // One of its threads has ended and took its time along.
        let less = Reading { server_cpu_ns: Some(2), ..reading(1) };
        assert_eq!(Row::new(&alive, &less, &window(10, 1, |_| 1), 1.0).server_cores, None);
    }

    #[test]
    fn thresholds_are_shown_with_what_was_measured_and_fail_when_it_was_not() {
        let line =
            "loadgen fanout -n 20 -r 300 --fail-if p99>5ms,lost>0 --fail-if deliveries<100/s,kept-up<5";
        let report = report_of(line, vec![window(300, 20, |_| 9_000_000)], reading(1));
        let found: Vec<_> = report.thresholds.iter().map(|measured| measured.is_true).collect();
        assert_eq!(found, [Some(true), Some(false), Some(false), None]);
        assert_eq!((report.verdict, report.problems.len()), (Verdict::Threshold, 2));
        assert!(report.problems[0].contains("p99>5ms (9.0"), "{:?}", report.problems);
        let table = report.table();
        assert!(table.contains("fail if p99>5ms") && table.contains("6000/s"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }
}
