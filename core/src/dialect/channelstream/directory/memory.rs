//! The memory of a directory's histories.

use std::sync::Arc;

use super::super::{
    entry::{Entry, Ring},
    schema::Item,
    timestamp::Moment,
};

/// The memory that the rings of all channels and users take.
#[derive(Debug)]
pub(super) struct Memory {
    used: usize,
    most: usize,
    /// Entries that were dropped for lack of memory.
    forgotten: u64,
}

impl Memory {
    /// The memory of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { used: 0, most, forgotten: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Appends an entry to a ring of at most `most` entries. If memory is short, the ring drops its oldest
    /// entries, and at last the new entry.
    pub(super) fn push(&mut self, ring: &mut Ring, most: usize, now: Moment, entry: &Arc<Entry>) {
        self.cut(ring, most - 1);
        let bytes = entry.bytes();
        while self.used + bytes > self.most {
            self.forgotten += 1;
            match ring.pop() {
                Some(freed) => self.release(freed),
                None => return,
            }
        }
        self.used += bytes;
        ring.push(now, entry.clone());
    }

    pub(super) fn cut(&mut self, ring: &mut Ring, most: usize) {
        while ring.len() > most {
            self.release(ring.pop().unwrap_or_default());
        }
    }

    pub(super) fn replace(&mut self, ring: &mut Ring, edit: &Item) {
        if let Some(entry) = ring.message_mut(edit.uuid) {
            let edited = Arc::new(entry.edited(edit));
            self.used = self.used - entry.bytes() + edited.bytes();
            *entry = edited;
        }
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.used -= bytes;
    }
}
