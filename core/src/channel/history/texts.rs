//! The texts of a channel's memory, one after another in blocks of bytes.
//!
//! ```text
//!   ┌───────────────┐ ┌───────────────┐ ┌───────────────┐
//!   │ ··· ··· d  e  │ │ f   g   h   i │ │ j  k          │
//!   └───────────────┘ └───────────────┘ └───────────────┘
//!    a, b, c are gone; the block                  └ the next text
//!    goes when d and e are, too
//! ```
//!
//! What is written later goes later, with few exceptions. So a text costs no allocation of its own, and
//! memory is given back block by block, without anything being moved. A block is about an eighth of all,
//! which bounds what is lost in the first and the last one. One that went is written again: a memory that
//! forgets as much as it learns asks nothing of the allocator.
//!
//! Knows nothing of messages. `blocks[n]` has the number `first + n`; only the last one is written to; the
//! first one has a text that is of use.

use std::collections::VecDeque;

use super::{growth_of, push_back, shrink_if_sparse};

/// The longest text that is put into a block.
pub(super) const TEXT_BYTES: usize = 2 << 10;

/// How many bytes a block has at least, unless a memory is that small, and at most.
const BLOCK_BYTES: (usize, usize) = (128, 16 << 10);

/// What part of all a block is.
const PART: usize = 8;

const _: () = assert!(TEXT_BYTES <= BLOCK_BYTES.1 && BLOCK_BYTES.1 <= u16::MAX as usize);

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Texts {
    blocks: VecDeque<Block>,
    first: u32,
    /// What the last block has room for.
    room: usize,
    /// The room of a block that went, if any.
    spare: Vec<u8>,
    /// The capacity of all blocks and of the spare one.
    capacity: usize,
}

#[derive(Debug)]
struct Block {
    /// Never longer than its first capacity.
    bytes: Vec<u8>,
    /// Texts that are not released.
    live: u32,
}

/// Where a text is.
#[derive(Copy, Clone, Debug)]
pub(super) struct Place {
    block: u32,
    start: u16,
    len: u16,
}

impl Place {
    pub(super) fn len(self) -> usize {
        self.len.into()
    }
}

impl Texts {
    /// What they take, with room that is not used.
    pub(super) fn bytes(&self) -> usize {
        self.capacity + self.blocks.capacity() * size_of::<Block>()
    }

    /// How much of that [`Texts::shrink`] gives back.
    pub(super) fn slack(&self) -> usize {
        let unused = self.blocks.capacity() - self.blocks.len();
        unused * size_of::<Block>() + self.spare.capacity()
    }

    /// Gives back what is kept for later texts.
    pub(super) fn shrink(&mut self) {
        self.blocks.shrink_to_fit();
        self.capacity -= std::mem::take(&mut self.spare).capacity();
    }

    /// How much more they take after [`Texts::push`] of so many bytes.
    pub(super) fn growth(&self, len: usize) -> usize {
        if len <= self.room {
            return 0;
        }
        let size = self.block_size(len);
        let block = if self.suits(len, size) { 0 } else { size.saturating_sub(self.spare.capacity()) };
        block + growth_of(&self.blocks, usize::MAX) * size_of::<Block>()
    }

    /// Keeps the text `head` and `tail`, of at most [`TEXT_BYTES`].
    #[inline]
    pub(super) fn push(&mut self, head: &[u8], tail: &[u8]) -> Place {
        let len = head.len() + tail.len();
        if len > self.room {
            self.add_block(len);
        }
        self.room -= len;
        let last = self.blocks.len() - 1;
        let block = &mut self.blocks[last];
        let start = block.bytes.len();
        block.bytes.extend_from_slice(head);
        block.bytes.extend_from_slice(tail);
        block.live += 1;
        let short = |number: usize| u16::try_from(number).expect("a block is short");
        Place { block: self.first.wrapping_add(last as u32), start: short(start), len: short(len) }
    }

    /// The text at a place.
    pub(super) fn get(&self, place: Place) -> &[u8] {
        let start = usize::from(place.start);
        &self.blocks[self.index(place)].bytes[start..start + place.len()]
    }

    /// Nobody asks for this text any more.
    #[inline]
    pub(super) fn release(&mut self, place: Place) {
        let index = self.index(place);
        let block = &mut self.blocks[index];
        block.live -= 1;
        if block.live == 0 {
            self.end_block(index);
        }
    }

    /// No text of this block is of use any more.
    fn end_block(&mut self, index: usize) {
        if index + 1 == self.blocks.len() {
            self.room = 0;
        }
        if index > 0 {
            // It leaves the queue when it is the first.
            let bytes = std::mem::take(&mut self.blocks[index].bytes);
            return self.retire(bytes);
        }
        while self.blocks.front().is_some_and(|block| block.live == 0)
            && let Some(block) = self.blocks.pop_front()
        {
            self.first = self.first.wrapping_add(1);
            self.retire(block.bytes);
        }
        shrink_if_sparse(&mut self.blocks);
    }

