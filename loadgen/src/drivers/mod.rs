//! THE BOUNDARY to a server's protocol: how to connect, what a command looks like, what an answer means. No
//! word of a protocol outside its module, no socket and no clock in here. A driver keeps nothing about a
//! connection; what must be remembered (bytes of half an item, a name), [`crate::dialogue`] remembers.

mod centrifugo;
mod channelstream;
mod native;
mod nats;
mod nchan;
mod plain;
mod polling;
mod pusher;
mod socketio;
mod xano;

use std::sync::Arc;

use centrifugo::Centrifugo;
use channelstream::Channelstream;
use memchr::memmem;
use native::Native;
use nats::Nats;
use nchan::Nchan;
use plain::Plain;
use pusher::Pusher;
use socketio::SocketIo;
use xano::Xano;

use crate::{
    net::Access,
    plan::{DriverPlan, Plan, Work},
};

/// The names of all drivers.
pub(crate) const NAMES: [&str; 10] = [
    "native",
    "agnost",
    "channelstream",
    "xano",
    "socketio",
    "nchan",
    "nats",
    "plain",
    "centrifugo",
    "pusher",
];

/// A protocol.
pub(crate) trait Driver: Send + Sync {
    /// Whether the protocol has no way to do this. What it lacks it is never asked for.
    fn lacks(&self, need: Need) -> bool;

    /// How a connection for this channel reaches the server.
    fn access(&self, channel: &str, role: Role) -> Access;

    /// What a connection is when it is open.
    fn opened(&self) -> Opened<'_> {
        Opened::Awaiting
    }

    /// Whether commands go in binary messages.
    fn is_binary(&self) -> bool {
        false
    }

    /// How what the server says is divided.
    fn framing(&self) -> Framing {
        Framing::Message
    }

    /// Whether joining and leaving are answered by the notice that everyone gets.
    fn answers_by_notice(&self) -> bool {
        false
    }

    /// What makes a [`Role::Member`] of who was welcomed as one. None if the path did: the answer follows by
    /// itself.
    fn join_first(&self, channel: &str, session: &str) -> Option<String> {
        Some(self.join(1, channel, session))
    }

    /// The same of a [`Role::Watcher`].
    fn watch_first(&self, channel: &str, session: &str) -> Option<String> {
        self.join_first(channel, session)
    }

    /// Whether who joins is told who is there, by a [`Reply::Roster`], and not which of them it is itself.
    fn tells_roster(&self) -> bool {
        false
    }

    /// The names in a [`Reply::Roster`].
    fn names<'a>(&self, _roster: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        Box::new(std::iter::empty())
    }

    /// What joins a channel, to be answered under this number; the session is what the welcome called it.
    fn join(&self, number: u32, channel: &str, session: &str) -> String;

    /// What joins a channel and asks for what came after this number of this epoch. None if the protocol has
    /// nothing of the kind.
    fn join_since(&self, _number: u32, _channel: &str, _epoch: &str, _offset: u64) -> Option<String> {
        None
    }

    /// How a connection comes back to the session of a ticket, in which so many messages were received. None
    /// if sessions end with their connections.
    fn access_resuming(&self, _ticket: &str, _received: u64) -> Option<Access> {
        None
    }

    /// What leaves a channel.
    fn leave(&self, _number: u32, _channel: &str) -> String {
        String::new()
    }

    /// What gives the connection a profile, the same number.
    fn update(&self, _number: u32, _profile: u32) -> String {
        String::new()
    }

    /// What asks for a page of a channel's members.
    fn members(&self, _number: u32, _channel: &str) -> String {
        String::new()
    }

    /// What stands before and behind a payload of so many bytes in a message to a channel.
    fn send_around(&self, channel: &str, payload: u32) -> (String, String);

    /// What stands between a payload and its message's number, and behind that number, if the server is to
    /// say what becomes of each message: [`Reply::Verdict`]. None if it is not.
    fn numbered(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Whether a payload with this behind it is the whole message, and not a part of what a trigger made of
    /// it.
    fn is_whole(&self, _behind: &[u8]) -> bool {
        true
    }

    /// What stands before and behind the payload in a message to everyone.
    fn broadcast_around(&self) -> (String, String) {
        (String::new(), String::new())
    }

    /// A publication's number in its channel, which stands somewhere in what follows its payload. None if the
    /// server does not number them.
    fn number(&self, _behind: &[u8]) -> Option<u64> {
        None
    }

    /// Whether a channel's numbers are contiguous: one that is left out is a hole.
    fn is_contiguous(&self) -> bool {
        false
    }

    /// What an item without a stamp means.
    fn read<'a>(&'a self, item: &'a str) -> Reply<'a>;
}

