//! A machine is a folder here, so that every state of every thing is met.

use std::{fs, path::Path};

use fanfare_doctor::{ClockSync, Examination, Finding, Machine, Needs, Role, State};
use tempfile::TempDir;

const SERVER: Role = Role::Server { backlog: 4096, workers: 4 };
const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max processes             95000                95000                processes
Max open files            1024                 1048576              files
";

/// A machine on which 100,000 connections have all they need.
const GOOD: [(&str, &str); 15] = [
    ("proc/self/limits", LIMITS),
    ("proc/self/cgroup", "0::/system.slice/fanfare.service\n"),
    ("proc/self/status", "Name:\tfanfare\nTHP_enabled:\t0\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/file-nr", "1000\t0\t9223372036854775807\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/tcp_mem", "187898\t283867\t575796\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535\n"),
    ("proc/meminfo", "MemTotal:       16384000 kB\nMemFree: 1 kB\n"),
    ("proc/cpuinfo", "processor\t: 0\nprocessor\t: 1\nprocessor\t: 2\nprocessor\t: 3\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
    ("sys/fs/cgroup/system.slice/fanfare.service/memory.max", "max\n"),
    ("sys/fs/cgroup/system.slice/fanfare.service/cpu.max", "max 100000\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
];

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().expect("it is in a folder")).expect("a folder can be made");
    fs::write(file, text).expect("a file can be written");
}

fn good() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    GOOD.iter().for_each(|(path, text)| write(root.path(), path, text));
    root
}

fn examine(root: &Path, role: Role) -> Examination {
    let needs = Needs { connections: 100_000, other_files: 80, role };
    Examination::new(&Machine::at(root, ClockSync::Synchronised), &needs)
}

/// What is found on the good machine with one file that is different.
fn with(path: &str, text: &str, name: &str) -> Finding {
    let root = good();
    write(root.path(), path, text);
    finding(&examine(root.path(), SERVER), name)
}

fn finding(examination: &Examination, name: &str) -> Finding {
    let found = examination.findings.iter().find(|finding| finding.name == name);
    found.unwrap_or_else(|| panic!("nothing is said of {name}")).clone()
}

#[test]
fn a_machine_with_all_that_is_needed_exits_with_0() {
    let examination = examine(good().path(), SERVER);
    assert!(examination.findings.iter().all(|finding| finding.state == State::Ok), "{examination}");
    assert_eq!(examination.exit_status(), 0);
    assert!(examination.findings.iter().all(|finding| finding.change.is_empty()));
    assert!(examination.to_string().starts_with("for 100000 connections:\nok       open files"));
}

#[test]
fn what_makes_the_connections_impossible_exits_with_1_and_says_the_lines() {
    let limits = LIMITS.replace("1048576", "20000  ");
    let cases = [
        ("proc/self/limits", &*limits, "open files of the process", "LimitNOFILE=100080"),
        ("proc/sys/fs/file-max", "50000", "open files of the machine", "fs.file-max=101080"),
        ("proc/sys/net/ipv4/tcp_mem", "1 2 3", "net.ipv4.tcp_mem", "sysctl -w net.ipv4.tcp_mem="),
        ("proc/sys/net/netfilter/nf_conntrack_max", "65536", "net.netfilter.nf_conntrack_max", "=125000"),
        ("sys/fs/cgroup/system.slice/memory.max", "268435456", "memory", "MemoryMax=585M"),
        ("proc/meminfo", "MemTotal: 262144 kB", "memory", "too small"),
    ];
    for (path, text, name, line) in cases {
        let found = with(path, text, name);
        assert_eq!(found.state, State::Problem, "{found:?}");
        assert!(found.change.iter().any(|change| change.contains(line)), "{found:?}");
    }
    let root = good();
    write(root.path(), "proc/self/limits", &limits);
    let examination = examine(root.path(), SERVER);
    assert_eq!((examination.state(), examination.exit_status()), (State::Problem, 1));
}

