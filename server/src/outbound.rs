//! What a connection still has to send, after the kernel took no more.
//!
//! It shares the buffers that fan-out framed: a slow connection costs references, not copies. The queue
//! exists only while there is something in it. Its bound is the caller's: see [`Outbound::len`].

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
};

use bytes::{Buf, Bytes};

use crate::timers::Tick;

/// Slices handed to one vectored write. Linux takes up to 1024; beyond some dozens nothing is gained.
pub(crate) const SLICES: usize = 64;

/// A queue of bytes to send.
pub(crate) struct Outbound {
    pieces: VecDeque<Bytes>,
    len: usize,
    moved: Tick,
}

impl Outbound {
    /// An empty queue.
    pub(crate) fn new(now: Tick) -> Self {
        Self { pieces: VecDeque::new(), len: 0, moved: now }
    }

    /// When the kernel last took something of it, or it began.
    pub(crate) fn moved(&self) -> Tick {
        self.moved
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends `bytes`.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Sends until the queue is empty (true) or the kernel takes no more (false).
    pub(crate) fn send(&mut self, stream: &mut impl Write, now: Tick) -> io::Result<bool> {
        while self.len > 0 {
            let sent = match self.write(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.advance(sent);
            self.moved = now;
        }
        Ok(true)
    }

    fn write(&self, stream: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        stream.write_vectored(&slices[..used])
    }

    fn advance(&mut self, mut sent: usize) {
        self.len -= sent;
        while sent > 0 {
            let first = self.pieces.front_mut().expect("no more was sent than is queued");
            if sent < first.len() {
                first.advance(sent);
                return;
            }
            sent -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes and then no more.
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= n;
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_arrives_in_order_however_little_the_kernel_takes() {
        let mut outbound = Outbound::new(3);
        for piece in [&b"abc"[..], b"", b"defg", b"h"] {
            outbound.push(Bytes::copy_from_slice(piece));
        }
        let mut pipe = Pipe { taken: Vec::new(), room: 0 };
        let mut done = outbound.send(&mut pipe, 4).expect("the pipe never fails");
        assert_eq!(outbound.moved(), 3, "nothing was taken");
        while !done {
            pipe.room = 3;
            done = outbound.send(&mut pipe, 5).expect("the pipe never fails");
            assert_eq!(outbound.moved(), 5);
        }
        assert_eq!(pipe.taken, b"abcdefgh");
        assert_eq!(outbound.len(), 0);
    }
}
