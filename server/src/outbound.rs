//! What a connection still has to send, after the kernel took no more.
//!
//! The queue shares the buffers that fan-out framed, so a slow connection costs references and not copies.
//! Only a small part of a buffer is copied, because a reference would keep the whole buffer alive. A queue
//! exists only while bytes wait. The caller bounds the queue: see [`Outbound::len`].
//!
//! ```text
//!   sent ◀── pieces: [shared] [copies] [shared] ◀── tail: copies that are still gathered
//! ```

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
    ops::Range,
};

use bytes::{Buf, Bytes};

use crate::timers::Tick;

/// Slices handed to one vectored write. Linux takes up to 1024; beyond some dozens nothing is gained.
pub(crate) const SLICES: usize = 64;

/// The most bytes of copies in one piece.
const TAIL_BYTES: usize = 16 << 10;
/// A part of a buffer that is shorter than this, or than half of the buffer, is copied.
const SHARED_BYTES: usize = 256;

/// A queue of bytes to send.
pub(crate) struct Outbound {
    pieces: VecDeque<Bytes>,
    /// The copied bytes after the last piece.
    tail: Vec<u8>,
    len: usize,
    moved: Tick,
}

impl Outbound {
    /// An empty queue.
    pub(crate) fn new(now: Tick) -> Self {
        Self { pieces: VecDeque::new(), tail: Vec::new(), len: 0, moved: now }
    }

    /// When the kernel last took something of it, or it began.
    pub(crate) fn moved(&self) -> Tick {
        self.moved
    }

    /// Notes that the kernel took some of the queue.
    pub(crate) fn touch(&mut self, now: Tick) {
        self.moved = now;
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends `range` of a buffer, without its first `sent` bytes. The choice between sharing and copying
    /// does not depend on `sent`, because many connections may have been sent different parts of one range.
    pub(crate) fn push(&mut self, buffer: &Bytes, range: Range<usize>, sent: usize) {
        let rest = range.start + sent..range.end;
        if range.len() < SHARED_BYTES || range.len() < buffer.len() / 2 {
            return self.push_copy(&buffer[rest]);
        }
        self.end_tail();
        self.len += rest.len();
        self.pieces.push_back(buffer.slice(rest));
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push_copy(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= TAIL_BYTES {
            self.end_tail();
        }
    }

    /// Makes a piece of the copied bytes.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.pieces.push_back(tail.into_boxed_slice().into());
        }
    }

    /// Sends until the queue is empty (true) or the kernel takes no more (false).
    pub(crate) fn send(&mut self, stream: &mut impl Write, now: Tick) -> io::Result<bool> {
        self.end_tail();
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
            outbound.push_copy(piece);
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

    #[test]
    fn a_small_part_does_not_keep_its_buffer_alive_and_order_is_kept() {
        let buffer = Bytes::from(vec![b'x'; 64 << 10]);
        let whole = Bytes::from(vec![b'y'; 4096]);
        let mut outbound = Outbound::new(0);
        let mut expected = Vec::new();
        for at in 0..1000 {
            outbound.push(&buffer, at..at + 100, 0);
            expected.extend_from_slice(&buffer[at..at + 100]);
            if at % 300 == 0 {
                outbound.push(&whole, 0..4096, 4000);
                expected.extend_from_slice(&whole[4000..]);
            }
        }
        assert!(buffer.is_unique() && !whole.is_unique());
        assert!(outbound.pieces.len() < 16, "{} pieces", outbound.pieces.len());
        assert_eq!(outbound.len(), expected.len());
        let mut pipe = Pipe { taken: Vec::new(), room: usize::MAX };
        assert!(outbound.send(&mut pipe, 1).expect("the pipe never fails"));
        assert_eq!(pipe.taken, expected);
        assert!(whole.is_unique());
    }
}