#[test]
fn what_has_a_price_is_a_warning_and_exits_with_0() {
    let cases = [
        ("proc/sys/net/core/somaxconn", "128", "net.core.somaxconn", "=4096"),
        ("proc/sys/net/ipv4/tcp_mem", "1 2 300000", "net.ipv4.tcp_mem", "150000 200000 400000"),
        ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000", "CPU", "workers = 1"),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock source",
            "no other",
        ),
        ("proc/self/status", "Name: fanfare", "transparent huge pages", "madvise"),
    ];
    for (path, text, name, line) in cases {
        let found = with(path, text, name);
        assert_eq!(found.state, State::Warning, "{found:?}");
        assert!(found.change.iter().any(|change| change.contains(line)), "{found:?}");
    }
    let needs = Needs { connections: 10, other_files: 1, role: SERVER };
    let examination = Examination::new(&Machine::at(good().path(), ClockSync::Unsynchronised), &needs);
    assert_eq!(finding(&examination, "clock").state, State::Warning);
    assert_eq!(examination.exit_status(), 0);
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_a_problem() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for role in [SERVER, Role::Generator { sources: 1 }] {
        let needs = Needs { connections: 100_000, other_files: 80, role };
        let examination = Examination::new(&Machine::at(root.path(), ClockSync::Unknown), &needs);
        assert_eq!(examination.exit_status(), 0);
        assert_eq!(finding(&examination, "open files of the process").state, State::Unknown);
        assert_eq!(finding(&examination, "clock").state, State::Unknown);
    }
    for path in GOOD.map(|(path, _)| path) {
        let root = good();
        write(root.path(), path, "\u{0}nonsense -1 \u{feff}");
        assert_eq!(examine(root.path(), SERVER).exit_status(), 0, "{path}");
    }
}

#[test]
fn limits_of_the_first_version_of_control_groups_are_read() {
    let root = good();
    fs::remove_file(root.path().join("sys/fs/cgroup/cgroup.controllers")).expect("it is there");
    write(root.path(), "proc/self/cgroup", "5:cpu,cpuacct:/box\n4:memory:/box/inner\n0::/\n");
    write(root.path(), "sys/fs/cgroup/memory/box/inner/memory.limit_in_bytes", "9223372036854771712");
    assert_eq!(finding(&examine(root.path(), SERVER), "memory").state, State::Ok);
    write(root.path(), "sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1048576");
    write(root.path(), "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "200000");
    write(root.path(), "sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000");
    let examination = examine(root.path(), SERVER);
    assert_eq!(finding(&examination, "memory").found, "1 MiB, limit of the control group");
    assert_eq!(finding(&examination, "CPU").found, "2.00 cores, limit of the control group");
    write(root.path(), "sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "0");
    assert_eq!(finding(&examine(root.path(), SERVER), "CPU").state, State::Ok);
}

#[test]
fn a_generator_needs_ports_and_no_backlog() {
    let root = good();
    write(root.path(), "proc/sys/net/core/somaxconn", "1");
    let ports = |sources| {
        let examination = examine(root.path(), Role::Generator { sources });
        assert_eq!(finding(&examination, "net.core.somaxconn").state, State::Ok);
        finding(&examination, "net.ipv4.ip_local_port_range")
    };
    assert_eq!(ports(1).state, State::Problem);
    assert!(ports(1).change.contains(&String::from("--sources 2   # on loopback")));
    assert_eq!(ports(2).state, State::Ok);
}

#[test]
fn json_has_every_finding_with_its_state() {
    let examination = examine(good().path(), SERVER);
    let value: serde_json::Value = serde_json::from_str(&examination.to_json()).expect("it is JSON");
    assert_eq!(value["connections"], 100_000);
    let findings = value["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), 11);
    assert!(findings.iter().all(|finding| finding["state"] == "ok" && finding["change"].is_array()));
}
