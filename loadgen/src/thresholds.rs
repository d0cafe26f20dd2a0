//! Conditions on the numbers of a report: `p99>5ms`, `lost=0`, `deliveries<100000/s`. With `--fail-if` a run
//! fails when one is true; with `--slo` a rate holds when all are. A number that was not measured makes
//! neither: it fails a run.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::report::Report;

/// A condition, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    text: String,
    /// Its place in the table of numbers.
    metric: usize,
    relation: Relation,
    value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Greater,
    AtLeast,
    Less,
    AtMost,
    Equal,
    Unequal,
}

/// A threshold, and what a run has to show for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The condition, as it was written.
    pub condition: String,
    /// What was measured, in the unit of the condition's kind: milliseconds, a second, percent or none.
    pub value: Option<f64>,
    /// How that is written.
    pub shown: String,
    /// Whether the condition is true.
    pub is_true: Option<bool>,
}

/// What a number is a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    PerSecond,
    Percent,
    None,
}

struct Metric {
    key: &'static str,
    unit: Unit,
    of: fn(&Report) -> Option<f64>,
}

const fn metric(key: &'static str, unit: Unit, of: fn(&Report) -> Option<f64>) -> Metric {
    Metric { key, unit, of }
}

const fn count(key: &'static str, of: fn(&Report) -> Option<f64>) -> Metric {
    Metric { key, unit: Unit::None, of }
}

/// A latency, if there are any.
fn latency(report: &Report, us: f64) -> Option<f64> {
    (report.summary.latency.count > 0).then_some(us / 1e3)
}

/// A number of faults, if that is checked at all.
fn fault(report: &Report, kind: &str, count: u64) -> Option<f64> {
    (!report.not_checked.contains(&kind)).then_some(count as f64)
}

/// A rate, if there was time to measure one.
fn rate(report: &Report, per_second: f64) -> Option<f64> {
    (!report.windows.is_empty()).then_some(per_second)
}

const METRICS: [Metric; 34] = [
    metric("p50", Unit::Milliseconds, |report| latency(report, report.summary.latency.p50_us)),
    metric("p90", Unit::Milliseconds, |report| latency(report, report.summary.latency.p90_us)),
    metric("p99", Unit::Milliseconds, |report| latency(report, report.summary.latency.p99_us)),
    metric("p99.9", Unit::Milliseconds, |report| latency(report, report.summary.latency.p999_us)),
    metric("max", Unit::Milliseconds, |report| latency(report, report.summary.latency.max_us)),
    metric("bystanders-p99", Unit::Milliseconds, |report| {
        Some(report.summary.bystander_latency?.p99_us / 1e3)
    }),
    metric("deliveries", Unit::PerSecond, |report| rate(report, report.summary.deliveries_per_second)),
    metric("messages", Unit::PerSecond, |report| rate(report, report.summary.messages_per_second)),
    metric("operations", Unit::PerSecond, |report| rate(report, report.summary.operations_per_second)),
    metric("due", Unit::PerSecond, |report| report.summary.due_per_second),
    metric("kept-up", Unit::PerSecond, |report| report.kept_up_per_second),
    metric("arrived", Unit::Percent, |report| Some(report.summary.arrived_share? * 100.0)),
    metric("late", Unit::Percent, |report| rate(report, report.summary.late_share * 100.0)),
    metric("busy", Unit::Percent, |report| Some(report.summary.busy_share? * 100.0)),
    metric("server-cpu", Unit::Percent, |report| Some(report.summary.server_cores? * 100.0)),
    count("cpu-deliveries", |report| report.summary.server_s_per_million_deliveries),
    count("cpu-operations", |report| report.summary.server_s_per_million_operations),
    count("bytes", |report| report.idle_bytes),
    count("faults", |report| Some(report.faults.sum() as f64)),
    count("lost", |report| fault(report, "lost", report.faults.lost)),
    count("not-arrived", |report| fault(report, "not arrived", report.faults.not_arrived)),
    count("repeated", |report| fault(report, "repeated", report.faults.repeated)),
    count("reordered", |report| fault(report, "reordered", report.faults.reordered)),
    count("misdelivered", |report| fault(report, "misdelivered", report.faults.misdelivered)),
    count("corrupt", |report| Some(report.faults.corrupt as f64)),
    count("holes", |report| fault(report, "holes", report.faults.holes)),
    count("refused", |report| Some(report.refused as f64)),
    count("trigger-refused", |report| Some(report.verdicts?.refused as f64)),
    count("trigger-failed", |report| Some(report.verdicts?.failed as f64)),
    count("trigger-answered", |report| Some(report.verdicts?.answered as f64)),
    count("gaps", |report| Some(report.gaps as f64)),
    count("failed", |report| Some(report.failed as f64)),
    count("unfinished", |report| Some((report.unfinished + report.never_begun) as f64)),
    count("stragglers", |report| Some(report.stragglers as f64)),
];

