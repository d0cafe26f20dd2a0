//! Publications of one channel in one turn, encoded once for each format that has members.

use std::{ops::Range, sync::Arc};

use bytes::BytesMut;

use super::{
    heap_bytes,
    segments::{LaneId, REPLIES},
};
use crate::{
    channel::Channel,
    dialect::{self, Format, FormatSet, Memo},
    id::{LocalId, SessionSlot},
    limits::POOLED_BUFFER_BYTES,
    publication::Publication,
};

/// Publications of one channel in this turn.
#[derive(Default)]
pub(super) struct Run {
    /// Whose publications these are; `None`: direct messages.
    pub(super) channel: Option<Arc<Channel>>,
    /// The worker's part of the channel, or NO_LOCAL if that is gone.
    pub(super) local: LocalId,
    /// Places in the member array when the run began; later places are in `late`.
    pub(super) base: usize,
    /// For each place from `base` on: how many publications the run held when it was taken.
    pub(super) late: Vec<u32>,
    /// For each publication, how many the turn had before. Rising.
    places: Vec<u32>,
    /// What single sessions see otherwise than the rest. `named[..sorted]` are in order of session and
    /// publication.
    named: Vec<Named>,
    sorted: usize,
    /// Publications that nobody sees who is not named. Rising.
    hidden: Vec<Ordinals>,
    /// The formats of its members when they were linked.
    pub(super) seen: FormatSet,
    /// `lanes[..used]` are of this run; the rest wait with their buffers for another.
    lanes: Vec<Lane>,
    used: usize,
    /// `shared[..shared_used]`: lanes without what is hidden, which all sessions share that are not named.
    shared: Vec<Lane>,
    shared_used: usize,
    /// Bytes of the buffers that it keeps between turns.
    pub(super) kept: usize,
}

/// A run in one format.
struct Lane {
    format: Format,
    /// Its buffer's number in this turn.
    buffer: u32,
    bytes: BytesMut,
    memo: Memo,
    /// For each publication of the run, where its frame ends in `bytes`.
    ends: Vec<u32>,
    /// Publications without a frame, because the dialect has no word for them or because they are hidden.
    /// Rising.
    silent: Vec<u32>,
}

/// What a member sees of a run from some publication on.
#[derive(Copy, Clone)]
pub(super) struct View {
    pub(super) format: Format,
    pub(super) from: u32,
    /// Its buffer, which is never that of replies unless it shows nothing.
    pub(super) buffer: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    /// How many publications have a frame in it.
    pub(super) publications: u32,
}

/// Publications of a run, from one to another that is one of them.
#[derive(Copy, Clone)]
pub(super) struct Ordinals {
    pub(super) first: u32,
    pub(super) last: u32,
}

/// A session that sees some publications of a run otherwise than the rest.
#[derive(Copy, Clone)]
pub(super) struct Named {
    pub(super) slot: SessionSlot,
    pub(super) publications: Ordinals,
    pub(super) sees: Sees,
}

/// What a session that is named sees of these publications.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Sees {
    Nothing,
    /// Them, although they are hidden from others.
    Them,
}

/// Which lane of a format.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum LaneKind {
    /// All publications.
    Whole,
    /// Those that are not hidden.
    Shared,
}

impl View {
    /// Nothing of what was published from `from` on.
    pub(super) fn nothing(format: Format, from: u32) -> Self {
        Self { format, from, buffer: REPLIES, start: 0, end: 0, publications: 0 }
    }
}

