//! Bytes in JSON, as JavaScript writes a buffer: `{"type":"Buffer","data":[1,2]}`.

/// What it begins with.
pub(super) const HEAD: &str = r#"{"type":"Buffer","data":["#;

/// What it ends with.
pub(super) const TAIL: &str = "]}";

/// Gives the parts of `bytes` in JSON to `put`.
pub(super) fn write_buffer(bytes: &[u8], mut put: impl FnMut(&str)) {
    put(HEAD);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            put(",");
        }
        put(itoa::Buffer::new().format(*byte));
    }
    put(TAIL);
}