/// The driver of this name and these options; a sentence if there is none.
pub(crate) fn new(plan: &DriverPlan, echo: Echo) -> Result<Arc<dyn Driver>, String> {
    Ok(match plan.name.as_str() {
        "native" => Arc::new(Native::new(plan, echo)?),
        "agnost" | "socketio" => Arc::new(SocketIo::new(plan, echo)),
        "channelstream" => Arc::new(Channelstream::new(plan)?),
        "xano" => Arc::new(Xano::new(plan)),
        "nchan" => Arc::new(Nchan::new(plan)?),
        "nats" => Arc::new(Nats::new(plan, echo)),
        "plain" => Arc::new(Plain::new(plan)?),
        "centrifugo" => Arc::new(Centrifugo::new(plan)),
        "pusher" => Arc::new(Pusher::new(plan)?),
        other => return Err(format!("There is no driver {other:?}; there are {}.", NAMES.join(", "))),
    })
}

/// What a scenario cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Messages to everyone.
    Broadcast,
    /// Members are told who joins and leaves.
    Presence,
    /// Members know their own names.
    Names,
    /// Members have profiles, and are told of changes.
    Profiles,
    /// One may ask who the members are.
    Members,
    /// Who sends to a channel it is a member of does, or does not, receive that itself.
    Echo(Echo),
    /// One may send to a channel without being a member.
    Outsiders,
    /// A connection may be without a channel.
    Lobby,
    /// Members publish by their own connections.
    PublishingMembers,
    /// A session outlives its connection.
    Resumption,
    /// The server says what becomes of each message.
    Verdicts,
}

/// Whether a driver's protocol has no way to do this.
pub(crate) fn lacks(driver: &dyn Driver, need: Need) -> bool {
    match need {
        Need::Resumption => driver.access_resuming("", 0).is_none(),
        Need::Verdicts => driver.numbered().is_none(),
        Need::Names => driver.tells_roster(),
        _ => driver.lacks(need),
    }
}

/// Whether a connection receives what it sends itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    On,
    Off,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It belongs to the channel from its beginning, and may publish too.
    Member,
    /// As a member, and it is told who joins and leaves.
    Watcher,
    /// It joins later by a command, or never, and may publish too.
    Guest,
    /// It joins and leaves by commands, over and over.
    Mover,
    /// It publishes and nothing else.
    Publisher,
}

/// What a scenario and a protocol give a way to check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checks {
    has_messages: bool,
    has_order: bool,
    has_order_between_publishers: bool,
    has_holes: bool,
}

impl Checks {
    pub(crate) fn of(plan: &Plan) -> Self {
        let is_contiguous = new(&plan.driver, plan.work.echo()).is_ok_and(|driver| driver.is_contiguous());
        let has_messages = match &plan.work {
            Work::Idle(_) | Work::Connect(_) => false,
            Work::Storm(storm) => storm.publishers() > 0,
            _ => true,
        };
        let publishing = plan.work.publishing();
        Self {
            has_messages,
            has_order: has_messages && !matches!(plan.work, Work::Presence(_)),
            has_order_between_publishers: is_contiguous || publishing.is_none_or(|work| work.publishers < 2),
            has_holes: is_contiguous
                && match publishing {
                    Some(work) => work.sees_every_number(),
                    None => has_messages && !matches!(plan.work, Work::Presence(_)),
                },
        }
    }

