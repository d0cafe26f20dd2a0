//! What a channel remembers: a bounded ring of messages, as they are now.
//!
//! ```text
//!   forgotten │ entries, oldest first                     │ position
//!   ──────────┼───────────────────────────────────────────┼──────────
//!    ≤ horizon│ 4   5   6 (edited by 11)   8   9 (gone: 10)│ 11
//! ```
//!
//! Every message that is remembered takes the next offset of its channel, and so does every edit or deletion. A change is no
//! entry of its own: the entry of its message holds it, and stands for the message as that is now. So edits use up no
//! room, and what a message said before, or said at all when it was deleted, is not kept.
//!
//! Whoever knows everything up to an offset catches up with the messages after it, and with those changes after
//! it that concern messages before it; what was replaced since is left out, so numbers may be missing there. This is
//! complete exactly if nothing was forgotten that happened after that offset: `horizon` is the latest of what was.
//!
//! Who left an empty channel may come back to it as well, so a memory is over only some time after it was last of use, and
//! costs something even if it is empty.
//!
//! Messages for some users only are remembered for these. `horizon` is below the offset of every entry; entries are
//! sorted by the offset of their message. Used inside the channel's order only; reads no clock.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    app::HistoryLimits,
    id::MessageId,
    publication::{OwnedPublication, Publication},
};

/// What a channel without members or messages costs, about.
pub const EMPTY_BYTES: usize = 512;

/// The memory of one channel.
#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    entries: VecDeque<Entry>,
    /// What the entries cost.
    bytes: usize,
    horizon: u64,
    /// The offset of the latest change.
    last_change: u64,
    /// When a message was last remembered, or the last member left.
    used_ms: u64,
}

#[derive(Debug)]
struct Entry {
    id: MessageId,
    /// Of the message.
    offset: u64,
    /// The message, or the last change of it.
    publication: Arc<OwnedPublication>,
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.publication.bytes()
    }

    /// The offset of the last that happened to it.
    fn last(&self) -> u64 {
        self.publication.offset().max(self.offset)
    }
}

/// Whose eyes read: a private message is shown only to those it is for.
#[derive(Clone, Debug)]
pub enum Reader {
    /// The app's back end, which may see everything.
    BackEnd,
    /// A session of this user, or of none.
    User(Option<Arc<str>>),
}

impl Reader {
    fn may_see(&self, publication: &OwnedPublication) -> bool {
        match self {
            Self::BackEnd => true,
            Self::User(user) => publication.audience().admits_user(user.as_deref()),
        }
    }
}

/// Something remembered, as it is shown.
#[derive(Clone, Debug)]
pub struct Remembered {
    publication: Arc<OwnedPublication>,
    /// Show the change, not the message as it is now.
    as_change: bool,
}

impl Remembered {
    /// What to show.
    pub fn view(&self) -> Publication<'_> {
        if self.as_change { self.publication.view() } else { self.publication.message() }
    }

    /// Its place in the channel's stream.
    pub fn offset(&self) -> u64 {
        if self.as_change { self.publication.offset() } else { self.publication.message_offset() }
    }
}

/// Where a page of history begins and which way it goes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum From {
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
    pub messages: Vec<Remembered>,
    /// The offset to go on from in the same direction; `None` at the end.
    pub next: Option<u64>,
}

