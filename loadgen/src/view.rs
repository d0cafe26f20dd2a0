//! How a run is going, on standard error: the last line of a terminal, again and again; or line by line.

use std::{
    fmt::Write,
    io::{IsTerminal, stderr},
};

use fanfare_loadgen::{Live, Progress};

/// Seconds between lines that are no terminal's.
const LINE_SECONDS: u32 = 5;

/// Shows one run.
pub(crate) struct View {
    is_terminal: bool,
    stage: String,
    /// Seconds since something was written.
    seconds: u32,
}

impl View {
    pub(crate) fn new() -> Self {
        Self { is_terminal: stderr().is_terminal(), stage: String::new(), seconds: 0 }
    }

    pub(crate) fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Stage(stage) => {
                stage.clone_into(&mut self.stage);
                self.write(stage);
            }
            // Many a second: for a terminal only.
            Progress::Connected(connected, total) => {
                if self.is_terminal {
                    self.write(&format!("{}: {connected} of {total}", self.stage));
                }
            }
            Progress::Live(live) => {
                self.seconds += 1;
                if self.is_terminal || self.seconds >= LINE_SECONDS {
                    self.write(&describe(&self.stage, &live));
                }
            }
            Progress::Done => {
                if self.is_terminal {
                    eprint!("\r\x1b[K");
                }
            }
        }
    }

    fn write(&mut self, line: &str) {
        self.seconds = 0;
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
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
    put(format!("errors {}", live.errors));
    if let (Some(cores), Some(bytes)) = (live.server_cores, live.server_rss_bytes) {
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
        let mut live = Live { per_second: 1234.5, errors: 2, ..Live::default() };
        live.latency.count = 9;
        (live.latency.p50_us, live.latency.p99_us, live.latency.max_us) = (100.0, 2000.0, 30_000.0);
        (live.server_cores, live.server_rss_bytes) = (Some(0.5), Some(3 << 19));
        let line =
            "window 1 of 3 · 1234/s · p50 0.100 p99 2.000 max 30.000 ms · errors 2 · server 50 %, 1.5 MiB";
        assert_eq!(describe("window 1 of 3", &live), line);
    }
}
