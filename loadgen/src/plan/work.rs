//! The scenarios of the load generator, and the parameters of each.

use serde::{Deserialize, Serialize};

use crate::drivers::Echo;

/// The scenario of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scenario")]
pub enum Work {
    /// Publishers send to one channel with many subscribers.
    Fanout(PublishPlan),
    /// Members of many small channels send to each other.
    Send(PublishPlan),
    /// Publishers send to every connection.
    Broadcast(PublishPlan),
    /// Publishers send to one channel, and some of its subscribers stop reading.
    Slow(PublishPlan),
    /// Connections are open and at rest.
    Idle(IdlePlan),
    /// All connections drop and reconnect.
    Storm(StormPlan),
    /// Connections make handshakes.
    Connect(ConnectPlan),
    /// Members join and leave channels while other members watch.
    Presence(PresencePlan),
}

/// A scenario that publishes messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishPlan {
    /// The number of channels.
    pub channels: u32,
    /// The members of each channel.
    pub members: u32,
    /// The publishers of each channel.
    pub publishers: u32,
    /// Whether the publishers are members. Otherwise a publisher has a connection of its own.
    pub publishers_join: bool,
    /// Whether publishers that are members receive their own messages.
    pub echo: bool,
    /// Bytes of the payload, as JSON.
    pub payload: u32,
    /// The pace of messages.
    pub pace: Pace,
    /// The receivers of a message.
    pub scope: Scope,
    /// The members of each channel that stop reading.
    pub slow: u32,
    /// Closed loop: the seconds after which a message counts as lost, so that the next message may be sent.
    pub expiry_seconds: f64,
}

/// The receivers of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The members of the message's channel.
    Channel,
    /// Every connection. There is one channel, which no connection joins.
    Everyone,
}

/// The pace of messages.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub enum Pace {
    /// Closed loop: a message is sent when an earlier message has reached every member. The loop finds the
    /// highest rate.
    Closed {
        /// The most messages in flight in each channel.
        window: u32,
    },
    /// Open loop: a schedule. A message's latency counts from the time at which the message was due.
    Open {
        /// The messages a second of all publishers together.
        rate: f64,
    },
}

/// The scenario of connections at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdlePlan {
    /// The connections at the first reading of the server's memory.
    pub base: u32,
    /// The connections at the second reading of the server's memory.
    pub connections: u32,
    /// The members of each channel. Each connection joins one channel.
    pub members: u32,
    /// The seconds of rest before each reading of the server's memory.
    pub settle_seconds: f64,
}

/// The scenario in which all connections drop and reconnect at the beginning of each window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StormPlan {
    /// The number of connections that drop.
    pub connections: u32,
    /// The members of each channel. Each connection joins one channel.
    pub members: u32,
    /// The messages a second to all channels of connections that drop, from publishers that stay; 0 for none.
    pub rate: f64,
    /// Whether connections come back to their sessions by tickets.
    #[serde(default)]
    pub resume: bool,
    /// The subscribers of a separate channel, which stay connected.
    pub bystanders: u32,
    /// The messages a second to the bystanders' channel.
    pub bystander_rate: f64,
    /// Bytes of the payload, as JSON.
    pub payload: u32,
}

/// The scenario of handshakes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectPlan {
    /// The cycles at a time in a closed loop, and the most cycles at a time in an open loop.
    pub parallel: u32,
    /// Whether a cycle joins a channel.
    pub join: bool,
    /// Open loop: the cycles that begin each second. In a closed loop a cycle begins when another cycle ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// A rate that changes evenly from the beginning of the first window to the end of the last window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The rate in the warm-up and at the beginning of the first window.
    pub from: f64,
    /// The rate at the end of the last window.
    pub to: f64,
}

/// The scenario of joins, updates, queries and leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresencePlan {
    /// The number of channels.
    pub channels: u32,
    /// The members of each channel that stay and watch.
    pub watchers: u32,
    /// The members of each channel that come and go. A mover has one operation at a time.
    pub movers: u32,
    /// Whether a mover updates its profile between its join and its leave.
    pub updates: bool,
    /// Whether a mover asks for a page of members between its join and its leave.
    pub queries: bool,
    /// Open loop: the operations a second of all movers together. In a closed loop a mover begins its next
    /// operation when its last one is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The notices that watchers must receive.
    #[serde(default)]
    pub notices: Notices,
}

/// The notices that watchers of `presence` must receive.
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

    /// The connections that are open at a time.
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

    /// The publishers of all channels.
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
    /// The channels of the connections that drop.
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
