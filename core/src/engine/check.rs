//! Checks of names and sizes against an app's limits. A check refuses before anything is done.

use crate::{
    app::App,
    command::{ChangeMessage, Publish},
    dialect,
    error::ReplyError,
    limits::LABEL_BYTES,
    publication::{Given, Payload},
};

pub(super) fn check_channel(app: &App, channel: &str) -> Result<(), ReplyError> {
    let fits = (1..=app.limits.channel_name_bytes).contains(&channel.len());
    fits.then_some(()).ok_or(ReplyError::InvalidChannel)
}

pub(super) fn check_message(
    app: &App,
    publish: &Publish<'_>,
    payloads: &[Payload<'_>],
) -> Result<(), ReplyError> {
    let &Publish { channel, event, .. } = publish;
    if let Some(channel) = channel {
        check_channel(app, channel)?;
    }
    if !(1..=app.limits.event_name_bytes).contains(&event.len()) {
        return Err(ReplyError::InvalidEvent);
    }
    if dialect::is_reserved_event(event) {
        return Err(ReplyError::ReservedEvent);
    }
    payloads.iter().try_for_each(|payload| check_payload(app, *payload))
}

pub(super) fn check_payload(app: &App, payload: Payload<'_>) -> Result<(), ReplyError> {
    if payload.len() > app.limits.message_bytes { Err(ReplyError::MessageTooLarge) } else { Ok(()) }
}

/// Checks the texts that a back end gives with a payload: texts and payload together have at most the bytes
/// of a message.
pub(super) fn check_given(app: &App, payload: Payload<'_>, given: &Given) -> Result<(), ReplyError> {
    let label = given.label.as_ref().map_or(1, |label| label.len());
    if !(1..=LABEL_BYTES).contains(&label) {
        return Err(ReplyError::InvalidCommand("A sender's name has 1 to 512 bytes."));
    }
    let fits = payload.len() + given.text_bytes() <= app.limits.message_bytes + LABEL_BYTES + TIMES_BYTES;
    if fits { Ok(()) } else { Err(ReplyError::MessageTooLarge) }
}

/// The bytes of the texts of two times.
const TIMES_BYTES: usize = 128;

pub(super) fn check_change(app: &App, change: &ChangeMessage<'_>) -> Result<(), ReplyError> {
    check_channel(app, change.channel)?;
    change.payload.map_or(Ok(()), |payload| check_payload(app, payload))
}
