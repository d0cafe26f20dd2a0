//! Entries of a channel's or a user's history: messages, their changes, and notices, in the original's form.

use std::sync::Arc;

use super::{
    schema::{Delivery, Item, ItemKind},
    timestamp::{Moment, in_frames, unix_ms},
    tree::{Json, Members, object},
};
use crate::{
    id::MessageId,
    publication::{Given, GivenTime},
};

/// The kind of an entry.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum EntryKind {
    Message,
    Edit,
    Delete,
    /// A notice of presence or of a user's state.
    Notice,
}

/// An entry of a history. An edit of a message replaces the message's entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) uuid: MessageId,
    pub(super) kind: EntryKind,
    pub(super) pm_users: Arc<[Box<str>]>,
    pub(super) exclude_users: Arc<[Box<str>]>,
    /// The entry as a back end sees it, with members in the original's order.
    members: Members,
    bytes: usize,
}

/// Whether a frame is sent at once, or later to a client that was absent.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Replay {
    Live,
    Catchup,
}

/// Members of an entry that only the server reads.
const DELIVERY: [&str; 3] = ["pm_users", "exclude_users", "no_history"];

impl Entry {
    /// The entry of a message, or of a message's edit or deletion.
    pub(super) fn of_item(item: &Item, kind: ItemKind) -> Self {
        let mut members = item_members(item, kind);
        let (kind, word) = match kind {
            ItemKind::Message => (EntryKind::Message, "message"),
            ItemKind::Edit => (EntryKind::Edit, "message:edit"),
            ItemKind::Delete => (EntryKind::Delete, "message:delete"),
        };
        if kind == EntryKind::Message {
            members.push("catchup", false);
        }
        members.push("type", word);
        let Delivery { pm_users, exclude_users, .. } = &item.delivery;
        Self::new(item.uuid, kind, members, pm_users, exclude_users)
    }

    /// The entry of a notice with these members.
    pub(super) fn notice(uuid: MessageId, members: Members, exclude_users: &[Box<str>]) -> Self {
        Self::new(uuid, EntryKind::Notice, members, &[], exclude_users)
    }

    fn new(
        uuid: MessageId,
        kind: EntryKind,
        members: Members,
        pm_users: &[Box<str>],
        exclude_users: &[Box<str>],
    ) -> Self {
        let (pm_users, exclude_users) = (pm_users.into(), exclude_users.into());
        let mut entry = Self { uuid, kind, pm_users, exclude_users, members, bytes: 0 };
        entry.measure();
        entry
    }

    /// The approximate memory of the entry: a tree takes several times the bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn measure(&mut self) {
        const TREE: usize = 3;
        self.bytes = size_of::<Self>() + TREE * self.members.weight();
    }

    /// Whether a user receives the entry.
    pub(super) fn is_for(&self, user: &str) -> bool {
        let names = |users: &[Box<str>]| users.iter().any(|name| **name == *user);
        !names(&self.exclude_users) && (self.pm_users.is_empty() || names(&self.pm_users))
    }

    /// The entry of a message after `edit`.
    pub(super) fn edited(&self, edit: &Item) -> Self {
        let mut entry = self.clone();
        let texts = [("timestamp", &edit.timestamp), ("user", &edit.user)];
        for (name, text) in texts {
            if let Some(text) = text {
                entry.members.set(name, &**text);
            }
        }
        if let Some(message) = &edit.message {
            entry.members.set("message", message.clone());
        }
        entry.members.set("edited", edit.edited.as_deref());
        entry.measure();
        entry
    }

    /// The entry in the form that back ends see.
    pub(super) fn to_json(&self) -> Json {
        Json::Object(self.members.clone())
    }

    /// The entry as one element of the array that is a client's frame.
    pub(super) fn frame(&self, replay: Replay) -> Arc<str> {
        let mut frame = Members::default();
        for (name, value) in self.members.iter().filter(|(name, _)| !DELIVERY.contains(name)) {
            match (name, value) {
                ("timestamp" | "edited", Json::String(time)) => frame.push(name, in_frames(time)),
                _ => frame.push(name, value.clone()),
            }
        }
        if replay == Replay::Catchup {
            frame.set("catchup", true);
        }
        frame.compact().into()
    }
}

/// What a back end decides of its message besides the payload.
pub(super) fn given(item: &Item) -> Given {
    let time = |text: &Option<Box<str>>| {
        let text = text.as_deref()?;
        Some(GivenTime { unix_ms: unix_ms(text), text: in_frames(text).into() })
    };
    Given {
        time: time(&item.timestamp),
        edited: time(&item.edited),
        label: item.user.clone(),
        note: note(&item.extras),
        keeps_payload: item.message.is_none(),
    }
}

/// The unknown members of a message in the form of its frames, with a comma before each member.
fn note(extras: &Members) -> Option<Box<str>> {
    let mut text = extras.compact();
    text.pop();
    (!extras.is_empty()).then(|| text.replacen('{', ",", 1).into())
}

/// One element of the answer to a request with messages.
pub(super) fn item_members(item: &Item, kind: ItemKind) -> Members {
    let Item { delivery, uuid, timestamp, user, message, edited, extras } = item;
    let mut members = object! {
        "pm_users": delivery.pm_users.iter().map(|user| &**user).collect::<Json>(),
        "exclude_users": delivery.exclude_users.iter().map(|user| &**user).collect::<Json>(),
        "channel": delivery.channel.as_deref(),
        "no_history": delivery.no_history,
        "uuid": uuid.to_string(),
    };
    for (name, text) in [("timestamp", timestamp), ("user", user)] {
        if let Some(text) = text {
            members.push(name, &**text);
        }
    }
    if let Some(message) = message {
        members.push("message", message.clone());
    }
    if kind != ItemKind::Delete {
        members.push("edited", edited.as_deref());
    }
    for (name, value) in extras.iter() {
        members.push(name, value.clone());
    }
    members
}

/// A ring of entries. Each entry has the time at which it was added.
#[derive(Default, Debug)]
pub(super) struct Ring(std::collections::VecDeque<(Moment, Arc<Entry>)>);

impl Ring {
    pub(super) fn push(&mut self, at: Moment, entry: Arc<Entry>) {
        self.0.push_back((at, entry));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes the oldest entry. Returns the entry's memory.
    pub(super) fn pop(&mut self) -> Option<usize> {
        self.0.pop_front().map(|(_, entry)| entry.bytes())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Moment, Arc<Entry>)> {
        self.0.iter()
    }

    /// The entry of a message.
    pub(super) fn message_mut(&mut self, uuid: MessageId) -> Option<&mut Arc<Entry>> {
        let is_it = |entry: &Entry| entry.uuid == uuid && entry.kind == EntryKind::Message;
        self.0.iter_mut().map(|(_, entry)| entry).find(|entry| is_it(entry))
    }

    /// Removes the entry of a message. Returns the entry's memory.
    pub(super) fn remove(&mut self, uuid: MessageId) -> usize {
        let is_it = |entry: &Entry| entry.uuid == uuid && entry.kind == EntryKind::Message;
        let found = self.0.iter().position(|(_, entry)| is_it(entry));
        found.and_then(|at| self.0.remove(at)).map_or(0, |(_, entry)| entry.bytes())
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, entry)| entry.bytes()).sum()
    }
}
