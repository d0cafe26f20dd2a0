//! Which machine a run was made on: numbers of different machines are not compared.

use std::{fs, thread};

use serde::{Deserialize, Serialize};

/// A machine, as far as it decides about speed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores that can be used.
    pub cores: usize,
    /// Version of the kernel.
    pub kernel: String,
}

/// What else a machine had to do during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Load {
    /// Load average over the last minute, at the end of the run.
    pub average: Option<f64>,
    /// Share of the time of all CPUs that the hypervisor gave to others.
    pub steal_share: Option<f64>,
    #[serde(skip)]
    stolen: u64,
    #[serde(skip)]
    all: u64,
}

impl Load {
    /// As it is now.
    pub(crate) fn read() -> Self {
        let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        Self {
            average: average.split_whitespace().next().and_then(|field| field.parse().ok()),
            steal_share: None,
            stolen: ticks.get(7).copied().unwrap_or_default(),
            all: ticks.iter().sum(),
        }
    }

    /// With the share of time that was stolen since another one.
    pub(crate) fn since(self, before: &Self) -> Self {
        let all = self.all.saturating_sub(before.all);
        let stolen = self.stolen.saturating_sub(before.stolen);
        Self { steal_share: (all > 0).then(|| stolen as f64 / all as f64), ..self }
    }
}

impl Machine {
    /// This one.
    pub(super) fn read() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
        // The affinity of this process may leave it less; that is no property of the machine.
        let cores = if cpus > 0 { cpus } else { thread::available_parallelism().map_or(1, usize::from) };
        Self {
            cpu: model.map_or("unknown", |(_, model)| model.trim()).to_owned(),
            cores,
            kernel: kernel.trim().to_owned(),
        }
    }
}
