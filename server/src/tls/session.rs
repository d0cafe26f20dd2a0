//! TLS on one connection: records from the socket to plain bytes, plain bytes to records.
//!
//! Reading and writing are independent. A peer can make a session hold less than one incomplete record
//! ([`PART_BYTES`]), and one record that the socket does not take. A session that fails sends an alert, as
//! far as the socket takes it, and is not used again.

use std::io::{self, IoSlice, Read, Write};

use mio::net::TcpStream;
use rustls::{
    HandshakeKind,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic},
};

/// The plain bytes that are sealed at a time: one full record.
const RECORD_BYTES: usize = 16 << 10;

/// The bytes of a record's header, nonce and tag.
const RECORD_OVERHEAD: usize = 64;

/// The most bytes of an incomplete record or handshake message (RFC 8446, section 5.2).
const PART_BYTES: usize = 18 << 10;

/// The result of a read.
pub(crate) struct Received {
    /// The plain bytes in the buffer; 0 is possible.
    pub(crate) bytes: usize,
    /// The bytes that the socket gave.
    pub(crate) wire_bytes: usize,
    pub(crate) socket: SocketState,
}

/// The state of the socket after a read.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum SocketState {
    /// The socket has no more bytes, unless the peer has closed.
    Emptied,
    MayHaveMore,
    /// The peer sends no more.
    Ended,
}

/// The phase of a session.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Phase {
    Handshake,
    Traffic,
    /// The peer has announced that it sends no more.
    PeerDone,
}

/// The buffers for writing, which all connections of a worker share.
#[derive(Default)]
pub(crate) struct WriteScratch {
    plain: Vec<u8>,
    records: Vec<u8>,
}

impl WriteScratch {
    pub(crate) fn bytes(&self) -> usize {
        self.plain.capacity() + self.records.capacity()
    }
}

/// The TLS state of one connection.
pub(crate) struct Tls {
    session: UnbufferedServerConnection,
    /// Incomplete records, which wait for their rest.
    part: Vec<u8>,
    /// Ciphertext that the socket has not taken.
    unsent: Vec<u8>,
    phase: Phase,
    said_goodbye: bool,
}

impl Tls {
    pub(super) fn new(session: UnbufferedServerConnection) -> Self {
        Self { session, part: Vec::new(), unsent: Vec::new(), phase: Phase::Handshake, said_goodbye: false }
    }

    /// Whether the handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        self.phase != Phase::Handshake
    }

    /// Whether the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Ciphertext that the socket has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Reads once from the socket, and decrypts complete records into `buffer`. `ciphertext` is the buffer of
    /// the read alone. `ciphertext` is not longer than `buffer`, so that all decrypted bytes fit.
    ///
    /// # Errors
    /// The socket's error; `InvalidData` if the peer broke TLS. The alert is then in the unsent ciphertext.
    pub(crate) fn read(
        &mut self,
        socket: &mut TcpStream,
        ciphertext: &mut [u8],
        buffer: &mut [u8],
    ) -> io::Result<Received> {
        if self.phase == Phase::PeerDone {
            return Ok(Received { bytes: 0, wire_bytes: 0, socket: SocketState::Ended });
        }
        let kept = self.part.len();
        ciphertext[..kept].copy_from_slice(&self.part);
        let room = &mut ciphertext[kept..];
        let wire_bytes = socket.read(room)?;
        if wire_bytes == 0 {
            return Ok(Received { bytes: 0, wire_bytes: 0, socket: SocketState::Ended });
        }
        let socket = match wire_bytes < room.len() {
            true => SocketState::Emptied,
            false => SocketState::MayHaveMore,
        };
        let taken = self.decrypt(&mut ciphertext[..kept + wire_bytes], buffer)?;
        let rest = &ciphertext[taken.input..kept + wire_bytes];
        if rest.len() > PART_BYTES {
            return Err(invalid("a handshake message is too long"));
        }
        self.part = rest.to_vec();
        // The next read tells that the peer is done, after the bytes of this read.
        let socket = if self.phase == Phase::PeerDone { SocketState::MayHaveMore } else { socket };
        Ok(Received { bytes: taken.output, wire_bytes, socket })
    }

    /// Decrypts all complete records of `input`, and queues the answers of the handshake.
    fn decrypt(&mut self, input: &mut [u8], output: &mut [u8]) -> io::Result<Taken> {
        let mut taken = Taken { input: 0, output: 0 };
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.session.process_tls_records(&mut input[taken.input..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let end = taken.output + record.payload.len();
                        let place = output.get_mut(taken.output..end);
                        place
                            .ok_or_else(|| invalid("more was decrypted than came"))?
                            .copy_from_slice(record.payload);
                        taken.output = end;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.unsent, 0, |out| data.encode(out))?
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake) => is_done = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    if self.phase == Phase::Handshake {
                        self.phase = Phase::Traffic;
                    }
                    is_done = true;
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.phase = Phase::PeerDone;
                    is_done = true;
                }
                // Early data is off.
                Ok(_) => return Err(invalid("an unknown state of TLS")),
                Err(error) => {
                    self.queue_alert();
                    return Err(invalid(error));
                }
            }
            taken.input += discard;
            if is_done {
                return Ok(taken);
            }
        }
    }

    /// Queues the alert of a session that failed.
    fn queue_alert(&mut self) {
        while let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.session.process_tls_records(&mut []).state
        {
            if append(&mut self.unsent, 0, |out| data.encode(out)).is_err() {
                return;
            }
        }
    }

    /// Writes through a session that may send, after TLS's own messages.
    fn when_writable(
        &mut self,
        records: &mut Vec<u8>,
        work: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            // rustls sees the incomplete record again, because rustls may have noted places in it.
            match self.session.process_tls_records(&mut self.part).state {
                Ok(ConnectionState::WriteTraffic(traffic)) => return work(traffic, records),
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(records, 0, |out| data.encode(out))?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(_) => return Err(io::ErrorKind::NotConnected.into()),
                Err(error) => return Err(invalid(error)),
            }
        }
    }

    /// Queues the alert that nothing more is sent, once.
    pub(crate) fn say_goodbye(&mut self) -> io::Result<()> {
        if !self.is_established() || std::mem::replace(&mut self.said_goodbye, true) {
            return Ok(());
        }
        let mut records = std::mem::take(&mut self.unsent);
        let queued = self.when_writable(&mut records, |mut traffic, records| {
            append(records, RECORD_OVERHEAD, |out| traffic.queue_close_notify(out))
        });
        self.unsent = records;
        queued
    }

    /// Writes waiting ciphertext to the socket. Returns whether no ciphertext is left.
    ///
    /// # Errors
    /// The socket's error, except that the socket is full.
    pub(crate) fn send_unsent(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        let sent = write_some(socket, &self.unsent)?;
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        Ok(self.unsent.is_empty())
    }
}

