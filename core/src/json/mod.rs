//! JSON as the wire carries it: proved well-formed in one pass, taken apart one level deep, never rebuilt.
//!
//! A command is an object, or an array of objects when a peer batches; its payload is any JSON at all and
//! goes to every receiver as the very bytes the sender wrote. So the parser builds no values. It checks the
//! grammar of the whole text (RFC 8259, nothing more: `1e400`, thirty-digit integers and unpaired surrogates
//! are JSON) and notes where the top-level members lie:
//!
//! ```text
//!   text ──▶ Scanner::scan ──▶ Document ─┬─ Object ──▶ (Key, Raw), (Key, Raw), …
//!            one pass, tables            ├─ Array ───▶ Element: Object │ Other(Raw)
//!            kept by the worker          └─ Other(Raw)
//! ```
//!
//! | to | use |
//! |---|---|
//! | take a command or a batch apart | [`Scanner::scan`] |
//! | check that a text is one JSON value | [`value`] |
//! | walk an array of anything | [`elements`] |
//! | check what is new in a text of a known shape | [`plain_string`], [`last_value`] |
//! | write a string, or `null` for none | [`escaped_len`], [`write_string`], [`write_optional_string`] |
//! | write an array | [`write_array`] |
//!
//! Nothing here knows what a command is. A scan accepts or refuses its text as a whole, so half a batch is
//! never acted on. Time is linear in the text and memory bounded by [`MAX_MEMBERS`] and [`MAX_ELEMENTS`];
//! nesting is bounded by [`MAX_DEPTH`] and costs no stack. Each worker owns a [`Scanner`]; the functions keep
//! no state.
//!
//! Tried and not kept (benches/envelope.rs, two-core cloud VM): simd-json's tape on a scratch copy, with
//! spans from the addresses of its keys, takes 1.3 to 2.2 times as long at every size (a 99-byte envelope 228
//! ns to 111, 64 KiB of text 34 µs to 20, of small records 157 µs to 76) and refuses payloads that are JSON:
//! `1e400`, integers beyond 64 bits, unpaired surrogates. serde_json into borrowed `RawValue`s takes 1.2 to
//! 2.6 times as long.

mod array;
mod error;
mod escape;
mod grammar;
mod raw;

use std::{fmt, iter::FusedIterator, ops::Range};

pub use array::write_array;
pub use error::JsonError;
pub use escape::{escaped_len, write_optional_string, write_string};
pub use raw::{Key, Raw};

use error::Fault;

/// How many objects and arrays may be open at once. A payload counts from its envelope's own brackets.
pub const MAX_DEPTH: usize = 128;

/// The most members of a top-level object, or of an object in a top-level array. Payloads have no such limit.
pub const MAX_MEMBERS: usize = 64;

/// How many elements a top-level array may have when it is taken apart by [`Scanner::scan`].
pub const MAX_ELEMENTS: usize = 1024;

/// How many table entries a [`Scanner`] keeps between texts: a large batch is not paid for ever after.
const KEPT_ENTRIES: usize = 1024;

/// The longest beginning of a text that a [`Scanner`] keeps to compare the next one with, in bytes.
const KEPT_HEAD: usize = 512;

/// The one value that is the whole of `text`, whitespace around it aside.
pub fn value(text: &str) -> Result<Raw<'_>, JsonError> {
    whole_value(text).map_err(|fault| fault.in_text(text))
}

fn whole_value(text: &str) -> Result<Raw<'_>, Fault> {
    let bytes = text.as_bytes();
    let start = grammar::skip_whitespace(bytes, 0);
    let end = grammar::value(bytes, start, 0)?;
    grammar::end(bytes, end)?;
    Ok(Raw::new(&text[start..end]))
}

/// The content of a string without escapes, and the text from its closing quote on. `rest` begins after the
/// opening quote.
#[inline]
#[must_use]
pub fn plain_string(rest: &str) -> Option<(&str, &str)> {
    let end = grammar::plain_run(rest.as_bytes(), 0);
    (grammar::byte(rest.as_bytes(), end) == b'"').then(|| rest.split_at(end))
}

