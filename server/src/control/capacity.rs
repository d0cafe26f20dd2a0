//! How many more connections the server has room for, and what bounds them first.
//!
//! ```text
//!   connections  the limit of the configuration − connections
//!   open_files   the limit of the process − descriptors set aside − connections
//!   memory       (the limit − memory in use) ÷ bytes of a connection
//! ```
//!
//! The bytes of a connection are what the resident memory has grown by since the start, for each connection,
//! and what the kernel takes for a socket. So they hold for the present mix: channels, profiles and history
//! count in proportion.

use std::path::Path;

use super::{
    admin::Observed,
    process::{open_files_limit, resident_bytes},
};
use crate::reserved_descriptors;

/// With fewer connections than this the growth of memory says nothing about them.
const MEASURED_FROM: u64 = 100;

/// The bytes of a connection and its session that are assumed as long as nothing is measured.
const ASSUMED_BYTES: u64 = 2 << 10;

/// What Linux takes for a TCP socket at rest: socket, inode, file, directory entry and the entry of epoll.
const KERNEL_BYTES: u64 = 4 << 10;

/// Where the limit of memory comes from.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Source {
    /// `server.limits.memory_bytes`.
    Configured,
    Cgroup,
    /// The memory of the machine.
    Machine,
}

/// A limit of memory, and how much of the memory is in use.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct MemoryLimit {
    source: Source,
    limit: u64,
    used: u64,
}

/// What a connection takes, in user space.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct ConnectionBytes {
    bytes: u64,
    is_measured: bool,
}

impl ConnectionBytes {
    fn of(grown: u64, connections: u64) -> Self {
        match connections {
            0..MEASURED_FROM => Self { bytes: ASSUMED_BYTES, is_measured: false },
            _ => Self { bytes: grown / connections, is_measured: true },
        }
    }
}

/// One bound on connections.
struct Bound {
    name: &'static str,
    more: u64,
    /// The members of its JSON besides `more`.
    details: String,
}

/// Writes `{"connections","more","reason","bounds":{…}}`.
pub(crate) fn json(observed: &Observed) -> String {
    let config = observed.control.current.config();
    let connections = observed.control.capacity.taken() as u64;
    let mut bounds = Vec::new();
    if config.connections > 0 {
        let limit = u64::from(config.connections);
        let details = format!("\"limit\":{limit},\"used\":{connections}");
        bounds.push(Bound { name: "connections", more: limit.saturating_sub(connections), details });
    }
    let (files, reserved) = (open_files_limit(), reserved_descriptors(&config));
    let details = format!("\"limit\":{files},\"reserved\":{reserved},\"used\":{connections}");
    bounds.push(Bound { name: "open_files", more: files.saturating_sub(reserved + connections), details });
    let resident = resident_bytes();
    let each = ConnectionBytes::of(resident.saturating_sub(observed.resident_at_start), connections);
    if let Some(memory) = memory_limit(config.memory_bytes, resident) {
        bounds.push(memory_bound(memory, each));
    }
    put(connections, &bounds)
}

fn memory_bound(memory: MemoryLimit, each: ConnectionBytes) -> Bound {
    let MemoryLimit { source, limit, used } = memory;
    let source = match source {
        Source::Configured => "configured",
        Source::Cgroup => "cgroup",
        Source::Machine => "machine",
    };
    let ConnectionBytes { bytes, is_measured } = each;
    let details = format!(
        "\"limit\":{limit},\"used\":{used},\"source\":\"{source}\",\"connection_bytes\":{bytes},\
         \"connection_bytes_measured\":{is_measured},\"connection_kernel_bytes\":{KERNEL_BYTES}"
    );
    Bound { name: "memory", more: limit.saturating_sub(used) / (bytes + KERNEL_BYTES), details }
}

fn put(connections: u64, bounds: &[Bound]) -> String {
    let first = bounds.iter().min_by_key(|bound| bound.more).expect("open files are always bounded");
    let texts: Vec<String> = bounds
        .iter()
        .map(|Bound { name, more, details }| format!("\"{name}\":{{\"more\":{more},{details}}}"))
        .collect();
    format!(
        "{{\"connections\":{connections},\"more\":{},\"reason\":\"{}\",\"bounds\":{{{}}}}}\n",
        first.more,
        first.name,
        texts.join(",")
    )
}

