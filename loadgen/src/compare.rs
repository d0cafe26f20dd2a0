//! Saved reports side by side: by how much each of the others differs from the first, and whether that is more than
//! chance. A side is one run or several of the same.
//!
//! Samples are the medians of runs, or the windows when there is only one run on each side. The difference is that of the means of
//! logarithms (a ratio, then), its interval Welch's, for 95 %.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    plan::PlanError,
    report::{FORMAT, Machine},
};

/// What to compare, and how strictly.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Reports of the runs of each side: at least two, and the first is what the others are compared with.
    pub sides: Vec<Vec<PathBuf>>,
    /// By how much numbers may be worse, beyond chance.
    pub gate: Thresholds,
    /// Compare different machines and plans too.
    pub force: bool,
}

/// Percent by which numbers may be worse. What has none is shown and not judged.
#[derive(Debug, Clone, Default)]
pub struct Thresholds {
    all: Option<f64>,
    each: Vec<(&'static str, f64)>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The table.
    pub text: String,
    /// Whether the gate is passed; it is if there is none.
    pub is_passed: bool,
}

#[derive(Deserialize)]
struct File {
    format: u32,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    phase: String,
    plan: Value,
    report: Saved,
}

#[derive(Deserialize)]
struct Saved {
    scenario: String,
    machine: Machine,
    windows: Vec<Value>,
    median: Value,
    idle_bytes: Option<f64>,
    kept_up_per_second: Option<f64>,
    #[serde(skip)]
    path: PathBuf,
    partial: bool,
    problems: Vec<String>,
}

/// A number of a report that is compared.
struct Metric {
    name: &'static str,
    /// What `--gate` calls it.
    key: &'static str,
    source: Source,
    more_is_better: bool,
}

/// Where the number is.
enum Source {
    /// In each row: at this path.
    Row(&'static str),
    /// In a run as a whole.
    Run(fn(&Saved) -> Option<f64>),
}

const METRICS: [Metric; 9] = [
    more("deliveries/s", "deliveries", Source::Row("/deliveries_per_second")),
    more("operations/s", "operations", Source::Row("/operations_per_second")),
    less("server s/M deliveries", "cpu-deliveries", Source::Row("/server_s_per_million_deliveries")),
    less("server s/M operations", "cpu-operations", Source::Row("/server_s_per_million_operations")),
    less("latency p50 µs", "p50", Source::Row("/latency/p50_us")),
    less("latency p99 µs", "p99", Source::Row("/latency/p99_us")),
    less("bystanders p99 µs", "bystanders-p99", Source::Row("/bystander_latency/p99_us")),
    more("kept up, cycles/s", "kept-up", Source::Run(|run| run.kept_up_per_second)),
    less("bytes at rest", "bytes", Source::Run(|run| run.idle_bytes)),
];

const fn more(name: &'static str, key: &'static str, source: Source) -> Metric {
    Metric { name, key, source, more_is_better: true }
}

const fn less(name: &'static str, key: &'static str, source: Source) -> Metric {
    Metric { name, key, source, more_is_better: false }
}

impl Thresholds {
    /// Of `5` for all, and `p99=20` for one.
    pub fn read(words: &[String]) -> Result<Self, PlanError> {
        let mut thresholds = Self::default();
        for word in words {
            let (key, number) =
                word.split_once('=').map_or((None, word.as_str()), |(key, number)| (Some(key), number));
            let percent = number.parse().ok().filter(|percent: &f64| percent.is_finite() && *percent >= 0.0);
            let Some(percent) = percent else {
                return Err(PlanError(format!("The gate {word:?} is no number of percent.")));
            };
            let Some(key) = key else {
                thresholds.all = Some(percent);
                continue;
            };
            let Some(metric) = METRICS.iter().find(|metric| metric.key == key) else {
                let keys = METRICS.map(|metric| metric.key).join(", ");
                return Err(PlanError(format!("No number is called {key:?} by --gate: there are {keys}.")));
            };
            thresholds.each.push((metric.key, percent));
        }
        Ok(thresholds)
    }

    fn of(&self, metric: &Metric) -> Option<f64> {
        let own = self.each.iter().rev().find(|(key, _)| *key == metric.key);
        own.map(|(_, percent)| *percent).or(self.all)
    }
}

impl Comparison {
    /// Reads the reports and compares them.
    pub fn judge(&self) -> Result<Verdict, PlanError> {
        let sides = self.sides.iter().map(|paths| read_all(paths)).collect::<Result<Vec<_>, _>>()?;
        let [before, others @ ..] = &sides[..] else {
            return Err(PlanError("There is nothing to compare.".into()));
        };
        let mut verdict = Verdict { text: String::new(), is_passed: true };
        let count = before[0].runs.len();
        if sides.iter().flatten().any(|file| file.runs.len() != count) {
            return Err(PlanError("The reports have different numbers of parts.".into()));
        }
        for (after, paths) in others.iter().zip(&self.sides[1..]) {
            if others.len() > 1 {
                put_line(&mut verdict.text, format_args!("{} against {}", list(paths), list(&self.sides[0])));
            }
            for number in 0..count {
                self.compare_runs(&numbered(before, number), &numbered(after, number), &mut verdict)?;
            }
        }
        Ok(verdict)
    }