/// How many bytes of the input were decrypted, and how many plain bytes came out.
struct Taken {
    input: usize,
    output: usize,
}

/// A writer of plain bytes, which a session seals and a socket takes.
pub(crate) struct TlsWriter<'a, S> {
    pub(crate) tls: &'a mut Tls,
    pub(crate) socket: S,
    pub(crate) scratch: &'a mut WriteScratch,
}

impl<S: Write> TlsWriter<'_, S> {
    /// Sends the sealed bytes. Returns whether all of them are sent.
    pub(crate) fn send_unsent(&mut self) -> io::Result<bool> {
        self.tls.send_unsent(&mut self.socket)
    }

    /// Seals the plain bytes in the scratch buffer, and sends as many as the socket takes.
    fn seal(&mut self) -> io::Result<usize> {
        let WriteScratch { plain, records } = &mut *self.scratch;
        // A connection that broke may have left records, which are for its peer alone.
        records.clear();
        let room = plain.len() + RECORD_OVERHEAD;
        self.tls.when_writable(records, |mut traffic, records| {
            append(records, room, |out| traffic.encrypt(plain, out))
        })?;
        let sent = write_some(&mut self.socket, records)?;
        self.tls.unsent = records[sent..].to_vec();
        Ok(plain.len())
    }
}

impl<S: Write> Write for TlsWriter<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Takes plain bytes for up to one record, if all earlier bytes have been sent.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.send_unsent()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let plain = &mut self.scratch.plain;
        plain.clear();
        for slice in slices {
            let room = RECORD_BYTES - plain.len();
            plain.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.seal()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_unsent().map(drop)
    }
}

/// Writes as many of the bytes as the socket takes. Returns how many.
fn write_some(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// An error that may say how much room was needed.
trait Room: std::error::Error + Send + Sync + 'static {
    fn needed(&self) -> Option<usize>;
}

impl Room for EncodeError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(needed) => Some(needed.required_size),
            _ => None,
        }
    }
}

impl Room for EncryptError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(needed) => Some(needed.required_size),
            _ => None,
        }
    }
}

/// Appends bytes that rustls makes, into `room` bytes or as many as rustls then asks for.
fn append<E: Room>(
    out: &mut Vec<u8>,
    mut room: usize,
    mut make: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> io::Result<()> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match make(&mut out[start..]) {
            Ok(used) => {
                out.truncate(start + used);
                return Ok(());
            }
            Err(error) => match error.needed().filter(|needed| *needed > room) {
                Some(needed) => room = needed,
                None => {
                    out.truncate(start);
                    return Err(invalid(error));
                }
            },
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
