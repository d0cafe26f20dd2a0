//! The dialect of Xano's first realtime protocol: JSON actions in text frames, as `docs/XANO.md` describes.
//!
//! ```text
//!   GET /rt/<canonical> ─▶ admit ─▶ a session                  the token is the subprotocol
//!                            └────▶ put_stranger               an error and a close frame for good
//!   message ──▶ Sessions ──▶ Frame ──▶ Command                 {action, options, payload}
//!   publication, outcome, error ──▶ one envelope each          {action, client, options, payload}
//! ```
//!
//! This module alone knows Xano's words. The app's [`XanoOptions`](crate::app::XanoOptions) list the channels
//! that Xano's clients may use. Clients of every dialect share these channels and their options.

mod action;
mod admission;
mod encode;
mod errors;
mod http;
mod life;
#[cfg(all(test, not(loom)))]
mod tests;

pub use self::{
    action::Frame,
    admission::{Admission, Stranger, admit, canonical_at, put_stranger},
    encode::{put_trigger_client, put_trigger_options},
    http::{EVENT_PATH, SETTINGS_PATH, read_event},
};
pub(super) use self::{
    action::Sessions,
    encode::{
        Heading, encode_closed, encode_error, encode_gap, encode_ok, encode_publication, encode_refused,
    },
    life::{closing, heartbeat, put_disconnect, put_refusal},
};
