//! What a server decides about its Socket.IO connections: times and bounds.

/// Times and bounds of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a new connection may be without a namespace, in milliseconds.
    pub connect_timeout_ms: u32,
    /// How long a packet may wait for its next attachment, in milliseconds.
    pub attachment_timeout_ms: u32,
    /// How long an acknowledgement is waited for, in milliseconds.
    pub ack_timeout_ms: u32,
    /// Who checks the payloads of events that come without attachments.
    pub payload_check: PayloadCheck,
    /// What one connection may cost.
    pub limits: Limits,
}

/// Who checks the JSON of an event without attachments. Every other payload is checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadCheck {
    /// The connection does: what it gives out is an array that begins with an event's name.
    Connection,
    /// The caller does, because it takes the payload apart anyway, and closes the connection if the payload
    /// is not what [`check_payload`](super::check_payload) accepts.
    Caller,
}

/// What one connection may cost. The text of a packet is bounded by Engine.IO, as the message it travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attachments of one packet.
    pub attachments: usize,
    /// Bytes of one packet's attachments together.
    pub attachment_bytes: usize,
    /// Namespaces that a connection is in, or asks to be in, besides the main one.
    pub namespaces: usize,
    /// Bytes of a namespace's name.
    pub namespace_bytes: usize,
    /// Acknowledgements that are waited for.
    pub acks: usize,
}

impl Default for Config {
    /// The defaults of npm `socket.io` 4, where it has any.
    fn default() -> Self {
        Self {
            connect_timeout_ms: 45_000,
            attachment_timeout_ms: 30_000,
            ack_timeout_ms: 10_000,
            payload_check: PayloadCheck::Connection,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { attachments: 10, attachment_bytes: 4 << 20, namespaces: 16, namespace_bytes: 256, acks: 64 }
    }
}
