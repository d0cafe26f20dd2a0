//! THE BOUNDARY to a server's protocol: how to connect, what a command looks like, what an answer means. No word of
//! a protocol outside its module, no socket and no clock in here.

mod native;

pub(crate) use native::Native;

/// The protocols spoken.
#[derive(Debug, Clone)]
pub(crate) enum Driver {
    /// Fanfare's own.
    Native(Native),
}

/// A text from the server that is no publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// The connection is ready for commands; the name others know it by.
    Welcome { session: &'a str },
    /// The command with this number succeeded.
    Done { command: u32 },
    /// A command failed; the number is missing if it had none.
    Failed { command: Option<u32>, code: &'a str },
    /// Someone joined or left a channel.
    Notice { kind: Notice, session: &'a str },
    /// The server left out so many publications.
    Gap { missed: u64 },
    /// Something that does not matter here.
    Other,
    /// Nothing this protocol knows.
    Unknown,
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
    Leave,
}

/// Whether a connection receives what it sends itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    On,
    Off,
}

impl Driver {
    /// Path and query of the WebSocket.
    pub(crate) fn path(&self, echo: Echo) -> String {
        match self {
            Self::Native(native) => native.path(echo),
        }
    }

    /// The text that joins a channel, to be answered under `command`.
    pub(crate) fn join(&self, command: u32, channel: &str) -> String {
        match self {
            Self::Native(native) => native.join(command, channel),
        }
    }

    /// The text that joins a channel and asks for what came after this number of this epoch; none if the protocol
    /// has nothing of the kind.
    pub(crate) fn join_since(&self, command: u32, channel: &str, epoch: &str, offset: u64) -> Option<String> {
        match self {
            Self::Native(native) => Some(native.join_since(command, channel, epoch, offset)),
        }
    }

    /// What the answer to a join says of where the connection stands, if it does.
    pub(crate) fn standing<'a>(&self, answer: &'a str) -> Option<Standing<'a>> {
        match self {
            Self::Native(native) => native.standing(answer),
        }
    }

    /// The text that leaves a channel.
    pub(crate) fn leave(&self, command: u32, channel: &str) -> String {
        match self {
            Self::Native(native) => native.leave(command, channel),
        }
    }

    /// What stands before and behind the payload in a message to a channel.
    pub(crate) fn send_around(&self, channel: &str) -> (String, &'static str) {
        match self {
            Self::Native(native) => native.send_around(channel),
        }
    }

    /// What stands before and behind the payload in a message to everyone.
    pub(crate) fn broadcast_around(&self) -> (String, &'static str) {
        match self {
            Self::Native(native) => native.broadcast_around(),
        }
    }

    /// A publication's number in its channel, which stands somewhere in what follows its payload.
    #[inline]
    pub(crate) fn number(&self, behind: &[u8]) -> Option<u64> {
        match self {
            Self::Native(native) => native.number(behind),
        }
    }

    /// Whether a channel's numbers are contiguous: one that is left out is a hole.
    pub(crate) fn is_contiguous(&self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// What a text without a stamp means.
    pub(crate) fn read<'a>(&self, text: &'a str) -> Reply<'a> {
        match self {
            Self::Native(native) => native.read(text),
        }
    }
}
