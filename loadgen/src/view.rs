//! How a run is going, on standard error: on a terminal one screen of 80 columns, drawn again and again;
//! elsewhere line by line.
//!
//! ```text
//! fanout · window 2 of 3 · 0:14 left  ████████████░░░░░░░░
//!   rate     837,288/s ▁▂▅▇▇▇▇▇▇▇
//!   p50       1.641 ms ▁▁▁▁▂▁▁▁▁▁
//!   …
//!   faults 0 · refused 0 · failed 0        (faults by kind, if there are any)
//!   server 98 %, 11.2 MiB · generator 41 %, 30.1 MiB
//! ```

use std::{
    collections::VecDeque,
    env,
    fmt::Write as _,
    io::{IsTerminal, Stderr, Write, stderr},
};

use fanfare_loadgen::{Live, Progress, Usage};

/// Seconds between lines that are no terminal's.
const LINE_SECONDS: u32 = 5;
/// Seconds that a sparkline shows.
const SPARK_SECONDS: usize = 54;
/// Places of the bar that shows how much of the run is over.
const BAR: usize = 20;

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To somebody who looks on.
    Terminal(Colour),
    /// To a file, or another program.
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Some,
    None,
}

/// Shows what goes on at the same time.
pub(crate) struct View<W = Stderr> {
    out: W,
    kind: Kind,
    /// Lines on the terminal, with the cursor on the last one.
    drawn: usize,
    parts: Vec<Part>,
}

struct Part {
    /// What its lines begin with; nothing if it is the only part.
    label: String,
    stage: String,
    line: String,
    live: Option<Live>,
    /// The seconds that the whole run takes, as far as it is known.
    total_seconds: f64,
    rates: VecDeque<f64>,
    p50s: VecDeque<f64>,
    p99s: VecDeque<f64>,
    longest: VecDeque<f64>,
    /// Seconds since something was written.
    seconds: u32,
    is_done: bool,
}

impl View {
    /// Shows parts of these scenarios.
    pub(crate) fn new(scenarios: &[&str]) -> Self {
        let colour = if env::var_os("NO_COLOR").is_some() { Colour::None } else { Colour::Some };
        let kind = if stderr().is_terminal() { Kind::Terminal(colour) } else { Kind::Lines };
        Self::onto(stderr(), kind, scenarios)
    }
}

impl<W: Write> View<W> {
    fn onto(out: W, kind: Kind, scenarios: &[&str]) -> Self {
        let part = |(number, scenario): (usize, &&str)| Part {
            label: if scenarios.len() > 1 { format!("{} {scenario} · ", number + 1) } else { String::new() },
            stage: String::new(),
            line: String::new(),
            live: None,
            total_seconds: 0.0,
            rates: VecDeque::new(),
            p50s: VecDeque::new(),
            p99s: VecDeque::new(),
            longest: VecDeque::new(),
            seconds: 0,
            is_done: false,
        };
        Self { out, kind, drawn: 0, parts: scenarios.iter().enumerate().map(part).collect() }
    }

    /// Shows what the part of this number is at.
    pub(crate) fn show(&mut self, number: usize, progress: Progress<'_>) {
        let part = &mut self.parts[number];
        let is_terminal = self.kind != Kind::Lines;
        match progress {
            Progress::Stage(stage) => {
                stage.clone_into(&mut part.stage);
                self.write(number, stage);
            }
            // Many a second: for a terminal only.
            Progress::Connected(connected, total) => {
                if is_terminal {
                    let line = format!("{}: {connected} of {total}", part.stage);
                    self.write(number, &line);
                }
            }
            Progress::Live(live) => {
                part.seconds += 1;
                part.take(*live);
                if is_terminal || part.seconds >= LINE_SECONDS {
                    let line = describe(&part.stage, live);
                    self.write(number, &line);
                }
            }
            Progress::Done => {
                part.is_done = true;
                if is_terminal {
                    self.write(number, "done");
                }
            }
        }
    }

    fn write(&mut self, number: usize, line: &str) {
        let part = &mut self.parts[number];
        part.seconds = 0;
        part.line = format!("{}{line}", part.label);
        let text = match self.kind {
            Kind::Terminal(colour) => self.redraw(colour),
            Kind::Lines => format!("{}\n", self.parts[number].line),
        };
        // Nobody looks on any more: that is no reason to stop.
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).ok();
    }

    /// Writes all lines over those that are there; at the end, nothing.
    fn redraw(&mut self, colour: Colour) -> String {
        let mut text = String::new();
        if self.drawn > 1 {
            put(&mut text, format_args!("\x1b[{}A", self.drawn - 1));
        }
        text += "\r\x1b[J";
        let is_over = self.parts.iter().all(|part| part.is_done);
        // Several parts share the screen: a line for each.
        let is_short = self.parts.len() > 1;
        let lines: Vec<String> = if is_over {
            Vec::new()
        } else {
            self.parts.iter().flat_map(|part| part.lines(is_short, colour)).collect()
        };
        self.drawn = lines.len();
        text + &lines.join("\n")
    }
}

