//! Generated texts, whole and damaged, through the comparison with `serde_json`.

mod json_reference;

use json_reference::check;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{0,12}"]
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ !#-\\[\\]-~]{0,40}",
        "[\u{7f}-\u{2fff}\u{1f600}-\u{1f64f}]{1,6}",
        r#"\\["\\/bfnrt]"#,
        r"\\u[0-9a-fA-F]{4}",
        r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9A-F]{2}",
    ];
    vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn key() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &["\"type\"", "\"message\"", "\"id\"", "\"\"", r#""\u0069d""#, "\"a\"", "\"b\""];
    prop_oneof![3 => select(KNOWN).prop_map(String::from), 1 => string()]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&["null", "true", "false", "0", "-0", "18446744073709551616", "1e400"][..])
            .prop_map(String::from),
        r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        string(),
    ]
}

fn joined(items: Vec<String>, brackets: [&str; 2]) -> String {
    format!("{}{}{}", brackets[0], items.join(","), brackets[1])
}

fn json() -> impl Strategy<Value = String> {
    let padded = (space(), scalar(), space()).prop_map(|(a, b, c)| a + &b + &c);
    padded.prop_recursive(5, 60, 6, |inner| {
        let member = (space(), key(), space(), inner.clone()).prop_map(|(a, b, c, d)| a + &b + &c + ":" + &d);
        let array = vec(inner, 0..6).prop_map(|items| joined(items, ["[", "]"]));
        let object = vec(member, 0..6).prop_map(|items| joined(items, ["{", "}"]));
        (space(), prop_oneof![array, object], space()).prop_map(|(a, b, c)| a + &b + &c)
    })
}

/// Bytes that mean something to the grammar, one of which replaces, precedes or removes another.
fn mutate(text: String, places: &[(Index, Index, u8)]) -> String {
    const TOKENS: &str = "{}[]:,\"\\/ \t\n\r\0\x1f-+.0159eEutfnrbad\u{e9}";
    let tokens: Vec<char> = TOKENS.chars().collect();
    let mut chars: Vec<char> = text.chars().collect();
    for (place, token, kind) in places.iter().filter(|_| !text.is_empty()) {
        let (at, token) = (place.index(chars.len().max(1)), *token.get(&tokens));
        match kind % 4 {
            0 => chars.insert(at, token),
            1 => chars.truncate(at),
            _ if chars.is_empty() => {}
            2 => chars[at] = token,
            _ => drop(chars.remove(at)),
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_texts_agree(text in json()) {
        check(&text);
    }

    #[test]
    fn mutated_texts_agree(text in json(), places in vec(any::<(Index, Index, u8)>(), 1..4)) {
        check(&mutate(text, &places));
    }

    #[test]
    fn any_text_agrees(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_strings_text_is_written_as_serde_json_writes_it(text in "[\0-\u{7f}\u{e9}]{0,100}") {
        check(&text);
    }
}
