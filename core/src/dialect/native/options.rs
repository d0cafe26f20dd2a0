//! A channel's options as JSON members, with the names of the configuration.

use std::ops::RangeInclusive;

use bytes::BytesMut;

use super::{
    errors::wrong,
    put::{put_bool, put_number},
};
use crate::{
    app::{ChannelOptions, HistoryLimits, SignedInMessages, SlowConsumer, Who},
    command::OptionsChange,
    error::ReplyError,
    json::{self, Object, Raw},
};

/// One option of a channel. Only [`OPTIONS`] has the names of options.
struct ChannelOption {
    name: &'static str,
    /// Reads the option's value; `None` if the value is wrong.
    read: fn(&mut OptionsChange, Raw<'_>) -> Option<()>,
    /// The error's sentence for a wrong value.
    wrong: &'static str,
    write: fn(&ChannelOptions, &mut BytesMut),
}

/// Makes an option, whose sentence `name must be …` contains the option's name.
macro_rules! option {
    ($name:literal must be $values:literal, $read:expr, $write:expr) => {
        ChannelOption {
            name: $name,
            read: $read,
            wrong: concat!($name, " must be ", $values, "."),
            write: $write,
        }
    };
}

/// Makes an option that is on or off, with the name of its field.
macro_rules! flag {
    ($field:ident) => {
        ChannelOption {
            name: stringify!($field),
            read: |change, value| value.as_bool().map(|is_on| change.$field = Some(is_on)),
            wrong: concat!(stringify!($field), " must be true or false."),
            write: |options, out| put_bool(out, "", options.$field),
        }
    };
}

/// Makes an option that says which clients may do something, with the name of its field.
macro_rules! permission {
    ($field:ident) => {
        ChannelOption {
            name: stringify!($field),
            read: |change, value| who(value).map(|who| change.$field = Some(who)),
            wrong: concat!(stringify!($field), " must be \"anybody\", \"users\" or \"nobody\"."),
            write: |options, out| json::write_string(out, who_name(options.$field)),
        }
    };
}

/// All options, in the order in which they are written.
const OPTIONS: [ChannelOption; 15] = [
    option!("history_messages" must be "a whole number from 0 to 65536",
        |change, value| whole(value, HistoryLimits::MESSAGES).map(|n| change.history_messages = Some(n)),
        |options, out| put_number(out, "", options.history.messages.into())),
    option!("history_bytes" must be "a whole number from 1024 to 1073741824",
        |change, value| whole(value, HistoryLimits::BYTES).map(|n| change.history_bytes = Some(n)),
        |options, out| put_number(out, "", options.history.bytes.into())),
    option!("history_age_s" must be "a whole number from 1 to 604800",
        |change, value| whole(value, HistoryLimits::AGE_S).map(|n| change.history_age_ms = Some(n * 1000)),
        |options, out| put_number(out, "", u64::from(options.history.age_ms) / 1000)),
    flag!(announce),
    flag!(presence_by_user),
    flag!(membership_to_send),
    option!("slow_consumer" must be "\"disconnect\" or \"drop\"",
    |change, value| slow_consumer(value).map(|policy| change.slow_consumer = Some(policy)),
    |options, out| json::write_string(out, match options.slow_consumer {
        SlowConsumer::Disconnect => DISCONNECT,
        SlowConsumer::Drop => DROP,
    })),
    permission!(join),
    permission!(publish),
    permission!(direct),
    option!("signed_in_messages" must be "\"optional\", \"never\" or \"always\"",
    |change, value| signed_in(value).map(|when| change.signed_in_messages = Some(when)),
    |options, out| json::write_string(out, match options.signed_in_messages {
        SignedInMessages::Optional => OPTIONAL,
        SignedInMessages::Never => NEVER,
        SignedInMessages::Always => ALWAYS,
    })),
    flag!(roster),
    flag!(user_state),
    flag!(user_lists),
    option!("presence_batch_ms" must be "a whole number from 0 to 1000",
        |change, value| whole(value, ChannelOptions::PRESENCE_BATCH_MS)
            .map(|ms| change.presence_batch_ms = u16::try_from(ms).ok()),
        |options, out| put_number(out, "", options.presence_batch_ms.into())),
];

const DISCONNECT: &str = "disconnect";
const DROP: &str = "drop";
const OPTIONAL: &str = "optional";
const NEVER: &str = "never";
const ALWAYS: &str = "always";

const UNKNOWN: &str = "The body has a member that is no channel option: there are history_messages, \
                       history_bytes, history_age_s, announce, presence_by_user, membership_to_send, \
                       slow_consumer, join, publish, direct, signed_in_messages, roster, user_state, \
                       user_lists and presence_batch_ms.";

/// The member that restricts options to a channel that does not exist.
pub(super) const ONLY_NEW: &str = "only_new";

/// Reads a channel's options from an object. The object's member `channel` names the channel.
pub(super) fn read_options(object: &Object<'_, '_>) -> Result<OptionsChange, ReplyError> {
    let mut change = OptionsChange::default();
    for (name, value) in object.members() {
        let name = name.name();
        if *name == *"channel" || *name == *ONLY_NEW {
            continue;
        }
        let option = OPTIONS.iter().find(|option| option.name == &*name);
        let option = option.ok_or(wrong(UNKNOWN))?;
        (option.read)(&mut change, value).ok_or(wrong(option.wrong))?;
    }
    Ok(change)
}

/// Appends a channel's options as further members of an object.
pub(super) fn put_options(out: &mut BytesMut, options: &ChannelOptions) {
    for option in &OPTIONS {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(option.name.as_bytes());
        out.extend_from_slice(b"\":");
        (option.write)(options, out);
    }
}

fn whole(value: Raw<'_>, range: RangeInclusive<i64>) -> Option<u32> {
    let number = value.as_i64().filter(|number| range.contains(number))?;
    u32::try_from(number).ok()
}

fn who(value: Raw<'_>) -> Option<Who> {
    let name = value.as_string()?;
    [Who::Anybody, Who::Users, Who::Nobody].into_iter().find(|who| *who_name(*who) == *name)
}

fn who_name(who: Who) -> &'static str {
    match who {
        Who::Anybody => "anybody",
        Who::Users => "users",
        Who::Nobody => "nobody",
    }
}

