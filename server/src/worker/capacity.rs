//! The capacity of the server: all workers count their connections together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most connections of the server, and the present number. A client that polls counts as a connection.
pub(crate) struct Capacity {
    taken: AtomicUsize,
    total: usize,
}

impl Capacity {
    pub(super) fn new(total: usize) -> Self {
        Self { taken: AtomicUsize::new(0), total }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// The present number of connections.
    pub(crate) fn taken(&self) -> usize {
        // Relaxed: the count orders no other memory access. A refusal counts for a moment.
        self.taken.load(Ordering::Relaxed).min(self.total)
    }

    /// Counts a connection, if there is room. Returns whether there was.
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        // Relaxed: the count orders no other memory access.
        let is_free = self.taken.fetch_add(1, Ordering::Relaxed) < self.total;
        if !is_free {
            self.give_back(1);
        }
        is_free
    }

    /// Counts `places` connections less.
    pub(crate) fn give_back(&self, places: usize) {
        // Relaxed: the count orders no other memory access.
        self.taken.fetch_sub(places, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_are_taken_than_there_are() {
        let capacity = Capacity::new(2);
        assert!(capacity.take() && capacity.take() && !capacity.take());
        assert!(!capacity.take(), "a refusal takes no place");
        capacity.give_back(1);
        assert!(capacity.take() && !capacity.take());
        assert!(!Capacity::new(0).take());
    }
}
