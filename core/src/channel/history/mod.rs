//! What a channel remembers: a bounded ring of messages, as they are now.
//!
//! ```text
//!   forgotten │ entries, oldest first                     │ position
//!   ──────────┼───────────────────────────────────────────┼──────────
//!    ≤ horizon│ 4   5   6 (edited by 11)   8   9 (gone: 10)│ 11
//! ```
//!
//! Every message that is remembered takes the next offset of its channel, and so does every edit or deletion.
//! A change is no entry of its own: the entry of its message holds it, and stands for the message as that is
//! now. So edits use up no room, and what a message said before, or said at all when it was deleted, is not
//! kept.
//!
//! Whoever knows everything up to an offset catches up with the messages after it, and with those changes
//! after it that concern messages before it; what was replaced since is left out, so numbers may be missing
//! there. This is complete exactly if nothing was forgotten that happened after that offset: `horizon` is the
//! latest of what was.
//!
//! Who left an empty channel may come back to it as well, so a memory is over only some time after it was
//! last of use, and costs something even if it is empty.
//!
//! Most messages are for everyone, say nothing of their sender and are short. Of these an entry has what is
//! of the same size in all, and [`Texts`] the rest: remembering one writes at two places that follow the last
//! ones, and allocates nothing. Any other, and any change, is a publication of its own, shared with the mail
//! to other workers.
//!
//! Messages for some users only are remembered for these. `horizon` is below the offset of every entry;
//! entries are sorted by the offset of their message. Used inside the channel's order only; reads no clock.

mod page;
mod texts;

pub use self::page::{Bounds, HistoryItem, Page, PageStart, Viewer};

use std::{collections::VecDeque, ops::Range, sync::Arc};

use self::texts::{Place, TEXT_BYTES, Texts};
use crate::{
    app::HistoryLimits,
    id::MessageId,
    publication::{self, Audience, Lost, OwnedPublication, Payload, Publication},
};

/// What a channel without members or messages costs, about.
pub const EMPTY_BYTES: usize = 512;

/// The memory of one channel.
#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    entries: VecDeque<Entry>,
    texts: Texts,
    /// What the shared publications among the entries cost.
    shared_bytes: usize,
    horizon: u64,
    /// The latest time of an id, in Unix milliseconds.
    latest_ms: u64,
    /// By how much the time of an id was at most before that of an earlier entry.
    disorder_ms: u64,
    /// The number of entries whose id or time a back end gave.
    given: usize,
    /// The time up to which messages were too old when the history was last read.
    oldest_ms: u64,
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
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A message whose text is among the others.
    Text { place: Place, layout: Layout },
    /// A message, or the last change of it.
    Shared(Arc<OwnedPublication>),
}

/// How a text is to be read: first comes the event, then the payload.
#[derive(Copy, Clone, Debug)]
struct Layout {
    event_len: u16,
    binary: bool,
}

const _: () = assert!(size_of::<Entry>() == 40);

/// What [`History::make_room`] found.
struct Room {
    fits: bool,
    forgotten: usize,
}

/// What came of [`History::push`].
#[derive(Default, Debug)]
pub struct Pushed {
    /// The message, if it is remembered as a publication of its own.
    pub shared: Option<Arc<OwnedPublication>>,
    /// How many messages went because the app remembers too much.
    pub forgotten: usize,
}

