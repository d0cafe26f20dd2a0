//! The combining lock that gives each channel one total order without ever blocking a publisher.
//!
//! Algorithm: Oyama, Taura and Yonezawa, "Executing Parallel Programs with Synchronization Bottlenecks
//! Efficiently" (1999). One word is lock and queue at once: it is free, or taken, or taken with a stack of
//! operations that other threads left for the holder. Whoever finds it free enters and works on the state
//! directly. Whoever finds it taken pushes its operation and walks away; the holder applies what was left,
//! oldest first, before it lets go.
//!
//! ```text
//!   FREE ──enter──▶ TAKEN ──delegate──▶ op2 ─▶ op1 ─▶ TAKEN
//!    ▲                │ ▲                     │
//!    ├──leave (CAS)───┤ └──── swap, reverse, apply op1, op2
//!    │                └──leave or close (CAS)──▶ CLOSED, for ever
//! ```
//!
//! A holder applies as many operations as its budget allows. If more were delegated it keeps them, stays
//! inside as [`Kept`] while it does other work, and goes on later: so the operations of other threads do not
//! hold it up.
//!
//! Closing is our addition: it happens in the exchange that would otherwise free the word, so an operation
//! that was accepted is always applied, and whoever comes later learns at once that it must go elsewhere.
//!
//! CombiningLock: operations of one thread apply in the order it issued them, because it can only enter when
//! everything it delegated before has been applied (the word is free only when the stack is empty).

#![allow(unsafe_code, reason = "the state is handed to one thread at a time by the protocol below")]

use std::{ptr, sync::Arc};

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

// SAFETY: `state` is only reached through `Entered`, of which at most one exists at a time (see `try_enter`),
// so sharing an `CombiningLock` moves `S` and `Op` between threads but never shares them.
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
        // Acquire: pairs with the Release in `combine`, so we see the state as the last holder left it.
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
            // AcqRel: Release publishes the node to the holder's swap in `combine`; Acquire pairs with the
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
        // Only a holder that panicked leaves nodes behind; nobody else can be inside, for we have `&mut
        // self`.
        let mut node = self.head.load(Ordering::Relaxed);
        while !node.is_null() && node != taken() && node != closed() {
            // SAFETY: the chain holds nodes from `Box::into_raw`, each once, and nobody else can reach them.
            node = unsafe { Box::from_raw(node) }.next;
        }
    }
}

/// Being inside: exclusive use of the state. End it with [`Entered::leave`]; merely dropping it leaves the
/// order taken for ever, which only a panic may do.
#[must_use]
pub struct Entered<'a, S, Op> {
    lock: &'a CombiningLock<S, Op>,
}

impl<'a, S, Op> Entered<'a, S, Op> {
    /// Works on the state.
    #[inline(always)]
    pub fn with<R>(&mut self, work: impl FnOnce(&mut S) -> R) -> R {
        // SAFETY: at most one `Entered` exists, since it is made only by moving the word from FREE to TAKEN
        // and the word becomes FREE only in `combine`, which consumes it; `&mut self` keeps this borrow
        // unique.
        with_mut(&self.lock.state, |state| work(unsafe { &mut *state }))
    }

