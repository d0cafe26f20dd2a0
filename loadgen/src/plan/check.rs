//! Checks whether a plan can be carried out.

use super::{
    ConnectPlan, DriverPlan, MAX_WORKERS, MOVER_GAP_NS, Notices, Pace, Plan, PlanError, PresencePlan,
    PublishPlan, Rate, StormPlan, Work,
};
use crate::{
    drivers::{self, Echo, Need},
    net::TlsClient,
    procfs,
    stamp::MIN_PAYLOAD,
};

/// The most source addresses, which are in 127.0.0.0/8.
const MAX_SOURCES: u32 = 1 << 16;

/// Connections at most, and whatever else is counted: more than a machine has memory for, and few enough for
/// sums and products of two to be numbers.
const MAX_COUNT: u32 = 100_000_000;

impl Plan {
    /// Checks the plan for contradictions and limits, and raises the limit of open files if the run needs it.
    pub fn check(&mut self) -> Result<(), PlanError> {
        let wrong = |sentence: String| Err(PlanError(sentence));
        if self.threads == 0 || self.windows == 0 || self.parallel == 0 || self.processes == 0 {
            return wrong(
                "Processes, threads, windows and parallel handshakes must each be at least 1.".into(),
            );
        }
        if u64::from(self.processes) * u64::from(self.threads) > MAX_WORKERS {
            return wrong(format!("Processes and threads may be {MAX_WORKERS} together, no more."));
        }
        if self.sources > MAX_SOURCES {
            return wrong(format!("{} source addresses are more than {MAX_SOURCES}.", self.sources));
        }
        if self.windows > 1000 {
            return wrong(format!("{} windows are more than the 1000 that fit a report.", self.windows));
        }
        for (name, seconds, least) in [
            ("a window", self.window_seconds, 0.1),
            ("the warm-up", self.warmup_seconds, 0.0),
            ("the drain", self.drain_seconds, 0.0),
        ] {
            if !(least..=86_400.0).contains(&seconds) {
                return wrong(format!("{seconds} s is no length for {name}; it has {least} to 86400 s."));
            }
        }
        if let Some(pid) = self.server_pids.iter().find(|pid| !procfs::exists(**pid)) {
            return wrong(format!("There is no process {pid}, which the server is said to be."));
        }
        if let Some(pid) = procfs::stranger(&self.server_pids, self.address) {
            return wrong(format!(
                "The process {pid} does not listen on {}, nor does its parent or child: it is not the \
                 server.",
                self.address
            ));
        }
        if let Some(cpu) = self.pin.iter().find(|cpu| !procfs::has_cpu(**cpu)) {
            return wrong(format!("There is no CPU {cpu} that this program may run on."));
        }
        self.work.check(self.workers())?;
        self.driver.check()?;
        if let Some(tls) = &self.tls {
            TlsClient::new(tls).map_err(PlanError)?;
        }
        let driver = drivers::new(&self.driver, self.work.echo()).map_err(PlanError)?;
        if self.driver.triggers && (self.work.publishing().is_none() || self.workers() > 1) {
            return wrong("--triggers is for fanout, send, broadcast and slow, with one thread.".into());
        }
        if self.driver.triggers && drivers::lacks(&*driver, Need::Verdicts) {
            return wrong(format!(
                "Publishers of the driver {} are not told what becomes of messages: leave --triggers out.",
                self.driver.name
            ));
        }
        if let Some((_, why)) =
            self.work.needs().into_iter().find(|(need, _)| drivers::lacks(&*driver, *need))
        {
            return wrong(format!("The driver {} {why}.", self.driver.name));
        }
        self.fit_ports()?;
        self.fit_files()
    }
}

/// What scenarios need whose members publish.
const PUBLISHING_MEMBERS: (Need, &str) =
    (Need::PublishingMembers, "has publishers on connections of their own, and members cannot publish");

