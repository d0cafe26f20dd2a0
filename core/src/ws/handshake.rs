//! The opening handshake (RFC 6455, section 4) of both roles, on heads that were parsed elsewhere.
//!
//! The server's check is tungstenite's [`create_response`]. It wants an [`http::Request`], so one is built
//! with the few headers the check reads, and not with the twenty a browser sends. Even so it costs about 1.5
//! µs where comparing the headers by hand and [`derive_accept_key`] take 0.3 µs (`benches/ws_codec`, two
//! shared cores): dear for a check, but paid once a connection, beside which the system calls of accepting it
//! are dearer.
//!
//! This module does not read or write HTTP beyond the lines of an upgrade; `Host` and `Origin` are the
//! business of whoever routes the request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use tungstenite::error::{Error, ProtocolError as Refusal};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::server::create_response;

/// Length of the value of `Sec-WebSocket-Accept`: a SHA-1 in base64.
const ACCEPT_LEN: usize = 28;

/// The parts of a request that decide about an upgrade. Borrows from the request's head.
#[derive(Debug, Clone)]
pub struct Upgrade<'a> {
    method: &'a str,
    version_minor: u8,
    connection: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    version: Single<'a>,
    key: Single<'a>,
    protocols: Vec<&'a [u8]>,
}

/// A header that must not be repeated.
#[derive(Debug, Clone, Copy, Default)]
struct Single<'a> {
    value: Option<&'a [u8]>,
    repeated: bool,
}

/// The server agrees: what [`put_response`] needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    value: [u8; ACCEPT_LEN],
}

/// Why a request cannot be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeError {
    /// Not a GET.
    WrongMethod,
    /// HTTP/1.0, which has no upgrade.
    WrongHttpVersion,
    /// No `Connection: Upgrade` or no `Upgrade: websocket`.
    MissingUpgrade,
    /// `Sec-WebSocket-Version` is missing, repeated, or not 13.
    WrongVersion,
    /// `Sec-WebSocket-Key` is missing, or not 16 bytes in base64.
    BadKey,
    /// `Sec-WebSocket-Key` occurs more than once (RFC 6455, 11.3.1).
    RepeatedKey,
}

/// Why a server's answer is not an accepted upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// Not 101 Switching Protocols but this.
    Status(u16),
    /// No `Connection: Upgrade` or no `Upgrade: websocket`.
    MissingUpgrade,
    /// `Sec-WebSocket-Accept` is missing, repeated, or does not answer the key.
    WrongAccept,
    /// The server chose an extension; none was offered.
    UnexpectedExtension,
}

impl<'a> Upgrade<'a> {
    /// Gathers what matters from a request: its method, the minor version of HTTP/1, and its headers in
    /// order.
    pub fn new(
        method: &'a str,
        version_minor: u8,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let mut upgrade = Self {
            method,
            version_minor,
            connection: None,
            upgrade: None,
            version: Single::default(),
            key: Single::default(),
            protocols: Vec::new(),
        };
        for (name, value) in headers {
            upgrade.take_header(name, value);
        }
        upgrade
    }

    /// Whether the request asks for a WebSocket at all, well-formed or not.
    pub fn is_requested(&self) -> bool {
        self.upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
    }

    /// Checks the request and computes the answer to its key.
    ///
    /// # Errors
    ///
    /// The first thing found wrong; it knows the status and headers of its answer.
    pub fn accept(&self) -> Result<Accept, HandshakeError> {
        if self.version.repeated {
            return Err(HandshakeError::WrongVersion);
        }
        if self.key.repeated {
            return Err(HandshakeError::RepeatedKey);
        }
        let request = self.to_request()?;
        let response = create_response(&request).map_err(|error| HandshakeError::from_tungstenite(&error))?;
        let value = response.headers().get("Sec-WebSocket-Accept").map(|value| value.as_bytes());
        let value = value.and_then(|value| value.try_into().ok()).ok_or(HandshakeError::BadKey)?;
        Ok(Accept { value })
    }

