//! Atomics and locks, from `std` or from loom. The crate uses no others, so the model checker runs the code
//! that ships.

#[cfg(not(loom))]
pub(crate) use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

/// Runs `f` with the raw pointer of a cell; the two `UnsafeCell`s differ in shape.
#[cfg(not(loom))]
pub(crate) fn with_mut<T, R>(cell: &UnsafeCell<T>, f: impl FnOnce(*mut T) -> R) -> R {
    f(cell.get())
}

/// As above, under loom, which checks that no other access overlaps.
#[cfg(loom)]
pub(crate) fn with_mut<T, R>(cell: &UnsafeCell<T>, f: impl FnOnce(*mut T) -> R) -> R {
    cell.with_mut(f)
}

/// An unbounded multi-producer queue; its users bound it by counting.
#[cfg(not(loom))]
pub(crate) use crossbeam::queue::SegQueue as Queue;

/// Loom cannot see inside crossbeam, so the model replaces the queue with a lock, which orders as the real
/// one does.
#[cfg(loom)]
pub(crate) struct Queue<T>(loom::sync::Mutex<std::collections::VecDeque<T>>);

#[cfg(loom)]
impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Mutex::new(std::collections::VecDeque::new()))
    }

    pub(crate) fn push(&self, value: T) {
        self.0.lock().expect("no model panics while holding it").push_back(value);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.lock().expect("no model panics while holding it").pop_front()
    }
}
