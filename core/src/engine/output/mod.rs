//! Fan-out: what a worker's sessions are going to receive at the end of this turn.
//!
//! Publications of one channel in one turn are encoded one after another, the channel's *run*: once for each
//! wire format that has members, into a buffer of its own, a *lane*. Members do not copy: at the end of the
//! turn each is linked to the part of the run that it is to see, nearly always all of it, and the shell
//! writes runs and replies to each touched connection in one go.
//!
//! ```text
//!   publication ──encode once per format──▶ run of its channel   [p0][p1][p2]
//!   reply       ──encode──────────────────▶ replies              [r0][r1]
//!   flush:  session ──▶ segment(replies, r0) ──▶ segment(run, p0..p2) ──▶ …      one write per session
//! ```
//!
//! A member's view of a run is a suffix or a prefix of it, less exceptions: who joined during the turn sees
//! it from there on (`late`), who left was linked up to there when leaving. An audience names sessions once,
//! when it is published: those it leaves out skip that publication; a publication for those it names alone is
//! *hidden* from all others, which share a lane without it. So what a member costs depends on how often it is
//! named, and not on how many audiences there are.
//!
//! A session that sees several runs of one turn receives their publications as they came (`interleaving`), so
//! that what somebody sends to one channel and then to another does not arrive the other way round. Others
//! pay nothing for that.
//!
//! Buffers are used again in the next turn. What they grew beyond a bound is given back at the end of the
//! turn.

mod interleaving;
mod run;
mod segments;
mod session;
#[cfg(all(test, not(loom)))]
mod tests;

use std::{slice, sync::Arc};

use bytes::{Bytes, BytesMut};

pub use self::segments::{Segments, Sink};
pub(super) use self::session::SessionOutput;
use self::{
    interleaving::{Interleaver, Lanes},
    run::{Named, Run, Sees, View},
    segments::{LaneId, REPLIES, Segment},
};
use super::session::{Session, Sessions};
use crate::{
    channel::{Channel, TOMBSTONE},
    dialect::{Format, FormatSet},
    id::{AppId, LocalId, SessionSlot},
    limits::{POOLED_BUFFER_BYTES, POOLED_BUFFERS, POOLED_BYTES},
    publication::Publication,
};

/// No segment, no run, no local part.
pub(super) const NONE: u32 = u32::MAX;

const NO_LOCAL: LocalId = LocalId(NONE);

/// What became of a session's output.
#[derive(Copy, Clone, Debug)]
pub(super) enum Backlog {
    /// So many bytes wait for its connection to take them.
    Bytes(usize),
    /// It was recorded for the client's return, all of it or not.
    Parked { is_whole: bool },
}

/// A run that has ended with its turn.
pub(super) struct EndedRun {
    /// The worker's part of the channel.
    pub(super) local: LocalId,
    /// The formats of its members.
    pub(super) formats: FormatSet,
}

