//! Engine.IO, protocol revision 4, the server's side: sans-I/O.
//!
//! Source: <https://github.com/socketio/engine.io-protocol> ("the protocol" below). Where that document is
//! silent, the behaviour is that of its reference server, npm `engine.io` 6.
//!
//! ```text
//!   query ──▶ Query ──▶ Route ──▶ Session::open, or look-up of the sid
//!
//!   poll, POST head, upgrade ──▶ Session::handle_poll, handle_post, handle_upgrade ──▶ held, or RequestError
//!   POST body ──▶ Payload ──┐
//!   WebSocket frame ────────┴─▶ Packet ──▶ Session::handle_packet ──▶ Message, or nothing
//!   time ──▶ Session::handle_timeout
//!                                   │
//!                                   └──▶ Session::poll_effect: what to answer, send or close
//!
//!   messages out ──▶ Framing::put_* ──▶ the WebSocket's outbound queue,
//!                                       or Session::queue ──▶ Session::take_payload
//! ```
//!
//! | to | use |
//! |---|---|
//! | read a request's query, in the reference server's order of checks | [`Query`], [`Route`] |
//! | read packets | [`Packet`] for a frame, [`Payload`] for the body of a POST |
//! | write packets, once for every receiver of one framing | [`Framing`] |
//! | run a session | [`Session`] |
//!
//! A session is attached to at most one outlet: a held poll or a WebSocket. Whoever drives it holds the
//! sockets and knows which of them is the poll, the POST, the WebSocket and the probing WebSocket; effects
//! name them by these roles.
//!
//! A sid is a secret: whoever knows it can poll and post. The caller makes it from at least 128 bits of the
//! operating system's randomness, and shows others a different id.
//!
//! Invariants:
//! - A packet is given out once: the queue of a polling session is emptied by a poll, or moved whole to the
//!   WebSocket that ends an upgrade.
//! - At most one poll and one POST are under way; a second one ends the session (the protocol, "Sending and
//!   receiving data").
//! - Every amount a peer can cause is bounded by [`Limits`]; no bytes of a peer panic.
//!
//! This module knows nothing of Socket.IO, of sockets, clocks or entropy: times are milliseconds of one
//! monotonic clock and come in as arguments, and the sid is made by the caller. Nothing here blocks or is
//! shared.

mod config;
mod encode;
mod error;
mod heartbeat;
mod outbox;
mod packet;
mod payload;
mod request;
mod session;

pub use config::{Config, Limits};
pub use encode::{Control, Framing, Upgrades, put_open};
pub use error::{CloseReason, PacketError, QueueError, RequestError};
pub use packet::{Message, Packet};
pub use payload::Payload;
pub use request::{
    Action, CACHE_CONTROL, Carrier, Method, PAYLOAD_TYPE, POST_ANSWER, POST_ANSWER_TYPE, Query, Route,
    Transport,
};
pub use session::{Effect, PostHead, Session, UpgradeAnswer};
