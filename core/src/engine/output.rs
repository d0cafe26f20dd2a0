//! Fan-out: what a worker's sessions are going to receive at the end of this turn.
//!
//! Publications of one channel in one turn are framed one after another into one buffer per wire format, the
//! channel's *run*. Members do not copy: at the end of the turn each is linked to the part of the run that it is to see,
//! nearly always all of it, and the shell writes runs and replies to each touched connection in one go.
//!
//! ```text
//!   publication ──encode once per format──▶ run of its channel   [p0][p1][p2]
//!   reply       ──encode──────────────────▶ replies              [r0][r1]
//!   flush:  session ──▶ segment(replies, r0) ──▶ segment(run, p0..p2) ──▶ …      one write per session
//! ```
//!
//! A member's view of a run is a suffix or a prefix of it, less exceptions: who joined during the turn sees it from
//! there on (`late`), who left was linked up to there when leaving, and whom an audience leaves out skips that publication.
//!
//! A session that sees several runs of one turn receives their publications as they came, so that what somebody sends to one
//! channel and then to another does not arrive the other way round: its segments are cut and sorted when they are written.
//! Others pay nothing for that.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::session::{Session, Sessions};
use crate::{
    channel::{Channel, TOMBSTONE},
    dialect::{self, FORMATS, Format, Heading},
    id::{LocalId, SessionSlot},
    limits::{POOLED_BUFFER_BYTES, POOLED_BUFFERS},
    publication::{Audience, Publication},
};

/// No segment, no run, no local part.
pub(super) const NONE: u32 = u32::MAX;

const NO_LOCAL: LocalId = LocalId(NONE);

/// The per-session fields that fan-out touches, apart from the rest so that they stay in cache. 16 bytes.
pub(super) struct SessionOutput {
    /// First and last segment of this turn: both NONE or neither.
    head: u32,
    tail: u32,
    /// The shell's name for the session's connection; NONE while the session is parked.
    pub(super) connection: u32,
    pub(super) format: Format,
    /// Some run of this turn has an exception for this session.
    excepted: bool,
    /// How many of the segments are to runs, up to 2.
    runs: u8,
    flags: u8,
}

/// [`SessionOutput::flags`]: the outbound queue is over its limit and the app's policy is to drop, so publications are
/// counted, not linked.
const CONGESTED: u8 = 1;

/// [`SessionOutput::flags`]: output is recorded in the session's outbox.
const RECORDED: u8 = 2;

impl SessionOutput {
    pub(super) fn new(connection: u32, format: Format) -> Self {
        Self { head: NONE, tail: NONE, connection, format, excepted: false, runs: 0, flags: 0 }
    }

    /// Whether publications are counted as missed instead of being linked.
    pub(super) fn is_congested(&self) -> bool {
        self.flags & CONGESTED != 0
    }

    /// The session's connection cannot take what it is sent.
    pub(super) fn set_congested(&mut self) {
        self.flags |= CONGESTED;
    }

    /// Ends that; returns whether it was so.
    pub(super) fn clear_congested(&mut self) -> bool {
        let was = self.is_congested();
        self.flags &= !CONGESTED;
        was
    }

    /// From now on the session's output is recorded in its outbox.
    pub(super) fn set_recorded(&mut self) {
        self.flags |= RECORDED;
    }

    /// Whether it is to receive something in this turn.
    pub(super) fn has_segments(&self) -> bool {
        self.head != NONE
    }

    /// Whether its output is recorded in its outbox.
    pub(super) fn is_recorded(&self) -> bool {
        self.flags & RECORDED != 0
    }

    /// Whether no connection takes the session's output at present.
    pub(super) fn is_parked(&self) -> bool {
        self.connection == NONE
    }
}

/// A range of one of the turn's buffers that a session receives, and what follows it.
struct Segment {
    buffer: u32,
    start: u32,
    end: u32,
    next: u32,
}

/// A reply in the buffer of replies.
#[derive(Copy, Clone)]
pub(super) struct ReplyRange {
    start: u32,
    end: u32,
}

/// The buffer of replies; run `r`'s buffer for format `f` is `1 + r * FORMATS + f`.
const REPLIES: u32 = 0;

