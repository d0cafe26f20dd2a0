//! What a peer can do wrong. Each is answered by closing the connection.

use std::fmt;

/// Why a connection has to be closed. Every variant blames the peer; the close carries no code or reason, as
/// the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// The first character is no packet type: `0` to `6`.
    UnknownType,
    /// The number of attachments is missing, not a number, or zero.
    AttachmentCount,
    /// More attachments than [`attachments`](super::Limits::attachments).
    TooManyAttachments,
    /// A namespace is longer than [`namespace_bytes`](super::Limits::namespace_bytes).
    NamespaceTooLong,
    /// An acknowledgement's number is not one, is too large for JavaScript, or is missing from an
    /// acknowledgement.
    AckId,
    /// The payload is missing, is not JSON, or not of the shape that its packet asks for.
    Payload,
    /// A placeholder names an attachment that does not exist, or that another one names.
    Placeholder,
    /// Bytes that belong to no packet.
    UnexpectedBinary,
    /// A packet while attachments of the one before it are missing.
    AttachmentExpected,
    /// The attachments of a packet are larger than [`attachment_bytes`](super::Limits::attachment_bytes).
    AttachmentsTooLarge,
    /// A packet for a namespace that the peer is not connected to.
    NotConnected,
    /// A second CONNECT for a namespace that the peer is connected to or has requested.
    AlreadyConnected,
    /// More namespaces than [`namespaces`](super::Limits::namespaces).
    TooManyNamespaces,
    /// Only servers refuse connections.
    ConnectErrorFromPeer,
    /// No namespace within [`connect_timeout_ms`](super::Config::connect_timeout_ms).
    ConnectTimeout,
    /// No attachment within [`attachment_timeout_ms`](super::Config::attachment_timeout_ms).
    AttachmentTimeout,
}

impl ProtocolError {
    /// A stable word, for logs and counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_packet_type",
            Self::AttachmentCount => "attachment_count",
            Self::TooManyAttachments => "too_many_attachments",
            Self::NamespaceTooLong => "namespace_too_long",
            Self::AckId => "ack_id",
            Self::Payload => "payload",
            Self::Placeholder => "placeholder",
            Self::UnexpectedBinary => "unexpected_binary",
            Self::AttachmentExpected => "attachment_expected",
            Self::AttachmentsTooLarge => "attachments_too_large",
            Self::NotConnected => "not_connected",
            Self::AlreadyConnected => "already_connected",
            Self::TooManyNamespaces => "too_many_namespaces",
            Self::ConnectErrorFromPeer => "connect_error_from_peer",
            Self::ConnectTimeout => "connect_timeout",
            Self::AttachmentTimeout => "attachment_timeout",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownType => "unknown packet type",
            Self::AttachmentCount => "the number of attachments is malformed",
            Self::TooManyAttachments => "too many attachments",
            Self::NamespaceTooLong => "the namespace is too long",
            Self::AckId => "the number of the acknowledgement is malformed",
            Self::Payload => "the payload is malformed",
            Self::Placeholder => "a placeholder names no attachment of its own",
            Self::UnexpectedBinary => "bytes that belong to no packet",
            Self::AttachmentExpected => "a packet among the attachments of another",
            Self::AttachmentsTooLarge => "the attachments are too large",
            Self::NotConnected => "a packet for a namespace that was not connected to",
            Self::AlreadyConnected => "the namespace is connected to already",
            Self::TooManyNamespaces => "too many namespaces",
            Self::ConnectErrorFromPeer => "a client refuses a connection",
            Self::ConnectTimeout => "no namespace was connected to in time",
            Self::AttachmentTimeout => "an attachment did not arrive in time",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// The peer waits for no answer to a CONNECT for this namespace. Nothing is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRequested;

impl fmt::Display for NotRequested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no CONNECT for this namespace waits for an answer")
    }
}

impl std::error::Error for NotRequested {}

/// As many acknowledgements as [`acks`](super::Limits::acks) are waited for already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAcks;

impl fmt::Display for TooManyAcks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many acknowledgements are waited for")
    }
}

impl std::error::Error for TooManyAcks {}
