//! Placeholders: objects that stand for attachments, `{"_placeholder":true,"num":0}`, anywhere in a payload.
//!
//! An object is a placeholder if its member `_placeholder` is `true`, whatever the order, spelling and number
//! of its members, because that is how clients read it. So an object that a peer wrote into an ordinary event
//! becomes one as soon as a server puts it into a packet with attachments: [`has_placeholder`] finds these.
//!
//! All functions take JSON that was found well-formed. On any other text they end, without a meaning.

use std::ops::Range;

use bytes::BytesMut;
use memchr::{memchr2, memmem};

use super::ProtocolError;
use crate::json;

/// An object that stands for an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// Where the object lies in the text, in bytes, with its braces.
    pub range: Range<usize>,
    /// The attachment, from 0; `None` if `num` is missing or not a whole number.
    pub number: Option<u32>,
}

/// The placeholders of a text, outermost only, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placeholders {
    found: Vec<Placeholder>,
}

impl Placeholders {
    /// Finds the placeholders of `json`. A text without any is looked through once, and nothing is allocated.
    pub fn find(json: &str) -> Self {
        if may_have_one(json) { Finder::default().run(json) } else { Self::default() }
    }

    /// The placeholders.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Placeholder> {
        self.found.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Requires that each names one of `attachments` attachments, and no two the same. An attachment may be
    /// named by none.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Placeholder`].
    pub fn check(&self, attachments: usize) -> Result<(), ProtocolError> {
        let mut named = vec![false; attachments];
        for placeholder in &self.found {
            let number = placeholder.number.and_then(|number| named.get_mut(number as usize));
            match number {
                Some(named) if !*named => *named = true,
                _ => return Err(ProtocolError::Placeholder),
            }
        }
        Ok(())
    }
}

/// Whether `json` has a placeholder.
pub fn has_placeholder(json: &str) -> bool {
    !Placeholders::find(json).is_empty()
}

/// Appends `json` with `first` added to the number of each placeholder: for payloads that are put together
/// into one packet, whose attachments follow one another. What is written of a placeholder is its number
/// alone, in the form that the implementations of the protocol write.
pub fn put_renumbered(out: &mut BytesMut, json: &str, first: u32) {
    let mut at = 0;
    for placeholder in Placeholders::find(json).iter() {
        out.extend_from_slice(&json.as_bytes()[at..placeholder.range.start]);
        at = placeholder.range.end;
        let number = placeholder.number.unwrap_or_default().saturating_add(first);
        out.extend_from_slice(b"{\"_placeholder\":true,\"num\":");
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        out.extend_from_slice(b"}");
    }
    out.extend_from_slice(&json.as_bytes()[at..]);
}

/// Whether `json` is worth a closer look: a key may be spelled with escapes.
fn may_have_one(json: &str) -> bool {
    let bytes = json.as_bytes();
    memmem::find(bytes, b"_placeholder").is_some() || memmem::find(bytes, b"\\u").is_some()
}

/// Goes through a text without recursion: one entry for each open container.
#[derive(Debug, Default)]
struct Finder {
    open: Vec<Container>,
    found: Vec<Placeholder>,
    /// Whether the next string is a key.
    expects_key: bool,
}

#[derive(Debug)]
struct Container {
    start: usize,
    kind: Kind,
    key: Key,
    is_placeholder: bool,
    number: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
}

/// The key whose value comes next, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Placeholder,
    Num,
    Other,
}

impl Finder {
    fn run(mut self, json: &str) -> Placeholders {
        let bytes = json.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            at = match byte {
                b'{' => self.enter(Kind::Object, at),
                b'[' => self.enter(Kind::Array, at),
                b'}' | b']' => self.leave(at),
                b',' => {
                    self.expects_key = self.open.last().is_some_and(|open| open.kind == Kind::Object);
                    at + 1
                }
                b'"' => self.string(json, at),
                b':' | b' ' | b'\t' | b'\n' | b'\r' => at + 1,
                _ => self.scalar(json, at),
            };
        }
        Placeholders { found: self.found }
    }

    fn enter(&mut self, kind: Kind, start: usize) -> usize {
        self.value("");
        self.open.push(Container { start, kind, key: Key::Other, is_placeholder: false, number: None });
        self.expects_key = kind == Kind::Object;
        start + 1
    }

    fn leave(&mut self, at: usize) -> usize {
        self.expects_key = false;
        if let Some(closed) = self.open.pop().filter(|closed| closed.is_placeholder) {
            // What stands inside a placeholder goes with it.
            let inner = self.found.iter().rposition(|found| found.range.start < closed.start);
            self.found.truncate(inner.map_or(0, |last| last + 1));
            self.found.push(Placeholder { range: closed.start..at + 1, number: closed.number });
        }
        at + 1
    }

    fn string(&mut self, json: &str, at: usize) -> usize {
        let end = string_end(json.as_bytes(), at);
        if std::mem::take(&mut self.expects_key) {
            if let Some(open) = self.open.last_mut() {
                open.key = classify(&json[at..end]);
            }
        } else {
            self.value("");
        }
        end
    }

    fn scalar(&mut self, json: &str, at: usize) -> usize {
        let rest = &json[at..];
        let len =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        self.value(&rest[..len]);
        // A byte that begins no token is skipped, with the rest of its character.
        at + len.max(rest.chars().next().map_or(1, char::len_utf8))
    }

    /// A value that is a number, `true`, `false` or `null`; empty for any other.
    fn value(&mut self, scalar: &str) {
        let Some(open) = self.open.last_mut() else { return };
        match std::mem::replace(&mut open.key, Key::Other) {
            Key::Placeholder => open.is_placeholder = scalar == "true",
            Key::Num => open.number = scalar.parse().ok().filter(|_| !scalar.starts_with('+')),
            Key::Other => {}
        }
    }
}

