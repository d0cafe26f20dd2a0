//! How a run is going, on standard error: the last lines of a terminal, again and again, one for each part of the
//! phase; or line by line.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Stderr, Write, stderr},
};

use fanfare_loadgen::{Live, Progress};

/// Seconds between lines that are no terminal's.
const LINE_SECONDS: u32 = 5;

/// Shows what goes on at the same time.
pub(crate) struct View<W = Stderr> {
    out: W,
    is_terminal: bool,
    /// Whether the lines are on the terminal, with the cursor on the last one.
    is_drawn: bool,
    parts: Vec<Part>,
}

struct Part {
    /// What its lines begin with; nothing if it is the only part.
    label: String,
    stage: String,
    line: String,
    /// Seconds since something was written.
    seconds: u32,
    is_done: bool,
}

impl View {
    /// Shows parts of these scenarios.
    pub(crate) fn new(scenarios: &[&str]) -> Self {
        Self::onto(stderr(), stderr().is_terminal(), scenarios)
    }
}

impl<W: Write> View<W> {
    fn onto(out: W, is_terminal: bool, scenarios: &[&str]) -> Self {
        let part = |(number, scenario): (usize, &&str)| Part {
            label: if scenarios.len() > 1 { format!("{} {scenario} · ", number + 1) } else { String::new() },
            stage: String::new(),
            line: String::new(),
            seconds: 0,
            is_done: false,
        };
        Self { out, is_terminal, is_drawn: false, parts: scenarios.iter().enumerate().map(part).collect() }
    }

    /// Shows what the part of this number is at.
    pub(crate) fn show(&mut self, number: usize, progress: Progress<'_>) {
        let part = &mut self.parts[number];
        match progress {
            Progress::Stage(stage) => {
                stage.clone_into(&mut part.stage);
                self.write(number, stage);
            }
            // Many a second: for a terminal only.
            Progress::Connected(connected, total) => {
                if self.is_terminal {
                    let line = format!("{}: {connected} of {total}", part.stage);
                    self.write(number, &line);
                }
            }
            Progress::Live(live) => {
                part.seconds += 1;
                if self.is_terminal || part.seconds >= LINE_SECONDS {
                    let line = describe(&part.stage, &live);
                    self.write(number, &line);
                }
            }
            Progress::Done => {
                part.is_done = true;
                if self.is_terminal {
                    self.write(number, "done");
                }
            }
        }
    }

    fn write(&mut self, number: usize, line: &str) {
        let part = &mut self.parts[number];
        part.seconds = 0;
        part.line = format!("{}{line}", part.label);
        let mut text = String::new();
        if self.is_terminal {
            self.redraw(&mut text);
        } else {
            text = format!("{}\n", self.parts[number].line);
        }
        // Nobody looks on any more: that is no reason to stop.
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).ok();
    }

    /// Writes all lines over those that are there; at the end, nothing.
    fn redraw(&mut self, text: &mut String) {
        let up = self.parts.len() - 1;
        if self.is_drawn && up > 0 {
            write!(text, "\x1b[{up}A").expect("a string takes everything");
        }
        *text += "\r\x1b[J";
        self.is_drawn = !self.parts.iter().all(|part| part.is_done);
        if self.is_drawn {
            *text += &self.parts.iter().map(|part| part.line.as_str()).collect::<Vec<_>>().join("\n");
        }
    }
}

/// `window 2 of 3 · 120345/s · p50 0.123 p99 0.456 max 1.234 ms · errors 0 · server 98 %, 120.5 MiB`
fn describe(stage: &str, live: &Live) -> String {
    let mut line = stage.to_owned();
    let mut put = |text: String| write!(line, " · {text}").expect("a string takes everything");
    if live.per_second > 0.0 {
        put(format!("{:.0}/s", live.per_second));
    }
    if live.latency.count > 0 {
        let [p50, p99, max] =
            [live.latency.p50_us, live.latency.p99_us, live.latency.max_us].map(|us| us / 1e3);
        put(format!("p50 {p50:.3} p99 {p99:.3} max {max:.3} ms"));
    }
    put(format!("errors {}", (live.faults + live.refused + live.failed)));
    if let (Some(cores), Some(bytes)) = (live.server.cores, live.server.rss_bytes) {
        put(format!("server {:.0} %, {:.1} MiB", cores * 100.0, bytes as f64 / f64::from(1 << 20)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_what_there_is() {
        assert_eq!(describe("resting", &Live::default()), "resting · errors 0");
        let mut live = Live { per_second: 1234.5, faults: 2, ..Live::default() };
        live.latency.count = 9;
        (live.latency.p50_us, live.latency.p99_us, live.latency.max_us) = (100.0, 2000.0, 30_000.0);
        (live.server.cores, live.server.rss_bytes) = (Some(0.5), Some(3 << 19));
        let line =
            "window 1 of 3 · 1234/s · p50 0.100 p99 2.000 max 30.000 ms · errors 2 · server 50 %, 1.5 MiB";
        assert_eq!(describe("window 1 of 3", &live), line);
    }

    fn shown(is_terminal: bool, scenarios: &[&str], progress: &[(usize, Progress<'_>)]) -> String {
        let mut out = Vec::new();
        let mut view = View::onto(&mut out, is_terminal, scenarios);
        progress.iter().for_each(|(number, progress)| view.show(*number, *progress));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_of_no_terminal_come_with_stages_and_every_few_seconds() {
        let live = Progress::Live(Live { faults: 7, ..Live::default() });
        let mut progress = vec![(0, Progress::Stage("connecting")), (0, Progress::Connected(1, 2))];
        progress.push((0, Progress::Stage("window 1 of 1")));
        progress.extend([(0, live); 11]);
        progress.push((0, Progress::Done));
        let line = "window 1 of 1 · errors 7\n";
        assert_eq!(shown(false, &["idle"], &progress), format!("connecting\nwindow 1 of 1\n{line}{line}"));
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
        assert_eq!(shown(false, &scenarios, &progress), "1 fanout · warming up\n2 idle · connecting\n");
        assert_eq!(
            shown(true, &scenarios, &progress),
            "\r\x1b[J1 fanout · warming up\n\
             \x1b[1A\r\x1b[J1 fanout · warming up\n2 idle · connecting\
             \x1b[1A\r\x1b[J1 fanout · done\n2 idle · connecting\
             \x1b[1A\r\x1b[J"
        );
    }
}
