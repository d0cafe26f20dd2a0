//! What the kernel says about processes on this machine: CPU time, memory, who listens where.
//!
//! Reads `/proc` and nothing else. What cannot be read is `None`: another user's process has no smaps.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    path::Path,
};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity},
};
use serde::Serialize;

/// The processes of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessSet {
    pids: Vec<u32>,
}

/// What a set of processes occupies, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Memory {
    /// Proportional set size: what user space really costs.
    pub pss_bytes: u64,
    /// Resident set size.
    pub rss_bytes: u64,
}

/// Whether there is such a process.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

impl ProcessSet {
    /// The given ones.
    pub(crate) fn new(pids: Vec<u32>) -> Self {
        Self { pids }
    }

    /// This process, and these.
    pub(crate) fn this_and(others: impl IntoIterator<Item = u32>) -> Self {
        Self { pids: others.into_iter().chain([std::process::id()]).collect() }
    }

    /// All those that have the socket open which listens on the address's port. Empty for a remote address, or if
    /// they are another user's.
    pub(crate) fn listening_on(address: SocketAddr) -> Self {
        if !address.ip().is_loopback() {
            return Self::default();
        }
        let mut inodes = HashSet::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let table = fs::read_to_string(table).unwrap_or_default();
            inodes.extend(table.lines().filter_map(|line| listening_inode(line, address.port())));
        }
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self { pids: pids.filter(|pid| has_socket(*pid, &inodes)).collect() }
    }

    /// Their ids.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// CPU time of all threads that live, in nanoseconds. A thread that ended takes its time with it, except where
    /// the kernel keeps no finer account than `stat`.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        if self.pids.is_empty() {
            return None;
        }
        self.pids.iter().map(|pid| threads_cpu_ns(*pid).or_else(|| stat_cpu_ns(*pid))).sum()
    }

    /// CPU time of each thread that lives, by its id.
    pub(crate) fn cpu_ns_by_thread(&self) -> HashMap<u32, u64> {
        let tasks = self.pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        let times = tasks
            .flatten()
            .flatten()
            .filter_map(|task| Some((task.file_name().to_str()?.parse().ok()?, schedstat_ns(&task.path())?)));
        times.collect()
    }

    /// Cores that they may run on; those of their first threads, which the others begin with.
    pub(crate) fn cores(&self) -> usize {
        let pids = self.pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32));
        let sets: Vec<_> = pids.filter_map(|pid| sched_getaffinity(Some(pid)).ok()).collect();
        (0..CpuSet::MAX_CPU).filter(|cpu| sets.iter().any(|set| set.is_set(*cpu))).count()
    }

    /// What they occupy.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let mut sum = (!self.pids.is_empty()).then(Memory::default)?;
        for pid in &self.pids {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            sum.pss_bytes += field_kib(&rollup, "Pss:")? * 1024;
            sum.rss_bytes += field_kib(&rollup, "Rss:")? * 1024;
        }
        Some(sum)
    }

    /// Their resident set size in bytes. Cheaper to read than [`ProcessSet::memory`], which walks all of it.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        let resident = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some(field_kib(&status, "VmRSS:")? * 1024)
        };
        (!self.pids.is_empty()).then(|| self.pids.iter().map(resident).sum())?
    }

    /// The fewest files that one of them may open.
    pub(crate) fn open_files_limit(&self) -> Option<u64> {
        let limit = |pid: &u32| {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
            let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        self.pids.iter().filter_map(limit).min()
    }
}

/// The inode of a line of `/proc/net/tcp` whose socket listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (_, local_port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    if state != LISTEN || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    fields.nth(5)?.parse().ok()
}

fn has_socket(pid: u32, inodes: &HashSet<u64>) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| {
        let inode = link.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.and_then(|inode| inode.parse().ok()).is_some_and(|inode| inodes.contains(&inode))
    })
}

fn threads_cpu_ns(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().map(|task| schedstat_ns(&task.path())).sum()
}

fn schedstat_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

/// User and system time in ticks of 10 ms, from behind the command's name, which may hold anything.
fn stat_cpu_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|field| field.parse::<u64>().ok()).sum::<Option<_>>()?;
    Some(ticks * 10_000_000)
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_found_by_the_port_it_listens_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let found = ProcessSet::listening_on(listener.local_addr().expect("bound"));
        assert_eq!(found.pids(), [std::process::id()]);
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let this = ProcessSet::this_and([]);
        let before = this.cpu_ns().expect("readable");
        let mut sum = 0_u64;
        while this.cpu_ns().expect("readable") < before + 20_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(this.cpu_ns_by_thread().values().any(|used| *used > 0) && this.cores() > 0);
        assert!(this.memory().expect("readable").pss_bytes > 0);
        assert!(this.rss_bytes().expect("readable") > 0);
        assert!(stat_cpu_ns(std::process::id()).is_some());
    }

    #[test]
    fn processes_that_are_not_there_have_nothing() {
        let none = ProcessSet::new(vec![u32::MAX]);
        assert!(none.cpu_ns().is_none() && none.memory().is_none());
        assert!(ProcessSet::default().cpu_ns().is_none());
    }
}
