//! The checks, each of one thing.

use crate::{
    Finding, Needs, Role, State,
    cgroup::{Limits, Version},
    machine::{ClockSync, Machine},
};

/// What one connection costs in memory, in bytes: the user space of the server or the generator, and what the
/// kernel keeps for a socket at rest.
const CONNECTION_BYTES: u64 = 6 << 10;

/// Pages of the network's memory that a connection takes with one packet waiting in each direction.
const PAGES_PER_CONNECTION: u64 = 2;

/// The size of a page; what the kernel counts the network's memory in.
const PAGE_BYTES: u64 = 4096;

/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase"];

type Check = fn(&Machine, &Needs) -> Finding;

/// Every check, in the order of the report.
pub(crate) fn all(machine: &Machine, needs: &Needs) -> Vec<Finding> {
    let checks: [Check; 11] = [
        open_files,
        open_files_of_all,
        somaxconn,
        tcp_mem,
        local_ports,
        conntrack,
        memory,
        cpu,
        clock_source,
        clock_sync,
        huge_pages,
    ];
    checks.iter().map(|check| check(machine, needs)).collect()
}

/// A finding about a number that must not be below another one.
struct AtLeast {
    name: &'static str,
    found: Option<u64>,
    needed: u64,
    /// The state if the number is too small.
    otherwise: State,
    change: Vec<String>,
}

impl AtLeast {
    fn finding(self) -> Finding {
        let Self { name, found, needed, otherwise, change } = self;
        let Some(found) = found else { return unknown(name, &format!("at least {needed}")) };
        let is_enough = found >= needed;
        Finding {
            name,
            state: if is_enough { State::Ok } else { otherwise },
            found: found.to_string(),
            needed: format!("at least {needed}"),
            change: if is_enough { Vec::new() } else { change },
        }
    }
}

fn unknown(name: &'static str, needed: &str) -> Finding {
    let found = String::from("cannot be read here");
    Finding { name, state: State::Unknown, found, needed: needed.into(), change: Vec::new() }
}

fn sysctl(name: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {name}={value}")
}

/// The hard limit: the process raises its soft limit by itself.
fn open_files(machine: &Machine, needs: &Needs) -> Finding {
    let limits = machine.text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    let found = hard.and_then(|hard| if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() });
    let needed = needs.connections + needs.other_files;
    let mut change = vec![
        format!("ulimit -Hn {needed}; ulimit -n {needed}   # in the shell that starts the process, as root"),
        format!("LimitNOFILE={needed}   # in the unit of systemd"),
        format!("docker run --ulimit nofile={needed}"),
    ];
    if machine.number("/proc/sys/fs/nr_open").is_some_and(|most| most < needed) {
        change.insert(0, sysctl("fs.nr_open", needed));
    }
    AtLeast { name: "open files of the process", found, needed, otherwise: State::Problem, change }.finding()
}

fn open_files_of_all(machine: &Machine, needs: &Needs) -> Finding {
    let found = machine.number("/proc/sys/fs/file-max");
    let used =
        machine.numbers("/proc/sys/fs/file-nr").and_then(|numbers| numbers.first().copied()).unwrap_or(0);
    let needed = needs.connections + needs.other_files + used;
    let change = vec![sysctl("fs.file-max", needed)];
    AtLeast { name: "open files of the machine", found, needed, otherwise: State::Problem, change }.finding()
}

fn somaxconn(machine: &Machine, needs: &Needs) -> Finding {
    let name = "net.core.somaxconn";
    let Role::Server { backlog, .. } = needs.role else { return not_needed(name) };
    let found = machine.number("/proc/sys/net/core/somaxconn");
    // Fewer connections than the backlog cannot all wait at one time.
    let needed = backlog.min(needs.connections);
    let change = vec![sysctl(name, needed)];
    AtLeast { name, found, needed, otherwise: State::Warning, change }.finding()
}

