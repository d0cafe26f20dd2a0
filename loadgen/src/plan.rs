//! What a run will do, complete and checked, before anything is done. Printed and saved with every report.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    drivers::{self, Echo, Need},
    pacer::Schedule,
    procfs,
    stamp::MIN_PAYLOAD,
    thresholds::Threshold,
    timeline::Timing,
};

/// Workers at most: more than any machine has cores.
pub(crate) const MAX_WORKERS: u64 = 1024;
/// Time between two operations of one mover in an open loop, at least.
pub(crate) const MOVER_GAP_NS: u64 = 50_000_000;
/// Source addresses at most: some of 127.0.0.0/8.
const MAX_SOURCES: u32 = 1 << 16;
/// Connections at most, and whatever else is counted: more than a machine has memory for, and few enough for
/// sums and products of two to be numbers.
const MAX_COUNT: u32 = 100_000_000;

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// What is done.
    pub work: Work,
    /// The server's address.
    pub address: SocketAddr,
    /// Value of the `Host` header.
    pub host: String,
    /// The protocol.
    pub driver: DriverPlan,
    /// Processes of the server; found by its port if there are none.
    pub server_pids: Vec<u32>,
    /// Processes of the generator; with one, it is the coordinator's own.
    pub processes: u32,
    /// Worker threads of each.
    pub threads: u32,
    /// The CPUs they run on, in turn; anywhere if there are none.
    pub pin: Vec<u32>,
    /// Whether they look for events all the time instead of sleeping.
    pub spin: bool,
    /// Closed loop: whether the generator may be the limit, so that rates are lower bounds.
    #[serde(default)]
    pub lower_bound: bool,
    /// Conditions under which the run fails.
    #[serde(default)]
    pub fail_if: Vec<Threshold>,
    /// Whether other parts of a phase use the same processes at the same time.
    #[serde(default)]
    pub shared: bool,
    /// Seconds before the first window.
    pub warmup_seconds: f64,
    /// Seconds of each window.
    pub window_seconds: f64,
    /// Number of windows.
    pub windows: u32,
    /// Seconds after the last window for what is on the way to arrive.
    pub drain_seconds: f64,
    /// Source addresses; 0 is as many as the connections need.
    pub sources: u32,
    /// Handshakes under way at one time.
    pub parallel: u32,
    /// What channels' names begin with.
    pub prefix: String,
    /// Where randomness comes from.
    pub seed: u64,
    /// This run's number, in every payload.
    pub run: u32,
}

/// A protocol, and what connecting by it needs. Which of these a driver uses is its own business.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DriverPlan {
    /// The driver's name.
    pub name: String,
    /// The app's name.
    pub app: String,
    /// The app's key. Not for reports.
    #[serde(skip)]
    pub key: String,
    /// The app's secret, for signatures. Not for reports.
    #[serde(skip)]
    pub secret: String,
    /// The path of the WebSocket.
    pub path: Option<String>,
    /// That of connections that only publish.
    pub publish_path: Option<String>,
    /// Part of the text that says that a connection is ready.
    pub welcome: Option<String>,
    /// The text that joins.
    pub join: Option<String>,
    /// Part of the answer to it.
    pub joined: Option<String>,
    /// The text that publishes.
    pub send: Option<String>,
}

/// What a run does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scenario")]
pub enum Work {
    /// One channel, many subscribers.
    Fanout(PublishPlan),
    /// Many channels, few members each, who send to each other.
    Send(PublishPlan),
    /// Messages to everyone.
    Broadcast(PublishPlan),
    /// One channel, and some of its subscribers stop reading.
    Slow(PublishPlan),
    /// Connections at rest.
    Idle(IdlePlan),
    /// All connections drop and come back.
    Storm(StormPlan),
    /// Handshakes.
    Connect(ConnectPlan),
    /// Joins and leaves that others see.
    Presence(PresencePlan),
}

/// Messages through channels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishPlan {
    /// Channels.
    pub channels: u32,
    /// Members of each.
    pub members: u32,
    /// Publishers of each.
    pub publishers: u32,
    /// Whether the publishers are members; else they are connections of their own.
    pub publishers_join: bool,
    /// Whether publishers that are members receive their own messages.
    pub echo: bool,
    /// Bytes of the payload, as JSON.
    pub payload: u32,
    /// How fast.
    pub pace: Pace,
    /// Whom a message is for.
    pub scope: Scope,
    /// Members of each channel that stop reading.
    pub slow: u32,
    /// Closed loop: seconds after which a message is taken for lost, so that the next one may be sent.
    pub expiry_seconds: f64,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The members of its channel.
    Channel,
    /// Every connection. There is one channel, and nobody joins it.
    Everyone,
}

/// What decides when the next message is sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub enum Pace {
    /// An earlier one has reached everyone: at most so many are in flight in each channel. Finds the ceiling.
    Closed {
        /// Messages in flight.
        window: u32,
    },
    /// A schedule. Latency counts from when a message was due.
    Open {
        /// Messages a second, all publishers together.
        rate: f64,
    },
}

