//! Messages of back ends, their edits and their deletions. The answer to a back end does not depend on
//! whether a message has receivers.

use std::sync::Arc;

use super::{
    super::{
        effect::{Content, Effect, What},
        entry::{Entry, Replay, given, item_members},
        schema::{Item, ItemKind},
        timestamp::Moment,
        tree::Json,
    },
    Directory,
    channel::History,
    notices::tell,
};

impl Directory {
    /// Applies messages, edits or deletions in order. Returns the answer.
    pub(in super::super) fn apply_items(
        &mut self,
        items: Vec<Item>,
        kind: ItemKind,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Json {
        let now = self.tick(now);
        let time: Box<str> = now.to_string().into();
        let mut answer = Vec::new();
        for mut item in items {
            match kind {
                // A message that names neither a channel nor users has no receivers.
                ItemKind::Message if item.delivery.is_empty() => continue,
                ItemKind::Message => item.timestamp.get_or_insert_with(|| time.clone()),
                ItemKind::Edit => item.edited.get_or_insert_with(|| time.clone()),
                ItemKind::Delete => &mut time.clone(),
            };
            answer.push(Json::Object(item_members(&item, kind)));
            self.apply_item(&item, kind, now, effects);
        }
        Json::Array(answer)
    }

    fn apply_item(&mut self, item: &Item, kind: ItemKind, now: Moment, effects: &mut Vec<Effect>) {
        let entry = Arc::new(Entry::of_item(item, kind));
        self.counters.messages += u64::from(kind == ItemKind::Message);
        let receivers = match &item.delivery.channel {
            Some(name) => self.apply_to_channel(name, item, &entry, kind, now),
            None => self.apply_to_users(item, &entry, kind, now),
        };
        let Some(receivers) = receivers else { return };
        if kind == ItemKind::Message {
            self.counters.deliveries += receivers as u64;
        }
        let channel = item.delivery.channel.as_deref();
        // A private message is for users of this dialect alone: users of other dialects may have the same
        // names.
        let what = if channel.is_none() { What::Words(entry.frame(Replay::Live)) } else { what(item, kind) };
        effects.push(tell(channel, &entry, what));
    }

    /// Applies an item to its channel. Returns how many connections receive the item; `None` if the channel
    /// does not exist.
    fn apply_to_channel(
        &mut self,
        name: &str,
        item: &Item,
        entry: &Arc<Entry>,
        kind: ItemKind,
        now: Moment,
    ) -> Option<usize> {
        let others = self.others.get(name);
        let theirs = others.map(|others| others.receivers(&item.delivery));
        let Some(channel) = self.channels.get_mut(name) else { return theirs };
        match kind {
            ItemKind::Message => {}
            ItemKind::Edit => channel.edit(item, &mut self.memory),
            ItemKind::Delete => channel.delete(item.uuid, &mut self.memory),
        }
        let keeps = if item.delivery.no_history { History::Not } else { History::Kept };
        channel.remember(entry, keeps, now, &mut self.memory);
        Some(channel.receivers(&item.delivery) + theirs.unwrap_or_default())
    }

    /// Applies an item to its users. Returns how many connections receive the item; `None` if no named user
    /// exists.
    fn apply_to_users(
        &mut self,
        item: &Item,
        entry: &Arc<Entry>,
        kind: ItemKind,
        now: Moment,
    ) -> Option<usize> {
        let mut receivers = None;
        for name in &item.delivery.pm_users {
            let Some(user) = self.users.get_mut(name) else { continue };
            match kind {
                ItemKind::Message => {}
                ItemKind::Edit => self.memory.replace(&mut user.frames, item),
                ItemKind::Delete => self.memory.release(user.frames.remove(item.uuid)),
            }
            user.remember(entry, now, &mut self.memory);
            receivers = Some(receivers.unwrap_or(0) + user.connections.len());
        }
        receivers
    }
}

/// What the members of a channel receive for an item.
fn what(item: &Item, kind: ItemKind) -> What {
    let payload = item.message.as_ref().map(|message| message.compact().into());
    let content = Content { id: item.uuid, payload, given: given(item) };
    match kind {
        ItemKind::Message => What::Message { content, history: !item.delivery.no_history },
        ItemKind::Edit => What::Edit(content),
        ItemKind::Delete => What::Delete(item.uuid),
    }
}