/// The end of the string that begins at `at`, or of the text.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// `quoted` is a whole string, with its quotes.
fn classify(quoted: &str) -> Key {
    let name = match quoted {
        r#""_placeholder""# => return Key::Placeholder,
        r#""num""# => return Key::Num,
        escaped if escaped.contains('\\') => json::value(escaped).ok().and_then(json::Raw::as_string),
        _ => None,
    };
    match name.as_deref() {
        Some("_placeholder") => Key::Placeholder,
        Some("num") => Key::Num,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Vec<(&str, Option<u32>)> {
        json::value(json).expect("JSON");
        let placeholders = Placeholders::find(json);
        placeholders.iter().map(|one| (&json[one.range.clone()], one.number)).collect()
    }

    #[test]
    fn placeholders_are_found_wherever_and_however_they_are_written() {
        let plain = r#"{"_placeholder":true,"num":0}"#;
        assert_eq!(found(plain), [(plain, Some(0))]);
        let nested =
            r#"["a",{"b":[1,{"num":1,"_placeholder":true}],"c":{ "_placeholder" : true , "num" : 0 }}]"#;
        assert_eq!(
            found(nested),
            [
                (r#"{"num":1,"_placeholder":true}"#, Some(1)),
                (r#"{ "_placeholder" : true , "num" : 0 }"#, Some(0)),
            ]
        );
        let escaped = r#"[{"\u005fplaceholder":true,"n\u0075m":3,"x":"}"}]"#;
        assert_eq!(found(escaped), [(&escaped[1..escaped.len() - 1], Some(3))]);
        let inner =
            r#"[{"_placeholder":true,"num":2},{"_placeholder":true,"num":0,"x":[{"_placeholder":true}]}]"#;
        assert_eq!(found(inner), [(&inner[1..30], Some(2)), (&inner[31..inner.len() - 1], Some(0))]);
    }

    #[test]
    fn the_last_of_two_members_counts() {
        assert_eq!(found(r#"{"_placeholder":true,"num":0,"num":5}"#).first().map(|one| one.1), Some(Some(5)));
        assert!(found(r#"{"_placeholder":true,"_placeholder":false,"num":0}"#).is_empty());
        assert!(found(r#"{"_placeholder":true,"_placeholder":{},"num":0}"#).is_empty());
    }

    #[test]
    fn what_only_looks_like_a_placeholder_is_none() {
        for json in [
            r#"["_placeholder",true]"#,
            r#"{"a":"_placeholder","b":true}"#,
            r#"{"_placeholder":"true","num":0}"#,
            r#"{"_placeholder":[true],"num":0}"#,
            r#"{"_placeholder":1,"num":0}"#,
            r#"{"x":"{\"_placeholder\":true,\"num\":0}"}"#,
            r#"{"_Placeholder":true,"num":0}"#,
        ] {
            assert!(found(json).is_empty(), "{json}");
            assert!(!has_placeholder(json));
        }
    }

    #[test]
    fn numbers_that_name_no_attachment_of_their_own_are_refused() {
        let check = |json: &str, attachments| Placeholders::find(json).check(attachments);
        let one = |num: &str| format!(r#"[{{"_placeholder":true,"num":{num}}}]"#);
        assert_eq!(check(&one("0"), 1), Ok(()));
        assert_eq!(check("[]", 1), Ok(()), "an attachment that nothing names");
        for num in ["1", "-1", "-0", "0.5", "1e0", "\"0\"", "null", "4294967296", "[0]"] {
            assert_eq!(check(&one(num), 1), Err(ProtocolError::Placeholder), "{num}");
        }
        assert_eq!(check(r#"[{"_placeholder":true}]"#, 1), Err(ProtocolError::Placeholder));
        let twice = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        assert_eq!(check(twice, 2), Err(ProtocolError::Placeholder));
    }

    #[test]
    fn renumbering_changes_nothing_else() {
        let mut out = BytesMut::new();
        put_renumbered(&mut out, r#"["é",{"num":1,"_placeholder":true}, {"_placeholder":true,"num":0} ]"#, 7);
        assert_eq!(out, r#"["é",{"_placeholder":true,"num":8}, {"_placeholder":true,"num":7} ]"#.as_bytes());
        out.clear();
        put_renumbered(&mut out, r#"{"a":"\u00e9"}"#, 7);
        assert_eq!(out, r#"{"a":"\u00e9"}"#.as_bytes());
    }
}
