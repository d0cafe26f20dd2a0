//! What ends a connection: a close code, a reason, and whether the client should come back.
//!
//! Every reason has its row in `docs/PROTOCOL.md`, section 7, and its counter in the shell.

use crate::ws::ProtocolError;

/// Why the server ends a connection.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Disconnect {
    /// The peer broke RFC 6455, or exceeded a bound of it.
    Protocol(ProtocolError),
    /// The server is draining.
    Restart,
    /// The outbound queue passed its limit.
    SlowConsumer,
    /// Nothing was heard for two ping intervals.
    PingTimeout,
    /// A message was begun and not finished in time.
    MessageTimeout,
    /// Too many session tokens in a row did not verify.
    BadTokens,
    /// The peer has sent its last byte without a close frame.
    PeerGone,
    /// The client goes on with the session on another connection.
    Resumed,
    /// The app's back end said so.
    ByServer {
        /// Whether it wants the client back.
        reconnect: bool,
    },
}

impl Disconnect {
    /// The close code (RFC 6455, section 7.4; from 4000 on our own).
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(error) => error.close_code(),
            Self::Restart => 1012,
            Self::SlowConsumer => 4000,
            Self::PingTimeout => 4001,
            Self::ByServer { reconnect: false } => 4002,
            Self::ByServer { reconnect: true } => 4003,
            Self::MessageTimeout => 4004,
            Self::BadTokens => 4005,
            Self::Resumed => 4006,
            Self::PeerGone => 1000,
        }
    }

    /// The close frame's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Protocol(error) => error.reason(),
            Self::Restart => "the server is restarting",
            Self::SlowConsumer => "slow consumer",
            Self::PingTimeout => "ping timeout",
            Self::MessageTimeout => "message timeout",
            Self::PeerGone => "",
            Self::Resumed => "resumed on another connection",
            Self::BadTokens => "too many session tokens that do not verify",
            Self::ByServer { reconnect: false } => "disconnected",
            Self::ByServer { reconnect: true } => "disconnected, please reconnect",
        }
    }
}