impl History {
    /// An empty memory of a channel that has given out offsets up to `offset`.
    pub fn new(limits: HistoryLimits, offset: u64) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            texts: Texts::default(),
            shared_bytes: 0,
            horizon: offset,
            latest_ms: 0,
            disorder_ms: 0,
            given: 0,
            oldest_ms: 0,
            last_change: 0,
            used_ms: 0,
        }
    }

    /// What all of it costs, with the room that waits for more.
    #[inline]
    pub fn bytes(&self) -> usize {
        EMPTY_BYTES + self.entries.capacity() * size_of::<Entry>() + self.texts.bytes() + self.shared_bytes
    }

    /// Whether nobody can recover anything from it any more.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.entries.is_empty() && self.used_ms.saturating_add(u64::from(self.limits.age_ms)) < now_ms
    }

    /// Notes that somebody may come back to it.
    pub fn touch(&mut self, now_ms: u64) {
        self.used_ms = self.used_ms.max(now_ms);
    }

    /// Whether an entry behind younger entries is too old. A back end may give a new message an old time.
    fn is_too_old(&self, entry: &Entry) -> bool {
        self.given > 0 && entry.time_ms() < self.oldest_ms
    }

    /// The number of entries that the search for a message visits: all entries if a back end gave any message
    /// its id, none if every id shows its entry's place.
    pub fn searched(&self) -> usize {
        if self.given > 0 { self.entries.len() } else { 0 }
    }

    /// How many messages it holds, deleted ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bounds.
    pub fn limits(&self) -> HistoryLimits {
        self.limits
    }

    /// Changes the bounds; what fits stays.
    pub fn set_limits(&mut self, limits: HistoryLimits, now_ms: u64) {
        self.limits = limits;
        self.expire(now_ms);
        while self.entries.len() > limits.messages as usize {
            self.forget_oldest();
        }
        self.shrink_to(self.allowed());
        self.give_back();
    }

    /// Remembers a message. Its offset is above all so far. If that takes more room, `may_cost` is told how
    /// much all would cost then, and says how much it may: the oldest messages go until it does.
    pub fn push(
        &mut self,
        message: &Publication<'_>,
        now_ms: u64,
        may_cost: impl FnOnce(usize) -> usize,
    ) -> Pushed {
        self.touch(now_ms);
        self.expire(now_ms);
        while self.entries.len() >= self.limits.messages as usize && self.forget_oldest() {}
        let shared = (!is_plain(message)).then(|| Arc::new(without_exception(message)));
        let growth = |history: &Self| history.growth(message, shared.as_deref());
        let room = match growth(self) {
            0 => Room { fits: true, forgotten: 0 },
            more => self.make_room(growth, may_cost(self.bytes() + more)),
        };
        let offset = message.offset.unwrap_or_default();
        match &shared {
            _ if !room.fits => self.horizon = offset,
            Some(shared) => {
                let content = self.share(shared.clone());
                self.add(Entry { id: message.id, offset, content });
            }
            None => {
                let (place, layout) = self.write(message);
                self.add(Entry { id: message.id, offset, content: Content::Text { place, layout } });
            }
        }
        Pushed { shared, forgotten: room.forgotten }
    }

    /// The message with this id, as it is now, unless it was deleted.
    pub fn find(&self, id: MessageId) -> Option<Publication<'_>> {
        let entry = &self.entries[self.position(id)?];
        (!entry.is_deletion() && !self.is_too_old(entry)).then(|| self.view(entry))
    }

    /// Who has lost the message with this id by changes.
    pub fn lost(&self, id: MessageId) -> &[Lost] {
        self.position(id).map_or(&[], |at| self.entries[at].lost())
    }

    /// Where the entry with this id stands.
    fn position(&self, id: MessageId) -> Option<usize> {
        let range = if self.given == 0 { self.candidates(id.time_ms()) } else { 0..self.entries.len() };
        let start = range.start;
        self.entries.range(range).position(|entry| entry.id == id).map(|at| start + at)
    }

    /// The entries whose ids may be of this time. Ids come from several workers, so their times rise, but for
    /// `disorder_ms`: every entry before an earlier one is left out, and every entry after a later one.
    fn candidates(&self, time_ms: u64) -> Range<usize> {
        let earliest_ms = time_ms.saturating_sub(self.disorder_ms);
        let latest_ms = time_ms.saturating_add(self.disorder_ms);
        let start = self.entries.partition_point(|entry| entry.id.time_ms() < earliest_ms);
        let end = self.entries.partition_point(|entry| entry.id.time_ms() <= latest_ms);
        start..end.max(start)
    }

    /// Puts a change in the place of the message it changes, which is there.
    pub fn change(&mut self, change: Arc<OwnedPublication>) {
        let Some(at) = self.position(change.id()) else { return };
        self.last_change = change.offset();
        let is_given = change.given().is_some();
        self.given += usize::from(is_given && !self.entries[at].is_given());
        let now = self.share(change);
        let before = std::mem::replace(&mut self.entries[at].content, now);
        self.release(&before);
        self.shrink_to(self.allowed());
    }

    /// Forgets what is too old.
    #[inline]
    pub fn expire(&mut self, now_ms: u64) {
        self.oldest_ms = now_ms.saturating_sub(u64::from(self.limits.age_ms));
        if self.entries.front().is_some_and(|entry| entry.time_ms() < self.oldest_ms) {
            self.forget_too_old();
        }
    }

    fn forget_too_old(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.time_ms() < self.oldest_ms) {
            self.forget_oldest();
        }
        if self.entries.is_empty() {
            self.give_back();
        }
    }

    /// Forgets the oldest until what is left costs at most `bytes`; if that is not even enough for an empty
    /// memory, it is over as far as it goes by itself. Returns how many messages those were.
    pub fn trim(&mut self, bytes: usize) -> usize {
        let before = self.entries.len();
        self.shrink_to(bytes);
        if self.entries.is_empty() && bytes < EMPTY_BYTES {
            self.used_ms = 0;
        }
        before - self.entries.len()
    }

    fn allowed(&self) -> usize {
        EMPTY_BYTES + self.limits.bytes as usize
    }

    /// How much more the memory costs with one message more.
    fn growth(&self, message: &Publication<'_>, shared: Option<&OwnedPublication>) -> usize {
        let content = match shared {
            Some(shared) => shared.bytes(),
            None => self.texts.growth(text_len(message)),
        };
        growth_of(&self.entries, self.limits.messages as usize) * size_of::<Entry>() + content
    }

    /// Forgets the oldest until the memory may grow as it must, if the app lets it cost so much.
    fn make_room(&mut self, growth: impl Fn(&Self) -> usize, may_cost: usize) -> Room {
        let (allowed, messages) = (self.allowed().min(may_cost), self.entries.len());
        while self.bytes() + growth(self) > allowed && self.forget_oldest() {}
        if self.entries.is_empty() {
            self.give_back();
        }
        let fits = self.bytes() + growth(self) <= allowed;
        let gone = messages - self.entries.len() + usize::from(!fits);
        Room { fits, forgotten: if may_cost < self.allowed() { gone } else { 0 } }
    }

    /// Forgets the oldest until what is left costs at most `bytes`, and gives back what is kept for more.
    fn shrink_to(&mut self, bytes: usize) {
        if self.bytes() > bytes {
            while self.bytes() - self.slack() > bytes && self.forget_oldest() {}
            self.give_back();
        }
    }

    /// How many bytes [`History::give_back`] gives back, at least.
    fn slack(&self) -> usize {
        let unused = self.entries.capacity() - self.entries.len();
        unused * size_of::<Entry>() + self.texts.slack()
    }

    /// Gives back what is kept for more.
    fn give_back(&mut self) {
        self.entries.shrink_to_fit();
        self.texts.shrink();
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else { return false };
        self.horizon = self.horizon.max(entry.last());
        self.given -= usize::from(entry.is_given());
        self.release(&entry.content);
        shrink_if_sparse(&mut self.entries);
        true
    }

    /// Adds the newest entry.
    #[inline(always)]
    fn add(&mut self, entry: Entry) {
        if entry.is_given() {
            self.given += 1;
        } else {
            self.note_time(entry.id.time_ms());
        }
        push_back(&mut self.entries, self.limits.messages as usize, entry);
    }

    /// Notes the time of an id that this server made.
    #[inline(always)]
    fn note_time(&mut self, time_ms: u64) {
        self.disorder_ms = self.disorder_ms.max(self.latest_ms.saturating_sub(time_ms));
        self.latest_ms = self.latest_ms.max(time_ms);
    }

    /// Writes the text of a plain message.
    #[inline]
    fn write(&mut self, message: &Publication<'_>) -> (Place, Layout) {
        let (event, payload) = (message.event().as_bytes(), message.payload());
        let place = self.texts.push(event, payload.bytes());
        let event_len = u16::try_from(event.len()).expect("names are at most 256 bytes");
        (place, Layout { event_len, binary: payload.is_binary() })
    }

    /// Makes the content of an entry from any other message, or from a change.
    fn share(&mut self, publication: Arc<OwnedPublication>) -> Content {
        self.shared_bytes += publication.bytes();
        Content::Shared(publication)
    }

    #[inline]
    fn release(&mut self, content: &Content) {
        match content {
            Content::Text { place, .. } => self.texts.release(*place),
            Content::Shared(publication) => self.shared_bytes -= publication.bytes(),
        }
    }

    /// The message of an entry, as it is now.
    fn view<'a>(&'a self, entry: &'a Entry) -> Publication<'a> {
        match &entry.content {
            Content::Text { place, layout } => layout.view(entry.id, entry.offset, self.texts.get(*place)),
            Content::Shared(publication) => publication.message(),
        }
    }
}