    fn compare_runs(&self, before: &[&Run], after: &[&Run], verdict: &mut Verdict) -> Result<(), PlanError> {
        let first = before[0];
        for run in before.iter().chain(after) {
            self.admit(first, run)?;
        }
        put_line(&mut verdict.text, format_args!("{} {}", first.report.scenario, first.phase));
        let is_one_each = before.len() == 1 && after.len() == 1;
        for metric in &METRICS {
            let (before, after) = (samples(before, metric, is_one_each), samples(after, metric, is_one_each));
            if before.is_empty() != after.is_empty() {
                let line = format_args!("{:>24} is on one side only, and not compared", metric.name);
                put_line(&mut verdict.text, line);
            }
            self.put(verdict, metric, Difference::new(&before, &after));
        }
        Ok(())
    }

    /// Refuses a run that says nothing, or nothing about the same.
    fn admit(&self, first: &Run, run: &Run) -> Result<(), PlanError> {
        if run.report.partial || !run.report.problems.is_empty() {
            let path = run.report.path.display();
            return Err(PlanError(format!("A run that failed cannot be compared: that of {path}.")));
        }
        if !self.force && run.report.machine != first.report.machine {
            let sentence = "The runs were made on different machines: --force compares them all the same.";
            return Err(PlanError(sentence.into()));
        }
        if !self.force && run.plan.get("work") != first.plan.get("work") {
            let sentence = "The runs followed different plans: --force compares them all the same.";
            return Err(PlanError(sentence.into()));
        }
        Ok(())
    }

    fn put(&self, verdict: &mut Verdict, metric: &Metric, difference: Option<Difference>) {
        let Some(difference) = difference else { return };
        let Metric { name, more_is_better, .. } = metric;
        let worse = if *more_is_better { -difference.log_ratio } else { difference.log_ratio };
        let beyond_chance = difference.half_width.is_none_or(|half_width| worse.abs() > half_width);
        let worse_percent = (worse.exp() - 1.0) * 100.0;
        let fails = beyond_chance && self.gate.of(metric).is_some_and(|percent| worse_percent > percent);
        verdict.is_passed &= !fails;
        let interval = difference.half_width.map_or("no interval: one sample".into(), |half_width| {
            let percent = |log: f64| (log.exp() - 1.0) * 100.0;
            let (low, high) = (difference.log_ratio - half_width, difference.log_ratio + half_width);
            format!("95 %: {:+.1} to {:+.1} %", percent(low), percent(high))
        });
        let word = match (fails, beyond_chance, worse > 0.0) {
            (true, ..) => "FAILED",
            (_, false, _) => "no difference",
            (_, _, true) => "worse",
            (_, _, false) => "better",
        };
        let change = (difference.log_ratio.exp() - 1.0) * 100.0;
        let Difference { before, after, .. } = difference;
        put_line(
            &mut verdict.text,
            format_args!("{name:>24} {before:>14.3} {after:>14.3} {change:>+8.1} %  {interval:<28} {word}"),
        );
    }
}

/// How the means of two sets of samples differ.
#[derive(Debug, Clone, Copy)]
struct Difference {
    /// Geometric means.
    before: f64,
    after: f64,
    log_ratio: f64,
    /// Of the interval of `log_ratio`; none if a set has one sample.
    half_width: Option<f64>,
}

impl Difference {
    /// None if a set is empty, or not positive throughout.
    fn new(before: &[f64], after: &[f64]) -> Option<Self> {
        let (mean_before, variance_before) = log_moments(before)?;
        let (mean_after, variance_after) = log_moments(after)?;
        let half_width = match (variance_before, variance_after) {
            (Some(a), Some(b)) => Some(welch_half_width((a, before.len()), (b, after.len()))),
            _ => None,
        };
        let log_ratio = mean_after - mean_before;
        Some(Self { before: mean_before.exp(), after: mean_after.exp(), log_ratio, half_width })
    }
}

fn log_moments(samples: &[f64]) -> Option<(f64, Option<f64>)> {
    if samples.is_empty() || samples.iter().any(|sample| *sample <= 0.0) {
        return None;
    }
    let count = samples.len() as f64;
    let mean = samples.iter().map(|sample| sample.ln()).sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample.ln() - mean).powi(2)).sum();
    Some((mean, (samples.len() > 1).then(|| squares / (count - 1.0))))
}

fn welch_half_width((variance_a, count_a): (f64, usize), (variance_b, count_b): (f64, usize)) -> f64 {
    let (a, b) = (variance_a / count_a as f64, variance_b / count_b as f64);
    if a + b == 0.0 {
        return 0.0;
    }
    let freedom = (a + b).powi(2) / (a * a / (count_a - 1) as f64 + b * b / (count_b - 1) as f64);
    students_t(freedom) * (a + b).sqrt()
}

