//! How workers talk: one mailbox per worker, written by any thread, emptied by its owner, with one wake per
//! batch.
//!
//! The depth is bounded by its users: a publisher asks [`Mailbox::is_full`] before it commits an operation,
//! which is at most [`BURST`](crate::limits::BURST) publications, and is refused rather than made to wait.
//! Answers to something the owner itself started are always accepted; there is at most one per waiting
//! session or request.
//!
//! Sleeping: the owner announces that it is about to sleep and looks once more; a producer pushes and then
//! asks whether the owner announced. Each side writes before it reads, with a sequentially consistent fence
//! between (Dekker's pattern), so at least one of them sees the other and no mail waits for a sleeper.

use crate::{
    limits::{MAILBOX_BYTES, MAILBOX_NOTICES},
    schedule::preemption_point,
    sync::{AtomicBool, AtomicUsize, Ordering, Queue, fence},
};

/// A bounded multi-producer, single-consumer queue with a sleeper's flag.
pub struct Mailbox<M> {
    /// Each item with its bytes.
    queue: Queue<(M, usize)>,
    /// At least the number of items in `queue`: raised before a push, lowered after a pop.
    depth: AtomicUsize,
    limit: usize,
    /// Bytes that the items keep alive; counted as `depth` is.
    bytes: AtomicUsize,
    sleeping: AtomicBool,
}

/// What is put into a mailbox.
pub trait Weigh {
    /// Bytes that it keeps alive.
    fn bytes(&self) -> usize;
}

impl<M: Weigh> Mailbox<M> {
    /// An empty mailbox that calls itself full at `limit` items.
    pub fn new(limit: usize) -> Self {
        Self {
            queue: Queue::new(),
            depth: AtomicUsize::new(0),
            limit,
            bytes: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
        }
    }

    /// Puts `mail` in. The producer must afterwards ask [`Mailbox::must_wake`], once per batch.
    pub fn push(&self, mail: M) {
        preemption_point();
        // Relaxed: the count only bounds; the queue itself orders the items.
        self.depth.fetch_add(1, Ordering::Relaxed);
        let bytes = mail.bytes();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.push((mail, bytes));
    }

    /// Takes the oldest mail.
    pub fn pop(&self) -> Option<M> {
        preemption_point();
        let (mail, bytes) = self.queue.pop()?;
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(mail)
    }

    /// Whether nothing is in it. Everything that happened before this call is counted.
    pub fn is_empty(&self) -> bool {
        preemption_point();
        self.depth() == 0
    }

    /// Bytes that the items keep alive, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of items, roughly.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Whether publishers should be refused.
    pub fn is_full(&self) -> bool {
        self.depth() >= self.limit || self.bytes.load(Ordering::Relaxed) >= MAILBOX_BYTES
    }

    /// Whether even those should be refused who cause notices. Messages give way long before.
    pub fn is_saturated(&self) -> bool {
        self.depth() >= self.limit + MAILBOX_NOTICES
    }

    /// The owner is about to sleep. Returns false if mail is there and it must not.
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `must_wake`.
        fence(Ordering::SeqCst);
        if self.is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        false
    }

    /// The owner is up again.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// After a batch of pushes: whether the producer must wake the owner. Of several producers one is told
    /// so.
    pub fn must_wake(&self) -> bool {
        // Pairs with the fence in `fall_asleep`.
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn a_few_large_items_fill_it_too() {
        let mailbox = Mailbox::new(100);
        mailbox.push(MAILBOX_BYTES - 1);
        assert!(!mailbox.is_full());
        mailbox.push(1);
        assert!(mailbox.is_full());
        mailbox.pop();
        assert!(!mailbox.is_full());
    }

    #[test]
    fn it_is_swamped_only_beyond_the_room_for_notices() {
        let mailbox = Mailbox::new(1);
        (0..MAILBOX_NOTICES).for_each(|_| mailbox.push(0));
        assert!(mailbox.is_full() && !mailbox.is_saturated());
        mailbox.push(0);
        assert!(mailbox.is_saturated());
    }

    #[test]
    fn mail_comes_out_in_order_and_is_counted() {
        let mailbox = Mailbox::new(2);
        assert!(mailbox.is_empty());
        mailbox.push(1);
        assert!(!mailbox.is_full());
        mailbox.push(2);
        assert!(mailbox.is_full());
        assert_eq!((mailbox.pop(), mailbox.pop(), mailbox.pop()), (Some(1), Some(2), None));
        assert!(mailbox.is_empty());
    }

    #[test]
    fn one_producer_of_a_batch_is_told_to_wake_the_sleeper() {
        let mailbox = Mailbox::new(8);
        mailbox.push(1);
        assert!(!mailbox.must_wake(), "the owner is up");
        assert!(!mailbox.fall_asleep(), "there is mail");
        mailbox.pop();
        assert!(mailbox.fall_asleep());
        mailbox.push(2);
        mailbox.push(3);
        assert!(mailbox.must_wake());
        assert!(!mailbox.must_wake(), "one wake per batch");
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::{Arc, atomic::AtomicBool};

    use super::*;

    impl Weigh for i32 {
        fn bytes(&self) -> usize {
            0
        }
    }

    /// Whenever the owner sleeps while mail is there, a producer is going to wake it.
    #[test]
    fn no_mail_waits_for_a_sleeper() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let mailbox = Arc::new(Mailbox::new(8));
            let woken = Arc::new(AtomicBool::new(false));
            let producers: Vec<_> = (0..2)
                .map(|i| {
                    let (mailbox, woken) = (mailbox.clone(), woken.clone());
                    loom::thread::spawn(move || {
                        mailbox.push(i);
                        if mailbox.must_wake() {
                            woken.store(true, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let slept = mailbox.fall_asleep();
            for producer in producers {
                producer.join().expect("no producer panics");
            }
            assert!(!slept || woken.load(Ordering::Relaxed), "asleep with mail and nobody to wake it");
            assert!(mailbox.pop().is_some() && mailbox.pop().is_some() && mailbox.is_empty());
        });
    }
}