/// The kernel refuses memory to sockets beyond the third number, and takes from buffers beyond the second.
fn tcp_mem(machine: &Machine, needs: &Needs) -> Finding {
    let name = "net.ipv4.tcp_mem";
    let needed = needs.connections * PAGES_PER_CONNECTION;
    let numbers = machine.numbers("/proc/sys/net/ipv4/tcp_mem").filter(|numbers| numbers.len() == 3);
    let Some(numbers) = numbers else {
        return unknown(name, &format!("at least {needed} pages before the kernel saves"));
    };
    let (pressure, most) = (numbers[1], numbers[2]);
    let state = match needed {
        _ if needed <= pressure => State::Ok,
        _ if needed <= most => State::Warning,
        _ => State::Problem,
    };
    let line = sysctl(name, format_args!("\"{} {needed} {}\"", needed / 4 * 3, needed * 2));
    Finding {
        name,
        state,
        found: format!("{pressure} pages before the kernel saves, {most} at most"),
        needed: format!("{needed} pages of {PAGE_BYTES} bytes, with one packet each way waiting"),
        change: if state == State::Ok { Vec::new() } else { vec![line] },
    }
}

fn local_ports(machine: &Machine, needs: &Needs) -> Finding {
    let name = "net.ipv4.ip_local_port_range";
    let Role::Generator { sources } = needs.role else {
        // Clients have ports of their own. A proxy on this machine has these.
        return not_needed(name);
    };
    let needed = needs.connections.div_ceil(sources.max(1));
    let numbers = machine.numbers("/proc/sys/net/ipv4/ip_local_port_range");
    let Some([first, last]) = numbers.as_deref() else {
        return unknown(name, &format!("{needed} ports for each source address"));
    };
    let ports = (last + 1).saturating_sub(*first);
    let is_enough = ports >= needed;
    let more = needs.connections.div_ceil(ports.max(1));
    Finding {
        name,
        state: if is_enough { State::Ok } else { State::Problem },
        found: format!("{first} to {last}: {ports} ports for each source address"),
        needed: format!("{needed} ports for each of {sources} source addresses"),
        change: match is_enough {
            true => Vec::new(),
            false => vec![sysctl(name, "\"1024 65535\""), format!("--sources {more}   # on loopback")],
        },
    }
}

fn not_needed(name: &'static str) -> Finding {
    let found = String::from("not looked at");
    Finding { name, state: State::Ok, found, needed: String::from("nothing"), change: Vec::new() }
}

