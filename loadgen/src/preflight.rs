//! Whether a plan fits this machine: its ports, and the files that a process may have open.

use fanfare_doctor::{Examination, Machine, Needs, Role};

use crate::plan::{MAX_WORKERS, Plan, PlanError, Work};

/// Files open besides connections: polls, timers, standard streams, `/proc`.
const OTHER_FILES: u64 = 64;
/// Local ports counted on for one source address: what is left of the usual range of 28,232 when some are
/// taken.
const PORTS_PER_SOURCE: u32 = 20_000;

/// What the generator needs of a machine for these connections.
pub(crate) fn needs(connections: u64, sources: u64) -> Needs {
    Needs { connections, other_files: OTHER_FILES, role: Role::Generator { sources } }
}

impl Plan {
    /// What this machine gives to the plan's connections.
    pub(crate) fn examine(&self) -> Examination {
        let needs = needs(self.work.connections(), self.sources.into());
        Examination::new(&Machine::own(), &needs)
    }

    /// Chooses enough source addresses, or sees whether those asked for are.
    pub(crate) fn fit_ports(&mut self) -> Result<(), PlanError> {
        let connections = self.work.connections();
        let each = self.work.connections_of_one(self.processes, self.threads);
        // Processes have addresses of their own.
        let needed = each.div_ceil(u64::from(PORTS_PER_SOURCE)) as u32 * self.processes;
        // Cycles leave ports behind that stay taken for a while.
        let wanted = if matches!(self.work, Work::Connect(_)) { needed.max(64) } else { needed };
        let is_loopback = self.address.ip().is_loopback() && self.address.is_ipv4();
        if self.sources > 0 && !is_loopback {
            let sentence = "Several source addresses need a server on 127.0.0.0/8.";
            return Err(PlanError(sentence.into()));
        }
        if self.sources == 0 && is_loopback && wanted > 1 {
            self.sources = wanted;
        }
        // The system's own choice is one address for all.
        let all = connections.div_ceil(u64::from(PORTS_PER_SOURCE)) as u32;
        let needed = if self.sources == 0 { all } else { needed };
        if self.sources.max(1) < needed {
            return Err(PlanError(format!(
                "{connections} connections need {needed} source addresses of {PORTS_PER_SOURCE} ports each, \
                 and there is {}.",
                self.sources.max(1)
            )));
        }
        Ok(())
    }

    /// Raises this process's limit of open files as far as needed and allowed; other processes inherit it.
    pub(crate) fn fit_files(&self) -> Result<(), PlanError> {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let connections = self.work.connections_of_one(self.processes, self.threads);
        let needed = connections + OTHER_FILES;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|current| current >= needed) {
            return Ok(());
        }
        let hard = limit.maximum.map(|maximum| maximum.max(needed));
        let raised = [hard, limit.maximum]
            .into_iter()
            .any(|maximum| setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok());
        let Some(current) = getrlimit(Resource::Nofile).current else { return Ok(()) };
        if raised && current >= needed {
            return Ok(());
        }
        Err(self.refuse_files(needed, current))
    }

    fn refuse_files(&self, needed: u64, current: u64) -> PlanError {
        let enough = self.work.connections().div_ceil(current.saturating_sub(2 * OTHER_FILES).max(1));
        let is_possible = enough * u64::from(self.threads) <= MAX_WORKERS;
        PlanError(format!(
            "{} connections in one process need {needed} open files, and it may have {current}: raise that \
             with ulimit -n{}.",
            needed - OTHER_FILES,
            if is_possible { format!(", or use --processes {enough}") } else { String::new() }
        ))
    }
}

impl Work {
    /// Connections that one of several processes has open at one time, at most.
    fn connections_of_one(&self, processes: u32, threads: u32) -> u64 {
        let workers = processes * threads;
        // A worker's share of what is dealt out to all; the largest, since it is rounded up.
        let share =
            |total: u32, size: u32| u64::from(total.div_ceil(workers)) * u64::from(threads) * u64::from(size);
        match self {
            Self::Fanout(plan) | Self::Send(plan) | Self::Broadcast(plan) | Self::Slow(plan) => {
                let publishers = if plan.publishers_join { 0 } else { plan.publishers };
                if plan.is_spread(workers) {
                    share(plan.members, plan.channels) + u64::from(plan.channels * plan.publishers)
                } else {
                    share(plan.channels, plan.members + publishers)
                }
            }
            Self::Presence(plan) => share(plan.channels, plan.watchers + plan.movers),
            Self::Storm(plan) if plan.bystanders > 0 => {
                // All of a process's threads may have members, but for the one of the bystanders.
                let storm = plan.storm_workers(workers);
                let members = plan.connections.div_ceil(storm) + plan.channels().div_ceil(storm);
                u64::from(members) * u64::from(threads.min(storm)) + u64::from(plan.bystanders) + 1
            }
            Self::Idle(_) | Self::Storm(_) | Self::Connect(_) => share(self.connections() as u32, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn refusal_for_want_of_files_says_how_many_processes_are_enough() {
        let mut plan = plan("loadgen idle -n 100000");
        let refusal = plan.refuse_files(100_064, 20_000).0;
        let (rest, hint) = refusal.split_once("--processes ").expect("a hint");
        assert!(rest.contains("need 100064 open files") && rest.contains("may have 20000"), "{rest}");
        plan.processes = hint.trim_end_matches('.').parse().expect("a number");
        let each = |processes| plan.work.connections_of_one(processes, 1) + OTHER_FILES;
        assert!(each(plan.processes) <= 20_000 && each(plan.processes - 1) > 20_000);
        assert!(!plan.refuse_files(100_064, 150).0.contains("--processes"), "nobody starts so many");
    }

    #[test]
    fn processes_have_connections_for_all_that_the_plan_has() {
        for line in [
            "loadgen fanout -n 1000 --rate 5",
            "loadgen fanout -n 1000 -w 5",
            "loadgen broadcast -n 1000 --rate 5",
            "loadgen send --channels 100",
            "loadgen idle",
            "loadgen storm",
            "loadgen storm -n 500 --members 100 --rate 10 --bystanders 20",
            "loadgen presence --channels 50",
        ] {
            let work = plan(line).work;
            for (processes, threads) in [(1, 1), (3, 1), (2, 4), (7, 3)] {
                let each = work.connections_of_one(processes, threads);
                assert!(each * u64::from(processes) >= work.connections(), "{line}");
                assert!(each <= work.connections() / u64::from(processes) + 500, "{line}: {each}");
            }
        }
    }
}