/// Publications of one channel in this turn.
#[derive(Default)]
pub(super) struct Run {
    /// Whose publications these are.
    channel: Option<Arc<Channel>>,
    /// The worker's part of the channel, or NONE if that is gone.
    local: LocalId,
    /// Places in the member array when the run began; later places are in `late`.
    base: usize,
    /// For each place from `base` on: how many publications the run held when it was taken.
    late: Vec<u32>,
    /// For each publication, where its frame ends in each buffer.
    ends: Vec<[u32; FORMATS]>,
    /// For each publication, how many the turn had before. Rising.
    places: Vec<u32>,
    /// Sorted; no two concern one publication.
    exceptions: Vec<Exception>,
    /// Whether an exception is a filter, so that every member must be asked.
    filtered: bool,
    buffers: [BytesMut; FORMATS],
    headings: [Heading; FORMATS],
}

/// Publications of a run that not everyone is to see.
struct Exception {
    first: u32,
    last: u32,
    unless: Exclusion,
}

enum Exclusion {
    /// All but this session.
    Slot(SessionSlot),
    /// Only those it admits.
    Filter(Box<Audience>),
}

impl Exception {
    fn new(ordinals: RangeInclusive<u32>, unless: Exclusion) -> Self {
        Self { first: *ordinals.start(), last: *ordinals.end(), unless }
    }
}

impl Run {
    fn begin(&mut self, channel: Arc<Channel>, local: LocalId, places: usize) {
        self.channel = Some(channel);
        self.local = local;
        self.base = places;
        self.late.clear();
        self.ends.clear();
        self.places.clear();
        self.exceptions.clear();
        self.filtered = false;
        self.headings.iter_mut().for_each(Heading::clear);
    }

    fn len(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("a turn's bytes are bounded far below")
    }

    /// The ordinals of the last `count` publications, which is not 0.
    fn last(&self, count: usize) -> RangeInclusive<u32> {
        let len = self.len();
        len - u32::try_from(count).expect("it is at most `len`")..=len - 1
    }

    /// Where publications `from..to` stand in the buffer of `format`.
    fn range(&self, format: Format, from: u32, to: u32) -> (u32, u32) {
        let end = |count: u32| match count {
            0 => 0,
            n => self.ends[n as usize - 1][format.index()],
        };
        (end(from), end(to))
    }

    /// Which publications stand at `start..end` in the buffer of `format`, by ordinals.
    fn ordinals(&self, format: usize, start: u32, end: u32) -> std::ops::Range<usize> {
        let after = |at| self.ends.partition_point(|ends| ends[format] <= at);
        after(start)..after(end - 1) + 1
    }
}

/// Where a turn's output goes: sockets, or memory.
pub trait Sink {
    /// Sends `parts` on a connection, in order. What cannot be sent at once is kept (sharing the buffers) and sent
    /// later. Returns how many bytes wait on this connection now.
    fn write(&mut self, connection: u32, parts: Segments<'_>) -> usize;
}

/// What one session receives in one turn: ranges of shared buffers.
#[derive(Copy, Clone)]
pub struct Segments<'a> {
    buffers: &'a [Bytes],
    segments: &'a [Segment],
    head: u32,
}

impl<'a> Iterator for Segments<'a> {
    /// A buffer and the range of it that is to be sent.
    type Item = (&'a Bytes, std::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let segment = self.segments.get(self.head as usize)?;
        self.head = segment.next;
        Some((&self.buffers[segment.buffer as usize], segment.start as usize..segment.end as usize))
    }
}

/// What became of a session's output.
#[derive(Copy, Clone, Debug)]
pub(super) enum Backlog {
    /// So many bytes wait for its connection to take them.
    Bytes(usize),
    /// It was recorded for the client's return, all of it or not.
    Parked { is_whole: bool },
}

/// Everything a worker has to write at the end of its turn.
#[derive(Default)]
pub(super) struct Turn {
    /// `runs[..used]` are of this turn; the rest wait with their buffers for the next.
    runs: Vec<Run>,
    used: usize,
    segments: Vec<Segment>,
    /// Sessions with segments, in the order they got their first. A session that ended has none any more.
    dirty: Vec<SessionSlot>,
    replies: BytesMut,
    /// The buffers as they are written, in order of their numbers. Filled by `freeze`.
    frozen: Vec<Bytes>,
    /// Publications in this turn.
    publications: u32,
    /// One session's segments while they are sorted, each with its place.
    sorted: Vec<(u32, Segment)>,
    /// Bytes encoded in this turn.
    pub(super) bytes: usize,
}

