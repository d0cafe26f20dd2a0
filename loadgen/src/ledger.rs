//! Who got what: tells lost, repeated and reordered apart, for every subscriber and publisher.
//!
//! A *stream* is one publisher's messages as one subscriber sees them; it costs four bytes. Only streams that
//! went wrong cost more. One worker owns a ledger.
//!
//! ```text
//!  sequence == next   in order
//!  sequence  > next   the ones between are missing; lost unless they come later
//!  sequence  < next   was missing: reordered      was not missing: repeated
//! ```

use std::{cmp::Ordering, collections::HashMap, ops::Range};

use serde::{Deserialize, Serialize};

/// Ranges of missing messages remembered at one time, over all streams. What goes missing beyond it can no
/// longer be told apart when it arrives late: it then counts as lost and as repeated.
const MAX_RANGES: usize = 1 << 20;

/// What went wrong, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Deliveries that never came, although something later did: of the same publisher, or an answer on the
    /// same connection.
    pub lost: u64,
    /// Deliveries that had not come when the drain ended, with nothing to show that they never would.
    pub not_arrived: u64,
    /// Deliveries that came again.
    pub repeated: u64,
    /// Deliveries that came after a later one of the same publisher.
    pub reordered: u64,
    /// Deliveries to someone they were not for, or of another run.
    pub misdelivered: u64,
    /// Deliveries whose payload is not what was sent.
    pub corrupt: u64,
    /// Numbers of a channel's stream that a subscriber never saw and that no loss explains: the server left
    /// them out.
    pub holes: u64,
}

impl Faults {
    /// Whether there were none.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// All kinds together.
    pub fn sum(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }

    /// Each kind in words, and how many there were.
    pub fn kinds(&self) -> [(&'static str, u64); 7] {
        let &Self { lost, not_arrived, repeated, reordered, misdelivered, corrupt, holes } = self;
        [
            ("lost", lost),
            ("not arrived", not_arrived),
            ("repeated", repeated),
            ("reordered", reordered),
            ("misdelivered", misdelivered),
            ("corrupt", corrupt),
            ("holes", holes),
        ]
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.not_arrived += other.not_arrived;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.misdelivered += other.misdelivered;
        self.corrupt += other.corrupt;
        self.holes += other.holes;
    }
}

/// What a delivery is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It had not come before.
    First,
    /// It had.
    Again,
}

/// What a message that is not to come is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excused {
    /// It has not come, and is not asked for any more.
    Missing,
    /// Others before it are still to come.
    Ahead,
    /// It came all the same.
    Delivered,
}

/// The state of all of a worker's streams.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The sequence each stream expects.
    next: Vec<u32>,
    /// What each stream misses, in ascending order.
    missing: HashMap<usize, Vec<Range<u32>>, foldhash::fast::RandomState>,
    ranges: usize,
    pub(crate) faults: Faults,
}

impl Ledger {
    /// A ledger of so many streams, each at sequence 0.
    pub(crate) fn new(streams: usize) -> Self {
        Self { next: vec![0; streams], missing: HashMap::default(), ranges: 0, faults: Faults::default() }
    }

    /// Takes note of a delivery.
    #[inline]
    pub(crate) fn observe(&mut self, stream: usize, sequence: u32) -> Arrival {
        let next = &mut self.next[stream];
        if sequence == *next {
            *next += 1;
            return Arrival::First;
        }
        self.observe_out_of_order(stream, sequence)
    }

    /// What the stream expects next.
    pub(crate) fn expected(&self, stream: usize) -> u32 {
        self.next[stream]
    }

    /// The stream goes on with this sequence: what was before it and has not come is not asked for.
    pub(crate) fn skip(&mut self, stream: usize, sequence: u32) {
        self.next[stream] = self.next[stream].max(sequence);
    }

    /// A message is not to come: it was refused.
    pub(crate) fn excuse(&mut self, stream: usize, sequence: u32) -> Excused {
        match sequence.cmp(&self.next[stream]) {
            Ordering::Less if self.take_missing(stream, sequence) => {
                self.faults.lost -= 1;
                Excused::Missing
            }
            Ordering::Less => Excused::Delivered,
            Ordering::Equal => {
                self.next[stream] += 1;
                Excused::Missing
            }
            Ordering::Greater => Excused::Ahead,
        }
    }