impl Threshold {
    /// Several of them, with commas between.
    pub(crate) fn read_all(words: &[String]) -> Result<Vec<Self>, String> {
        let words = words.iter().flat_map(|word| word.split(',')).map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::parse).collect()
    }

    /// Looks up what a report has to show.
    pub(crate) fn measure(&self, report: &Report) -> Measured {
        let metric = &METRICS[self.metric];
        let value = (metric.of)(report);
        Measured {
            condition: self.text.clone(),
            value,
            shown: value.map_or("not measured".into(), |value| show(value, metric.unit)),
            is_true: value.map(|value| self.relation.is_true(value, self.value)),
        }
    }
}

impl Measured {
    /// Why a run fails that must not have this, if it does.
    pub(crate) fn failure(&self) -> Option<String> {
        match self.is_true {
            Some(false) => None,
            Some(true) => Some(format!("A threshold was passed: {} ({}).", self.condition, self.shown)),
            None => Some(format!("Whether {} cannot be said: it was not measured.", self.condition)),
        }
    }
}

impl Relation {
    fn is_true(self, measured: f64, value: f64) -> bool {
        match self {
            Self::Greater => measured > value,
            Self::AtLeast => measured >= value,
            Self::Less => measured < value,
            Self::AtMost => measured <= value,
            Self::Equal => measured == value,
            Self::Unequal => measured != value,
        }
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Milliseconds => format!("{value:.3} ms"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Percent => format!("{value:.2} %"),
        Unit::None if value.fract() == 0.0 => format!("{value:.0}"),
        Unit::None => format!("{value:.3}"),
    }
}

/// A number with its unit, in the unit of its kind.
fn value(text: &str, unit: Unit) -> Option<f64> {
    let at = text
        .find(|letter: char| !(letter.is_ascii_digit() || ".+-eE".contains(letter)))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(at);
    let factor = match (unit, suffix.trim()) {
        (Unit::Milliseconds, "us" | "µs") => 1e-3,
        (Unit::Milliseconds, "" | "ms") | (Unit::PerSecond, "" | "/s") | (Unit::None, "") => 1.0,
        (Unit::Percent, "" | "%") => 1.0,
        (Unit::Milliseconds, "s") => 1e3,
        (Unit::PerSecond, "k/s" | "k") => 1e3,
        _ => return None,
    };
    number.parse().ok().filter(|number: &f64| number.is_finite()).map(|number| number * factor)
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RELATIONS: [(&str, Relation); 7] = [
            (">=", Relation::AtLeast),
            ("<=", Relation::AtMost),
            ("!=", Relation::Unequal),
            ("==", Relation::Equal),
            (">", Relation::Greater),
            ("<", Relation::Less),
            ("=", Relation::Equal),
        ];
        let compact: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let found =
            RELATIONS.iter().find_map(|(sign, relation)| Some((compact.split_once(sign)?, *relation)));
        let Some(((key, number), relation)) = found else {
            return Err(format!("The condition {text:?} compares nothing: p99>5ms does"));
        };
        let key = if key == "p999" { "p99.9" } else { key };
        let Some(metric) = METRICS.iter().position(|metric| metric.key == key) else {
            let keys: Vec<_> = METRICS.iter().map(|metric| metric.key).collect();
            return Err(format!("No number is called {key:?}; there are {}", keys.join(", ")));
        };
        let Some(value) = value(number, METRICS[metric].unit) else {
            return Err(format!("The condition {text:?} has no number that {key} could be"));
        };
        Ok(Self { text: text.trim().to_owned(), metric, relation, value })
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.text
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_their_units() {
        for (text, key, value) in [
            ("p99>5ms", "p99", 5.0),
            ("p50 >= 1.5s", "p50", 1500.0),
            ("max<250us", "max", 0.25),
            ("p999!=3", "p99.9", 3.0),
            ("lost>0", "lost", 0.0),
            ("deliveries<100000/s", "deliveries", 100_000.0),
            ("deliveries<100k/s", "deliveries", 100_000.0),
            ("late<=1%", "late", 1.0),
            ("lost==0", "lost", 0.0),
        ] {
            let threshold: Threshold = text.parse().expect(text);
            assert_eq!((METRICS[threshold.metric].key, threshold.value), (key, value), "{text}");
        }
        for text in ["", "p99", "p98>5", "p99>fast", "p99>5%", "lost>0ms", "p99>nan", ">5", "deliveries<5ms"]
        {
            let refusal = text.parse::<Threshold>().expect_err(text);
            assert!(!refusal.contains('\n') && !refusal.ends_with('.'), "{refusal}");
        }
        let words = ["p99>5ms,lost>0".to_owned(), "max>1s".to_owned()];
        assert_eq!(Threshold::read_all(&words).expect("good").len(), 3);
    }
}
