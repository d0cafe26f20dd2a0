//! One connection's life: its handshake, and what it still has to write.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::BytesMut;
use fanfare_core::{
    http::{HttpLimits, parse_response_head},
    ws::{Decoder, check_response, put_request},
};
use mio::net::TcpStream;

use super::{
    exchange::{Access, Conversation, Exchange, Response, Texts},
    stream::Stream,
};

/// Bytes that may wait for one connection to take them.
const MAX_UNSENT_BYTES: usize = 64 << 20;

/// A connection.
pub(super) struct Peer {
    pub(super) stream: Stream,
    pub(super) decoder: Decoder,
    pub(super) stage: PeerStage,
    pub(super) is_paused: bool,
    pub(super) is_http: bool,
    extra: Option<Box<Extra>>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerStage {
    Connecting,
    /// The request before the handshake is under way.
    Asking,
    Upgrading,
    Open,
    Closing,
}

/// Whether a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    UnderWay,
    Done,
}

/// What only some connections have, and those only for a while.
#[derive(Default)]
struct Extra {
    access: Option<Access>,
    key: [u8; 16],
    /// The response so far.
    received: Vec<u8>,
    /// Bytes to write when the socket takes them again.
    unsent: BytesMut,
    /// Of a connection that speaks HTTP: what waits to be sent, and whether an answer is awaited.
    texts: Texts,
    text_bytes: usize,
    is_asking: bool,
    conversation: Conversation,
}

impl Peer {
    /// One whose socket begins to connect; its handshake has this key.
    pub(super) fn new(stream: Stream, access: Access, key: [u8; 16]) -> Self {
        let conversation = match &access {
            Access::Http(exchange) => Some(exchange.begin()),
            Access::WebSocket { .. } => None,
        };
        let is_http = conversation.is_some();
        let conversation = conversation.unwrap_or_default();
        let extra = Some(Box::new(Extra { access: Some(access), key, conversation, ..Extra::default() }));
        let stage = PeerStage::Connecting;
        Self { stream, decoder: Decoder::new(), stage, is_paused: false, is_http, extra }
    }