/// Connections at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdlePlan {
    /// Connections at the first reading of the server's memory.
    pub base: u32,
    /// Connections at the second.
    pub connections: u32,
    /// Members of each channel; each connection joins one.
    pub members: u32,
    /// Seconds of rest before memory is read.
    pub settle_seconds: f64,
}

/// All drop, all come back: at the beginning of each window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StormPlan {
    /// Connections.
    pub connections: u32,
    /// Members of each channel; each connection joins one.
    pub members: u32,
    /// Messages a second to all of these channels together, from publishers that stay; none if 0.
    pub rate: f64,
    /// Subscribers of a channel of their own, which stay too.
    pub bystanders: u32,
    /// Messages a second to that channel.
    pub bystander_rate: f64,
    /// Bytes of the payload, as JSON.
    pub payload: u32,
}

/// Handshakes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectPlan {
    /// Cycles under way at one time; in an open loop at most.
    pub parallel: u32,
    /// Whether a cycle joins a channel.
    pub join: bool,
    /// Open loop: how many begin a second. Else one begins when another has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// So many a second: evenly more or less from the beginning of the first window to the end of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// In the warm-up, and when the first window begins.
    pub from: f64,
    /// When the last window ends.
    pub to: f64,
}

/// Joins, updates, queries and leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresencePlan {
    /// Channels.
    pub channels: u32,
    /// Members of each that stay and watch.
    pub watchers: u32,
    /// Members of each that come and go, each with one operation under way.
    pub movers: u32,
    /// Each updates its profile between joining and leaving.
    pub updates: bool,
    /// Each asks for a page of members between joining and leaving.
    pub queries: bool,
    /// Open loop: operations a second, of all movers together. Else each begins the next when the last is
    /// complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What watchers are to be told.
    #[serde(default)]
    pub notices: Notices,
}

/// What watchers of `presence` are to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Notices {
    /// Every join and leave, each by itself or several in one message
    #[default]
    Every,
    /// The same, but a join and the leave after it, or a leave and the join after it, may cancel each other
    /// out
    Merged,
}

/// Why a plan cannot be carried out: one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError(pub String);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

