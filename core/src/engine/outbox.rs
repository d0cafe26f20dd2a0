//! What a session's client may not have received yet: the frames that a resumed session is sent again.
//!
//! An outbox holds whole frames, oldest first, up to a bound in bytes. While the session is attached, each
//! turn's output is recorded in the outbox and handed to the outlet at once. While the session is parked,
//! output is only recorded.
//!
//! ```text
//!   acknowledged or evicted │ recorded, handed to an outlet │ recorded while parked
//!   ─────────── base frames ┼───────────────────────────────┼──────────────────────
//!                         start                           handed                  end      (bytes, rising)
//! ```
//!
//! `start <= handed <= end`, and `end - start` is the sum of the chunks' lengths.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    dialect::{self, Format},
    secret::Secret,
};

/// A slice shorter than this fraction of its buffer is copied, so that a small frame does not keep a large
/// buffer alive.
const SHARED_PART: usize = 4;

/// Frames in their order, and how much of them is known to have arrived.
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    format: Format,
    /// Bytes that all chunks together may hold.
    limit: usize,
    /// Frames before the first chunk that carry data.
    base: u64,
    start: u64,
    handed: u64,
    end: u64,
    /// Where the output ended when the last ping was sent.
    pinged: Option<u64>,
    /// Bytes that are yet to be recorded and are no frames of the session: handshake response and welcome.
    preface: usize,
    /// Bytes that the app's account of parked sessions holds for it.
    accounted: usize,
    /// What resumes the session.
    pub(super) ticket: Secret,
    /// When the session ends if it is parked until then, on the steady clock; 0 while it is attached.
    pub(super) parked_until_ms: u64,
}

/// What was recorded while the session is parked is more than the outbox may hold.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Overflow;

impl Outbox {
    pub(super) fn new(format: Format, limit: usize, ticket: Secret) -> Self {
        Self {
            chunks: VecDeque::new(),
            format,
            limit,
            base: 0,
            start: 0,
            handed: 0,
            end: 0,
            pinged: None,
            preface: 0,
            accounted: 0,
            ticket,
            parked_until_ms: 0,
        }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Bytes that the app's account of parked sessions holds for it.
    pub(super) fn accounted(&self) -> usize {
        self.accounted
    }

    /// Brings the account up to date: bytes that it has to grow by, or else to shrink by.
    pub(super) fn account(&mut self) -> Result<usize, usize> {
        let now = self.bytes();
        let before = std::mem::replace(&mut self.accounted, now);
        self.accounted.checked_sub(before).ok_or_else(|| before - self.accounted)
    }

    pub(super) fn is_parked(&self) -> bool {
        self.parked_until_ms > 0
    }

    /// The next `bytes` that are recorded are no frames of the session.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.preface += bytes;
    }

    /// Records whole frames: `range` of a buffer that others may share.
    pub(super) fn record(&mut self, buffer: &Bytes, range: std::ops::Range<usize>) -> Result<(), Overflow> {
        let skipped = self.preface.min(range.len());
        self.preface -= skipped;
        let range = range.start + skipped..range.end;
        if range.is_empty() {
            return Ok(());
        }
        self.end += range.len() as u64;
        let copies = range.len() * SHARED_PART < buffer.len();
        self.chunks.push_back(if copies {
            Bytes::copy_from_slice(&buffer[range])
        } else {
            buffer.slice(range)
        });
        if !self.is_parked() {
            self.handed = self.end;
        }
        while self.bytes() > self.limit {
            let Some(oldest) = self.chunks.front() else { break };
            if self.start + oldest.len() as u64 > self.handed {
                return Err(Overflow);
            }
            self.evict_oldest();
        }
        Ok(())
    }

    fn evict_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.base += dialect::data_frames(self.format, &chunk).count() as u64;
            self.start += chunk.len() as u64;
        }
    }

    /// A ping follows what was recorded until now.
    pub(super) fn on_ping(&mut self) {
        self.pinged = Some(self.end);
    }

    /// The pong has come: its peer has received everything before the ping.
    pub(super) fn on_pong(&mut self) {
        let Some(pinged) = self.pinged.take() else { return };
        while self.chunks.front().is_some_and(|chunk| self.start + chunk.len() as u64 <= pinged) {
            self.evict_oldest();
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    /// The outlet is gone, and `unsent` bytes that were handed to it never left.
    pub(super) fn on_detach(&mut self, unsent: usize, parked_until_ms: u64) {
        self.handed = self.handed.saturating_sub(unsent as u64).max(self.start);
        self.parked_until_ms = parked_until_ms;
        self.accounted = self.bytes();
        self.pinged = None;
    }

    /// Takes the frames that the client has missed: all after the first `received` frames of the session, or,
    /// without `received`, the frames that were not handed over whole. `None` if some of these frames are
    /// dropped, or if the session never had `received` frames.
    pub(super) fn take_missed(&mut self, received: Option<u64>) -> Option<Vec<Bytes>> {
        let mut missed = Vec::new();
        let (mut frames, mut kept_from) = (self.base, self.start);
        if received.is_some_and(|received| received < frames) {
            return None;
        }
        for chunk in &self.chunks {
            let mut from = None;
            for frame in dialect::data_frames(self.format, chunk) {
                let is_missed = match received {
                    Some(received) => frames >= received,
                    None => kept_from + frame.end as u64 > self.handed,
                };
                if is_missed && from.is_none() {
                    from = Some(frame.start);
                    self.base = if missed.is_empty() { frames } else { self.base };
                }
                frames += 1;
            }
            if let Some(from) = from {
                missed.push(chunk.slice(from..));
            }
            kept_from += chunk.len() as u64;
        }
        if received.is_some_and(|received| received > frames) {
            return None;
        }
        if missed.is_empty() {
            self.base = frames;
        }
        self.chunks.clear();
        self.start = self.end;
        self.handed = self.end;
        Some(missed)
    }

    /// Discards all frames. Returns how many bytes the app's total of parked sessions shrinks by.
    pub(super) fn discard(&mut self) -> usize {
        self.chunks = VecDeque::new();
        self.start = self.end;
        self.handed = self.end;
        std::mem::take(&mut self.accounted)
    }

    /// The session has an outlet again.
    pub(super) fn on_attach(&mut self, ticket: Secret) {
        self.ticket = ticket;
        self.parked_until_ms = 0;
    }
}