impl DriverPlan {
    /// Options that a driver has no use for are refused, since they would be believed to be in effect.
    fn check(&self) -> Result<(), PlanError> {
        let name = self.name.as_str();
        let wrong = |sentence: String| Err(PlanError(sentence));
        if self.polling && !["agnost", "socketio", "channelstream"].contains(&name) {
            return wrong(format!("The driver {name} does not poll: leave --polling out."));
        }
        if self.publish_http && name != "native" {
            return wrong(format!(
                "The driver {name} has no choice how to publish: leave --publish-http out."
            ));
        }
        Ok(())
    }
}

impl Work {
    /// The features that the plan needs of its protocol, with the sentence for a protocol without the
    /// feature.
    fn needs(&self) -> Vec<(Need, &'static str)> {
        match self {
            Self::Fanout(plan) | Self::Slow(plan) if plan.publishers > 1 => {
                vec![(
                    Need::Outsiders,
                    "lets members of a channel publish and nobody else: use --publishers 1",
                )]
            }
            Self::Send(plan) if plan.echo => vec![
                PUBLISHING_MEMBERS,
                (Need::Echo(Echo::On), "never sends a message back to its publisher: leave --echo out"),
            ],
            Self::Send(_) => vec![
                PUBLISHING_MEMBERS,
                (Need::Echo(Echo::Off), "sends every message back to its publisher, too: use --echo"),
            ],
            Self::Storm(plan) => plan.needs(),
            Self::Broadcast(_) => {
                vec![(Need::Broadcast, "has no messages to everyone"), PUBLISHING_MEMBERS]
            }
            Self::Presence(plan) => {
                let mut needs = vec![(Need::Presence, "does not tell members who joins and leaves")];
                if plan.movers > 1 {
                    needs.push((Need::Names, "does not tell a member its own name: use --movers 1"));
                }
                if plan.updates {
                    needs.push((Need::Profiles, "has no profiles: leave --updates out"));
                }
                if plan.queries {
                    needs.push((Need::Members, "cannot ask for members: leave --queries out"));
                }
                needs
            }
            Self::Connect(plan) if !plan.join => {
                vec![(Need::Lobby, "has no connections without a channel: leave --no-join out")]
            }
            _ => Vec::new(),
        }
    }

    /// The counts of the plan from which other counts are computed.
    fn counts(&self) -> Vec<u32> {
        match self {
            Self::Fanout(plan) | Self::Send(plan) | Self::Broadcast(plan) | Self::Slow(plan) => {
                vec![plan.channels, plan.members, plan.publishers, plan.slow]
            }
            Self::Idle(plan) => vec![plan.base, plan.connections, plan.members],
            Self::Storm(plan) => vec![plan.connections, plan.members, plan.bystanders],
            Self::Connect(plan) => vec![plan.parallel],
            Self::Presence(plan) => vec![plan.channels, plan.watchers, plan.movers],
        }
    }

    fn check(&self, workers: u32) -> Result<(), PlanError> {
        let wrong = |sentence: String| Err(PlanError(sentence));
        if let Some(count) = self.counts().into_iter().find(|count| *count > MAX_COUNT) {
            return wrong(format!("{count} is more than the {MAX_COUNT} that a plan counts to."));
        }
        if self.connections() > u64::from(MAX_COUNT) {
            return wrong(format!("{} connections are more than {MAX_COUNT}.", self.connections()));
        }
        match self {
            Self::Fanout(plan) | Self::Send(plan) | Self::Broadcast(plan) | Self::Slow(plan) => plan.check(),
            Self::Storm(plan) if plan.connections == 0 || plan.members == 0 => {
                wrong("A storm needs connections, and channels need members.".into())
            }
            Self::Storm(plan) => plan.check(),
            Self::Idle(plan) if plan.base >= plan.connections || plan.members == 0 => wrong(format!(
                "Memory is read at {} and at {} connections: the second must be more, and channels need \
                 members.",
                plan.base, plan.connections
            )),
            Self::Idle(plan) if !(0.0..=86_400.0).contains(&plan.settle_seconds) => {
                wrong(format!("{} s is no length for a rest; it has 0 to 86400 s.", plan.settle_seconds))
            }
            Self::Connect(plan) if plan.parallel < workers => {
                wrong(format!("{workers} threads need at least {workers} cycles under way."))
            }
            Self::Connect(ConnectPlan { rate: Some(Rate { from, to }), .. })
                if [from, to].into_iter().any(|rate| !(0.01..=1e6).contains(rate)) =>
            {
                wrong(format!("{from} to {to} connections a second are none that can be scheduled."))
            }
            Self::Presence(plan) if plan.notices == Notices::Merged && plan.updates => {
                wrong("Updates cancel nothing out: leave --updates out, or --notices merged.".into())
            }
            Self::Presence(PresencePlan { rate: Some(rate), channels, movers, .. })
                if !(*rate >= 0.01 && *rate <= plan_rate(*channels, *movers)) =>
            {
                wrong(format!(
                    "{rate} operations a second are none that {channels} channels of {movers} movers can do, \
                     each one every {} ms: at most {}.",
                    MOVER_GAP_NS / 1_000_000,
                    plan_rate(*channels, *movers)
                ))
            }
            Self::Presence(plan) if plan.channels < workers || plan.watchers == 0 || plan.movers == 0 => {
                wrong(
                    "There must be a channel for each thread, and members that watch and move in each."
                        .into(),
                )
            }
            _ => Ok(()),
        }
    }
}