    /// The kinds of faults that are not checked.
    pub(crate) fn not_checked(self) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        if !self.has_messages {
            kinds.extend(["lost", "not arrived", "repeated", "misdelivered"]);
        }
        if !self.has_order {
            kinds.push("reordered");
        } else if !self.has_order_between_publishers {
            kinds.push("reordered between publishers");
        }
        if !self.has_holes {
            kinds.push("holes");
        }
        kinds
    }
}

/// What a connection is when its WebSocket is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened<'a> {
    /// The server speaks first.
    Awaiting,
    /// We do, with this.
    Greeting(&'a str),
    /// Ready for commands.
    Ready,
    /// A member already: the path says of what.
    Joined,
}

/// How what the server says is divided into items: publications and replies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Framing {
    /// A message is one item.
    Message,
    /// Each line of a message is one.
    Lines,
    /// A message is a list of any number of publications, or one reply.
    List,
    /// Items follow each other, and messages begin and end anywhere. The function says how long the first
    /// item is, or nothing if it is not complete.
    Stream(fn(&[u8]) -> Option<usize>),
}

/// An item from the server that is no publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// The connection is ready for commands; the name others know it by, and how to come back to its session.
    Welcome { session: &'a str, resumption: Option<Resumption<'a>> },
    /// A command succeeded; where a join leaves the connection, if the server says that.
    Done(Option<Standing<'a>>),
    /// A command failed.
    Failed { code: &'a str },
    /// What became of a message that has this number: it was published, or refused with this code.
    Verdict { number: u32, refusal: Option<&'a str> },
    /// A publication that has no stamp: an answer of a trigger.
    Answer,
    /// Who is in a channel, whose names stand in this text; it follows the answer to a join.
    Roster { text: &'a str },
    /// Someone joined or left a channel, or changed its profile.
    Notice { kind: Notice, session: &'a str },
    /// The server left out so many publications.
    Gap { missed: u64 },
    /// The server wants this said.
    Prompt { answer: &'a str },
    /// Something that does not matter here.
    Other,
    /// Nothing this protocol knows.
    Unknown,
}

impl<'a> Reply<'a> {
    /// A welcome without a ticket.
    pub(crate) fn welcome(session: &'a str) -> Self {
        Self::Welcome { session, resumption: None }
    }
}

/// What a welcome says of sessions that outlive their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resumption<'a> {
    /// The ticket that resumes this session.
    pub(crate) ticket: &'a str,
    /// Whether this connection resumed an earlier session, if it asked for one.
    pub(crate) is_resumed: Option<bool>,
}

/// Where a connection stands in a channel that it has just joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    /// Within it, numbers mean the same.
    pub(crate) epoch: &'a str,
    /// The number of the channel's last publication.
    pub(crate) offset: u64,
    /// Whether what was missed follows, if that was asked for.
    pub(crate) recovered: Option<bool>,
    /// How many publications were missed.
    pub(crate) missed: u64,
}

/// What a member did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Join,
    Update,
    Leave,
}

/// What follows `start` in `text`, up to `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let at = memmem::find(text.as_bytes(), start.as_bytes())? + start.len();
    let len = memmem::find(&text.as_bytes()[at..], end.as_bytes())?;
    Some(&text[at..at + len])
}

/// A path with a place for the channel in it.
fn with_channel(template: &str, channel: &str) -> String {
    template.replace("{channel}", channel)
}

/// The path of a driver's WebSocket.
#[cfg(test)]
fn path(driver: &impl Driver, channel: &str, role: Role) -> String {
    match driver.access(channel, role) {
        Access::WebSocket { path, .. } => path,
        Access::Http(_) => panic!("a WebSocket"),
    }
}
