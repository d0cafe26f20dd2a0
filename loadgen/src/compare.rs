//! Two saved reports, or several runs of each, side by side: by how much the second differs, and whether that is more
//! than chance.
//!
//! Samples are the medians of runs, or the windows when there is only one run. The difference is that of the means of
//! logarithms (a ratio, then), its interval Welch's, for 95 %.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{plan::PlanError, report::Machine};

/// What to compare, and how strictly.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Reports of the runs before.
    pub before: Vec<PathBuf>,
    /// Reports of the runs after.
    pub after: Vec<PathBuf>,
    /// Percent by which a number may be worse, beyond chance.
    pub gate: Option<f64>,
    /// Compare different machines and plans too.
    pub force: bool,
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
    partial: bool,
    problems: Vec<String>,
}

/// A number of a report that is compared.
struct Metric {
    name: &'static str,
    /// Where it is in a row.
    path: &'static str,
    more_is_better: bool,
}

const METRICS: [Metric; 7] = [
    Metric { name: "deliveries/s", path: "/deliveries_per_second", more_is_better: true },
    Metric { name: "operations/s", path: "/operations_per_second", more_is_better: true },
    Metric { name: "server s/M deliveries", path: "/server_s_per_million_deliveries", more_is_better: false },
    Metric { name: "server s/M operations", path: "/server_s_per_million_operations", more_is_better: false },
    Metric { name: "latency p50 µs", path: "/latency/p50_us", more_is_better: false },
    Metric { name: "latency p99 µs", path: "/latency/p99_us", more_is_better: false },
    Metric { name: "bystanders p99 µs", path: "/bystander_latency/p99_us", more_is_better: false },
];

impl Comparison {
    /// Reads the reports and compares them.
    pub fn judge(&self) -> Result<Verdict, PlanError> {
        let before = read_all(&self.before)?;
        let after = read_all(&self.after)?;
        let mut verdict = Verdict { text: String::new(), is_passed: true };
        let count = before[0].runs.len();
        if before.iter().chain(&after).any(|file| file.runs.len() != count) {
            return Err(PlanError("The reports have different numbers of parts.".into()));
        }
        for number in 0..count {
            self.compare_runs(&numbered(&before, number), &numbered(&after, number), &mut verdict)?;
        }
        Ok(verdict)
    }

    fn compare_runs(&self, before: &[&Run], after: &[&Run], verdict: &mut Verdict) -> Result<(), PlanError> {
        let first = before[0];
        for run in before.iter().chain(after) {
            if run.report.partial || !run.report.problems.is_empty() {
                return Err(PlanError("A run that failed cannot be compared.".into()));
            }
            if !self.force && run.report.machine != first.report.machine {
                let sentence =
                    "The runs were made on different machines: --force compares them all the same.";
                return Err(PlanError(sentence.into()));
            }
            if !self.force && run.plan.get("work") != first.plan.get("work") {
                let sentence = "The runs followed different plans: --force compares them all the same.";
                return Err(PlanError(sentence.into()));
            }
        }
        let text = &mut verdict.text;
        put_line(text, format_args!("{} {}", first.report.scenario, first.phase));
        for metric in &METRICS {
            let difference = Difference::new(&samples(before, metric.path), &samples(after, metric.path));
            self.put(verdict, metric.name, metric.more_is_better, difference);
        }
        let kept_up = |runs: &[&Run]| -> Vec<f64> {
            runs.iter().filter_map(|run| run.report.kept_up_per_second).collect()
        };
        self.put(verdict, "kept up, cycles/s", true, Difference::new(&kept_up(before), &kept_up(after)));
        let idle = |runs: &[&Run]| runs.iter().filter_map(|run| run.report.idle_bytes).collect::<Vec<_>>();
        self.put(verdict, "bytes at rest", false, Difference::new(&idle(before), &idle(after)));
        Ok(())
    }

    fn put(&self, verdict: &mut Verdict, name: &str, more_is_better: bool, difference: Option<Difference>) {
        let Some(difference) = difference else { return };
        let worse = if more_is_better { -difference.log_ratio } else { difference.log_ratio };
        let beyond_chance = difference.half_width.is_none_or(|half_width| worse.abs() > half_width);
        let worse_percent = (worse.exp() - 1.0) * 100.0;
        let fails = beyond_chance && self.gate.is_some_and(|gate| worse_percent > gate);
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

/// A number of each run, or of each window if there is one run.
fn samples(runs: &[&Run], path: &str) -> Vec<f64> {
    let rows: Vec<&Value> = match runs {
        [run] => run.report.windows.iter().collect(),
        runs => runs.iter().map(|run| &run.report.median).collect(),
    };
    rows.iter().filter_map(|row| row.pointer(path)?.as_f64()).collect()
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
    let file: File = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if file.runs.is_empty() {
        return Err(wrong("it has no runs".into()));
    }
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

    #[test]
    fn gate_fails_only_what_is_worse_by_more_than_it_and_beyond_chance() {
        let judge = |gate, more_is_better, before: &[f64], after: &[f64]| {
            let comparison = Comparison { before: vec![], after: vec![], gate: Some(gate), force: false };
            let mut verdict = Verdict { text: String::new(), is_passed: true };
            comparison.put(&mut verdict, "x", more_is_better, Difference::new(before, after));
            verdict.is_passed
        };
        let (fast, slow, noisy) = ([100.0, 101.0, 99.0], [80.0, 81.0, 79.0], [40.0, 200.0, 80.0]);
        assert!(!judge(5.0, true, &fast, &slow));
        assert!(judge(30.0, true, &fast, &slow));
        assert!(judge(5.0, false, &fast, &slow));
        assert!(!judge(5.0, false, &slow, &fast));
        assert!(judge(5.0, true, &fast, &noisy));
    }
}