impl Part {
    fn take(&mut self, live: Live) {
        self.live = Some(live);
        self.total_seconds = self.total_seconds.max(live.left_seconds);
        let latency = live.last_second.latency;
        let last = [
            (&mut self.rates, live.last_second.per_second),
            (&mut self.p50s, latency.p50_us / 1e3),
            (&mut self.p99s, latency.p99_us / 1e3),
            (&mut self.longest, latency.max_us / 1e3),
        ];
        for (series, value) in last {
            series.push_back(value);
            if series.len() > SPARK_SECONDS {
                series.pop_front();
            }
        }
    }

    /// What a terminal shows of it.
    fn lines(&self, is_short: bool, colour: Colour) -> Vec<String> {
        let live = self.live.filter(|_| !self.is_done && self.stage.starts_with("window"));
        let Some(live) = live.filter(|_| !is_short) else {
            return vec![self.line.chars().take(79).collect()];
        };
        let left = live.left_seconds.max(0.0);
        let over = 1.0 - left / self.total_seconds.max(1e-9);
        let full = (over * BAR as f64).round() as usize;
        let bar = "█".repeat(full.min(BAR)) + &"░".repeat(BAR - full.min(BAR));
        let minutes = (left / 60.0).floor();
        let clock = format!("{minutes:.0}:{:02.0}", (left - minutes * 60.0).floor());
        let mut lines = vec![format!("{} · {clock} left  {}", self.stage, paint(&bar, "36", colour))];
        let spark = |series: &VecDeque<f64>| paint(&sparkline(series), "36", colour);
        lines.push(format!("  rate {:>13}/s {}", grouped(live.last_second.per_second), spark(&self.rates)));
        if live.latency.count > 0 {
            for (name, series) in [("p50 ", &self.p50s), ("p99 ", &self.p99s), ("max ", &self.longest)] {
                let value = series.back().copied().unwrap_or_default();
                lines.push(format!("  {name} {value:>12.3} ms {}", spark(series)));
            }
        }
        let count = |name: &str, count: u64| {
            let text = format!("{name} {count}");
            if count > 0 { paint(&text, "31", colour) } else { text }
        };
        let kinds = live.faults.kinds().into_iter().filter(|(_, count)| *count > 0);
        let mut errors: Vec<_> = kinds.map(|(name, of_kind)| count(name, of_kind)).collect();
        if errors.is_empty() {
            errors.push(count("faults", 0));
        }
        errors.extend([count("refused", live.refused), count("failed", live.failed)]);
        lines.extend(errors.chunks(ERRORS_ABREAST).map(|errors| format!("  {}", errors.join(" · "))));
        let usage: Vec<_> = [("server", live.server), ("generator", live.generator)]
            .into_iter()
            .filter_map(|(name, usage)| Some(format!("{name} {}", used(&usage)?)))
            .collect();
        if !usage.is_empty() {
            lines.push(format!("  {}", usage.join(" · ")));
        }
        lines
    }
}

/// Kinds of errors that fit beside each other on a screen.
const ERRORS_ABREAST: usize = 3;

fn paint(text: &str, code: &str, colour: Colour) -> String {
    match colour {
        Colour::Some => format!("\x1b[{code}m{text}\x1b[0m"),
        Colour::None => text.to_owned(),
    }
}

/// A letter for each value, from none to the largest.
fn sparkline(values: &VecDeque<f64>) -> String {
    const LETTERS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let letter = |value: &f64| {
        let step = if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
        LETTERS[step.min(7)]
    };
    values.iter().map(letter).collect()
}

/// `1,234,567`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn used(usage: &Usage) -> Option<String> {
    let memory = usage.rss_bytes.map(|bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)));
    let cpu = usage.cores.map(|cores| format!("{:.0} %", cores * 100.0));
    let parts: Vec<_> = cpu.into_iter().chain(memory).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

