//! Values of bodies, with the leniencies of the original's schemas and its words for what is wrong.

use super::tree::{Json, Members, object};

/// What is wrong with a value: a list of sentences, or a map of the parts that are wrong.
pub(super) type Wrong = Json;

/// A value or what is wrong with it.
pub(super) type Read<T> = Result<T, Wrong>;

pub(super) const MISSING: &str = "Missing data for required field.";
pub(super) const NULL: &str = "Field may not be null.";
pub(super) const INPUT_TYPE: &str = "Invalid input type.";

/// One sentence about a value.
pub(super) fn wrong(sentence: &str) -> Wrong {
    [sentence].into_iter().collect()
}

/// What is wrong with a body that is no object.
pub(super) fn wrong_type() -> Members {
    object! { "_schema": wrong(INPUT_TYPE) }
}

/// How long a text may be, in characters.
#[derive(Copy, Clone)]
pub(super) struct Length {
    pub(super) most: usize,
}

impl Length {
    /// Of channels and keys.
    pub(super) const NAME: Self = Self { most: 256 };
    /// Of users.
    pub(super) const USER: Self = Self { most: 512 };
}

pub(super) fn text(value: &Json) -> Read<Box<str>> {
    match value {
        Json::String(text) => Ok(text.clone()),
        _ => Err(wrong("Not a valid string.")),
    }
}

/// A text of one to `length` characters. Its bytes are bounded as well: names are at most that long here.
pub(super) fn name(length: Length) -> impl Fn(&Json) -> Read<Box<str>> {
    move |value| {
        let text = text(value)?;
        let fits = (1..=length.most).contains(&text.chars().count()) && text.len() <= length.most;
        match fits {
            true => Ok(text),
            false => Err(wrong(&format!("Length must be between 1 and {}.", length.most))),
        }
    }
}

pub(super) fn boolean(value: &Json) -> Read<bool> {
    const TRUE: [&str; 6] = ["t", "T", "true", "True", "TRUE", "1"];
    const FALSE: [&str; 6] = ["f", "F", "false", "False", "FALSE", "0"];
    let word = |words: [&str; 6], word: &str| words.contains(&word);
    match value {
        Json::Bool(value) => Some(*value),
        Json::Number(number) => match number.parse::<f64>() {
            Ok(1.0) => Some(true),
            Ok(0.0) => Some(false),
            _ => None,
        },
        Json::String(text) if word(TRUE, text) => Some(true),
        Json::String(text) if word(FALSE, text) => Some(false),
        _ => None,
    }
    .ok_or_else(|| wrong("Not a valid boolean."))
}

/// An integer of zero or more; a fraction is cut off.
pub(super) fn count(value: &Json) -> Read<u64> {
    let number = match value {
        Json::Bool(value) => Some(i64::from(*value)),
        Json::Number(number) => whole(number).or_else(|| number.parse().ok().and_then(cut)),
        Json::String(text) => whole(text.trim()),
        _ => None,
    };
    let number = number.ok_or_else(|| wrong("Not a valid integer."))?;
    u64::try_from(number).map_err(|_| wrong("Must be at least 0."))
}

