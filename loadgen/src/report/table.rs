//! The report for a terminal, 80 columns wide: what does not fit beside each other stands below.

use std::fmt::Write;

use super::{AllParts, Limit, Report, Row, row};
use crate::{
    COMMIT, VERSION,
    histogram::Percentiles,
    net::Handshakes,
    tally::{Returns, Verdicts},
};

/// Columns of a terminal.
const WIDTH: usize = 80;

impl Report {
    /// The whole report as text.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        self.write(&mut out).expect("a string takes everything");
        out
    }

    /// The same without the plan, which was printed before the run; the name comes first, if it is one of
    /// several.
    pub fn results(&self, name: &str) -> String {
        let mut out = String::new();
        if name != self.scenario {
            put_wrapped(&mut out, name);
        }
        put_wrapped(&mut out, &self.place());
        self.write_results(&mut out).expect("a string takes everything");
        out
    }

    /// What was done, and where: some lines.
    pub(super) fn setting(&self) -> String {
        format!("{}\n{}", self.plan.describe(), self.place())
    }

    /// The machine, and the server on it.
    fn place(&self) -> String {
        let machine = &self.machine;
        let mut out = format!("{} · {} cores · Linux {}", machine.cpu, machine.cores, machine.kernel);
        let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a string takes everything");
        if let Some(average) = self.load.average {
            put(format_args!(" · load average {average:.1}"));
        }
        if let Some(steal) = self.load.steal_share.filter(|steal| *steal > 0.001) {
            put(format_args!(" · {:.1} % of the time stolen", steal * 100.0));
        }
        for process in &self.server {
            let version = process.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
            put(format_args!("\nserver: {}{version} ({}) {}", process.name, process.pid, process.command));
        }
        if let Some(software) = &self.handshakes.software {
            put(format_args!("\nserver says that it is {software}"));
        }
        put(format_args!("\nfanfare-loadgen {VERSION}, commit {COMMIT}"));
        out
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

    /// A row for each window, and one for all of them if they were to be alike.
    pub(super) fn rows(&self) -> impl Iterator<Item = (String, &Row)> {
        let rows = self.windows.iter().enumerate().map(|(number, row)| ((number + 1).to_string(), row));
        rows.chain((!self.is_ramp()).then(|| ("all".to_owned(), &self.summary)))
    }

    /// What is said of percentiles, if they need a word.
    pub(super) fn percentiles_note(&self) -> Option<String> {
        let count = self.summary.latency.count;
        let censored = self.summary.censored;
        let mut note = format!("latencies: {count} values in {} window(s)", self.windows.len());
        if censored > 0 {
            note += &format!("; {censored} of them never came and count as the time to the end of the drain");
        }
        if self.closed_loop {
            note += "; * closed loop: those of a full queue, without what was not sent meanwhile";
        }
        (count > 0).then_some(note)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        put_wrapped(out, &self.setting());
        self.write_results(out)
    }

    fn write_results(&self, out: &mut String) -> std::fmt::Result {
        if !self.windows.is_empty() {
            self.write_rows(out)?;
        }
        put_wrapped(out, &self.findings());
        self.write_thresholds(out)?;
        for problem in &self.problems {
            put_wrapped(out, &format!("FAILED: {problem}"));
        }
        if self.partial && !self.windows.is_empty() {
            writeln!(out, "The run ended early: the numbers above are partial.")?;
        }
        Ok(())
    }

    fn write_thresholds(&self, out: &mut String) -> std::fmt::Result {
        for threshold in &self.thresholds {
            let word = match threshold.is_true {
                Some(false) => "ok",
                _ => "FAILED",
            };
            writeln!(out, "fail if {:<28} {:>20}  {word}", threshold.condition, threshold.shown)?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut String) -> std::fmt::Result {
        if let Some(note) = self.percentiles_note() {
            writeln!(out, "{note}")?;
        }
        if let Some(AllParts { server_cores, generator_cores }) = self.all_parts {
            let (server, generator) = (share(server_cores), share(generator_cores));
            writeln!(out, "all parts of the phase together: server CPU {server}, loadgen CPU {generator}")?;
        }
        self.write_idling(out)?;
        let slow = &self.slow;
        if slow.readers > 0 {
            writeln!(
                out,
                "{} stopped reading: {} were disconnected, the others were told of {} missed{}",
                slow.readers,
                slow.disconnected,
                slow.missed,
                slow.backlogged.map_or(String::new(), |count| format!(", the server held back for {count}"))
            )?;
        }
        self.write_returns(out)?;
        self.write_verdicts(out)?;
        for row::StageRow { stage, latency } in &self.storm_stages {
            let ms = |us: f64| us / 1e3;
            let (p50, p99, max) = (ms(latency.p50_us), ms(latency.p99_us), ms(latency.max_us));
            let count = latency.count;
            writeln!(out, "{stage:>22}: {count} after p50 {p50:.3}, p99 {p99:.3}, max {max:.3} ms")?;
        }
        let Handshakes { full, resumed, .. } = self.handshakes;
        if full + resumed > 0 {
            writeln!(out, "TLS: {full} whole handshakes, {resumed} that resumed a session")?;
        }
        self.write_keeping_up(out)?;
        // Before there was a window, nothing could go wrong.
        if !self.windows.is_empty() || !self.faults.is_clean() {
            self.write_faults(out)?;
        }
        for remark in &self.remarks {
            writeln!(out, "note: {remark}")?;
        }
        Ok(())
    }

    /// What triggers made of messages.
    fn write_verdicts(&self, out: &mut String) -> std::fmt::Result {
        let Some(verdicts) = self.verdicts else { return Ok(()) };
        let Verdicts { passed, refused, failed, replaced, answered } = verdicts;
        writeln!(
            out,
            "triggers: {passed} messages passed, {refused} refused, {failed} failed, {answered} answered\n\
             triggers: {replaced} deliveries replaced"
        )
    }

    /// How connections came back after a storm.
    fn write_returns(&self, out: &mut String) -> std::fmt::Result {
        let Returns { recovered, unrecovered, resumed, lapsed, missed, .. } = self.returns;
        if resumed + lapsed > 0 {
            writeln!(out, "{resumed} came back and resumed their sessions, {lapsed} found them ended")?;
        }
        if recovered + unrecovered > 0 {
            writeln!(out, "{recovered} came back and recovered, {unrecovered} came back and did not")?;
        }
        if missed > 0 {
            writeln!(
                out,
                "{missed} messages that they had missed followed; gaps told of {} more",
                self.gaps
            )?;
        }
        Ok(())
    }

    fn write_faults(&self, out: &mut String) -> std::fmt::Result {
        let kinds = self.faults.kinds();
        let checked = kinds.iter().filter(|(kind, count)| *count > 0 || !self.not_checked.contains(kind));
        let counts: Vec<_> = checked.map(|(kind, count)| format!("{kind} {count}")).collect();
        write!(out, "{}  refused {}", counts.join("  "), self.refused)?;
        if self.plan.work.is_open_loop() {
            write!(out, "  late {:.2} %", self.summary.late_share * 100.0)?;
        }
        writeln!(out)?;
        if !self.not_checked.is_empty() {
            writeln!(out, "not checked: {}", self.not_checked.join(", "))?;
        }
        Ok(())
    }

    /// As many columns beside each other as fit, then the others below.
    fn write_rows(&self, out: &mut String) -> std::fmt::Result {
        let name = |column: &Column| match self.closed_loop && column.is_percentile {
            true => format!("{}*", column.name),
            false => column.name.to_owned(),
        };
        let columns = self.columns();
        let columns: Vec<_> = columns
            .iter()
            .map(|column| {
                let cells: Vec<_> = self.rows().map(|(_, row)| (column.cell)(row)).collect();
                let texts = cells.iter().map(String::as_str).chain([column.name]);
                let width = texts.map(|text| text.chars().count()).max().unwrap_or_default();
                (name(column), cells, width + usize::from(self.closed_loop && column.is_percentile))
            })
            .collect();
        let mut rest = &columns[..];
        while !rest.is_empty() {
            let mut width = "window".len();
            let fits = rest.iter().take_while(|(_, _, own)| {
                width += own + 2;
                width <= WIDTH
            });
            let (block, below) = rest.split_at(fits.count().max(1));
            write!(out, "{:>6}", "window")?;
            block.iter().try_for_each(|(name, _, width)| write!(out, "  {name:>width$}"))?;
            writeln!(out)?;
            for (at, (number, _)) in self.rows().enumerate() {
                write!(out, "{number:>6}")?;
                block.iter().try_for_each(|(_, cells, width)| write!(out, "  {:>width$}", cells[at]))?;
                writeln!(out)?;
            }
            rest = below;
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
        let Row { due_per_second, errors, .. } = &self.windows[fallen];
        let due = due_per_second.unwrap_or_default();
        match self.kept_up_per_second {
            Some(rate) => write!(out, "kept up with {rate:.0} cycles/s; ")?,
            None => write!(out, "never kept up; ")?,
        }
        let who = match self.limit {
            Limit::Generator => "the generator",
            Limit::Both => "server and generator",
            _ => "the server",
        };
        writeln!(
            out,
            "{who} fell behind in window {}: {due:.0}/s due, {:.0}/s done in time, {errors} failed",
            fallen + 1,
            self.windows[fallen].done_in_time_per_second
        )
    }

    fn write_idling(&self, out: &mut String) -> std::fmt::Result {
        let Some(idling) = &self.idling else { return Ok(()) };
        if let Some((pss, rss)) = self.idle_growth() {
            let count = self.rests();
            writeln!(
                out,
                "server, each of {count} connections at rest: {pss:.0} B of PSS, {rss:.0} B of RSS"
            )?;
        }
        if let Some(us) = self.idle_cpu_us_per_second {
            let all = self.plan.work.connections();
            writeln!(out, "server, each of {all} connections at rest: {us:.2} µs of CPU a second")?;
        }
        for (what, memory) in [
            ("server before", idling.before),
            ("server, base", idling.base),
            ("server, all", idling.full),
            ("generator, base", idling.generator_base),
            ("generator, all", idling.generator_full),
        ] {
            // Of several parts, none can say what of it is its own.
            if let Some(memory) = memory.filter(|_| self.all_parts.is_none()) {
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
    /// Whether it is of a distribution of latencies.
    pub(super) is_percentile: bool,
}

const NOTHING: &str = "–";

const fn number(name: &'static str, cell: fn(&Row) -> String) -> Column {
    Column { name, cell, is_percentile: false }
}

const fn percentile(name: &'static str, cell: fn(&Row) -> String) -> Column {
    Column { name, cell, is_percentile: true }
}

const COLUMNS: [Column; 21] = [
    number("due/s", |row| row.due_per_second.map_or(NOTHING.into(), rate)),
    number("deliveries/s", |row| rate(row.deliveries_per_second)),
    number("messages/s", |row| rate(row.messages_per_second)),
    number("operations/s", |row| rate(row.operations_per_second)),
    number("arrived", |row| share(row.arrived_share)),
    number("late", |row| share(Some(row.late_share).filter(|share| *share > 0.0))),
    number("errors", |row| rate(row.errors as f64)),
    number("s/M deliv.", |row| seconds(row.server_s_per_million_deliveries)),
    number("s/M oper.", |row| seconds(row.server_s_per_million_operations)),
    number("server CPU", |row| share(row.server_cores)),
    number("loadgen CPU", |row| share(row.generator_cores)),
    number("busy", |row| share(row.busy_share)),
    number("values", |row| rate(row.latency.count as f64)),
    percentile("p50 ms", |row| latency(row, row.latency.p50_us)),
    percentile("p90 ms", |row| latency(row, row.latency.p90_us)),
    percentile("p99 ms", |row| latency(row, row.latency.p99_us)),
    percentile("p99.9 ms", |row| latency(row, row.latency.p999_us)),
    percentile("max ms", |row| latency(row, row.latency.max_us)),
    number("byst. values", |row| rate(row.bystander_latency.map_or(0.0, |latency| latency.count as f64))),
    percentile("byst. p50 ms", |row| bystanders(row, |latency| latency.p50_us)),
    percentile("byst. p99 ms", |row| bystanders(row, |latency| latency.p99_us)),
];

/// Appends a text whose lines are broken between words where they are too long.
pub(crate) fn put_wrapped(out: &mut String, text: &str) {
    for line in text.lines() {
        let mut width = 0;
        for (at, word) in line.split(' ').enumerate() {
            let own = word.chars().count();
            if at > 0 && width + 1 + own > WIDTH {
                out.push_str("\n  ");
                width = 2;
            } else if at > 0 {
                out.push(' ');
                width += 1;
            }
            out.push_str(word);
            width += own;
        }
        out.push('\n');
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let mut out = String::new();
        put_wrapped(&mut out, &format!("{}\nshort  line", "word ".repeat(40).trim_end()));
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
        assert_eq!(out.split_whitespace().count(), 42);
        assert!(out.ends_with("\nshort  line\n"));
    }
}