/// `window 2 of 3 · 120345/s · p50 0.123 p99 0.456 max 1.234 ms · errors 0 · server 98 %, 120.5 MiB`
fn describe(stage: &str, live: &Live) -> String {
    let mut line = stage.to_owned();
    if live.per_second > 0.0 {
        put(&mut line, format_args!(" · {:.0}/s", live.per_second));
    }
    if live.latency.count > 0 {
        let [p50, p99, max] =
            [live.latency.p50_us, live.latency.p99_us, live.latency.max_us].map(|us| us / 1e3);
        put(&mut line, format_args!(" · p50 {p50:.3} p99 {p99:.3} max {max:.3} ms"));
    }
    put(&mut line, format_args!(" · errors {}", live.faults.sum() + live.refused + live.failed));
    if let (Some(used), Some(_)) = (used(&live.server), live.server.cores) {
        put(&mut line, format_args!(" · server {used}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use fanfare_loadgen::{Faults, LastSecond, Percentiles};

    use super::*;

    #[test]
    fn line_has_what_there_is() {
        assert_eq!(describe("resting", &Live::default()), "resting · errors 0");
        let faults = Faults { lost: 2, ..Faults::default() };
        let mut live = Live { per_second: 1234.5, faults, ..Live::default() };
        live.latency.count = 9;
        (live.latency.p50_us, live.latency.p99_us, live.latency.max_us) = (100.0, 2000.0, 30_000.0);
        (live.server.cores, live.server.rss_bytes) = (Some(0.5), Some(3 << 19));
        let line =
            "window 1 of 3 · 1234/s · p50 0.100 p99 2.000 max 30.000 ms · errors 2 · server 50 %, 1.5 MiB";
        assert_eq!(describe("window 1 of 3", &live), line);
    }

    fn shown(kind: Kind, scenarios: &[&str], progress: &[(usize, Progress<'_>)]) -> String {
        let mut out = Vec::new();
        let mut view = View::onto(&mut out, kind, scenarios);
        progress.iter().for_each(|(number, progress)| view.show(*number, *progress));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_of_no_terminal_come_with_stages_and_every_few_seconds() {
        let faults = Faults { lost: 4, corrupt: 3, ..Faults::default() };
        let live = Live { faults, ..Live::default() };
        let live = Progress::Live(&live);
        let mut progress = vec![(0, Progress::Stage("connecting")), (0, Progress::Connected(1, 2))];
        progress.push((0, Progress::Stage("window 1 of 1")));
        progress.extend([(0, live); 11]);
        progress.push((0, Progress::Done));
        let line = "window 1 of 1 · errors 7\n";
        let text = shown(Kind::Lines, &["idle"], &progress);
        assert_eq!(text, format!("connecting\nwindow 1 of 1\n{line}{line}"));
    }

    #[test]
    fn each_part_has_its_line() {
        let progress = [
            (0, Progress::Stage("warming up")),
            (1, Progress::Stage("connecting")),
            (0, Progress::Done),
            (1, Progress::Done),
        ];
        let scenarios = ["fanout", "idle"];
        let text = shown(Kind::Lines, &scenarios, &progress);
        assert_eq!(text, "1 fanout · warming up\n2 idle · connecting\n");
        assert_eq!(
            shown(Kind::Terminal(Colour::None), &scenarios, &progress),
            "\r\x1b[J1 fanout · warming up\n\
             \x1b[1A\r\x1b[J1 fanout · warming up\n2 idle · connecting\
             \x1b[1A\r\x1b[J1 fanout · done\n2 idle · connecting\
             \x1b[1A\r\x1b[J"
        );
    }

    #[test]
    fn screen_fits_eighty_columns_and_shows_the_last_minute() {
        let latency =
            Percentiles { count: 9, p50_us: 100.0, p99_us: 123_456.0, max_us: 9e7, ..Percentiles::default() };
        let many = u64::from(u32::MAX);
        let all = Faults { misdelivered: many, repeated: many, reordered: many, ..Faults::default() };
        let live = |second: u32| Live {
            per_second: 1e7,
            latency,
            last_second: LastSecond { per_second: f64::from(second) * 123_456.0, latency },
            faults: Faults { lost: 3, not_arrived: 0, holes: 1 << 40, ..all },
            server: Usage { cores: Some(15.99), rss_bytes: Some(1 << 37) },
            generator: Usage { cores: Some(15.99), rss_bytes: Some(1 << 37) },
            left_seconds: f64::from(100 - second),
            ..Live::default()
        };
        let mut progress = vec![(0, Progress::Stage("window 1000 of 1000"))];
        let seconds: Vec<_> = (0..90).map(live).collect();
        progress.extend(seconds.iter().map(|live| (0, Progress::Live(live))));
        let screen = |colour| {
            let text = shown(Kind::Terminal(colour), &["fanout"], &progress);
            text.rsplit("\x1b[J").next().expect("a screen").to_owned()
        };
        let plain = screen(Colour::None);
        assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
        assert_eq!(plain.lines().count(), 9, "{plain}");
        assert!(
            plain.contains("0:11 left") && plain.contains("10,987,584/s") && plain.contains("lost 3 · "),
            "{plain}"
        );
        assert!(!plain.contains('\x1b') && screen(Colour::Some).contains("\x1b[31mlost 3\x1b[0m"));
    }
}