impl Run {
    pub(super) fn begin(&mut self, channel: Option<Arc<Channel>>, local: LocalId, places: usize) {
        self.channel = channel;
        self.local = local;
        self.base = places;
        self.late.clear();
        self.places.clear();
        self.named.clear();
        self.sorted = 0;
        self.hidden.clear();
        self.shared_used = 0;
        self.seen = FormatSet::default();
        self.used = 0;
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.places.len()).expect("a turn's bytes are bounded far below")
    }

    /// Encodes publications for the members of a format. Returns how many bytes that takes.
    #[inline]
    pub(super) fn encode(
        &mut self,
        number: u32,
        format: Format,
        opened: &mut Vec<LaneId>,
        publications: &[Publication<'_>],
    ) -> usize {
        let at = match self.lane(format) {
            Some(at) => at,
            None => self.open_lane(number, format, opened),
        };
        let channel = self.channel.as_deref().and_then(Channel::name);
        let Lane { bytes, memo, ends, silent, .. } = &mut self.lanes[at];
        let before = bytes.len();
        ends.reserve(publications.len());
        for publication in publications {
            let start = bytes.len();
            dialect::encode_publication(format, bytes, memo, channel, publication);
            if bytes.len() == start {
                silent.push(u32::try_from(ends.len()).expect("a turn's bytes are bounded"));
            }
            ends.push(u32::try_from(bytes.len()).expect("a turn's bytes are bounded"));
        }
        bytes.len() - before
    }

    /// Notes that publications were encoded that have these places among those of the turn.
    #[inline]
    pub(super) fn note(&mut self, places: Range<u32>) {
        self.places.extend(places);
    }

    #[inline]
    fn lane(&self, format: Format) -> Option<usize> {
        self.lanes[..self.used].iter().position(|lane| lane.format == format)
    }

    /// Opens a lane, in which the publications until now have no frames: nobody is there to see them.
    fn open_lane(&mut self, number: u32, format: Format, opened: &mut Vec<LaneId>) -> usize {
        let (at, len) = (self.used, self.places.len());
        let id =
            LaneId { run: number, lane: u32::try_from(at).expect("formats are few"), kind: LaneKind::Whole };
        let lane = open(&mut self.lanes, id, format, opened);
        lane.ends.resize(len, 0);
        self.used += 1;
        at
    }

    /// The lane of a format without what is hidden, brought up to date.
    fn update_shared(&mut self, number: u32, format: Format, opened: &mut Vec<LaneId>) -> Option<usize> {
        let whole = self.lane(format)?;
        let known = self.shared[..self.shared_used].iter().position(|lane| lane.format == format);
        let at = known.unwrap_or_else(|| {
            let lane = u32::try_from(self.shared_used).expect("formats are few");
            let id = LaneId { run: number, lane, kind: LaneKind::Shared };
            open(&mut self.shared, id, format, opened);
            self.shared_used += 1;
            self.shared_used - 1
        });
        self.shared[at].append_visible(&self.lanes[whole], &self.hidden);
        Some(at)
    }

    /// Whether some publication is hidden from sessions that are not named.
    pub(super) fn hides(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// What a session that is not named sees, in its format, of the publications from `from` on. Brings its
    /// lane up to date first.
    pub(super) fn shared_view(
        &mut self,
        number: u32,
        format: Format,
        from: u32,
        opened: &mut Vec<LaneId>,
    ) -> View {
        if !self.hides() {
            return self.view(format, from);
        }
        let (Some(at), len) = (self.update_shared(number, format, opened), self.len()) else {
            return View::nothing(format, from);
        };
        self.shared[at].view(from, len)
    }

    /// As [`Run::part`], of a lane that [`Run::shared_view`] has brought up to date.
    pub(super) fn shared_part(&self, format: Format, from: u32, to: u32) -> View {
        if !self.hides() {
            return self.part(format, from, to);
        }
        let lane = self.shared[..self.shared_used].iter().find(|lane| lane.format == format);
        lane.map_or_else(|| View::nothing(format, from), |lane| lane.view(from, to))
    }

    /// The last `count` publications are not for this session.
    pub(super) fn exclude(&mut self, count: usize, slot: SessionSlot) {
        let publications = self.last(count);
        match self.named.last_mut() {
            // Of a sender of several in a row.
            Some(Named { slot: same, publications: before, sees: Sees::Nothing })
                if *same == slot && before.last + 1 == publications.first =>
            {
                before.last = publications.last;
            }
            _ => self.named.push(Named { slot, publications, sees: Sees::Nothing }),
        }
    }

    /// The last `count` publications are for these sessions alone.
    pub(super) fn hide(&mut self, count: usize, but_for: impl Iterator<Item = SessionSlot>) {
        let publications = self.last(count);
        self.hidden.push(publications);
        self.named.extend(but_for.map(|slot| Named { slot, publications, sees: Sees::Them }));
    }

    /// Where the entries of a session are among [`Run::named`], in order of publications.
    pub(super) fn named_of(&mut self, slot: SessionSlot) -> Range<usize> {
        if self.sorted < self.named.len() {
            self.named.sort_by_key(|named| (named.slot, named.publications.first));
            self.sorted = self.named.len();
        }
        let start = self.named.partition_point(|named| named.slot < slot);
        let len = self.named[start..].partition_point(|named| named.slot == slot);
        start..start + len
    }

    /// Sessions that see something otherwise than the rest.
    pub(super) fn named(&self) -> &[Named] {
        &self.named
    }

    /// The ordinals of the last `count` publications, which is not 0.
    fn last(&self, count: usize) -> Ordinals {
        let len = self.len();
        Ordinals { first: len - u32::try_from(count).expect("it is at most `len`"), last: len - 1 }
    }

    /// What a member sees, in its format, of the publications from `from` on.
    #[inline]
    pub(super) fn view(&self, format: Format, from: u32) -> View {
        self.part(format, from, self.len())
    }

    /// The frames in a format, if they were encoded in it. Not for a frozen turn.
    pub(super) fn frames_in(&self, format: Format) -> impl Iterator<Item = &[u8]> {
        let lane = self.lane(format).map(|at| &self.lanes[at]);
        lane.into_iter().flat_map(|lane| {
            let starts = std::iter::once(0).chain(lane.ends.iter().copied());
            let frames =
                starts.zip(&lane.ends).map(|(start, end)| &lane.bytes[start as usize..*end as usize]);
            frames.filter(|frame| !frame.is_empty())
        })
    }

    /// What a member sees, in its format, of publications `from..to`.
    pub(super) fn part(&self, format: Format, from: u32, to: u32) -> View {
        // A format without lane has no members who were there.
        let Some(at) = self.lane(format) else { return View::nothing(format, from) };
        self.lanes[at].view(from, to)
    }

    /// The frames at `start..end` of a lane: the place among the publications of the turn, and the range, of
    /// each.
    pub(super) fn frames(
        &self,
        lane: LaneId,
        start: u32,
        end: u32,
    ) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        let ends = &self.lane_of(lane).ends;
        let mut start = start;
        (frame_at(ends, start)..frame_at(ends, end - 1) + 1).filter_map(move |ordinal| {
            let frame = (self.places[ordinal], start, ends[ordinal]);
            start = ends[ordinal];
            // What has no frame ends where it starts.
            (frame.1 < frame.2).then_some(frame)
        })
    }

    /// The places among the publications of the turn of the first and the last frame at `start..end` of a
    /// lane.
    pub(super) fn span(&self, lane: LaneId, start: u32, end: u32) -> (u32, u32) {
        let ends = &self.lane_of(lane).ends;
        (self.places[frame_at(ends, start)], self.places[frame_at(ends, end - 1)])
    }

    fn lane_of(&self, id: LaneId) -> &Lane {
        match id.kind {
            LaneKind::Whole => &self.lanes[id.lane as usize],
            LaneKind::Shared => &self.shared[id.lane as usize],
        }
    }

    /// The buffer of a lane.
    pub(super) fn bytes(&mut self, id: LaneId) -> &mut BytesMut {
        match id.kind {
            LaneKind::Whole => &mut self.lanes[id.lane as usize].bytes,
            LaneKind::Shared => &mut self.shared[id.lane as usize].bytes,
        }
    }

    /// Ends with the turn: buffers that nobody holds any more are used again in the next, unless all that is
    /// kept for this run is more than `room`. Returns how many bytes are kept.
    pub(super) fn end(&mut self, room: usize) -> usize {
        self.channel = None;
        self.lanes[..self.used].iter_mut().for_each(Lane::end);
        self.shared[..self.shared_used].iter_mut().for_each(Lane::end);
        let kept = self.heap_bytes();
        if kept <= room {
            return kept;
        }
        let (local, seen) = (self.local, self.seen);
        *self = Self { local, seen, ..Self::default() };
        0
    }

    fn heap_bytes(&self) -> usize {
        let lanes = self.lanes.iter().chain(&self.shared).map(Lane::heap_bytes).sum::<usize>();
        lanes
            + heap_bytes(&self.late)
            + heap_bytes(&self.places)
            + heap_bytes(&self.named)
            + heap_bytes(&self.hidden)
    }
}

