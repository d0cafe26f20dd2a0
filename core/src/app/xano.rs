//! The options of an app for Xano's clients: the names of the app, and the channels that clients may use.

use std::{collections::HashSet, iter};

use super::{App, ChannelOptions, ChannelRule, HistoryLimits, SignedInMessages, Who, options::fit};

/// The options of an app for clients of Xano.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct XanoOptions {
    /// The canonical by which clients' paths name the app.
    pub canonical: Box<str>,
    /// Another name of the app, from older configurations of clients.
    pub hash: Option<Box<str>>,
    /// Whether clients of Xano may connect.
    pub enabled: bool,
    /// The channels that clients of Xano may use, by pattern.
    pub channels: Vec<XanoChannel>,
}

/// The settings of the channels of one pattern, with the names of Xano's settings.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct XanoChannel {
    /// A channel's name, or the beginning of names with a `*` behind it.
    pub pattern: Box<str>,
    /// A description for people.
    pub description: Box<str>,
    /// Whether the entry is in force.
    pub enabled: bool,
    /// Whether the pattern also matches names that continue it after a `/`.
    pub wildcard: bool,
    /// Whether clients without a token may join.
    pub anonymous_clients: bool,
    /// Whether clients see the members and their joins and leaves.
    pub presence: bool,
    /// The number of messages that the channel remembers.
    pub history: u32,
    /// The sessions that may send to all members.
    pub public_messaging: Who,
    /// Whether a message of a client with a token reaches only clients with a token.
    pub authenticated_messaging: bool,
    /// The sessions that may send to a single member.
    pub private_messaging: Who,
}

impl XanoOptions {
    /// The default options: clients may use no channel.
    pub fn new(canonical: &str) -> Self {
        Self { canonical: canonical.into(), hash: None, enabled: true, channels: Vec::new() }
    }

    /// The rules about channels that the entries in force mean.
    pub fn rules(&self, default: ChannelOptions) -> impl Iterator<Item = ChannelRule> {
        self.channels.iter().filter(|row| row.enabled).flat_map(move |row| row.rules(default))
    }

    /// The names by which clients mean the app.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        iter::once(&*self.canonical).chain(self.hash.as_deref())
    }

    /// The settings of a channel; `None` if clients may not use the channel. The longest matching pattern
    /// decides, and the first of several entries with that pattern.
    pub fn channel(&self, name: &str) -> Option<&XanoChannel> {
        let rows = self.channels.iter().rev().filter(|row| self.enabled && row.enabled);
        rows.filter_map(|row| Some((row.fit(name)?, row))).max_by_key(|(fit, _)| *fit).map(|(_, row)| row)
    }
}

impl XanoChannel {
    /// The settings of a pattern, with every setting off.
    pub fn new(pattern: &str) -> Self {
        Self {
            pattern: pattern.into(),
            description: Box::default(),
            enabled: true,
            wildcard: false,
            anonymous_clients: false,
            presence: false,
            history: 0,
            public_messaging: Who::Nobody,
            authenticated_messaging: false,
            private_messaging: Who::Nobody,
        }
    }

    /// How well the pattern matches `name`, by the same order as the rules of [`XanoChannel::rules`].
    fn fit(&self, name: &str) -> Option<usize> {
        fit(&self.pattern, name).or_else(|| {
            let rest = name.strip_prefix(&*self.pattern)?;
            let is_below = self.wildcard && !self.pattern.ends_with('*') && rest.starts_with('/');
            is_below.then_some(self.pattern.len() + 1)
        })
    }

