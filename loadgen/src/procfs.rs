//! What the kernel says about processes on this machine: CPU time, memory, who listens where.
//!
//! Reads `/proc` and nothing else. What cannot be read is `None`: another user's process has no smaps.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    thread,
};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
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

/// A process, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its version, if it is a Fanfare server, which says so itself.
    pub version: Option<String>,
    /// Its command line; what follows a word like `--key` is left out.
    pub command: String,
}

/// Characters of a command line that are shown.
const COMMAND_CHARS: usize = 200;

impl ProcessInfo {
    fn read(pid: u32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split('\0').filter(|word| !word.is_empty()).collect();
        Some(Self {
            pid,
            version: (name == "fanfare").then(|| fanfare_version(pid)).flatten(),
            name,
            command: without_secrets(&words).join(" ").chars().take(COMMAND_CHARS).collect(),
        })
    }
}

/// What the program of a Fanfare server says of its version. No other program is asked: nobody knows what it
/// would do.
fn fanfare_version(pid: u32) -> Option<String> {
    let output = Command::new(format!("/proc/{pid}/exe")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix("fanfare ").map(|version| version.chars().take(100).collect())
}

/// A command line as it may be shown: the values of what is called a key, a secret, a token or a password are
/// left out.
pub(crate) fn without_secrets(words: &[&str]) -> Vec<String> {
    let is_secret = |name: &str| {
        let name = name.to_lowercase();
        ["key", "secret", "token", "pass"].iter().any(|what| name.contains(what))
    };
    let mut shown = Vec::new();
    let mut hides_next = false;
    for word in words {
        let is_option = word.starts_with('-');
        match word.split_once('=') {
            Some((name, _)) if is_secret(name) => shown.push(format!("{name}=…")),
            _ if hides_next && !is_option => shown.push("…".into()),
            _ => shown.push((*word).to_owned()),
        }
        hides_next = is_option && !word.contains('=') && is_secret(word);
    }
    shown
}

/// Whether a process is no more, or waits for its parent to hear of its end.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().next());
    matches!(state, None | Some("Z" | "X"))
}

/// Whether this process may run on a CPU: it is tried, on a thread of its own.
pub(crate) fn has_cpu(cpu: u32) -> bool {
    let try_it = move || {
        let mut set = CpuSet::new();
        (cpu as usize) < CpuSet::MAX_CPU && {
            set.set(cpu as usize);
            sched_setaffinity(None, &set).is_ok()
        }
    };
    thread::spawn(try_it).join().unwrap_or(false)
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

    /// All those that have the socket open which listens on the address's port. Empty for a remote address,
    /// or if they are another user's.
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

    /// The sockets that they have open, as the kernel's tables number them.
    pub(crate) fn socket_inodes(&self) -> HashSet<u64> {
        self.pids.iter().flat_map(|pid| socket_inodes(*pid)).collect()
    }

    /// Their ids.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// What each of them is, as far as it can be read.
    pub(crate) fn describe(&self) -> Vec<ProcessInfo> {
        self.pids.iter().filter_map(|pid| ProcessInfo::read(*pid)).collect()
    }

    /// CPU time of all threads that live, in nanoseconds. A thread that ended takes its time with it, except
    /// where the kernel keeps no finer account than `stat`. None if one of the processes has ended.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        if self.pids.is_empty() || self.pids.iter().any(|pid| has_ended(*pid)) {
            return None;
        }
        self.pids.iter().map(|pid| threads_cpu_ns(*pid).or_else(|| stat_cpu_ns(*pid))).sum()
    }

    /// CPU time of all threads there ever were, in nanoseconds but exact to 10 ms only.
    pub(crate) fn ticks_ns(&self) -> Option<u64> {
        if self.pids.is_empty() || self.pids.iter().any(|pid| has_ended(*pid)) {
            return None;
        }
        self.pids.iter().map(|pid| stat_cpu_ns(*pid)).sum()
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

/// One of the processes that neither listens on the address's port nor has to do with one that does: started
/// it, or was started by it. None if who listens cannot be seen.
pub(crate) fn stranger(pids: &[u32], address: SocketAddr) -> Option<u32> {
    let listening = ProcessSet::listening_on(address);
    if listening.pids().is_empty() {
        return None;
    }
    let is_related = |pid: &u32| {
        listening
            .pids()
            .iter()
            .any(|other| ancestors(*pid).contains(other) || ancestors(*other).contains(pid))
    };
    pids.iter().copied().find(|pid| !is_related(pid))
}

/// A process and those that it descends from, but for the first process of all.
fn ancestors(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 1)
    };
    std::iter::successors(Some(pid), parent).collect()
}

