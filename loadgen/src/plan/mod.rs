//! What a run will do, complete and checked, before anything is done. Printed and saved with every report.

mod check;
mod work;

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{pacer::Schedule, thresholds::Threshold, timeline::Timing};
pub use work::{
    ConnectPlan, IdlePlan, Notices, Pace, PresencePlan, PublishPlan, Rate, Scope, StormPlan, Work,
};

/// Workers at most: more than any machine has cores.
pub(crate) const MAX_WORKERS: u64 = 1024;

/// Time between two operations of one mover in an open loop, at least.
pub(crate) const MOVER_GAP_NS: u64 = 50_000_000;

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// What is done.
    pub work: Work,
    /// The server's address.
    pub address: SocketAddr,
    /// Value of the `Host` header.
    pub host: String,
    /// The protocol.
    pub driver: DriverPlan,
    /// Processes of the server; found by its port if there are none.
    pub server_pids: Vec<u32>,
    /// Processes of the generator; with one, it is the coordinator's own.
    pub processes: u32,
    /// Worker threads of each.
    pub threads: u32,
    /// The CPUs they run on, in turn; anywhere if there are none.
    pub pin: Vec<u32>,
    /// Whether they look for events all the time instead of sleeping.
    pub spin: bool,
    /// Closed loop: whether the generator may be the limit, so that rates are lower bounds.
    #[serde(default)]
    pub lower_bound: bool,
    /// Conditions under which the run fails.
    #[serde(default)]
    pub fail_if: Vec<Threshold>,
    /// Whether other parts of a phase use the same processes at the same time.
    #[serde(default)]
    pub shared: bool,
    /// Seconds before the first window.
    pub warmup_seconds: f64,
    /// Seconds of each window.
    pub window_seconds: f64,
    /// Number of windows.
    pub windows: u32,
    /// Seconds after the last window for what is on the way to arrive.
    pub drain_seconds: f64,
    /// Source addresses; 0 is as many as the connections need.
    pub sources: u32,
    /// Handshakes under way at one time.
    pub parallel: u32,
    /// What channels' names begin with.
    pub prefix: String,
    /// Where randomness comes from.
    pub seed: u64,
    /// This run's number, in every payload.
    pub run: u32,
}

/// A protocol, and what connecting by it needs. Which of these a driver uses is its own business.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DriverPlan {
    /// The driver's name.
    pub name: String,
    /// The app's name.
    pub app: String,
    /// The app's key. Not for reports.
    #[serde(skip)]
    pub key: String,
    /// The app's secret, for signatures. Not for reports.
    #[serde(skip)]
    pub secret: String,
    /// The path of the WebSocket.
    pub path: Option<String>,
    /// That of connections that only publish.
    pub publish_path: Option<String>,
    /// Part of the text that says that a connection is ready.
    pub welcome: Option<String>,
    /// The text that joins.
    pub join: Option<String>,
    /// Part of the answer to it.
    pub joined: Option<String>,
    /// The text that publishes.
    pub send: Option<String>,
}

/// Why a plan cannot be carried out: one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError(pub String);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Worker threads of all processes.
    pub(crate) fn workers(&self) -> u32 {
        self.processes * self.threads
    }

    /// How long its stages last.
    pub(crate) fn timing(&self) -> Timing {
        Timing::new(self.warmup_seconds, self.window_seconds, self.windows)
    }

    /// When connections are due, if there is a schedule of them.
    pub(crate) fn connect_schedule(&self) -> Option<Schedule> {
        let Work::Connect(ConnectPlan { rate: Some(rate), .. }) = &self.work else { return None };
        let seconds = self.window_seconds * f64::from(self.windows);
        Some(Schedule::changing((rate.from, rate.to), self.warmup_seconds, seconds))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Args, Job};

    /// What a command line plans.
    pub(crate) fn plan(line: &str) -> Plan {
        let args = Args::try_parse_from(line.split_whitespace()).expect("well-formed");
        let (Job::Run(mut phases), _) = args.into_job().expect("valid") else { panic!("a run") };
        phases.remove(0).plans.remove(0)
    }

    #[test]
    fn plan_reaches_another_process_as_it_is() {
        for line in [
            "loadgen fanout --rate 0.1",
            "loadgen send",
            "loadgen slow",
            "loadgen idle",
            "loadgen storm --rate 0.3",
            "loadgen connect",
            "loadgen connect --rate 10 --to 20",
        ] {
            let plan = plan(line);
            let json = serde_json::to_string(&plan).expect("numbers and strings");
            let read: Plan = serde_json::from_str(&json).expect("what was written");
            assert_eq!(format!("{read:?}"), format!("{plan:?}"));
        }
    }
}
