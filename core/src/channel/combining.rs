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
//!    ├──leave (CAS)───┤ └──── swap, reverse, apply op1, op2
//!    │                └──leave or close (CAS)──▶ CLOSED, for ever
//! ```
//!
//! Closing is our addition: it happens in the exchange that would otherwise free the word, so an operation that was
//! accepted is always applied, and whoever comes later learns at once that it must go elsewhere.
//!
//! CombiningLock: operations of one thread apply in the order it issued them, because it can only enter when everything it
//! delegated before has been applied (the word is free only when the stack is empty).

#![allow(unsafe_code, reason = "the state is handed to one thread at a time by the protocol below")]

use std::ptr;

use crate::{
    schedule::preemption_point,
    sync::{AtomicPtr, Ordering, UnsafeCell, with_mut},
};

/// A value that one thread at a time works on, while others leave operations of type `Op` for it.
pub struct CombiningLock<S, Op> {
    /// FREE (null), TAKEN or CLOSED (sentinels), or the newest delegated node, whose chain ends in TAKEN.
    head: AtomicPtr<Node<Op>>,
    state: UnsafeCell<S>,
}

struct Node<Op> {
    next: *mut Node<Op>,
    op: Op,
}

// SAFETY: `state` is only reached through `Entered`, of which at most one exists at a time (see `try_enter`), so
// sharing an `CombiningLock` moves `S` and `Op` between threads but never shares them.
unsafe impl<S: Send, Op: Send> Sync for CombiningLock<S, Op> {}
// SAFETY: an `CombiningLock` owns its state and its nodes.
unsafe impl<S: Send, Op: Send> Send for CombiningLock<S, Op> {}

/// Marks a taken word with no delegated operation. Never dereferenced.
fn taken<Op>() -> *mut Node<Op> {
    ptr::without_provenance_mut(usize::MAX & !(align_of::<usize>() - 1))
}

/// Marks a closed word. Never dereferenced.
fn closed<Op>() -> *mut Node<Op> {
    ptr::without_provenance_mut((usize::MAX & !(align_of::<usize>() - 1)) - align_of::<usize>())
}

/// What became of an operation that was to be delegated.
pub enum Delegated<'a, S, Op> {
    /// It waits for whoever is inside, and will be applied.
    Left,
    /// Nobody is inside any more: the caller is now, and has its operation back.
    Entered(Entered<'a, S, Op>, Op),
    /// The order is closed; nothing was done.
    Closed,
}

impl<S, Op> CombiningLock<S, Op> {
    /// A free order around `state`.
    pub fn new(state: S) -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), state: UnsafeCell::new(state) }
    }

    /// Enters if nobody is inside and the order is not closed. Never waits.
    #[inline]
    pub fn try_enter(&self) -> Option<Entered<'_, S, Op>> {
        preemption_point();
        // Acquire: pairs with the Release in `leave_or_close`, so we see the state as the last holder left it.
        self.head
            .compare_exchange(ptr::null_mut(), taken(), Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Entered { lock: self })
    }

    /// Whether it is closed for ever. If not, it may be by now.
    pub fn is_closed(&self) -> bool {
        // Relaxed: whoever goes on to enter finds out.
        self.head.load(Ordering::Relaxed) == closed()
    }

    /// Leaves `op` for whoever is inside; or, if nobody is any more, enters and gives `op` back. Never waits.
    pub fn delegate(&self, op: Op) -> Delegated<'_, S, Op> {
        let node = Box::into_raw(Box::new(Node { next: ptr::null_mut(), op }));
        preemption_point();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                // SAFETY: `node` came from `Box::into_raw` and no exchange published it.
                drop(unsafe { Box::from_raw(node) });
                return Delegated::Closed;
            }
            let target = if head.is_null() { taken() } else { node };
            // SAFETY: `node` came from `Box::into_raw` and is published only by the exchange below.
            unsafe { (*node).next = head };
            // AcqRel: Release publishes the node to the holder's swap in `leave_or_close`; Acquire pairs with the
            // Release there for the case that we enter.
            match self.head.compare_exchange_weak(head, target, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if head.is_null() => {
                    // SAFETY: the exchange installed the sentinel, not the node, so it is still ours alone.
                    let node = unsafe { Box::from_raw(node) };
                    return Delegated::Entered(Entered { lock: self }, node.op);
                }
                Ok(_) => return Delegated::Left,
                Err(now) => head = now,
            }
        }
    }
}

impl<S, Op> Drop for CombiningLock<S, Op> {
    fn drop(&mut self) {
        // Only a holder that panicked leaves nodes behind; nobody else can be inside, for we have `&mut self`.
        let mut node = self.head.load(Ordering::Relaxed);
        while !node.is_null() && node != taken() && node != closed() {
            // SAFETY: the chain holds nodes from `Box::into_raw`, each once, and nobody else can reach them.
            node = unsafe { Box::from_raw(node) }.next;
        }
    }
}

/// Being inside: exclusive use of the state. End it with [`Entered::leave`]; merely dropping it leaves the order
/// taken for ever, which only a panic may do.
#[must_use]
pub struct Entered<'a, S, Op> {
    lock: &'a CombiningLock<S, Op>,
}

