//! The reason why the server ends a connection. The dialect decides what the peer is told: see
//! [`dialect::put_disconnect`](crate::dialect::put_disconnect).
//!
//! Every reason has its row in `docs/PROTOCOL.md`, section 7, and its counter in the shell.

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
    /// The peer was silent for the heartbeat's time-out.
    PingTimeout,
    /// A message was begun and not finished in time.
    MessageTimeout,
    /// Too many session tokens in a row did not verify.
    BadTokens,
    /// The peer has sent its last byte without a close frame.
    PeerGone,
    /// The client goes on with the session on another connection.
    Resumed,
    /// The session's app is no longer served.
    AppRemoved,
    /// The app's back end said so.
    ByServer {
        /// Whether it wants the client back.
        reconnect: bool,
    },
}

/// Why a peer's bytes are not acceptable WebSocket. [`close_code`](Self::close_code) names the close code for
/// each error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set although no extension was negotiated (RFC 6455, 5.2).
    ReservedBits,
    /// Opcode 0x3-0x7 or 0xB-0xF (5.2).
    ReservedOpcode,
    /// A server received a frame without a mask (5.1).
    UnmaskedFrame,
    /// A client received a frame with a mask (5.1).
    MaskedFrame,
    /// The payload length is not in its shortest encoding (5.2).
    NonMinimalLength,
    /// The most significant bit of a 64-bit payload length is set (5.2).
    LengthHighBit,
    /// A control frame without FIN (5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (5.5).
    OversizedControl,
    /// A continuation frame while no message is open (5.4).
    UnexpectedContinuation,
    /// A text or binary frame while a fragmented message is open (5.4).
    ExpectedContinuation,
    /// A close frame of one byte: neither empty nor a whole code (5.5.1).
    TruncatedCloseCode,
    /// A close code that must not appear on the wire (7.4).
    InvalidCloseCode,
    /// Text, or the reason of a close frame, is not UTF-8 (8.1).
    InvalidUtf8,
    /// The message, over all its fragments, is longer than the limit of bytes.
    MessageTooLong,
    /// The message has more fragments than the limit. The close code is that of a breach of policy, because
    /// the message's bytes may be few.
    TooManyFragments,
}
