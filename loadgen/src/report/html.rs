//! The report as one HTML page that needs nothing else: tables and charts for each part.

use std::fmt::{self, Write};

use super::{Report, Row};
use crate::histogram::Percentiles;

const STYLE: &str = "\
:root{--ink:#1a1a1a;--soft:#666;--line:#ddd;--page:#fff;--a:#0b62a4;--b:#b3421b;--c:#8a8a8a;--good:#1b7a3d;--bad:#b00020}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#9a9a9a;--line:#3a3a3a;--page:#161616;--a:#5aa9e6;\
--b:#e8825a;--c:#777;--good:#5fc98a;--bad:#ff7088}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem;color:var(--ink);\
background:var(--page)}h2{margin-top:2.5rem}h3{font-size:1rem;margin:1.8rem 0 .2rem}p{margin:.3rem 0}\
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}.a{color:var(--a)}.b{color:var(--b)}\
.c{color:var(--c)}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:1rem 0;\
font-variant-numeric:tabular-nums}th,td{padding:.25rem .5rem;text-align:right;white-space:nowrap}\
th{color:var(--soft);font-weight:500;border-bottom:1px solid var(--line)}tr:last-child td{font-weight:600;\
border-top:1px solid var(--line)}pre{font-size:13px;margin:.5rem 0;overflow-x:auto}\
svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}\
svg line{stroke:var(--line)}polyline{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}\
circle{fill:currentColor}";

/// Of a chart's plane, in pixels, and the margins around it.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 40.0;
const BOTTOM: f64 = 30.0;

/// Windows up to which each has a dot of its own.
const MAX_DOTS: usize = 60;

/// The page of all parts of all phases.
pub fn to_html(runs: &[(String, Report)]) -> String {
    let mut out = String::new();
    write_page(&mut out, runs).expect("a string takes everything");
    out
}

fn write_page(out: &mut String, runs: &[(String, Report)]) -> fmt::Result {
    write!(out, "<!doctype html><html lang=en><meta charset=utf-8><title>fanfare-loadgen</title>")?;
    write!(out, "<meta name=viewport content=\"width=device-width\"><style>{STYLE}</style>")?;
    write!(out, "<h1>Load report</h1>")?;
    for (phase, report) in runs {
        let verdict = match report {
            Report { partial: true, .. } => "<span class=bad>partial</span>",
            _ if report.is_clean() => "<span class=good>clean</span>",
            _ => "<span class=bad>failed</span>",
        };
        write!(out, "<h2>{} {} · {verdict}</h2>", report.scenario, escape(phase))?;
        for problem in &report.problems {
            write!(out, "<p class=bad>{}</p>", escape(problem))?;
        }
        if report.partial {
            write!(out, "<p class=bad>The run ended early: these numbers are partial.</p>")?;
        }
        write!(out, "<p class=soft>{}</p>", escape(&report.setting()).replace('\n', "<br>"))?;
        write_table(out, report)?;
        write!(out, "<pre>{}</pre>", escape(&report.findings()))?;
        if report.latency.count > 0 || report.bystander_latency.is_some() {
            write_percentiles(out, report)?;
        }
        if report.windows.len() > 1 {
            write_rates(out, report)?;
            write_latencies(out, report)?;
        }
    }
    writeln!(out, "</html>")
}

fn write_table(out: &mut String, report: &Report) -> fmt::Result {
    let columns = report.columns();
    if report.windows.is_empty() || columns.is_empty() {
        return Ok(());
    }
    write!(out, "<div class=wide><table><tr><th>window")?;
    for column in &columns {
        write!(out, "<th>{}", escape(column.name))?;
    }
    for (name, row) in report.rows() {
        write!(out, "<tr><td>{name}")?;
        for column in &columns {
            write!(out, "<td>{}", escape(&(column.cell)(row)))?;
        }
    }
    write!(out, "</table></div>")
}

