//! Reports as files: JSON for programs, HDR interval logs for whoever draws them, HTML for people.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};
use serde::Serialize;

use super::Report;
use crate::plan::Plan;

/// Of the reports for programs: another one for what older programs would misread.
pub(crate) const FORMAT: u32 = 1;

/// The reports of all parts of all phases, with their plans, as JSON.
pub fn to_json(runs: &[(String, Report)]) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        format: u32,
        runs: Vec<Run<'a>>,
    }
    #[derive(Serialize)]
    struct Run<'a> {
        phase: &'a str,
        plan: &'a Plan,
        report: &'a Report,
    }
    let runs = runs.iter().map(|(phase, report)| Run { phase, plan: &report.plan, report }).collect();
    let mut json = serde_json::to_string_pretty(&File { format: FORMAT, runs }).expect("numbers and strings");
    json.push('\n');
    json
}

/// Each window's latencies in nanoseconds, as an interval log (`.hlog`). The tag is the scenario, of a mix behind phase and
/// number; those of a storm's bystanders are intervals of their own, with `-bystanders` behind the tag.
pub fn to_hlog(runs: &[(String, Report)]) -> Vec<u8> {
    let mut out = Vec::new();
    // A run that never came to its first window has no start.
    let starts = runs.iter().map(|(_, report)| report.started_unix_ns).filter(|start_ns| *start_ns > 0);
    let start_ns = starts.min().unwrap_or_default();
    let start = UNIX_EPOCH + Duration::from_nanos(start_ns);
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("fanfare-loadgen; latencies in nanoseconds");
    for (number, (phase, report)) in runs.iter().enumerate() {
        let plan = serde_json::to_string(&report.plan).expect("numbers and strings");
        let tag = tag(phase, number, report.scenario);
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
        let tag = tag(phase, number, report.scenario);
        let bystanders_tag = format!("{tag}-bystanders");
        let mut at = Duration::from_nanos(report.started_unix_ns.saturating_sub(start_ns));
        let latencies = report.latencies.iter().zip(&report.bystander_latencies);
        for (row, (latency, bystanders)) in report.windows.iter().zip(latencies) {
            let length = Duration::from_secs_f64(row.seconds);
            for (tag, latency) in [(&tag, Some(latency)), (&bystanders_tag, bystanders.as_ref())] {
                if let Some(latency) = latency {
                    log.write_histogram(latency.histogram(), at, length, Tag::new(tag))
                        .expect("a vector takes every histogram");
                }
            }
            at += length;
        }
    }
    drop(log);
    out
}

/// Of a command line, the scenario; of a mix, `phase-2-fanout`, so that no two parts have the same. What a tag cannot
/// have in it becomes a hyphen.
fn tag(phase: &str, number: usize, scenario: &str) -> String {
    if phase.is_empty() {
        return scenario.to_owned();
    }
    let phase: String =
        phase.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
    format!("{phase}-{}-{scenario}", number + 1)
}
