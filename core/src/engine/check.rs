//! Checks of names and sizes against an app's limits. A check refuses before anything is done.

use crate::{
    app::App,
    command::{ChangeMessage, Publish},
    dialect,
    error::ReplyError,
    publication::Payload,
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

pub(super) fn check_change(app: &App, change: &ChangeMessage<'_>) -> Result<(), ReplyError> {
    check_channel(app, change.channel)?;
    change.payload.map_or(Ok(()), |payload| check_payload(app, payload))
}
