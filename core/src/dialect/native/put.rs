//! Small pieces of JSON.

use bytes::{BufMut, BytesMut};

pub(super) fn put_number(out: &mut impl BufMut, before: &str, number: u64) {
    out.put_slice(before.as_bytes());
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn put_bool(out: &mut BytesMut, before: &str, value: bool) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(super) fn put_optional_number(out: &mut BytesMut, number: Option<u64>) {
    match number {
        Some(number) => put_number(out, "", number),
        None => out.extend_from_slice(b"null"),
    }
}
