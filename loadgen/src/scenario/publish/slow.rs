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

    /// The slow members stop reading.
    pub(super) fn pause_slow(&mut self, net: &mut Net) {
        for slot in self.slow_members() {
            net.pause(slot);
            self.tally.slow.readers += 1;
        }
    }

    /// The slow members read on.
    pub(super) fn resume_slow(&self, net: &mut Net) {
        self.slow_members().for_each(|slot| net.resume(slot));
    }

    fn slow_members(&self) -> impl Iterator<Item = Slot> + use<> {
        let slots = self.layout.members.iter().zip(0..).filter(|(member, _)| member.is_slow);
        slots.map(|(_, slot)| slot).collect::<Vec<Slot>>().into_iter()
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
