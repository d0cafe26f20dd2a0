//! One order for all: every subscriber of a channel must see its publications in the same order, whoever
//! published them. The [`crate::ledger`] cannot see that, since it looks at one publisher at a time.
//!
//! The server numbers the publications of a channel. For each subscriber the numbers must ascend, and a
//! number must stand for the same message with all of them. Where they are said to be contiguous, a number
//! that a subscriber never sees is a hole. One worker's subscribers are compared with each other.

/// Numbers remembered for each channel. Two subscribers further apart than this are not compared.
const REMEMBERED: usize = 1024;

/// What one worker's subscribers saw.
#[derive(Debug)]
pub(crate) struct Order {
    /// The last number each subscriber saw; they begin with 1.
    last: Vec<u64>,
    /// Which message a number stands for, by channel and low bits of the number. Empty if nobody asks.
    seen: Vec<Seen>,
    /// Numbers that each subscriber passed over, so far.
    holes: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    number: u64,
    message: u64,
}

impl Order {
    /// `channels` is 0 if subscribers are not to be compared with each other: with one publisher in each
    /// channel the ledger sees all there is to see.
    pub(crate) fn new(subscribers: usize, channels: usize) -> Self {
        Self {
            last: vec![0; subscribers],
            seen: vec![Seen::default(); channels * REMEMBERED],
            holes: vec![0; subscribers],
        }
    }

    /// Numbers that a subscriber passed over and that have not come since.
    pub(crate) fn holes(&self, subscriber: usize) -> u64 {
        u64::from(self.holes[subscriber])
    }

    /// The last number a subscriber saw; 0 if there was none.
    pub(crate) fn last(&self, subscriber: usize) -> u64 {
        self.last[subscriber]
    }

    /// A subscriber goes on behind this number; behind whatever comes next if it is 0.
    pub(crate) fn go_on(&mut self, subscriber: usize, number: u64) {
        self.last[subscriber] = number;
    }

    /// A subscriber of a channel saw the message under this number, for the first time. Says whether that is
    /// in order.
    #[inline]
    pub(crate) fn observe(
        &mut self,
        subscriber: usize,
        channel: usize,
        number: u64,
        message: (u32, u32),
    ) -> bool {
        let last = &mut self.last[subscriber];
        let ascends = number > *last;
        if number != *last + 1 {
            // Before the first one there may have been others, and one that comes late fills its hole.
            let skipped = if *last == 0 { 0 } else { number.saturating_sub(*last + 1) };
            let holes = &mut self.holes[subscriber];
            *holes = holes.saturating_add(u32::try_from(skipped).unwrap_or(u32::MAX));
            *holes = holes.saturating_sub(u32::from(number < *last));
        }
        *last = number.max(*last);
        if self.seen.is_empty() {
            return ascends;
        }
        let message = u64::from(message.0) << 32 | u64::from(message.1);
        let seen = &mut self.seen[channel * REMEMBERED + number as usize % REMEMBERED];
        if seen.number < number {
            *seen = Seen { number, message };
        }
        ascends && (seen.number != number || seen.message == message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_must_ascend_and_be_the_same_for_all() {
        let mut order = Order::new(3, 2);
        for subscriber in [0, 1] {
            assert!(order.observe(subscriber, 0, 1, (0, 0)));
            assert!(order.observe(subscriber, 0, 2, (1, 0)));
        }
        assert!(order.observe(2, 1, 1, (9, 9)), "another channel");
        assert!(order.observe(0, 0, 5, (0, 1)), "with a gap");
        assert!(!order.observe(0, 0, 4, (1, 1)), "backwards");
        assert!(!order.observe(0, 0, 5, (0, 1)), "again");
        assert!(!order.observe(1, 0, 5, (1, 1)), "another message under the same number");
    }
    #[test]
    fn hole_is_a_number_that_was_passed_over_and_never_came() {
        let mut order = Order::new(1, 0);
        for (number, holes) in [(7, 0), (8, 0), (11, 2), (9, 1), (12, 1), (13, 1), (10, 0), (15, 1)] {
            order.observe(0, 0, number, (0, 0));
            assert_eq!(order.holes(0), holes, "after {number}");
        }
    }
}