    /// The subprotocols offered, in the client's order of preference. What is not a token is left out.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.protocols.iter().flat_map(|value| list_items(value)).filter(|item| is_token(item))
    }

    fn take_header(&mut self, name: &str, value: &'a [u8]) {
        if name.eq_ignore_ascii_case("connection") {
            // The header may be repeated; the line that asks for the upgrade is the one that counts.
            if self.connection.is_none() || has_item(value, "upgrade") {
                self.connection = Some(value);
            }
        } else if name.eq_ignore_ascii_case("upgrade") {
            // So may this one be, and it is a list of protocols (RFC 9110, section 7.8).
            let wanted = has_item(value, "websocket").then_some(&b"websocket"[..]);
            self.upgrade = wanted.or(self.upgrade).or(Some(value));
        } else if name.eq_ignore_ascii_case("sec-websocket-version") {
            self.version.set(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            self.key.set(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            self.protocols.push(value);
        }
    }

    fn to_request(&self) -> Result<http::Request<()>, HandshakeError> {
        let version = if self.version_minor == 0 { http::Version::HTTP_10 } else { http::Version::HTTP_11 };
        let mut request = http::Request::new(());
        *request.version_mut() = version;
        // The check only asks whether it is GET, so any other method stands for the rest.
        *request.method_mut() = if self.method == "GET" { http::Method::GET } else { http::Method::OPTIONS };
        let headers = [
            (http::header::CONNECTION, self.connection, HandshakeError::MissingUpgrade),
            (http::header::UPGRADE, self.upgrade, HandshakeError::MissingUpgrade),
            (http::header::SEC_WEBSOCKET_VERSION, self.version.value, HandshakeError::WrongVersion),
            (http::header::SEC_WEBSOCKET_KEY, self.key.value, HandshakeError::BadKey),
        ];
        for (name, value, error) in headers {
            if let Some(value) = value {
                let value = http::HeaderValue::from_bytes(value).map_err(|_| error)?;
                request.headers_mut().insert(name, value);
            }
        }
        Ok(request)
    }
}

impl<'a> Single<'a> {
    fn set(&mut self, value: &'a [u8]) {
        self.repeated = self.value.is_some();
        self.value.get_or_insert(value);
    }
}

impl Accept {
    /// The value of `Sec-WebSocket-Accept`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.value
    }
}

impl HandshakeError {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::WrongMethod => 405,
            Self::WrongHttpVersion => 505,
            Self::MissingUpgrade | Self::WrongVersion => 426,
            Self::BadKey | Self::RepeatedKey => 400,
        }
    }

    /// The headers that the status calls for.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::WrongMethod => &[("Allow", "GET")],
            Self::MissingUpgrade => &[("Upgrade", "websocket"), ("Connection", "Upgrade")],
            Self::WrongVersion => {
                &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
            }
            Self::WrongHttpVersion | Self::BadKey | Self::RepeatedKey => &[],
        }
    }

    fn from_tungstenite(error: &Error) -> Self {
        match error {
            Error::Protocol(Refusal::WrongHttpMethod) => Self::WrongMethod,
            Error::Protocol(Refusal::WrongHttpVersion) => Self::WrongHttpVersion,
            Error::Protocol(Refusal::MissingSecWebSocketVersionHeader) => Self::WrongVersion,
            Error::Protocol(Refusal::MissingSecWebSocketKey | Refusal::InvalidSecWebSocketKey) => {
                Self::BadKey
            }
            _ => Self::MissingUpgrade,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongMethod => "a WebSocket is opened with GET",
            Self::WrongHttpVersion => "a WebSocket is opened over HTTP/1.1",
            Self::MissingUpgrade => "the request does not ask to upgrade to WebSocket",
            Self::WrongVersion => "only version 13 of WebSocket is spoken here",
            Self::BadKey => "Sec-WebSocket-Key is missing or malformed",
            Self::RepeatedKey => "Sec-WebSocket-Key is repeated",
        })
    }
}

impl std::error::Error for HandshakeError {}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answered {status} instead of 101"),
            Self::MissingUpgrade => f.write_str("the server did not confirm the upgrade"),
            Self::WrongAccept => f.write_str("Sec-WebSocket-Accept does not answer the key"),
            Self::UnexpectedExtension => f.write_str("the server chose an extension that was not offered"),
        }
    }
}

impl std::error::Error for ResponseError {}

