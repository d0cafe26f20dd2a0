//! The wire between clients and engines: its lines, and lines that stall.

use fanfare_core::{
    app::SlowConsumer,
    engine::{Segments, Sink},
    id::AppId,
};

use super::{World, clients::Client};

/// Bytes that have not reached their client.
#[derive(Default)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    pub(super) stalled: bool,
}

/// The wire: lines by connection. A stalled line keeps everything; another has sent it at once.
#[derive(Default)]
pub(super) struct Wire(pub(super) Vec<Line>);

impl Sink for Wire {
    fn write(&mut self, connection: u32, parts: Segments<'_>) -> usize {
        let line = &mut self.0[connection as usize];
        for (buffer, range) in parts {
            line.bytes.extend_from_slice(&buffer[range]);
        }
        if line.stalled { line.bytes.len() } else { 0 }
    }
}

impl World {
    /// Numbers are given to the next as soon as they are free.
    pub(super) fn free_connection(&mut self) -> u32 {
        let free = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
            self.connections.push(None);
            self.wire.0.push(Line::default());
            self.connections.len() - 1
        });
        self.wire.0[free] = Line::default();
        free as u32
    }

    /// Stops a line, or lets it flow again.
    pub(super) fn toggle_line(&mut self) {
        // Clients of Agnost's dialect are not told what they miss.
        let Some(client) = self.random_open(false).filter(|&client| !self.clients[client].is_agnost()) else {
            return;
        };
        let connection = self.clients[client].connection as usize;
        match self.wire.0[connection].stalled {
            true => self.drain(client),
            false => {
                self.wire.0[connection].stalled = true;
                let app = self.node.app(AppId(self.clients[client].app as u16));
                self.clients[client].lossy |= app.slow_consumer == SlowConsumer::Drop;
            }
        }
    }

    pub(super) fn drain(&mut self, client: usize) {
        let Client { connection, worker, slot, .. } = self.clients[client];
        self.wire.0[connection as usize].stalled = false;
        self.deliver(client);
        self.engines[worker].on_drained(slot);
    }
}
