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