impl Entry {
    /// The offset of the last that happened to it.
    fn last(&self) -> u64 {
        match &self.content {
            Content::Text { .. } => self.offset,
            Content::Shared(publication) => publication.offset().max(self.offset),
        }
    }

    /// The time at which the message was sent.
    fn time_ms(&self) -> u64 {
        match &self.content {
            Content::Text { .. } => self.id.time_ms(),
            Content::Shared(publication) => publication.time_ms(),
        }
    }

    /// Whether a back end gave an id or a time, in the message or in its change.
    fn is_given(&self) -> bool {
        matches!(&self.content, Content::Shared(publication) if publication.given().is_some())
    }

    fn lost(&self) -> &[Lost] {
        match &self.content {
            Content::Text { .. } => &[],
            Content::Shared(publication) => publication.lost(),
        }
    }

    fn is_deletion(&self) -> bool {
        matches!(&self.content, Content::Shared(publication) if publication.is_deletion())
    }
}

impl Layout {
    /// The message whose text this is.
    fn view(self, id: MessageId, offset: u64, text: &[u8]) -> Publication<'_> {
        let (event, payload) = text.split_at(self.event_len.into());
        let event = publication::text(event);
        let payload = Payload::restored(payload, self.binary);
        Publication { offset: Some(offset), kept: true, ..Publication::message(id, event, payload) }
    }
}