/// The value that `rest` begins with, if nothing but `closing` follows, the closing brackets of all open
/// containers. For texts that are known up to there.
#[inline(always)]
#[must_use]
pub fn last_value<'a>(rest: &'a str, closing: &'static str) -> Option<&'a str> {
    let value = rest.as_bytes().ends_with(closing.as_bytes()).then(|| &rest[..rest.len() - closing.len()])?;
    let is_value = match value.as_bytes() {
        [b'"', plain @ .., b'"'] if grammar::is_plain(plain) => true,
        bytes => grammar::value(bytes, 0, closing.len()).is_ok_and(|end| end == bytes.len()),
    };
    is_value.then_some(value)
}

/// The elements of the array that is the whole of `text`, each checked when its turn comes: any number of
/// them, and no tables. An error ends the iteration.
#[must_use]
pub fn elements(text: &str) -> Elements<'_> {
    Elements { text, at: 0, state: Turn::First }
}

/// The iterator [`elements`] makes.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
    state: Turn,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Turn {
    First,
    Next,
    Done,
}

impl<'a> Elements<'a> {
    fn advance(&mut self) -> Result<Option<Raw<'a>>, Fault> {
        let bytes = self.text.as_bytes();
        let mut at = grammar::skip_whitespace(bytes, self.at);
        let turn = std::mem::replace(&mut self.state, Turn::Done);
        match (turn, grammar::byte(bytes, at)) {
            (Turn::Done, _) => return Ok(None),
            (Turn::First, b'[') => {
                at = grammar::skip_whitespace(bytes, at + 1);
                if grammar::byte(bytes, at) == b']' {
                    return grammar::end(bytes, at + 1).map(|()| None);
                }
            }
            (Turn::Next, b',') => at = grammar::skip_whitespace(bytes, at + 1),
            (Turn::Next, b']') => return grammar::end(bytes, at + 1).map(|()| None),
            _ => return Err(Fault::unexpected(at)),
        }
        self.at = grammar::value(bytes, at, 1)?;
        self.state = Turn::Next;
        Ok(Some(Raw::new(&self.text[at..self.at])))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Raw<'a>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().map_err(|fault| fault.in_text(self.text)).transpose()
    }
}

impl FusedIterator for Elements<'_> {}

/// The tables one text is taken apart into, kept from text to text so that a scan allocates nothing.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Every member of every object that was taken apart, in the order of the text.
    members: Vec<MemberSpan>,
    /// The elements of a top-level array.
    elements: Vec<ElementSpan>,
    /// The last text up to the value of its last member, if it was an object; `members` are still its own
    /// then.
    head: Vec<u8>,
}

/// Where a member lies in its text: `key_start <= key_end < start < end <= text.len()`.
#[derive(Copy, Clone, Debug)]
struct MemberSpan {
    key_start: u32,
    key_end: u32,
    key_escaped: bool,
    start: u32,
    end: u32,
    /// The value is a string with escapes.
    escaped: bool,
}

/// Where an element lies in its text, and which members are its own, if it is an object.
#[derive(Copy, Clone, Debug)]
struct ElementSpan {
    start: u32,
    end: u32,
    members_start: u32,
    members_end: u32,
}

impl Scanner {
    /// A scanner with empty tables, which the first texts grow.
    #[must_use]
    pub fn new() -> Self {
        Scanner::default()
    }

    /// Checks the whole of `text` and takes it apart: the members of an object, the elements of an array and
    /// the members of those that are objects.
    ///
    /// The returned document borrows the scanner; a [`Raw`] from the document borrows only `text`.
    pub fn scan<'s, 'a>(&'s mut self, text: &'a str) -> Result<Document<'s, 'a>, JsonError> {
        if u32::try_from(text.len()).is_err() {
            return Err(JsonError::TooLong);
        }
        #[cfg(all(test, not(loom)))]
        tests::count_scanned(text.len());
        self.take_apart(text).map_err(|fault| fault.in_text(text))
    }

