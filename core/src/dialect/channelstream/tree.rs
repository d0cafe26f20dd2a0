//! JSON as a tree, for bodies whose every member is read. Numbers and the order of members stay as the client
//! wrote them.
//!
//! [`json`](crate::json) checks the grammar and the depth of a text first, so the tree is built from valid
//! JSON. A tree is written in two ways: indented and in ASCII for answers, and without white space for
//! frames.

use std::{collections::HashMap, fmt::Write};

use crate::json;

/// A JSON value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// A number, as it was written.
    Number(Box<str>),
    String(Box<str>),
    Array(Vec<Json>),
    Object(Members),
}

/// The members of an object, whose names differ.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Members(Vec<(Box<str>, Json)>);

impl Members {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(own, _)| **own == *name).map(|(_, value)| value)
    }

    /// Sets a member: replaces the member of this name, or appends a new one.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Json>) {
        let value = value.into();
        match self.0.iter_mut().find(|(own, _)| **own == *name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Appends a member whose name is new.
    pub(super) fn push(&mut self, name: impl Into<Box<str>>, value: impl Into<Json>) {
        self.0.push((name.into(), value.into()));
    }

    /// Inserts a member whose name is new at a place.
    pub(super) fn insert(&mut self, at: usize, name: &str, value: impl Into<Json>) {
        self.0.insert(at, (name.into(), value.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the object without white space.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.put_compact(&mut out);
        out
    }

    fn put_compact(&self, out: &mut String) {
        out.push('{');
        for (at, (name, value)) in self.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            put_string(out, name);
            out.push(':');
            value.put_compact(out);
        }
        out.push('}');
    }

    /// The approximate length of the text that [`Members::compact`] writes, without writing it.
    pub(super) fn weight(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.weight() + 4).sum::<usize>() + 2
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Makes an object of these members.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut members = $crate::dialect::channelstream::tree::Members::default();
        $(members.push($name, $value);)*
        members
    }};
}
pub(super) use object;

impl From<Members> for Json {
    fn from(members: Members) -> Self {
        Self::Object(members)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl From<Option<&str>> for Json {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

impl<T: Into<Json>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl Json {
    /// Parses all of `bytes` as one value; `None` if the bytes are not JSON, or if a string in them is not
    /// valid text.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let raw = json::value(std::str::from_utf8(bytes).ok()?).ok()?;
        let mut reader = Reader { rest: raw.as_str() };
        reader.value()
    }

    /// Writes the value without white space.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.put_compact(&mut out);
        out
    }

    fn put_compact(&self, out: &mut String) {
        match self {
            Self::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    value.put_compact(out);
                }
                out.push(']');
            }
            Self::Object(members) => members.put_compact(out),
            Self::String(text) => put_string(out, text),
            plain => plain.put_plain(out),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 5,
            Self::Number(text) | Self::String(text) => text.len() + 2,
            Self::Array(values) => values.iter().map(|value| value.weight() + 1).sum::<usize>() + 2,
            Self::Object(members) => members.weight(),
        }
    }

    /// Writes the value in ASCII, each level indented by four spaces.
    pub(super) fn pretty(&self) -> String {
        let mut out = String::new();
        self.put_pretty(&mut out, 0);
        out
    }

    fn put_pretty(&self, out: &mut String, depth: usize) {
        match self {
            Self::Array(values) if !values.is_empty() => {
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at == 0 { "[" } else { "," });
                    put_line(out, depth + 1);
                    value.put_pretty(out, depth + 1);
                }
                put_line(out, depth);
                out.push(']');
            }
            Self::Object(members) if !members.is_empty() => {
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "{" } else { "," });
                    put_line(out, depth + 1);
                    put_ascii(out, name);
                    out.push_str(": ");
                    value.put_pretty(out, depth + 1);
                }
                put_line(out, depth);
                out.push('}');
            }
            Self::Array(_) => out.push_str("[]"),
            Self::Object(_) => out.push_str("{}"),
            Self::String(text) => put_ascii(out, text),
            plain => plain.put_plain(out),
        }
    }

    fn put_plain(&self, out: &mut String) {
        match self {
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(number) => out.push_str(number),
            _ => out.push_str("null"),
        }
    }
}

fn put_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

fn put_string(out: &mut String, text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut bytes, text);
    out.push_str(std::str::from_utf8(&bytes).expect("an escaped text is text"));
}

