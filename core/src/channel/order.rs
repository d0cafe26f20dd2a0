//! The combining lock that gives each channel one total order without ever blocking a publisher.
//!
//! Algorithm: Oyama, Taura and Yonezawa, "Executing Parallel Programs with Synchronization Bottlenecks Efficiently"
//! (1999). One word is lock and queue at once: it is free, or taken, or taken with a stack of operations that other
//! threads left for the holder. Whoever finds it free enters and works on the state directly. Whoever finds it taken
//! pushes its operation and walks away; the holder applies what was left, oldest first, before it lets go.
//!
//! ```text
//!   FREE ──enter──▶ TAKEN ──delegate──▶ op2 ─▶ op1 ─▶ TAKEN
//!    ▲                │ ▲                     │
//!    └──leave (CAS)───┘ └──── swap, reverse, apply op1, op2
//! ```
//!
//! Order: operations of one thread apply in the order it issued them, because it can only enter when everything it
//! delegated before has been applied (the word is free only when the stack is empty).

#![allow(unsafe_code, reason = "the state is handed to one thread at a time by the protocol below")]

use std::ptr;

use crate::sync::{AtomicPtr, Ordering, UnsafeCell, with_mut};

/// A value that one thread at a time works on, while others leave operations of type `Op` for it.
pub struct Order<S, Op> {
    /// FREE (null), TAKEN (the sentinel), or the newest delegated node, whose chain ends in TAKEN.
    head: AtomicPtr<Node<Op>>,
    state: UnsafeCell<S>,
}

struct Node<Op> {
    next: *mut Node<Op>,
    op: Op,
}

// SAFETY: `state` is only reached through `Entered`, of which at most one exists at a time (see `try_enter`), so
// sharing an `Order` moves `S` and `Op` between threads but never shares them.
unsafe impl<S: Send, Op: Send> Sync for Order<S, Op> {}
// SAFETY: an `Order` owns its state and its nodes.
unsafe impl<S: Send, Op: Send> Send for Order<S, Op> {}

/// Marks a taken word with no delegated operation. Never dereferenced.
fn taken<Op>() -> *mut Node<Op> {
    ptr::without_provenance_mut(usize::MAX & !(align_of::<usize>() - 1))
}

impl<S, Op> Order<S, Op> {
    /// A free order around `state`.
    pub fn new(state: S) -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), state: UnsafeCell::new(state) }
    }

    /// Enters if nobody is inside. Never waits.
    pub fn try_enter(&self) -> Option<Entered<'_, S, Op>> {
        // Acquire: pairs with the Release in `leave`, so we see the state as the last holder left it.
        self.head
            .compare_exchange(ptr::null_mut(), taken(), Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Entered { order: self })
    }

    /// Leaves `op` for whoever is inside; or, if nobody is any more, enters and gives `op` back. Never waits.
    pub fn delegate(&self, op: Op) -> Option<(Entered<'_, S, Op>, Op)> {
        let node = Box::into_raw(Box::new(Node { next: ptr::null_mut(), op }));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let target = if head.is_null() { taken() } else { node };
            // SAFETY: `node` came from `Box::into_raw` and is published only by the exchange below.
            unsafe { (*node).next = head };
            // AcqRel: Release publishes the node to the holder's swap in `leave`; Acquire pairs with the Release in
            // `leave` for the case that we enter.
            match self.head.compare_exchange_weak(head, target, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if head.is_null() => {
                    // SAFETY: the exchange installed the sentinel, not the node, so it is still ours alone.
                    let node = unsafe { Box::from_raw(node) };
                    return Some((Entered { order: self }, node.op));
                }
                Ok(_) => return None,
                Err(now) => head = now,
            }
        }
    }
}

impl<S, Op> Drop for Order<S, Op> {
    fn drop(&mut self) {
        // Only a holder that panicked leaves nodes behind; nobody else can be inside, for we have `&mut self`.
        let mut node = self.head.load(Ordering::Relaxed);
        while !node.is_null() && node != taken() {
            // SAFETY: the chain holds nodes from `Box::into_raw`, each once, and nobody else can reach them.
            node = unsafe { Box::from_raw(node) }.next;
        }
    }
}

/// Being inside: exclusive use of the state. End it with [`Entered::leave`]; merely dropping it leaves the order
/// taken for ever, which only a panic may do.
#[must_use]
pub struct Entered<'a, S, Op> {
    order: &'a Order<S, Op>,
}

