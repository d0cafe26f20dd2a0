//! The report as one HTML page that needs nothing else: tables and two charts for each part.

use std::fmt::{self, Write};

use super::Report;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}pre{background:#f4f4f2;padding:1rem;overflow-x:auto;font-size:12px}\
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#555}.axis{stroke:#ccc}\
.a{stroke:#0b62a4;fill:none;stroke-width:2}.b{stroke:#b3421b;fill:none;stroke-width:2}.bad{color:#a00}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}pre{background:#222}\
svg text{fill:#aaa}.axis{stroke:#444}}";
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;

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
        write!(out, "<h2>{} {}</h2>", report.scenario, escape(phase))?;
        for problem in &report.problems {
            write!(out, "<p class=bad>{}</p>", escape(problem))?;
        }
        write!(out, "<pre>{}</pre>", escape(&report.table()))?;
        if report.latency.count > 0 {
            write_percentiles(out, report)?;
        }
        if report.windows.len() > 1 {
            write_course(out, report)?;
        }
    }
    writeln!(out, "</html>")
}

/// Latency by percentile: nines from left to right, milliseconds upwards, both logarithmic.
fn write_percentiles(out: &mut String, report: &Report) -> fmt::Result {
    let nines = |percentile: f64| -(1.0 - percentile).log10();
    let points: Vec<_> = report
        .curve
        .iter()
        .map(|(percentile, us)| (nines(*percentile), (us / 1e3).max(1e-3).log10()))
        .collect();
    let right = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let low = points.iter().map(|point| point.1).fold(f64::MAX, f64::min).floor();
    let high = points.iter().map(|point| point.1).fold(f64::MIN, f64::max).ceil().max(low + 1.0);
    let place = |(x, y): (f64, f64)| (x / right, (y - low) / (high - low));
    write!(out, "<h3>Latency by percentile, ms</h3>")?;
    begin_chart(out)?;
    for power in low as i32..=high as i32 {
        let (_, y) = place((0.0, f64::from(power)));
        write_level(out, y, &format!("{}", 10_f64.powi(power)))?;
    }
    for nine in 0..=right as i32 {
        let label = match nine {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            more => format!("99.{} %", "9".repeat(more as usize - 2)),
        };
        write_mark(out, f64::from(nine) / right, &label)?;
    }
    write_line(out, "a", points.into_iter().map(place))?;
    write!(out, "</svg>")
}

/// Over time: what was done per second, and the 99th percentile, each from zero to its own maximum.
fn write_course(out: &mut String, report: &Report) -> fmt::Result {
    let done = |row: &super::Row| row.deliveries_per_second + row.operations_per_second;
    let most = report.windows.iter().map(done).fold(1.0, f64::max);
    let slowest = report.windows.iter().map(|row| row.latency.p99_us).fold(1.0, f64::max);
    let last = (report.windows.len() - 1) as f64;
    let x = |number: usize| number as f64 / last;
    write!(
        out,
        "<h3>Over time: per second (blue, to {most:.0}) and p99 (red, to {:.3} ms)</h3>",
        slowest / 1e3
    )?;
    begin_chart(out)?;
    write_level(out, 0.0, "0")?;
    write_level(out, 1.0, "max")?;
    let rows = || report.windows.iter().enumerate();
    write_line(out, "a", rows().map(|(number, row)| (x(number), done(row) / most)))?;
    write_line(out, "b", rows().map(|(number, row)| (x(number), row.latency.p99_us / slowest)))?;
    for number in [0, report.windows.len() - 1] {
        write_mark(out, x(number), &format!("window {}", number + 1))?;
    }
    write!(out, "</svg>")
}

fn begin_chart(out: &mut String) -> fmt::Result {
    write!(out, "<svg viewBox=\"0 0 {} {}\">", WIDTH + LEFT + 60.0, HEIGHT + BOTTOM + 10.0)
}

/// A horizontal line at a height of 0 to 1.
fn write_level(out: &mut String, y: f64, label: &str) -> fmt::Result {
    let (x, y) = to_pixels((0.0, y));
    write!(out, "<line class=axis x1={x:.1} y1={y:.1} x2={:.1} y2={y:.1} />", x + WIDTH)?;
    write!(out, "<text x={:.1} y={:.1} text-anchor=end>{label}</text>", x - 8.0, y + 4.0)
}

/// A label under a place of 0 to 1.
fn write_mark(out: &mut String, x: f64, label: &str) -> fmt::Result {
    let (x, y) = to_pixels((x, 0.0));
    write!(out, "<text x={x:.1} y={:.1} text-anchor=middle>{label}</text>", y + 20.0)
}

fn write_line(out: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) -> fmt::Result {
    write!(out, "<polyline class={class} points=\"")?;
    for point in points {
        let (x, y) = to_pixels(point);
        write!(out, "{x:.1},{y:.1} ")?;
    }
    write!(out, "\" />")
}

fn to_pixels((x, y): (f64, f64)) -> (f64, f64) {
    (LEFT + x * WIDTH, 10.0 + (1.0 - y) * (HEIGHT - 10.0))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