    /// Of a connection that speaks HTTP, what the server calls it.
    pub(super) fn session(&self) -> Option<&str> {
        Some(self.extra.as_ref()?.conversation.session.as_str()).filter(|_| self.is_http)
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.stage, PeerStage::Connecting | PeerStage::Asking | PeerStage::Upgrading)
    }

    /// Of a connection that speaks HTTP, its exchange.
    pub(super) fn exchange(&self) -> Option<Arc<dyn Exchange>> {
        match self.extra.as_ref()?.access.as_ref()? {
            Access::Http(exchange) => Some(Arc::clone(exchange)),
            Access::WebSocket { .. } => None,
        }
    }

    /// The socket takes bytes: the first request, or what was left over. Says what is open now.
    #[inline]
    pub(super) fn on_writable(&mut self, host: &str) -> io::Result<Opening> {
        if self.stage != PeerStage::Connecting {
            self.stream.flush()?;
        }
        match &self.extra {
            None => Ok(Opening::UnderWay),
            Some(_) if self.stage == PeerStage::Connecting => self.begin(host),
            Some(_) => self.flush().map(|()| Opening::UnderWay),
        }
    }

    /// Writes the first request, if the connection stands. One that speaks HTTP is open then.
    fn begin(&mut self, host: &str) -> io::Result<Opening> {
        if let Some(error) = self.stream.socket().take_error()? {
            return Err(error);
        }
        self.stream.socket().set_nodelay(true)?;
        let extra = self.extra.get_or_insert_default();
        let first = match &extra.access {
            Some(Access::Http(_)) => {
                self.stage = PeerStage::Open;
                return Ok(Opening::Done);
            }
            Some(Access::WebSocket { first: Some(first), .. }) => first,
            _ => return self.upgrade(host).map(|()| Opening::UnderWay),
        };
        self.stage = PeerStage::Asking;
        let mut request = BytesMut::with_capacity(512);
        first.put(&mut request, host);
        self.write(&request).map(|()| Opening::UnderWay)
    }

    /// Writes the handshake's request.
    fn upgrade(&mut self, host: &str) -> io::Result<()> {
        self.stage = PeerStage::Upgrading;
        let extra = self.extra.get_or_insert_default();
        let mut request = BytesMut::with_capacity(512);
        if let Some(Access::WebSocket { path, .. }) = &extra.access {
            put_request(&mut request, host, path, extra.key, []);
        }
        self.write(&request)
    }

    /// Takes bytes of the answer to the request before the handshake, and begins the handshake when it is
    /// complete; a sentence if it is not good.
    pub(super) fn read_first(&mut self, bytes: &[u8], host: &str) -> Result<(), String> {
        let extra = self.extra.get_or_insert_default();
        extra.received.extend_from_slice(bytes);
        let Some((answer, len)) = Response::read(&extra.received)? else { return Ok(()) };
        answer.succeeded()?;
        if len < extra.received.len() {
            return Err("The server answered a request twice.".into());
        }
        extra.received.clear();
        self.upgrade(host).map_err(|error| format!("A write failed: {error}."))
    }

    /// Takes bytes of the response's head. When it is complete and good, what follows it; when it is not
    /// good, a sentence. `software` is what the server calls itself, once one has said it.
    pub(super) fn read_head(
        &mut self,
        bytes: &[u8],
        software: &mut Option<String>,
    ) -> Result<Option<Vec<u8>>, String> {
        let extra = self.extra.get_or_insert_default();
        extra.received.extend_from_slice(bytes);
        let parsed = parse_response_head(&extra.received, HttpLimits::default())
            .map_err(|error| format!("The server does not speak HTTP: {error}."))?;
        let Some((head, len)) = parsed else { return Ok(None) };
        if software.is_none() {
            let mut headers = head.headers.iter();
            let server = headers.find(|(name, _)| name.eq_ignore_ascii_case("server"));
            *software = server.map(|(_, value)| String::from_utf8_lossy(value).chars().take(100).collect());
        }
        if let Err(error) = check_response(head.status, head.headers.iter(), extra.key) {
            let body = String::from_utf8_lossy(&extra.received[len..]);
            let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
            let detail = detail.as_ref().and_then(|problem| problem.get("detail")?.as_str());
            let colon = if detail.is_some() { ": " } else { "." };
            return Err(format!("The handshake was refused, {error}{colon}{}", detail.unwrap_or_default()));
        }
        let rest = extra.received.split_off(len);
        self.stage = PeerStage::Open;
        if extra.unsent.is_empty() {
            self.extra = None;
        }
        Ok(Some(rest))
    }

    /// Writes as much as the socket takes, and keeps the rest for when it takes more.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.extra.as_ref().is_none_or(|extra| extra.unsent.is_empty()) {
            bytes = &bytes[self.stream.write(bytes)?..];
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

    /// Keeps a text for a later request.
    pub(super) fn queue(&mut self, text: &[u8]) -> io::Result<()> {
        let extra = self.extra.get_or_insert_default();
        if extra.text_bytes + text.len() > MAX_UNSENT_BYTES {
            return Err(io::Error::other("the server does not take what is sent to it"));
        }
        extra.text_bytes += text.len();
        extra.texts.push_back(text.into());
        Ok(())
    }

    /// Writes the next request, unless an answer is still awaited. Says whether one is now.
    pub(super) fn ask(&mut self, host: &str) -> io::Result<bool> {
        let Some(exchange) = self.exchange() else { return Ok(false) };
        let extra = self.extra.get_or_insert_default();
        if extra.is_asking {
            return Ok(true);
        }
        if self.stage == PeerStage::Closing && extra.texts.is_empty() {
            return Ok(false);
        }
        let Some(request) = exchange.ask(&mut extra.conversation, &mut extra.texts) else { return Ok(false) };
        extra.is_asking = true;
        extra.text_bytes = extra.texts.iter().map(|text| text.len()).sum();
        let mut out = BytesMut::with_capacity(512 + request.body.len());
        request.put(&mut out, host);
        self.write(&out)?;
        Ok(true)
    }

    /// Takes bytes of an answer. When it is complete, calls `each` with its items.
    pub(super) fn read_answer(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let Some(exchange) = self.exchange() else { return Ok(()) };
        let extra = self.extra.get_or_insert_default();
        extra.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut extra.received);
        let Some((answer, len)) = Response::read(&received)? else {
            extra.received = received;
            return Ok(());
        };
        if !std::mem::take(&mut extra.is_asking) || len < received.len() {
            return Err("The server answered what nobody asked.".into());
        }
        exchange.hear(&mut extra.conversation, answer, each)
    }

    fn flush(&mut self) -> io::Result<()> {
        let is_needed = self.is_opening() || self.is_http;
        let Some(extra) = &mut self.extra else { return Ok(()) };
        let written = self.stream.write(&extra.unsent)?;
        if written < extra.unsent.len() {
            bytes::Buf::advance(&mut extra.unsent, written);
        } else if is_needed {
            extra.unsent = BytesMut::new();
        } else {
            self.extra = None;
        }
        Ok(())
    }
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
