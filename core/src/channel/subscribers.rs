//! One worker's members of one channel, as fan-out wants them: slots in a compact array, in the order they
//! joined.
//!
//! `slots[i]` is the session of the member whose join number is `numbers[i]`; `numbers` rises strictly, so a
//! member is found by binary search and a page can continue after any number, even if that member has left.
//! Whoever leaves becomes a tombstone; [`Subscribers::compact`] sweeps them out when they are the majority,
//! so both arrays stay within twice the members and the walk of a fan-out touches 4 bytes for each. 12 bytes
//! per membership.

use crate::id::SessionSlot;

/// Marks the place of a member that left.
pub const TOMBSTONE: SessionSlot = SessionSlot(u32::MAX);

/// Members of a channel on one worker.
#[derive(Default, Debug)]
pub struct Subscribers {
    slots: Vec<SessionSlot>,
    numbers: Vec<u64>,
    live: u32,
    last_number: u64,
}

impl Subscribers {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Their slots in join order, with tombstones.
    pub fn slots(&self) -> &[SessionSlot] {
        &self.slots
    }

    /// Adds a member at the end; returns its join number, from 1.
    pub fn push(&mut self, slot: SessionSlot) -> u64 {
        debug_assert_ne!(slot, TOMBSTONE);
        self.last_number += 1;
        self.slots.push(slot);
        self.numbers.push(self.last_number);
        self.live += 1;
        self.last_number
    }

    /// Where the member with this join number stands.
    pub fn position(&self, number: u64) -> Option<usize> {
        let at = self.numbers.binary_search(&number).ok()?;
        (self.slots[at] != TOMBSTONE).then_some(at)
    }

    /// Takes out the member with this join number; its place stays as a tombstone.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(at) = self.position(number) else { return false };
        self.slots[at] = TOMBSTONE;
        self.live -= 1;
        true
    }

    /// The bytes of the lists.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<SessionSlot>() + self.numbers.capacity() * size_of::<u64>()
    }

    /// Sweeps tombstones out if they are the majority. Positions change, so no fan-out may be under way.
    /// Returns how many bytes that gives back.
    pub fn compact(&mut self) -> usize {
        if self.slots.len() < 8 || self.slots.len() < 2 * self.len() {
            return 0;
        }
        let before = self.bytes();
        let mut kept = 0;
        for at in 0..self.slots.len() {
            if self.slots[at] != TOMBSTONE {
                self.slots[kept] = self.slots[at];
                self.numbers[kept] = self.numbers[at];
                kept += 1;
            }
        }
        self.slots.truncate(kept);
        self.numbers.truncate(kept);
        self.slots.shrink_to(2 * kept);
        self.numbers.shrink_to(2 * kept);
        before - self.bytes()
    }

    /// Members that joined after number `after`, in order: (join number, slot).
    pub fn after(&self, after: u64) -> impl Iterator<Item = (u64, SessionSlot)> + '_ {
        let from = self.numbers.partition_point(|&number| number <= after);
        self.numbers[from..]
            .iter()
            .zip(&self.slots[from..])
            .filter(|(_, slot)| **slot != TOMBSTONE)
            .map(|(&number, &slot)| (number, slot))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_continues_after_a_member_that_left() {
        let mut subscribers = Subscribers::default();
        let numbers: Vec<u64> = (0..10).map(|slot| subscribers.push(SessionSlot(slot))).collect();
        assert!(subscribers.remove(numbers[4]));
        assert!(!subscribers.remove(numbers[4]), "it has left already");
        let rest: Vec<u32> = subscribers.after(numbers[4]).map(|(_, slot)| slot.0).collect();
        assert_eq!(rest, [5, 6, 7, 8, 9]);
        assert_eq!(subscribers.len(), 9);
    }

    proptest! {
        /// Any sequence of joins, leaves and sweeps, against a plain list.
        #[test]
        fn behaves_like_a_plain_list(operations in prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 0..300)) {
            let mut subscribers = Subscribers::default();
            let mut model: Vec<(u64, SessionSlot)> = Vec::new();
            for (step, (operation, index)) in operations.into_iter().enumerate() {
                match operation {
                    0 | 1 => {
                        let slot = u32::try_from(step).expect("it is small");
                        model.push((subscribers.push(SessionSlot(slot)), SessionSlot(slot)));
                    }
                    2 if !model.is_empty() => {
                        let (number, _) = model.remove(index.index(model.len()));
                        prop_assert!(subscribers.remove(number));
                    }
                    _ => {
                        let before = subscribers.bytes();
                        let freed = subscribers.compact();
                        prop_assert_eq!(subscribers.bytes(), before - freed);
                    }
                }
                prop_assert_eq!(subscribers.len(), model.len());
                prop_assert_eq!(subscribers.after(0).collect::<Vec<_>>(), model.clone());
                prop_assert!(subscribers.slots().len() <= (2 * model.len()).max(8) || operation != 3);
            }
        }
    }
}