    fn take_apart<'s, 'a>(&'s mut self, text: &'a str) -> Result<Document<'s, 'a>, Fault> {
        let bytes = text.as_bytes();
        if self.differs_in_last_value(bytes) {
            let raw = Raw::new(text);
            return Ok(Document::Object(Object { text, raw, members: &self.members }));
        }
        self.clear();
        let start = grammar::skip_whitespace(bytes, 0);
        let first = grammar::byte(bytes, start);
        let end = match first {
            b'{' => self.object(text, start, 0)?,
            b'[' => self.array(text, start)?,
            _ => grammar::value(bytes, start, 0)?,
        };
        grammar::end(bytes, end)?;
        let raw = Raw::new(&text[start..end]);
        if first == b'{' && start == 0 {
            self.keep_head(bytes);
        }
        Ok(match first {
            b'{' => Document::Object(Object { text, raw, members: &self.members }),
            b'[' => Document::Array(Array { text, raw, elements: &self.elements, members: &self.members }),
            _ => Document::Other(raw),
        })
    }

    /// Whether `bytes` are the last text but for the value of its last member, as commands written by the
    /// same code often are: then that value alone is new, and `members` are those of `bytes`. If it is not,
    /// or not well-formed, the text is to be looked at from its beginning.
    #[inline]
    fn differs_in_last_value(&mut self, bytes: &[u8]) -> bool {
        let start = self.head.len();
        if start == 0 || !bytes.starts_with(&self.head) {
            return false;
        }
        let Ok((end, escaped)) = member_value(bytes, start, 1) else { return false };
        let Some(last) = self.members.last_mut() else { return false };
        (last.end, last.escaped) = (offset(end), escaped);
        bytes.get(end..) == Some(b"}")
    }

    /// Keeps what [`Scanner::differs_in_last_value`] compares the next text with.
    #[inline]
    fn keep_head(&mut self, bytes: &[u8]) {
        if let Some(last) = self.members.last().filter(|last| last.start as usize <= KEPT_HEAD) {
            self.head.extend_from_slice(&bytes[..last.start as usize]);
        }
    }

    fn clear(&mut self) {
        self.head.clear();
        self.members.clear();
        self.elements.clear();
        if self.members.capacity() > KEPT_ENTRIES {
            self.members.shrink_to(KEPT_ENTRIES);
        }
        if self.elements.capacity() > KEPT_ENTRIES {
            self.elements.shrink_to(KEPT_ENTRIES);
        }
    }

    /// Notes the members of the object that opens at `at`, inside `outer` open containers, and returns its
    /// end.
    fn object(&mut self, text: &str, at: usize, outer: usize) -> Result<usize, Fault> {
        let bytes = text.as_bytes();
        let own = self.members.len();
        let mut seen = KeyFilter::default();
        let mut at = grammar::skip_whitespace(bytes, at + 1);
        if grammar::byte(bytes, at) == b'}' {
            return Ok(at + 1);
        }
        loop {
            let (key_end, key_escaped) = grammar::key(bytes, at)?;
            let (start, _) = grammar::after_colon(bytes, key_end)?;
            let (end, escaped) = member_value(bytes, start, outer + 1)?;
            let member = MemberSpan {
                key_start: offset(at + 1),
                key_end: offset(key_end - 1),
                key_escaped,
                start: offset(start),
                end: offset(end),
                escaped,
            };
            if seen.may_repeat(bytes, &member) && self.repeats(text, own, &member) {
                return Err(Fault::duplicate_key(at));
            }
            if self.members.len() - own == MAX_MEMBERS {
                return Err(Fault::too_many_members(at));
            }
            self.members.push(member);
            at = grammar::skip_whitespace(bytes, end);
            match grammar::byte(bytes, at) {
                b',' => at = grammar::skip_whitespace(bytes, at + 1),
                b'}' => return Ok(at + 1),
                _ => return Err(Fault::unexpected(at)),
            }
        }
    }

