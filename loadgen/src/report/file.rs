//! Reports as files: JSON for programs, HDR interval logs for whoever draws them, HTML for people.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};
use serde::Serialize;

use super::Report;
use crate::plan::Plan;

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
    let mut json = serde_json::to_string_pretty(&File { format: 1, runs }).expect("numbers and strings");
    json.push('\n');
    json
}

/// Each window's latencies in nanoseconds, as an interval log (`.hlog`) with the scenario as tag.
pub fn to_hlog(runs: &[(String, Report)]) -> Vec<u8> {
    let mut out = Vec::new();
    let start_ns = runs.iter().map(|(_, report)| report.started_unix_ns).min().unwrap_or_default();
    let start = UNIX_EPOCH + Duration::from_nanos(start_ns);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("fanfare-loadgen; latencies in nanoseconds")
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(&mut out, &mut serializer)
        .expect("a vector takes everything");
    for (_, report) in runs {
        let mut at = Duration::from_nanos(report.started_unix_ns - start_ns);
        for (row, latency) in report.windows.iter().zip(&report.latencies) {
            let length = Duration::from_secs_f64(row.seconds);
            log.write_histogram(latency.histogram(), at, length, Tag::new(report.scenario))
                .expect("a vector takes every histogram");
            at += length;
        }
    }
    drop(log);
    out
}
