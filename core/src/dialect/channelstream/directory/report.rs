//! Reports of the directory for back ends and administrators.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use super::{
    super::{
        schema::InfoConfig,
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    Directory,
    user::User,
};

/// The most channels that one visit to the directory describes.
const STEP: usize = 64;

/// Channels and their users, described for a back end.
#[derive(Default, Debug)]
struct Report {
    channels: Members,
    users: BTreeMap<Box<str>, Json>,
}

impl Report {
    fn finish(self) -> Members {
        let users: Json = self.users.into_iter().map(|(name, state)| named(&name, state)).collect();
        object! { "channels": self.channels, "users": users }
    }
}

fn named(user: &str, state: Json) -> Members {
    object! { "user": user, "state": state }
}

/// A report on all channels, which visits the directory several times. A channel that comes or goes between
/// two visits may be missing.
#[derive(Debug)]
pub(in super::super) struct Listing {
    config: InfoConfig,
    /// The last channel that was described.
    after: Option<Box<str>>,
    report: Report,
    /// The overview that the channels complete.
    overview: Option<Members>,
}

impl Listing {
    pub(in super::super) fn new(config: InfoConfig) -> Self {
        Self { config, after: None, report: Report::default(), overview: None }
    }

    /// The listing for an overview, which has a place for its channels.
    pub(in super::super) fn of_overview(overview: Members) -> Self {
        Self { overview: Some(overview), ..Self::new(InfoConfig::default()) }
    }
}

impl Directory {
    /// Describes channels and their users. Channels that do not exist are left out.
    pub(in super::super) fn channels_info<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        config: &InfoConfig,
    ) -> Members {
        let (mut report, mut seen) = (Report::default(), BTreeSet::new());
        for name in names {
            if seen.insert(name) {
                self.describe(name, config, &mut report);
            }
        }
        report.finish()
    }

    fn describe(&self, name: &str, config: &InfoConfig, report: &mut Report) {
        if config.except.iter().any(|except| **except == *name) {
            return;
        }
        let others = self.others.get(name);
        let own = self.channels.get(name);
        let Some(channel) = own.or_else(|| others.map(|others| &others.channel)) else { return };
        let (info, users) = channel.info(name, others, config);
        report.channels.push(name, info);
        for user in users {
            let state = || match config.public_state {
                true => self.shown_state(others, user),
                false => self.state_for_back_ends(others, user),
            };
            if !report.users.contains_key(user) {
                report.users.insert(user.into(), state().into());
            }
        }
    }

    /// The answer to `/info` about named channels.
    pub(in super::super) fn info(&self, config: &InfoConfig) -> Members {
        self.channels_info(config.channels.iter().flatten().map(|name| &**name), config)
    }

    /// Describes some more channels of a listing. Returns the answer if these were the last.
    pub(in super::super) fn list_more(&self, listing: &mut Listing) -> Option<Members> {
        let range = (listing.after.as_ref().map_or(Unbounded, Excluded), Unbounded);
        let own = self.channels.range::<Box<str>, _>(range).map(|(name, _)| name);
        let others = self.others.range::<Box<str>, _>(range).map(|(name, _)| name);
        let names: BTreeSet<&Box<str>> = own.take(STEP).chain(others.take(STEP)).collect();
        let is_last = names.len() < STEP;
        let names: Vec<Box<str>> = names.into_iter().take(STEP).cloned().collect();
        for name in &names {
            self.describe(name, &listing.config, &mut listing.report);
        }
        listing.after = names.into_iter().next_back();
        if !is_last {
            return None;
        }
        let report = std::mem::take(&mut listing.report);
        Some(match listing.overview.take() {
            None => report.finish(),
            Some(mut overview) => {
                overview.set("channels", report.channels);
                overview
            }
        })
    }

    /// The number of channels that only other dialects use.
    fn unknown_channels(&self) -> usize {
        self.others.keys().filter(|name| !self.channels.contains_key(*name)).count()
    }

    /// The overview for administrators, without the channels.
    pub(in super::super) fn overview(&self, version: &str, now: Moment) -> Members {
        let mut active: Vec<(&str, &User)> =
            self.users.iter().map(|(name, user)| (&**name, &**user)).collect();
        active.retain(|(_, user)| !user.connections.is_empty());
        active.sort_unstable_by_key(|(name, _)| *name);
        let connections = |user: &User| user.connections.iter().map(ToString::to_string).collect::<Json>();
        object! {
            "remembered_user_count": self.users.len(),
            "unique_user_count": active.len(),
            "total_connections": active.iter().map(|(_, user)| user.connections.len()).sum::<usize>(),
            "total_channels": self.channels.len() + self.unknown_channels(),
            "total_messages": self.counters.deliveries,
            "total_unique_messages": self.counters.messages,
            "channels": Json::Null,
            "users": active.iter().map(|(name, user)| object! {
                "state": self.public_state(name),
                "user": *name,
                "uuid": user.uuid.to_string(),
                "connections": connections(user),
            }).collect::<Json>(),
            "uptime": uptime(now.0.saturating_sub(self.started.0) / 1_000_000),
            "version": version,
        }
    }
}

/// Formats seconds as `1 day, 2:03:04`.
fn uptime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}