/// The most operations a second that so many movers can begin.
fn plan_rate(channels: u32, movers: u32) -> f64 {
    f64::from(channels) * f64::from(movers) * (1_000_000_000 / MOVER_GAP_NS) as f64
}

impl StormPlan {
    fn needs(&self) -> Vec<(Need, &'static str)> {
        let mut needs = Vec::new();
        if self.publishers() > 0 {
            let why = "lets members of a channel publish and nobody else: use no --rate";
            needs.push((Need::Outsiders, why));
        }
        if self.resume {
            needs.push((Need::Resumption, "has no sessions to come back to: leave --resume out"));
        }
        needs
    }

    fn check(&self) -> Result<(), PlanError> {
        check_payload(self.payload)?;
        let is_schedule = (0.0..=1e7).contains(&self.rate) && (1e-6..=1e7).contains(&self.bystander_rate);
        if !is_schedule {
            return Err(PlanError(format!(
                "{} and {} messages a second are none that can be scheduled.",
                self.rate, self.bystander_rate
            )));
        }
        Ok(())
    }
}

impl PublishPlan {
    fn check(&self) -> Result<(), PlanError> {
        let wrong = |sentence: String| Err(PlanError(sentence));
        let (publishers, members) = (self.publishers, self.members);
        check_payload(self.payload)?;
        if self.channels == 0 || publishers == 0 || members == 0 {
            return wrong("There must be channels, with members and publishers.".into());
        }
        if self.publishers_join && (publishers > members || members < 2) {
            return wrong(format!(
                "{members} members cannot have {publishers} publishers among them and be heard."
            ));
        }
        if self.slow >= members - if self.publishers_join { publishers } else { 0 } {
            return wrong(format!("Of {members} members, {} cannot be slow: someone must read.", self.slow));
        }
        if !(0.1..=86_400.0).contains(&self.expiry_seconds) {
            return wrong(format!(
                "A message cannot be lost after {} s: 0.1 to 86400 s.",
                self.expiry_seconds
            ));
        }
        match self.pace {
            Pace::Closed { window } if !(1..=1 << 16).contains(&window) => {
                wrong(format!("{window} messages cannot be in flight: 1 to 65536 can."))
            }
            Pace::Open { rate } if !(rate > 0.0 && rate <= 1e7) => {
                wrong(format!("{rate} messages a second are none that can be scheduled."))
            }
            _ => Ok(()),
        }
    }
}

fn check_payload(payload: u32) -> Result<(), PlanError> {
    if (payload as usize) < MIN_PAYLOAD || payload > 8 << 20 {
        return Err(PlanError(format!(
            "A payload has {MIN_PAYLOAD} bytes, for its stamp, to 8 MiB; not {payload}."
        )));
    }
    Ok(())
}
