//! What a peer can do wrong, and how each fault is answered.

use std::fmt;

/// Why a request is refused. It knows its answer: [`status`](Self::status), [`body`](Self::body),
/// [`content_type`](Self::content_type).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// `transport` is missing, or neither `polling` nor `websocket`: code 0.
    UnknownTransport,
    /// No session has this sid: code 1.
    UnknownSession,
    /// A session is opened by GET only: code 2.
    BadHandshakeMethod,
    /// The request does not fit the session or the transport it names: code 3.
    BadRequest,
    /// The caller does not let this peer in: code 4.
    Forbidden,
    /// `EIO` is missing or not 4: code 5.
    UnsupportedVersion,
    /// A second poll or POST while one is under way. The session has ended.
    Overlap,
    /// A POST of `application/octet-stream`; revision 4 carries binary as base64. The session has ended.
    BinaryBody,
    /// A POST of more bytes than [`payload_bytes`](super::Limits::payload_bytes). The session lives on.
    BodyTooLarge,
}

impl RequestError {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::BodyTooLarge => 413,
            _ => 400,
        }
    }

    /// The `code` in the body, if there is a body.
    pub const fn code(self) -> Option<u8> {
        match self {
            Self::UnknownTransport => Some(0),
            Self::UnknownSession => Some(1),
            Self::BadHandshakeMethod => Some(2),
            Self::BadRequest => Some(3),
            Self::Forbidden => Some(4),
            Self::UnsupportedVersion => Some(5),
            Self::Overlap | Self::BinaryBody | Self::BodyTooLarge => None,
        }
    }

    /// The body: JSON, or empty.
    pub const fn body(self) -> &'static str {
        match self {
            Self::UnknownTransport => r#"{"code":0,"message":"Transport unknown"}"#,
            Self::UnknownSession => r#"{"code":1,"message":"Session ID unknown"}"#,
            Self::BadHandshakeMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            Self::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            Self::Forbidden => r#"{"code":4,"message":"Forbidden"}"#,
            Self::UnsupportedVersion => r#"{"code":5,"message":"Unsupported protocol version"}"#,
            Self::Overlap | Self::BinaryBody | Self::BodyTooLarge => "",
        }
    }

    /// The body's type; `None` when the body is empty.
    pub const fn content_type(self) -> Option<&'static str> {
        if self.body().is_empty() { None } else { Some("application/json") }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownTransport => "unknown transport",
            Self::UnknownSession => "unknown session id",
            Self::BadHandshakeMethod => "a session is opened by GET",
            Self::BadRequest => "the request does not fit its session or transport",
            Self::Forbidden => "forbidden",
            Self::UnsupportedVersion => "only revision 4 of Engine.IO is spoken here",
            Self::Overlap => "a request of the same kind is under way",
            Self::BinaryBody => "a body of octets is not of revision 4",
            Self::BodyTooLarge => "the body is larger than is accepted here",
        })
    }
}

impl std::error::Error for RequestError {}

/// Why bytes are no packet. Every variant blames the peer, and the session ends: see [`CloseReason::Packet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketError {
    /// No packet type: the text, or what stands between two separators, is empty.
    Empty,
    /// The first character is neither `0` to `6` nor `b`.
    UnknownType,
    /// What follows `b` is not base64.
    Base64,
    /// The body of a POST is not UTF-8.
    Utf8,
    /// A POST body has more packets than [`packets`](super::Limits::packets).
    TooManyPackets,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty packet",
            Self::UnknownType => "unknown packet type",
            Self::Base64 => "binary packet is not base64",
            Self::Utf8 => "payload is not UTF-8",
            Self::TooManyPackets => "payload has too many packets",
        })
    }
}

impl std::error::Error for PacketError {}

/// Why packets were not queued. None of them was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueError {
    /// The queue has no room for them: the client does not poll as fast as it is sent to.
    Full,
    /// The session is closing or closed, or its packets travel by WebSocket.
    NotPolling,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue for the next poll is full",
            Self::NotPolling => "the session does not poll",
        })
    }
}

impl std::error::Error for QueueError {}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Nothing arrived within the ping time-out.
    PingTimeout,
    /// The peer sent what is no packet.
    Packet(PacketError),
    /// The peer sent a ping; in revision 4 only servers do (the protocol, "From v3 to v4").
    PingFromPeer,
    /// A second poll while one was held.
    PollOverlap,
    /// A second POST while the body of one was arriving.
    PostOverlap,
    /// A POST of octets.
    BinaryBody,
    /// The connection of a held poll or of an arriving POST broke.
    RequestCut,
    /// The WebSocket ended.
    WebSocketEnded,
    /// The peer sent a close packet.
    ClosedByPeer,
    /// The server closed the session.
    ClosedByServer,
    /// The client did not poll as fast as it was sent to.
    SlowConsumer,
}

impl CloseReason {
    /// The reference server's name for the reason, for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PingTimeout => "ping timeout",
            Self::Packet(_) => "parse error",
            Self::PingFromPeer
            | Self::PollOverlap
            | Self::PostOverlap
            | Self::BinaryBody
            | Self::RequestCut => "transport error",
            Self::WebSocketEnded | Self::ClosedByPeer => "transport close",
            Self::ClosedByServer | Self::SlowConsumer => "forced close",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