/// Sockets of this machine that hold something back for one of these addresses. None if none of them is the
/// other end of any.
pub(crate) fn backlogged(addresses: &HashSet<SocketAddr>) -> Option<u64> {
    let mut found = None;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        for (remote, unsent) in table.lines().filter_map(unsent_bytes) {
            if addresses.contains(&remote) {
                *found.get_or_insert(0) += u64::from(unsent > 0);
            }
        }
    }
    found
}

/// Of a line of `/proc/net/tcp`: the remote address, and the bytes that it has not acknowledged.
fn unsent_bytes(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_whitespace().skip(2);
    let (ip, port) = fields.next()?.split_once(':')?;
    let unsent = u64::from_str_radix(fields.nth(1)?.split_once(':')?.0, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes()),
        32 => {
            let mut bytes = [0; 16];
            for (word, place) in bytes.chunks_exact_mut(4).enumerate() {
                let number = u32::from_str_radix(&ip[word * 8..word * 8 + 8], 16).ok()?;
                place.copy_from_slice(&number.to_ne_bytes());
            }
            IpAddr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some((SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), unsent))
}

fn has_socket(pid: u32, inodes: &HashSet<u64>) -> bool {
    socket_inodes(pid).any(|inode| inodes.contains(&inode))
}

/// The sockets that a process has open; none of another user's.
fn socket_inodes(pid: u32) -> impl Iterator<Item = u64> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
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
    fn process_that_does_not_listen_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        let this = std::process::id();
        assert_eq!(stranger(&[this], address), None);
        // A child of the listener may do its work.
        assert_eq!(stranger(&[this, child.id()], address), None);
        assert_eq!(stranger(&[1], address), Some(1));
        assert_eq!(stranger(&[1], "192.0.2.1:9".parse().expect("an address")), None, "it cannot be seen");
        child.kill().expect("it lives");
        child.wait().expect("it ended");
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
    fn command_lines_are_shown_without_secrets() {
        let words = ["serve", "--key", "abc", "--token=xyz", "-p", "80", "--secret", "--port", "9"];
        assert_eq!(without_secrets(&words).join(" "), "serve --key … --token=… -p 80 --secret --port 9");
        let this = ProcessSet::this_and([]).describe();
        assert!(this[0].pid == std::process::id() && this[0].command.contains("fanfare_loadgen"), "{this:?}");
    }

    #[test]
    fn process_that_has_ended_uses_nothing_that_can_be_known() {
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let ended = ProcessSet::new(vec![child.id()]);
        // Nobody has waited for it: it is a zombie, whose account can still be read.
        while !has_ended(child.id()) {
            std::thread::yield_now();
        }
        assert_eq!(ended.cpu_ns(), None);
        child.wait().expect("it ended");
    }

    #[test]
    fn bytes_that_the_other_end_has_not_taken_are_seen() {
        use std::io::Write;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let reader = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (mut writer, reader_address) = listener.accept().expect("accepted");
        let readers = HashSet::from([reader_address]);
        assert_eq!(backlogged(&readers), Some(0));
        writer.set_nonblocking(true).expect("an option");
        while writer.write(&[0; 65_536]).is_ok() {}
        assert_eq!(backlogged(&readers), Some(1));
        assert_eq!(backlogged(&HashSet::from(["192.0.2.1:9".parse().expect("an address")])), None);
        drop(reader);
    }

    #[test]
    fn processes_that_are_not_there_have_nothing() {
        let none = ProcessSet::new(vec![u32::MAX]);
        assert!(none.cpu_ns().is_none() && none.memory().is_none());
        assert!(ProcessSet::default().cpu_ns().is_none());
    }
}
