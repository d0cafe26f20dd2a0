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
//! [`engineio`](crate::engineio) has the framing and [`socketio`](crate::socketio) the packets. This module
//! alone knows Agnost's words. An event that the original does not answer is not answered here either; the
//! engine counts a failed command.

mod admission;
mod back_end;
mod content;
mod encode;
mod event;
mod http;
mod life;
mod lobby;
mod mixed;
mod polled;
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
    polled::{PollConfig, Polled, upgraded_answer},
    sessions::{KeptEvent, Sessions},
};
use crate::{
    dialect::Format,
    engineio::{self, Framing},
};

/// What a client's text frame is to the layer above Engine.IO.
enum Carried<'a> {
    /// A packet of Socket.IO.
    Packet(&'a str),
    /// A sign of life at most.
    Nothing,
    /// The client leaves.
    Close,
    /// A packet that no client sends.
    Broken,
}

impl<'a> Carried<'a> {
    fn by(text: &'a str) -> Self {
        match engineio::Packet::from_text(text) {
            Ok(engineio::Packet::Text(text)) => Self::Packet(text),
            Ok(engineio::Packet::Close) => Self::Close,
            Ok(
                engineio::Packet::Pong(_)
                | engineio::Packet::Open(_)
                | engineio::Packet::Noop
                | engineio::Packet::Upgrade,
            ) => Self::Nothing,
            Ok(engineio::Packet::Ping(_) | engineio::Packet::Binary(_)) | Err(_) => Self::Broken,
        }
    }
}

/// How packets travel in a format of this dialect.
fn framing(format: Format) -> Framing {
    match format {
        Format::AgnostPackets => Framing::Payload,
        _ => Framing::Frames,
    }
}