/// Opens the lane `id` among `lanes`, where one may wait with its buffers.
fn open<'l>(lanes: &'l mut Vec<Lane>, id: LaneId, format: Format, opened: &mut Vec<LaneId>) -> &'l mut Lane {
    let at = id.lane as usize;
    if at == lanes.len() {
        let (bytes, memo) = (BytesMut::new(), Memo::new(format));
        lanes.push(Lane { format, buffer: 0, bytes, memo, ends: Vec::new(), silent: Vec::new() });
    }
    opened.push(id);
    let lane = &mut lanes[at];
    lane.format = format;
    lane.buffer = u32::try_from(opened.len()).expect("a turn's bytes are bounded far below");
    lane.memo.restart(format);
    lane.ends.clear();
    lane.silent.clear();
    lane
}

/// The publication whose frame the byte at `at` belongs to.
fn frame_at(ends: &[u32], at: u32) -> usize {
    ends.partition_point(|&end| end <= at)
}

impl Lane {
    /// What is seen of publications `from..to`.
    #[inline]
    fn view(&self, from: u32, to: u32) -> View {
        let end = |count: u32| match count {
            0 => 0,
            n => self.ends[n as usize - 1],
        };
        let publications = if self.silent.is_empty() { to - from } else { self.frames(from, to) };
        let (start, end) = (end(from), end(to));
        View { format: self.format, from, buffer: self.buffer, start, end, publications }
    }

