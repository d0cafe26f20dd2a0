//! Values in numbered slots, in chunks that never move.
//!
//! A vector that doubles copies everything and leaves its old memory behind as garbage that the allocator may
//! keep: with 15,000 connections that garbage came to 200 bytes for each. Chunks of 256 slots grow without a
//! copy, and a value's slot is two loads away.

use std::{
    marker::PhantomData,
    ops::{Index, IndexMut},
};

/// Slots in a chunk.
const CHUNK: usize = 256;

/// The number of a slot, as a type of its own for each kind of value.
pub trait Key: Copy {
    /// The key of a slot.
    fn from_slot(slot: u32) -> Self;

    /// The slot.
    fn slot(self) -> u32;
}

impl Key for u32 {
    fn from_slot(slot: u32) -> Self {
        slot
    }

    fn slot(self) -> u32 {
        self
    }
}

/// Values of type `T`, each in a slot that a `K` names. New values fill the lowest chunk with a vacant slot.
/// An empty chunk gives its memory back, except for one chunk that is kept.
pub struct Slots<T, K = u32> {
    chunks: Vec<Chunk<T>>,
    keys: PhantomData<fn(K)>,
    /// All chunks before this one are full.
    first_open: usize,
    /// An empty chunk that keeps its memory, so that a single value that comes and goes does not allocate a
    /// chunk each time.
    spare: Option<usize>,
    len: usize,
    /// The number of chunks that have memory.
    held: usize,
}

struct Chunk<T> {
    /// None yet, or [`CHUNK`] slots.
    slots: Box<[Slot<T>]>,
    used: u16,
    /// The first vacant slot, or [`CHUNK`] if none is.
    vacant: u16,
}

enum Slot<T> {
    /// The next vacant slot of the chunk.
    Vacant(u16),
    Occupied(T),
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self { slots: Box::default(), used: 0, vacant: 0 }
    }

    fn is_full(&self) -> bool {
        usize::from(self.vacant) == CHUNK
    }

    fn insert(&mut self, value: T) {
        if self.slots.is_empty() {
            self.slots = (1..=CHUNK as u16).map(Slot::Vacant).collect();
        }
        let place = &mut self.slots[usize::from(self.vacant)];
        let Slot::Vacant(next) = std::mem::replace(place, Slot::Occupied(value)) else {
            unreachable!("the vacant list holds vacant slots");
        };
        self.vacant = next;
        self.used += 1;
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let place = self.slots.get_mut(at).filter(|place| matches!(place, Slot::Occupied(_)))?;
        let removed = std::mem::replace(place, Slot::Vacant(self.vacant));
        self.vacant = at as u16;
        self.used -= 1;
        match removed {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }
}

impl<T, K> Default for Slots<T, K> {
    fn default() -> Self {
        Self { chunks: Vec::new(), keys: PhantomData, first_open: 0, spare: None, len: 0, held: 0 }
    }
}

impl<T, K: Key> Slots<T, K> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of all chunks.
    pub fn bytes(&self) -> usize {
        self.held * CHUNK * size_of::<Slot<T>>() + self.chunks.capacity() * size_of::<Chunk<T>>()
    }

    /// The slot that the next value goes to.
    pub fn next_slot(&self) -> K {
        let vacant = self.chunks.get(self.first_open).map_or(0, |chunk| usize::from(chunk.vacant));
        K::from_slot(u32::try_from(self.first_open * CHUNK + vacant).expect("slots are 32 bits"))
    }

    /// Puts a value into [`Slots::next_slot`].
    pub fn insert(&mut self, value: T) -> K {
        let slot = self.next_slot();
        if self.first_open == self.chunks.len() {
            self.chunks.push(Chunk::new());
        }
        self.spare = self.spare.filter(|&spare| spare != self.first_open);
        self.held += usize::from(self.chunks[self.first_open].slots.is_empty());
        self.chunks[self.first_open].insert(value);
        while self.chunks.get(self.first_open).is_some_and(Chunk::is_full) {
            self.first_open += 1;
        }
        self.len += 1;
        slot
    }

    /// Takes a value out.
    ///
    /// # Panics
    /// If the slot is vacant.
    pub fn remove(&mut self, key: K) -> T {
        let slot = key.slot();
        let (chunk, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        let value = self.chunks[chunk].remove(at).expect("whoever keeps a slot's number keeps its value");
        self.first_open = self.first_open.min(chunk);
        self.len -= 1;
        if self.chunks[chunk].used == 0 {
            match self.spare {
                Some(_) => {
                    self.chunks[chunk] = Chunk::new();
                    self.held -= 1;
                }
                None => self.spare = Some(chunk),
            }
        }
        value
    }

    /// The value in a slot.
    pub fn get(&self, key: K) -> Option<&T> {
        let slot = key.slot();
        match self.chunks.get(slot as usize / CHUNK)?.slots.get(slot as usize % CHUNK)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// The value in a slot.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let slot = key.slot();
        match self.chunks.get_mut(slot as usize / CHUNK)?.slots.get_mut(slot as usize % CHUNK)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// Occupied slots, in order.
    pub fn occupied(&self) -> impl Iterator<Item = K> + '_ {
        self.chunks.iter().zip((0..).step_by(CHUNK)).flat_map(|(chunk, first)| {
            let places = (first..).zip(chunk.slots.iter());
            places.filter(|(_, place)| matches!(place, Slot::Occupied(_))).map(|(slot, _)| K::from_slot(slot))
        })
    }
}

impl<T, K: Key> Index<K> for Slots<T, K> {
    type Output = T;

    #[inline]
    fn index(&self, key: K) -> &T {
        self.get(key).expect("whoever keeps a slot's number keeps its value")
    }
}

impl<T, K: Key> IndexMut<K> for Slots<T, K> {
    #[inline]
    fn index_mut(&mut self, key: K) -> &mut T {
        self.get_mut(key).expect("whoever keeps a slot's number keeps its value")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any sequence of insertions and removals, against an ordered map.
        #[test]
        fn behaves_like_a_map(operations in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..2000)) {
            let mut slots = Slots::<usize>::default();
            let mut model = BTreeMap::new();
            for (step, (insert, index)) in operations.into_iter().enumerate() {
                if insert || model.is_empty() {
                    let announced = slots.next_slot();
                    let slot = slots.insert(step);
                    prop_assert_eq!(slot, announced);
                    prop_assert!(model.insert(slot, step).is_none());
                } else {
                    let (&slot, &value) = model.iter().nth(index.index(model.len())).expect("it is not empty");
                    model.remove(&slot);
                    prop_assert_eq!(slots.remove(slot), value);
                    prop_assert!(slots.get(slot).is_none());
                }
                prop_assert_eq!(slots.len(), model.len());
                let memory = slots.chunks.iter().filter(|chunk| !chunk.slots.is_empty()).count();
                prop_assert!(memory <= model.len() + 1);
                prop_assert_eq!(memory, slots.held);
            }
            prop_assert_eq!(slots.occupied().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            for (&slot, &value) in &model {
                prop_assert_eq!(slots[slot], value);
            }
        }
    }
}
