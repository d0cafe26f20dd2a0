//! The WebSocket of the dashboard's console. Once the request is admitted, its socket goes to a worker. The
//! worker sees the handshake of a client of the chosen dialect, so the admin thread relays nothing.

use std::{io, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use fanfare_core::{
    dialect::Dialect,
    http::{Head, HttpLimits, Query, parse_head},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Dashboard, handshake::Visitor};
use crate::{
    control::{admin::Observed, guard::is_loopback},
    worker::HandedOver,
};

/// The beginning of a request for the console.
const BEGINNING: &[u8] = b"GET /dashboard/console?";

const LIMITS: HttpLimits = HttpLimits { head_bytes: 8192, headers: 64, body_bytes: 0 };

/// The longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The console of a dashboard.
#[derive(Clone)]
pub(in crate::control) struct Console(pub(in crate::control) Arc<Dashboard>);

/// Why the console refuses a request: the rest of the status line, and a sentence.
struct Refusal(&'static str, &'static str);

impl Console {
    /// Whether a connection's first request is for the console. The request stays in the socket.
    ///
    /// # Errors
    /// If no request comes in time, or if the connection fails.
    pub(in crate::control) async fn is_wanted(stream: &TcpStream) -> io::Result<bool> {
        let mut first = [0; BEGINNING.len()];
        // A browser sends the whole head at once.
        timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await??;
        Ok(first == *BEGINNING)
    }

    /// Reads the request, and hands its connection to a worker or refuses it.
    pub(in crate::control) async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut input = Vec::new();
        let read = async {
            loop {
                match parse_head(&input, LIMITS) {
                    Ok(Some((head, _))) => return Ok(self.admit(&head)),
                    Ok(None) if input.len() <= LIMITS.head_bytes => {}
                    _ => return Ok(Err(Refusal("400 Bad Request", "The request is malformed."))),
                }
                let mut part = [0; 2048];
                match stream.read(&mut part).await? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    count => input.extend_from_slice(&part[..count]),
                }
            }
        };
        match timeout(HEAD_TIMEOUT, read).await?? {
            Ok(request) => hand_over(&self.0.observed, stream.into_std()?, request),
            Err(Refusal(status, sentence)) => {
                let length = sentence.len();
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                stream.write_all(format!("{head}{sentence}").as_bytes()).await
            }
        }
    }

    /// The handshake that the worker sees.
    fn admit(&self, head: &Head<'_>) -> Result<Vec<u8>, Refusal> {
        let Dashboard { observed, accounts, .. } = &*self.0;
        let header = |name: &str| head.header_str(name).unwrap_or_default();
        let mut headers = HeaderMap::new();
        for name in ["host", "cookie"] {
            let value = HeaderValue::from_str(header(name)).map_err(|_| FOREIGN)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        if !accounts.wants_password() && !is_loopback(&headers) {
            return Err(FOREIGN);
        }
        let origin = header("origin");
        let own =
            ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(header("host")));
        if !own {
            return Err(FOREIGN);
        }
        if !accounts.is_signed_in(&headers) {
            return Err(Refusal("401 Unauthorized", "Sign in first."));
        }
        let offered = header("sec-websocket-protocol");
        let mut visitor = Visitor { nonce: header("sec-websocket-key"), ..Visitor::default() };
        let (mut app, mut dialect) = (None, Some(Dialect::Native));
        for pair in Query::new(head.query.unwrap_or_default()) {
            let (name, value) = pair.map_err(|_| Refusal("400 Bad Request", "The query is malformed."))?;
            match &*name {
                "app" => app = observed.node.apps().by_name(&value).cloned(),
                "dialect" => dialect = Dialect::ALL.iter().copied().find(|known| known.name() == value),
                "session" if is_plain(&value) => visitor.session = value.into_owned(),
                "conn_id" if is_plain(&value) => visitor.conn_id = value.into_owned(),
                _ => {}
            }
        }
        // A browser closes the connection if the answer names a subprotocol that the page did not offer.
        visitor.subprotocol = Some(offered).filter(|offered| !offered.is_empty() && is_plain(offered));
        let app = app.ok_or(Refusal("404 Not Found", "There is no app of this name."))?;
        let dialect = dialect.ok_or(Refusal("404 Not Found", "There is no dialect of this name."))?;
        visitor.handshake(&app, dialect).map_err(|sentence| Refusal("409 Conflict", sentence))
    }
}

/// Hands a connection to a worker, which sees `input` as its first bytes.
pub(super) fn hand_over(observed: &Observed, stream: std::net::TcpStream, input: Vec<u8>) -> io::Result<()> {
    let control = &observed.control;
    if !control.capacity.take() {
        return Err(io::Error::other("the server has as many connections as it may"));
    }
    let worker = observed.next_worker();
    let stream = mio::net::TcpStream::from_std(stream);
    control.handed_over[worker].push(HandedOver::new(stream, input));
    control.wakers[worker].wake()
}

/// Whether a token or an id has no character that needs an escape. Other texts are neither.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

const FOREIGN: Refusal = Refusal("403 Forbidden", "The console is for the dashboard's own page.");
