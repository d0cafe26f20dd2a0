//! What stands between a connection and its socket: bytes that wait to be sent, and TLS.
//!
//! A plain connection has a link only while bytes wait; a secured one has it as long as it lives.

use std::io::{self, Write};

use crate::{
    outbound::Outbound,
    timers::Tick,
    tls::{Tls, TlsWriter, WriteScratch},
};

/// What stands between a connection and its socket.
pub(super) struct Link {
    /// Plain bytes that wait.
    pub(super) queue: Outbound,
    pub(super) tls: Option<Box<Tls>>,
}

impl Link {
    /// Of a plain connection.
    pub(super) fn queue(now: Tick) -> Self {
        Self { queue: Outbound::new(now), tls: None }
    }

    pub(super) fn secured(tls: Box<Tls>, now: Tick) -> Self {
        Self { queue: Outbound::new(now), tls: Some(tls) }
    }

    /// Bytes that wait, ciphertext as well.
    pub(super) fn backlog(&self) -> usize {
        self.queue.len() + self.tls.as_ref().map_or(0, |tls| tls.unsent())
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.backlog() == 0
    }

    /// Sends what waits. Returns whether nothing is left, ciphertext neither.
    pub(super) fn send(
        &mut self,
        socket: impl Write,
        scratch: &mut WriteScratch,
        now: Tick,
    ) -> io::Result<bool> {
        let Self { queue, tls } = self;
        let Some(tls) = tls else { return queue.send(&mut { socket }, now) };
        let unsent = tls.unsent();
        let mut writer = TlsWriter { tls, socket, scratch };
        if writer.send_unsent()? && queue.send(&mut writer, now)? {
            // The queue gives back what it holds.
            *queue = Outbound::new(now);
            writer.send_unsent()?;
        }
        if tls.unsent() != unsent {
            queue.touch(now);
        }
        Ok(self.is_flushed())
    }
}
