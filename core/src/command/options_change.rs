//! Options of a channel that differ from the configuration.

use crate::app::{ChannelOptions, SignedInMessages, SlowConsumer, Who};

/// How a channel's options are to differ from those that the configuration has for its name. `None` leaves a
/// value as the configuration has it.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
#[allow(missing_docs, reason = "the fields are those of `ChannelOptions` and `HistoryLimits`")]
pub struct OptionsChange {
    pub history_messages: Option<u32>,
    pub history_bytes: Option<u32>,
    pub history_age_ms: Option<u32>,
    pub announce: Option<bool>,
    pub presence_by_user: Option<bool>,
    pub membership_to_send: Option<bool>,
    pub slow_consumer: Option<SlowConsumer>,
    pub join: Option<Who>,
    pub publish: Option<Who>,
    pub direct: Option<Who>,
    pub signed_in_messages: Option<SignedInMessages>,
    pub roster: Option<bool>,
    pub user_state: Option<bool>,
    pub user_lists: Option<bool>,
    pub presence_batch_ms: Option<u16>,
}

impl OptionsChange {
    /// `configured` with this change; `None` if nothing is to differ.
    pub fn apply(&self, configured: ChannelOptions) -> Option<ChannelOptions> {
        if *self == Self::default() {
            return None;
        }
        let mut options = configured;
        set(&mut options.history.messages, self.history_messages);
        set(&mut options.history.bytes, self.history_bytes);
        set(&mut options.history.age_ms, self.history_age_ms);
        set(&mut options.announce, self.announce);
        set(&mut options.presence_by_user, self.presence_by_user);
        set(&mut options.membership_to_send, self.membership_to_send);
        set(&mut options.slow_consumer, self.slow_consumer);
        set(&mut options.join, self.join);
        set(&mut options.publish, self.publish);
        set(&mut options.direct, self.direct);
        set(&mut options.signed_in_messages, self.signed_in_messages);
        set(&mut options.roster, self.roster);
        set(&mut options.user_state, self.user_state);
        set(&mut options.user_lists, self.user_lists);
        set(&mut options.presence_batch_ms, self.presence_batch_ms);
        Some(options)
    }
}

impl From<ChannelOptions> for OptionsChange {
    /// Sets every value.
    fn from(options: ChannelOptions) -> Self {
        let ChannelOptions { history, announce, presence_by_user, membership_to_send, .. } = options;
        Self {
            history_messages: Some(history.messages),
            history_bytes: Some(history.bytes),
            history_age_ms: Some(history.age_ms),
            announce: Some(announce),
            presence_by_user: Some(presence_by_user),
            membership_to_send: Some(membership_to_send),
            slow_consumer: Some(options.slow_consumer),
            join: Some(options.join),
            publish: Some(options.publish),
            direct: Some(options.direct),
            signed_in_messages: Some(options.signed_in_messages),
            roster: Some(options.roster),
            user_state: Some(options.user_state),
            user_lists: Some(options.user_lists),
            presence_batch_ms: Some(options.presence_batch_ms),
        }
    }
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::HistoryLimits;

    #[test]
    fn options_change_touches_what_it_names_alone() {
        let configured = ChannelOptions::default();
        assert_eq!(OptionsChange::default().apply(configured), None);
        let change =
            OptionsChange { history_age_ms: Some(7), announce: Some(false), ..OptionsChange::default() };
        let changed = change.apply(configured).expect("something differs");
        assert_eq!((changed.history.age_ms, changed.announce), (7, false));
        let history = HistoryLimits { age_ms: configured.history.age_ms, ..changed.history };
        assert_eq!(ChannelOptions { history, announce: configured.announce, ..changed }, configured);
        assert_eq!(OptionsChange::from(changed).apply(configured), Some(changed));
    }
}