/// Appends the 101 response. `selected_protocol` is one of [`Upgrade::protocols`]; a name that is no token,
/// and so cannot come from there, is left out.
pub fn put_response(out: &mut BytesMut, accept: &Accept, selected_protocol: Option<&str>) {
    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
        Connection: Upgrade\r\n\
        Upgrade: websocket\r\n\
        Sec-WebSocket-Accept: ";
    out.extend_from_slice(HEAD);
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = selected_protocol.filter(|protocol| is_token(protocol)) {
        put_header_line(out, "Sec-WebSocket-Protocol", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a client's request. `key` is 16 fresh random bytes. Host, path and headers are written as they
/// are: they come from configuration, not from a peer.
pub fn put_request<'h>(
    out: &mut BytesMut,
    host: &str,
    path: &str,
    key: [u8; 16],
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
) {
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    put_header_line(out, "Host", host);
    out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    put_header_line(out, "Sec-WebSocket-Key", &STANDARD.encode(key));
    for (name, value) in headers {
        put_header_line(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Checks a server's answer to [`put_request`] with the same `key`. Yields the subprotocol it selected, which
/// the caller compares with what it offered.
///
/// # Errors
///
/// Why the connection cannot be used (RFC 6455, 4.1).
pub fn check_response<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    key: [u8; 16],
) -> Result<Option<&'a str>, ResponseError> {
    if status != 101 {
        return Err(ResponseError::Status(status));
    }
    let (mut connection, mut upgrade, mut accept, mut protocol) = (false, false, Single::default(), None);
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("connection") {
            connection |= has_item(value, "upgrade");
        } else if name.eq_ignore_ascii_case("upgrade") {
            upgrade |= has_item(value, "websocket");
        } else if name.eq_ignore_ascii_case("sec-websocket-accept") {
            accept.set(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            protocol = list_items(value).next().filter(|item| is_token(item));
        } else if name.eq_ignore_ascii_case("sec-websocket-extensions") {
            return Err(ResponseError::UnexpectedExtension);
        }
    }
    if !connection || !upgrade {
        return Err(ResponseError::MissingUpgrade);
    }
    let expected = derive_accept_key(STANDARD.encode(key).as_bytes());
    if accept.repeated || accept.value != Some(expected.as_bytes()) {
        return Err(ResponseError::WrongAccept);
    }
    Ok(protocol)
}

fn put_header_line(out: &mut BytesMut, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The items of a comma-separated header value. One that is not UTF-8 has none.
fn list_items(value: &[u8]) -> impl Iterator<Item = &str> {
    let value = std::str::from_utf8(value).unwrap_or_default();
    value.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty())
}

fn has_item(value: &[u8], wanted: &str) -> bool {
    list_items(value).any(|item| item.eq_ignore_ascii_case(wanted))
}

/// Whether `item` is a token of HTTP (RFC 9110, 5.6.2).
fn is_token(item: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !item.is_empty() && item.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const GOOD: [(&str, &str); 5] = [
        ("Host", "example.com"),
        ("Upgrade", "WebSocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ];

    type Line = (&'static str, &'static str);

    fn accept(method: &str, version_minor: u8, lines: &[Line]) -> Result<Accept, HandshakeError> {
        let headers = lines.iter().map(|(name, value)| (*name, value.as_bytes()));
        Upgrade::new(method, version_minor, headers).accept()
    }

    fn with(name: &'static str, value: &'static str) -> Vec<Line> {
        without(name).into_iter().chain([(name, value)]).collect()
    }

    fn without(name: &str) -> Vec<Line> {
        GOOD.into_iter().filter(|(other, _)| !other.eq_ignore_ascii_case(name)).collect()
    }

    fn sample_key() -> [u8; 16] {
        *b"the sample nonce"
    }

    #[test]
    fn sample_of_the_rfc_is_accepted() {
        let accept = accept("GET", 1, &GOOD).expect("the sample is valid");
        assert_eq!(accept.as_bytes(), ACCEPT.as_bytes());
    }

    #[test]
    fn upgrade_token_may_be_in_a_second_connection_header() {
        let mut lines = vec![("connection", "keep-alive")];
        lines.extend(with("Connection", "Upgrade"));
        lines.push(("Connection", "close"));
        assert!(accept("GET", 1, &lines).is_ok());
    }

    #[test]
    fn websocket_may_be_one_of_several_protocols_on_one_line_or_two() {
        assert!(accept("GET", 1, &with("Upgrade", "h2c, websocket")).is_ok());
        let mut lines = with("Upgrade", "h2c");
        lines.push(("Upgrade", "WebSocket"));
        assert!(accept("GET", 1, &lines).is_ok());
    }

    #[test]
    fn other_method_than_get_is_refused() {
        assert_eq!(accept("POST", 1, &GOOD), Err(HandshakeError::WrongMethod));
        assert_eq!(accept("get", 1, &GOOD), Err(HandshakeError::WrongMethod));
        assert_eq!(HandshakeError::WrongMethod.status(), 405);
    }

    #[test]
    fn http_1_0_is_refused() {
        assert_eq!(accept("GET", 0, &GOOD), Err(HandshakeError::WrongHttpVersion));
        assert_eq!(HandshakeError::WrongHttpVersion.status(), 505);
    }

    #[test]
    fn missing_upgrade_is_refused_with_426() {
        for lines in [without("Upgrade"), without("Connection"), with("Upgrade", "h2c")] {
            assert_eq!(accept("GET", 1, &lines), Err(HandshakeError::MissingUpgrade));
        }
        assert_eq!(HandshakeError::MissingUpgrade.status(), 426);
        for error in [HandshakeError::MissingUpgrade, HandshakeError::WrongVersion] {
            assert!(error.headers().contains(&("Upgrade", "websocket")));
            assert!(error.headers().contains(&("Connection", "Upgrade")));
        }
    }

    #[test]
    fn other_version_than_13_is_answered_with_426_and_13() {
        let mut twice = GOOD.to_vec();
        twice.push(("Sec-WebSocket-Version", "13"));
        let version = "Sec-WebSocket-Version";
        for lines in [without(version), with(version, "8"), with(version, "13, 8"), twice] {
            assert_eq!(accept("GET", 1, &lines), Err(HandshakeError::WrongVersion));
        }
        assert_eq!(HandshakeError::WrongVersion.status(), 426);
        assert!(HandshakeError::WrongVersion.headers().contains(&("Sec-WebSocket-Version", "13")));
    }

    #[test]
    fn bad_key_is_refused() {
        let key = "Sec-WebSocket-Key";
        let bad = ["", "c2hvcnQ=", "not base64 at all !!!!!!", "dGhlIHNhbXBsZSBub25jZQ=\n"];
        for lines in bad.map(|value| with(key, value)).into_iter().chain([without(key)]) {
            assert_eq!(accept("GET", 1, &lines), Err(HandshakeError::BadKey));
        }
        assert_eq!(HandshakeError::BadKey.status(), 400);
    }

    #[test]
    fn repeated_key_is_refused() {
        let mut lines = GOOD.to_vec();
        for _ in 0..2 {
            lines.push(("sec-websocket-key", KEY));
            assert_eq!(accept("GET", 1, &lines), Err(HandshakeError::RepeatedKey));
        }
        assert_eq!(HandshakeError::RepeatedKey.status(), 400);
    }

    #[test]
    fn offered_protocols_are_listed_in_order_over_repeated_headers() {
        let headers = [
            ("Sec-WebSocket-Protocol", b"chat, super.chat ,,\tv2".as_slice()),
            ("SEC-WEBSOCKET-PROTOCOL", b"bad name, ok".as_slice()),
            ("Sec-WebSocket-Protocol", b"\xff".as_slice()),
        ];
        let upgrade = Upgrade::new("GET", 1, headers);
        assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "super.chat", "v2", "ok"]);
    }

    #[test]
    fn response_names_the_protocol_and_never_splits() {
        let accept = accept("GET", 1, &GOOD).expect("valid");
        let mut out = BytesMut::new();
        put_response(&mut out, &accept, Some("chat"));
        let text = String::from_utf8(out.to_vec()).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(text.contains(&format!("\r\nSec-WebSocket-Accept: {ACCEPT}\r\n")));
        assert!(text.ends_with("\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));

        out.clear();
        put_response(&mut out, &accept, Some("a\r\nSet-Cookie: b"));
        assert!(!out.windows(6).any(|window| window == b"Cookie"));
    }

    #[test]
    fn request_of_our_client_is_accepted_by_our_server_and_back() {
        let mut out = BytesMut::new();
        put_request(&mut out, "localhost:1", "/ws?a=b", sample_key(), [("Sec-WebSocket-Protocol", "chat")]);
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut slots);
        assert!(request.parse(&out).expect("well-formed").is_complete());
        assert_eq!(request.path, Some("/ws?a=b"));
        let headers = request.headers.iter().map(|header| (header.name, header.value));
        let upgrade = Upgrade::new(request.method.expect("parsed"), 1, headers);
        assert!(upgrade.is_requested());
        let accept = upgrade.accept().expect("our own request");

        let mut answer = BytesMut::new();
        put_response(&mut answer, &accept, upgrade.protocols().next());
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut slots);
        assert!(response.parse(&answer).expect("well-formed").is_complete());
        let headers = response.headers.iter().map(|header| (header.name, header.value));
        let status = response.code.expect("parsed");
        assert_eq!(check_response(status, headers, sample_key()), Ok(Some("chat")));
    }

    fn check(
        status: u16,
        lines: &[(&'static str, &'static str)],
    ) -> Result<Option<&'static str>, ResponseError> {
        check_response(status, lines.iter().map(|(name, value)| (*name, value.as_bytes())), sample_key())
    }

    #[test]
    fn answer_that_does_not_upgrade_is_refused() {
        let [upgrade, connection, accept] =
            [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Accept", ACCEPT)];
        assert_eq!(check(101, &[upgrade, connection, accept]), Ok(None));
        assert_eq!(check(404, &[upgrade, connection, accept]), Err(ResponseError::Status(404)));
        assert_eq!(check(101, &[connection, accept]), Err(ResponseError::MissingUpgrade));
        assert_eq!(check(101, &[upgrade, accept]), Err(ResponseError::MissingUpgrade));
        assert_eq!(check(101, &[upgrade, connection]), Err(ResponseError::WrongAccept));
        assert_eq!(check(101, &[upgrade, connection, accept, accept]), Err(ResponseError::WrongAccept));
        let extension = ("Sec-WebSocket-Extensions", "permessage-deflate");
        let lines = [upgrade, connection, accept, extension];
        assert_eq!(check(101, &lines), Err(ResponseError::UnexpectedExtension));
    }
}
