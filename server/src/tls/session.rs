//! TLS on one connection: records from the socket to plain bytes, plain bytes to records.
//!
//! rustls makes the handshake. [`Records`] has the session afterwards.
//!
//! Reading and writing are independent. A peer can make a session hold less than one incomplete record
//! ([`PART_BYTES`]), and one record that the socket does not take. A session that fails sends an alert, as
//! far as the socket takes it, and is not used again.

use std::io::{self, IoSlice, Read, Write};

use mio::net::TcpStream;
use rustls::{
    AlertDescription, HandshakeKind,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};

use super::records::{Failure, Opened, PLAIN_BYTES, Records};

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

/// What a session is made of.
enum Stage {
    Handshake(Box<UnbufferedServerConnection>),
    Established(Records),
    /// The session failed between the two.
    Broken,
}

/// The TLS state of one connection.
pub(crate) struct Tls {
    stage: Stage,
    /// Incomplete records, which wait for their rest.
    part: Vec<u8>,
    /// Ciphertext that the socket has not taken.
    unsent: Vec<u8>,
    phase: Phase,
    said_goodbye: bool,
    is_resumed: bool,
}

impl Tls {
    pub(super) fn new(session: UnbufferedServerConnection) -> Self {
        Self {
            stage: Stage::Handshake(Box::new(session)),
            part: Vec::new(),
            unsent: Vec::new(),
            phase: Phase::Handshake,
            said_goodbye: false,
            is_resumed: false,
        }
    }

    /// Whether the handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        self.phase != Phase::Handshake
    }

    /// Whether the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
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

    /// Decrypts all complete records of `input`, and queues the answers of TLS.
    fn decrypt(&mut self, input: &mut [u8], output: &mut [u8]) -> io::Result<Taken> {
        let mut taken = Taken { input: 0, output: 0 };
        if matches!(self.stage, Stage::Handshake(_)) {
            self.shake_hands(input, output, &mut taken)?;
        }
        let Stage::Established(records) = &mut self.stage else { return Ok(taken) };
        if self.phase != Phase::Traffic {
            return Ok(taken);
        }
        match open_all(records, input, output, &mut taken, &mut self.unsent) {
            Ok(phase) => self.phase = phase,
            Err(failure) => {
                records.seal_failure(failure, &mut self.unsent).map_err(invalid)?;
                return Err(invalid(failure));
            }
        }
        Ok(taken)
    }

    /// Continues the handshake, and reads what comes with its end.
    fn shake_hands(&mut self, input: &mut [u8], output: &mut [u8], taken: &mut Taken) -> io::Result<()> {
        let Stage::Handshake(session) = &mut self.stage else { return Ok(()) };
        loop {
            let UnbufferedStatus { mut discard, state } =
                session.process_tls_records(&mut input[taken.input..]);
            let mut phase = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        taken.put(record.payload, output)?;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.unsent, |out| data.encode(out))?
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake) => phase = Some(Phase::Handshake),
                Ok(ConnectionState::WriteTraffic(_)) => phase = Some(Phase::Traffic),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => phase = Some(Phase::PeerDone),
                // Early data is off.
                Ok(_) => return Err(invalid("an unknown state of TLS")),
                Err(error) => {
                    queue_alert(session, &mut self.unsent);
                    return Err(invalid(error));
                }
            }
            taken.input += discard;
            match phase {
                None => {}
                Some(Phase::Handshake) => return Ok(()),
                Some(phase) => return self.establish(phase),
            }
        }
    }

    /// Takes the session over from rustls after the handshake.
    fn establish(&mut self, phase: Phase) -> io::Result<()> {
        if let Stage::Handshake(session) = std::mem::replace(&mut self.stage, Stage::Broken) {
            self.is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            self.stage = Stage::Established(Records::new(*session).map_err(invalid)?);
            self.phase = phase;
        }
        Ok(())
    }

    /// Queues the alert that nothing more is sent, once.
    pub(crate) fn say_goodbye(&mut self) -> io::Result<()> {
        if !self.is_established() || std::mem::replace(&mut self.said_goodbye, true) {
            return Ok(());
        }
        match &mut self.stage {
            Stage::Established(records) => records.seal_goodbye(&mut self.unsent).map_err(invalid),
            _ => Ok(()),
        }
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

impl Taken {
    /// Copies plain bytes to the output.
    fn put(&mut self, plain: &[u8], output: &mut [u8]) -> io::Result<()> {
        let end = self.output + plain.len();
        let place = output.get_mut(self.output..end);
        place.ok_or_else(|| invalid("more was decrypted than came"))?.copy_from_slice(plain);
        self.output = end;
        Ok(())
    }
}

/// Opens all complete records of the input. Returns the phase afterwards.
fn open_all(
    records: &mut Records,
    input: &mut [u8],
    output: &mut [u8],
    taken: &mut Taken,
    unsent: &mut Vec<u8>,
) -> Result<Phase, Failure> {
    let mut opener = None;
    while let Some(length) = records.length(&input[taken.input..])? {
        let record = &mut input[taken.input..taken.input + length];
        let opener = match &mut opener {
            Some(opener) => opener,
            none => none.insert(records.opener()?),
        };
        let opened = records.open(opener, record, unsent)?;
        taken.input += length;
        match opened {
            Opened::Plain(place) => {
                // Plain bytes are fewer than the record, so they fit.
                let put = taken.put(&record[place], output);
                put.map_err(|_| Failure::Ours(AlertDescription::InternalError))?;
            }
            Opened::Nothing => {}
            Opened::Done => return Ok(Phase::PeerDone),
        }
    }
    Ok(Phase::Traffic)
}

/// Queues the alert of a handshake that failed.
fn queue_alert(session: &mut UnbufferedServerConnection, unsent: &mut Vec<u8>) {
    while let Ok(ConnectionState::EncodeTlsData(mut data)) = session.process_tls_records(&mut []).state {
        if append(unsent, |out| data.encode(out)).is_err() {
            return;
        }
    }
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
        let Stage::Established(session) = &mut self.tls.stage else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        // A connection that broke may have left records, which are for its peer alone.
        records.clear();
        session.seal(plain, records).map_err(invalid)?;
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
            let room = PLAIN_BYTES - plain.len();
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

/// Appends bytes that rustls makes, into as many as rustls asks for.
fn append(
    out: &mut Vec<u8>,
    mut make: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(needed)) = make(&mut []) {
        out.resize(start + needed.required_size, 0);
    }
    match make(&mut out[start..]) {
        Ok(used) => {
            out.truncate(start + used);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(invalid(error))
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
