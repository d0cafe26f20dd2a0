//! The dialect of Agnost and Altogic: events of Socket.IO in, events of Socket.IO out, as `docs/AGNOST.md`
//! describes.
//!
//! ```text
//!   WebSocket ─▶ Lobby ──CONNECT──▶ admit ──▶ a session       before: no session, no app
//!                                     ├─────▶ Refusal         CONNECT_ERROR
//!                                     └─────▶ BackEnd         no session: commands for the apps it names
//!   message ──▶ Sessions ──▶ Packet ──▶ Command               from then on
//! ```
//!
//! The framing and the packets are those of [`engineio`](crate::engineio) and
//! [`socketio`](crate::socketio). This module alone knows Agnost's words. Nothing here is answered that the
//! original leaves unanswered: a command that fails is counted by the engine and not told.

mod admission;
mod back_end;
mod content;
mod encode;
mod event;
mod http;
mod life;
mod lobby;
mod mixed;
mod sessions;
#[cfg(all(test, not(loom)))]
mod tests;

pub use self::{
    admission::{Admission, Entrance, Refusal, admit},
    back_end::{BackEnd, Heard, Receipt, Scope},
    http::{HttpProblem, MembersHead, put_members},
    lobby::{Knock, Lobby},
    sessions::Packet,
};
pub(super) use self::{
    encode::{Heading, encode_answer, encode_publication, encode_welcome},
    life::{closing, heartbeat, put_disconnect},
    sessions::Sessions,
};
use crate::engineio::Framing;

/// How packets travel: this dialect is spoken over WebSocket.
const FRAMING: Framing = Framing::Frames;
