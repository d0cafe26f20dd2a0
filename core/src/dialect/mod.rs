//! The boundary: bytes in become commands, events become bytes out. Everything that differs between protocols is
//! decided here and in the module of the dialect; no other module knows a dialect's words.
//!
//! A dialect may have several wire formats, for receivers of different abilities. A channel's run is encoded once for each format
//! that has members.

mod native;

use std::ops::Range;

use bytes::BytesMut;

pub use self::native::{
    Batch, CommandReader, Envelope, Heading, TemplateMatch, Welcome, WelcomeLimits, read_binary,
};
use crate::{command::Outcome, error::ReplyError, id::SessionId, publication::Publication, ws};

/// How a connection wants what it receives.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub enum Format {
    /// Native; binary payloads in binary frames.
    Native = 0,
    /// Native; everything in text frames, binary payloads as base64.
    NativeText = 1,
}

/// Number of formats.
pub const FORMATS: usize = 2;

impl Format {
    /// All of them, by index.
    pub const ALL: [Format; FORMATS] = [Format::Native, Format::NativeText];

    /// Its place in [`Format::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Appends a publication of `channel` (`None`: a broadcast) as one frame. `heading` is new, or was cleared, or
/// has seen publications of this channel alone.
#[inline]
pub fn encode_publication(
    format: Format,
    out: &mut BytesMut,
    heading: &mut Heading,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    let binary = match format {
        Format::Native => native::Binary::Frame,
        Format::NativeText => native::Binary::Base64,
    };
    native::encode_publication(out, heading, channel, publication, binary);
}

/// The frames among `bytes`, which are whole frames of `format`, that a client counts as received; heartbeats and the
/// like are left out. Where each begins and ends.
pub fn data_frames(format: Format, bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    match format {
        Format::Native | Format::NativeText => ws::data_frames(bytes),
    }
}

/// Appends the answer to a command that succeeded. `id` is JSON, as the command had it.
pub fn encode_ok(format: Format, out: &mut BytesMut, id: &str, outcome: &Outcome) {
    match format {
        Format::Native | Format::NativeText => native::encode_ok(out, id, outcome),
    }
}

/// Appends the answer to a command that failed.
pub fn encode_error(format: Format, out: &mut BytesMut, id: Option<&str>, error: ReplyError) {
    match format {
        Format::Native | Format::NativeText => native::encode_error(out, id, error),
    }
}

/// Appends word of publications lost to a connection's own slowness.
pub fn encode_gap(format: Format, out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    match format {
        Format::Native | Format::NativeText => native::encode_gap(out, channel, missed),
    }
}

/// Appends how long to wait before connecting again, to a connection that is about to be closed.
pub fn encode_reconnect(format: Format, out: &mut BytesMut, after_ms: u32) {
    match format {
        Format::Native | Format::NativeText => native::encode_reconnect(out, after_ms),
    }
}

/// Appends the first frame of a connection.
pub fn encode_welcome(format: Format, out: &mut BytesMut, welcome: &Welcome<'_>) {
    match format {
        Format::Native | Format::NativeText => native::encode_welcome(out, welcome),
    }
}

/// An outcome as the JSON of an HTTP answer.
pub fn put_outcome(out: &mut BytesMut, outcome: &Outcome) {
    native::put_outcome(out, outcome);
}

/// An error as the JSON of an HTTP answer.
pub fn put_error(out: &mut BytesMut, error: ReplyError) {
    native::put_error(out, error);
}

/// A member as the JSON payload of a presence notice.
pub fn put_member(out: &mut BytesMut, id: SessionId, user: Option<&str>, profile: Option<&str>) {
    native::put_member(out, id, user, profile);
}
