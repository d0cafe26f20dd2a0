//! Fanfare's core: everything between bytes in and bytes out, and nothing that touches the operating system.
//! No sockets, no event loop, no clock, no entropy: time comes in as an argument, randomness as a seed.
//!
//! ```text
//!            http ──┐                                   ┌── dialect (encode)
//!   bytes ─▶        ├─▶ dialect (decode) ─▶ engine ─▶ fan-out ─▶ bytes
//!            ws  ───┘                         │
//!                                         channel (table, order, subscribers)
//! ```
//!
//! | layer | modules | may use |
//! |---|---|---|
//! | vocabulary and state | [`id`], [`limits`], [`command`], [`publication`], [`error`], [`disconnect`], [`now`], [`secret`], [`app`], [`token`], [`trigger`], [`channel`], [`mailbox`], [`slots`] | each other |
//! | codecs | [`ws`], [`http`], [`json`] | the layer above |
//! | protocol layers | [`engineio`], and on it [`socketio`] | the layers above |
//! | translation | [`dialect`] | the layers above |
//! | work | [`engine`] | the layers above |
//!
//! `tests/tidy.rs` holds the tree to this table.

pub mod app;
pub mod channel;
pub mod command;
pub mod dialect;
pub mod disconnect;
pub mod engine;
pub mod engineio;
pub mod error;
pub mod http;
pub mod id;
pub mod json;
pub mod limits;
pub mod mailbox;
pub mod now;
pub mod publication;
#[doc(hidden)]
pub mod schedule;
pub mod secret;
pub mod slots;
pub mod socketio;
mod sync;
pub mod token;
pub mod trigger;
pub mod ws;