    /// What of a stream is missing before the last message that came, in ascending order.
    pub(crate) fn gaps(&self, stream: usize) -> &[Range<u32>] {
        self.missing.get(&stream).map_or(&[], Vec::as_slice)
    }

    /// What of a stream is missing after the last message that came, if `published` messages were sent.
    pub(crate) fn tail(&self, stream: usize, published: u32) -> Range<u32> {
        self.next[stream].min(published)..published
    }

    #[cold]
    fn observe_out_of_order(&mut self, stream: usize, sequence: u32) -> Arrival {
        let next = self.next[stream];
        if sequence > next {
            self.faults.lost += u64::from(sequence - next);
            self.next[stream] = sequence.saturating_add(1);
            if self.ranges < MAX_RANGES {
                self.ranges += 1;
                self.missing.entry(stream).or_default().push(next..sequence);
            }
            return Arrival::First;
        }
        if self.take_missing(stream, sequence) {
            self.faults.lost -= 1;
            self.faults.reordered += 1;
            return Arrival::First;
        }
        self.faults.repeated += 1;
        Arrival::Again
    }

    fn take_missing(&mut self, stream: usize, sequence: u32) -> bool {
        let Some(ranges) = self.missing.get_mut(&stream) else { return false };
        let at = ranges.partition_point(|range| range.end <= sequence);
        let Some(range) = ranges.get_mut(at).filter(|range| range.start <= sequence) else { return false };
        let (before, after) = (range.start..sequence, sequence + 1..range.end);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => {
                ranges.remove(at);
                self.ranges -= 1;
            }
            (true, false) => *range = after,
            (false, true) => *range = before,
            (false, false) => {
                *range = before;
                ranges.insert(at + 1, after);
                self.ranges += 1;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(sequences: &[u32], published: u32) -> Faults {
        let mut ledger = Ledger::new(1);
        for sequence in sequences {
            ledger.observe(0, *sequence);
        }
        let tail = ledger.tail(0, published).len() as u64;
        Faults { lost: ledger.faults.lost + tail, ..ledger.faults }
    }

    fn expect(lost: u64, repeated: u64, reordered: u64) -> Faults {
        Faults { lost, repeated, reordered, ..Faults::default() }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(faults(&[0, 1, 2, 3], 4), expect(0, 0, 0));
        assert_eq!(faults(&[0, 1, 3], 4), expect(1, 0, 0));
        assert_eq!(faults(&[0, 1], 4), expect(2, 0, 0));
        assert_eq!(faults(&[], 4), expect(4, 0, 0));
        assert_eq!(faults(&[0, 1, 1, 2, 3], 4), expect(0, 1, 0));
        assert_eq!(faults(&[0, 2, 1, 3], 4), expect(0, 0, 1));
        assert_eq!(faults(&[0, 2, 1, 1, 3], 4), expect(0, 1, 1));
        assert_eq!(faults(&[0, 5, 2, 6, 2], 8), expect(4, 1, 1));
        assert_eq!(faults(&[3, 2, 1, 0], 4), expect(0, 0, 3));
        assert_eq!(faults(&[9, 4, 0, 8, 5, 3, 1, 2, 6, 7], 10), expect(0, 0, 9));
    }

    /// Against a plain set, over every way to deliver up to six of four messages.
    #[test]
    fn agrees_with_a_set_on_every_short_delivery() {
        for number in 0..5_u32.pow(6) {
            let sequences: Vec<u32> =
                (0..6).map(|place| number / 5_u32.pow(place) % 5).filter(|digit| *digit < 4).collect();
            let (mut seen, mut reference) = (std::collections::HashSet::new(), Faults::default());
            let mut highest = None;
            for sequence in &sequences {
                if !seen.insert(*sequence) {
                    reference.repeated += 1;
                } else if highest.is_some_and(|highest| *sequence < highest) {
                    reference.reordered += 1;
                }
                highest = highest.max(Some(*sequence));
            }
            reference.lost = 4 - seen.len() as u64;
            assert_eq!(faults(&sequences, 4), reference, "{sequences:?}");
        }
    }
}
