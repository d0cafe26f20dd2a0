//! The events that wait for a request, in lines: the events of a line are never in two requests at a time, so
//! a back end receives them in their order. Lines take turns.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Items that wait, by line.
pub(super) struct Queue<K, T> {
    lines: HashMap<K, Line<T>>,
    /// The lines that have items and are not busy, in the order of their turns.
    ready: VecDeque<K>,
}

struct Line<T> {
    items: VecDeque<T>,
    /// Whether items of the line were taken and are not finished.
    is_busy: bool,
}

/// The items of one request, and their lines.
pub(super) struct Taken<K, T> {
    pub(super) lines: Vec<K>,
    pub(super) items: Vec<T>,
}

impl<K: Copy + Eq + Hash, T> Queue<K, T> {
    pub(super) fn new() -> Self {
        Self { lines: HashMap::new(), ready: VecDeque::new() }
    }

    /// Queues an item at the end of its line.
    pub(super) fn push(&mut self, key: K, item: T) {
        let line = self.lines.entry(key).or_insert_with(|| Line { items: VecDeque::new(), is_busy: false });
        if line.items.is_empty() && !line.is_busy {
            self.ready.push_back(key);
        }
        line.items.push_back(item);
    }

    /// Takes up to `most` items from lines that are not busy. These lines are busy from then on. `None` if
    /// there is no such item.
    pub(super) fn take(&mut self, most: usize) -> Option<Taken<K, T>> {
        let mut taken = Taken { lines: Vec::new(), items: Vec::new() };
        while taken.items.len() < most {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&key) else { continue };
            let room = most - taken.items.len();
            taken.items.extend(line.items.drain(..room.min(line.items.len())));
            taken.lines.push(key);
            line.is_busy = true;
        }
        (!taken.items.is_empty()).then_some(taken)
    }

    /// Notes that the items that were taken from these lines are finished.
    pub(super) fn finish(&mut self, lines: &[K]) {
        for key in lines {
            let Some(line) = self.lines.get_mut(key) else { continue };
            line.is_busy = false;
            if line.items.is_empty() {
                self.lines.remove(key);
            } else {
                self.ready.push_back(*key);
            }
        }
    }

    /// Takes every waiting item out, whatever its line.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.ready.clear();
        let items = self.lines.values_mut().flat_map(|line| line.items.drain(..)).collect();
        self.lines.retain(|_, line| line.is_busy);
        items
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_in_one_request_at_a_time() {
        let mut queue = Queue::new();
        for (key, item) in [('a', 1), ('a', 2), ('b', 3), ('a', 4)] {
            queue.push(key, item);
        }
        let first = queue.take(2).expect("there are items");
        assert_eq!((&*first.items, &*first.lines), (&[1, 2][..], &['a'][..]));
        let second = queue.take(2).expect("there is another line");
        assert_eq!(second.items, [3]);
        assert!(queue.take(2).is_none(), "the rest waits for the first request");
        queue.finish(&first.lines);
        assert_eq!(queue.take(2).expect("its line is free").items, [4]);
    }

    #[test]
    fn a_drained_queue_still_knows_which_lines_are_busy() {
        let mut queue = Queue::new();
        queue.push('a', 1);
        let taken = queue.take(1).expect("there is an item");
        queue.push('a', 2);
        queue.push('b', 3);
        let mut drained = queue.drain();
        drained.sort_unstable();
        assert_eq!(drained, [2, 3]);
        queue.push('a', 4);
        assert!(queue.take(1).is_none(), "the line is busy");
        queue.finish(&taken.lines);
        assert_eq!(queue.take(1).expect("the line is free").items, [4]);
        queue.finish(&['a']);
        assert!(queue.is_empty());
    }

    proptest! {
        /// Whatever is taken and finished in whatever order: items of a line come in their order, one request
        /// at a time, and none is lost.
        #[test]
        fn no_item_is_lost_or_overtaken(steps in prop::collection::vec((0..3u8, 0..4u8, 1..4usize), 0..200)) {
            let mut queue = Queue::new();
            let (mut pushed, mut seen) = (HashMap::<u8, u32>::new(), HashMap::<u8, u32>::new());
            let mut under_way: Vec<Taken<u8, (u8, u32)>> = Vec::new();
            let note = |taken: &Taken<u8, (u8, u32)>, seen: &mut HashMap<u8, u32>| {
                for (key, n) in &taken.items {
                    let next = seen.entry(*key).or_default();
                    assert_eq!(n, next, "in the order of the line");
                    *next += 1;
                }
            };
            for (step, key, most) in steps {
                match step {
                    0 => {
                        let n = pushed.entry(key).or_default();
                        queue.push(key, (key, *n));
                        *n += 1;
                    }
                    1 => if let Some(taken) = queue.take(most) {
                        assert!(taken.items.len() <= most);
                        let is_busy = |key| under_way.iter().any(|other| other.lines.contains(key));
                        assert!(!taken.lines.iter().any(is_busy), "a line is in one request at a time");
                        note(&taken, &mut seen);
                        under_way.push(taken);
                    },
                    _ if under_way.is_empty() => {}
                    _ => queue.finish(&under_way.swap_remove(most % under_way.len()).lines),
                }
            }
            under_way.iter().for_each(|taken| queue.finish(&taken.lines));
            while let Some(taken) = queue.take(3) {
                note(&taken, &mut seen);
                queue.finish(&taken.lines);
            }
            assert_eq!(pushed, seen);
            assert!(queue.is_empty());
        }
    }
}