    /// Whether one of the members from `own` on has the name of `member`.
    #[cold]
    fn repeats(&self, text: &str, own: usize, member: &MemberSpan) -> bool {
        let name = member.key(text).name();
        self.members[own..].iter().any(|earlier| earlier.key(text).is(&name))
    }

    /// Notes the elements of the array that opens at `at`, the outermost container, and returns its end.
    fn array(&mut self, text: &str, at: usize) -> Result<usize, Fault> {
        let bytes = text.as_bytes();
        let mut at = grammar::skip_whitespace(bytes, at + 1);
        if grammar::byte(bytes, at) == b']' {
            return Ok(at + 1);
        }
        loop {
            if self.elements.len() == MAX_ELEMENTS {
                return Err(Fault::too_many_elements(at));
            }
            let members_start = offset(self.members.len());
            let end = match grammar::byte(bytes, at) {
                b'{' => self.object(text, at, 1)?,
                _ => grammar::value(bytes, at, 1)?,
            };
            self.elements.push(ElementSpan {
                start: offset(at),
                end: offset(end),
                members_start,
                members_end: offset(self.members.len()),
            });
            at = grammar::skip_whitespace(bytes, end);
            match grammar::byte(bytes, at) {
                b',' => at = grammar::skip_whitespace(bytes, at + 1),
                b']' => return Ok(at + 1),
                _ => return Err(Fault::unexpected(at)),
            }
        }
    }
}

/// The end of a member's value, and whether it is a string with escapes.
#[inline(always)]
fn member_value(bytes: &[u8], at: usize, outer: usize) -> Result<(usize, bool), Fault> {
    match grammar::byte(bytes, at) {
        b'"' => grammar::string(bytes, at),
        _ => Ok((grammar::value(bytes, at, outer)?, false)),
    }
}

/// An offset of a text whose length was found to fit, or a count that is smaller still.
#[inline(always)]
fn offset(at: usize) -> u32 {
    at as u32
}

impl MemberSpan {
    #[inline]
    fn key<'a>(&self, text: &'a str) -> Key<'a> {
        Key { quoted: &text[self.key_start as usize..self.key_end as usize], escaped: self.key_escaped }
    }

    #[inline]
    fn value<'a>(&self, text: &'a str) -> Raw<'a> {
        Raw::scanned(&text[self.start as usize..self.end as usize], self.escaped)
    }
}

/// Answers "this key is new" for nearly every key of an ordinary object, without a look at the others.
#[derive(Default)]
struct KeyFilter {
    seen: u64,
}

impl KeyFilter {
    /// Whether `member` may have the name of one noted before; notes it.
    #[inline(always)]
    fn may_repeat(&mut self, bytes: &[u8], member: &MemberSpan) -> bool {
        let (start, end) = (member.key_start as usize, member.key_end as usize);
        // Two bytes and the length. An empty key has its quotes for bytes.
        let first = usize::from(grammar::byte(bytes, start));
        let last = usize::from(grammar::byte(bytes, end - 1));
        // An escape hides what a key is: it and all after it are compared.
        let bits =
            if member.key_escaped { u64::MAX } else { 1 << (((first ^ (last << 2)) + (end - start)) % 64) };
        let may_repeat = self.seen & bits != 0;
        self.seen |= bits;
        may_repeat
    }
}

/// A text taken apart by [`Scanner::scan`], proved well-formed as a whole.
#[derive(Copy, Clone, Debug)]
pub enum Document<'s, 'a> {
    /// An object and its members.
    Object(Object<'s, 'a>),
    /// An array and its elements.
    Array(Array<'s, 'a>),
    /// A string, a number, `true`, `false` or `null`.
    Other(Raw<'a>),
}

/// An object and its members, no two of one name.
#[derive(Copy, Clone)]
pub struct Object<'s, 'a> {
    text: &'a str,
    raw: Raw<'a>,
    members: &'s [MemberSpan],
}

impl<'s, 'a> Object<'s, 'a> {
    /// The object's own text.
    #[must_use]
    pub fn raw(&self) -> Raw<'a> {
        self.raw
    }

