//! The dialect of Channelstream: signed requests of back ends, and frames that are arrays of JSON, as
//! `docs/CHANNELSTREAM.md` describes.
//!
//! ```text
//!   back end ──▶ Route ──▶ Verifier ──▶ schema ──▶ Directory ──▶ Answer
//!                                                     └──▶ Effects ──▶ the engine ──▶ frames
//!   client ──/ws──▶ Directory::arrival ──▶ a session in the channels of its connection
//! ```
//!
//! A client sends nothing but signs of life. Users, connections and channels with what the original remembers
//! of them are the [`Directory`]'s; who receives what is the engine's, and so clients of all dialects are in
//! the same channels.

mod directory;
mod entry;
mod fields;
mod frames;
mod rest;
mod schema;
mod signature;
mod timestamp;
mod tree;

pub(super) use self::frames::{Heading, closing, encode_publication, heartbeat, put_disconnect};
pub use self::{
    directory::{
        Arrival, ConnId, Content, Directory, DirectoryCounters, DirectoryLimits, Effect, Tell, What,
    },
    frames::{EVENT, put_missed},
    rest::{Access, AdminPage, Answer, Call, Request, Route},
    signature::{Ageing, Verifier},
    timestamp::Moment,
};