impl<S, Op> Entered<'_, S, Op> {
    /// Works on the state.
    #[inline(always)]
    pub fn with<R>(&mut self, work: impl FnOnce(&mut S) -> R) -> R {
        // SAFETY: at most one `Entered` exists, since it is made only by moving the word from FREE to TAKEN and the
        // word becomes FREE only in `leave_or_close`, which consumes it; `&mut self` keeps this borrow unique.
        with_mut(&self.lock.state, |state| work(unsafe { &mut *state }))
    }

    /// Applies what was delegated meanwhile, oldest first, and lets go.
    pub fn leave(self, apply: impl FnMut(&mut S, Op)) {
        self.leave_or_close(apply, |_| false);
    }

    /// As [`Entered::leave`]; but if, with nothing left to apply, the state `is_over`, the order closes: nobody
    /// enters it and nothing is accepted any more. Returns whether it did.
    #[inline]
    pub fn leave_or_close(
        mut self,
        mut apply: impl FnMut(&mut S, Op),
        mut is_over: impl FnMut(&S) -> bool,
    ) -> bool {
        loop {
            let over = self.with(|state| is_over(state));
            let next = if over { closed() } else { ptr::null_mut() };
            preemption_point();
            // Release: hands the state to the next one to enter.
            let left = self.lock.head.compare_exchange(taken(), next, Ordering::Release, Ordering::Relaxed);
            if left.is_ok() {
                return over;
            }
            // Acquire: pairs with the Release in `delegate`, so the nodes' contents are visible.
            let newest = self.lock.head.swap(taken(), Ordering::Acquire);
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
        let lock = CombiningLock::<Vec<u32>, u32>::new(Vec::new());
        let mut entered = lock.try_enter().expect("it is free");
        assert!(lock.try_enter().is_none());
        assert!(matches!(lock.delegate(2), Delegated::Left));
        assert!(matches!(lock.delegate(3), Delegated::Left));
        entered.with(|list| list.push(1));
        entered.leave(|list, op| list.push(op));
        let mut entered = lock.try_enter().expect("everybody left");
        entered.with(|list| assert_eq!(*list, [1, 2, 3]));
        entered.leave(|_, _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn delegating_to_a_free_order_enters_it() {
        let lock = CombiningLock::<(), u32>::new(());
        let Delegated::Entered(entered, op) = lock.delegate(9) else { panic!("nobody is inside") };
        assert_eq!(op, 9);
        entered.leave(|(), _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn a_closed_order_takes_nothing_more() {
        let lock = CombiningLock::<u32, u32>::new(0);
        let entered = lock.try_enter().expect("it is free");
        assert!(entered.leave_or_close(|_, _| unreachable!("nothing was delegated"), |_| true));
        assert!(lock.try_enter().is_none());
        assert!(matches!(lock.delegate(1), Delegated::Closed));
    }

    #[test]
    fn an_operation_that_was_accepted_is_applied_before_closing_and_may_prevent_it() {
        let lock = CombiningLock::<u32, u32>::new(0);
        let entered = lock.try_enter().expect("it is free");
        assert!(matches!(lock.delegate(5), Delegated::Left));
        assert!(!entered.leave_or_close(|sum, op| *sum += op, |sum| *sum == 0));
        let mut entered = lock.try_enter().expect("it is not closed");
        assert_eq!(entered.with(|sum| *sum), 5);
        assert!(entered.leave_or_close(|_, _| unreachable!("nothing was delegated"), |_| true));
    }

    #[test]
    fn operations_left_behind_are_dropped_with_the_order() {
        let counted = Arc::new(());
        let lock = CombiningLock::<(), Arc<()>>::new(());
        let entered = lock.try_enter().expect("it is free");
        assert!(matches!(lock.delegate(counted.clone()), Delegated::Left));
        drop(entered);
        drop(lock);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn many_threads_keep_each_threads_order_and_lose_nothing() {
        let lock = Arc::new(CombiningLock::<Vec<(usize, usize)>, (usize, usize)>::new(Vec::new()));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for i in 0..5_000 {
                        if let Delegated::Entered(mut entered, op) = lock.delegate((thread, i)) {
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
        let mut entered = lock.try_enter().expect("everybody left");
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

    type Log = CombiningLock<Vec<(u8, u8)>, Parcel>;

    /// An operation whose content loom watches, so that handing it over must order the accesses to it.
    struct Parcel(UnsafeCell<(u8, u8)>);

    impl Parcel {
        fn new(op: (u8, u8)) -> Self {
            let parcel = Self(UnsafeCell::new((0, 0)));
            // SAFETY: nobody else has it yet.
            parcel.0.with_mut(|content| unsafe { *content = op });
            parcel
        }

        fn open(self) -> (u8, u8) {
            // SAFETY: we own it, and loom checks that its writing came before.
            self.0.with(|content| unsafe { *content })
        }
    }

    fn issue(lock: &Log, op: (u8, u8)) {
        if let Some(mut entered) = lock.try_enter() {
            entered.with(|log| log.push(op));
            entered.leave(|log, op| log.push(op.open()));
        } else if let Delegated::Entered(mut entered, op) = lock.delegate(Parcel::new(op)) {
            entered.with(|log| log.push(op.open()));
            entered.leave(|log, op| log.push(op.open()));
        }
    }

    /// Each thread's operations apply once, in its order, and all have applied when everybody has returned.
    #[test]
    fn publish_order_is_total_and_keeps_each_threads_order() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let lock = Arc::new(Log::new(Vec::new()));
            let threads: Vec<_> = (1..=2)
                .map(|thread| {
                    let lock = lock.clone();
                    loom::thread::spawn(move || {
                        issue(&lock, (thread, 0));
                        issue(&lock, (thread, 1));
                    })
                })
                .collect();
            issue(&lock, (0, 0));
            for thread in threads {
                thread.join().expect("no thread panics");
            }
            let mut entered = lock.try_enter().expect("everybody left");
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

    /// A life of a channel: members so far, each by the number of its thread.
    struct Life {
        number: usize,
        lock: CombiningLock<Members, Change>,
    }

    #[derive(Default)]
    struct Members {
        present: Vec<u8>,
        deserted: bool,
    }

    #[derive(Copy, Clone)]
    enum Change {
        Joins(u8),
        Leaves(u8),
    }

    impl Members {
        fn apply(&mut self, change: Change) {
            match change {
                Change::Joins(member) => {
                    assert!(!self.present.contains(&member));
                    self.present.push(member);
                    self.deserted = false;
                }
                Change::Leaves(member) => {
                    assert!(self.present.contains(&member), "nobody leaves a life it has not joined");
                    self.present.retain(|&other| other != member);
                    self.deserted = self.present.is_empty();
                }
            }
        }
    }

    /// Stands for the channel table with one name in it. The lock orders as the real one's atomic accesses do.
    #[derive(Default)]
    struct Table {
        current: Option<Arc<Life>>,
        lives: usize,
    }

    type Shared = Arc<loom::sync::Mutex<Table>>;

    fn find_or_create(table: &Shared) -> Arc<Life> {
        let mut table = table.lock().expect("no model panics while holding it");
        if let Some(life) = &table.current {
            return life.clone();
        }
        table.lives += 1;
        let life = Arc::new(Life { number: table.lives, lock: CombiningLock::new(Members::default()) });
        table.current = Some(life.clone());
        life
    }

    fn remove(table: &Shared, life: &Arc<Life>) {
        let mut table = table.lock().expect("no model panics while holding it");
        if table.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, life)) {
            table.current = None;
        }
    }

    /// As `Engine::submit` does it. Returns false if the life is over.
    fn change(table: &Shared, life: &Arc<Life>, change: Change) -> bool {
        let (mut entered, change) = match life.lock.try_enter() {
            Some(entered) => (entered, change),
            None => match life.lock.delegate(change) {
                Delegated::Entered(entered, change) => (entered, change),
                Delegated::Left => return true,
                Delegated::Closed => return false,
            },
        };
        entered.with(|members| members.apply(change));
        if entered.leave_or_close(Members::apply, |members| members.deserted) {
            remove(table, life);
        }
        true
    }

    /// As `Engine::join` does it.
    fn join(table: &Shared, member: u8) -> Arc<Life> {
        loop {
            let life = find_or_create(table);
            if change(table, &life, Change::Joins(member)) {
                return life;
            }
            remove(table, &life);
        }
    }

    fn leave(table: &Shared, life: &Arc<Life>, member: u8) {
        assert!(change(table, life, Change::Leaves(member)), "a life does not end under its member");
    }

    /// One thread's member leaves, and a second one's joins and leaves, while a third one's joins to stay: it ends up
    /// in the life that the table shows, alone, and that life is open.
    #[test]
    fn a_join_is_never_lost_to_a_channel_that_closes() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let table = Shared::default();
            let first = join(&table, 0);
            let second = {
                let table = table.clone();
                loom::thread::spawn(move || {
                    let life = join(&table, 1);
                    leave(&table, &life, 1);
                })
            };
            let third = {
                let table = table.clone();
                loom::thread::spawn(move || join(&table, 2))
            };
            leave(&table, &first, 0);
            second.join().expect("no thread panics");
            let life = third.join().expect("no thread panics");
            let current = find_or_create(&table);
            assert_eq!(current.number, life.number, "the table shows the life that has the member");
            let mut entered =
                life.lock.try_enter().expect("a life with a member is open, and nobody is inside");
            entered.with(|members| assert_eq!(members.present, [2]));
            entered.leave(|_, _| unreachable!("nothing was delegated"));
        });
    }

    /// When everybody has left, nothing remains in the table, and nobody was ever in two lives.
    #[test]
    fn a_channel_that_everybody_left_is_gone() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let table = Shared::default();
            let threads: Vec<_> = (0..2)
                .map(|member| {
                    let table = table.clone();
                    loom::thread::spawn(move || {
                        let life = join(&table, member);
                        leave(&table, &life, member);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("no thread panics");
            }
            assert!(table.lock().expect("no model panicked").current.is_none());
        });
    }
}
