//! A channel of the directory: its settings, its users with their connections, and its history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::{
        entry::{Entry, EntryKind, Replay, Ring},
        schema::{Delivery, InfoConfig, Item, Settings},
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    ConnId, Memory,
    others::Others,
};
use crate::id::MessageId;

/// The most frames that a channel keeps for clients that do not poll at the moment.
const FRAMES: usize = 100;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) uuid: MessageId,
    pub(super) settings: Settings,
    /// The channel's connections by user.
    pub(super) users: BTreeMap<Box<str>, Vec<ConnId>>,
    connections: usize,
    pub(super) last_active: Moment,
    history: Ring,
    frames: Ring,
}

impl Channel {
    pub(super) fn new(uuid: MessageId, settings: Settings, now: Moment) -> Self {
        Self {
            uuid,
            settings,
            users: BTreeMap::new(),
            connections: 0,
            last_active: now,
            history: Ring::default(),
            frames: Ring::default(),
        }
    }

    /// Adds a connection. Returns false if the connection was in the channel before.
    pub(super) fn add(&mut self, user: &str, conn: ConnId) -> bool {
        let connections = self.users.entry(user.into()).or_insert_with(|| Vec::with_capacity(1));
        let is_new = !connections.contains(&conn);
        if is_new {
            connections.push(conn);
            self.connections += 1;
        }
        is_new
    }

    /// Removes a connection. Returns whether it was the last connection of its user; `None` if it was not in
    /// the channel.
    pub(super) fn remove(&mut self, user: &str, conn: ConnId) -> Option<bool> {
        let connections = self.users.get_mut(user)?;
        let at = connections.iter().position(|own| *own == conn)?;
        connections.remove(at);
        self.connections -= 1;
        let is_last = connections.is_empty();
        if is_last {
            self.users.remove(user);
        }
        Some(is_last)
    }

    /// The number of the channel's connections that receive a message.
    pub(super) fn receivers(&self, delivery: &Delivery) -> usize {
        delivery.receivers(self.connections, |user| self.users.get(user).map_or(0, Vec::len))
    }

    /// Adds an entry to the history and to the frames, as far as the channel's settings allow.
    pub(super) fn remember(&mut self, entry: &Arc<Entry>, keeps: History, now: Moment, memory: &mut Memory) {
        self.last_active = now;
        let is_kept = keeps == History::Kept && entry.kind == EntryKind::Message;
        if self.settings.store_history && is_kept {
            let most = usize::try_from(self.settings.history_size).unwrap_or(usize::MAX);
            if most > 0 {
                memory.push(&mut self.history, most, now, entry);
            }
            self.trim(memory);
        }
        if self.settings.store_frames {
            memory.push(&mut self.frames, FRAMES, now, entry);
        }
    }

    /// Cuts the history to its size.
    fn trim(&mut self, memory: &mut Memory) {
        let most = usize::try_from(self.settings.history_size).unwrap_or(usize::MAX);
        memory.cut(&mut self.history, most);
    }

    /// Edits a remembered message: its entries in the history and in the frames, or its first entry in the
    /// frames alone.
    pub(super) fn edit(&mut self, edit: &Item, memory: &mut Memory) {
        for ring in [&mut self.history, &mut self.frames] {
            memory.replace(ring, edit);
        }
    }

    /// Removes a message from the history and the frames.
    pub(super) fn delete(&mut self, uuid: MessageId, memory: &mut Memory) {
        for ring in [&mut self.history, &mut self.frames] {
            memory.release(ring.remove(uuid));
        }
    }

    /// Gives back the memory of a channel's history and frames, because the channel is removed.
    pub(super) fn forget(&self, memory: &mut Memory) {
        memory.release(self.history.bytes() + self.frames.bytes());
    }

    /// The frames that a user has missed since `since`.
    pub(super) fn catch_up(&self, user: &str, since: Moment) -> impl Iterator<Item = Arc<str>> {
        let missed = self.frames.iter().filter(move |(at, entry)| *at >= since && entry.is_for(user));
        missed.map(|(_, entry)| entry.frame(Replay::Catchup))
    }

    /// The channel in the form that back ends see, and its users as far as `config` lists them.
    pub(super) fn info<'a>(
        &'a self,
        name: &str,
        others: Option<&'a Others>,
        config: &InfoConfig,
    ) -> (Members, Vec<&'a str>) {
        let users = match config.users {
            true => names(self.users.keys().map(|user| &**user), others),
            false => Vec::new(),
        };
        let history: Json = match config.history {
            true => self.history.iter().map(|(_, entry)| entry.to_json()).collect(),
            false => Json::Array(Vec::new()),
        };
        let info = object! {
            "uuid": self.uuid.to_string(),
            "name": name,
            "long_name": Json::Null,
            "settings": settings(self.settings),
            "history": history,
            "last_active": self.last_active.to_string(),
            "total_connections": self.connections + others.map_or(0, Others::sessions),
            "total_users": users.len(),
            "users": users.iter().copied().collect::<Json>(),
        };
        (info, users)
    }
}

/// The names of a channel's users of all dialects, sorted.
pub(super) fn names<'a>(own: impl Iterator<Item = &'a str>, others: Option<&'a Others>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = own.chain(others.into_iter().flat_map(Others::names)).collect();
    names.into_iter().collect()
}

/// Whether the history may keep a message.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum History {
    Kept,
    Not,
}

fn settings(settings: Settings) -> Members {
    object! {
        "notify_presence": settings.notify_presence,
        "store_history": settings.store_history,
        "history_size": settings.history_size,
        "broadcast_presence_with_user_lists": settings.user_lists,
        "notify_state": settings.notify_state,
        "store_frames": settings.store_frames,
    }
}
