//! Reports of the directory for back ends and administrators.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        schema::InfoConfig,
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    Directory,
    user::User,
};

impl Directory {
    /// Describes channels and their users. Channels that do not exist are left out.
    pub(in super::super) fn channels_info<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        config: &InfoConfig,
    ) -> Members {
        let (mut channels, mut listed) = (Members::default(), BTreeMap::new());
        let mut seen = BTreeSet::new();
        for name in names.filter(|name| !config.except.iter().any(|except| **except == **name)) {
            let others = self.others.get(name);
            let channel = self.channels.get(name).or_else(|| others.map(|others| &others.channel));
            let Some(channel) = channel.filter(|_| seen.insert(name)) else { continue };
            let (info, users) = channel.info(name, others, config);
            channels.push(name, info);
            listed.extend(users.into_iter().map(|user| (user, others)));
        }
        let state = |user: &str, others| match self.users.get(user) {
            Some(user) if !config.public_state => user.state.clone(),
            _ => self.shown_state(others, user),
        };
        let user = |(name, others)| object! { "user": name, "state": state(name, others) };
        let users: Json = listed.into_iter().map(user).collect();
        object! { "channels": channels, "users": users }
    }

    /// The answer to `/info`.
    pub(in super::super) fn info(&self, config: &InfoConfig) -> Members {
        match &config.channels {
            Some(names) => self.channels_info(names.iter().map(|name| &**name), config),
            None => {
                let unknown = self.others.keys().filter(|name| !self.channels.contains_key(*name));
                let all: BTreeSet<&str> = self.channels.keys().chain(unknown).map(|name| &**name).collect();
                self.channels_info(all.into_iter(), config)
            }
        }
    }

    /// The overview for administrators.
    pub(in super::super) fn overview(&self, version: &str, now: Moment) -> Members {
        let mut active: Vec<(&str, &User)> = self.users.iter().map(|(name, user)| (&**name, user)).collect();
        active.retain(|(_, user)| !user.connections.is_empty());
        active.sort_unstable_by_key(|(name, _)| *name);
        let connections = |user: &User| user.connections.iter().map(ToString::to_string).collect::<Json>();
        let all = InfoConfig::default();
        let channels = self.info(&all).get("channels").cloned().unwrap_or(Json::Null);
        object! {
            "remembered_user_count": self.users.len(),
            "unique_user_count": active.len(),
            "total_connections": active.iter().map(|(_, user)| user.connections.len()).sum::<usize>(),
            "total_channels": self.channels.len(),
            "total_messages": self.counters.deliveries,
            "total_unique_messages": self.counters.messages,
            "channels": channels,
            "users": active.iter().map(|(name, user)| object! {
                "state": user.public_state(),
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
