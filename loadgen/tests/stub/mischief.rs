//! What the server does wrong.

/// What the server does wrong, at each `every`-th delivery.
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
    /// A member of another channel gets it too.
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
    /// None: who joins with a position receives what was sent since.
    Recover,
    /// The same, but without the first that was missed.
    RecoverTooFew,
    /// The same, and the last that was missed twice.
    RecoverTooMany,
    /// Nobody recovers, although everyone is told a position.
    Forget,
    /// The first member of a channel hears that the second joined only with what it hears next. No fault.
    TellLate,
    /// The last member of a channel gets a message only when nothing else is going on. Whoever sends the next
    /// one before that is hung up on.
    LastOneLater,
    /// Who sends receives it too, asked for or not.
    Echo,
    /// The connection is closed instead.
    HangUp {
        every: u64,
    },
    /// The connection is closed at each `every`-th join.
    HangUpOnJoin {
        every: u64,
    },
    /// Each handshake takes so long, one after the other.
    Dawdle {
        milliseconds: u64,
    },
    /// The whole server stops, when it has got so many messages.
    Stop {
        at_send: u64,
        milliseconds: u64,
    },
    /// The same, at a join.
    StopAtJoin {
        at_join: u64,
        milliseconds: u64,
    },
    /// Nobody is told of each `every`-th join up to one, nor of the leave after it.
    MergeNotices {
        every: u64,
        until: u64,
    },
    /// The message of this number is delivered to nobody.
    LoseMessage {
        number: u64,
    },
    /// No handshake succeeds.
    Refuse,
    /// Sends are answered with an error.
    Overloaded,
}