/// Everything a worker has to write at the end of its turn.
#[derive(Default)]
pub(super) struct Turn {
    /// `runs[..used]` are of this turn; the rest wait with their buffers for the next.
    runs: Vec<Run>,
    used: usize,
    /// The run of direct messages.
    direct: Option<u32>,
    /// The lanes of these runs, in the order in which they opened.
    opened: Vec<LaneId>,
    segments: Vec<Segment>,
    /// Sessions with segments, in the order they got their first. A session that ended has none any more.
    dirty: Vec<SessionSlot>,
    replies: BytesMut,
    /// Length of the replies when they were frozen.
    reply_bytes: usize,
    /// The buffers as they are written, in order of their numbers. Filled by `freeze`.
    frozen: Vec<Bytes>,
    /// Publications in this turn.
    publications: u32,
    interleaver: Interleaver,
    /// Bytes that all of `runs` keep between turns.
    pooled: usize,
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
        self.open(Some(channel), local, places)
    }

    fn open(&mut self, channel: Option<Arc<Channel>>, local: LocalId, places: usize) -> u32 {
        if self.used == self.runs.len() {
            self.runs.push(Run::default());
        }
        self.runs[self.used].begin(channel, local, places);
        self.used += 1;
        u32::try_from(self.used - 1).expect("a turn's bytes are bounded far below")
    }

    /// Encodes `publications` into `run` for each of `formats`, which are those that have members.
    pub(super) fn append(&mut self, run: u32, formats: FormatSet, publications: &[Publication<'_>]) {
        let of = &mut self.runs[run as usize];
        for format in formats {
            self.bytes += of.encode(run, format, &mut self.opened, publications);
        }
        let first = self.publications;
        self.publications += u32::try_from(publications.len()).expect("an operation is small");
        of.note(first..self.publications);
    }

    /// The last `count` publications of `run` are not for the session in `slot`.
    pub(super) fn except(&mut self, run: u32, count: usize, slot: SessionSlot, hot: &mut SessionOutput) {
        self.runs[run as usize].exclude(count, slot);
        hot.set_excepted();
    }

    /// The last `count` publications of `run` are for these sessions alone.
    pub(super) fn hide(&mut self, run: u32, count: usize, but_for: &[SessionSlot], sessions: &mut Sessions) {
        but_for.iter().for_each(|slot| sessions.hot(*slot).set_excepted());
        self.runs[run as usize].hide(count, but_for.iter().copied());
    }

    /// Encodes a direct message for each of `formats`, into the run of direct messages, which has no members.
    pub(super) fn append_direct(&mut self, formats: FormatSet, publication: &Publication<'_>) {
        let run = self.direct.unwrap_or_else(|| self.open(None, NO_LOCAL, 0));
        self.direct = Some(run);
        self.append(run, formats, slice::from_ref(publication));
    }

    /// Links a session to the last direct message. Returns how many deliveries that makes.
    pub(super) fn link_direct(&mut self, slot: SessionSlot, hot: &mut SessionOutput) -> u64 {
        let Some(run) = self.direct else { return 0 };
        let run = &self.runs[run as usize];
        let view = run.view(hot.format, run.len() - 1);
        self.segment_seen(slot, hot, view)
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

    /// The frames of `run` in a format, if they were encoded in it.
    pub(super) fn frames_in(&self, run: u32, format: Format) -> impl Iterator<Item = &[u8]> {
        self.runs[run as usize].frames_in(format)
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
        let start = self.replies.len();
        encode(&mut self.replies);
        let end = self.replies.len();
        self.bytes += end - start;
        let at = |len: usize| u32::try_from(len).expect("a turn's bytes are bounded");
        self.segment(slot, hot, REPLIES, at(start), at(end));
    }

    /// The bytes of replies in this turn.
    pub(super) fn reply_bytes(&self) -> usize {
        self.replies.len()
    }

    fn segment(&mut self, slot: SessionSlot, hot: &mut SessionOutput, buffer: u32, start: u32, end: u32) {
        if start == end {
            return;
        }
        let new = u32::try_from(self.segments.len()).expect("a turn's bytes are bounded");
        let is_of_run = u8::from(buffer != REPLIES);
        if hot.head == NONE {
            hot.head = new;
            hot.runs = is_of_run;
            self.dirty.push(slot);
        } else {
            let tail = &mut self.segments[hot.tail as usize];
            if tail.buffer == buffer && tail.end == start {
                tail.end = end;
                return;
            }
            tail.next = new;
            hot.runs = (hot.runs + is_of_run).min(2);
        }
        hot.tail = new;
        self.segments.push(Segment { buffer, start, end, next: NONE });
    }

    /// Links a session to the publications of `run` from `from` on, less those that are not for it.
    fn segment_view(&mut self, run: u32, from: u32, slot: SessionSlot, sessions: &mut Sessions) -> u64 {
        let hot = sessions.hot(slot);
        if !hot.sees_as_most() {
            let (hot, session) = sessions.both(slot);
            return self.segment_named(run, from, slot, hot, session);
        }
        let view = self.runs[run as usize].shared_view(run, hot.format, from, &mut self.opened);
        self.segment_seen(slot, hot, view)
    }

    /// Links a session to what it sees of a run.
    #[inline]
    fn segment_seen(&mut self, slot: SessionSlot, hot: &mut SessionOutput, view: View) -> u64 {
        self.segment(slot, hot, view.buffer, view.start, view.end);
        u64::from(view.publications)
    }

    /// Links a session that an audience names, or that is congested: what all sessions share, but for
    /// publications for which it is named.
    #[cold]
    fn segment_named(
        &mut self,
        run: u32,
        from: u32,
        slot: SessionSlot,
        hot: &mut SessionOutput,
        session: &mut Session,
    ) -> u64 {
        let of = &mut self.runs[run as usize];
        let len = of.len();
        // Brings the shared lane up to date.
        of.shared_view(run, hot.format, from, &mut self.opened);
        let (mut at, mut deliveries) = (from, 0);
        for entry in of.named_of(slot) {
            step();
            let of = &self.runs[run as usize];
            let Named { publications, sees, .. } = of.named()[entry];
            if publications.last < at {
                continue;
            }
            let first = publications.first.max(at);
            let shared = of.shared_part(hot.format, at, first);
            at = publications.last + 1;
            let own = (sees == Sees::Them).then(|| of.part(hot.format, first, at));
            deliveries += self.segment_or_miss(run, slot, hot, session, shared);
            if let Some(own) = own {
                deliveries += self.segment_or_miss(run, slot, hot, session, own);
            }
        }
        let rest = self.runs[run as usize].shared_part(hot.format, at, len);
        deliveries + self.segment_or_miss(run, slot, hot, session, rest)
    }

    /// Links a session to what it sees of a run, or counts that as missed.
    fn segment_or_miss(
        &mut self,
        run: u32,
        slot: SessionSlot,
        hot: &mut SessionOutput,
        session: &mut Session,
        view: View,
    ) -> u64 {
        if !hot.is_congested() {
            return self.segment_seen(slot, hot, view);
        }
        let channel = self.runs[run as usize].channel.as_ref().expect("an open run has one");
        session.miss(channel, u64::from(view.publications));
        0
    }

    /// Links every member of the open runs to its view; returns how many deliveries that makes. `slots_of`
    /// tells the member array of a local part.
    /// `count` takes the deliveries of each run, with the run's app.
    pub(super) fn segment_members<'a>(
        &mut self,
        sessions: &mut Sessions,
        slots_of: impl Fn(LocalId) -> &'a [SessionSlot],
        count: impl Fn(AppId, u64),
    ) -> u64 {
        let mut deliveries = 0;
        for run in 0..u32::try_from(self.used).expect("a turn's bytes are bounded") {
            let of = &self.runs[run as usize];
            if of.local != NO_LOCAL {
                let delivered = self.segment_run(run, slots_of(of.local), sessions);
                let channel = self.runs[run as usize].channel.as_ref().expect("an open run has one");
                count(channel.app(), delivered);
                deliveries += delivered;
            }
        }
        deliveries
    }

    /// Links the members of a run, whose slots are in `slots`. Most of them see the same as the member
    /// before.
    #[inline]
    fn segment_run(&mut self, run: u32, slots: &[SessionSlot], sessions: &mut Sessions) -> u64 {
        let (mut deliveries, mut seen) = (0, FormatSet::default());
        let base = self.runs[run as usize].base;
        let mut view = View::nothing(Format::Native, NONE);
        for (place, &slot) in slots.iter().enumerate() {
            if slot == TOMBSTONE {
                continue;
            }
            let from = if place < base { 0 } else { self.runs[run as usize].late[place - base] };
            let hot = sessions.hot(slot);
            if hot.format != view.format || from != view.from {
                view = self.runs[run as usize].shared_view(run, hot.format, from, &mut self.opened);
                seen.insert(hot.format);
            }
            if hot.sees_as_most() {
                deliveries += self.segment_seen(slot, hot, view);
            } else {
                let (hot, session) = sessions.both(slot);
                deliveries += self.segment_named(run, from, slot, hot, session);
            }
        }
        self.runs[run as usize].seen = seen;
        deliveries
    }

    /// Closes the buffers: nothing is appended any more.
    pub(super) fn freeze(&mut self) {
        self.reply_bytes = self.replies.len();
        self.frozen.push(freeze(&mut self.replies));
        for &lane in &self.opened {
            self.frozen.push(freeze(self.runs[lane.run as usize].bytes(lane)));
        }
    }

    /// Hands each session's segments to `sink`, in the order the sessions were touched; tells `on_backlog`
    /// which sessions have how many bytes left to send. Returns the number of sessions.
    pub(super) fn write(
        &mut self,
        sessions: &mut Sessions,
        sink: &mut impl Sink,
        mut on_backlog: impl FnMut(SessionSlot, Backlog),
    ) -> u64 {
        let mut writes = 0;
        for slot in self.dirty.drain(..) {
            let hot = sessions.hot(slot);
            let SessionOutput { head, runs, connection, .. } = *hot;
            let is_recorded = hot.is_recorded();
            if head == NONE {
                continue;
            }
            Self::forget(hot);
            writes += 1;
            let sorted = match runs > 1 {
                true => {
                    let lanes = Lanes { runs: &self.runs, opened: &self.opened };
                    self.interleaver.interleave(lanes, &self.segments, head, &mut self.frozen)
                }
                false => None,
            };
            let parts = match sorted {
                Some(segments) => Segments { buffers: &self.frozen, segments, head: 0 },
                None => Segments { buffers: &self.frozen, segments: &self.segments, head },
            };
            if is_recorded {
                let is_whole = sessions.get_mut(slot).record(parts);
                if connection == NONE {
                    on_backlog(slot, Backlog::Parked { is_whole });
                    continue;
                }
            }
            let backlog = sink.write(connection, parts);
            if backlog > 0 {
                on_backlog(slot, Backlog::Bytes(backlog));
            }
        }
        writes
    }

    /// Ends the turn: buffers that nobody holds any more are used again in the next. `on_end` is told of
    /// each run whose channel still has a part here.
    pub(super) fn end(&mut self, sessions: &mut Sessions, mut on_end: impl FnMut(EndedRun)) {
        recycle(&mut self.frozen);
        recycle(&mut self.segments);
        recycle(&mut self.opened);
        recycle(&mut self.dirty);
        self.interleaver.end();
        self.end_replies();
        self.direct = None;
        self.publications = 0;
        self.bytes = 0;
        let pooled = &mut self.pooled;
        for run in &mut self.runs[..self.used] {
            for named in run.named() {
                sessions.hot(named.slot).clear_excepted();
            }
            let before = std::mem::take(&mut run.kept);
            let room = POOLED_BUFFER_BYTES.min(POOLED_BYTES - (*pooled - before));
            run.kept = run.end(room);
            *pooled = *pooled - before + run.kept;
            if run.local != NO_LOCAL {
                on_end(EndedRun { local: run.local, formats: run.seen });
            }
        }
        self.used = 0;
        for run in self.runs.drain(self.runs.len().min(POOLED_BUFFERS)..) {
            *pooled -= run.kept;
        }
        if self.runs.capacity() > 2 * POOLED_BUFFERS {
            self.runs.shrink_to(POOLED_BUFFERS);
        }
    }

    /// The bytes that are kept between turns.
    pub(super) fn kept_bytes(&self) -> usize {
        self.pooled + self.replies.capacity() + heap_bytes(&self.segments) + heap_bytes(&self.dirty)
    }

    /// Gives back the buffers that wait for the next turn. A kept buffer may hold a nearly empty page of the
    /// allocator.
    pub(super) fn give_back(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// As the buffer of a lane: replies begin at its start again, unless what was written still waits
    /// somewhere.
    fn end_replies(&mut self) {
        let len = std::mem::take(&mut self.reply_bytes);
        if len + self.replies.capacity() > POOLED_BUFFER_BYTES {
            self.replies = BytesMut::new();
        } else if len > 0 {
            let _is_from_start = self.replies.try_reclaim(self.replies.capacity() + len);
        }
    }

    /// Forgets what a session was to receive, because it ended.
    pub(super) fn forget(hot: &mut SessionOutput) {
        hot.head = NONE;
        hot.tail = NONE;
        hot.runs = 0;
    }
}

fn freeze(buffer: &mut BytesMut) -> Bytes {
    // Splitting an empty buffer would allocate.
    if buffer.is_empty() { Bytes::new() } else { buffer.split().freeze() }
}

/// Empties a buffer at the end of a turn. One that grew beyond the bound is given back.
fn recycle<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    if heap_bytes(buffer) > POOLED_BUFFER_BYTES {
        *buffer = Vec::new();
    }
}

fn heap_bytes<T>(buffer: &Vec<T>) -> usize {
    buffer.capacity() * size_of::<T>()
}

/// A step of what audiences and several runs cost. The tests of this module count them.
#[inline(always)]
fn step() {
    #[cfg(all(test, not(loom)))]
    tests::count_step();
}
