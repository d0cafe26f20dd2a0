//! What a run does: the scenarios and the numbers of each.

use serde::{Deserialize, Serialize};

use crate::drivers::Echo;

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
}
