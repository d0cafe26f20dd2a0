//! What the operating system says of this process, by the names that Prometheus's libraries use.

/// One number of the process: name, kind, description, value.
pub(super) struct ProcessMetric {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    pub(super) value: u64,
}

/// What can be read of the process; what cannot is 0.
pub(super) fn process_metrics() -> [ProcessMetric; 4] {
    let metric = |name, kind, help, value| ProcessMetric { name, kind, help, value };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    [
        metric("process_resident_memory_bytes", "gauge", "Memory that the process has.", resident_bytes()),
        metric("process_open_fds", "gauge", "Descriptors that are open.", descriptors),
        metric("process_max_fds", "gauge", "Descriptors that may be open.", limit),
        metric("process_threads", "gauge", "Threads of the process.", threads(&stat)),
    ]
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Field 20 of proc_pid_stat(5); the name before it is in parentheses and may have spaces.
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
