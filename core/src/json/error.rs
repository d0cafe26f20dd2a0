//! Why a JSON text was refused: as the caller is told, and as the parser carries it.

use std::fmt;

use super::{MAX_DEPTH, MAX_ELEMENTS, MAX_MEMBERS};

/// Why a text was refused. Every offset is in bytes from its start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// The byte at this offset cannot continue a JSON text.
    Malformed {
        /// Offset of the first byte that does not fit.
        at: usize,
    },
    /// The text ends before its value does.
    Truncated {
        /// Length of the text.
        at: usize,
    },
    /// More than [`MAX_DEPTH`] objects and arrays are open at once.
    TooDeep {
        /// Offset of the bracket that is one too many.
        at: usize,
    },
    /// A top-level object has two members of one name.
    DuplicateKey {
        /// Offset of the second one's opening quote.
        at: usize,
    },
    /// A top-level object has more than [`MAX_MEMBERS`] members.
    TooManyMembers {
        /// Offset of the first member too many.
        at: usize,
    },
    /// A top-level array has more than [`MAX_ELEMENTS`] elements.
    TooManyElements {
        /// Offset of the first element too many.
        at: usize,
    },
    /// The text is longer than 4 GiB, the reach of the scanner's offsets.
    TooLong,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::Malformed { at } => write!(f, "the JSON text is malformed at byte {at}"),
            JsonError::Truncated { at } => write!(f, "the JSON text ends too early, at byte {at}"),
            JsonError::TooDeep { at } => {
                write!(f, "the JSON text is nested more than {MAX_DEPTH} levels deep at byte {at}")
            }
            JsonError::DuplicateKey { at } => write!(f, "a JSON object repeats a key at byte {at}"),
            JsonError::TooManyMembers { at } => {
                write!(f, "a JSON object has more than {MAX_MEMBERS} members at byte {at}")
            }
            JsonError::TooManyElements { at } => {
                write!(f, "a JSON array has more than {MAX_ELEMENTS} elements at byte {at}")
            }
            JsonError::TooLong => write!(f, "the JSON text is longer than 4 GiB"),
        }
    }
}

impl std::error::Error for JsonError {}

/// A [`JsonError`] in one word, so that every result inside the parser travels in registers: the kind in the
/// top byte, the offset below it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault(u64);

impl Fault {
    const KIND: u64 = 0xff << 56;
    const UNEXPECTED: u64 = 0;
    const TOO_DEEP: u64 = 1 << 56;
    const DUPLICATE_KEY: u64 = 2 << 56;
    const TOO_MANY_MEMBERS: u64 = 3 << 56;
    const TOO_MANY_ELEMENTS: u64 = 4 << 56;

    /// The byte at `at`, or the end of the text, is not what the grammar wants there.
    #[inline(always)]
    pub(super) fn unexpected(at: usize) -> Self {
        Fault(Fault::UNEXPECTED | at as u64)
    }

    #[inline(always)]
    pub(super) fn too_deep(at: usize) -> Self {
        Fault(Fault::TOO_DEEP | at as u64)
    }

    #[inline(always)]
    pub(super) fn duplicate_key(at: usize) -> Self {
        Fault(Fault::DUPLICATE_KEY | at as u64)
    }

    #[inline(always)]
    pub(super) fn too_many_members(at: usize) -> Self {
        Fault(Fault::TOO_MANY_MEMBERS | at as u64)
    }

    #[inline(always)]
    pub(super) fn too_many_elements(at: usize) -> Self {
        Fault(Fault::TOO_MANY_ELEMENTS | at as u64)
    }

    /// What the fault means in `text`.
    #[cold]
    pub(super) fn in_text(self, text: &str) -> JsonError {
        let at = (self.0 & !Fault::KIND) as usize;
        match self.0 & Fault::KIND {
            Fault::TOO_DEEP => JsonError::TooDeep { at },
            Fault::DUPLICATE_KEY => JsonError::DuplicateKey { at },
            Fault::TOO_MANY_MEMBERS => JsonError::TooManyMembers { at },
            Fault::TOO_MANY_ELEMENTS => JsonError::TooManyElements { at },
            _ if at < text.len() => JsonError::Malformed { at },
            _ => JsonError::Truncated { at: text.len() },
        }
    }
}
