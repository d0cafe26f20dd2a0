//! The header fields of one head, in place.
//!
//! Owns lookup and the reading of comma-separated lists. Knows no field by name. Holds slices of the input
//! and an inline array, so a head allocates nothing. `0 <= len <= MAX_HEADERS`; names are tokens and values
//! hold no control byte but HTAB, both kept by httparse.

use super::HttpError;

/// Header fields a head can hold, whatever the limits say.
pub const MAX_HEADERS: usize = 64;

/// The header fields of a head, in the order they arrived.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    fields: [httparse::Header<'a>; MAX_HEADERS],
    len: usize,
}

impl<'a> Headers<'a> {
    /// The first value of `name`, compared without case, trimmed of the whitespace around it.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value of `name` when it is UTF-8.
    pub fn first_str(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.first(name)?).ok()
    }

    /// Every value of `name`, in order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a [u8]> + 's {
        self.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How often `name` occurs.
    pub fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// Whether any occurrence of the list field `name` has the element `token`, both compared without case.
    /// This is how Connection and Upgrade are to be read.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Every field as it was written.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + '_ {
        self.fields[..self.len].iter().map(|field| (field.name, field.value))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Runs `parse` over room for `limit` fields, and keeps those it says it filled.
    pub(super) fn fill<T>(
        limit: usize,
        parse: impl FnOnce(&mut [httparse::Header<'a>]) -> Result<(T, usize), HttpError>,
    ) -> Result<(T, Self), HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let (parsed, len) = parse(&mut fields[..limit.min(MAX_HEADERS)])?;
        Ok((parsed, Self { fields, len }))
    }
}

/// Whether `byte` may stand in a token: a method or a field name (RFC 9110 section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether `byte` may stand in a field value: anything but the control bytes, of which HTAB alone is allowed.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