    /// The rules of the channels that match the pattern. A rule differs from the app's `default` where the
    /// settings say so.
    pub fn rules(&self, default: ChannelOptions) -> Vec<ChannelRule> {
        let options = ChannelOptions {
            history: HistoryLimits { messages: self.history, ..default.history },
            announce: self.presence,
            roster: self.presence,
            membership_to_send: true,
            join: if self.anonymous_clients { Who::Anybody } else { Who::Users },
            publish: self.public_messaging,
            direct: self.private_messaging,
            signed_in_messages: match self.authenticated_messaging {
                true => SignedInMessages::Always,
                false => SignedInMessages::Never,
            },
            ..default
        };
        let below = (self.wildcard && !self.pattern.ends_with('*')).then(|| [&self.pattern, "/*"].concat());
        let patterns = [Some(self.pattern.clone()), below.map(Box::from)];
        patterns.into_iter().flatten().map(|pattern| ChannelRule { pattern, options }).collect()
    }
}

impl App {
    /// The app without the rules of its channels for clients of Xano, and without these clients' options.
    pub fn without_xano(&self) -> App {
        let default = self.default_options();
        let own: HashSet<Box<str>> =
            self.xano.iter().flat_map(|own| own.rules(default)).map(|rule| rule.pattern).collect();
        let rules = self.rules.iter().filter(|rule| !own.contains(&rule.pattern)).cloned().collect();
        App { rules, xano: None, ..self.clone() }
    }

    /// The app with these options for clients of Xano in the place of its own.
    pub fn with_xano(&self, options: XanoOptions) -> App {
        let mut app = self.without_xano();
        app.rules.extend(options.rules(self.default_options()));
        App { xano: Some(options), ..app }
    }

    /// Whether messages are kept with their sender.
    pub(crate) fn remembers_senders(&self) -> bool {
        self.show_sender || self.sender_edits || self.shows_profiles()
    }

    /// Whether receivers of a message see the profile of its sender.
    pub(crate) fn shows_profiles(&self) -> bool {
        self.xano.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppKeys, Apps, AppsError};

    fn app(name: &str, canonical: &str, hash: Option<&str>) -> App {
        let options = XanoOptions { hash: hash.map(Box::from), ..XanoOptions::new(canonical) };
        App { xano: Some(options), ..App::new(name, AppKeys::default()) }
    }

    #[test]
    fn an_app_is_found_by_either_name_and_no_name_means_two() {
        let apps =
            vec![App::new("plain", AppKeys::default()), app("one", "c1", Some("h1")), app("two", "c2", None)];
        let apps = Apps::new(apps).expect("the names differ");
        let found = |name| apps.by_canonical(name).map(|app| &*app.name);
        assert_eq!((found("c1"), found("h1"), found("c2")), (Some("one"), Some("one"), Some("two")));
        assert_eq!((found("plain"), found("")), (None, None));
        for twin in
            [app("b", "c1", None), app("b", "h1", None), app("b", "c2", Some("c1")), app("b", "x", Some("x"))]
        {
            let refused = Apps::new(vec![app("a", "c1", Some("h1")), twin]).expect_err("they share a name");
            assert_eq!(refused, AppsError::DuplicateCanonical("b".into()));
        }
    }

    #[test]
    fn the_longest_pattern_decides_and_of_equals_the_first() {
        let row = |pattern: &str, history| XanoChannel { history, ..XanoChannel::new(pattern) };
        let nested = |pattern: &str, history| XanoChannel { wildcard: true, ..row(pattern, history) };
        let off = |pattern: &str| XanoChannel { enabled: false, ..row(pattern, 99) };
        let mut options = XanoOptions::new("c");
        options.channels = vec![
            row("room:*", 1),
            nested("chat", 2),
            row("chat/vip", 3),
            row("chat/vip/*", 4),
            row("room:*", 5),
            off("off"),
            off("chat/off"),
            nested("nest/*", 6),
        ];
        let found = |name: &str| options.channel(name).map(|row| row.history);
        assert_eq!((found("room:1"), found("room:")), (Some(1), Some(1)));
        assert_eq!(
            (found("chat"), found("chat/1"), found("chat/1/2"), found("chatter")),
            (Some(2), Some(2), Some(2), None)
        );
        assert_eq!((found("chat/vip"), found("chat/vip/1"), found("nest/1")), (Some(3), Some(4), Some(6)));
        assert_eq!((found("off"), found("chat/off"), found("nest")), (None, Some(2), None));
    }
}
