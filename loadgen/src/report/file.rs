//! Reports as files: JSON for programs, HDR interval logs for whoever draws them, HTML for people.

use std::time::{Duration, UNIX_EPOCH};

use fanfare_doctor::Examination;
use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};
use serde::Serialize;

use super::Report;
use crate::{
    COMMIT, VERSION,
    faults::{FaultKind, MAX_FAULTS},
    plan::Plan,
    procfs::without_secrets,
    verdict::Verdict,
};

/// Of the reports for programs: another one for what older programs would misread.
pub(crate) const FORMAT: u32 = 2;

/// The reports of all parts of all phases, with their plans, as JSON.
pub fn to_json(runs: &[(String, Report)]) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        format: u32,
        version: &'static str,
        commit: &'static str,
        command_line: Vec<String>,
        /// The worst of all runs.
        verdict: Verdict,
        runs: Vec<Run<'a>>,
    }
    #[derive(Serialize)]
    struct Run<'a> {
        phase: &'a str,
        plan: &'a Plan,
        /// What the machine gives to the generator.
        examination: Examination,
        report: &'a Report,
    }
    let verdict = runs.iter().map(|(_, report)| report.verdict).max().unwrap_or(Verdict::Clean);
    let runs = runs
        .iter()
        .map(|(phase, report)| Run { phase, plan: &report.plan, examination: report.plan.examine(), report })
        .collect();
    let command_line = command_line();
    let file = File { format: FORMAT, version: VERSION, commit: COMMIT, command_line, verdict, runs };
    let mut json = serde_json::to_string_pretty(&file).expect("numbers and strings");
    json.push('\n');
    json
}

/// The first faults of all runs, as JSON lines.
pub fn to_faults(runs: &[(String, Report)]) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        phase: &'a str,
        scenario: &'static str,
        kind: FaultKind,
        /// Since the warm-up began.
        seconds: f64,
        subscriber: String,
        #[serde(flatten)]
        place: Place<'a>,
    }
    #[derive(Serialize)]
    struct Place<'a> {
        channel: Option<&'a str>,
        publisher: Option<u32>,
        sequence: Option<u32>,
        offset: Option<u64>,
        last_offset: Option<u64>,
    }
    let mut out = String::new();
    let faults = runs.iter().flat_map(|(phase, report)| {
        report.fault_log.records().iter().map(move |fault| (phase, report, fault))
    });
    for (phase, report, fault) in faults.take(MAX_FAULTS) {
        let (worker, slot) = fault.subscriber;
        let line = Line {
            phase,
            scenario: report.scenario,
            kind: fault.kind,
            seconds: fault.at_ns.saturating_sub(report.start_ns) as f64 / 1e9,
            subscriber: format!("{worker}/{slot}"),
            place: Place {
                channel: fault.channel.as_deref(),
                publisher: fault.publisher,
                sequence: fault.sequence,
                offset: fault.offset,
                last_offset: fault.last_offset,
            },
        };
        out += &serde_json::to_string(&line).expect("numbers and strings");
        out.push('\n');
    }
    out
}

/// The program's command line; the values of keys and secrets are left out.
pub(super) fn command_line() -> Vec<String> {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    without_secrets(&words)
}

/// Each window's latencies in nanoseconds, as an interval log (`.hlog`). Intervals of a mix have a tag:
/// phase, number and scenario; those of a storm's bystanders are intervals of their own, tagged `bystanders`.
pub fn to_hlog(runs: &[(String, Report)]) -> Vec<u8> {
    let mut out = Vec::new();
    // A run that never came to its first window has no start.
    let starts = runs.iter().map(|(_, report)| report.started_unix_ns).filter(|start_ns| *start_ns > 0);
    let start_ns = starts.min().unwrap_or_default();
    let start = UNIX_EPOCH + Duration::from_nanos(start_ns);
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("fanfare-loadgen; latencies in nanoseconds");
    for (number, (_, report)) in runs.iter().enumerate() {
        let plan = serde_json::to_string(&report.plan).expect("numbers and strings");
        let tag = tag_name(runs, number);
        builder.add_comment(&format!("plan of {tag}: {plan}"));
        let verdict = if report.partial { "partial" } else { "failed" };
        for problem in &report.problems {
            builder.add_comment(&format!("{tag} is {verdict}: {problem}"));
        }
    }
    let mut log = builder
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(&mut out, &mut serializer)
        .expect("a vector takes everything");
    for (number, (phase, report)) in runs.iter().enumerate() {
        // A log of one series is untagged, as most tools read it.
        let tag = (!phase.is_empty()).then(|| tag_name(runs, number));
        let bystanders_tag =
            Some(tag.as_ref().map_or("bystanders".into(), |tag| format!("{tag}-bystanders")));
        let mut at = Duration::from_nanos(report.started_unix_ns.saturating_sub(start_ns));
        let latencies = report.latencies.iter().zip(&report.bystander_latencies);
        for (row, (latency, bystanders)) in report.windows.iter().zip(latencies) {
            let length = Duration::from_secs_f64(row.seconds);
            for (tag, latency) in [(&tag, Some(latency)), (&bystanders_tag, bystanders.as_ref())] {
                if let Some(latency) = latency {
                    log.write_histogram(latency.histogram(), at, length, tag.as_deref().and_then(Tag::new))
                        .expect("a vector takes every histogram");
                }
            }
            at += length;
        }
    }
    drop(log);
    out
}

/// What a run is called: of a command line, the scenario; of a mix, `busy, part 2: fanout`.
pub fn part_name(runs: &[(String, Report)], number: usize) -> String {
    let (phase, report) = &runs[number];
    match phase.as_str() {
        "" => report.scenario.to_owned(),
        phase => format!("{phase}, part {}: {}", part_number(runs, number), report.scenario),
    }
}

/// The number of a run among those of its phase.
fn part_number(runs: &[(String, Report)], number: usize) -> usize {
    runs[..=number].iter().filter(|(phase, _)| *phase == runs[number].0).count()
}

/// The same as a tag: `busy-2-fanout`. What a tag cannot have in it becomes a hyphen.
fn tag_name(runs: &[(String, Report)], number: usize) -> String {
    let (phase, report) = &runs[number];
    if phase.is_empty() {
        return report.scenario.to_owned();
    }
    let phase: String =
        phase.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
    format!("{phase}-{}-{}", part_number(runs, number), report.scenario)
}
