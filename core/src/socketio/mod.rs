//! Socket.IO, protocol revision 5, the server's side: sans-I/O, on the messages of
//! [`engineio`](crate::engineio).
//!
//! Source: <https://github.com/socketio/socket.io-protocol> ("the protocol" below). Where that document is
//! silent, the behaviour is that of its reference server, npm `socket.io` 4.
//!
//! ```text
//!   engineio::Message ──▶ Connection::handle_message ──▶ Incoming: Connect, Disconnect, Event, Ack
//!                                                                     │
//!         put_connect, put_connect_error ◀── accept, refuse ──────────┤
//!         put_event, put_ack, put_disconnect ◀── the application ◀────┘
//! ```
//!
//! | to | use |
//! |---|---|
//! | run a connection: namespaces, acknowledgements, attachments, time-outs | [`Connection`] |
//! | read the head of one packet | [`Packet`] |
//! | write packets, once for every receiver of one framing | [`put_event`] and its like |
//! | find, check and renumber what stands for attachments in JSON | [`Placeholders`], [`put_renumbered`] |
//!
//! A payload is JSON text and passes as it was written: it is checked and looked into, never built anew.
//! Bytes travel beside it as attachments, in the order of the numbers by which placeholders name them.
//!
//! Invariants:
//! - A fault of the peer closes the connection: every [`ProtocolError`] is answered by closing the Engine.IO
//!   session.
//! - Everything a peer can have kept is bounded by [`Limits`]: namespaces, attachments and their bytes,
//!   acknowledgements that are waited for. No bytes of a peer panic.
//!
//! This module knows no application: no event names but those that the protocol's implementations reserve, no
//! rooms. It knows neither sockets nor clocks: times are milliseconds of one monotonic clock and come in as
//! arguments.

mod acks;
mod config;
mod connection;
mod encode;
mod error;
mod namespaces;
mod packet;
mod partial;
mod payload;
mod placeholder;

pub use config::{Config, Limits, PayloadCheck};
pub use connection::{Connection, Incoming};
pub use encode::{
    INVALID_NAMESPACE, Outgoing, put_ack, put_connect, put_connect_error, put_disconnect, put_event,
};
pub use error::{NotRequested, ProtocolError, TooManyAcks};
pub use packet::{AckId, MAIN_NAMESPACE, Packet, PacketType};
pub use payload::{Payload, RESERVED_EVENTS, check_payload};
pub use placeholder::{Placeholder, Placeholders, has_placeholder, put_renumbered};
