//! Bodies of the API that are no publications: channel options, disconnections.

use std::ops::RangeInclusive;

use fanfare_core::{
    app::{ChannelOptions, HistoryLimits, SlowConsumer},
    command::Disconnection,
    dialect::{Batch, CommandReader},
    error::ReplyError,
    id::SessionId,
    json::{Object, Raw},
};

/// A disconnect request.
pub(super) struct DisconnectRequest {
    pub(super) whom: Disconnection,
    pub(super) reconnect: bool,
}

fn wrong(detail: &'static str) -> ReplyError {
    ReplyError::InvalidCommand(detail)
}

/// What a body says about a channel's options, on top of `options`. `None` if it says nothing.
pub(super) fn read_options(
    object: &Object<'_, '_>,
    mut options: ChannelOptions,
) -> Result<Option<ChannelOptions>, ReplyError> {
    let mut any = false;
    for (name, value) in object.members() {
        let boolean = |detail| value.as_bool().ok_or(wrong(detail));
        let number = |range: RangeInclusive<i64>, detail| {
            let number = value.as_i64().filter(|number| range.contains(number));
            number.and_then(|number| u32::try_from(number).ok()).ok_or(wrong(detail))
        };
        match &*name.name() {
            "channel" => continue,
            "history_messages" => {
                let detail = "history_messages must be a whole number from 0 to 65536.";
                options.history.messages = number(HistoryLimits::MESSAGES, detail)?;
            }
            "history_bytes" => {
                let detail = "history_bytes must be a whole number from 1024 to 1073741824.";
                options.history.bytes = number(HistoryLimits::BYTES, detail)?;
            }
            "history_age_s" => {
                let detail = "history_age_s must be a whole number from 1 to 604800.";
                options.history.age_ms = number(HistoryLimits::AGE_S, detail)? * 1000;
            }
            "announce" => options.announce = boolean("announce must be true or false.")?,
            "presence_by_user" => {
                options.presence_by_user = boolean("presence_by_user must be true or false.")?;
            }
            "membership_to_send" => {
                options.membership_to_send = boolean("membership_to_send must be true or false.")?;
            }
            "slow_consumer" => {
                options.slow_consumer = match value.as_string().as_deref() {
                    Some("disconnect") => SlowConsumer::Disconnect,
                    Some("drop") => SlowConsumer::Drop,
                    _ => return Err(wrong("slow_consumer must be \"disconnect\" or \"drop\".")),
                }
            }
            _ => {
                return Err(wrong(
                    "The body has a member that is no channel option: there are history_messages, history_bytes, \
                     history_age_s, announce, presence_by_user, membership_to_send and slow_consumer.",
                ));
            }
        }
        any = true;
    }
    Ok(any.then_some(options))
}

/// The body of a disconnect request.
pub(super) fn read_disconnect(
    reader: &mut CommandReader,
    body: &str,
) -> Result<DisconnectRequest, ReplyError> {
    let batch = Batch::read(reader, body)?;
    let object = batch.object().ok_or(wrong("The body must be an object."))?;
    let present = |name| object.member(name).filter(|raw: &Raw<'_>| !raw.is_null());
    let text = |name| match present(name) {
        Some(raw) => raw.as_string().map(Some).ok_or(wrong("session and user must be strings.")),
        None => Ok(None),
    };
    let reconnect = match present("reconnect") {
        Some(raw) => raw.as_bool().ok_or(wrong("reconnect must be true or false."))?,
        None => false,
    };
    let whom = match (text("session")?, text("user")?) {
        (Some(session), None) => {
            Disconnection::Session(SessionId::parse(&session).ok_or(wrong("session is not a session's id."))?)
        }
        (None, Some(user)) => Disconnection::User(user.into()),
        _ => return Err(wrong("Either session or user must be given.")),
    };
    Ok(DisconnectRequest { whom, reconnect })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> &'static str {
        let mut reader = CommandReader::default();
        let batch = Batch::read(&mut reader, body).expect("it is JSON");
        let object = batch.object().expect("it is an object");
        read_options(&object, ChannelOptions::default()).expect_err("it is refused").message()
    }

    #[test]
    fn a_refused_option_is_named_with_the_range_that_the_code_checks() {
        for (name, range) in [
            ("history_messages", HistoryLimits::MESSAGES),
            ("history_bytes", HistoryLimits::BYTES),
            ("history_age_s", HistoryLimits::AGE_S),
        ] {
            let sentence = refusal(&format!("{{\"{name}\":{}}}", range.end() + 1));
            let expected =
                format!("{name} must be a whole number from {} to {}.", range.start(), range.end());
            assert_eq!(sentence, expected);
        }
        assert!(refusal("{\"announce\":1}").starts_with("announce must"));
        assert!(refusal("{\"colour\":1}").contains("slow_consumer"));
    }
}
