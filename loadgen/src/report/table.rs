//! The report for a terminal.

use std::fmt::Write;

use super::{Report, Row};
use crate::{
    histogram::Percentiles,
    plan::{ConnectPlan, Work},
};

impl Report {
    /// The whole report as text.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        self.write(&mut out).expect("a string takes everything");
        out
    }

    /// What was done, and where: three lines.
    pub(super) fn setting(&self) -> String {
        let machine = &self.machine;
        format!(
            "{}\n{} · {} cores · Linux {}",
            self.plan.describe(),
            machine.cpu,
            machine.cores,
            machine.kernel
        )
    }

    /// What is no number of a window, nor a problem.
    pub(super) fn findings(&self) -> String {
        let mut out = String::new();
        self.write_findings(&mut out).expect("a string takes everything");
        out
    }

    /// Those that have something to say.
    pub(super) fn columns(&self) -> Vec<&'static Column> {
        let has_any = |column: &&Column| self.rows().any(|(_, row)| (column.cell)(row) != NOTHING);
        COLUMNS.iter().filter(has_any).collect()
    }

    /// A row for each window, and the median if they were to be alike.
    pub(super) fn rows(&self) -> impl Iterator<Item = (String, &Row)> {
        let rows = self.windows.iter().enumerate().map(|(number, row)| ((number + 1).to_string(), row));
        rows.chain((!self.is_ramp()).then(|| ("median".to_owned(), &self.median)))
    }

    /// Whether each window asks for another rate.
    fn is_ramp(&self) -> bool {
        matches!(&self.plan.work, Work::Connect(ConnectPlan { rate: Some(rate), .. }) if rate.from != rate.to)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.setting())?;
        if !self.windows.is_empty() {
            self.write_rows(out)?;
        }
        self.write_findings(out)?;
        for problem in &self.problems {
            writeln!(out, "FAILED: {problem}")?;
        }
        if self.partial && !self.windows.is_empty() {
            writeln!(out, "The run ended early: the numbers above are partial.")?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut String) -> std::fmt::Result {
        self.write_idling(out)?;
        let slow = &self.slow;
        if slow.readers > 0 {
            writeln!(
                out,
                "{} stopped reading: {} were disconnected, the others were told of {} missed",
                slow.readers, slow.disconnected, slow.missed
            )?;
        }
        let returns = &self.returns;
        if returns.recovered + returns.unrecovered > 0 {
            writeln!(
                out,
                "{} came back and recovered, {} came back and did not",
                returns.recovered, returns.unrecovered
            )?;
        }
        self.write_keeping_up(out)?;
        // Before there was a window, nothing could go wrong.
        if !self.windows.is_empty() || !self.faults.is_clean() {
            let faults = &self.faults;
            writeln!(
                out,
                "lost {}  repeated {}  reordered {}  misdelivered {}  corrupt {}  holes {}  refused {}  late {:.2} %",
                faults.lost,
                faults.repeated,
                faults.reordered,
                faults.misdelivered,
                faults.corrupt,
                faults.holes,
                self.refused,
                self.median.late_share * 100.0
            )?;
        }
        for remark in &self.remarks {
            writeln!(out, "note: {remark}")?;
        }
        Ok(())
    }

    fn write_rows(&self, out: &mut String) -> std::fmt::Result {
        let columns = self.columns();
        write!(out, "{:>7}", "window")?;
        for column in &columns {
            write!(out, " {:>12}", column.name)?;
        }
        writeln!(out)?;
        for (name, row) in self.rows() {
            write!(out, "{name:>7}")?;
            for column in &columns {
                write!(out, " {:>12}", (column.cell)(row))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Up to which rate of a schedule cycles were done as they were due.
    fn write_keeping_up(&self, out: &mut String) -> std::fmt::Result {
        let Some(fallen) = self.windows.iter().position(|row| row.kept_up == Some(false)) else {
            return match self.kept_up_per_second {
                Some(rate) => writeln!(out, "kept up in every window, the last with {rate:.0} cycles/s"),
                None => Ok(()),
            };
        };
        let Row { asked_per_second, operations_per_second, errors, .. } = &self.windows[fallen];
        match self.kept_up_per_second {
            Some(rate) => write!(out, "kept up with {rate:.0} cycles/s; ")?,
            None => write!(out, "never kept up; ")?,
        }
        writeln!(
            out,
            "fell behind in window {}: {:.0}/s asked for, {operations_per_second:.0}/s done, {errors} failed",
            fallen + 1,
            asked_per_second.unwrap_or_default()
        )
    }

    fn write_idling(&self, out: &mut String) -> std::fmt::Result {
        let Some(idling) = &self.idling else { return Ok(()) };
        if let Some((pss, rss)) = self.idle_growth() {
            writeln!(out, "server, each connection at rest: {pss:.0} B of PSS, {rss:.0} B of RSS")?;
        }
        if let Some(us) = self.idle_cpu_us_per_second {
            writeln!(out, "server, each connection at rest: {us:.2} µs of CPU a second")?;
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

/// A column; it is left out when it is [`NOTHING`] in all rows.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) cell: fn(&Row) -> String,
}

const NOTHING: &str = "–";

const COLUMNS: [Column; 18] = [
    Column { name: "deliveries/s", cell: |row| rate(row.deliveries_per_second) },
    Column { name: "messages/s", cell: |row| rate(row.messages_per_second) },
    Column { name: "asked for/s", cell: |row| row.asked_per_second.map_or(NOTHING.into(), rate) },
    Column { name: "operations/s", cell: |row| rate(row.operations_per_second) },
    Column { name: "late", cell: |row| share(Some(row.late_share).filter(|share| *share > 0.0)) },
    Column { name: "errors", cell: |row| rate(row.errors as f64) },
    Column { name: "s/M deliver.", cell: |row| seconds(row.server_s_per_million_deliveries) },
    Column { name: "s/M operat.", cell: |row| seconds(row.server_s_per_million_operations) },
    Column { name: "server CPU", cell: |row| share(row.server_cores) },
    Column { name: "loadgen CPU", cell: |row| share(row.generator_cores) },
    Column { name: "busy", cell: |row| share(row.busy_share) },
    Column { name: "p50 ms", cell: |row| latency(row, row.latency.p50_us) },
    Column { name: "p90 ms", cell: |row| latency(row, row.latency.p90_us) },
    Column { name: "p99 ms", cell: |row| latency(row, row.latency.p99_us) },
    Column { name: "p99.9 ms", cell: |row| latency(row, row.latency.p999_us) },
    Column { name: "max ms", cell: |row| latency(row, row.latency.max_us) },
    Column { name: "byst. p50 ms", cell: |row| bystanders(row, |latency| latency.p50_us) },
    Column { name: "byst. p99 ms", cell: |row| bystanders(row, |latency| latency.p99_us) },
];

fn rate(per_second: f64) -> String {
    if per_second == 0.0 { NOTHING.into() } else { format!("{per_second:.0}") }
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or(NOTHING.into(), |seconds| format!("{seconds:.3}"))
}

fn share(cores: Option<f64>) -> String {
    cores.map_or(NOTHING.into(), |cores| format!("{:.1} %", cores * 100.0))
}

fn bystanders(row: &Row, of: fn(&Percentiles) -> f64) -> String {
    row.bystander_latency.map_or(NOTHING.into(), |latency| format!("{:.3}", of(&latency) / 1e3))
}

fn latency(row: &Row, us: f64) -> String {
    if row.latency.count == 0 { NOTHING.into() } else { format!("{:.3}", us / 1e3) }
}