impl<S, Op> Entered<'_, S, Op> {
    /// Works on the state.
    pub fn with<R>(&mut self, work: impl FnOnce(&mut S) -> R) -> R {
        // SAFETY: at most one `Entered` exists, since it is made only by moving the word from FREE to TAKEN and the
        // word becomes FREE only in `leave`, which consumes it; `&mut self` keeps this borrow unique.
        with_mut(&self.order.state, |state| work(unsafe { &mut *state }))
    }

    /// Applies what was delegated meanwhile, oldest first, and lets go.
    pub fn leave(mut self, mut apply: impl FnMut(&mut S, Op)) {
        // Release: hands the state to the next one to enter.
        while self
            .order
            .head
            .compare_exchange(taken(), ptr::null_mut(), Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            // Acquire: pairs with the Release in `delegate`, so the nodes' contents are visible.
            let newest = self.order.head.swap(taken(), Ordering::Acquire);
            let mut oldest = reverse(newest);
            while oldest != taken() {
                // SAFETY: the swap made the whole chain ours; each node is taken from it once.
                let node = unsafe { Box::from_raw(oldest) };
                oldest = node.next;
                self.with(|state| apply(state, node.op));
            }
        }
    }
}

/// Reverses a chain that ends in TAKEN, so that it starts with the oldest operation.
fn reverse<Op>(mut node: *mut Node<Op>) -> *mut Node<Op> {
    let mut reversed = taken();
    while node != taken() {
        // SAFETY: the caller owns the chain, and every link before the sentinel is a live node.
        let next = unsafe { std::mem::replace(&mut (*node).next, reversed) };
        reversed = node;
        node = next;
    }
    reversed
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_operation_left_by_another_is_applied_before_leaving() {
        let order = Order::<Vec<u32>, u32>::new(Vec::new());
        let mut entered = order.try_enter().expect("it is free");
        assert!(order.try_enter().is_none());
        assert!(order.delegate(2).is_none());
        assert!(order.delegate(3).is_none());
        entered.with(|list| list.push(1));
        entered.leave(|list, op| list.push(op));
        let mut entered = order.try_enter().expect("everybody left");
        entered.with(|list| assert_eq!(*list, [1, 2, 3]));
        entered.leave(|_, _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn delegating_to_a_free_order_enters_it() {
        let order = Order::<(), u32>::new(());
        let (entered, op) = order.delegate(9).expect("nobody is inside");
        assert_eq!(op, 9);
        entered.leave(|(), _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn operations_left_behind_are_dropped_with_the_order() {
        let counted = Arc::new(());
        let order = Order::<(), Arc<()>>::new(());
        let entered = order.try_enter().expect("it is free");
        assert!(order.delegate(counted.clone()).is_none());
        std::mem::forget(entered);
        drop(order);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn many_threads_keep_each_threads_order_and_lose_nothing() {
        let order = Arc::new(Order::<Vec<(usize, usize)>, (usize, usize)>::new(Vec::new()));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let order = order.clone();
                std::thread::spawn(move || {
                    for i in 0..5_000 {
                        if let Some((mut entered, op)) = order.delegate((thread, i)) {
                            entered.with(|list| list.push(op));
                            entered.leave(|list, op| list.push(op));
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }
        let mut next = [0; 4];
        let mut entered = order.try_enter().expect("everybody left");
        entered.with(|list| {
            assert_eq!(list.len(), 20_000);
            for &(thread, i) in list.iter() {
                assert_eq!(i, next[thread]);
                next[thread] += 1;
            }
        });
        entered.leave(|_, _| ());
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;

    use super::*;

    type Log = Order<Vec<(u8, u8)>, (u8, u8)>;

    fn issue(order: &Log, op: (u8, u8)) {
        if let Some(mut entered) = order.try_enter() {
            entered.with(|log| log.push(op));
            entered.leave(|log, op| log.push(op));
        } else if let Some((mut entered, op)) = order.delegate(op) {
            entered.with(|log| log.push(op));
            entered.leave(|log, op| log.push(op));
        }
    }

    /// Each thread's operations apply once, in its order, and all have applied when everybody has returned.
    #[test]
    fn publish_order_is_total_and_keeps_each_threads_order() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let order = Arc::new(Log::new(Vec::new()));
            let threads: Vec<_> = (1..=2)
                .map(|thread| {
                    let order = order.clone();
                    loom::thread::spawn(move || {
                        issue(&order, (thread, 0));
                        issue(&order, (thread, 1));
                    })
                })
                .collect();
            issue(&order, (0, 0));
            for thread in threads {
                thread.join().expect("no thread panics");
            }
            let mut entered = order.try_enter().expect("everybody left");
            entered.with(|log| {
                assert_eq!(log.len(), 5);
                for thread in 0..=2 {
                    let own: Vec<u8> = log.iter().filter(|op| op.0 == thread).map(|op| op.1).collect();
                    assert!(own.is_sorted() && own.len() == if thread == 0 { 1 } else { 2 });
                }
            });
            entered.leave(|_, _| unreachable!("nothing was delegated"));
        });
    }
}
