//! The native dialect, `docs/PROTOCOL.md`: JSON commands in, JSON publications and answers out.

mod read;
mod write;

pub(super) use self::write::{
    Binary, encode_error, encode_gap, encode_ok, encode_publication, encode_reconnect, encode_welcome,
    put_error, put_member, put_outcome,
};
pub use self::{
    read::{Batch, CommandReader, Envelope, TemplateMatch, read_binary},
    write::{Heading, Welcome, WelcomeLimits},
};
