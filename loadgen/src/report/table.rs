//! The report for a terminal.

use std::fmt::Write;

use super::{Report, Row};
use crate::plan::{Pace, Work};

impl Report {
    /// The whole report as text.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        self.write(&mut out).expect("a string takes everything");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.describe_plan())?;
        let machine = &self.machine;
        writeln!(out, "{} · {} cores · Linux {}", machine.cpu, machine.cores, machine.kernel)?;
        if !self.windows.is_empty() {
            self.write_rows(out)?;
        }
        self.write_idling(out)?;
        let slow = &self.slow;
        if slow.readers > 0 {
            writeln!(
                out,
                "{} stopped reading: {} were disconnected, the others were told of {} missed",
                slow.readers, slow.disconnected, slow.missed
            )?;
        }
        let faults = &self.faults;
        writeln!(
            out,
            "lost {}  repeated {}  reordered {}  misdelivered {}  corrupt {}  refused {}  late {:.2} %",
            faults.lost,
            faults.repeated,
            faults.reordered,
            faults.misdelivered,
            faults.corrupt,
            self.refused,
            self.median.late_share * 100.0
        )?;
        for remark in &self.remarks {
            writeln!(out, "note: {remark}")?;
        }
        for problem in &self.problems {
            writeln!(out, "FAILED: {problem}")?;
        }
        if self.partial {
            writeln!(out, "The run ended early: the numbers above are partial.")?;
        }
        Ok(())
    }

    fn describe_plan(&self) -> String {
        let plan = &self.plan;
        let what = match &plan.work {
            Work::Fanout(work) | Work::Send(work) | Work::Broadcast(work) | Work::Slow(work) => {
                let pace = match work.pace {
                    Pace::Closed { window } => format!("closed loop, {window} in flight in each channel"),
                    Pace::Open { rate } => format!("open loop, {rate} messages/s"),
                };
                format!(
                    "{} channel(s) of {}, {} publisher(s) each, {} B, {pace}",
                    work.channels, work.members, work.publishers, work.payload
                )
            }
            Work::Idle(work) => format!("{} connections, {} in each channel", work.connections, work.members),
            Work::Storm(work) => {
                format!("{} connections, {} in each channel", work.connections, work.members)
            }
            Work::Connect(work) => {
                format!(
                    "{} cycles at a time, {}",
                    work.parallel,
                    if work.join { "with join" } else { "no join" }
                )
            }
            Work::Presence(work) => format!(
                "{} channels of {}, {} of them come and go",
                work.channels,
                work.watchers + work.movers,
                work.movers
            ),
        };
        let waits = if plan.spin { "spinning" } else { "sleeping" };
        format!(
            "{} · {} · {what} · {} thread(s), {waits} · seed {}",
            self.scenario, plan.address, plan.threads, plan.seed
        )
    }

    fn write_rows(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{:>7} {:>12} {:>11} {:>11} {:>9} {:>9} {:>7} {:>7}   latency ms: {:>8} {:>8} {:>8} {:>8} {:>8}",
            "window",
            "deliveries/s",
            "messages/s",
            "operat./s",
            "s/M deliv",
            "s/M op.",
            "server",
            "loadgen",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max"
        )?;
        for (number, row) in self.windows.iter().enumerate() {
            write_row(out, &(number + 1).to_string(), row)?;
        }
        write_row(out, "median", &self.median)
    }

    fn write_idling(&self, out: &mut String) -> std::fmt::Result {
        let Some(idling) = &self.idling else { return Ok(()) };
        if let Some((pss, rss)) = self.idle_growth() {
            writeln!(out, "server, each connection at rest: {pss:.0} B of PSS, {rss:.0} B of RSS")?;
        }
        for (what, memory) in [
            ("server before", idling.before),
            ("server, base", idling.base),
            ("server, all", idling.full),
            ("generator, base", idling.generator_base),
            ("generator, all", idling.generator_full),
        ] {
            if let Some(memory) = memory {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                writeln!(
                    out,
                    "{what:>16}: PSS {:.2} MiB, RSS {:.2} MiB",
                    mib(memory.pss_bytes),
                    mib(memory.rss_bytes)
                )?;
            }
        }
        writeln!(out, "connecting took {:.2} s", idling.connect_seconds)
    }
}

fn write_row(out: &mut String, name: &str, row: &Row) -> std::fmt::Result {
    let some =
        |value: Option<f64>, digits: usize| value.map_or("–".into(), |value| format!("{value:.digits$}"));
    let share = |cores: Option<f64>| cores.map_or("–".into(), |cores| format!("{:.0} %", cores * 100.0));
    let latency = &row.latency;
    write!(
        out,
        "{name:>7} {:>12.0} {:>11.0} {:>11.0} {:>9} {:>9} {:>7} {:>7}               ",
        row.deliveries_per_second,
        row.messages_per_second,
        row.operations_per_second,
        some(row.server_s_per_million_deliveries, 3),
        some(row.server_s_per_million_operations, 2),
        share(row.server_cores),
        share(row.generator_cores),
    )?;
    for us in [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us] {
        write!(out, "{:>8.3} ", us / 1e3)?;
    }
    writeln!(out)
}
