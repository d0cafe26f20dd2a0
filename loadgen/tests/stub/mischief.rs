//! The faults that the stub server can have.

/// A fault of the stub server, which happens at each `every`-th delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mischief {
    None,
    Lose {
        every: u64,
    },
    Repeat {
        every: u64,
    },
    /// The delivery comes after the next one to the same connection.
    Reorder {
        every: u64,
    },
    /// A member of another channel receives the delivery too.
    Misdeliver {
        every: u64,
    },
    Corrupt {
        every: u64,
    },
    /// A number of the channel is left out.
    Skip {
        every: u64,
    },
    /// No fault: a member that joins with a position receives the messages since that position.
    Recover,
    /// A member that joins with a position does not receive the first message that it missed.
    RecoverTooFew,
    /// A member that joins with a position receives the last message that it missed twice.
    RecoverTooMany,
    /// No fault: a session outlives its connection, and goes on with the ticket of its welcome.
    Resume,
    /// A session that goes on lacks the first message that it missed.
    ResumeTooLittle,
    /// No ticket is good when it comes back.
    Lapse,
    /// No member recovers messages, although every member is told a position.
    Forget,
    /// No fault: the first member of a channel is told of the second member's join only with its next
    /// delivery.
    TellLate,
    /// The last member of a channel gets a message only when the server is otherwise idle. The server closes
    /// the connection of a sender that sends the next message before that.
    LastOneLater,
    /// A sender receives its own message, even if it did not ask for it.
    Echo,
    /// The connection is closed instead.
    HangUp {
        every: u64,
    },
    /// The connection is closed at each `every`-th join.
    HangUpOnJoin {
        every: u64,
    },
    /// Each handshake takes this long, one after another.
    Dawdle {
        milliseconds: u64,
    },
    /// The whole server stops for some milliseconds after this many messages.
    Stop {
        at_send: u64,
        milliseconds: u64,
    },
    /// The whole server stops for some milliseconds at the join with this number.
    StopAtJoin {
        at_join: u64,
        milliseconds: u64,
    },
    /// Members are not told of each `every`-th join up to a limit, nor of the leave after it.
    MergeNotices {
        every: u64,
        until: u64,
    },
    /// The message with this number is delivered to no member.
    LoseMessage {
        number: u64,
    },
    /// No fault: a trigger refuses each `refused`-th message, wraps the payload of each `replaced`-th, and
    /// answers the sender of each `answered`-th.
    Judge {
        refused: u64,
        replaced: u64,
        answered: u64,
    },
    /// Each message with a number that divides by this is refused, and delivered all the same.
    RefuseInVain {
        every: u64,
    },
    /// No handshake succeeds.
    Refuse,
    /// Sends are answered with an error.
    Overloaded,
}

impl Mischief {
    /// Whether welcomes have tickets.
    pub(super) fn has_tickets(self) -> bool {
        matches!(self, Self::Resume | Self::ResumeTooLittle | Self::Lapse)
    }
}