impl History {
    /// An empty memory of a channel that has given out offsets up to `offset`.
    pub fn new(limits: HistoryLimits, offset: u64) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            bytes: EMPTY_BYTES,
            horizon: offset,
            last_change: 0,
            used_ms: 0,
        }
    }

    /// What all of it costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nobody can recover anything from it any more.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.entries.is_empty() && self.used_ms.saturating_add(u64::from(self.limits.age_ms)) < now_ms
    }

    /// Notes that somebody may come back to it.
    pub fn touch(&mut self, now_ms: u64) {
        self.used_ms = self.used_ms.max(now_ms);
    }

    /// Changes the bounds; what fits stays.
    pub fn set_limits(&mut self, limits: HistoryLimits, now_ms: u64) {
        self.limits = limits;
        self.expire(now_ms);
        self.shrink_to(limits.messages as usize, self.allowed());
        self.entries.shrink_to_fit();
    }

    /// Remembers a message. Its offset is above all so far.
    pub fn push(&mut self, publication: Arc<OwnedPublication>, now_ms: u64) {
        self.touch(now_ms);
        self.expire(now_ms);
        let entry = Entry { id: publication.id(), offset: publication.offset(), publication };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.shrink_to(self.limits.messages as usize, self.allowed());
    }

    /// The message with this id, or its last change.
    pub fn find(&self, id: MessageId) -> Option<&Arc<OwnedPublication>> {
        // The latest are asked for most often.
        self.entries.iter().rev().find(|entry| entry.id == id).map(|entry| &entry.publication)
    }

    /// Puts a change in the place of the message it changes, which is there.
    pub fn change(&mut self, change: Arc<OwnedPublication>) {
        let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.id == change.id()) else { return };
        self.bytes -= entry.bytes();
        self.last_change = change.offset();
        entry.publication = change;
        self.bytes += entry.bytes();
        self.shrink_to(usize::MAX, self.allowed());
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(u64::from(self.limits.age_ms));
        while self.entries.front().is_some_and(|entry| entry.id.time_ms() < oldest_ms) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest until what is left costs at most `bytes`; if that is not even enough for an empty memory,
    /// it is over as far as it goes by itself. Returns how many messages those were.
    pub fn trim(&mut self, bytes: usize) -> usize {
        let before = self.entries.len();
        self.shrink_to(usize::MAX, bytes);
        if self.entries.is_empty() {
            self.entries.shrink_to_fit();
            if bytes < EMPTY_BYTES {
                self.used_ms = 0;
            }
        }
        before - self.entries.len()
    }

    fn allowed(&self) -> usize {
        EMPTY_BYTES + self.limits.bytes as usize
    }

    fn shrink_to(&mut self, messages: usize, bytes: usize) {
        while self.entries.len() > messages || self.bytes > bytes && !self.entries.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.bytes -= entry.bytes();
        self.horizon = self.horizon.max(entry.last());
    }

    /// A page of messages. Deleted ones are no longer there.
    pub fn page(&self, from: From, bounds: Bounds, reader: &Reader) -> Page {
        match from {
            From::After(offset) => {
                let start = self.entries.partition_point(|entry| entry.offset <= offset);
                fill(self.entries.range(start..), bounds, reader)
            }
            From::Before(offset) => {
                let end = self.entries.partition_point(|entry| entry.offset < offset);
                fill(self.entries.range(..end).rev(), bounds, reader)
            }
        }
    }

    /// What happened after the offset `since`, in order. `None` if some of that was forgotten, or if it is more
    /// than `bounds` allow.
    pub fn catch_up(&self, since: u64, bounds: Bounds, reader: &Reader) -> Option<Vec<Remembered>> {
        if since < self.horizon {
            return None;
        }
        let start = self.entries.partition_point(|entry| entry.offset <= since);
        let changes = self.last_change > since;
        let mut bytes = 0;
        let mut missed = Vec::new();
        for (at, entry) in self.entries.iter().enumerate().skip(if changes { 0 } else { start }) {
            let as_change = at < start;
            let happened = if as_change { entry.last() > since } else { !entry.publication.is_deletion() };
            if !happened || !reader.may_see(&entry.publication) {
                continue;
            }
            bytes += entry.bytes();
            if missed.len() == bounds.messages || bytes > bounds.bytes {
                return None;
            }
            missed.push(Remembered { publication: entry.publication.clone(), as_change });
        }
        if changes {
            missed.sort_by_key(Remembered::offset);
        }
        Some(missed)
    }
}