    /// How many of the publications `from..to` have a frame.
    fn frames(&self, from: u32, to: u32) -> u32 {
        let before = |ordinal: u32| self.silent.partition_point(|&silent| silent < ordinal);
        let silent = u32::try_from(before(to) - before(from)).expect("it is at most `to`");
        to - from - silent
    }

    /// Appends what `whole` has and this does not have yet, but for what is hidden.
    fn append_visible(&mut self, whole: &Lane, hidden: &[Ordinals]) {
        let first = u32::try_from(self.ends.len()).expect("a turn's bytes are bounded far below");
        let mut hidden = hidden[hidden.partition_point(|hidden| hidden.last < first)..].iter().peekable();
        for (ordinal, &end) in (first..).zip(&whole.ends[first as usize..]) {
            let start = ordinal.checked_sub(1).map_or(0, |before| whole.ends[before as usize]);
            while hidden.next_if(|hidden| hidden.last < ordinal).is_some() {}
            let is_hidden = hidden.peek().is_some_and(|hidden| hidden.first <= ordinal);
            if is_hidden || start == end {
                self.silent.push(ordinal);
            } else {
                self.bytes.extend_from_slice(&whole.bytes[start as usize..end as usize]);
            }
            self.ends.push(u32::try_from(self.bytes.len()).expect("a turn's bytes are bounded"));
        }
    }

    /// Ends with the turn.
    fn end(&mut self) {
        let len = self.ends.last().map_or(0, |&end| end as usize);
        if len > POOLED_BUFFER_BYTES {
            self.bytes = BytesMut::new();
        } else {
            // From the start again, where it is in cache; unless what was written still waits somewhere.
            let _is_from_start = self.bytes.try_reclaim(self.bytes.capacity() + len);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + heap_bytes(&self.ends) + heap_bytes(&self.silent)
    }
}
