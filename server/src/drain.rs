//! Leaving: when a drain closes each connection, and when its client comes back. A pure calculation.
//!
//! A server that closes everybody at once is asked for by everybody at once, and so is the server that they
//! come back to. So closes are spread, and each client is told how long to wait, so that the returns are
//! spread at least as widely:
//!
//! ```text
//!   drain begins ├── closes: spread_ms ──┤
//!                  ├── returns, half a second later: the longer of spread_ms and RETURN_WINDOW_MS ──┤
//! ```
//!
//! Both are even by construction: the client of rank r among n closes at the r-th of n parts of the one and
//! comes back at the r-th of n parts of the other. A few clients are not made to wait: neither time is longer
//! than a millisecond for each of them.

/// The least time between a close and the return, for a server that is started anew.
const RETURN_DELAY_MS: u32 = 500;

/// The time over which clients come back, if closes are not spread over more.
const RETURN_WINDOW_MS: u32 = 5_000;

/// When a client's connection is closed, and when the client may come back.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Departure {
    /// From the beginning of the drain.
    pub(crate) close_after_ms: u32,
    /// From the close.
    pub(crate) reconnect_after_ms: u32,
}

/// Over how long the closes of `clients` are spread, if the configuration says `spread_ms`.
pub(crate) fn close_window_ms(clients: usize, spread_ms: u32) -> u32 {
    spread_ms.min(u32::try_from(clients).unwrap_or(u32::MAX))
}

/// The departure of the client of this rank, from 0, of `clients`.
pub(crate) fn departure(rank: usize, clients: usize, spread_ms: u32) -> Departure {
    let closes_ms = close_window_ms(clients, spread_ms);
    let returns_ms = close_window_ms(clients, spread_ms.max(RETURN_WINDOW_MS));
    let part_of = |window_ms: u32| {
        let part = rank as u128 * u128::from(window_ms) / clients.max(1) as u128;
        u32::try_from(part).unwrap_or(window_ms)
    };
    let close_after_ms = part_of(closes_ms);
    let return_at_ms = RETURN_DELAY_MS + part_of(returns_ms);
    // The window of the returns is the longer one, so no part of it comes before the same part of the closes.
    Departure { close_after_ms, reconnect_after_ms: return_at_ms - close_after_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: usize = 100_000;
    const SLOT_MS: u64 = 100;

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % end
        }
    }

    /// How many clients come back in each slot: workers of unlike size that notice the drain at unlike times,
    /// close on their ticks, and clients some way off whose timers are late.
    fn returns(seed: u64, workers: usize, spread_ms: u32) -> Vec<u64> {
        let mut random = Random(seed);
        let mut of_worker = vec![0; workers];
        (0..CLIENTS).for_each(|_| of_worker[random.below(workers as u64) as usize] += 1);
        let mut slots = Vec::new();
        for clients in of_worker {
            let noticed_ms = random.below(100);
            for rank in 0..clients {
                let departure = departure(rank, clients, spread_ms);
                let closed_ms = noticed_ms + u64::from(departure.close_after_ms).next_multiple_of(50);
                let way_ms = random.below(80) + random.below(80);
                let late_ms = random.below(20);
                let slot = (closed_ms + u64::from(departure.reconnect_after_ms) + way_ms + late_ms) / SLOT_MS;
                slots.resize(slots.len().max(slot as usize + 1), 0);
                slots[slot as usize] += 1;
            }
        }
        slots
    }

    #[test]
    fn no_slot_of_100_ms_gets_more_than_twice_the_mean_of_100_000_returning_clients() {
        for seed in 0..8 {
            for (workers, spread_ms) in [(1, 0), (8, 0), (1, 5_000), (8, 5_000), (4, 30_000)] {
                let slots = returns(seed, workers, spread_ms);
                let window_ms = u64::from(spread_ms.max(RETURN_WINDOW_MS));
                let mean = CLIENTS as u64 * SLOT_MS / window_ms;
                let most = slots.iter().max().copied().unwrap_or_default();
                assert!(
                    most <= 2 * mean,
                    "seed {seed}: {most} of {mean}, workers {workers}, spread {spread_ms}"
                );
                assert_eq!(slots.iter().sum::<u64>(), CLIENTS as u64);
            }
        }
    }

    #[test]
    fn closes_are_spread_evenly_and_a_few_clients_are_not_made_to_wait() {
        let closes: Vec<u32> = (0..1000).map(|rank| departure(rank, 1000, 500).close_after_ms).collect();
        assert!(closes.is_sorted() && closes[0] == 0 && closes[999] < 500);
        for from in (0..500).step_by(50) {
            assert_eq!(closes.iter().filter(|&&at| (from..from + 50).contains(&at)).count(), 100);
        }
        assert!((0..3).all(|rank| departure(rank, 3, 5_000).close_after_ms < 3));
        assert!((0..3).all(|rank| departure(rank, 3, 5_000).reconnect_after_ms < RETURN_DELAY_MS + 3));
        assert_eq!(departure(9, 10, 0).close_after_ms, 0);
    }

    #[test]
    fn no_client_comes_back_at_once() {
        for spread_ms in [0, 1, 5_000, 600_000] {
            for rank in [0, 1, CLIENTS / 2, CLIENTS - 1] {
                assert!(departure(rank, CLIENTS, spread_ms).reconnect_after_ms >= RETURN_DELAY_MS);
            }
        }
    }
}
