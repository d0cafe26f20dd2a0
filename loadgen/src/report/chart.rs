//! Charts as SVG: a plane with levels, marks and lines, and a text for whoever does not see it.

use std::fmt::{self, Write};

/// Of a chart's plane, in pixels, and the margins around it.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 40.0;
const BOTTOM: f64 = 30.0;

/// Points up to which each has a dot of its own.
const MAX_DOTS: usize = 60;

/// A line's class, and its points.
pub(crate) type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// Lines over seconds, from zero upwards. `about` is what somebody reads who does not see them.
pub(super) fn write_course(out: &mut String, end: f64, lines: &[Line<'_>], about: &str) -> fmt::Result {
    let most = lines.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(0.0, f64::max);
    let step = step(most);
    let chart = Chart { right: end, low: 0.0, high: (most / step).ceil().max(1.0) * step };
    chart.begin(out, about)?;
    for level in 0..=(chart.high / step).round() as u32 {
        let height = f64::from(level) * step;
        chart.write_level(out, height, &number(height, step))?;
    }
    let pace = self::step(end).max(1e-3);
    for mark in 0..=(end / pace).floor() as u32 {
        let seconds = f64::from(mark) * pace;
        chart.write_mark(out, seconds, &format!("{} s", number(seconds, pace)))?;
    }
    for (class, points) in lines {
        chart.write_line(out, class, points)?;
        if points.len() <= MAX_DOTS {
            chart.write_dots(out, class, points)?;
        }
    }
    write!(out, "</svg>")
}

/// Dots, from zero in both directions.
pub(super) fn write_dots(out: &mut String, lines: &[Line<'_>], about: &str) -> fmt::Result {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let right = all().map(|point| point.0).fold(0.0, f64::max).max(1e-6);
    let most = all().map(|point| point.1).fold(0.0, f64::max);
    let step = step(most);
    let chart = Chart { right, low: 0.0, high: (most / step).ceil().max(1.0) * step };
    chart.begin(out, about)?;
    for level in 0..=(chart.high / step).round() as u32 {
        let height = f64::from(level) * step;
        chart.write_level(out, height, &number(height, step))?;
    }
    let pace = self::step(right);
    for mark in 0..=(right / pace).floor() as u32 {
        let value = f64::from(mark) * pace;
        chart.write_mark(out, value, &format!("{}/s", number(value, pace)))?;
    }
    for (class, points) in lines {
        chart.write_line(out, class, points)?;
        chart.write_dots(out, class, points)?;
    }
    write!(out, "</svg>")
}

/// Latency by percentile: nines from left to right, milliseconds upwards, both logarithmic.
pub(super) fn write_percentiles(
    out: &mut String,
    curves: &[(&str, &[(f64, f64)])],
    about: &str,
) -> fmt::Result {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let height = |us: f64| (us / 1e3).max(1e-3).log10();
    let points = |curve: &[(f64, f64)]| -> Vec<_> {
        curve.iter().map(|(quantile, us)| (nines(*quantile), height(*us))).collect()
    };
    let lines: Vec<_> = curves.iter().map(|(class, curve)| (*class, points(curve))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    let right = all().map(|point| point.0).fold(1.0, f64::max);
    let low = all().map(|point| point.1).fold(f64::MAX, f64::min).floor();
    let high = all().map(|point| point.1).fold(f64::MIN, f64::max).ceil().max(low + 1.0);
    let chart = Chart { right, low, high };
    chart.begin(out, about)?;
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

/// With as many decimals as steps of this size call for; thousands as `k`.
fn number(value: f64, step: f64) -> String {
    if step >= 1000.0 {
        let thousands = number(value / 1000.0, step / 1000.0);
        return if value == 0.0 { thousands } else { thousands + "k" };
    }
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
    fn begin(&self, out: &mut String, about: &str) -> fmt::Result {
        let about = super::html::escape(about);
        write!(
            out,
            "<svg role=img aria-label=\"{about}\" viewBox=\"0 0 {} {}\">",
            LEFT + WIDTH + RIGHT,
            TOP + HEIGHT + BOTTOM
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        for (most, size, labels) in [
            (61_953.0, 20_000.0, ["0", "20k", "40k"]),
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
