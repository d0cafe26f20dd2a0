//! The report as one HTML page that needs nothing else: tables and charts for each part, readable on a
//! telephone, and each chart in words as well.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::{
    Report, Row, StageRow,
    chart::{self, Line},
    file::{command_line, part_name},
};
use crate::{COMMIT, VERSION, histogram::Percentiles};

const STYLE: &str = "\
:root{--ink:#1a1a1a;--soft:#666;--line:#ddd;--page:#fff;--a:#0b62a4;--b:#b3421b;--c:#737373;\
--good:#1b7a3d;--bad:#b00020}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#9a9a9a;--line:#3a3a3a;--page:#161616;\
--a:#5aa9e6;--b:#e8825a;--c:#8a8a8a;--good:#5fc98a;--bad:#ff7088}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:var(--ink);\
background:var(--page);overflow-wrap:anywhere}h2{margin-top:2.5rem}h3{font-size:1rem;margin:1.8rem 0 .2rem}\
p{margin:.3rem 0}\
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}.a{color:var(--a)}.b{color:var(--b)}\
.c{color:var(--c)}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:1rem 0;\
font-variant-numeric:tabular-nums}th,td{padding:.25rem .5rem;text-align:right;white-space:nowrap}\
th:first-child,td:first-child{position:sticky;left:0;background:var(--page)}\
th{color:var(--soft);font-weight:500;border-bottom:1px solid var(--line)}.total td{font-weight:600;\
border-top:1px solid var(--line)}pre{font-size:13px;margin:.5rem 0;white-space:pre-wrap}\
svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}\
svg line{stroke:var(--line)}polyline{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}\
circle{fill:currentColor}@media(max-width:600px){body{margin:1rem auto}svg text{font-size:22px}\
svg text:nth-of-type(even){display:none}polyline{stroke-width:4}}";

/// The page of all parts of all phases.
pub fn to_html(runs: &[(String, Report)]) -> String {
    let mut out = begin("Load report");
    for (number, (_, report)) in runs.iter().enumerate() {
        write_part(&mut out, &part_name(runs, number), report).expect("a string takes everything");
    }
    out + "</html>\n"
}

/// A page up to its heading, and what made it.
pub(crate) fn begin(title: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title} · fanfare-loadgen</title>\
         <meta name=viewport content=\"width=device-width\"><style>{STYLE}</style><h1>{title}</h1>\
         <p class=soft>fanfare-loadgen {VERSION} ({COMMIT})<br>{}</p>",
        escape(&command_line().join(" "))
    )
}

fn write_part(out: &mut String, name: &str, report: &Report) -> fmt::Result {
    let class = if report.is_clean() { "good" } else { "bad" };
    let verdict = if report.partial { "partial" } else { report.verdict.name() };
    write!(out, "<h2>{} · <span class={class}>{verdict}</span></h2>", escape(name))?;
    for problem in &report.problems {
        write!(out, "<p class=bad>{}</p>", escape(problem))?;
    }
    if report.partial {
        write!(out, "<p class=bad>The run ended early: these numbers are partial.</p>")?;
    }
    if report.started_unix_ns > 0 {
        write!(out, "<p class=soft>{}</p>", date(report.started_unix_ns))?;
    }
    write!(out, "<p class=soft>{}</p>", escape(&report.setting()).replace('\n', "<br>"))?;
    write_table(out, report)?;
    write!(out, "<pre>{}</pre>", escape(&report.findings()))?;
    write_thresholds(out, report)?;
    write_stages(out, report)?;
    if report.summary.latency.count > 0 || report.summary.bystander_latency.is_some() {
        write_percentiles(out, report)?;
    }
    write_rates(out, report)?;
    write_latencies(out, report)
}

