//! Percent-encoding, of queries and of path segments.
//!
//! Owns RFC 3986 section 2.1 and the pairs of application/x-www-form-urlencoded, which form bodies use too.
//! Borrows where nothing is encoded. Refuses what does not decode instead of passing it through, because what
//! two readers decode differently is a way around whatever the first of them checked.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::HttpError;

/// The decoded name and value pairs of a query or form, in order. A pair without `=` has an empty value;
/// empty pairs (`a=1&&b=2`) are skipped.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    rest: &'a str,
}

impl<'a> Query<'a> {
    /// The pairs of `query`, which starts after the `?`.
    pub const fn new(query: &'a str) -> Self {
        Self { rest: query }
    }
}

impl<'a> Iterator for Query<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (pair, rest) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = rest;
            if !pair.is_empty() {
                return Some(decode_pair(pair));
            }
        }
        None
    }
}

/// The first value of `name` in `query`.
///
/// # Errors
/// [`HttpError::PercentEncoding`] when that pair or one before it does not decode.
pub fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, HttpError> {
    for pair in Query::new(query) {
        let (found, value) = pair?;
        if found == name {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Decodes one path segment. Split the path at `/` first: an encoded slash is part of its segment. `+` stands
/// for itself.
///
/// # Errors
/// [`HttpError::PercentEncoding`] when a `%` is not followed by two hexadecimal digits, or the bytes are not
/// UTF-8.
pub fn percent_decode(segment: &str) -> Result<Cow<'_, str>, HttpError> {
    match memchr(b'%', segment.as_bytes()) {
        None => Ok(Cow::Borrowed(segment)),
        Some(_) => decode(segment, b'+').map(Cow::Owned),
    }
}

fn decode_pair(pair: &str) -> Result<(Cow<'_, str>, Cow<'_, str>), HttpError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((form_decode(name)?, form_decode(value)?))
}

/// As [`percent_decode`], but `+` is a space.
fn form_decode(encoded: &str) -> Result<Cow<'_, str>, HttpError> {
    match memchr2(b'%', b'+', encoded.as_bytes()) {
        None => Ok(Cow::Borrowed(encoded)),
        Some(_) => decode(encoded, b' ').map(Cow::Owned),
    }
}

fn decode(encoded: &str, plus: u8) -> Result<String, HttpError> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next())? << 4 | hex_digit(bytes.next())?,
            b'+' => plus,
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| HttpError::PercentEncoding)
}

fn hex_digit(byte: Option<u8>) -> Result<u8, HttpError> {
    match byte {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(HttpError::PercentEncoding),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn pairs(query: &str) -> Result<Vec<(String, String)>, HttpError> {
        Query::new(query)
            .map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned())))
            .collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn pairs_are_decoded_in_order() {
        let expected = owned(&[("a", "1"), ("b", "x y&="), ("c", ""), ("", "d"), ("e", "="), ("ü", "+")]);
        assert_eq!(pairs("a=1&&b=x+y%26%3d&c&=d&e==&%C3%BC=%2B&"), Ok(expected));
        assert_eq!(pairs(""), Ok(vec![]));
    }

    #[test]
    fn unencoded_pairs_are_borrowed() {
        let first = Query::new("name=value").next();
        assert!(matches!(first, Some(Ok((Cow::Borrowed("name"), Cow::Borrowed("value"))))));
    }

    #[test]
    fn first_value_of_a_name_is_found() {
        assert_eq!(query_value("a=1&b=2&b=3", "b"), Ok(Some(Cow::Borrowed("2"))));
        assert_eq!(query_value("a=1", "b"), Ok(None));
        assert_eq!(query_value("a=%&b=1", "b"), Err(HttpError::PercentEncoding));
    }

    #[test]
    fn invalid_percent_encoding_is_refused() {
        for encoded in ["%", "%4", "a%", "%zz", "%4g", "%+1", "% 1", "%%41"] {
            assert_eq!(percent_decode(encoded), Err(HttpError::PercentEncoding), "{encoded:?}");
            assert_eq!(pairs(encoded), Err(HttpError::PercentEncoding), "{encoded:?}");
        }
    }

    #[test]
    fn encoded_bytes_that_are_not_utf8_are_refused() {
        for encoded in ["%ff", "%c3", "%c3%28", "%ed%a0%80", "%c0%af"] {
            assert_eq!(percent_decode(encoded), Err(HttpError::PercentEncoding), "{encoded:?}");
        }
    }

    #[test]
    fn plus_is_a_space_in_a_query_and_itself_in_a_path() {
        assert_eq!(percent_decode("a+b%20c"), Ok(Cow::Borrowed("a+b c")));
        assert_eq!(query_value("q=a+b%20c", "q"), Ok(Some(Cow::Borrowed("a b c"))));
    }

    proptest! {
        #[test]
        fn any_text_survives_encoding(text in any::<String>()) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(percent_decode(&encoded), Ok(Cow::Borrowed(text.as_str())));
        }

        #[test]
        fn decoding_never_grows_text(text in any::<String>()) {
            if let Ok(decoded) = percent_decode(&text) {
                prop_assert!(decoded.len() <= text.len());
            }
        }
    }
}
