//! HTTP above the wire: who may come in, the handshake, the routes of the API and their answers.
//!
//! ```text
//!   head ─▶ router::admit ─▶ api::Requests::handle ─▶ engine ─▶ Reply        (may wait for other workers)
//!       └─▶ upgrade::upgrade ─▶ a session
//! ```
//!
//! Nothing here knows a socket: requests come in as heads and bodies, answers go out as bytes. The framing of
//! HTTP is
//! `fanfare_core::http`; when a connection is read, held and closed is `worker/http.rs`.

pub(crate) mod access;
pub(crate) mod agnost;
pub(crate) mod api;
pub(crate) mod channelstream;
pub(crate) mod cors;
pub(crate) mod members;
pub(crate) mod reply;
pub(crate) mod router;
pub(crate) mod upgrade;
pub(crate) mod xano;
