//! A hashed timer wheel (Varghese and Lauck, 1987): one deadline for each connection, coarse and cheap.
//!
//! Deadlines are only ever looked at when their tick comes, and activity does not move them: whoever armed
//! one decides then whether it is really due and arms it again if not. So a busy connection costs the wheel
//! nothing. 8 bytes per connection.

use crate::connection::ConnectionSlot;

/// Milliseconds in a tick: the precision of every timeout.
pub(crate) const TICK_MS: u64 = 50;

/// Slots: the wheel turns once in about 51 s. Later deadlines wait in the farthest slot and are armed anew.
const SLOTS: usize = 1024;

/// Points in time, in ticks since the worker started.
pub(crate) type Tick = u32;

/// The deadlines of a worker's connections.
pub(crate) struct Timers {
    slots: Box<[Vec<Entry>]>,
    /// The next tick to be looked at.
    now: Tick,
    /// One bit for each slot that has entries.
    occupied: [u64; SLOTS / 64],
    /// The number of entries.
    armed: usize,
}

#[derive(Copy, Clone)]
struct Entry {
    connection: ConnectionSlot,
    due: Tick,
}

impl Timers {
    /// A wheel at tick 0.
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now: 0, occupied: [0; SLOTS / 64], armed: 0 }
    }

    /// Arms `connection` for `due`, or the wheel's horizon if that is earlier. Returns the tick it is armed
    /// for.
    pub(crate) fn arm(&mut self, connection: ConnectionSlot, due: Tick) -> Tick {
        let due = due.clamp(self.now, self.now + SLOTS as Tick - 1);
        let slot = due as usize % SLOTS;
        self.slots[slot].push(Entry { connection, due });
        self.armed += 1;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        due
    }

    /// Shows every deadline up to and including `tick`.
    pub(crate) fn expire(&mut self, tick: Tick, mut on_due: impl FnMut(&mut Self, ConnectionSlot, Tick)) {
        while self.now <= tick {
            let slot = self.now as usize % SLOTS;
            self.now += 1;
            if self.occupied[slot / 64] >> (slot % 64) & 1 == 0 {
                continue;
            }
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            let mut due = std::mem::take(&mut self.slots[slot]);
            self.armed -= due.len();
            for entry in due.drain(..) {
                on_due(self, entry.connection, entry.due);
            }
            // The slot keeps its memory, unless a crowd made it large.
            if due.capacity() <= 1024 && self.slots[slot].is_empty() {
                self.slots[slot] = due;
            }
        }
    }

    /// The bytes of the wheel and of its entries, whose lists are three quarters full on average.
    pub(crate) fn bytes(&self) -> usize {
        SLOTS * size_of::<Vec<Entry>>() + self.armed * size_of::<Entry>() * 4 / 3
    }

    /// The tick of the earliest deadline.
    pub(crate) fn next_due(&self) -> Option<Tick> {
        let start = self.now as usize % SLOTS;
        // The word that holds `start` is looked at twice: its upper bits first, its lower bits last.
        (0..=SLOTS / 64).find_map(|step| {
            let word = (start / 64 + step) % (SLOTS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits == 0 {
                return None;
            }
            let slot = word * 64 + bits.trailing_zeros() as usize;
            Some(self.now + ((slot + SLOTS - start) % SLOTS) as Tick)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every deadline within the horizon shows exactly at its tick, and `next_due` tells the earliest.
        #[test]
        fn deadlines_show_at_their_tick(
            dues in prop::collection::vec(0..1000u32, 1..50),
            steps in prop::collection::vec(1..200u32, 1..20),
        ) {
            let mut timers = Timers::new();
            for (connection, &due) in dues.iter().enumerate() {
                timers.arm(ConnectionSlot(connection as u32), due);
            }
            let armed = |(connection, &due): (usize, &u32)| (due, ConnectionSlot(connection as u32));
            let mut pending: Vec<_> = dues.iter().enumerate().map(armed).collect();
            let mut tick = 0;
            for step in steps {
                prop_assert_eq!(timers.next_due(), pending.iter().map(|p| p.0).min());
                tick += step;
                let mut shown = Vec::new();
                timers.expire(tick, |_, connection, due| shown.push((due, connection)));
                shown.sort_unstable();
                let (mut due, rest): (Vec<_>, Vec<_>) = pending.into_iter().partition(|p| p.0 <= tick);
                due.sort_unstable();
                prop_assert_eq!(shown, due);
                pending = rest;
            }
        }
    }

    #[test]
    fn a_deadline_beyond_the_horizon_is_armed_for_the_horizon() {
        let mut timers = Timers::new();
        assert_eq!(timers.arm(ConnectionSlot(1), 1_000_000), SLOTS as Tick - 1);
    }
}
