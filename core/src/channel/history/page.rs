//! Reading a memory: pages of messages, and what somebody missed.
//!
//! What was read goes to other threads, and is written to a session later. So it owns its texts, which are
//! copied into one piece of memory, or shares the publications.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Content, Entry, History, Layout};
use crate::{
    id::MessageId,
    publication::{OwnedPublication, Publication},
};

/// Whose eyes read: a private message is shown only to those it is for.
#[derive(Clone, Debug)]
pub enum Viewer {
    /// The app's back end, which may see everything.
    BackEnd,
    /// A session of this user, or of none.
    User(Option<Arc<str>>),
}

impl Viewer {
    fn may_see(&self, entry: &Entry) -> bool {
        match (self, &entry.content) {
            (Self::BackEnd, _) | (_, Content::Text { .. }) => true,
            (Self::User(user), Content::Shared(publication)) => {
                publication.audience().admits_user(user.as_deref())
            }
        }
    }

    /// The offset of the change by which this reader has lost a message.
    fn lost_at(&self, entry: &Entry) -> Option<u64> {
        let Self::User(user) = self else { return None };
        let mut all = entry.lost().iter();
        all.find(|lost| lost.audience.admits_user(user.as_deref())).map(|lost| lost.offset)
    }
}

/// Something remembered, as it is shown.
#[derive(Clone, Debug)]
pub struct HistoryItem(Shown);

#[derive(Clone, Debug)]
enum Shown {
    Text {
        id: MessageId,
        offset: u64,
        layout: Layout,
        text: Bytes,
    },
    /// A message, as it is now.
    Message(Arc<OwnedPublication>),
    /// What happened to a message that is known already.
    Change(Arc<OwnedPublication>),
    /// It is no longer for the reader, by the change that took this offset.
    Loss(u64, Arc<OwnedPublication>),
}

impl HistoryItem {
    /// What to show.
    pub fn view(&self) -> Publication<'_> {
        match &self.0 {
            Shown::Text { id, offset, layout, text } => layout.view(*id, *offset, text),
            Shown::Message(publication) => publication.message(),
            Shown::Change(publication) => publication.view(),
            Shown::Loss(offset, publication) => publication.loss(*offset).expect("the reader has lost it"),
        }
    }

    /// About how many bytes it takes: as much as a publication of its own.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Shown::Text { text, .. } => OwnedPublication::bytes_with(text.len()),
            Shown::Message(publication) | Shown::Change(publication) | Shown::Loss(_, publication) => {
                publication.bytes()
            }
        }
    }

    /// Its place in the channel's stream.
    pub fn offset(&self) -> u64 {
        match &self.0 {
            Shown::Text { offset, .. } => *offset,
            Shown::Message(publication) => publication.message_offset(),
            Shown::Change(publication) => publication.offset(),
            Shown::Loss(offset, _) => *offset,
        }
    }
}

/// Where a page of history begins and which way it goes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum PageStart {
    /// Messages after this offset, the oldest first.
    After(u64),
    /// Messages before this offset, the newest first.
    Before(u64),
}

/// How much to read at once.
#[derive(Copy, Clone, Debug)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Bytes of what is remembered; one message may exceed them.
    pub bytes: usize,
}

/// A page of history.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages, in the order that was asked for.
    pub messages: Vec<HistoryItem>,
    /// The offset to go on from in the same direction; `None` at the end.
    pub next: Option<u64>,
}

impl Page {
    /// About how many bytes its messages take.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(HistoryItem::bytes).sum()
    }
}

/// Something that is to be shown.
#[derive(Copy, Clone)]
struct Found<'a> {
    entry: &'a Entry,
    what: What,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum What {
    Message,
    Change,
    Loss(u64),
}

impl Found<'_> {
    fn offset(&self) -> u64 {
        match self.what {
            What::Message => self.entry.offset,
            What::Change => self.entry.last(),
            What::Loss(offset) => offset,
        }
    }
}

