//! The JSON parser held against `serde_json`: the same texts accepted and refused, the same spans, the same
//! strings. [`check`] is the whole comparison of one text; the fuzz target `json_scan` runs it too.
//!
//! `serde_json` skips a `RawValue` by grammar alone, at any depth and any magnitude, which is what makes it a
//! reference. The bounds it lacks (depth, members, elements, repeated keys) are checked by other means.

use std::collections::BTreeMap;

use bytes::BytesMut;
use fanfare_core::json::{
    Document, Element, JsonError, MAX_DEPTH, MAX_ELEMENTS, MAX_MEMBERS, Object, Raw, Scanner, elements,
    escaped_len, value, write_string,
};
use serde_json::value::RawValue;

/// Compares everything the parser says of `text` with what `serde_json` says.
pub(crate) fn check(text: &str) {
    check_value(text);
    check_elements(text);
    check_scan(text);
    check_write(text);
}

fn reference(text: &str) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_str(text)
}

fn check_value(text: &str) {
    match (value(text), reference(text)) {
        (Ok(raw), Ok(expected)) => {
            assert_eq!(raw.as_str(), expected.get(), "span in {text:?}");
            check_raw(raw);
        }
        (Err(JsonError::TooDeep { at }), _) => {
            assert_eq!(depth_after(text, at), MAX_DEPTH + 1, "{text:?} is not too deep at {at}");
        }
        (Err(error), Err(_)) => check_refusal(text, error),
        (ours, theirs) => panic!("{text:?}: we say {ours:?}, serde_json {theirs:?}"),
    }
}

/// Whatever precedes the offset of an error is the start of some valid text, or a whole one.
fn check_refusal(text: &str, error: JsonError) {
    let at = match error {
        JsonError::Malformed { at } => {
            assert!(at < text.len(), "{text:?}: {error:?}");
            at
        }
        JsonError::Truncated { at } => {
            assert_eq!(at, text.len(), "{text:?}");
            at
        }
        other => panic!("{text:?}: {other:?} is no error of grammar"),
    };
    let begins = |text: &str| reference(text).err().is_none_or(|error| error.is_eof());
    let before = &text[..at];
    // serde_json does not say of a number without its digits that it could go on.
    assert!(begins(before) || begins(&format!("{before}0")), "{text:?} is wrong before {at}");
}

/// How many containers are open just after the byte at `at`.
fn depth_after(text: &str, at: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for byte in text.as_bytes()[..=at].iter() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    depth
}

fn check_raw(raw: Raw<'_>) {
    let text = raw.as_str();
    assert_eq!(raw.as_string().as_deref(), serde_json::from_str::<String>(text).ok().as_deref(), "{text}");
    assert_eq!(raw.as_bool(), serde_json::from_str(text).ok(), "{text}");
    assert_eq!(raw.as_u64(), serde_json::from_str(text).ok(), "{text}");
    // The one integer serde_json reads as a float, to keep its sign.
    let expected = if text == "-0" { Some(0) } else { serde_json::from_str(text).ok() };
    assert_eq!(raw.as_i64(), expected, "{text}");
    assert_eq!(raw.is_null(), text == "null");
    let kinds = [raw.is_string(), raw.is_number(), raw.is_object(), raw.is_array(), raw.is_null()];
    let kinds = kinds.into_iter().chain([raw.as_bool().is_some()]);
    assert_eq!(kinds.filter(|&is| is).count(), 1, "{text} is of one type");
}

fn check_elements(text: &str) {
    let ours: Result<Vec<_>, _> = elements(text).map(|element| element.map(Raw::as_str)).collect();
    match (ours, serde_json::from_str::<Vec<&RawValue>>(text)) {
        (Ok(ours), Ok(expected)) => {
            assert_eq!(ours, expected.iter().map(|raw| raw.get()).collect::<Vec<_>>(), "{text:?}");
        }
        (Err(_), Err(_)) | (Err(JsonError::TooDeep { .. }), _) => {}
        (ours, theirs) => panic!("elements of {text:?}: we say {ours:?}, serde_json {theirs:?}"),
    }
}

