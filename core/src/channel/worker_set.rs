//! A set of workers, as bits of one number.

use crate::{id::WorkerId, limits::MAX_WORKERS};

/// A set of workers, as bits.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct WorkerSet(u128);

const _: () = assert!(MAX_WORKERS <= u128::BITS as usize);

impl WorkerSet {
    /// Adds `worker`.
    pub fn insert(&mut self, worker: WorkerId) {
        self.0 |= 1 << worker.0;
    }

    /// Takes `worker` out.
    pub fn remove(&mut self, worker: WorkerId) {
        self.0 &= !(1 << worker.0);
    }

    /// Whether `worker` is in it.
    pub fn contains(self, worker: WorkerId) -> bool {
        self.0 >> worker.0 & 1 == 1
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without `worker`.
    pub fn without(mut self, worker: WorkerId) -> Self {
        self.remove(worker);
        self
    }
}

impl Iterator for WorkerSet {
    type Item = WorkerId;

    fn next(&mut self) -> Option<WorkerId> {
        let lowest = WorkerId(u16::try_from(self.0.trailing_zeros()).expect("at most 128"));
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            lowest
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn worker_set_iterates_its_members_in_order() {
        let mut set = WorkerSet::default();
        for worker in [127, 0, 5] {
            set.insert(WorkerId(worker));
        }
        assert_eq!(set.map(|w| w.0).collect::<Vec<_>>(), [0, 5, 127]);
        set.remove(WorkerId(5));
        assert!(!set.contains(WorkerId(5)) && set.contains(WorkerId(127)));
    }
}
