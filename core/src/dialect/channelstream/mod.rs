//! The dialect of Channelstream: signed requests of back ends, and frames that are arrays of JSON, as
//! `docs/CHANNELSTREAM.md` describes.
//!
//! ```text
//!   back end ──▶ Route ──▶ Verifier ──▶ Hearing ──▶ schema ──▶ Directory ──▶ Answer
//!                                                                 └──▶ Effects ──▶ the engine ──▶ frames
//!   client ──/ws──▶ Directory::arrival ──▶ a session in the channels of its connection
//! ```
//!
//! A client sends only heartbeats. The [`Directory`] keeps the users, the connections, the channels and their
//! histories. The engine delivers messages, so clients of all dialects share the same channels. The engine
//! reports members of other dialects to the directory, which lists them among the users.

mod directory;
mod effect;
mod entry;
mod fields;
mod frames;
mod hearing;
mod polled;
mod rest;
mod schema;
mod signature;
mod timestamp;
mod tree;

pub use self::{
    directory::{Arrival, ConnId, Directory, DirectoryCounters, DirectoryLimits, DirectorySizes},
    effect::{Content, Effect, Tell, What},
    frames::{EVENT, put_missed},
    hearing::{Heard, Hearing, Matter},
    polled::{Listening, is_callback},
    rest::{Access, AdminPage, Answer, Body, Call, Request, Route},
    signature::{Ageing, Verifier},
    timestamp::Moment,
};
pub(super) use self::{
    frames::{Heading, closing, encode_publication, heartbeat, put_disconnect},
    polled::Polled,
};