    /// Applies delegated operations, oldest first, each of which takes one from `budget`. Releases the lock
    /// when none is left. If the state `is_over` then, the lock closes instead: nobody enters it, and it
    /// takes no more operations.
    #[inline(always)]
    pub fn leave(
        self,
        budget: &mut usize,
        apply: impl FnMut(&mut S, Op),
        is_over: impl FnMut(&S) -> bool,
    ) -> Left<'a, S, Op> {
        self.combine(Chain::empty(), budget, apply, is_over)
    }

    #[inline(always)]
    fn combine(
        mut self,
        mut rest: Chain<Op>,
        budget: &mut usize,
        mut apply: impl FnMut(&mut S, Op),
        mut is_over: impl FnMut(&S) -> bool,
    ) -> Left<'a, S, Op> {
        loop {
            while !rest.is_empty() {
                if *budget == 0 {
                    return Left::Unfinished(Unfinished { entered: self, rest });
                }
                *budget -= 1;
                if let Some(op) = rest.pop() {
                    self.with(|state| apply(state, op));
                }
            }
            let over = self.with(|state| is_over(state));
            let next = if over { closed() } else { ptr::null_mut() };
            preemption_point();
            // Release: hands the state to the next one to enter.
            let left = self.lock.head.compare_exchange(taken(), next, Ordering::Release, Ordering::Relaxed);
            if left.is_ok() {
                return if over { Left::Closed } else { Left::Open };
            }
            // Acquire: pairs with the Release in `delegate`, so the nodes' contents are visible.
            let newest = self.lock.head.swap(taken(), Ordering::Acquire);
            // SAFETY: the swap made the whole chain ours, and each is taken over once.
            rest = unsafe { Chain::oldest_first(newest) };
        }
    }
}

/// How a holder has left.
pub enum Left<'a, S, Op> {
    /// The lock is free.
    Open,
    /// The lock is closed.
    Closed,
    /// The budget is used up, operations are left, and the holder is still inside.
    Unfinished(Unfinished<'a, S, Op>),
}

/// Being inside with operations to apply.
#[must_use]
pub struct Unfinished<'a, S, Op> {
    entered: Entered<'a, S, Op>,
    rest: Chain<Op>,
}

impl<S, Op> Unfinished<'_, S, Op> {
    /// Stays inside, for a later [`Kept::go_on`]. `owner` holds the lock in itself, not behind a pointer.
    pub(crate) fn keep<T>(self, owner: Arc<T>) -> Kept<T, S, Op> {
        let lock = ptr::from_ref(self.entered.lock);
        let within = Arc::as_ptr(&owner).addr()..Arc::as_ptr(&owner).addr() + size_of::<T>();
        assert!(within.contains(&lock.addr()), "the lock is its owner's");
        Kept { owner, lock, rest: self.rest }
    }
}

/// Being inside the lock of a shared `owner`, with operations to apply. Dropping it leaves the lock taken for
/// ever.
#[must_use]
pub struct Kept<T, S, Op> {
    owner: Arc<T>,
    lock: *const CombiningLock<S, Op>,
    rest: Chain<Op>,
}

// SAFETY: it stands for being inside, which moves `S` and `Op` to another thread but never shares them.
unsafe impl<T: Send + Sync, S: Send, Op: Send> Send for Kept<T, S, Op> {}

impl<T, S, Op> Kept<T, S, Op> {
    /// Whose lock it is.
    pub fn owner(&self) -> &Arc<T> {
        &self.owner
    }

    /// Goes on as [`Entered::leave`] does. `None`: the lock is closed or free, as `on_closed` was told.
    pub fn go_on(
        self,
        budget: &mut usize,
        apply: impl FnMut(&mut S, Op),
        is_over: impl FnMut(&S) -> bool,
        on_closed: impl FnOnce(&Arc<T>),
    ) -> Option<Self> {
        let Self { owner, lock, rest } = self;
        // SAFETY: `keep` saw that the lock lies in what `owner` holds, which neither moves nor goes while we
        // have it.
        let entered = Entered { lock: unsafe { &*lock } };
        match entered.combine(rest, budget, apply, is_over) {
            Left::Open => None,
            Left::Closed => {
                on_closed(&owner);
                None
            }
            Left::Unfinished(Unfinished { rest, .. }) => Some(Self { owner, lock, rest }),
        }
    }
}

/// Delegated operations that belong to the holder, oldest first.
struct Chain<Op> {
    /// The oldest node, or TAKEN.
    oldest: *mut Node<Op>,
}

impl<Op> Chain<Op> {
    fn empty() -> Self {
        Self { oldest: taken() }
    }

