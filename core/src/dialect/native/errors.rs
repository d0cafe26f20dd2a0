//! The errors of the native dialect: a stable code for programs, and a sentence for people.

use crate::error::ReplyError;

/// The code of a command that a trigger refused.
pub(super) const REFUSED: &str = "refused";

/// The error of a command with a wrong member, which `sentence` describes.
pub(super) fn wrong(sentence: &'static str) -> ReplyError {
    ReplyError::InvalidCommand(sentence)
}

/// The stable code of an error, as `docs/PROTOCOL.md`, section 6, lists it.
pub(super) fn code(error: ReplyError) -> &'static str {
    match error {
        ReplyError::MalformedJson => "malformed_json",
        ReplyError::TooDeep => "too_deep",
        ReplyError::InvalidCommand(_) => "invalid_command",
        ReplyError::UnknownCommand => "unknown_command",
        ReplyError::BatchTooLong => "batch_too_long",
        ReplyError::InvalidBinary => "invalid_binary",
        ReplyError::InvalidChannel => "invalid_channel",
        ReplyError::InvalidEvent => "invalid_event",
        ReplyError::ReservedEvent => "reserved_event",
        ReplyError::MessageTooLarge => "message_too_large",
        ReplyError::ProfileTooLarge => "profile_too_large",
        ReplyError::SessionRequired | ReplyError::UsersOnly => "session_required",
        ReplyError::SessionExpired => "session_expired",
        ReplyError::InvalidSession => "invalid_session",
        ReplyError::MembershipRequired => "membership_required",
        ReplyError::TooManyChannels => "too_many_channels",
        ReplyError::RateLimited => "rate_limited",
        ReplyError::TooManyTokens => "too_many_tokens",
        ReplyError::InvalidCursor => "invalid_cursor",
        ReplyError::UnknownMessage => "unknown_message",
        ReplyError::EditNotAllowed => "edit_not_allowed",
        ReplyError::TooManyOptions => "too_many_options",
        ReplyError::OptionInUse => "option_in_use",
        ReplyError::Refused => REFUSED,
        ReplyError::TriggerFailed => "trigger_failed",
        ReplyError::TooManyMembers => "too_many_members",
        ReplyError::NotAllowed => "not_allowed",
        ReplyError::NoRoster => "no_roster",
        ReplyError::TooManyUsers => "too_many_users",
        ReplyError::Overloaded => "overloaded",
    }
}

/// The sentence of an error, for a person.
pub(in crate::dialect) fn message(error: ReplyError) -> &'static str {
    match error {
        ReplyError::MalformedJson => "This is not well-formed JSON.",
        ReplyError::TooDeep => "The JSON is nested deeper than 128.",
        ReplyError::InvalidCommand(what) => what,
        ReplyError::UnknownCommand => "There is no command of this type.",
        ReplyError::BatchTooLong => "At most 256 commands may come together.",
        ReplyError::InvalidBinary => {
            "A binary frame is the envelope's length in two bytes, the envelope of a send or broadcast \
             without message, and the payload."
        }
        ReplyError::InvalidChannel => {
            "A channel's name is 1 to 256 bytes of UTF-8, or fewer if the app says so."
        }
        ReplyError::InvalidEvent => {
            "An event's name is 1 to 256 bytes of UTF-8, or fewer if the app says so."
        }
        ReplyError::ReservedEvent => "Events that begin with channel: or message: belong to the server.",
        ReplyError::MessageTooLarge => "The message is larger than this app allows.",
        ReplyError::ProfileTooLarge => "The profile is larger than this app allows.",
        ReplyError::SessionRequired => "This app wants a session for this command.",
        ReplyError::SessionExpired => "The session has expired.",
        ReplyError::InvalidSession => "The session token does not verify, or is another user's.",
        ReplyError::MembershipRequired => "This app lets only members send to a channel.",
        ReplyError::TooManyChannels => "The connection is in as many channels as this app allows.",
        ReplyError::RateLimited => "More messages per second than this app allows.",
        ReplyError::TooManyTokens => {
            "Session tokens come faster than they are checked; try again in a second."
        }
        ReplyError::InvalidCursor => {
            "This has not the form of a cursor, or names a worker that this server does not have."
        }
        ReplyError::UnknownMessage => "The channel remembers no message of this id.",
        ReplyError::EditNotAllowed => {
            "The message is another sender's, or this app does not let senders edit and delete."
        }
        ReplyError::TooManyOptions => "As many channels of this app have options of their own as may.",
        ReplyError::OptionInUse => "presence_by_user and roster cannot change while the channel has members.",
        ReplyError::TooManyUsers => "As many users of this app have a state as may.",
        ReplyError::NoRoster => "This channel keeps no roster.",
        ReplyError::Refused => "A trigger of the app refused this.",
        ReplyError::TriggerFailed => "A trigger of the app failed, so this was not done.",
        ReplyError::UsersOnly => "The rules of this channel let only sessions of users join and read it.",
        ReplyError::TooManyMembers => "The members are more than this app lists at once.",
        ReplyError::NotAllowed => "The rules of this channel do not allow it.",
        ReplyError::Overloaded => "The server is overloaded and did not accept this; try again.",
    }
}
