//! The effective plan in words: printed before a run, and in every report.

use std::{fmt::Write, thread};

use super::table::put_wrapped;
use crate::plan::{ConnectPlan, Notices, Pace, Plan, Rate, Work};

impl Plan {
    /// The same, for a terminal.
    pub fn describe_wrapped(&self) -> String {
        let mut out = String::new();
        put_wrapped(&mut out, &self.describe());
        out
    }

    /// What will be done, how and for how long: two lines.
    pub fn describe(&self) -> String {
        let waits = if self.spin { "spinning" } else { "sleeping" };
        let workers = match self.processes {
            1 => format!("{} thread(s)", self.threads),
            processes => format!("{processes} processes of {} thread(s)", self.threads),
        };
        let mut out = format!(
            "{} · {} · {} · {workers}, {waits} · seed {}\n",
            self.work.name(),
            self.address,
            self.work.describe(),
            self.seed
        );
        let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a string takes everything");
        if let Some(tls) = &self.tls {
            let trust = if tls.insecure { ", any certificate" } else { "" };
            let sessions = if tls.resumption { "sessions resumed" } else { "no session resumed" };
            put(format_args!("TLS, {sessions}{trust} · "));
        }
        put(format_args!("driver {} · channels {}… · run {}", self.driver.name, self.prefix, self.run));
        put(format_args!(
            " · warm-up {} s, {} windows of {} s, drain {} s",
            self.warmup_seconds, self.windows, self.window_seconds, self.drain_seconds
        ));
        if !matches!(self.work, Work::Connect(_)) {
            put(format_args!(" · {} handshakes at a time", self.parallel));
        }
        if self.lower_bound {
            put(format_args!(" · a lower bound will do"));
        }
        if self.sources > 1 {
            put(format_args!(" · {} source addresses", self.sources));
        }
        if !self.pin.is_empty() {
            put(format_args!(" · CPUs {:?}", self.pin));
        }
        if !self.server_pids.is_empty() {
            put(format_args!(" · server {:?}", self.server_pids));
        }
        if let Some(warning) = self.spin_warning() {
            put(format_args!("\nwarning: {warning}"));
        }
        out
    }

    /// Whether workers that never sleep have to take turns.
    pub(crate) fn spin_warning(&self) -> Option<String> {
        let mut cpus = self.pin.clone();
        cpus.sort_unstable();
        cpus.dedup();
        let available = thread::available_parallelism().map_or(1, usize::from);
        let places = if cpus.is_empty() { available } else { cpus.len() };
        let workers = (self.workers() + self.rivals) as usize;
        (self.spin && workers > places).then(|| {
            format!(
                "{workers} workers spin on {places} CPU(s): each waits for the others' turns (--sleep, --pin)"
            )
        })
    }
}

impl Work {
    fn describe(&self) -> String {
        match self {
            Self::Fanout(work) | Self::Send(work) | Self::Broadcast(work) | Self::Slow(work) => {
                let mut what = format!(
                    "{} channel(s) of {}, {} publisher(s) each, {} B",
                    work.channels, work.members, work.publishers, work.payload
                );
                if work.slow > 0 {
                    what += &format!(", {} slow", work.slow);
                }
                if work.echo {
                    what += ", with echo";
                }
                what + &match work.pace {
                    Pace::Closed { window } => format!(
                        ", closed loop, {window} in flight in each channel, lost after {} s",
                        work.expiry_seconds
                    ),
                    Pace::Open { rate } => format!(", open loop, {rate} messages/s"),
                }
            }
            Self::Idle(work) => {
                format!(
                    "{} connections, {} in each channel, memory at {} and at rest for {} s",
                    work.connections, work.members, work.base, work.settle_seconds
                )
            }
            Self::Storm(work) => {
                let mut what = format!("{} connections, {} in each channel", work.connections, work.members);
                if work.rate > 0.0 {
                    what += &format!(", {} messages/s of {} B", work.rate, work.payload);
                }
                if work.bystanders > 0 {
                    what += &format!(", {} bystanders, {} messages/s", work.bystanders, work.bystander_rate);
                }
                what
            }
            Self::Connect(ConnectPlan { parallel, join, rate }) => {
                let join = if *join { "with join" } else { "no join" };
                match rate {
                    None => format!("closed loop, {parallel} cycles at a time, {join}"),
                    Some(Rate { from, to }) => {
                        let to = if from == to { String::new() } else { format!(" to {to}") };
                        format!("open loop, {from}{to} cycles/s, {parallel} at a time at most, {join}")
                    }
                }
            }
            Self::Presence(work) => {
                let mut what = format!(
                    "{} channels of {}, {} of them come and go",
                    work.channels,
                    work.watchers + work.movers,
                    work.movers
                );
                if work.updates {
                    what += ", with updates";
                }
                if work.queries {
                    what += ", with queries";
                }
                if work.notices == Notices::Merged {
                    what += ", notices may cancel each other out";
                }
                what + &match work.rate {
                    Some(rate) => format!(", open loop, {rate} operations/s"),
                    None => ", closed loop, one operation of each at a time".into(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::tests::plan;

    #[test]
    fn workers_that_spin_on_one_cpu_are_warned_of() {
        for (line, is_warned) in [
            ("loadgen fanout -r 5 --threads 2 --pin 0", true),
            ("loadgen fanout -r 5 --threads 2 --pin 0,0", true),
            ("loadgen fanout -r 5 --threads 2 --pin 0,1", false),
            ("loadgen fanout -r 5 --threads 2 --pin 0 --sleep", false),
            ("loadgen fanout --threads 2 --pin 0", false),
            ("loadgen fanout -r 5 --threads 512", true),
        ] {
            let plan = plan(line);
            assert_eq!(plan.spin_warning().is_some(), is_warned, "{line}");
            assert_eq!(plan.describe().contains("\nwarning: "), is_warned, "{line}");
        }
    }
}
