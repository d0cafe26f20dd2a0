//! Numbers of the operating system about this process, by the names of Prometheus's client libraries.

use rustix::time::{ClockId, clock_gettime};

use super::exposition::Kind;

/// One number of the process: its name, kind, description and value.
pub(super) struct ProcessMetric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: f64,
}

/// Reads the numbers of the process, which started at `started_unix_s`. A number that cannot be read is 0.
pub(super) fn process_metrics(started_unix_s: f64) -> [ProcessMetric; 6] {
    let metric = |name, kind, help, value| ProcessMetric { name, kind, help, value };
    let gauge = |name, help, value| metric(name, Kind::Gauge, help, value);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    [
        metric(
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time of the process, user and system, in seconds.",
            cpu_seconds(),
        ),
        gauge(
            "process_start_time_seconds",
            "Time at which the server started, in seconds since 1970.",
            started_unix_s,
        ),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory of the process in bytes.",
            resident_bytes() as f64,
        ),
        gauge("process_open_fds", "Open file descriptors of the process.", open_files() as f64),
        gauge(
            "process_max_fds",
            "Most file descriptors that the process may open.",
            open_files_limit() as f64,
        ),
        gauge("process_threads", "Threads of the process.", threads(&stat) as f64),
    ]
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The open file descriptors.
pub(super) fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// The limit of open file descriptors.
pub(super) fn open_files_limit() -> u64 {
    rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft)
}

/// The resident memory.
pub(super) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Reads field 20 of proc_pid_stat(5). The name before the field is in parentheses and may contain spaces.
fn threads(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(17).and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_descriptors_and_threads() {
        for metric in process_metrics(1.0) {
            assert!(metric.value > 0.0, "{}", metric.name);
        }
        assert_eq!(threads("1 (a ) b) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 7 0 9"), 7);
    }
}
