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
//! A module may use those of its own layer and of the layers above it:
//!
//! 1. vocabulary and state: [`id`], [`limits`], [`command`], [`publication`], [`error`], [`disconnect`],
//!    [`now`], [`secret`], [`address`], [`app`], [`token`], [`trigger`], [`channel`], [`mailbox`], [`slots`]
//! 2. codecs: [`ws`], [`http`], [`json`], [`proxy`]
//! 3. protocol layers: [`engineio`], and on it [`socketio`]
//! 4. translation: [`dialect`]
//! 5. work: [`engine`]
//!
//! `tests/tidy.rs` holds the tree to these layers.

pub mod address;
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
pub mod proxy;
pub mod publication;
#[doc(hidden)]
pub mod schedule;
pub mod secret;
pub mod slots;
pub mod socketio;
mod sync;
pub mod token;
pub mod trigger;
pub mod user_states;
pub mod verdict;
pub mod ws;
