//! One connection's life: its handshake, and what it still has to write.

use std::{
    io::{self, ErrorKind, Write},
    net::{IpAddr, SocketAddr},
};

use bytes::BytesMut;
use fanfare_core::{
    http::{HttpLimits, parse_response_head},
    ws::{Decoder, check_response, put_request},
};
use mio::net::TcpStream;

/// Bytes that may wait for one connection to take them.
const MAX_UNSENT_BYTES: usize = 64 << 20;

/// A connection.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    pub(super) stage: PeerStage,
    pub(super) is_paused: bool,
    extra: Option<Box<Extra>>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerStage {
    Connecting,
    Upgrading,
    Open,
    Closing,
}

/// What only some connections have, and those only for a while.
#[derive(Default)]
struct Extra {
    path: String,
    key: [u8; 16],
    /// The response's head so far.
    head: Vec<u8>,
    /// Bytes to write when the socket takes them again.
    unsent: BytesMut,
}

impl Peer {
    /// One whose socket begins to connect, for a handshake with this path and key.
    pub(super) fn new(stream: TcpStream, path: String, key: [u8; 16]) -> Self {
        let extra = Some(Box::new(Extra { path, key, ..Extra::default() }));
        Self { stream, decoder: Decoder::new(), stage: PeerStage::Connecting, is_paused: false, extra }
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.stage, PeerStage::Connecting | PeerStage::Upgrading)
    }

    /// The socket takes bytes: the handshake's request, or what was left over.
    #[inline]
    pub(super) fn on_writable(&mut self, host: &str) -> io::Result<()> {
        match &self.extra {
            None => Ok(()),
            Some(_) if self.stage == PeerStage::Connecting => self.request(host),
            Some(_) => self.flush(),
        }
    }

    /// Writes the handshake's request, if the connection stands.
    fn request(&mut self, host: &str) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        self.stream.set_nodelay(true)?;
        self.stage = PeerStage::Upgrading;
        let extra = self.extra.get_or_insert_default();
        let mut request = BytesMut::with_capacity(512);
        put_request(&mut request, host, &extra.path, extra.key, []);
        self.write(&request)
    }

    /// Takes bytes of the response's head. When it is complete and good, what follows it; when it is not
    /// good, a sentence.
    pub(super) fn read_head(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let extra = self.extra.get_or_insert_default();
        extra.head.extend_from_slice(bytes);
        let parsed = parse_response_head(&extra.head, HttpLimits::default())
            .map_err(|error| format!("The server does not speak HTTP: {error}."))?;
        let Some((head, len)) = parsed else { return Ok(None) };
        if let Err(error) = check_response(head.status, head.headers.iter(), extra.key) {
            let body = String::from_utf8_lossy(&extra.head[len..]);
            let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
            let detail = detail.as_ref().and_then(|problem| problem.get("detail")?.as_str());
            let colon = if detail.is_some() { ": " } else { "." };
            return Err(format!("The handshake was refused, {error}{colon}{}", detail.unwrap_or_default()));
        }
        let rest = extra.head.split_off(len);
        self.stage = PeerStage::Open;
        if extra.unsent.is_empty() {
            self.extra = None;
        }
        Ok(Some(rest))
    }

    /// Writes as much as the socket takes, and keeps the rest for when it takes more.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.extra.as_ref().is_none_or(|extra| extra.unsent.is_empty()) {
            bytes = &bytes[write_some(&mut self.stream, bytes)?..];
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let extra = self.extra.get_or_insert_default();
        if extra.unsent.len() + bytes.len() > MAX_UNSENT_BYTES {
            return Err(io::Error::other("the server does not read what is sent to it"));
        }
        extra.unsent.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(extra) = &mut self.extra else { return Ok(()) };
        let written = write_some(&mut self.stream, &extra.unsent)?;
        if written < extra.unsent.len() {
            bytes::Buf::advance(&mut extra.unsent, written);
        } else if self.stage == PeerStage::Upgrading {
            extra.unsent = BytesMut::new();
        } else {
            self.extra = None;
        }
        Ok(())
    }
}

/// Writes until the socket takes no more; says how much it took.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(taken) => written += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Begins to connect from a source address.
pub(super) fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