    /// Takes over a chain that begins with the newest node and ends in TAKEN.
    ///
    /// # Safety
    ///
    /// Its nodes come from `Box::into_raw`, and nobody else reaches them.
    unsafe fn oldest_first(mut node: *mut Node<Op>) -> Self {
        let mut reversed = taken();
        while node != taken() {
            // SAFETY: the caller owns the chain, and every link before the sentinel is a live node.
            let next = unsafe { std::mem::replace(&mut (*node).next, reversed) };
            reversed = node;
            node = next;
        }
        Self { oldest: reversed }
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.oldest == taken()
    }

    fn pop(&mut self) -> Option<Op> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: every node of the chain is live and ours, and leaves the chain here.
        let node = unsafe { Box::from_raw(self.oldest) };
        self.oldest = node.next;
        Some(node.op)
    }
}

impl<Op> Drop for Chain<Op> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Leaves with every delegated operation applied.
    fn leave<S, Op>(entered: Entered<'_, S, Op>, apply: impl FnMut(&mut S, Op)) {
        assert!(matches!(entered.leave(&mut usize::MAX.clone(), apply, |_| false), Left::Open));
    }

    /// The same, but the lock closes if the state `is_over`. Returns whether it does.
    fn leave_or_close<S, Op>(
        entered: Entered<'_, S, Op>,
        apply: impl FnMut(&mut S, Op),
        is_over: impl FnMut(&S) -> bool,
    ) -> bool {
        matches!(entered.leave(&mut usize::MAX.clone(), apply, is_over), Left::Closed)
    }

    #[test]
    fn an_operation_left_by_another_is_applied_before_leaving() {
        let lock = CombiningLock::<Vec<u32>, u32>::new(Vec::new());
        let mut entered = lock.try_enter().expect("it is free");
        assert!(lock.try_enter().is_none());
        assert!(matches!(lock.delegate(2), Delegated::Left));
        assert!(matches!(lock.delegate(3), Delegated::Left));
        entered.with(|list| list.push(1));
        leave(entered, |list, op| list.push(op));
        let mut entered = lock.try_enter().expect("everybody left");
        entered.with(|list| assert_eq!(*list, [1, 2, 3]));
        leave(entered, |_, _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn delegating_to_a_free_order_enters_it() {
        let lock = CombiningLock::<(), u32>::new(());
        let Delegated::Entered(entered, op) = lock.delegate(9) else { panic!("nobody is inside") };
        assert_eq!(op, 9);
        leave(entered, |(), _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn a_closed_order_takes_nothing_more() {
        let lock = CombiningLock::<u32, u32>::new(0);
        let entered = lock.try_enter().expect("it is free");
        assert!(leave_or_close(entered, |_, _| unreachable!("nothing was delegated"), |_| true));
        assert!(lock.try_enter().is_none());
        assert!(matches!(lock.delegate(1), Delegated::Closed));
    }

    #[test]
    fn an_operation_that_was_accepted_is_applied_before_closing_and_may_prevent_it() {
        let lock = CombiningLock::<u32, u32>::new(0);
        let entered = lock.try_enter().expect("it is free");
        assert!(matches!(lock.delegate(5), Delegated::Left));
        assert!(!leave_or_close(entered, |sum, op| *sum += op, |sum| *sum == 0));
        let mut entered = lock.try_enter().expect("it is not closed");
        assert_eq!(entered.with(|sum| *sum), 5);
        assert!(leave_or_close(entered, |_, _| unreachable!("nothing was delegated"), |_| true));
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
                            leave(entered, |list, op| list.push(op));
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
        leave(entered, |_, _| ());
    }

    #[test]
    fn a_holder_whose_budget_is_used_up_stays_inside_and_goes_on_later() {
        let lock = Arc::new(CombiningLock::<Vec<u32>, u32>::new(Vec::new()));
        let entered = lock.try_enter().expect("it is free");
        (0..5).for_each(|op| assert!(matches!(lock.delegate(op), Delegated::Left)));
        let mut budget = 2;
        let Left::Unfinished(rest) = entered.leave(&mut budget, Vec::push, |_| false) else {
            panic!("three are left")
        };
        let kept = rest.keep(lock.clone());
        assert_eq!(budget, 0);
        assert!(lock.try_enter().is_none(), "it is still taken");
        assert!(matches!(lock.delegate(5), Delegated::Left));
        let kept = kept.go_on(&mut 3, Vec::push, |_| false, |_| ()).expect("one is left");
        assert!(kept.go_on(&mut 1, Vec::push, |_| false, |_| ()).is_none());
        let mut entered = lock.try_enter().expect("it is free again");
        entered.with(|list| assert_eq!(*list, [0, 1, 2, 3, 4, 5]));
        leave(entered, |_, _| unreachable!("nothing was delegated"));
    }

    #[test]
    fn operations_that_a_holder_keeps_are_dropped_with_it() {
        let counted = Arc::new(());
        let lock = Arc::new(CombiningLock::<(), Arc<()>>::new(()));
        let entered = lock.try_enter().expect("it is free");
        assert!(matches!(lock.delegate(counted.clone()), Delegated::Left));
        let Left::Unfinished(rest) = entered.leave(&mut 0, |(), _| (), |()| false) else {
            panic!("one is left")
        };
        drop(rest.keep(lock.clone()));
        assert_eq!(Arc::strong_count(&counted), 1);
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
            leave(entered);
        } else if let Delegated::Entered(mut entered, op) = lock.delegate(Parcel::new(op)) {
            entered.with(|log| log.push(op.open()));
            leave(entered);
        }
    }

    /// One operation of thread 0 and two of threads 1 and 2 have applied, in each thread's order.
    fn check_log(lock: &Log) {
        let mut entered = lock.try_enter().expect("everybody left");
        entered.with(|log| {
            assert_eq!(log.len(), 5);
            for thread in 0..=2 {
                let own: Vec<u8> = log.iter().filter(|op| op.0 == thread).map(|op| op.1).collect();
                assert!(own.is_sorted() && own.len() == if thread == 0 { 1 } else { 2 });
            }
        });
        leave(entered);
    }

    fn leave(entered: Entered<'_, Vec<(u8, u8)>, Parcel>) {
        let apply = |log: &mut Vec<(u8, u8)>, op: Parcel| log.push(op.open());
        assert!(matches!(entered.leave(&mut usize::MAX.clone(), apply, |_| false), Left::Open));
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
            check_log(&lock);
        });
    }

    /// A holder whose budget is one operation stays inside and goes on, while two threads leave it more:
    /// everything applies once, in each thread's order, and the lock is free at the end.
    #[test]
    fn a_holder_that_stays_inside_applies_everything_in_order() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let lock = std::sync::Arc::new(Log::new(Vec::new()));
            let threads: Vec<_> = (1..=2)
                .map(|thread| {
                    let lock = lock.clone();
                    loom::thread::spawn(move || {
                        issue_within(&lock, (thread, 0), 1);
                        issue_within(&lock, (thread, 1), 1);
                    })
                })
                .collect();
            issue_within(&lock, (0, 0), 0);
            for thread in threads {
                thread.join().expect("no thread panics");
            }
            check_log(&lock);
        });
    }

    /// As [`issue`], by a thread that applies so many operations of others, and one in each turn after that.
    fn issue_within(lock: &std::sync::Arc<Log>, op: (u8, u8), mut budget: usize) {
        let apply = |log: &mut Vec<(u8, u8)>, op: Parcel| log.push(op.open());
        let mut entered = match lock.try_enter() {
            Some(entered) => entered,
            None => match lock.delegate(Parcel::new(op)) {
                Delegated::Entered(entered, _) => entered,
                Delegated::Left => return,
                Delegated::Closed => unreachable!("it never closes"),
            },
        };
        entered.with(|log| log.push(op));
        let Left::Unfinished(rest) = entered.leave(&mut budget, apply, |_| false) else { return };
        let mut kept = Some(rest.keep(lock.clone()));
        while let Some(rest) = kept {
            kept = rest.go_on(&mut 1, apply, |_| false, |_| unreachable!("it never closes"));
        }
    }
}