/// The 97.5 % quantile of Student's t, by table and towards the normal distribution's.
fn students_t(freedom: f64) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    // Rounded down, which is the safe side; but four is not to become three by rounding errors.
    let whole = (freedom + 1e-6).max(1.0).floor() as usize;
    TABLE.get(whole - 1).copied().unwrap_or(1.96 + 2.7 / freedom)
}

/// A number of each run, or of each window.
fn samples(runs: &[&Run], metric: &Metric, of_windows: bool) -> Vec<f64> {
    let at = |row: &Value, path| row.pointer(path)?.as_f64();
    let of_run = |run: &&Run| match (&metric.source, of_windows) {
        (Source::Run(number), _) => number(&run.report).into_iter().collect(),
        (Source::Row(path), true) => run.report.windows.iter().filter_map(|row| at(row, path)).collect(),
        (Source::Row(path), false) => at(&run.report.median, path).into_iter().collect::<Vec<_>>(),
    };
    // A rate of nothing is none that the scenario has.
    runs.iter().flat_map(of_run).filter(|number| *number != 0.0).collect()
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
}

/// The same part of each report.
fn numbered(files: &[File], number: usize) -> Vec<&Run> {
    files.iter().filter_map(|file| file.runs.get(number)).collect()
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<File>, PlanError> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<File, PlanError> {
    let wrong = |why: String| PlanError(format!("The report {} cannot be read: {why}.", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut file: File = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if file.format != FORMAT {
        return Err(wrong(format!("it is of format {}, and this program reads {FORMAT}", file.format)));
    }
    if file.runs.is_empty() {
        return Err(wrong("it has no runs".into()));
    }
    file.runs.iter_mut().for_each(|run| path.clone_into(&mut run.report.path));
    Ok(file)
}

fn put_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_is_a_ratio_with_an_interval_around_it() {
        let difference = Difference::new(&[100.0, 101.0, 99.0], &[200.0, 202.0, 198.0]).expect("samples");
        assert!((difference.log_ratio.exp() - 2.0).abs() < 1e-6);
        let half_width = difference.half_width.expect("more than one sample");
        // Standard deviation 1 % each: sqrt(2/3) % times t of 4 degrees of freedom.
        assert!((half_width - 0.01 * (2.0_f64 / 3.0).sqrt() * 2.776).abs() < 1e-3, "{half_width}");
        assert!(Difference::new(&[1.0], &[2.0]).expect("samples").half_width.is_none());
        assert!(Difference::new(&[], &[2.0]).is_none());
        assert!(Difference::new(&[0.0], &[2.0]).is_none());
    }

    fn judge(gate: &str, metric: &Metric, before: &[f64], after: &[f64]) -> bool {
        let words: Vec<_> = gate.split(',').map(str::to_owned).collect();
        let gate = Thresholds::read(&words).expect("a gate");
        let comparison = Comparison { sides: vec![], gate, force: false };
        let mut verdict = Verdict { text: String::new(), is_passed: true };
        comparison.put(&mut verdict, metric, Difference::new(before, after));
        verdict.is_passed
    }

    #[test]
    fn each_number_can_have_a_threshold_of_its_own() {
        let metric = |key| METRICS.iter().find(|metric| metric.key == key).expect("a number");
        let (before, worse) = ([100.0, 101.0, 99.0], [110.0, 111.0, 109.0]);
        for (gate, key, passes) in [
            ("5", "p99", false),
            ("5,p99=20", "p99", true),
            ("5,p99=20", "p50", false),
            ("p99=20", "p50", true),
            ("20,p50=5", "p50", false),
            ("20,p50=5", "p99", true),
        ] {
            assert_eq!(judge(gate, metric(key), &before, &worse), passes, "{gate} for {key}");
        }
        for gate in ["", "five", "-1", "p99", "p99=", "p98=5", "nan", "deliveries=inf"] {
            let refusal = Thresholds::read(&[gate.into()]).expect_err(gate);
            assert!(refusal.0.ends_with('.') && !refusal.0.contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn gate_fails_only_what_is_worse_by_more_than_it_and_beyond_chance() {
        let judge = |gate: f64, more_is_better, before: &[f64], after: &[f64]| {
            let metric = Metric { name: "x", key: "x", source: Source::Row("/x"), more_is_better };
            judge(&gate.to_string(), &metric, before, after)
        };
        let (fast, slow, noisy) = ([100.0, 101.0, 99.0], [80.0, 81.0, 79.0], [40.0, 200.0, 80.0]);
        assert!(!judge(5.0, true, &fast, &slow));
        assert!(judge(30.0, true, &fast, &slow));
        assert!(judge(5.0, false, &fast, &slow));
        assert!(!judge(5.0, false, &slow, &fast));
        assert!(judge(5.0, true, &fast, &noisy));
    }
}
