//! Numbers of the operating system about this process, by the names of Prometheus's client libraries.

/// One number of the process: its name, kind, description and value.
pub(super) struct ProcessMetric {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    pub(super) value: u64,
}

/// Reads the numbers of the process. A number that cannot be read is 0.
pub(super) fn process_metrics() -> [ProcessMetric; 4] {
    let metric = |name, kind, help, value| ProcessMetric { name, kind, help, value };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    [
        metric(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the process in bytes.",
            resident_bytes(),
        ),
        metric("process_open_fds", "gauge", "Open file descriptors of the process.", descriptors),
        metric("process_max_fds", "gauge", "Most file descriptors that the process may open.", limit),
        metric("process_threads", "gauge", "Threads of the process.", threads(&stat)),
    ]
}

fn resident_bytes() -> u64 {
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
        for metric in process_metrics() {
            assert!(metric.value > 0, "{}", metric.name);
        }
        assert_eq!(threads("1 (a ) b) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 7 0 9"), 7);
    }
}
