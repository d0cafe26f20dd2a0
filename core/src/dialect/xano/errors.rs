//! The errors of the Xano dialect: one sentence for a person.

use crate::{dialect::native, error::ReplyError};

/// The sentence in the payload of an `error`.
pub(super) fn sentence(error: ReplyError) -> &'static str {
    match error {
        ReplyError::UnknownCommand => "There is no such action.",
        ReplyError::MembershipRequired => "Only clients that have joined the channel can do this.",
        // The original's sentence. Some clients compare it.
        ReplyError::UsersOnly => "Anonymous clients cannot join this channel.",
        ReplyError::NotAllowed => "This channel's settings do not allow this.",
        ReplyError::SessionRequired => "Anonymous clients cannot do this.",
        ReplyError::SessionExpired => "The token has expired.",
        other => native::message(other),
    }
}
