//! One JSON value, or one key, as the sender wrote it: text already proved well-formed.

use std::borrow::Cow;
use std::fmt;

use super::escape;

/// The raw text of one JSON value, without the whitespace around it.
///
/// Only this module's parser makes one, so the text is always one well-formed value. The accessors decode on
/// demand and answer `None` when the value is of another type.
#[derive(Copy, Clone)]
pub struct Raw<'a> {
    text: &'a str,
    /// Whether this may be a string with escapes: nobody has looked, or there are some.
    escaped: bool,
}

impl<'a> Raw<'a> {
    #[inline]
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, escaped: true }
    }

    /// A value of which the parser knows whether it is a string with escapes.
    #[inline]
    pub(super) fn scanned(text: &'a str, escaped: bool) -> Self {
        Self { text, escaped }
    }

    /// The value's own bytes, fit to be embedded in another document.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// Whether this is a string, including one [`as_string`](Raw::as_string) refuses.
    #[must_use]
    pub fn is_string(self) -> bool {
        self.text.starts_with('"')
    }

    /// Whether this is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    /// Whether this is an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        self.text.starts_with('[')
    }

    /// Whether this is a number of any size.
    #[must_use]
    pub fn is_number(self) -> bool {
        self.text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// `true` or `false`.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A number written as an integer (no fraction, no exponent) that fits.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        self.text.parse().ok()
    }

    /// A number written as an integer (no fraction, no exponent) that fits.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        self.text.parse().ok()
    }

    /// What a string stands for, borrowed when nothing in it is escaped.
    ///
    /// `None` also for a string with half a surrogate pair: it is grammatical, but stands for no text.
    #[must_use]
    pub fn as_string(self) -> Option<Cow<'a, str>> {
        let quoted = self.text.strip_prefix('"')?.strip_suffix('"')?;
        if self.escaped { escape::unescape(quoted) } else { Some(Cow::Borrowed(quoted)) }
    }
}

impl PartialEq for Raw<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Raw<'_> {}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A member's name, as the sender wrote it between its quotes.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    pub(super) quoted: &'a str,
    pub(super) escaped: bool,
}

impl<'a> Key<'a> {
    /// What the name stands for. A name with half a surrogate pair stands for no text and is given as it was
    /// written, backslash and all, which no name without a backslash equals.
    #[inline]
    #[must_use]
    pub fn name(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.quoted);
        }
        escape::unescape(self.quoted).unwrap_or(Cow::Borrowed(self.quoted))
    }

    /// Whether the name stands for `name`.
    #[inline]
    #[must_use]
    pub fn is(self, name: &str) -> bool {
        if self.escaped { self.name() == name } else { self.quoted == name }
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.quoted)
    }
}
