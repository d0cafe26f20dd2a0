//! Saved reports side by side: by how much each of the others differs from the first, and whether that is
//! more than chance. A side is one run or several of the same; a sample is a run.

mod judge;
mod show;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

pub use judge::Finding;
use judge::{Difference, Sides, Strictness};
use serde::{Deserialize, Serialize};
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
    /// By how much numbers may be worse.
    pub gate: Tolerances,
    /// Compare different machines and plans too.
    pub force: bool,
}

/// Percent by which numbers may be worse. What has none is shown and not judged.
#[derive(Debug, Clone, Default)]
pub struct Tolerances {
    all: Option<f64>,
    each: Vec<(&'static str, f64)>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// The worst of all numbers that are judged.
    pub finding: Finding,
    sections: Vec<Section>,
}

/// One part of one side, compared with the first side's.
#[derive(Debug, Clone, Serialize)]
struct Section {
    scenario: String,
    phase: String,
    before: Vec<PathBuf>,
    after: Vec<PathBuf>,
    /// Whether there are several others to tell apart.
    is_one_of_several: bool,
    numbers: Vec<Number>,
    /// Latencies by percentile, of the first run of each side.
    curves: [Vec<(f64, f64)>; 2],
}

/// One number of both.
#[derive(Debug, Clone, Serialize)]
struct Number {
    name: &'static str,
    key: &'static str,
    more_is_better: bool,
    #[serde(flatten)]
    difference: Difference,
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
    summary: Value,
    #[serde(default)]
    curve: Vec<(f64, f64)>,
    idle_bytes: Option<f64>,
    kept_up_per_second: Option<f64>,
    started_unix_ns: u64,
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
    /// Whether `--gate` for all numbers is for this one: the far tail has too few values for that.
    is_of_all: bool,
}

/// Where the number is.
enum Source {
    /// In the row of all windows: at this path.
    Row(&'static str),
    /// In a run as a whole.
    Run(fn(&Saved) -> Option<f64>),
}

const METRICS: [Metric; 11] = [
    more("deliveries/s", "deliveries", Source::Row("/deliveries_per_second")),
    more("operations/s", "operations", Source::Row("/operations_per_second")),
    less("server s/M deliveries", "cpu-deliveries", Source::Row("/server_s_per_million_deliveries")),
    less("server s/M operations", "cpu-operations", Source::Row("/server_s_per_million_operations")),
    less("latency p50 µs", "p50", Source::Row("/latency/p50_us")),
    less("latency p99 µs", "p99", Source::Row("/latency/p99_us")),
    tail("latency p99.9 µs", "p99.9", Source::Row("/latency/p999_us")),
    tail("latency max µs", "max", Source::Row("/latency/max_us")),
    less("bystanders p99 µs", "bystanders-p99", Source::Row("/bystander_latency/p99_us")),
    more("kept up, cycles/s", "kept-up", Source::Run(|run| run.kept_up_per_second)),
    less("bytes at rest", "bytes", Source::Run(|run| run.idle_bytes)),
];

const fn more(name: &'static str, key: &'static str, source: Source) -> Metric {
    Metric { name, key, source, more_is_better: true, is_of_all: true }
}

const fn less(name: &'static str, key: &'static str, source: Source) -> Metric {
    Metric { name, key, source, more_is_better: false, is_of_all: true }
}

const fn tail(name: &'static str, key: &'static str, source: Source) -> Metric {
    Metric { name, key, source, more_is_better: false, is_of_all: false }
}

impl Metric {
    /// The number of a run. A rate of nothing is none that the scenario has.
    fn of(&self, run: &Run) -> Option<f64> {
        let number = match &self.source {
            Source::Run(number) => number(&run.report),
            Source::Row(path) => run.report.summary.pointer(path)?.as_f64(),
        };
        number.filter(|number| *number > 0.0)
    }
}

impl Tolerances {
    /// Of `5` for all, and `p99=20` or `p99=20%` for one.
    pub fn read(words: &[String]) -> Result<Self, PlanError> {
        let mut tolerances = Self::default();
        for word in words {
            let (key, number) =
                word.split_once('=').map_or((None, word.as_str()), |(key, number)| (Some(key), number));
            let number = number.trim().trim_end_matches('%').trim_end();
            let percent = number.parse().ok().filter(|percent: &f64| percent.is_finite() && *percent >= 0.0);
            let Some(percent) = percent else {
                return Err(PlanError(format!("The gate {word:?} is no number of percent.")));
            };
            let Some(key) = key else {
                tolerances.all = Some(percent);
                continue;
            };
            let Some(metric) = METRICS.iter().find(|metric| metric.key == key.trim()) else {
                let keys = METRICS.map(|metric| metric.key).join(", ");
                return Err(PlanError(format!("No number is called {key:?} by --gate: there are {keys}.")));
            };
            tolerances.each.push((metric.key, percent));
        }
        Ok(tolerances)
    }