    /// The text up to the value of the member at this place, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    #[must_use]
    pub fn text_before(&self, place: usize) -> &'a str {
        &self.text[..self.members[place].start as usize]
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether this is `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The value of the member named `name`. Linear in the number of members: to read several, match on the
    /// names of [`members`](Object::members) instead.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Raw<'a>> {
        self.members
            .iter()
            .find(|member| member.key(self.text).is(name))
            .map(|member| member.value(self.text))
    }

    /// The value of the member named `name`, unless the value is `null`. As linear as
    /// [`member`](Object::member).
    #[must_use]
    pub fn given(&self, name: &str) -> Option<Raw<'a>> {
        self.member(name).filter(|value| !value.is_null())
    }

    /// The names of the members, in the order of the text.
    #[inline]
    pub fn keys(&self) -> impl ExactSizeIterator<Item = Key<'a>> + use<'s, 'a> {
        let text = self.text;
        self.members.iter().map(move |member| member.key(text))
    }

    /// The value of the member at this place, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline]
    #[must_use]
    pub fn value(&self, place: usize) -> Raw<'a> {
        self.members[place].value(self.text)
    }

    /// The members in the order of the text.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (Key<'a>, Raw<'a>)> + use<'s, 'a> {
        let text = self.text;
        self.members.iter().map(move |member| (member.key(text), member.value(text)))
    }
}

impl fmt::Debug for Object<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.members()).finish()
    }
}

/// An array and its elements.
#[derive(Copy, Clone)]
pub struct Array<'s, 'a> {
    text: &'a str,
    raw: Raw<'a>,
    elements: &'s [ElementSpan],
    members: &'s [MemberSpan],
}

impl<'s, 'a> Array<'s, 'a> {
    /// The array's own text.
    #[must_use]
    pub fn raw(&self) -> Raw<'a> {
        self.raw
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether this is `[]`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The element at this place, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    #[must_use]
    pub fn element(&self, place: usize) -> Element<'s, 'a> {
        self.elements[place].element(self.text, self.members)
    }

    /// Where each element stands in the text that was scanned.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Range<u32>> + use<'s, 'a> {
        self.elements.iter().map(|element| element.start..element.end)
    }

    /// The elements in the order of the text.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = Element<'s, 'a>> + use<'s, 'a> {
        let (text, members) = (self.text, self.members);
        self.elements.iter().map(move |element| element.element(text, members))
    }
}

impl fmt::Debug for Array<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.elements()).finish()
    }
}

/// One element of an array taken apart by [`Scanner::scan`].
#[derive(Copy, Clone, Debug)]
pub enum Element<'s, 'a> {
    /// An object and its members.
    Object(Object<'s, 'a>),
    /// Anything else, an inner array included.
    Other(Raw<'a>),
}

impl<'a> Element<'_, 'a> {
    /// The element's own text.
    #[must_use]
    pub fn raw(&self) -> Raw<'a> {
        match self {
            Element::Object(object) => object.raw(),
            Element::Other(raw) => *raw,
        }
    }
}

impl ElementSpan {
    fn element<'s, 'a>(&self, text: &'a str, members: &'s [MemberSpan]) -> Element<'s, 'a> {
        let raw = Raw::new(&text[self.start as usize..self.end as usize]);
        if !raw.is_object() {
            return Element::Other(raw);
        }
        let own = self.members_start as usize..self.members_end as usize;
        Element::Object(Object { text, raw, members: &members[own] })
    }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    //! Counts what is scanned.

    use std::cell::Cell;

    thread_local! {
        static SCANNED: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count_scanned(bytes: usize) {
        SCANNED.set(SCANNED.get() + bytes);
    }

    /// Bytes that this thread has scanned since the last call.
    pub(crate) fn take_scanned() -> usize {
        SCANNED.take()
    }
}
