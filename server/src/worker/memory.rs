//! The bytes that a worker holds, for the memory ledger. Every number is at hand, so a turn can publish them.

use super::{BUFFER_BYTES, Worker};
use crate::control::memory::WorkerMemory;

impl Worker {
    pub(super) fn memory(&self) -> WorkerMemory {
        let scratch = self.ciphertext.capacity() + self.out.capacity() + self.connections.scratch_bytes();
        WorkerMemory {
            connections: self.connections.bytes() + self.timers.bytes(),
            buffers: BUFFER_BYTES + scratch,
            engine: self.engine.memory(),
        }
    }
}