    fn index(&self, place: Place) -> usize {
        place.block.wrapping_sub(self.first) as usize
    }

    /// Of the next block, if a text of `len` is to fit into it.
    fn block_size(&self, len: usize) -> usize {
        let (least, most) = BLOCK_BYTES;
        (self.capacity / PART).clamp(least, most).max(len)
    }

    /// Whether the spare room will do for a block of about `size` that takes a text of `len`.
    fn suits(&self, len: usize, size: usize) -> bool {
        let room = self.spare.capacity();
        room >= len && (size / 2..=size * 2).contains(&room)
    }

    fn add_block(&mut self, len: usize) {
        let size = self.block_size(len);
        if !self.suits(len, size) {
            self.capacity -= self.spare.capacity();
            self.spare = Vec::with_capacity(size);
            self.capacity += self.spare.capacity();
        }
        self.room = self.spare.capacity();
        push_back(&mut self.blocks, usize::MAX, Block { bytes: std::mem::take(&mut self.spare), live: 0 });
    }

    /// Keeps the room of a block for the next one, or gives it back.
    fn retire(&mut self, mut room: Vec<u8>) {
        room.clear();
        // A memory that has become small does not keep the room of a large one.
        if room.capacity() > self.spare.capacity() && room.capacity() <= 2 * self.block_size(0) {
            std::mem::swap(&mut self.spare, &mut room);
        }
        self.capacity -= room.capacity();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Texts {
        /// Checks what the fields promise.
        pub(in super::super) fn assert_sound(&self) {
            let blocks: usize = self.blocks.iter().map(|block| block.bytes.capacity()).sum();
            assert_eq!(self.capacity, blocks + self.spare.capacity());
            assert!(self.spare.is_empty());
            let room = self.blocks.back().map_or(0, |block| block.bytes.capacity() - block.bytes.len());
            assert_eq!(self.room, room);
            assert!(self.blocks.front().is_none_or(|block| block.live > 0), "the first block is of use");
            if self.blocks.is_empty() {
                assert!(self.spare.capacity() <= 2 * TEXT_BYTES, "{}", self.spare.capacity());
            }
        }
    }

    /// Keeps a text of so many times `byte`, and says how much they grew.
    fn push(texts: &mut Texts, byte: u8, len: usize) -> Place {
        let (expected, before) = (texts.growth(len), texts.bytes());
        let (head, tail) = (vec![byte; len / 3], vec![byte; len - len / 3]);
        let place = texts.push(&head, &tail);
        assert!(texts.bytes() <= before + expected, "more than was said");
        place
    }

    #[test]
    fn texts_that_come_and_go_use_the_same_blocks_again() {
        let mut texts = Texts::default();
        let mut places: VecDeque<Place> = (0..100).map(|_| push(&mut texts, 1, 70)).collect();
        for _ in 0..300 {
            texts.release(places.pop_front().expect("there are 100"));
            places.push_back(push(&mut texts, 1, 70));
        }
        let bytes = texts.bytes();
        assert!(bytes < 100 * 70 * 3 / 2, "{bytes}");
        for _ in 0..1000 {
            texts.release(places.pop_front().expect("there are 100"));
            assert_eq!(texts.growth(70), 0);
            places.push_back(push(&mut texts, 1, 70));
            assert_eq!(texts.bytes(), bytes);
        }
        places.drain(..).for_each(|place| texts.release(place));
        texts.shrink();
        assert_eq!(texts.bytes(), 0);
    }

    proptest! {
        /// Each text is found where it was put for as long as it is kept, whichever goes first.
        #[test]
        fn a_text_stays_as_it_is(
            steps in prop::collection::vec((1..400usize, 0..10u8, any::<prop::sample::Index>()), 1..2000),
            kept in 0..60usize,
        ) {
            let (mut texts, mut model) = (Texts::default(), VecDeque::<(Place, u8, usize)>::new());
            for (number, (len, what, which)) in steps.into_iter().enumerate() {
                let len = if what == 0 { len * 5 } else { len };
                let byte = (number % 251) as u8;
                model.push_back((push(&mut texts, byte, len), byte, len));
                while model.len() > kept {
                    let oldest = what != 1;
                    let at = if oldest { 0 } else { which.index(model.len()) };
                    let (place, ..) = model.remove(at).expect("it is there");
                    texts.release(place);
                }
                if what == 2 {
                    let (slack, before) = (texts.slack(), texts.bytes());
                    texts.shrink();
                    prop_assert!(texts.bytes() <= before - slack);
                }
                texts.assert_sound();
                for (place, byte, len) in &model {
                    prop_assert_eq!(texts.get(*place).len(), *len);
                    prop_assert!(texts.get(*place).iter().all(|other| other == byte));
                }
            }
        }
    }
}
