//! Errors that a command is answered with. The connection lives on; nothing was done.
//!
//! What ends a connection is another type: see `disconnect.rs`.

use std::fmt;

/// Why a command was refused. Documented, with one row each, in `docs/PROTOCOL.md`, section 6.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[allow(missing_docs, reason = "each variant's sentence is in `message`")]
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
    Overloaded,
}

impl ReplyError {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::TooDeep => "too_deep",
            Self::InvalidCommand(_) => "invalid_command",
            Self::UnknownCommand => "unknown_command",
            Self::BatchTooLong => "batch_too_long",
            Self::InvalidBinary => "invalid_binary",
            Self::InvalidChannel => "invalid_channel",
            Self::InvalidEvent => "invalid_event",
            Self::ReservedEvent => "reserved_event",
            Self::MessageTooLarge => "message_too_large",
            Self::ProfileTooLarge => "profile_too_large",
            Self::SessionRequired => "session_required",
            Self::SessionExpired => "session_expired",
            Self::InvalidSession => "invalid_session",
            Self::MembershipRequired => "membership_required",
            Self::TooManyChannels => "too_many_channels",
            Self::RateLimited => "rate_limited",
            Self::TooManyTokens => "too_many_tokens",
            Self::InvalidCursor => "invalid_cursor",
            Self::UnknownMessage => "unknown_message",
            Self::EditNotAllowed => "edit_not_allowed",
            Self::TooManyOptions => "too_many_options",
            Self::OptionInUse => "option_in_use",
            Self::Overloaded => "overloaded",
        }
    }

    /// One sentence for a person.
    pub fn message(self) -> &'static str {
        match self {
            Self::MalformedJson => "This is not well-formed JSON.",
            Self::TooDeep => "The JSON is nested deeper than 128.",
            Self::InvalidCommand(what) => what,
            Self::UnknownCommand => "There is no command of this type.",
            Self::BatchTooLong => "At most 256 commands may come together.",
            Self::InvalidBinary => {
                "A binary frame is the envelope's length in two bytes, the envelope of a send or broadcast without message, and the payload."
            }
            Self::InvalidChannel => {
                "A channel's name is 1 to 256 bytes of UTF-8, or fewer if the app says so."
            }
            Self::InvalidEvent => "An event's name is 1 to 256 bytes of UTF-8, or fewer if the app says so.",
            Self::ReservedEvent => "Events that begin with channel: or message: belong to the server.",
            Self::MessageTooLarge => "The message is larger than this app allows.",
            Self::ProfileTooLarge => "The profile is larger than this app allows.",
            Self::SessionRequired => "This app wants a session for this command.",
            Self::SessionExpired => "The session has expired.",
            Self::InvalidSession => "The session token does not verify, or is another user's.",
            Self::MembershipRequired => "This app lets only members send to a channel.",
            Self::TooManyChannels => "The connection is in as many channels as this app allows.",
            Self::RateLimited => "More messages per second than this app allows.",
            Self::TooManyTokens => "Session tokens come faster than they are checked; try again in a second.",
            Self::InvalidCursor => "This is not a cursor that this server gave out.",
            Self::UnknownMessage => "The channel remembers no message of this id.",
            Self::EditNotAllowed => {
                "The message is another sender's, or this app does not let senders edit and delete."
            }
            Self::TooManyOptions => "As many channels of this app have options of their own as may.",
            Self::OptionInUse => "presence_by_user cannot change while the channel has members.",
            Self::Overloaded => "The server is overloaded and did not accept this; try again.",
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ReplyError {}
