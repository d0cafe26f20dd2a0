//! The link between a connection and its socket: the queue of output, and TLS.
//!
//! A connection without TLS has a link only while output waits. A connection with TLS always has a link.

use std::io::{self, Write};

use crate::{
    outbound::Outbound,
    timers::Tick,
    tls::{Tls, TlsWriter, WriteScratch},
};

/// The link between a connection and its socket.
pub(super) struct Link {
    /// The queue of plain output.
    pub(super) queue: Outbound,
    pub(super) tls: Option<Box<Tls>>,
}

impl Link {
    /// The link of a connection without TLS.
    pub(super) fn queue(now: Tick) -> Self {
        Self { queue: Outbound::new(now), tls: None }
    }

    pub(super) fn secured(tls: Box<Tls>, now: Tick) -> Self {
        Self { queue: Outbound::new(now), tls: Some(tls) }
    }

    /// Bytes of output that wait, as plain bytes or as ciphertext.
    pub(super) fn backlog(&self) -> usize {
        self.queue.len() + self.tls.as_ref().map_or(0, |tls| tls.unsent())
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.backlog() == 0
    }

    /// Sends the output that waits. Returns whether no plain bytes and no ciphertext are left.
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
            // A new queue gives back the memory of the old one.
            *queue = Outbound::new(now);
            writer.send_unsent()?;
        }
        if tls.unsent() != unsent {
            queue.touch(now);
        }
        Ok(self.is_flushed())
    }
}
