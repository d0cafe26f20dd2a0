//! What a server decides about its Engine.IO sessions: times and bounds.

/// Times and bounds of a session. A session keeps those that it was opened with, since its client was told of
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// From the opening, or the last pong, to the next ping, in milliseconds (the protocol, "Heartbeat").
    pub ping_interval_ms: u32,
    /// From a ping to the end of the session if nothing arrives, in milliseconds.
    pub ping_timeout_ms: u32,
    /// How long a probing WebSocket may take to complete the upgrade, in milliseconds.
    pub upgrade_timeout_ms: u32,
    /// How long a polling session that the server closes waits for the poll that tells its client, in
    /// milliseconds.
    pub close_timeout_ms: u32,
    /// What one session may cost.
    pub limits: Limits,
}

/// What one session may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one POST body or WebSocket message; told to clients as `maxPayload`. The caller bounds
    /// WebSocket messages and bodies of unknown length by it, before they are kept.
    pub payload_bytes: usize,
    /// Packets in one POST body.
    pub packets: usize,
    /// Bytes of encoded packets that wait for the next poll.
    pub queue_bytes: usize,
}

impl Default for Config {
    /// The defaults of npm `engine.io` 6.
    fn default() -> Self {
        Self {
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            upgrade_timeout_ms: 10_000,
            close_timeout_ms: 30_000,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes: 1_000_000, packets: 16 << 10, queue_bytes: 4 << 20 }
    }
}
