//! The members of `slow` that stop reading and read on at the end of the run.

use std::{collections::HashSet, net::SocketAddr};

use super::Publish;
use crate::{
    clock::now_ns,
    net::{Net, Slot},
    procfs,
};

/// Silence after which slow members that read on are taken to have read everything.
const SLOW_SILENCE_NS: u64 = 500_000_000;

impl Publish {
    pub(super) fn is_slow(&self, slot: Slot) -> bool {
        self.layout.members.get(slot as usize).is_some_and(|member| member.is_slow)
    }

    /// Lets the slow members stop reading, or read on.
    pub(super) fn set_reading(&mut self, net: &mut Net, reads: bool) {
        for (slot, member) in self.layout.members.iter().enumerate() {
            if member.is_slow && reads {
                net.resume(slot as Slot);
            } else if member.is_slow {
                net.pause(slot as Slot);
                self.tally.slow.readers += 1;
            }
        }
    }

    /// Sees whether the server has to hold back what the slow members do not read.
    pub(super) fn look_for_backlogs(&mut self, net: &Net) {
        let slow = self.layout.members.iter().zip(0..).filter(|(member, _)| member.is_slow);
        let ours: HashSet<SocketAddr> = slow.filter_map(|(_, slot)| net.local_address(slot)).collect();
        if !ours.is_empty() {
            self.tally.slow.backlogged = procfs::backlogged(&ours);
        }
    }

    /// Whether the slow members have read what was waiting for them, as far as one can tell.
    pub(super) fn slow_have_read(&self) -> bool {
        self.tally.slow.readers == self.tally.slow.disconnected
            || now_ns().saturating_sub(self.slow_read_ns) > SLOW_SILENCE_NS
    }
}