fn check_scan(text: &str) {
    check_repeated_scan(text);
    let mut scanner = Scanner::new();
    match scanner.scan(text) {
        Ok(document) => {
            let whole = value(text).expect("what scans is a value").as_str();
            match document {
                Document::Object(object) => {
                    assert_eq!(object.raw().as_str(), whole);
                    check_members(object);
                }
                Document::Array(array) => {
                    assert_eq!(array.raw().as_str(), whole);
                    let plain: Vec<_> = elements(text).flatten().collect();
                    assert_eq!(array.elements().map(|element| element.raw()).collect::<Vec<_>>(), plain);
                    for element in array.elements() {
                        match element {
                            Element::Object(object) => check_members(object),
                            Element::Other(raw) => assert!(!raw.is_object()),
                        }
                    }
                }
                Document::Other(raw) => {
                    assert_eq!(raw.as_str(), whole);
                    assert!(!raw.is_object() && !raw.is_array());
                }
            }
        }
        Err(JsonError::DuplicateKey { at }) => check_repeat(text, at),
        Err(JsonError::TooManyMembers { at } | JsonError::TooManyElements { at }) => {
            assert!(text[..at].matches(',').count() >= MAX_MEMBERS.min(MAX_ELEMENTS), "{text:?}");
        }
        Err(error) => assert_eq!(value(text).err(), Some(error), "{text:?}"),
    }
}

/// A scanner that has just seen a text like this one, or half of it, sees the same as a new one.
fn check_repeated_scan(text: &str) {
    let half =
        text.char_indices().map(|(at, _)| at).take_while(|at| *at <= text.len() / 2).last().unwrap_or(0);
    let like =
        [text.to_owned(), format!("{text} "), format!("{}0}}", &text[..half]), text[..half].to_owned()];
    for (first, second) in like.iter().flat_map(|first| like.iter().map(move |second| (first, second))) {
        let mut used = Scanner::new();
        used.scan(first).ok();
        assert_eq!(seen(&mut used, second), seen(&mut Scanner::new(), second), "{second:?} after {first:?}");
    }
}

/// All that a scanner says of a text.
fn seen(scanner: &mut Scanner, text: &str) -> String {
    match scanner.scan(text) {
        Ok(Document::Object(object)) => {
            let strings: Vec<_> = object.members().map(|(_, value)| value.as_string()).collect();
            format!("{object:?} {strings:?} {:?}", object.raw())
        }
        other => format!("{other:?}"),
    }
}

fn check_members(object: Object<'_, '_>) {
    let text = object.raw().as_str();
    let Ok(expected) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
        // A key that stands for no text; nothing else keeps serde_json from reading it.
        assert!(object.members().any(|(key, _)| key.name().contains('\\')), "{text:?}");
        return;
    };
    assert_eq!(object.len(), expected.len(), "{text:?}");
    for (key, raw) in object.members() {
        assert_eq!(raw.as_str(), expected[&*key.name()].get(), "{key:?} of {text:?}");
        assert_eq!(object.member(&key.name()), Some(raw));
        check_raw(raw);
    }
}

/// The key at `at` has the name of one before it in the same object.
fn check_repeat(text: &str, at: usize) {
    let (before, from) = text.split_at(at);
    let before = before.trim_end().strip_suffix(',').expect("a repeated key is not the first");
    let close = if before.trim_start().starts_with('[') { "}]" } else { "}" };
    let closed = format!("{before}{close}");
    let object = match elements(&closed).last() {
        Some(Ok(last)) => last.as_str(),
        _ => closed.trim(),
    };
    let Ok(earlier) = serde_json::from_str::<BTreeMap<String, &RawValue>>(object) else {
        return; // An earlier key stands for no text.
    };
    let key = serde_json::Deserializer::from_str(from).into_iter::<String>().next();
    if let Some(Ok(key)) = key {
        assert!(earlier.contains_key(&key), "{key:?} is not repeated at {at} of {text:?}");
    }
}

/// Any text at all can be written as a string, and is then what `serde_json` writes and what we read back.
fn check_write(text: &str) {
    let mut out = BytesMut::new();
    write_string(&mut out, text);
    assert_eq!(out.len(), escaped_len(text));
    let written = std::str::from_utf8(&out).expect("a string escapes to a string");
    assert_eq!(written, serde_json::to_string(text).expect("a string has a JSON form"));
    let read = value(written).expect("what is written is JSON").as_string();
    assert_eq!(read.as_deref(), Some(text));
}
