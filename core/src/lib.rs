//! Fanfare's core: everything between bytes in and bytes out, and nothing that touches the operating system. No
//! sockets, no event loop, no clock, no entropy: time comes in as an argument, randomness as a seed.
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
//! | vocabulary | [`id`], [`limits`], [`command`], [`publication`], [`error`], [`disconnect`] | each other |
//! | codecs | [`ws`], [`http`], [`json`] | vocabulary |
//! | protocol layers | [`engineio`], and on it [`socketio`] | codecs |
//! | access | [`app`], [`token`] | vocabulary |
//! | state | [`channel`], [`mailbox`], [`slots`] | vocabulary |
//! | translation | [`dialect`] | vocabulary, codecs |
//! | work | [`engine`] | all of the above |

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
pub mod publication;
pub mod slots;
pub mod socketio;
mod sync;
pub mod token;
pub mod ws;
