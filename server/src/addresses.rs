//! What each address has used up: connections, handshakes, failed keys. All workers share the table.
//!
//! A lock is taken when a connection or a handshake comes, when a connection ends, and when a key fails;
//! never for a message. The table is divided into shards, each with a lock of its own. An address stands for
//! what one client can choose from: one address of IPv4, or the /64 of an address of IPv6.
//!
//! The table is bounded. An entry without connections is removed once it says nothing any more. If a shard is
//! full of others, further addresses are admitted without an entry, and counted: who has that many addresses
//! is not held up by limits by address.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashMap;

/// Shards of the table, and the most entries of each.
const SHARDS: usize = 16;
const ENTRIES: usize = 4096;

/// How often a shard is searched for entries to remove.
const SWEEP_MS: u64 = 10_000;

/// The limits of one address; 0 is no limit.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct AddressLimits {
    /// Connections at one time.
    pub connections: u32,
    /// WebSocket handshakes and new clients that poll, in a second.
    pub handshakes_per_second: u32,
    /// Keys, tokens and signatures that are wrong, in a minute.
    pub failed_keys_per_minute: u32,
}

/// The addresses that count as one.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub(crate) enum AddressBlock {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl AddressBlock {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// The use of one address.
#[derive(Default)]
struct Entry {
    connections: u32,
    handshakes: Bucket,
    failures: Bucket,
}

impl Entry {
    fn is_idle(&self, now_ms: u64) -> bool {
        self.connections == 0 && self.handshakes.is_full(now_ms) && self.failures.is_full(now_ms)
    }
}

/// An allowance that holds what may happen in one period, and fills evenly (the generic cell rate algorithm,
/// ITU-T I.371). It is stored as the time at which it is full.
#[derive(Default)]
struct Bucket {
    full_at_us: u64,
}

/// How many events an allowance holds, and in how many milliseconds it fills.
#[derive(Copy, Clone)]
struct Rate {
    events: u32,
    period_ms: u64,
}

impl Bucket {
    /// Takes one event, if there is one left.
    fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        let fits = self.has_room(rate, now_ms);
        if fits {
            self.full_at_us = self.full_at_us.max(now_ms * 1000) + rate.cost_us();
        }
        fits
    }

    fn has_room(&mut self, rate: Rate, now_ms: u64) -> bool {
        let (now_us, period_us) = (now_ms * 1000, rate.period_ms * 1000);
        // A clock that was set back must not empty the allowance for long.
        self.full_at_us = self.full_at_us.min(now_us + period_us);
        self.full_at_us.max(now_us) + rate.cost_us() <= now_us + period_us
    }

    fn is_full(&self, now_ms: u64) -> bool {
        self.full_at_us <= now_ms * 1000
    }
}

impl Rate {
    fn cost_us(self) -> u64 {
        self.period_ms * 1000 / u64::from(self.events.max(1))
    }
}

#[derive(Default)]
struct Shard {
    entries: HashMap<AddressBlock, Entry>,
    swept_ms: u64,
}

impl Shard {
    /// The entry of an address; `None` if the shard is full.
    fn entry(&mut self, block: AddressBlock, now_ms: u64) -> Option<&mut Entry> {
        if now_ms.abs_diff(self.swept_ms) >= SWEEP_MS {
            self.swept_ms = now_ms;
            self.entries.retain(|_, entry| !entry.is_idle(now_ms));
            self.entries.shrink_to(self.entries.len() * 2);
        }
        if self.entries.len() >= ENTRIES && !self.entries.contains_key(&block) {
            return None;
        }
        Some(self.entries.entry(block).or_default())
    }
}

/// The use of all addresses.
pub(crate) struct Addresses {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Until when an address may be without failures left, in Unix milliseconds. No lock is taken after that.
    failed_until_ms: AtomicU64,
    /// Times that an address found no room in the table.
    pub(crate) overflows: AtomicU64,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            failed_until_ms: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
        }
    }
}

impl Addresses {
    /// Counts a connection, unless its address has as many as it may. A connection that was counted is given
    /// back by [`Addresses::release`].
    #[must_use]
    pub(crate) fn take_connection(&self, block: AddressBlock, most: u32, now_ms: u64) -> Admission {
        let mut shard = self.shard(block);
        match shard.entry(block, now_ms) {
            None => {
                drop(shard);
                self.overflow();
                Admission::Uncounted
            }
            Some(entry) if entry.connections >= most => Admission::Refused,
            Some(entry) => {
                entry.connections += 1;
                Admission::Counted
            }
        }
    }

    /// Counts a connection less.
    pub(crate) fn release(&self, block: AddressBlock) {
        let mut shard = self.shard(block);
        if let Some(entry) = shard.entries.get_mut(&block) {
            entry.connections = entry.connections.saturating_sub(1);
        }
    }

    /// Whether an address may make one more handshake now, which then counts.
    #[must_use]
    pub(crate) fn take_handshake(&self, block: AddressBlock, per_second: u32, now_ms: u64) -> bool {
        let rate = Rate { events: per_second, period_ms: 1000 };
        let taken = self.shard(block).entry(block, now_ms).map(|entry| entry.handshakes.take(rate, now_ms));
        taken.unwrap_or_else(|| {
            self.overflow();
            true
        })
    }