impl Turn {
    /// Whether there is anything to write.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0 && self.dirty.is_empty()
    }

    /// Opens a run for the local part `local` with `places` in its member array.
    pub(super) fn open_run(&mut self, channel: Arc<Channel>, local: LocalId, places: usize) -> u32 {
        if self.used == self.runs.len() {
            self.runs.push(Run::default());
        }
        self.runs[self.used].begin(channel, local, places);
        self.used += 1;
        u32::try_from(self.used - 1).expect("a turn's bytes are bounded far below")
    }

    /// Encodes `publications` into `run` for each format that has members.
    pub(super) fn append(&mut self, run: u32, members: &[u32; FORMATS], publications: &[Publication<'_>]) {
        let run = &mut self.runs[run as usize];
        let channel = run.channel.as_deref().and_then(Channel::name);
        let mut ends = run.ends.last().copied().unwrap_or_default();
        for publication in publications {
            for format in Format::ALL {
                if members[format.index()] > 0 {
                    let buffer = &mut run.buffers[format.index()];
                    let before = buffer.len();
                    let heading = &mut run.headings[format.index()];
                    dialect::encode_publication(format, buffer, heading, channel, publication);
                    self.bytes += buffer.len() - before;
                    ends[format.index()] = u32::try_from(buffer.len()).expect("a turn's bytes are bounded");
                }
            }
            run.ends.push(ends);
            run.places.push(self.publications);
            self.publications += 1;
        }
    }

    /// The last `count` publications of `run` are not for the session in `slot`.
    pub(super) fn except(&mut self, run: u32, count: usize, slot: SessionSlot, hot: &mut SessionOutput) {
        let run = &mut self.runs[run as usize];
        let ordinals = run.last(count);
        match run.exceptions.last_mut() {
            // Of a sender of several in a row.
            Some(Exception { last, unless: Exclusion::Slot(same), .. })
                if *same == slot && *last + 1 == *ordinals.start() =>
            {
                *last = *ordinals.end();
            }
            _ => run.exceptions.push(Exception::new(ordinals, Exclusion::Slot(slot))),
        }
        hot.excepted = true;
    }

    /// The last `count` publications of `run` are for those whom `audience` admits.
    pub(super) fn filter(&mut self, run: u32, count: usize, audience: &Audience) {
        let run = &mut self.runs[run as usize];
        let unless = Exclusion::Filter(Box::new(audience.clone()));
        run.exceptions.push(Exception::new(run.last(count), unless));
        run.filtered = true;
    }

    /// A member took the next place of the member array while `run` is open.
    pub(super) fn joined(&mut self, run: u32) {
        let run = &mut self.runs[run as usize];
        run.late.push(run.len());
    }

    /// The member at `place` leaves while `run` is open: it still receives what was published until now.
    /// Returns how many publications that is.
    pub(super) fn left(&mut self, run: u32, place: usize, slot: SessionSlot, sessions: &mut Sessions) -> u64 {
        let of = &self.runs[run as usize];
        let from = if place < of.base { 0 } else { of.late[place - of.base] };
        self.segment_view(run, from, slot, sessions)
    }

    /// The local part of `run` is gone: whoever was in it has left.
    pub(super) fn orphan(&mut self, run: u32) {
        self.runs[run as usize].local = NO_LOCAL;
    }

    /// Appends a reply to what the session receives.
    pub(super) fn reply(
        &mut self,
        slot: SessionSlot,
        hot: &mut SessionOutput,
        encode: impl FnOnce(&mut BytesMut),
    ) {
        let range = self.encode_reply(encode);
        self.link_reply(slot, hot, range);
    }

    /// Encodes a reply that [`Turn::link_reply`] gives to one session or several.
    pub(super) fn encode_reply(&mut self, encode: impl FnOnce(&mut BytesMut)) -> ReplyRange {
        let start = self.replies.len();
        encode(&mut self.replies);
        let end = self.replies.len();
        self.bytes += end - start;
        let at = |len: usize| u32::try_from(len).expect("a turn's bytes are bounded");
        ReplyRange { start: at(start), end: at(end) }
    }

    /// Appends an encoded reply to what the session receives.
    pub(super) fn link_reply(&mut self, slot: SessionSlot, hot: &mut SessionOutput, range: ReplyRange) {
        self.segment(slot, hot, REPLIES, range.start, range.end);
    }

    fn segment(&mut self, slot: SessionSlot, hot: &mut SessionOutput, buffer: u32, start: u32, end: u32) {
        if start == end {
            return;
        }
        let new = u32::try_from(self.segments.len()).expect("a turn's bytes are bounded");
        if hot.head == NONE {
            hot.head = new;
            self.dirty.push(slot);
        } else {
            let tail = &mut self.segments[hot.tail as usize];
            if tail.buffer == buffer && tail.end == start {
                tail.end = end;
                return;
            }
            tail.next = new;
        }
        hot.tail = new;
        hot.runs += u8::from(buffer != REPLIES && hot.runs < 2);
        self.segments.push(Segment { buffer, start, end, next: NONE });
    }

    /// Links a session to the publications of `run` from `from` on, less those that are not for it.
    #[inline]
    fn segment_view(&mut self, run: u32, from: u32, slot: SessionSlot, sessions: &mut Sessions) -> u64 {
        let of = &self.runs[run as usize];
        let to = of.len();
        let hot = sessions.hot(slot);
        if hot.excepted || of.filtered || hot.is_congested() {
            let (hot, session) = sessions.both(slot);
            return self.segment_with_exceptions(run, from, slot, hot, session);
        }
        let (start, end) = of.range(hot.format, from, to);
        self.segment(slot, hot, buffer(run, hot.format), start, end);
        u64::from(to - from)
    }

    #[cold]
    fn segment_with_exceptions(
        &mut self,
        run: u32,
        from: u32,
        slot: SessionSlot,
        hot: &mut SessionOutput,
        session: &mut Session,
    ) -> u64 {
        let mut deliveries = 0;
        let mut start = from;
        let mut next_exception = 0;
        loop {
            let of = &self.runs[run as usize];
            let skipped = of.exceptions[next_exception..].iter().position(|exception| {
                exception.last >= start
                    && match &exception.unless {
                        Exclusion::Slot(excepted) => *excepted == slot,
                        Exclusion::Filter(audience) => !audience.admits(session.id(slot), session.user()),
                    }
            });
            let (stop, next) = match skipped {
                Some(ahead) => {
                    let Exception { first, last, .. } = of.exceptions[next_exception + ahead];
                    next_exception += ahead + 1;
                    (first.max(start), last + 1)
                }
                None => (of.len(), of.len()),
            };
            if hot.is_congested() {
                session.miss(of.channel.as_ref().expect("an open run has one"), u64::from(stop - start));
            } else {
                let (first, last) = of.range(hot.format, start, stop);
                self.segment(slot, hot, buffer(run, hot.format), first, last);
                deliveries += u64::from(stop - start);
            }
            if skipped.is_none() {
                return deliveries;
            }
            start = next;
        }
    }

    /// Links every member of the open runs to its view; returns how many deliveries that makes. `slots_of` tells the
    /// member array of a local part.
    pub(super) fn segment_members<'a>(
        &mut self,
        sessions: &mut Sessions,
        slots_of: impl Fn(LocalId) -> &'a [SessionSlot],
    ) -> u64 {
        let mut deliveries = 0;
        for run in 0..u32::try_from(self.used).expect("a turn's bytes are bounded") {
            let local = self.runs[run as usize].local;
            if local == NO_LOCAL {
                continue;
            }
            let base = self.runs[run as usize].base;
            for (place, &slot) in slots_of(local).iter().enumerate() {
                if slot == TOMBSTONE {
                    continue;
                }
                let from = if place < base { 0 } else { self.runs[run as usize].late[place - base] };
                deliveries += self.segment_view(run, from, slot, sessions);
            }
        }
        deliveries
    }

    /// Closes the buffers: nothing is appended any more.
    pub(super) fn freeze(&mut self) {
        self.frozen.push(freeze(&mut self.replies));
        for run in &mut self.runs[..self.used] {
            self.frozen.extend(run.buffers.iter_mut().map(freeze));
        }
    }

    /// Hands each session's segments to `sink`, in the order the sessions were touched; tells `on_backlog` which
    /// sessions have how many bytes left to send. Returns the number of sessions.
    pub(super) fn write(
        &mut self,
        sessions: &mut Sessions,
        sink: &mut impl Sink,
        mut on_backlog: impl FnMut(SessionSlot, Backlog),
    ) -> u64 {
        let mut writes = 0;
        for slot in self.dirty.drain(..) {
            let hot = sessions.hot(slot);
            let SessionOutput { mut head, runs, .. } = *hot;
            if head == NONE {
                continue;
            }
            Self::forget(hot);
            writes += 1;
            if runs > 1 {
                head = sort_segments(&self.runs, &mut self.segments, &mut self.sorted, head);
            }
            let parts = Segments { buffers: &self.frozen, segments: &self.segments, head };
            if hot.is_recorded() {
                let (hot, session) = sessions.both(slot);
                let is_whole = session.record(parts);
                if hot.is_parked() {
                    on_backlog(slot, Backlog::Parked { is_whole });
                    continue;
                }
            }
            let backlog = sink.write(sessions.hot(slot).connection, parts);
            if backlog > 0 {
                on_backlog(slot, Backlog::Bytes(backlog));
            }
        }
        writes
    }

    /// Ends the turn: buffers that nobody holds any more are used again in the next.
    pub(super) fn end(&mut self, sessions: &mut Sessions) -> impl Iterator<Item = LocalId> {
        self.frozen.clear();
        self.segments.clear();
        self.publications = 0;
        self.bytes = 0;
        for run in &mut self.runs[..self.used] {
            for exception in &run.exceptions {
                if let Exclusion::Slot(slot) = exception.unless {
                    sessions.hot(slot).excepted = false;
                }
            }
            let last = run.ends.last().copied().unwrap_or_default();
            for (buffer, len) in run.buffers.iter_mut().zip(last) {
                if len as usize > POOLED_BUFFER_BYTES {
                    *buffer = BytesMut::new();
                } else {
                    // From the start again, where it is in cache; unless what was written still waits somewhere.
                    let _is_from_start = buffer.try_reclaim(buffer.capacity() + len as usize);
                }
            }
            run.channel = None;
        }
        let locals: Vec<LocalId> =
            self.runs[..self.used].iter().map(|run| run.local).filter(|&local| local != NO_LOCAL).collect();
        self.used = 0;
        self.runs.truncate(POOLED_BUFFERS);
        locals.into_iter()
    }

    /// Forgets what a session was to receive, because it ended.
    pub(super) fn forget(hot: &mut SessionOutput) {
        hot.head = NONE;
        hot.tail = NONE;
        hot.runs = 0;
    }
}