/// Latency by percentile: nines from left to right, milliseconds upwards, both logarithmic.
fn write_percentiles(out: &mut String, report: &Report) -> fmt::Result {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let height = |us: f64| (us / 1e3).max(1e-3).log10();
    let points = |curve: &[(f64, f64)]| -> Vec<_> {
        curve.iter().map(|(quantile, us)| (nines(*quantile), height(*us))).collect()
    };
    let lines = [("a", points(&report.curve)), ("c", points(&report.bystander_curve))];
    let all = || lines.iter().flat_map(|(_, points)| points);
    let right = all().map(|point| point.0).fold(1.0, f64::max);
    let low = all().map(|point| point.1).fold(f64::MAX, f64::min).floor();
    let high = all().map(|point| point.1).fold(f64::MIN, f64::max).ceil().max(low + 1.0);
    let chart = Chart { right, low, high };
    write!(out, "<h3>Latency by percentile, ms")?;
    if report.bystander_latency.is_some() {
        write!(out, ": <span class=a>back after a drop</span>, <span class=c>bystanders</span>")?;
    }
    write!(out, "</h3>")?;
    chart.begin(out)?;
    for power in low as i32..=high as i32 {
        let digits = usize::try_from(-power).unwrap_or_default();
        chart.write_level(out, f64::from(power), &format!("{:.digits$}", 10_f64.powi(power)))?;
    }
    let marks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
    for (number, quantile) in marks.into_iter().enumerate().filter(|(_, quantile)| nines(*quantile) <= right)
    {
        let label = if number == 0 { "fastest".into() } else { format!("p{}", percent(quantile)) };
        chart.write_mark(out, nines(quantile), &label)?;
    }
    for (class, points) in lines.iter().filter(|(_, points)| !points.is_empty()) {
        chart.write_line(out, class, points)?;
    }
    write!(out, "</svg>")
}

/// Over time: what was done per second.
fn write_rates(out: &mut String, report: &Report) -> fmt::Result {
    let done = |row: &Row| Some(row.deliveries_per_second + row.operations_per_second);
    let asked = |row: &Row| row.asked_per_second;
    let what = match (report.median.deliveries_per_second > 0.0, report.median.operations_per_second > 0.0) {
        (true, true) => "Deliveries and operations",
        (true, false) => "Deliveries",
        (false, true) => "Operations",
        (false, false) => return Ok(()),
    };
    write!(out, "<h3><span class=a>{what}</span> per second, over time")?;
    let mut lines: Vec<Line<'_>> = vec![("a", &done)];
    if report.median.asked_per_second.is_some() {
        write!(out, "; <span class=c>asked for</span>")?;
        lines.insert(0, ("c", &asked));
    }
    write!(out, "</h3>")?;
    write_course(out, report, &lines)
}

/// Over time: latencies.
fn write_latencies(out: &mut String, report: &Report) -> fmt::Result {
    if report.latency.count == 0 {
        return Ok(());
    }
    let ms = |of: fn(&Percentiles) -> f64| move |row: &Row| Some(of(&row.latency) / 1e3);
    let (p50, p99) = (ms(|latency| latency.p50_us), ms(|latency| latency.p99_us));
    let bystanders = |row: &Row| Some(row.bystander_latency?.p99_us / 1e3);
    write!(out, "<h3>Latency over time, ms: <span class=b>p99</span>, <span class=a>p50</span>")?;
    let mut lines: Vec<Line<'_>> = vec![("b", &p99), ("a", &p50)];
    if report.median.bystander_latency.is_some() {
        write!(out, ", <span class=c>p99 of bystanders</span>")?;
        lines.push(("c", &bystanders));
    }
    write!(out, "</h3>")?;
    write_course(out, report, &lines)
}

/// A line's class, and its height in each window.
type Line<'a> = (&'a str, &'a dyn Fn(&Row) -> Option<f64>);

