//! Why the server ends a connection. What the peer is told of it is the dialect's: see [`dialect::closing`].
//!
//! Every reason has its row in `docs/PROTOCOL.md`, section 7, and its counter in the shell.

use crate::{
    dialect::{self, Format},
    ws::ProtocolError,
};

/// Why the server ends a connection.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Disconnect {
    /// The peer broke RFC 6455, or exceeded a bound of it.
    Protocol(ProtocolError),
    /// The peer broke the protocol of its dialect, above RFC 6455.
    BrokenDialect,
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
    /// Close code in the native dialect.
    pub fn code(self) -> u16 {
        dialect::closing(Format::Native, self).code
    }

    /// Reason in the native dialect.
    pub fn reason(self) -> &'static str {
        dialect::closing(Format::Native, self).reason
    }
}