/// Puts the segments from `head` on, to replies and several runs, into the order in which the publications came; a reply stays
/// behind what it was behind. Returns the new head.
#[cold]
fn sort_segments(
    runs: &[Run],
    segments: &mut Vec<Segment>,
    sorted: &mut Vec<(u32, Segment)>,
    head: u32,
) -> u32 {
    let (mut at, mut last, mut in_order) = (head, 0, true);
    while let Some(&Segment { buffer, start, end, next }) = segments.get(at as usize) {
        at = next;
        if buffer == REPLIES {
            sorted.push((last, Segment { buffer, start, end, next: NONE }));
            continue;
        }
        let (run, format) = ((buffer - 1) as usize / FORMATS, (buffer - 1) as usize % FORMATS);
        let mut start = start;
        for ordinal in runs[run].ordinals(format, start, end) {
            let end = runs[run].ends[ordinal][format];
            let place = runs[run].places[ordinal];
            in_order &= place >= last;
            last = last.max(place);
            sorted.push((place, Segment { buffer, start, end, next: NONE }));
            start = end;
        }
    }
    if in_order {
        sorted.clear();
        return head;
    }
    // Stable: a reply comes after the publication whose place it was given.
    sorted.sort_by_key(|(place, _)| *place);
    let first = segments.len();
    for (_, segment) in sorted.drain(..) {
        match segments[first..].last_mut() {
            Some(tail) if tail.buffer == segment.buffer && tail.end == segment.start => {
                tail.end = segment.end
            }
            _ => segments.push(segment),
        }
    }
    let tail = segments.len() - 1;
    for (segment, next) in segments[first..tail].iter_mut().zip(first as u32 + 1..) {
        segment.next = next;
    }
    first as u32
}

fn freeze(buffer: &mut BytesMut) -> Bytes {
    // Splitting an empty buffer would allocate.
    if buffer.is_empty() { Bytes::new() } else { buffer.split().freeze() }
}

fn buffer(run: u32, format: Format) -> u32 {
    1 + run * FORMATS as u32 + format.index() as u32
}
