//! What one session receives in one turn: ranges of the turn's buffers.

use bytes::Bytes;

use super::{NONE, run::Run};

/// A range of one of the turn's buffers that a session receives, and the segment after it.
pub(super) struct Segment {
    pub(super) buffer: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) next: u32,
}

/// A reply in the buffer of replies.
#[derive(Copy, Clone)]
pub(in crate::engine) struct ReplyRange {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl ReplyRange {
    /// Whether nothing was written.
    pub(in crate::engine) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The buffer of replies. The lanes of runs have the numbers from 1 on, in the order in which they opened.
pub(super) const REPLIES: u32 = 0;

/// Where a turn's output goes: sockets, or memory.
pub trait Sink {
    /// Sends `parts` on a connection, in order. What cannot be sent at once is kept (sharing the buffers) and sent
    /// later. Returns how many bytes wait on this connection now.
    fn write(&mut self, connection: u32, parts: Segments<'_>) -> usize;
}

/// What one session receives in one turn: ranges of shared buffers.
#[derive(Copy, Clone)]
pub struct Segments<'a> {
    pub(super) buffers: &'a [Bytes],
    pub(super) segments: &'a [Segment],
    pub(super) head: u32,
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

/// A lane of a run: buffer `n + 1` of the turn is that of the `n`-th lane that opened.
#[derive(Copy, Clone)]
pub(super) struct LaneId {
    pub(super) run: u32,
    pub(super) lane: u32,
}

/// Puts the segments from `head` on, to replies and several runs, into the order in which the publications came. A reply
/// stays behind the segment it followed. Returns the new head.
#[cold]
pub(super) fn sort_segments(
    (runs, opened): (&[Run], &[LaneId]),
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
        let LaneId { run, lane } = opened[(buffer - 1) as usize];
        for (place, start, end) in runs[run as usize].frames(lane, start, end) {
            in_order &= place >= last;
            last = last.max(place);
            sorted.push((place, Segment { buffer, start, end, next: NONE }));
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
