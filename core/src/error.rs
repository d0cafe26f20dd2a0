//! Errors that a command is answered with. The connection lives on; nothing was done.
//!
//! What ends a connection is another type: see `disconnect.rs`.

/// Why a command was refused. Documented, with one row each, in `docs/PROTOCOL.md`, section 6.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[allow(missing_docs, reason = "the native dialect has a sentence for each variant")]
pub enum ReplyError {
    MalformedJson,
    TooDeep,
    InvalidCommand(&'static str),
    UnknownCommand,
    BatchTooLong,
    InvalidBinary,
    InvalidChannel,
    InvalidEvent,
    ReservedEvent,
    MessageTooLarge,
    ProfileTooLarge,
    SessionRequired,
    SessionExpired,
    InvalidSession,
    MembershipRequired,
    TooManyChannels,
    RateLimited,
    TooManyTokens,
    InvalidCursor,
    UnknownMessage,
    EditNotAllowed,
    TooManyOptions,
    OptionInUse,
    Refused,
    TriggerFailed,
    TooManyMembers,
    NotAllowed,
    UsersOnly,
    NoRoster,
    TooManyUsers,
    Overloaded,
}