impl Work {
    /// The scenario's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fanout(_) => "fanout",
            Self::Send(_) => "send",
            Self::Broadcast(_) => "broadcast",
            Self::Slow(_) => "slow",
            Self::Storm(_) => "storm",
            Self::Idle(_) => "idle",
            Self::Connect(_) => "connect",
            Self::Presence(_) => "presence",
        }
    }

    /// The plan of a scenario that publishes.
    pub fn publishing(&self) -> Option<&PublishPlan> {
        match self {
            Self::Fanout(plan) | Self::Send(plan) | Self::Broadcast(plan) | Self::Slow(plan) => Some(plan),
            _ => None,
        }
    }

    /// Connections open at one time.
    pub fn connections(&self) -> u64 {
        match self {
            Self::Fanout(plan) | Self::Send(plan) | Self::Broadcast(plan) | Self::Slow(plan) => {
                let publishers = if plan.publishers_join { 0 } else { plan.publishers };
                u64::from(plan.channels) * u64::from(plan.members + publishers)
            }
            Self::Idle(plan) => u64::from(plan.connections),
            Self::Storm(plan) => {
                let publishers = if plan.rate > 0.0 { plan.channels() } else { 0 };
                let others = u64::from(plan.bystanders) + u64::from(plan.bystanders > 0);
                u64::from(plan.connections) + u64::from(publishers) + others
            }
            Self::Connect(plan) => u64::from(plan.parallel),
            Self::Presence(plan) => u64::from(plan.channels) * u64::from(plan.watchers + plan.movers),
        }
    }

    /// Publishers of all channels.
    pub(crate) fn publishers(&self) -> u32 {
        match self {
            Self::Storm(plan) => plan.publishers(),
            _ => self.publishing().map_or(0, |plan| plan.channels * plan.publishers),
        }
    }

    /// Whether connections receive what they send themselves.
    pub(crate) fn echo(&self) -> Echo {
        match self.publishing() {
            Some(plan) if plan.echo => Echo::On,
            _ => Echo::Off,
        }
    }

    /// What it cannot do without, and what to say of a protocol that lacks it.
    fn needs(&self) -> Vec<(Need, &'static str)> {
        match self {
            Self::Fanout(plan) | Self::Slow(plan) if plan.publishers > 1 => {
                vec![(
                    Need::Outsiders,
                    "lets members of a channel publish and nobody else: use --publishers 1",
                )]
            }
            Self::Send(plan) if plan.echo => {
                vec![(Need::Echo(Echo::On), "never sends a message back to its publisher: leave --echo out")]
            }
            Self::Send(_) => {
                vec![(Need::Echo(Echo::Off), "sends every message back to its publisher, too: use --echo")]
            }
            Self::Storm(plan) if plan.publishers() > 0 => {
                vec![(Need::Outsiders, "lets members of a channel publish and nobody else: use no --rate")]
            }
            Self::Broadcast(_) => vec![(Need::Broadcast, "has no messages to everyone")],
            Self::Presence(plan) => {
                let mut needs = vec![(Need::Presence, "does not tell members who joins and leaves")];
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

    /// Whether messages are sent, or operations begun, when earlier ones are done.
    pub fn is_closed_loop(&self) -> bool {
        !self.is_open_loop() && !matches!(self, Self::Idle(_) | Self::Storm(_))
    }

    /// Whether messages are sent, or cycles begun, by a schedule.
    pub fn is_open_loop(&self) -> bool {
        match self {
            Self::Storm(plan) => plan.publishers() > 0,
            Self::Connect(plan) => plan.rate.is_some(),
            Self::Presence(plan) => plan.rate.is_some(),
            _ => self.publishing().is_some_and(|plan| matches!(plan.pace, Pace::Open { .. })),
        }
    }
}

impl Plan {
    /// Looks for what contradicts itself or does not fit, and raises the limit of open files if need be.
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
        let driver = drivers::new(&self.driver, self.work.echo()).map_err(PlanError)?;
        if let Some((_, why)) = self.work.needs().into_iter().find(|(need, _)| driver.lacks(*need)) {
            return wrong(format!("The driver {} {why}.", self.driver.name));
        }
        self.fit_ports()?;
        self.fit_files()
    }

    /// Worker threads of all processes.
    pub(crate) fn workers(&self) -> u32 {
        self.processes * self.threads
    }

    /// How long its stages last.
    pub(crate) fn timing(&self) -> Timing {
        Timing::new(self.warmup_seconds, self.window_seconds, self.windows)
    }

    /// When connections are due, if there is a schedule of them.
    pub(crate) fn connect_schedule(&self) -> Option<Schedule> {
        let Work::Connect(ConnectPlan { rate: Some(rate), .. }) = &self.work else { return None };
        let seconds = self.window_seconds * f64::from(self.windows);
        Some(Schedule::changing((rate.from, rate.to), self.warmup_seconds, seconds))
    }
}

impl Work {
    /// The numbers that others are made of.
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
                "Memory is read at {} and at {} connections: the second must be more, and channels need members.",
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
                    "{rate} operations a second are none that {channels} channels of {movers} movers can do, each \
                     one every {} ms: at most {}.",
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
    /// Channels of those that drop.
    pub(crate) fn channels(&self) -> u32 {
        self.connections.div_ceil(self.members.max(1))
    }

    /// Publishers that there could be: one of each channel, and the bystanders' last.
    pub(crate) fn publishers(&self) -> u32 {
        if self.rate > 0.0 || self.bystanders > 0 { self.channels() + 1 } else { 0 }
    }

    /// Workers of those that drop: all but the last one, if that has bystanders to itself.
    pub(crate) fn storm_workers(&self, workers: u32) -> u32 {
        if self.bystanders > 0 && workers > 1 { workers - 1 } else { workers }
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
    /// Whether a channel's members are on several workers: it has them all to itself if there are fewer
    /// channels.
    pub(crate) fn is_spread(&self, workers: u32) -> bool {
        self.channels < workers
    }

    /// Whether each member is to see every number of its channel. Members that publish themselves do not.
    pub(crate) fn sees_every_number(&self) -> bool {
        self.scope == Scope::Channel && !(self.publishers_join && !self.echo && self.publishers > 1)
    }

    /// Members that are to have each message.
    pub(crate) fn receivers(&self) -> u32 {
        self.members - self.slow - u32::from(self.publishers_join && !self.echo)
    }

    /// Whether the next message waits for an earlier one to arrive.
    pub(crate) fn paces_itself(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

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

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Args, Job};

    /// What a command line plans.
    pub(crate) fn plan(line: &str) -> Plan {
        let args = Args::try_parse_from(line.split_whitespace()).expect("well-formed");
        let (Job::Run(mut phases), _) = args.into_job().expect("valid") else { panic!("a run") };
        phases.remove(0).plans.remove(0)
    }

    #[test]
    fn plan_reaches_another_process_as_it_is() {
        for line in [
            "loadgen fanout --rate 0.1",
            "loadgen send",
            "loadgen slow",
            "loadgen idle",
            "loadgen storm --rate 0.3",
            "loadgen connect",
            "loadgen connect --rate 10 --to 20",
        ] {
            let plan = plan(line);
            let json = serde_json::to_string(&plan).expect("numbers and strings");
            let read: Plan = serde_json::from_str(&json).expect("what was written");
            assert_eq!(format!("{read:?}"), format!("{plan:?}"));
        }
    }
}