/// `2026-01-31 23:59:59 UTC`.
fn date(unix_ns: u64) -> String {
    let since = Duration::from_nanos(unix_ns).as_secs();
    let (days, seconds) = ((since / 86_400) as i64, since % 86_400);
    // Days from civil (Howard Hinnant), the other way round.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn write_table(out: &mut String, report: &Report) -> fmt::Result {
    let columns = report.columns();
    if report.windows.is_empty() || columns.is_empty() {
        return Ok(());
    }
    write!(out, "<div class=wide><table><tr><th>window")?;
    for column in &columns {
        let mark = if report.closed_loop && column.is_percentile { "*" } else { "" };
        write!(out, "<th>{}{mark}", escape(column.name))?;
    }
    for (name, row) in report.rows() {
        let class = if name == "all" { " class=total" } else { "" };
        write!(out, "<tr{class}><td>{name}")?;
        for column in &columns {
            write!(out, "<td>{}", escape(&(column.cell)(row)))?;
        }
    }
    write!(out, "</table></div>")
}

fn write_thresholds(out: &mut String, report: &Report) -> fmt::Result {
    if report.thresholds.is_empty() {
        return Ok(());
    }
    write!(out, "<div class=wide><table><tr><th>fails if<th>measured<th>")?;
    for threshold in &report.thresholds {
        let (class, word) = if threshold.is_true == Some(false) { ("good", "ok") } else { ("bad", "failed") };
        let (condition, shown) = (escape(&threshold.condition), &threshold.shown);
        write!(out, "<tr><td>{condition}<td>{shown}<td class={class}>{word}")?;
    }
    write!(out, "</table></div>")
}

/// How far the connections of a storm were, and when: a bar up to the 99th percentile for each stage.
fn write_stages(out: &mut String, report: &Report) -> fmt::Result {
    let longest = report.storm_stages.iter().map(|row| row.latency.p99_us).fold(0.0, f64::max);
    if longest <= 0.0 {
        return Ok(());
    }
    write!(out, "<h3>Stages of the storms: from the drop, ms</h3><div class=wide><table>")?;
    write!(out, "<tr><th>stage<th>connections<th>p50<th>p99<th>max<th>p99")?;
    for StageRow { stage, latency } in &report.storm_stages {
        let [p50, p99, max] = [latency.p50_us, latency.p99_us, latency.max_us].map(|us| us / 1e3);
        write!(out, "<tr><td>{stage}<td>{}<td>{p50:.3}<td>{p99:.3}<td>{max:.3}", latency.count)?;
        write!(out, "<td><meter value={:.3}>{p99:.3} ms</meter>", latency.p99_us / longest)?;
    }
    write!(out, "</table></div>")
}

fn in_words(name: &str, latency: &Percentiles) -> String {
    let ms = |us: f64| us / 1e3;
    format!(
        "{name}: of {} values, median {:.3} ms, 99th percentile {:.3} ms, maximum {:.3} ms",
        latency.count,
        ms(latency.p50_us),
        ms(latency.p99_us),
        ms(latency.max_us)
    )
}

fn write_percentiles(out: &mut String, report: &Report) -> fmt::Result {
    write!(out, "<h3>Latency by percentile, ms")?;
    let mark = if report.closed_loop { " (closed loop: of a full queue)" } else { "" };
    write!(out, "{mark}")?;
    let mut about = in_words("Latency by percentile", &report.summary.latency);
    if let Some(bystanders) = &report.summary.bystander_latency {
        write!(out, ": <span class=a>back after a drop</span>, <span class=c>bystanders</span>")?;
        about = format!("{about}; {}", in_words("bystanders", bystanders));
    }
    write!(out, "</h3>")?;
    chart::write_percentiles(out, &[("a", &report.curve), ("c", &report.bystander_curve)], &about)
}

/// Latencies by percentile of two sides, where there are any.
pub(crate) fn write_curves(out: &mut String, curves: &[Vec<(f64, f64)>; 2], names: [&str; 2]) -> fmt::Result {
    let [before, after] = curves;
    if before.is_empty() && after.is_empty() {
        return Ok(());
    }
    let [one, other] = names;
    write!(out, "<h3>Latency by percentile, ms, of the first runs: <span class=a>{one}</span>, ")?;
    write!(out, "<span class=b>{other}</span></h3>")?;
    let at = |curve: &[(f64, f64)], quantile: f64| {
        let found = curve.iter().take_while(|(of, _)| *of <= quantile + 1e-9).last();
        found.map_or("–".into(), |(_, us)| format!("{:.3} ms", us / 1e3))
    };
    let about = |name: &str, curve: &[(f64, f64)]| {
        format!("{name}: median {}, 99th percentile {}", at(curve, 0.5), at(curve, 0.99))
    };
    let about = format!("{}; {}", about(one, before), about(other, after));
    chart::write_percentiles(out, &[("a", before), ("b", after)], &about)
}

