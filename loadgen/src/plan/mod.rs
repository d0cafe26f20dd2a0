//! The plan of a run: complete and checked before the run starts, printed, and saved with every report.

mod check;
mod work;

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{pacer::Schedule, thresholds::Threshold, timeline::Timing};
pub use work::{
    ConnectPlan, IdlePlan, Notices, Pace, PresencePlan, PublishPlan, Rate, Scope, StormPlan, Work,
};

/// The most worker threads: more than any machine has cores.
pub(crate) const MAX_WORKERS: u64 = 1024;

/// The shortest time between two operations of one mover in an open loop.
pub(crate) const MOVER_GAP_NS: u64 = 50_000_000;

/// The plan of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario with its parameters.
    pub work: Work,
    /// The server's address.
    pub address: SocketAddr,
    /// The value of the `Host` header.
    pub host: String,
    /// TLS, if the server is spoken to by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsPlan>,
    /// The protocol, with its connection parameters.
    pub driver: DriverPlan,
    /// The processes of the server. If the list is empty, the process is found by the server's port.
    pub server_pids: Vec<u32>,
    /// The number of processes of the generator. A single process is the coordinator's own.
    pub processes: u32,
    /// The worker threads of each process.
    pub threads: u32,
    /// The CPUs on which the worker threads run, in turn. If the list is empty, the threads run on any CPU.
    pub pin: Vec<u32>,
    /// Whether the worker threads poll for events instead of sleeping.
    pub spin: bool,
    /// Whether the generator may be the limit in a closed loop, so that rates are lower bounds.
    #[serde(default)]
    pub lower_bound: bool,
    /// Conditions under which the run fails.
    #[serde(default)]
    pub fail_if: Vec<Threshold>,
    /// Whether other parts of a phase use the same processes at the same time.
    #[serde(default)]
    pub shared: bool,
    /// Worker threads of other parts of the phase that never sleep and may run on the same CPUs.
    #[serde(default)]
    pub rivals: u32,
    /// Seconds before the first window.
    pub warmup_seconds: f64,
    /// Seconds of each window.
    pub window_seconds: f64,
    /// Number of windows.
    pub windows: u32,
    /// The seconds after the last window in which deliveries may still arrive.
    pub drain_seconds: f64,
    /// The number of source addresses; 0 for as many as the connections need.
    pub sources: u32,
    /// The most handshakes at a time.
    pub parallel: u32,
    /// The beginning of the channels' names.
    pub prefix: String,
    /// The seed of all randomness.
    pub seed: u64,
    /// The number of this run, which is in every payload.
    pub run: u32,
}

/// How TLS is spoken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TlsPlan {
    /// The name that the server's certificate is to have.
    pub name: String,
    /// A file with the certificates of authorities. Without one, the system's are trusted.
    pub ca: Option<PathBuf>,
    /// Whether every certificate is taken.
    pub insecure: bool,
    /// Whether connections resume sessions of earlier connections. Otherwise each is a client of its own.
    pub resumption: bool,
}

/// A protocol, and the parameters of its connections. A driver uses some of the parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DriverPlan {
    /// The driver's name.
    pub name: String,
    /// The app's name.
    pub app: String,
    /// The app's key, which no report shows.
    #[serde(skip)]
    pub key: String,
    /// The app's secret for signatures, which no report shows.
    #[serde(skip)]
    pub secret: String,
    /// The path of the WebSocket.
    pub path: Option<String>,
    /// The path of WebSockets that only publish.
    pub publish_path: Option<String>,
    /// A part of the text that shows that a connection is ready.
    pub welcome: Option<String>,
    /// The text that joins a channel.
    pub join: Option<String>,
    /// A part of the answer to a join.
    pub joined: Option<String>,
    /// The text that publishes a message.
    pub send: Option<String>,
    /// Whether members poll over HTTP.
    #[serde(default)]
    pub polling: bool,
    /// Whether publishers use HTTP.
    #[serde(default)]
    pub publish_http: bool,
    /// Whether triggers of the app decide what becomes of messages.
    #[serde(default)]
    pub triggers: bool,
    /// The most messages of one request.
    #[serde(default)]
    pub batch: u32,
}

/// Why a plan cannot be carried out, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError(pub String);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// The number of worker threads of all processes.
    pub(crate) fn workers(&self) -> u32 {
        self.processes * self.threads
    }

    /// The times of the run's stages.
    pub(crate) fn timing(&self) -> Timing {
        Timing::new(self.warmup_seconds, self.window_seconds, self.windows)
    }

    /// The times at which connections are due, if the plan has a schedule for connections.
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

    /// The plan of a command line.
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