    /// Counts a key, a token or a signature that is wrong.
    pub(crate) fn fail(&self, block: AddressBlock, per_minute: u32, now_ms: u64) {
        let rate = failures(per_minute);
        let mut shard = self.shard(block);
        let Some(entry) = shard.entry(block, now_ms) else {
            drop(shard);
            return self.overflow();
        };
        if !entry.failures.take(rate, now_ms) || !entry.failures.has_room(rate, now_ms) {
            let until_ms = now_ms + rate.cost_us().div_ceil(1000);
            // Relaxed: a worker that reads the time late looks at one key more.
            self.failed_until_ms.fetch_max(until_ms, Ordering::Relaxed);
        }
    }

    /// Whether an address has no failures left. Costs a load unless some address has failed too often lately.
    pub(crate) fn is_blocked(
        &self,
        address: impl FnOnce() -> Option<IpAddr>,
        per_minute: u32,
        now_ms: u64,
    ) -> bool {
        if per_minute == 0 || now_ms >= self.failed_until_ms.load(Ordering::Relaxed) {
            return false;
        }
        let Some(block) = address().map(AddressBlock::of) else { return false };
        let mut shard = self.shard(block);
        let entry = shard.entries.get_mut(&block);
        entry.is_some_and(|entry| !entry.failures.has_room(failures(per_minute), now_ms))
    }

    /// A panic leaves a shard consistent, so a poisoned lock is taken.
    fn shard(&self, block: AddressBlock) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(block) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overflow(&self) {
        self.overflows.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("no test panics").entries.len()).sum()
    }
}

fn failures(per_minute: u32) -> Rate {
    Rate { events: per_minute, period_ms: 60_000 }
}

/// Whether a connection may stay.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Admission {
    /// The connection counts.
    Counted,
    /// The table has no room for the address.
    Uncounted,
    /// The address has as many connections as it may.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_750_000_000_000;

    fn block(text: &str) -> AddressBlock {
        AddressBlock::of(text.parse().expect("it is an address"))
    }

    #[test]
    fn an_address_of_ipv6_stands_for_its_64_and_a_mapped_one_for_ipv4() {
        assert_eq!(block("2001:db8:0:1::1"), block("2001:db8:0:1:ffff::2"));
        assert_ne!(block("2001:db8:0:1::1"), block("2001:db8:0:2::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
        assert_ne!(block("0.0.0.1"), block("::1"));
    }

    #[test]
    fn connections_are_counted_by_address() {
        let (addresses, one, other) = (Addresses::default(), block("192.0.2.1"), block("192.0.2.2"));
        let take = |block| addresses.take_connection(block, 2, NOW);
        assert_eq!(
            [take(one), take(one), take(one)],
            [Admission::Counted, Admission::Counted, Admission::Refused]
        );
        assert_eq!(take(other), Admission::Counted);
        addresses.release(one);
        assert_eq!([take(one), take(one)], [Admission::Counted, Admission::Refused]);
    }

    #[test]
    fn handshakes_come_at_once_and_then_at_the_rate() {
        let (addresses, one) = (Addresses::default(), block("192.0.2.1"));
        let taken = |now_ms, most| (0..most).filter(|_| addresses.take_handshake(one, 10, now_ms)).count();
        assert_eq!(taken(NOW, 50), 10);
        assert_eq!(taken(NOW + 99, 50), 0);
        assert_eq!(taken(NOW + 100, 50), 1);
        assert_eq!(taken(NOW + 60_000, 50), 10);
        assert_eq!(taken(NOW - 3_600_000, 50), 0, "the clock was set back");
        assert_eq!(taken(NOW - 3_600_000 + 1_000, 50), 10);
    }

    #[test]
    fn failures_block_an_address_until_some_time_has_passed() {
        let addresses = Addresses::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let is_blocked = |address, now_ms| addresses.is_blocked(|| Some(address), 60, now_ms);
        for failure in 0..60 {
            assert!(!is_blocked(one, NOW), "{failure}");
            addresses.fail(AddressBlock::of(one), 60, NOW);
        }
        assert!(is_blocked(one, NOW) && is_blocked(one, NOW + 999) && !is_blocked(other, NOW));
        assert!(!is_blocked(one, NOW + 1_000), "one failure a second is allowed again");
        addresses.fail(AddressBlock::of(one), 60, NOW + 1_000);
        assert!(is_blocked(one, NOW + 1_001));
        assert!(!addresses.is_blocked(|| Some(one), 0, NOW), "without a limit nobody is");
        assert!(!addresses.is_blocked(|| None, 60, NOW), "nor is a client without an address");
        let quiet = || panic!("no address is looked up while nobody is blocked");
        assert!(!addresses.is_blocked(quiet, 60, NOW + 120_000));
    }

    #[test]
    fn idle_entries_are_removed_and_the_table_is_bounded() {
        let addresses = Addresses::default();
        let many = |n: u32| AddressBlock::V4(n);
        assert_eq!(addresses.take_connection(many(0), 9, NOW), Admission::Counted);
        for n in 1..200_000 {
            assert!(addresses.take_handshake(many(n), 10, NOW));
        }
        assert_eq!(addresses.len(), SHARDS * ENTRIES);
        assert_eq!(addresses.overflows.load(Ordering::Relaxed), 200_000 - (SHARDS * ENTRIES) as u64);
        for n in 200_000..201_000 {
            assert!(addresses.take_handshake(many(n), 10, NOW + SWEEP_MS));
        }
        assert_eq!(addresses.len(), 1001, "those of the last moment, and the one with a connection");
    }
}
