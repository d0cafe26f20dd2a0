//! The memory ledger: the bytes that the server holds by kind, beside the resident memory of the process.

use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_core::engine::{EngineMemory, NodeMemory};

use super::{admin::Observed, process::resident_bytes};

/// The kinds of memory. The last one is what the ledger does not explain.
pub(crate) const KINDS: [&str; 7] =
    ["connections", "sessions", "memberships", "channels", "history", "buffers", "other"];

/// The bytes that a worker holds.
#[derive(Copy, Clone, Default)]
pub(crate) struct WorkerMemory {
    pub(crate) connections: usize,
    /// Buffers beside the engine's.
    pub(crate) buffers: usize,
    pub(crate) engine: EngineMemory,
}

/// The published bytes of one worker, in the order of [`WorkerMemory::values`].
#[derive(Default, Debug)]
pub(crate) struct PublishedMemory([AtomicU64; 5]);

impl WorkerMemory {
    fn values(&self) -> [usize; 5] {
        let EngineMemory { sessions, memberships, channels, buffers } = self.engine;
        [self.connections, sessions, memberships, channels, self.buffers + buffers]
    }
}

impl PublishedMemory {
    /// Publishes. Only the worker may.
    pub(crate) fn publish(&self, memory: &WorkerMemory) {
        for (published, value) in self.0.iter().zip(memory.values()) {
            published.store(value as u64, Ordering::Relaxed);
        }
    }
}

/// The whole ledger.
pub(crate) struct Ledger {
    /// The bytes of each of [`KINDS`].
    pub(crate) bytes: [u64; KINDS.len()],
    pub(crate) resident: u64,
}

impl Ledger {
    /// Reads what workers publish, what they share, and the resident memory.
    pub(crate) fn read(observed: &Observed) -> Self {
        let sum = |at: usize| -> u64 {
            observed.workers.iter().map(|worker| worker.memory.0[at].load(Ordering::Relaxed)).sum()
        };
        let NodeMemory { channels, history, buffers } = observed.node.memory();
        let [channels, history, buffers] = [channels, history, buffers].map(|bytes| bytes as u64);
        let known = [sum(0), sum(1), sum(2), sum(3) + channels, history, sum(4) + buffers];
        let resident = resident_bytes();
        let other = resident.saturating_sub(known.iter().sum());
        let mut bytes = [other; KINDS.len()];
        bytes[..known.len()].copy_from_slice(&known);
        Self { bytes, resident }
    }
}