fn conntrack(machine: &Machine, needs: &Needs) -> Finding {
    let name = "net.netfilter.nf_conntrack_max";
    let Some(most) = machine.number("/proc/sys/net/netfilter/nf_conntrack_max") else {
        let is_loaded = machine.exists("/sys/module/nf_conntrack");
        return match is_loaded {
            true => unknown(name, "an entry for each connection"),
            false => Finding { found: String::from("connections are not tracked"), ..not_needed(name) },
        };
    };
    let used = machine.number("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
    let needed = needs.connections + used + needs.connections / 4;
    let change = vec![
        sysctl(name, needed),
        String::from(
            "iptables -t raw -A PREROUTING -p tcp --dport PORT -j NOTRACK   # instead, for the port",
        ),
    ];
    AtLeast { name, found: Some(most), needed, otherwise: State::Problem, change }.finding()
}

fn memory(machine: &Machine, needs: &Needs) -> Finding {
    let name = "memory";
    let needed = needs.connections * CONNECTION_BYTES;
    let group = Limits::read(machine).memory_bytes;
    let info = machine.text("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total =
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib << 10);
    let needed_text = format!("{} MiB for connections at rest without TLS", needed >> 20);
    let Some(found) = group.into_iter().chain(total).min() else { return unknown(name, &needed_text) };
    let limit = if group == Some(found) { "limit of the control group" } else { "of the machine" };
    let is_enough = found >= needed;
    let change = match (is_enough, group == Some(found)) {
        (true, _) => Vec::new(),
        (false, true) => vec![
            format!(
                "MemoryMax={}M   # in the unit of systemd, and more for messages and history",
                needed >> 20
            ),
            format!("resources.limits.memory: {}Mi   # in Kubernetes", needed >> 20),
        ],
        (false, false) => {
            vec![String::from("This machine is too small: use a larger one, or several servers.")]
        }
    };
    Finding {
        name,
        state: if is_enough { State::Ok } else { State::Problem },
        found: format!("{} MiB, {limit}", found >> 20),
        needed: needed_text,
        change,
    }
}

fn cpu(machine: &Machine, needs: &Needs) -> Finding {
    let name = "CPU";
    let limits = Limits::read(machine);
    let text = machine.text("/proc/cpuinfo").unwrap_or_default();
    let cores = text.lines().filter(|line| line.starts_with("processor")).count() as u64;
    let needed = match needs.role {
        Role::Server { workers, .. } => format!("a core for each of {workers} workers"),
        Role::Generator { .. } => String::from("a core for each thread"),
    };
    let workers = match needs.role {
        Role::Server { workers, .. } => workers,
        Role::Generator { .. } => 1,
    };
    let Some(millis) = limits.cpu_millis else {
        let found = match limits.version {
            None => format!("{cores} cores; the control group cannot be read"),
            Some(Version::One | Version::Two) => format!("{cores} cores, no limit of the control group"),
        };
        return Finding { name, state: State::Ok, found, needed, change: Vec::new() };
    };
    let is_enough = millis >= workers * 1000;
    let whole = (millis / 1000).max(1);
    Finding {
        name,
        state: if is_enough { State::Ok } else { State::Warning },
        found: format!("{}.{:02} cores, limit of the control group", millis / 1000, millis % 1000 / 10),
        needed,
        change: match is_enough {
            true => Vec::new(),
            false => vec![
                format!(
                    "workers = {whole}   # in the configuration: a worker that is throttled delays others"
                ),
                format!("CPUQuota={}%   # in the unit of systemd", workers * 100),
            ],
        },
    }
}

fn clock_source(machine: &Machine, _: &Needs) -> Finding {
    let name = "clock source";
    let needed = String::from("one that is read without a system call");
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let Some(found) = machine.text(&format!("{folder}/current_clocksource")) else {
        return unknown(name, &needed);
    };
    let is_fast = FAST_CLOCKS.contains(&&*found);
    let offered = machine.text(&format!("{folder}/available_clocksource")).unwrap_or_default();
    let better = offered.split_whitespace().find(|word| FAST_CLOCKS.contains(word));
    let change = match (is_fast, better) {
        (true, _) => Vec::new(),
        (false, Some(better)) => vec![format!("echo {better} > {folder}/current_clocksource")],
        (false, None) => {
            vec![String::from("The kernel offers no other: see its log for why `tsc` is not used.")]
        }
    };
    Finding { name, state: if is_fast { State::Ok } else { State::Warning }, found, needed, change }
}

/// Session tokens and certificates are valid between times, so a clock that is wrong refuses clients.
fn clock_sync(machine: &Machine, _: &Needs) -> Finding {
    let name = "clock";
    let needed = "a clock that something keeps right";
    let (state, found) = match machine.clock {
        ClockSync::Synchronised => (State::Ok, "synchronised"),
        ClockSync::Unsynchronised => (State::Warning, "not synchronised"),
        ClockSync::Unknown => return unknown(name, needed),
    };
    let change = match state {
        State::Ok => Vec::new(),
        _ => {
            vec![String::from("timedatectl set-ntp true"), String::from("apt-get install chrony   # or this")]
        }
    };
    Finding { name, state, found: found.into(), needed: needed.into(), change }
}

/// The allocator asks the kernel for none. With huge pages small heaps are rounded up to them.
fn huge_pages(machine: &Machine, _: &Needs) -> Finding {
    let name = "transparent huge pages";
    let needed = String::from("none for this process");
    let Some(text) = machine.text("/sys/kernel/mm/transparent_hugepage/enabled") else {
        return unknown(name, &needed);
    };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or("unknown").to_owned();
    let status = machine.text("/proc/self/status").unwrap_or_default();
    let is_off =
        status.lines().any(|line| line.strip_prefix("THP_enabled:").is_some_and(|value| value.trim() == "0"));
    let is_right = is_off || chosen != "always";
    let found = if is_off { format!("{chosen}, and off for this process") } else { chosen };
    let change = match is_right {
        true => Vec::new(),
        false => vec![String::from("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")],
    };
    Finding { name, state: if is_right { State::Ok } else { State::Warning }, found, needed, change }
}