/// Writes a string, with an escape for every character beyond ASCII.
fn put_ascii(out: &mut String, text: &str) {
    if text.is_ascii() {
        return put_string(out, text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    put_string(&mut quoted, text);
    for letter in quoted.chars() {
        if letter.is_ascii() {
            out.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let Ok(()) = write!(out, "\\u{unit:04x}") else { return };
        }
    }
}

/// Reads a text that is known to be JSON of bounded depth.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Option<Json> {
        self.skip_space();
        Some(match self.rest.as_bytes().first()? {
            b'{' => Json::Object(self.members()?),
            b'[' => Json::Array(self.elements()?),
            b'"' => Json::String(self.string()?.into()),
            b't' => self.word("true", Json::Bool(true))?,
            b'f' => self.word("false", Json::Bool(false))?,
            b'n' => self.word("null", Json::Null)?,
            _ => Json::Number(self.number().into()),
        })
    }

    fn members(&mut self) -> Option<Members> {
        /// In an object with more members, names are looked up in a hash table.
        const FEW: usize = 16;
        let (mut members, mut places) = (Members::default(), HashMap::<Box<str>, usize>::new());
        self.rest = &self.rest[1..];
        while !self.ends(b'}')? {
            let name = self.string()?;
            self.skip_space();
            self.rest = self.rest.strip_prefix(':')?;
            let value = self.value()?;
            let place = match members.len() {
                0..=FEW => members.iter().position(|(own, _)| *own == *name),
                _ => places.get(&*name).copied(),
            };
            // Of two members with the same name, the later one counts.
            match place {
                Some(place) => members.0[place].1 = value,
                None => {
                    places.insert(name.as_str().into(), members.len());
                    members.push(name, value);
                }
            }
        }
        Some(members)
    }

    fn elements(&mut self) -> Option<Vec<Json>> {
        let mut values = Vec::new();
        self.rest = &self.rest[1..];
        while !self.ends(b']')? {
            values.push(self.value()?);
        }
        Some(values)
    }

    /// Steps over the character between two elements. Returns true at the end.
    fn ends(&mut self, end: u8) -> Option<bool> {
        self.skip_space();
        let first = *self.rest.as_bytes().first()?;
        if first == end || first == b',' {
            self.rest = &self.rest[1..];
            self.skip_space();
        }
        Some(first == end)
    }

    fn string(&mut self) -> Option<String> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while *bytes.get(end)? != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let (quoted, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        json::value(quoted).ok()?.as_string().map(String::from)
    }

    fn number(&mut self) -> &'a str {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(value)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_written() {
        for text in
            ["1e400", "123456789012345678901234567890", "-0.0", "[]", "{}", "[1,[2,{\"a\":[null]}],true]"]
        {
            assert_eq!(Json::parse(text.as_bytes()).map(|json| json.compact()).as_deref(), Some(text));
        }
        let spaced = " { \"b\" : [ 1 , false ] ,\n \"a\\u0041\\n\" : \"\\ud83d\\ude00\\\"\" } ";
        let json = Json::parse(spaced.as_bytes()).expect("it is JSON");
        assert_eq!(json.compact(), "{\"b\":[1,false],\"aA\\n\":\"😀\\\"\"}");
    }

    #[test]
    fn answers_are_indented_ascii() {
        let json =
            Json::parse("{\"é\":[1,{}],\"b\":[],\"c\":{\"d\":\"😀\"}}".as_bytes()).expect("it is JSON");
        let lines = [
            "{",
            "    \"\\u00e9\": [",
            "        1,",
            "        {}",
            "    ],",
            "    \"b\": [],",
            "    \"c\": {",
            "        \"d\": \"\\ud83d\\ude00\"",
            "    }",
            "}",
        ];
        assert_eq!(json.pretty(), lines.join("\n"));
    }

    #[test]
    fn of_two_members_of_one_name_the_last_counts() {
        let many: Vec<String> = (0..40).map(|n| format!("\"k{}\":{n}", n % 20)).collect();
        let json = Json::parse(format!("{{{}}}", many.join(",")).as_bytes()).expect("it is JSON");
        let Json::Object(members) = json else { panic!("it is an object") };
        assert_eq!(members.len(), 20);
        assert_eq!(members.get("k3"), Some(&Json::Number("23".into())));
        assert_eq!(members.iter().next().map(|(name, _)| name), Some("k0"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(1000);
        for text in ["", "{", "[1,]", "nul", "NaN", "\"\\ud800\"", "{\"a\":1}x", &deep] {
            assert_eq!(Json::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Json::parse(b"\"\xff\""), None);
    }
}