/// The limit of memory that holds: the configured one, or else the one of the cgroup, or else the machine's.
fn memory_limit(configured: u64, resident: u64) -> Option<MemoryLimit> {
    if configured > 0 {
        return Some(MemoryLimit { source: Source::Configured, limit: configured, used: resident });
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup_limit(Path::new("/sys/fs/cgroup"), &own).or_else(machine_limit)
}

fn machine_limit() -> Option<MemoryLimit> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| Some(field(&text, name)? << 10);
    let limit = bytes("MemTotal:")?;
    let used = limit.saturating_sub(bytes("MemAvailable:")?);
    Some(MemoryLimit { source: Source::Machine, limit, used })
}

/// The tightest limit among the cgroup of the process and the cgroups above it. `own` has the text of
/// proc_pid_cgroup(5). Both versions of cgroups are read.
fn cgroup_limit(root: &Path, own: &str) -> Option<MemoryLimit> {
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => root.to_owned(),
            _ if controllers.split(',').any(|name| name == "memory") => root.join("memory"),
            _ => continue,
        };
        let own = base.join(path.trim_start_matches('/'));
        let ancestors = own.ancestors().take_while(|folder| folder.starts_with(&base));
        folders.extend(ancestors.map(Path::to_owned));
        // A container sees its own cgroup as the root.
        folders.push(base);
    }
    let limits = folders.iter().filter_map(|folder| cgroup_limit_in(folder));
    limits.min_by_key(|memory| memory.limit.saturating_sub(memory.used))
}

/// The limit of one cgroup. Pages of files that nobody has used lately are free: the kernel drops them.
fn cgroup_limit_in(folder: &Path) -> Option<MemoryLimit> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (limit, used) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?),
    };
    // Version 1 says 2^63, rounded down to a page, for no limit.
    if limit >= 1 << 62 {
        return None;
    }
    let stat = read("memory.stat").unwrap_or_default();
    let free = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file")).unwrap_or(0);
    Some(MemoryLimit { source: Source::Cgroup, limit, used: used.saturating_sub(free) })
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_connection_is_measured_when_there_are_enough() {
        assert_eq!(ConnectionBytes::of(0, 0), ConnectionBytes { bytes: ASSUMED_BYTES, is_measured: false });
        assert!(!ConnectionBytes::of(1 << 30, 99).is_measured);
        assert_eq!(ConnectionBytes::of(150_000, 100), ConnectionBytes { bytes: 1500, is_measured: true });
    }

    #[test]
    fn the_bound_with_the_least_room_is_the_reason() {
        let memory = MemoryLimit { source: Source::Cgroup, limit: 100 << 20, used: 40 << 20 };
        let memory = memory_bound(memory, ConnectionBytes { bytes: 2048, is_measured: true });
        assert_eq!(memory.more, (60 << 20) / (2048 + 4096));
        let files = |more| Bound { name: "open_files", more, details: String::from("\"limit\":0") };
        assert!(
            put(7, &[files(10_000), memory])
                .starts_with("{\"connections\":7,\"more\":10000,\"reason\":\"open_files\"")
        );
        let full = MemoryLimit { source: Source::Machine, limit: 1, used: 2 };
        let full = memory_bound(full, ConnectionBytes { bytes: 0, is_measured: true });
        assert!(put(7, &[files(1), full]).contains("\"more\":0,\"reason\":\"memory\""));
    }

    #[test]
    fn the_tightest_cgroup_bounds() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        let limit = |own| cgroup_limit(root.path(), own);
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "5\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "1000\n");
        write("a/memory.current", "900\n");
        write("a/memory.stat", "anon 1\ninactive_file 300\n");
        let of = |limit, used| Some(MemoryLimit { source: Source::Cgroup, limit, used });
        assert_eq!(limit("0::/a/b\n"), of(1000, 600));
        // A container's own path is not under its root.
        write("memory.max", "800\n");
        write("memory.current", "700\n");
        assert_eq!(limit("0::/../other\n"), of(800, 700));
        assert_eq!(limit("nonsense\n:\n1:cpu:/a\n"), None);
        write("memory/c/memory.limit_in_bytes", "2000\n");
        write("memory/c/memory.usage_in_bytes", "1990\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/memory.usage_in_bytes", "1\n");
        assert_eq!(limit("4:cpu,memory:/c\n"), of(2000, 1990));
        assert_eq!(limit("4:memory:/gone\n"), None);
    }

    #[test]
    fn the_machine_has_memory() {
        let machine = machine_limit().expect("Linux says so");
        assert!(machine.used > 0 && machine.used <= machine.limit);
        let configured = memory_limit(1 << 30, 5).expect("it is configured");
        assert_eq!(configured, MemoryLimit { source: Source::Configured, limit: 1 << 30, used: 5 });
    }
}
