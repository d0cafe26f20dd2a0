//! Publications of one channel in one turn, encoded once for each format that has members.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use bytes::BytesMut;

use super::segments::LaneId;
use crate::{
    channel::Channel,
    dialect::{self, Format, FormatSet, Memo},
    id::{LocalId, SessionSlot},
    limits::POOLED_BUFFER_BYTES,
    publication::{Audience, Publication},
};

/// Publications of one channel in this turn.
#[derive(Default)]
pub(super) struct Run {
    /// Whose publications these are.
    pub(super) channel: Option<Arc<Channel>>,
    /// The worker's part of the channel, or NO_LOCAL if that is gone.
    pub(super) local: LocalId,
    /// Places in the member array when the run began; later places are in `late`.
    pub(super) base: usize,
    /// For each place from `base` on: how many publications the run held when it was taken.
    pub(super) late: Vec<u32>,
    /// For each publication, how many the turn had before. Rising.
    places: Vec<u32>,
    /// Sorted; no two concern one publication.
    pub(super) exceptions: Vec<Exception>,
    /// Whether an exception is a filter, so that every member must be asked.
    pub(super) filtered: bool,
    /// The formats of its members when they were linked.
    pub(super) seen: FormatSet,
    /// `lanes[..used]` are of this run; the rest wait with their buffers for another.
    lanes: Vec<Lane>,
    used: usize,
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
    /// How many publications have no frame, because the dialect has no word for them.
    silent: u32,
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

/// Publications of a run that not everyone is to see.
pub(super) struct Exception {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) unless: Exclusion,
}

pub(super) enum Exclusion {
    /// All but this session.
    Slot(SessionSlot),
    /// Only those it admits.
    Filter(Box<Audience>),
}

impl View {
    /// Nothing.
    pub(super) const EMPTY: Self =
        Self { format: Format::Native, from: 0, buffer: 0, start: 0, end: 0, publications: 0 };
}

impl Run {
    pub(super) fn begin(&mut self, channel: Arc<Channel>, local: LocalId, places: usize) {
        self.channel = Some(channel);
        self.local = local;
        self.base = places;
        self.late.clear();
        self.places.clear();
        self.exceptions.clear();
        self.filtered = false;
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
            *silent += u32::from(bytes.len() == start);
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
        if at == self.lanes.len() {
            let (bytes, memo, ends) = (BytesMut::new(), Memo::new(format), Vec::new());
            self.lanes.push(Lane { format, buffer: 0, bytes, memo, ends, silent: 0 });
        }
        let lane = u32::try_from(at).expect("formats are few");
        opened.push(LaneId { run: number, lane });
        let lane = &mut self.lanes[at];
        lane.format = format;
        lane.buffer = u32::try_from(opened.len()).expect("a turn's bytes are bounded far below");
        lane.memo.restart(format);
        lane.ends.clear();
        lane.ends.resize(len, 0);
        lane.silent = 0;
        self.used += 1;
        at
    }

    /// The ordinals of the last `count` publications, which is not 0.
    pub(super) fn last(&self, count: usize) -> RangeInclusive<u32> {
        let len = self.len();
        len - u32::try_from(count).expect("it is at most `len`")..=len - 1
    }

    /// What a member sees, in its format, of the publications from `from` on.
    #[inline]
    pub(super) fn view(&self, format: Format, from: u32) -> View {
        self.part(format, from, self.len())
    }

    /// What a member sees, in its format, of publications `from..to`.
    pub(super) fn part(&self, format: Format, from: u32, to: u32) -> View {
        // A format without lane has no members who were there.
        let Some(at) = self.lane(format) else { return View::EMPTY };
        let lane = &self.lanes[at];
        let end = |count: u32| match count {
            0 => 0,
            n => lane.ends[n as usize - 1],
        };
        let (start, end) = (end(from), end(to));
        let publications = if lane.silent == 0 { to - from } else { lane.frames(from, to) };
        View { format, from, buffer: lane.buffer, start, end, publications }
    }

    /// The frames at `start..end` of a lane: the place among the publications of the turn, and the range, of each.
    pub(super) fn frames(
        &self,
        lane: u32,
        start: u32,
        end: u32,
    ) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        let ends = &self.lanes[lane as usize].ends;
        let after = |at| ends.partition_point(|&end| end <= at);
        let mut start = start;
        (after(start)..after(end - 1) + 1).filter_map(move |ordinal| {
            let frame = (self.places[ordinal], start, ends[ordinal]);
            start = ends[ordinal];
            // What has no frame ends where it starts.
            (frame.1 < frame.2).then_some(frame)
        })
    }

    /// The buffer of a lane.
    pub(super) fn bytes(&mut self, lane: u32) -> &mut BytesMut {
        &mut self.lanes[lane as usize].bytes
    }

    /// Ends with the turn: buffers that nobody holds any more are used again in the next.
    pub(super) fn end(&mut self) {
        for lane in &mut self.lanes[..self.used] {
            let len = lane.ends.last().map_or(0, |&end| end as usize);
            if len > POOLED_BUFFER_BYTES {
                lane.bytes = BytesMut::new();
            } else {
                // From the start again, where it is in cache; unless what was written still waits somewhere.
                let _is_from_start = lane.bytes.try_reclaim(lane.bytes.capacity() + len);
            }
        }
        self.channel = None;
    }
}

impl Lane {
    /// How many of the publications `from..to` have a frame.
    fn frames(&self, from: u32, to: u32) -> u32 {
        let start = |ordinal: usize| ordinal.checked_sub(1).map_or(0, |before| self.ends[before]);
        let has_frame = |&ordinal: &u32| start(ordinal as usize) < self.ends[ordinal as usize];
        u32::try_from((from..to).filter(has_frame).count()).expect("it is at most `to`")
    }
}

impl Exception {
    pub(super) fn new(ordinals: RangeInclusive<u32>, unless: Exclusion) -> Self {
        Self { first: *ordinals.start(), last: *ordinals.end(), unless }
    }
}