impl History {
    /// A page of messages. Deleted ones are no longer there.
    pub fn page(&self, from: PageStart, bounds: Bounds, reader: &Viewer) -> Page {
        match from {
            PageStart::After(offset) => {
                let start = self.entries.partition_point(|entry| entry.offset <= offset);
                self.fill(self.entries.range(start..), bounds, reader)
            }
            PageStart::Before(offset) => {
                let end = self.entries.partition_point(|entry| entry.offset < offset);
                self.fill(self.entries.range(..end).rev(), bounds, reader)
            }
        }
    }

    fn fill<'a>(&'a self, entries: impl Iterator<Item = &'a Entry>, bounds: Bounds, reader: &Viewer) -> Page {
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, None);
        let is_there = |entry: &&Entry| !entry.is_deletion() && !self.is_too_old(entry);
        for entry in entries.filter(|entry| is_there(entry) && reader.may_see(entry)) {
            bytes += entry.shown_bytes();
            let full = found.len() == bounds.messages || bytes > bounds.bytes;
            next = found.last().filter(|_| full).map(Found::offset);
            if next.is_some() {
                break;
            }
            found.push(Found { entry, what: What::Message });
        }
        Page { messages: self.show(&found), next }
    }

    /// What happened after the offset `since`, in order. `None` if some of that was forgotten, or if it is
    /// more than `bounds` allow.
    pub fn catch_up(&self, since: u64, bounds: Bounds, reader: &Viewer) -> Option<Vec<HistoryItem>> {
        if since < self.horizon {
            return None;
        }
        let start = self.entries.partition_point(|entry| entry.offset <= since);
        let changes = self.last_change > since;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (at, entry) in self.entries.range(if changes { 0 } else { start }..).enumerate() {
            if self.is_too_old(entry) && entry.last() > since {
                return None;
            }
            let known = changes && at < start;
            let what = match (known, reader.may_see(entry)) {
                (true, true) if entry.last() > since => What::Change,
                (false, true) if !entry.is_deletion() => What::Message,
                (true, false) => match reader.lost_at(entry).filter(|offset| *offset > since) {
                    Some(offset) => What::Loss(offset),
                    None => continue,
                },
                _ => continue,
            };
            bytes += entry.shown_bytes();
            if found.len() == bounds.messages || bytes > bounds.bytes {
                return None;
            }
            found.push(Found { entry, what });
        }
        if changes {
            found.sort_by_key(Found::offset);
        }
        Some(self.show(&found))
    }

    /// Copies the texts into one piece of memory.
    fn show(&self, found: &[Found<'_>]) -> Vec<HistoryItem> {
        let len = |found: &Found<'_>| match &found.entry.content {
            Content::Text { place, .. } => place.len(),
            Content::Shared(_) => 0,
        };
        let mut copies = BytesMut::with_capacity(found.iter().map(len).sum());
        let mut show = |&Found { entry, what }: &Found<'_>| match &entry.content {
            Content::Text { place, layout } => {
                copies.extend_from_slice(self.texts.get(*place));
                let text = copies.split().freeze();
                Shown::Text { id: entry.id, offset: entry.offset, layout: *layout, text }
            }
            Content::Shared(publication) => {
                let publication = publication.clone();
                match what {
                    What::Message => Shown::Message(publication),
                    What::Change => Shown::Change(publication),
                    What::Loss(offset) => Shown::Loss(offset, publication),
                }
            }
        };
        found.iter().map(|found| HistoryItem(show(found))).collect()
    }
}

impl Entry {
    /// About what it takes to show it: it counts as a publication of its own.
    fn shown_bytes(&self) -> usize {
        const NUMBERS: usize = 32;
        let publication = match &self.content {
            Content::Text { place, .. } => OwnedPublication::bytes_with(place.len()),
            Content::Shared(publication) => publication.bytes(),
        };
        NUMBERS + publication
    }
}