fn fill<'a>(entries: impl Iterator<Item = &'a Entry>, bounds: Bounds, reader: &Reader) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for entry in entries {
        if entry.publication.is_deletion() || !reader.may_see(&entry.publication) {
            continue;
        }
        bytes += entry.bytes();
        let full = page.messages.len() == bounds.messages || bytes > bounds.bytes;
        if let Some(last) = page.messages.last().filter(|_| full) {
            page.next = Some(last.offset());
            return page;
        }
        page.messages.push(Remembered { publication: entry.publication.clone(), as_change: false });
    }
    page
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        id::IdGenerator,
        publication::{Audience, Kind, Payload},
    };

    const ALL: Bounds = Bounds { messages: usize::MAX, bytes: usize::MAX };
    const NOBODY: Reader = Reader::User(None);

    fn limits(messages: u32) -> HistoryLimits {
        HistoryLimits { messages, bytes: u32::MAX, age_ms: 1000 }
    }

    fn message(
        ids: &mut IdGenerator,
        now_ms: u64,
        offset: u64,
        audience: &Audience,
    ) -> Arc<OwnedPublication> {
        let id = ids.message_id(now_ms);
        let publication = Publication::new(id, Kind::Message, "e", Payload::Json("0"));
        Arc::new(Publication { offset: Some(offset), audience, kept: true, ..publication }.into())
    }

    fn offsets(messages: &[Remembered]) -> Vec<u64> {
        messages.iter().map(Remembered::offset).collect()
    }

    /// Five messages at 1000 ms, with offsets from 1.
    fn five() -> (History, Vec<MessageId>) {
        let (mut history, mut ids) = (History::new(limits(5), 0), IdGenerator::new(1));
        let five = (1..=5).map(|offset| message(&mut ids, 1000, offset, &Audience::default()));
        let ids = five
            .map(|message| {
                let id = message.id();
                history.push(message, 1000);
                id
            })
            .collect();
        (history, ids)
    }

    fn change(history: &mut History, id: MessageId, offset: u64, payload: Option<&str>) {
        let payload = payload.map(Payload::Json);
        let change = history.find(id).expect("it is remembered").changed(offset, payload, None, 2000);
        history.change(Arc::new(change));
    }

    #[test]
    fn pages_go_both_ways_and_know_where_they_go_on() {
        let (history, _) = five();
        let two = Bounds { messages: 2, ..ALL };
        let page = history.page(From::After(0), two, &NOBODY);
        assert_eq!((offsets(&page.messages), page.next), (vec![1, 2], Some(2)));
        let page = history.page(From::After(2), two, &NOBODY);
        assert_eq!((offsets(&page.messages), page.next), (vec![3, 4], Some(4)));
        let page = history.page(From::After(4), two, &NOBODY);
        assert_eq!((offsets(&page.messages), page.next), (vec![5], None));
        let page = history.page(From::Before(u64::MAX), two, &NOBODY);
        assert_eq!((offsets(&page.messages), page.next), (vec![5, 4], Some(4)));
        let page = history.page(From::Before(2), two, &NOBODY);
        assert_eq!((offsets(&page.messages), page.next), (vec![1], None));
        let one = Bounds { bytes: 1, ..ALL };
        assert_eq!(
            offsets(&history.page(From::After(0), one, &NOBODY).messages),
            [1],
            "a page is never empty"
        );
    }

    #[test]
    fn what_is_too_old_or_too_much_is_forgotten_and_recovery_knows() {
        let (mut history, _) = five();
        let mut ids = IdGenerator::new(2);
        history.push(message(&mut ids, 1500, 6, &Audience::default()), 1500);
        assert!(history.catch_up(0, ALL, &NOBODY).is_none());
        assert_eq!(offsets(&history.catch_up(1, ALL, &NOBODY).expect("all is there")), [2, 3, 4, 5, 6]);
        history.expire(2001);
        assert_eq!(offsets(&history.page(From::After(0), ALL, &NOBODY).messages), [6]);
        assert!(history.catch_up(4, ALL, &NOBODY).is_none());
        assert_eq!(history.bytes(), EMPTY_BYTES + history.entries.iter().map(Entry::bytes).sum::<usize>());
        assert_eq!(history.trim(0), 1);
        assert_eq!(history.bytes(), EMPTY_BYTES);
        let missed = history.catch_up(6, ALL, &NOBODY).expect("nothing is missing");
        assert!(missed.is_empty());
    }

    #[test]
    fn a_memory_is_over_when_nobody_can_need_it() {
        let (mut history, _) = five();
        history.touch(1500);
        history.expire(2001);
        assert!(history.entries.is_empty() && !history.is_over(2001) && !history.is_over(2500));
        assert!(history.is_over(2501));
        history.touch(3000);
        assert!(!history.is_over(3000));
        history.trim(EMPTY_BYTES - 1);
        assert!(history.is_over(3000), "there is no room for it");
    }

    #[test]
    fn a_change_is_shown_in_pages_and_reaches_whoever_missed_it() {
        let (mut history, ids) = five();
        change(&mut history, ids[1], 6, Some("1"));
        change(&mut history, ids[1], 7, Some("2"));
        change(&mut history, ids[3], 8, None);
        let page = history.page(From::After(0), ALL, &NOBODY);
        assert_eq!(offsets(&page.messages), [1, 2, 3, 5]);
        let edited = page.messages[1].view();
        assert_eq!(
            (edited.kind, edited.payload, edited.edited_ms),
            (Kind::Message, Payload::Json("2"), Some(2000))
        );
        let missed = history.catch_up(3, ALL, &NOBODY).expect("all is there");
        let kinds: Vec<Kind> = missed.iter().map(|missed| missed.view().kind).collect();
        assert_eq!(offsets(&missed), [5, 7], "the deleted message was never seen");
        assert_eq!(kinds, [Kind::Message, Kind::Edit]);
        let missed = history.catch_up(7, ALL, &NOBODY).expect("all is there");
        assert_eq!((offsets(&missed), missed[0].view().kind), (vec![8], Kind::Delete));
        // Who was there until 6 has message 2 as it was then; if that is forgotten, so is its change.
        history.trim(history.bytes() - 1);
        history.trim(history.bytes() - 1);
        assert!(history.catch_up(6, ALL, &NOBODY).is_none());
        assert!(history.catch_up(7, ALL, &NOBODY).is_some());
    }

    #[test]
    fn a_private_message_is_shown_to_those_it_is_for() {
        let (mut history, _) = five();
        let luke: Arc<[Box<str>]> = [Box::from("luke")].into();
        let audience = Audience { only_users: Some(luke.clone()), ..Audience::default() };
        let mut ids = IdGenerator::new(2);
        history.push(message(&mut ids, 1000, 6, &audience), 1000);
        let audience = Audience { except_users: Some(luke), ..Audience::default() };
        history.push(message(&mut ids, 1000, 7, &audience), 1000);
        for (reader, seen) in [
            (Reader::BackEnd, vec![6, 7]),
            (Reader::User(Some("luke".into())), vec![6]),
            (Reader::User(Some("leia".into())), vec![7]),
            (NOBODY, vec![7]),
        ] {
            assert_eq!(offsets(&history.catch_up(5, ALL, &reader).expect("all is there")), seen);
            assert_eq!(offsets(&history.page(From::After(5), ALL, &reader).messages), seen);
        }
    }

    #[test]
    fn more_than_allowed_at_once_cannot_be_recovered() {
        let (history, _) = five();
        assert!(history.catch_up(1, Bounds { messages: 4, ..ALL }, &NOBODY).is_some());
        assert!(history.catch_up(0, Bounds { messages: 4, ..ALL }, &NOBODY).is_none());
        assert!(history.catch_up(0, Bounds { bytes: 100, ..ALL }, &NOBODY).is_none());
    }

    /// A client's view: payload by message id.
    type View = std::collections::BTreeMap<MessageId, String>;

    fn show(view: &mut View, publication: Publication<'_>) {
        let Payload::Json(json) = publication.payload else { panic!("all is JSON") };
        match publication.kind {
            Kind::Delete => view.remove(&publication.id),
            // An edit of a message that a client does not have is none of its business.
            Kind::Edit if !view.contains_key(&publication.id) => None,
            _ => view.insert(publication.id, json.to_owned()),
        };
    }

    proptest! {
        /// Whoever was away from any point on, and could catch up, sees what one sees who never left.
        #[test]
        fn catching_up_ends_with_the_same_view(
            steps in prop::collection::vec((0..6u8, any::<prop::sample::Index>()), 1..80),
            size in 1..20u32,
        ) {
            let (mut history, mut ids) = (History::new(limits(size), 0), IdGenerator::new(3));
            let mut offset = 0;
            let mut views = vec![View::new()];
            for (step, (what, which)) in steps.into_iter().enumerate() {
                let mut view = views.last().expect("there is one").clone();
                let remembered: Vec<MessageId> = history.entries.iter().map(|entry| entry.id).collect();
                let json = step.to_string();
                let id = (!remembered.is_empty() && what > 2).then(|| remembered[which.index(remembered.len())]);
                offset += 1;
                let publication = match id {
                    Some(id) => {
                        let old = history.find(id).expect("it is remembered");
                        if old.is_deletion() {
                            offset -= 1;
                            continue;
                        }
                        let payload = (what != 5).then_some(Payload::Json(&json));
                        let change = Arc::new(old.changed(offset, payload, None, 1));
                        history.change(change.clone());
                        change
                    }
                    None => {
                        let message = message(&mut ids, 1000, offset, &Audience::default());
                        history.push(message.clone(), 1000);
                        message
                    }
                };
                show(&mut view, publication.view());
                views.push(view);
            }
            prop_assert!(history.entries.len() <= size as usize);
            let now = views.last().expect("there is one").clone();
            for (since, mut view) in views.into_iter().enumerate() {
                let Some(missed) = history.catch_up(since as u64, ALL, &NOBODY) else { continue };
                prop_assert!(missed.iter().map(Remembered::offset).is_sorted());
                prop_assert!(missed.iter().all(|missed| missed.offset() > since as u64));
                missed.iter().for_each(|missed| show(&mut view, missed.view()));
                prop_assert_eq!(&view, &now, "since {}", since);
            }
            let page = history.page(From::After(0), ALL, &NOBODY);
            for message in &page.messages {
                let view = message.view();
                prop_assert_eq!(view.kind, Kind::Message);
                prop_assert_eq!(Payload::Json(now[&view.id].as_str()), view.payload);
            }
        }
    }
}
