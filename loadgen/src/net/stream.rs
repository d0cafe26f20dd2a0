//! The bytes of a connection: a TCP socket, with TLS on top of it if the URL says `wss://`.
//!
//! With TLS one read of the socket may bring several records, or a part of one. So a read goes on until the
//! socket has nothing more, and a write keeps in the session what the socket does not take until it takes
//! more.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
};

use mio::net::TcpStream;
use rustls::{ClientConnection, HandshakeKind};

use super::tls::TlsClient;

/// The bytes of a connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A socket with a TLS session.
pub(super) struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
}

impl Stream {
    /// The stream of a socket that begins to connect.
    pub(super) fn new(socket: TcpStream, tls: Option<&TlsClient>) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let session = tls.session()?;
        Ok(Self::Tls(Box::new(TlsStream { socket, session })))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.socket,
        }
    }

    /// Whether a read that does not fill its buffer has emptied the socket.
    pub(super) fn short_read_is_the_last(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// How the TLS handshake was made, once it is.
    pub(super) fn handshake(&self) -> Option<HandshakeKind> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.session.handshake_kind(),
        }
    }

    /// Reads what there is; 0 is the end of the peer's stream.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    /// Writes until the socket takes no more; says how much was taken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => write_some(bytes, |rest| socket.write(rest)),
            Self::Tls(stream) => write_some(bytes, |rest| stream.write(rest)),
        }
    }

    /// The socket takes bytes again: writes what the session has kept.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Nothing follows from this side.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.session.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer has ended its stream without a word of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                outcome => return outcome,
            }
            if self.session.read_tls(&mut self.socket)? == 0 && self.session.is_handshaking() {
                return Ok(0);
            }
            let processed = self.session.process_new_packets();
            // The peer is told what was wrong, and gets what a handshake needs.
            self.flush()?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        self.flush()?;
        match taken {
            0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes until no more is taken; says how much was.
fn write_some(bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match write(&bytes[written..]) {
            Ok(taken) => written += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
