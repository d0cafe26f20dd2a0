//! Epochs: what tells one life of a channel's name from another.
//!
//! Members see epochs, so an epoch must tell nothing of the seed that keys the channel table's hash, and
//! nothing of the epochs of other channels. Epoch *n* is SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT
//! 2012), a pseudorandom function, of
//! *n*, under a key of its own.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes epochs. Any thread may ask.
pub(super) struct Epochs {
    key: (u64, u64),
    next: AtomicU64,
}

impl Epochs {
    /// `key` is random, and used for nothing else.
    pub(super) fn new(key: (u64, u64)) -> Self {
        Self { key, next: AtomicU64::new(0) }
    }

    /// An epoch that no other channel has, but for a coincidence of 64 bits.
    pub(super) fn next(&self) -> u64 {
        // Relaxed: only the value counts.
        siphash(self.key, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// SipHash-2-4 of the eight bytes of `message`, little-endian.
fn siphash(key: (u64, u64), message: u64) -> u64 {
    const LENGTH: u64 = 8 << 56;
    let mut state = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    for word in [message, LENGTH] {
        state[3] ^= word;
        (0..2).for_each(|_| round(&mut state));
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// From the reference implementation's vectors: the key 00 01 … 0f and the message 00 01 … 07.
    #[test]
    fn the_function_is_siphash_2_4() {
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(siphash(key, 0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn epochs_of_one_key_have_nothing_in_common() {
        let epochs = Epochs::new((1, 2));
        let made: Vec<u64> = (0..1000).map(|_| epochs.next()).collect();
        for pair in made.windows(2) {
            let differing = (pair[0] ^ pair[1]).count_ones();
            assert!((10..=54).contains(&differing), "{differing} bits");
        }
    }
}
