//! Messages of back ends, their edits and their deletions. Nothing of the answer depends on whether anybody
//! receives them.

use std::sync::Arc;

use super::{
    super::{
        entry::{Entry, Replay, given, item_members},
        schema::{Item, ItemKind},
        timestamp::Moment,
        tree::Json,
    },
    Content, Directory, Effect, What,
    channel::History,
    notices::tell,
};

impl Directory {
    /// Messages, edits or deletions, in their order. Returns the answer.
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
                // It is for nobody.
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
        // Users are of this dialect alone: those of others may have the same names.
        let what = if channel.is_none() { What::Words(entry.frame(Replay::Live)) } else { what(item, kind) };
        effects.push(tell(channel, &entry, what));
    }

    /// Returns how many connections it is for; `None`: there is no such channel.
    fn apply_to_channel(
        &mut self,
        name: &str,
        item: &Item,
        entry: &Arc<Entry>,
        kind: ItemKind,
        now: Moment,
    ) -> Option<usize> {
        let channel = self.channels.get_mut(name)?;
        match kind {
            ItemKind::Message => {}
            ItemKind::Edit => channel.edit(item, &mut self.memory),
            ItemKind::Delete => channel.delete(item.uuid, &mut self.memory),
        }
        let keeps = if item.delivery.no_history { History::Not } else { History::Kept };
        channel.remember(entry, keeps, now, &mut self.memory);
        Some(channel.receivers(&item.delivery))
    }

    /// Returns how many connections it is for; `None`: nobody is named who is known.
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

/// What the members of a channel are told.
fn what(item: &Item, kind: ItemKind) -> What {
    let payload = item.message.as_ref().map(|message| Json::Object(message.clone()).compact().into());
    let content = Content { id: item.uuid, payload, given: given(item) };
    match kind {
        ItemKind::Message => What::Message { content, history: !item.delivery.no_history },
        ItemKind::Edit => What::Edit(content),
        ItemKind::Delete => What::Delete(item.uuid),
    }
}
