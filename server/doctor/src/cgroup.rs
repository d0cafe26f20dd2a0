//! The limits of the control groups that a process is in: the tightest of all groups up to the root.

use crate::machine::Machine;

/// The limits of memory and CPU; `None` is no limit.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    /// The CPU time of a second, in thousandths of one core.
    pub(crate) cpu_millis: Option<u64>,
    pub(crate) version: Option<Version>,
}

/// The version of control groups.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Version {
    One,
    Two,
}

/// Values of version 1 from here on mean no limit.
const UNLIMITED: u64 = 1 << 60;

impl Limits {
    pub(crate) fn read(machine: &Machine) -> Self {
        let groups = machine.text("/proc/self/cgroup").unwrap_or_default();
        let path = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (names, path) = (parts.next()?, parts.next()?);
                let is_own = names.split(',').any(|name| name == controller);
                is_own.then(|| path.to_owned())
            })
        };
        if machine.exists("/sys/fs/cgroup/cgroup.controllers") {
            return Self::second(machine, &path("").unwrap_or_default());
        }
        Self {
            memory_bytes: path("memory").and_then(|path| memory(machine, &path)),
            cpu_millis: path("cpu").and_then(|path| cpu(machine, &path)),
            version: (!groups.is_empty()).then_some(Version::One),
        }
    }

    fn second(machine: &Machine, path: &str) -> Self {
        let memory = |group: &str| machine.number(&format!("/sys/fs/cgroup{group}/memory.max"));
        let cpu = |group: &str| {
            let text = machine.text(&format!("/sys/fs/cgroup{group}/cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            share(quota.parse().ok()?, period.parse().ok()?)
        };
        Self {
            memory_bytes: upward(path).filter_map(memory).min(),
            cpu_millis: upward(path).filter_map(cpu).min(),
            version: Some(Version::Two),
        }
    }
}

fn memory(machine: &Machine, path: &str) -> Option<u64> {
    let limit = |group: &str| machine.number(&format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes"));
    upward(path).filter_map(limit).filter(|limit| *limit < UNLIMITED).min()
}

fn cpu(machine: &Machine, path: &str) -> Option<u64> {
    let read = |group: &str, name: &str| machine.number(&format!("/sys/fs/cgroup/cpu{group}/{name}"));
    let limit = |group: &str| share(read(group, "cpu.cfs_quota_us")?, read(group, "cpu.cfs_period_us")?);
    upward(path).filter_map(limit).min()
}

fn share(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.checked_mul(1000)?.checked_div(period_us)
}

/// A group and the groups above it. A container may see its own group as the root, so the root is one too.
fn upward(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    std::iter::successors(Some(path), |path| path.rfind('/').map(|end| &path[..end]))
}
