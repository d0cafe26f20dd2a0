//! A channel of the directory: its settings, who is in it, and what it remembers.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        entry::{Entry, EntryKind, Replay, Ring},
        schema::{Delivery, InfoConfig, Item, Settings},
        timestamp::Moment,
        tree::{Json, Members, object},
    },
    ConnId, Memory,
};
use crate::id::MessageId;

/// Frames that a channel keeps for clients that are not there.
const FRAMES: usize = 100;

#[derive(Debug)]
pub(super) struct Channel {
    uuid: MessageId,
    pub(super) settings: Settings,
    /// Connections by user.
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

    /// Adds a connection. False: it was there.
    pub(super) fn add(&mut self, user: &str, conn: ConnId) -> bool {
        let connections = self.users.entry(user.into()).or_default();
        let is_new = !connections.contains(&conn);
        if is_new {
            connections.push(conn);
            self.connections += 1;
        }
        is_new
    }

    /// Removes a connection. Returns whether it was the user's last; `None`: it was not there.
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

    /// How many connections a message is for.
    pub(super) fn receivers(&self, delivery: &Delivery) -> usize {
        let of = |user: &str| self.users.get(user).map_or(0, Vec::len);
        let sum = |mut users: Vec<&Box<str>>| {
            users.sort_unstable();
            users.dedup();
            users.into_iter().map(|user| of(user)).sum::<usize>()
        };
        let Delivery { pm_users, exclude_users, .. } = delivery;
        match pm_users.is_empty() {
            true => self.connections - sum(exclude_users.iter().collect()),
            false => sum(pm_users.iter().filter(|user| !exclude_users.contains(user)).collect()),
        }
    }

    /// Remembers an entry as far as the settings say.
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

    /// Changes a message that is remembered: that of the history and its frame, or the first frame alone.
    pub(super) fn edit(&mut self, edit: &Item, memory: &mut Memory) {
        for ring in [&mut self.history, &mut self.frames] {
            memory.replace(ring, edit);
        }
    }

    /// Forgets a message.
    pub(super) fn delete(&mut self, uuid: MessageId, memory: &mut Memory) {
        for ring in [&mut self.history, &mut self.frames] {
            memory.release(ring.remove(uuid));
        }
    }

    /// What the channel remembers is no more.
    pub(super) fn forget(&self, memory: &mut Memory) {
        memory.release(self.history.bytes() + self.frames.bytes());
    }

    /// What a user missed since `since`.
    pub(super) fn catch_up(&self, user: &str, since: Moment) -> impl Iterator<Item = Arc<str>> {
        let missed = self.frames.iter().filter(move |(at, entry)| *at >= since && entry.is_for(user));
        missed.map(|(_, entry)| entry.frame(Replay::Catchup))
    }

    /// The channel as a back end sees it, and its users as far as it lists them.
    pub(super) fn info(&self, name: &str, config: &InfoConfig) -> (Members, Vec<&str>) {
        let users: Vec<&str> = match config.users {
            true => self.users.keys().map(|user| &**user).collect(),
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
            "total_connections": self.connections,
            "total_users": users.len(),
            "users": users.iter().copied().collect::<Json>(),
        };
        (info, users)
    }
}

/// Whether history may keep a message.
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
