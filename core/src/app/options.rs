//! The options of channels: an app's defaults, its rules by name, and the options that its back end sets for
//! single channels.
//!
//! A channel looks its options up once, when it is created. The most specific source decides all options:
//! options that were set for this channel, a rule with exactly this name, the rule with the longest matching
//! prefix, the app's defaults.

use std::ops::RangeInclusive;

use super::SlowConsumer;

/// How much a channel remembers. A message goes when any of the three says so.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct HistoryLimits {
    /// Messages; 0: the channel has no history.
    pub messages: u32,
    /// Bytes, with what the server needs for each message.
    pub bytes: u32,
    /// Milliseconds since it was sent.
    pub age_ms: u32,
}

impl HistoryLimits {
    /// No history.
    pub const NONE: Self = Self { messages: 0, bytes: 1 << 20, age_ms: 3_600_000 };

    /// What `messages` may be.
    pub const MESSAGES: RangeInclusive<i64> = 0..=65_536;
    /// What `bytes` may be.
    pub const BYTES: RangeInclusive<i64> = 1024..=1_073_741_824;
    /// What the age may be, in seconds.
    pub const AGE_S: RangeInclusive<i64> = 1..=604_800;

    /// Whether anything is remembered.
    pub fn is_on(&self) -> bool {
        self.messages > 0
    }
}

/// The sessions that a channel's rule allows an action. A session has a user if its session token is valid.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub enum Who {
    /// Every session may act.
    #[default]
    Anybody,
    /// Sessions with a user may act.
    Users,
    /// No session may act; the back end may.
    Nobody,
}

/// The rule of a channel about messages for signed-in members alone.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub enum SignedInMessages {
    /// A session with a user chooses for each message.
    #[default]
    Optional,
    /// Messages for signed-in members alone are refused.
    Never,
    /// Every message of a session with a user is for signed-in members alone, and such a session may always
    /// publish. Sessions without user publish by the channel's other rules.
    Always,
}

/// The options of a channel. 20 bytes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct ChannelOptions {
    /// What it remembers.
    pub history: HistoryLimits,
    /// Whether joins, leaves and updates are announced to the other members.
    pub announce: bool,
    /// Whether members are told of a user's first session and last.
    pub presence_by_user: bool,
    /// Whether only members may send.
    pub membership_to_send: bool,
    /// What happens to members that read too slowly.
    pub slow_consumer: SlowConsumer,
    /// The sessions that may join, and read the channel's history and members.
    pub join: Who,
    /// The sessions that may publish to the members, and edit.
    pub publish: Who,
    /// The sessions that may send to a single member.
    pub direct: Who,
    /// The rule about messages for signed-in members alone.
    pub signed_in_messages: SignedInMessages,
    /// Whether the channel keeps a list of its members that agrees with the presence notices.
    pub roster: bool,
    /// Whether members are told of changes of a user's state while one of its sessions is a member.
    pub user_state: bool,
    /// Whether the notices of a user's first session and last have a list of the channel's users.
    pub user_lists: bool,
    /// For at most how many milliseconds presence notices wait for others, so that they leave together; 0:
    /// they leave at once.
    pub presence_batch_ms: u16,
}

impl ChannelOptions {
    /// What `presence_batch_ms` may be.
    pub const PRESENCE_BATCH_MS: RangeInclusive<i64> = 0..=1000;
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            history: HistoryLimits::NONE,
            announce: true,
            presence_by_user: false,
            membership_to_send: false,
            slow_consumer: SlowConsumer::default(),
            join: Who::default(),
            publish: Who::default(),
            direct: Who::default(),
            signed_in_messages: SignedInMessages::default(),
            roster: false,
            user_state: false,
            user_lists: false,
            presence_batch_ms: 0,
        }
    }
}

/// Options for channels of certain names.
#[derive(Clone, Debug)]
pub struct ChannelRule {
    /// A name, or the beginning of names with a `*` behind it.
    pub pattern: Box<str>,
    /// What such channels are like.
    pub options: ChannelOptions,
}

/// How well a channel's name fits a pattern, which is a name, or the beginning of names with a `*` behind it:
/// `None` not at all, and the higher the more specific.
pub(crate) fn fit(pattern: &str, name: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix).then_some(prefix.len()),
        None => (*pattern == *name).then_some(usize::MAX),
    }
}

/// The options that a list of rules has for `name`.
pub(super) fn resolve(rules: &[ChannelRule], name: &str) -> Option<ChannelOptions> {
    let fits = rules.iter().filter_map(|rule| fit(&rule.pattern, name).map(|fit| (fit, rule)));
    fits.max_by_key(|(fit, _)| *fit).map(|(_, rule)| rule.options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_wins() {
        let options = |messages| {
            let history = HistoryLimits { messages, ..HistoryLimits::NONE };
            ChannelOptions { history, ..ChannelOptions::default() }
        };
        let rule =
            |pattern: &str, messages| ChannelRule { pattern: pattern.into(), options: options(messages) };
        let rules =
            [rule("chat:*", 1), rule("chat:vip:*", 2), rule("chat:vip:one", 3), rule("chat:vip:one*", 4)];
        let found = |name| resolve(&rules, name).map(|options| options.history.messages);
        assert_eq!(found("chat:1"), Some(1));
        assert_eq!(found("chat:vip:two"), Some(2));
        assert_eq!(found("chat:vip:one"), Some(3));
        assert_eq!(found("chat:vip:one2"), Some(4));
        assert_eq!(found("chat"), None);
    }
}