/// Lines over time, each point in the middle of its window; from zero upwards.
fn write_course(out: &mut String, report: &Report, lines: &[Line<'_>]) -> fmt::Result {
    let mut end = 0.0;
    let mut middles = Vec::new();
    for row in &report.windows {
        middles.push(end + row.seconds / 2.0);
        end += row.seconds;
    }
    let points = |of: &dyn Fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
        let rows = middles.iter().zip(&report.windows);
        rows.filter_map(|(middle, row)| Some((*middle, of(row)?))).collect()
    };
    let most = lines.iter().flat_map(|(_, of)| points(of)).map(|point| point.1).fold(0.0, f64::max);
    let step = step(most);
    let chart = Chart { right: end, low: 0.0, high: (most / step).ceil().max(1.0) * step };
    chart.begin(out)?;
    for level in 0..=(chart.high / step).round() as u32 {
        let height = f64::from(level) * step;
        chart.write_level(out, height, &number(height, step))?;
    }
    let pace = self::step(end).max(1e-3);
    for mark in 0..=(end / pace).floor() as u32 {
        let seconds = f64::from(mark) * pace;
        chart.write_mark(out, seconds, &format!("{} s", number(seconds, pace)))?;
    }
    for (class, of) in lines {
        let points = points(of);
        chart.write_line(out, class, &points)?;
        if points.len() <= MAX_DOTS {
            chart.write_dots(out, class, &points)?;
        }
    }
    write!(out, "</svg>")
}

/// A step of 1, 2 or 5 times a power of ten, of which some four or five fit.
fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(1e-6);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough)
}

/// With as many decimals as steps of this size call for.
fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out + rest
}

/// 0.999 is `99.9`.
fn percent(quantile: f64) -> String {
    let text = format!("{:.4}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A plane: from 0 to `right`, from `low` to `high`.
struct Chart {
    right: f64,
    low: f64,
    high: f64,
}

impl Chart {
    fn begin(&self, out: &mut String) -> fmt::Result {
        write!(out, "<svg viewBox=\"0 0 {} {}\">", LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM)
    }

    fn pixels(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let up = (y - self.low) / (self.high - self.low);
        (LEFT + x / self.right * WIDTH, TOP + (1.0 - up) * HEIGHT)
    }

    /// A horizontal line and what it stands for.
    fn write_level(&self, out: &mut String, y: f64, label: &str) -> fmt::Result {
        let (x, y) = self.pixels((0.0, y));
        write!(out, "<line x1={x:.1} y1={y:.1} x2={:.1} y2={y:.1} />", x + WIDTH)?;
        write!(out, "<text x={:.1} y={:.1} text-anchor=end>{label}</text>", x - 8.0, y + 4.0)
    }

    /// A vertical line and what it stands for.
    fn write_mark(&self, out: &mut String, x: f64, label: &str) -> fmt::Result {
        let (x, y) = self.pixels((x, self.low));
        write!(out, "<line x1={x:.1} y1={y:.1} x2={x:.1} y2={TOP:.1} />")?;
        write!(out, "<text x={x:.1} y={:.1} text-anchor=middle>{label}</text>", y + 20.0)
    }

    fn write_line(&self, out: &mut String, class: &str, points: &[(f64, f64)]) -> fmt::Result {
        write!(out, "<polyline class={class} points=\"")?;
        for point in points {
            let (x, y) = self.pixels(*point);
            write!(out, "{x:.1},{y:.1} ")?;
        }
        write!(out, "\" />")
    }

    fn write_dots(&self, out: &mut String, class: &str, points: &[(f64, f64)]) -> fmt::Result {
        for point in points {
            let (x, y) = self.pixels(*point);
            write!(out, "<circle class={class} cx={x:.1} cy={y:.1} r=3 />")?;
        }
        Ok(())
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        for (most, size, labels) in [
            (61_953.0, 20_000.0, ["0", "20 000", "40 000"]),
            (4.2, 1.0, ["0", "1", "2"]),
            (0.047, 0.01, ["0.00", "0.01", "0.02"]),
        ] {
            let step = step(most);
            assert!((step / size - 1.0).abs() < 1e-9, "{most}: {step}");
            assert_eq!([0.0, step, 2.0 * step].map(|value| number(value, step)), labels);
        }
        assert_eq!([0.5, 0.999, 0.99999].map(percent), ["50", "99.9", "99.999"]);
    }
}
