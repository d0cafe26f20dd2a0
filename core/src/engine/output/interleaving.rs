//! The order of what one session receives from several runs of a turn.
//!
//! Segments to several runs are cut into frames and sorted by the places of their publications in the turn.
//! Many small frames are then copied into one buffer: a part of its own for each would cost more to write
//! than to copy. Members of the same channels have the same segments and share the result.
//!
//! ```text
//!   linked    run A [a0][a1][a2]   run B [b0][b1]
//!   sorted    [a0][b0][a1][b1][a2]
//!   written   one copy, which the next session with the same segments receives as well
//! ```

use bytes::{Bytes, BytesMut};

use super::{
    NONE, recycle,
    run::Run,
    segments::{LaneId, REPLIES, Segment},
    step,
};

/// Results that are kept for further sessions of the turn: members of the same channels may differ in their
/// formats.
const RESULTS: usize = 8;

/// A session gets at most this many parts, or parts of this many bytes on average; else they are copied
/// together.
const PARTS: usize = 16;
const PART_BYTES: usize = 2048;

/// The runs of a turn, and which lane each buffer is.
#[derive(Copy, Clone)]
pub(super) struct Lanes<'r> {
    pub(super) runs: &'r [Run],
    pub(super) opened: &'r [LaneId],
}

/// See the module.
#[derive(Default)]
pub(super) struct Interleaver {
    /// One session's frames, each with its place.
    frames: Vec<(u32, Segment)>,
    results: Vec<Interleaved>,
    /// Which result is replaced next.
    oldest: usize,
}

/// A session's segments, before and after.
#[derive(Default)]
struct Interleaved {
    linked: Vec<Segment>,
    sorted: Vec<Segment>,
}

impl Interleaver {
    /// The segments from `head` on in the order in which the publications came, to be read from the first;
    /// `None`: they are in order. Further buffers are appended to `buffers`, which are those of the turn
    /// otherwise.
    #[cold]
    pub(super) fn interleave(
        &mut self,
        lanes: Lanes<'_>,
        segments: &[Segment],
        head: u32,
        buffers: &mut Vec<Bytes>,
    ) -> Option<&[Segment]> {
        if is_in_order(lanes, segments, head) {
            return None;
        }
        if let Some(at) = self.results.iter().position(|known| known.is_of(segments, head)) {
            return Some(&self.results[at].sorted);
        }
        let own = lanes.opened.len() + 1;
        if buffers.len() == own {
            buffers.resize(own + RESULTS, Bytes::new());
        }
        let at = self.oldest;
        self.oldest = (at + 1) % RESULTS;
        if at == self.results.len() {
            self.results.push(Interleaved::default());
        }
        self.sort(lanes, segments, head);
        let result = &mut self.results[at];
        result.linked.clear();
        result.linked.extend(chain(segments, head));
        result.set_sorted(self.frames.drain(..).map(|(_, segment)| segment));
        buffers[own + at] = Bytes::new();
        result.copy_small_parts(buffers, own + at);
        Some(&result.sorted)
    }

    /// Cuts the segments from `head` on into frames and sorts them. A reply stays behind the segment it
    /// followed.
    fn sort(&mut self, Lanes { runs, opened }: Lanes<'_>, segments: &[Segment], head: u32) {
        let mut last = 0;
        for segment in chain(segments, head) {
            let Segment { buffer, start, end, .. } = segment;
            if buffer == REPLIES {
                self.frames.push((last, segment));
                continue;
            }
            let lane = opened[(buffer - 1) as usize];
            for (place, start, end) in runs[lane.run as usize].frames(lane, start, end) {
                step();
                last = last.max(place);
                self.frames.push((place, Segment { buffer, start, end, next: NONE }));
            }
        }
        // Stable: a reply comes after the publication whose place it was given.
        self.frames.sort_by_key(|(place, _)| *place);
    }

    /// Ends the turn.
    pub(super) fn end(&mut self) {
        recycle(&mut self.frames);
        self.results.clear();
        self.oldest = 0;
    }
}

impl Interleaved {
    fn is_of(&self, segments: &[Segment], head: u32) -> bool {
        let range = |segment: Segment| (segment.buffer, segment.start, segment.end);
        self.linked.iter().copied().map(range).eq(chain(segments, head).map(range))
    }

    fn set_sorted(&mut self, frames: impl Iterator<Item = Segment>) {
        self.sorted.clear();
        for segment in frames {
            match self.sorted.last_mut() {
                Some(tail) if tail.buffer == segment.buffer && tail.end == segment.start => {
                    tail.end = segment.end;
                }
                _ => self.sorted.push(segment),
            }
        }
        self.link();
    }

    /// Copies the parts into the buffer `own` if they are many and small.
    fn copy_small_parts(&mut self, buffers: &mut [Bytes], own: usize) {
        let bytes: usize = self.sorted.iter().map(|part| (part.end - part.start) as usize).sum();
        if self.sorted.len() <= PARTS.max(bytes / PART_BYTES) {
            return;
        }
        let mut copy = BytesMut::with_capacity(bytes);
        for part in &self.sorted {
            copy.extend_from_slice(&buffers[part.buffer as usize][part.start as usize..part.end as usize]);
        }
        buffers[own] = copy.freeze();
        let at = |len: usize| u32::try_from(len).expect("a turn's bytes are bounded");
        self.sorted.clear();
        self.sorted.push(Segment { buffer: at(own), start: 0, end: at(bytes), next: NONE });
    }

    /// Has each segment name the one after it.
    fn link(&mut self) {
        let count = u32::try_from(self.sorted.len()).expect("a turn's bytes are bounded");
        for (segment, next) in self.sorted.iter_mut().zip(1..) {
            segment.next = if next < count { next } else { NONE };
        }
    }
}

/// The segments from `head` on.
fn chain(segments: &[Segment], head: u32) -> impl Iterator<Item = Segment> + '_ {
    let mut at = head;
    std::iter::from_fn(move || {
        let segment = *segments.get(at as usize)?;
        at = segment.next;
        Some(segment)
    })
}

/// Whether no segment begins before the last publication of those ahead of it.
fn is_in_order(Lanes { runs, opened }: Lanes<'_>, segments: &[Segment], head: u32) -> bool {
    let mut last = 0;
    chain(segments, head).filter(|segment| segment.buffer != REPLIES).all(|segment| {
        step();
        let lane = opened[(segment.buffer - 1) as usize];
        let (first, end) = runs[lane.run as usize].span(lane, segment.start, segment.end);
        first >= std::mem::replace(&mut last, end)
    })
}