/// Whether a message is for everyone, nothing is known of its sender, and it is short.
fn is_plain(message: &Publication<'_>) -> bool {
    let is_bare = message.sender.is_none() && message.given.is_none();
    is_bare && !message.audience.is_filtered() && text_len(message) <= TEXT_BYTES
}

fn text_len(message: &Publication<'_>) -> usize {
    message.event().len() + message.payload().len()
}

/// A session that comes back is another one, so it is of no use to remember who wanted no echo.
fn without_exception(message: &Publication<'_>) -> OwnedPublication {
    let audience = &Audience { except_session: None, ..message.audience.clone() };
    Publication { audience, ..*message }.into()
}

/// For how many more a queue that is to hold at most `most` makes room when one more comes.
#[inline]
fn growth_of<T>(queue: &VecDeque<T>, most: usize) -> usize {
    if queue.len() < queue.capacity() { 0 } else { (2 + queue.len() / 4).min(most - queue.len()) }
}

/// Adds to a queue, which grows as [`growth_of`] says. One that is full, and gives and takes in turn, has the
/// new item where the old one was.
#[inline(always)]
fn push_back<T>(queue: &mut VecDeque<T>, most: usize, item: T) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(growth_of(queue, most));
    }
    queue.push_back(item);
}

/// Gives most of the room of a queue back that has become much shorter.
fn shrink_if_sparse<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 16 && queue.len() < queue.capacity() / 2 {
        queue.shrink_to(queue.len() + queue.len() / 4);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
