//! What one session receives in one turn: ranges of the turn's buffers.

use bytes::Bytes;

use super::run::LaneKind;

/// A range of one of the turn's buffers that a session receives, and the segment after it.
#[derive(Copy, Clone)]
pub(super) struct Segment {
    pub(super) buffer: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) next: u32,
}

/// The buffer of replies. The lanes of runs have the numbers from 1 on, in the order in which they opened.
pub(super) const REPLIES: u32 = 0;

/// Where a turn's output goes: sockets, or memory.
pub trait Sink {
    /// A turn's output is complete, and its writes follow. Once for each turn with output.
    fn begin_writes(&mut self) {}

    /// Sends `parts` on a connection, in order. What cannot be sent at once is kept (sharing the buffers) and
    /// sent later. Returns how many bytes wait on this connection now.
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
    pub(super) kind: LaneKind,
}
