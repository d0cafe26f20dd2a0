//! The native dialect, `docs/PROTOCOL.md`: JSON commands in, JSON publications and answers out.

mod answers;
mod batch;
mod close;
mod command;
mod encode;
mod envelope;
mod errors;
mod given;
pub mod http;
mod options;
mod outcome;
mod put;
mod template;
#[cfg(all(test, not(loom)))]
mod tests;
mod users;

pub(super) use self::{
    answers::{encode_error, encode_gap, encode_ok, encode_reconnect, encode_refused, encode_welcome},
    batch::Batch,
    close::{closing, heartbeat, put_disconnect, put_refusal},
    encode::{Binary, Heading, encode_publication, is_reserved_event},
    envelope::Envelope,
    errors::message,
    template::CommandReader,
};
use crate::dialect::Format;

/// What becomes of binary payloads in a format of this dialect.
#[inline]
pub(super) fn binary(format: Format) -> Binary {
    if format == Format::NativeText { Binary::Base64 } else { Binary::Frame }
}