/// Dots of several classes, rates from left to right.
pub(crate) fn write_dots(out: &mut String, lines: &[Line<'_>], about: &str) -> fmt::Result {
    chart::write_dots(out, lines, about)
}

/// When the last window ends, from the beginning of the first.
fn end(report: &Report) -> f64 {
    report.windows.iter().map(|row| row.seconds).sum()
}

/// Over time, tick by tick: what was due and came.
fn write_rates(out: &mut String, report: &Report) -> fmt::Result {
    let ticks: Vec<_> = report.ticks.iter().map(|tick| (tick.second, tick.per_second)).collect();
    if ticks.is_empty() || report.summary.latency.count == 0 {
        return Ok(());
    }
    let what = match report.scenario {
        "connect" | "storm" => "Operations",
        _ => "Deliveries",
    };
    write!(out, "<h3><span class=a>{what}</span> per second, of what was due then")?;
    let mut lines: Vec<Line<'_>> = vec![("a", ticks.clone())];
    if report.summary.due_per_second.is_some() {
        write!(out, "; <span class=c>due</span>")?;
        lines.insert(0, ("c", middles(report, |row| row.due_per_second)));
    }
    write!(out, "</h3>")?;
    let rates = || ticks.iter().map(|(_, rate)| *rate);
    let (least, most) = (rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
    let about = format!("{what} per second over {:.1} s: from {least:.0} to {most:.0}", end(report));
    chart::write_course(out, end(report), &lines, &about)
}

/// Over time: percentiles of windows, and the longest of each tick.
fn write_latencies(out: &mut String, report: &Report) -> fmt::Result {
    if report.summary.latency.count == 0 || report.ticks.is_empty() {
        return Ok(());
    }
    let ms = |of: fn(&Percentiles) -> f64| {
        middles(report, |row| (row.latency.count > 0).then(|| of(&row.latency) / 1e3))
    };
    let longest: Vec<_> = report.ticks.iter().map(|tick| (tick.second, tick.max_ms)).collect();
    let worst = longest.iter().fold((0.0, 0.0), |worst, tick| if tick.1 > worst.1 { *tick } else { worst });
    write!(out, "<h3>Longest latency over time, ms</h3>")?;
    let about =
        format!("Longest latency over time: {:.3} ms at most, of what was due at {:.1} s", worst.1, worst.0);
    chart::write_course(out, end(report), &[("b", longest)], &about)?;
    if report.windows.len() < 2 {
        return Ok(());
    }
    write!(out, "<h3>Latency by window, ms: <span class=b>p99</span>, <span class=a>p50</span>")?;
    let mut lines: Vec<Line<'_>> =
        vec![("b", ms(|latency| latency.p99_us)), ("a", ms(|latency| latency.p50_us))];
    if report.summary.bystander_latency.is_some() {
        write!(out, ", <span class=c>p99 of bystanders</span>")?;
        lines.push(("c", middles(report, |row| Some(row.bystander_latency?.p99_us / 1e3))));
    }
    write!(out, "</h3>")?;
    let values: Vec<_> = lines[0].1.iter().map(|(_, ms)| format!("{ms:.3}")).collect();
    let about = format!("99th percentile of each window, in milliseconds: {}", values.join(", "));
    chart::write_course(out, end(report), &lines, &about)
}

/// A number of each window, in the middle of it.
fn middles(report: &Report, of: impl Fn(&Row) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut begun = 0.0;
    let rows = report.windows.iter().filter_map(|row| {
        let middle = begun + row.seconds / 2.0;
        begun += row.seconds;
        Some((middle, of(row)?))
    });
    rows.collect()
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_that_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(date(seconds * 1_000_000_000), text);
        }
    }
}