fn whole(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn cut(number: f64) -> Option<i64> {
    const MOST: f64 = 9e15;
    (number.abs() < MOST).then_some(number as i64)
}

/// A UUID in any spelling: with or without hyphens, braces, or the prefix of a URN.
pub(super) fn uuid(value: &Json) -> Read<u128> {
    let Json::String(text) = value else { return Err(wrong("Not a valid UUID.")) };
    parse_uuid(text).ok_or_else(|| wrong("Not a valid UUID."))
}

/// See [`uuid`].
pub(super) fn parse_uuid(text: &str) -> Option<u128> {
    const LONGEST: usize = 128;
    (text.len() <= LONGEST).then_some(())?;
    let text = text.replace("urn:", "").replace("uuid:", "");
    let digits: String = text.trim_matches(['{', '}']).chars().filter(|letter| *letter != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_uuid.then(|| u128::from_str_radix(&digits, 16).ok())?
}

pub(super) fn time(value: &Json) -> Read<Box<str>> {
    let Json::String(text) = value else { return Err(wrong("Not a valid datetime.")) };
    super::timestamp::normalise(text).map(Into::into).ok_or_else(|| wrong("Not a valid datetime."))
}

pub(super) fn object_of_anything(value: &Json) -> Read<Members> {
    match value {
        Json::Object(members) => Ok(members.clone()),
        _ => Err(wrong("Not a valid mapping type.")),
    }
}

/// A list, of whose elements none may be null.
pub(super) fn list<T>(of: impl Fn(&Json) -> Read<T>) -> impl Fn(&Json) -> Read<Vec<T>> {
    move |value| {
        let Json::Array(values) = value else { return Err(wrong("Not a valid list.")) };
        let (mut read, mut errors) = (Vec::new(), Members::default());
        for (at, value) in values.iter().enumerate() {
            match not_null(value).and_then(&of) {
                Ok(value) => read.push(value),
                Err(wrong) => errors.push(at.to_string(), wrong),
            }
        }
        if errors.is_empty() { Ok(read) } else { Err(errors.into()) }
    }
}

/// An object whose values are all of one kind, under any names.
pub(super) fn map<T>(of: impl Fn(&Json) -> Read<T>) -> impl Fn(&Json) -> Read<Vec<(Box<str>, T)>> {
    move |value| {
        let (mut read, mut errors) = (Vec::new(), Members::default());
        let members = match value {
            Json::Object(members) => members,
            _ => return Err(wrong("Not a valid mapping type.")),
        };
        for (name, value) in members.iter() {
            match of(value) {
                Ok(value) => read.push((name.into(), value)),
                Err(wrong) => errors.push(name, object! { "value": wrong }),
            }
        }
        if errors.is_empty() { Ok(read) } else { Err(errors.into()) }
    }
}

/// A value of a user's state.
pub(super) fn scalar(value: &Json) -> Read<Json> {
    match value {
        Json::Array(_) | Json::Object(_) => {
            Err(wrong("Value is not type of string, integer, boolean or float."))
        }
        scalar => Ok(scalar.clone()),
    }
}

pub(super) fn not_null(value: &Json) -> Read<&Json> {
    if *value == Json::Null { Err(wrong(NULL)) } else { Ok(value) }
}

/// Reads the fields of one object, and gathers what is wrong with them.
pub(super) struct Fields<'a> {
    members: &'a Members,
    errors: Members,
}

impl<'a> Fields<'a> {
    /// Of a value; `Err`: it is no object.
    pub(super) fn of(value: &'a Json) -> Result<Self, Members> {
        match value {
            Json::Object(members) => Ok(Self { members, errors: Members::default() }),
            _ => Err(wrong_type()),
        }
    }

    /// A field that may be missing, but not be null.
    pub(super) fn optional<T>(&mut self, name: &str, read: impl FnOnce(&Json) -> Read<T>) -> Option<T> {
        let value = self.members.get(name)?;
        self.keep(name, not_null(value).and_then(read))
    }

    /// A field that may be missing or null, which is the same.
    pub(super) fn nullable<T>(&mut self, name: &str, read: impl FnOnce(&Json) -> Read<T>) -> Option<T> {
        let value = self.members.get(name).filter(|value| **value != Json::Null)?;
        self.keep(name, read(value))
    }

    /// A field that must be there. `None`: it is wrong, and so is the object.
    pub(super) fn required<T>(&mut self, name: &str, read: impl FnOnce(&Json) -> Read<T>) -> Option<T> {
        let value = self.members.get(name).ok_or_else(|| wrong(MISSING));
        self.keep(name, value.and_then(not_null).and_then(read))
    }

    /// A field whose value is `value` if it is missing.
    pub(super) fn required_or<T>(
        &mut self,
        name: &str,
        value: &Json,
        read: impl FnOnce(&Json) -> Read<T>,
    ) -> Option<T> {
        let value = self.members.get(name).unwrap_or(value);
        self.keep(name, not_null(value).and_then(read))
    }

    fn keep<T>(&mut self, name: &str, read: Read<T>) -> Option<T> {
        read.map_err(|wrong| self.errors.push(name, wrong)).ok()
    }

    /// The members that have none of these names.
    pub(super) fn others(&self, known: &[&str]) -> Members {
        let mut others = Members::default();
        for (name, value) in self.members.iter().filter(|(name, _)| !known.contains(name)) {
            others.push(name, value.clone());
        }
        others
    }

    /// What is wrong with the fields that were read.
    pub(super) fn errors(self) -> Result<(), Members> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).expect("it is JSON")
    }

    #[test]
    fn booleans_and_counts_are_read_as_the_original_reads_them() {
        for text in ["true", "1", "1.0", "\"t\"", "\"TRUE\"", "\"1\""] {
            assert_eq!(boolean(&json(text)), Ok(true), "{text}");
        }
        for text in ["false", "0", "-0.0", "\"False\"", "\"0\""] {
            assert_eq!(boolean(&json(text)), Ok(false), "{text}");
        }
        for text in ["2", "\"yes\"", "[]", "{}", "\"\""] {
            assert!(boolean(&json(text)).is_err(), "{text}");
        }
        for (text, value) in [("3", 3), ("3.7", 3), ("\" 3 \"", 3), ("true", 1), ("1e2", 100)] {
            assert_eq!(count(&json(text)), Ok(value), "{text}");
        }
        assert_eq!(count(&json("-1")), Err(wrong("Must be at least 0.")));
        for text in ["\"3.7\"", "\"x\"", "[]", "1e400", "123456789012345678901234567890"] {
            assert_eq!(count(&json(text)), Err(wrong("Not a valid integer.")), "{text}");
        }
    }

    #[test]
    fn uuids_are_read_in_any_spelling() {
        let plain = "0190a1b2-c3d4-4e5f-8091-a2b3c4d5e6f7";
        let bare = plain.replace('-', "");
        for text in [plain.to_uppercase(), bare.clone(), format!("{{{plain}}}"), format!("urn:uuid:{plain}")]
        {
            assert_eq!(
                parse_uuid(&text).map(|bits| MessageId::from_bits(bits).to_string()).as_deref(),
                Some(plain),
                "{text}"
            );
        }
        let long = "-".repeat(200) + &bare;
        for text in ["", "x", &bare[1..], &long, "0190a1b2c3d44e5f8091a2b3c4d5e6fg"] {
            assert_eq!(parse_uuid(text), None, "{text:?}");
        }
    }

    #[test]
    fn errors_say_which_part_is_wrong() {
        let channels =
            list(name(Length::NAME))(&json("[\"\", 4, null, \"a\"]")).expect_err("three are wrong");
        let expected = json(
            "{\"0\":[\"Length must be between 1 and 256.\"],\"1\":[\"Not a valid string.\"],\
             \"2\":[\"Field may not be null.\"]}",
        );
        assert_eq!(channels, expected);
        let state = map(scalar)(&json("{\"a\":null,\"b\":[]}")).expect_err("one is wrong");
        let sentence = "Value is not type of string, integer, boolean or float.";
        assert_eq!(state, json(&format!("{{\"b\":{{\"value\":[\"{sentence}\"]}}}}")));
    }
}