    fn of(&self, metric: &Metric) -> Option<f64> {
        let own = self.each.iter().rev().find(|(key, _)| *key == metric.key);
        own.map(|(_, percent)| *percent).or(self.all.filter(|_| metric.is_of_all))
    }
}

impl Judgement {
    /// 0 if the gate is passed or there is none, 1 if a number is worse, 3 if the runs cannot say.
    pub fn exit_status(&self) -> u8 {
        match self.finding {
            Finding::NotJudged | Finding::Same => 0,
            Finding::Worse => 1,
            Finding::Inconclusive => 3,
        }
    }
}

impl Comparison {
    /// Reads the reports and compares them.
    pub fn judge(&self) -> Result<Judgement, PlanError> {
        let sides = self.sides.iter().map(|paths| read_all(paths)).collect::<Result<Vec<_>, _>>()?;
        let [before, others @ ..] = &sides[..] else {
            return Err(PlanError("There is nothing to compare.".into()));
        };
        refuse_twins(&sides)?;
        let count = before[0].runs.len();
        if sides.iter().flatten().any(|file| file.runs.len() != count) {
            return Err(PlanError("The reports have different numbers of parts.".into()));
        }
        let mut sections = Vec::new();
        for (after, paths) in others.iter().zip(&self.sides[1..]) {
            for number in 0..count {
                let mut section = self.compare_runs(&numbered(before, number), &numbered(after, number))?;
                section.before.clone_from(&self.sides[0]);
                section.after.clone_from(paths);
                section.is_one_of_several = others.len() > 1;
                sections.push(section);
            }
        }
        let findings = sections.iter().flat_map(|section| &section.numbers);
        let finding = findings.map(|number| number.difference.finding).max().unwrap_or(Finding::NotJudged);
        self.refuse_blindness(&sections)?;
        Ok(Judgement { finding, sections })
    }

    /// A number that the gate asks for and no run has would pass unseen.
    fn refuse_blindness(&self, sections: &[Section]) -> Result<(), PlanError> {
        let has =
            |key: &str| sections.iter().flat_map(|section| &section.numbers).any(|number| number.key == key);
        match self.gate.each.iter().find(|(key, _)| !has(key)) {
            Some((key, _)) => {
                Err(PlanError(format!("No run has the number {key} that the gate is to judge.")))
            }
            None => Ok(()),
        }
    }

    fn compare_runs(&self, before: &[&Run], after: &[&Run]) -> Result<Section, PlanError> {
        let first = before[0];
        for run in before.iter().chain(after) {
            self.admit(first, run)?;
        }
        let samples =
            |runs: &[&Run], metric: &Metric| runs.iter().map(|run| metric.of(run)).collect::<Vec<_>>();
        let is_there = |metric: &&Metric| before.iter().chain(after).any(|run| metric.of(run).is_some());
        let there: Vec<&Metric> = METRICS.iter().filter(is_there).collect();
        let family = there.iter().filter(|metric| self.gate.of(metric).is_some()).count();
        let numbers = there.iter().filter_map(|metric| {
            let (before, after) = (samples(before, metric), samples(after, metric));
            let strictness =
                Strictness { more_is_better: metric.more_is_better, tolerance: self.gate.of(metric), family };
            let difference = judge::compare(Sides { before: &before, after: &after }, strictness)?;
            let Metric { name, key, more_is_better, .. } = **metric;
            Some(Number { name, key, more_is_better, difference })
        });
        Ok(Section {
            scenario: first.report.scenario.clone(),
            phase: first.phase.clone(),
            before: Vec::new(),
            after: Vec::new(),
            is_one_of_several: false,
            numbers: numbers.collect(),
            curves: [before[0].report.curve.clone(), after[0].report.curve.clone()],
        })
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
}

/// Refuses the same run twice, also under two names: it is one sample.
fn refuse_twins(sides: &[Vec<File>]) -> Result<(), PlanError> {
    let mut seen = HashSet::new();
    for run in sides.iter().flatten().flat_map(|file| &file.runs) {
        let number = |name| run.plan.get(name).and_then(Value::as_u64);
        if !seen.insert((run.report.started_unix_ns, number("run"), number("seed"))) {
            let path = run.report.path.display();
            return Err(PlanError(format!("The run of {path} is there twice: it is one sample and no two.")));
        }
    }
    Ok(())
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
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    // Before anything else, which another format may call otherwise.
    if value.get("format").and_then(Value::as_u64) != Some(u64::from(FORMAT)) {
        let format = value.get("format").map_or("no known one".into(), Value::to_string);
        return Err(wrong(format!("it is of format {format}, and this program reads {FORMAT}")));
    }
    let mut file: File = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    if file.format != FORMAT || file.runs.is_empty() {
        return Err(wrong("it has no runs".into()));
    }
    file.runs.iter_mut().for_each(|run| path.clone_into(&mut run.report.path));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_can_have_a_tolerance_of_its_own() {
        let metric = |key| METRICS.iter().find(|metric| metric.key == key).expect("a number");
        for (gate, key, tolerance) in [
            ("5", "p99", Some(5.0)),
            ("5,p99=20", "p99", Some(20.0)),
            ("5,p99=20", "p50", Some(5.0)),
            ("p99=20", "p50", None),
            ("p50=1%", "p50", Some(1.0)),
            ("5%", "deliveries", Some(5.0)),
            ("5", "max", None),
            ("5,max=50", "max", Some(50.0)),
        ] {
            let words: Vec<_> = gate.split(',').map(str::to_owned).collect();
            let tolerances = Tolerances::read(&words).expect("a gate");
            assert_eq!(tolerances.of(metric(key)), tolerance, "{gate} for {key}");
        }
        for gate in ["", "five", "-1", "p99", "p99=", "p98=5", "nan", "deliveries=inf", "%"] {
            let refusal = Tolerances::read(&[gate.into()]).expect_err(gate);
            assert!(refusal.0.ends_with('.') && !refusal.0.contains('\n'), "{refusal}");
        }
    }
}
