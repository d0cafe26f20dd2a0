//! Answers and the other frames that are for one session alone.

use bytes::{BufMut, BytesMut};

use super::{
    outcome::{put_error, put_outcome, put_refused},
    put::{put_bool, put_number},
};
use crate::{
    command::Outcome,
    dialect::Welcome,
    error::ReplyError,
    json,
    limits::BATCH,
    ws::{Fin, OpCode, put_header},
};

/// Writes a text frame around the text that `write` appends. The text is moved once, so this function is not
/// for the hot path.
pub(super) fn put_text(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let mut text = BytesMut::with_capacity(256);
    write(&mut text);
    put_header(out, OpCode::Text, Fin::Last, text.len(), None);
    out.extend_from_slice(&text);
}

pub(in crate::dialect) fn encode_ok(out: &mut BytesMut, id: &str, outcome: &Outcome) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"id\":");
        text.extend_from_slice(id.as_bytes());
        text.extend_from_slice(b",\"ok\":");
        put_outcome(text, outcome);
        text.put_u8(b'}');
    });
}

pub(in crate::dialect) fn encode_error(out: &mut BytesMut, id: Option<&str>, error: ReplyError) {
    encode_failure(out, id, |text| put_error(text, error));
}

pub(in crate::dialect) fn encode_refused(out: &mut BytesMut, id: Option<&str>, why: &str) {
    encode_failure(out, id, |text| put_refused(text, why));
}

fn encode_failure(out: &mut BytesMut, id: Option<&str>, error: impl FnOnce(&mut BytesMut)) {
    put_text(out, |text| {
        text.put_u8(b'{');
        if let Some(id) = id {
            text.extend_from_slice(b"\"id\":");
            text.extend_from_slice(id.as_bytes());
            text.put_u8(b',');
        }
        text.extend_from_slice(b"\"error\":");
        error(text);
        text.put_u8(b'}');
    });
}

pub(in crate::dialect) fn encode_gap(out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    put_text(out, |text| {
        text.extend_from_slice(b"{\"gap\":{\"channel\":");
        json::write_optional_string(text, channel);
        put_number(text, ",\"missed\":", missed);
        text.extend_from_slice(b"}}");
    });
}

pub(in crate::dialect) fn encode_reconnect(out: &mut BytesMut, after_ms: u32) {
    put_text(out, |text| {
        put_number(text, "{\"reconnect_after_ms\":", u64::from(after_ms));
        text.extend_from_slice(b"}");
    });
}

pub(in crate::dialect) fn encode_welcome(out: &mut BytesMut, welcome: &Welcome<'_>) {
    let Welcome { session, user, app, limits, ticket, resumed } = welcome;
    put_text(out, |text| {
        text.extend_from_slice(b"{\"welcome\":{\"session\":\"");
        text.extend_from_slice(&session.text());
        text.extend_from_slice(b"\",\"user\":");
        json::write_optional_string(text, *user);
        text.extend_from_slice(b",\"app\":");
        json::write_string(text, app);
        put_number(text, ",\"ping_interval_ms\":", limits.ping_interval_ms);
        put_number(text, ",\"limits\":{\"frame_bytes\":", limits.frame_bytes as u64);
        put_number(text, ",\"message_bytes\":", limits.message_bytes as u64);
        put_number(text, ",\"profile_bytes\":", limits.profile_bytes as u64);
        put_number(text, ",\"channels\":", limits.channels as u64);
        put_number(text, ",\"batch\":", BATCH as u64);
        text.put_u8(b'}');
        if let Some(ticket) = ticket {
            text.extend_from_slice(b",\"resume\":\"");
            text.extend_from_slice(&ticket.text());
            text.put_u8(b'"');
        }
        if let Some(resumed) = resumed {
            put_bool(text, ",\"resumed\":", *resumed);
        }
        text.extend_from_slice(b"}}");
    });
}