fn signed_in(value: Raw<'_>) -> Option<SignedInMessages> {
    match value.as_string().as_deref() {
        Some(OPTIONAL) => Some(SignedInMessages::Optional),
        Some(NEVER) => Some(SignedInMessages::Never),
        Some(ALWAYS) => Some(SignedInMessages::Always),
        _ => None,
    }
}

fn slow_consumer(value: Raw<'_>) -> Option<SlowConsumer> {
    match value.as_string().as_deref() {
        Some(DISCONNECT) => Some(SlowConsumer::Disconnect),
        Some(DROP) => Some(SlowConsumer::Drop),
        _ => None,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::dialect::native::{batch::Batch, template::CommandReader};

    fn read(body: &str) -> Result<OptionsChange, ReplyError> {
        let mut reader = CommandReader::default();
        let batch = Batch::read(&mut reader, body).expect("it is JSON");
        read_options(&batch.object().expect("it is an object"))
    }

    fn refusal(body: &str) -> &'static str {
        match read(body) {
            Err(ReplyError::InvalidCommand(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
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
        assert_eq!(refusal("{\"announce\":1}"), "announce must be true or false.");
        assert_eq!(refusal("{\"slow_consumer\":1}"), "slow_consumer must be \"disconnect\" or \"drop\".");
        let unknown = refusal("{\"colour\":1}");
        assert!(OPTIONS.iter().all(|option| unknown.contains(option.name)), "{unknown}");
    }

    #[test]
    fn options_are_read_as_they_are_written() {
        let history = HistoryLimits { messages: 3, bytes: 2048, age_ms: 5_000 };
        let options = ChannelOptions {
            history,
            announce: false,
            presence_by_user: true,
            membership_to_send: true,
            slow_consumer: SlowConsumer::Drop,
            join: Who::Users,
            publish: Who::Nobody,
            direct: Who::Anybody,
            signed_in_messages: SignedInMessages::Always,
            roster: true,
            user_state: true,
            user_lists: true,
            presence_batch_ms: 20,
        };
        let mut out = BytesMut::from(&b"{\"channel\":\"c\""[..]);
        put_options(&mut out, &options);
        out.extend_from_slice(b"}");
        let written = std::str::from_utf8(&out).expect("JSON is UTF-8");
        assert_eq!(read(written), Ok(OptionsChange::from(options)));
        assert_eq!(read("{\"channel\":\"c\"}"), Ok(OptionsChange::default()));
    }
}
