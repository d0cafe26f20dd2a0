//! The JSON parser's promises, one by one: each case also goes through the comparison with `serde_json`.

mod json_reference;

use bytes::BytesMut;
use fanfare_core::json::{
    Document, Element, JsonError, MAX_DEPTH, MAX_ELEMENTS, MAX_MEMBERS, Scanner, elements, escaped_len,
    value, write_string,
};

fn accepts(text: &str) {
    json_reference::check(text);
    assert_eq!(value(text).expect(text).as_str(), text.trim_matches([' ', '\t', '\n', '\r']));
}

fn refuses(text: &str, error: JsonError) {
    json_reference::check(text);
    assert_eq!(value(text).expect_err(text), error, "{text:?}");
}

fn malformed(text: &str, at: usize) {
    refuses(text, JsonError::Malformed { at });
}

fn truncated(text: &str) {
    refuses(text, JsonError::Truncated { at: text.len() });
}

fn scan_error(text: &str) -> JsonError {
    Scanner::new().scan(text).expect_err(text)
}

#[test]
fn numbers_follow_the_grammar_and_may_have_any_magnitude() {
    for number in
        ["0", "-0", "7", "10", "-12", "0.5", "-0.0", "1.25", "1e5", "1E+5", "1e-5", "0e0", "1.5e007"]
    {
        accepts(number);
    }
    for number in ["1e400", "-1e-400", "123456789012345678901234567890", "0.1234567890123456789012345678901"]
    {
        accepts(number);
    }
    for (text, at) in [("01", 1), ("-01", 2), ("+1", 0), (".5", 0), ("1.e5", 2), ("1e5.", 3), ("--1", 1)] {
        malformed(text, at);
    }
    for (text, at) in [("1.2.3", 3), ("0x10", 1), ("1_000", 1), ("1e+-5", 3), ("NaN", 0), ("Infinity", 0)] {
        malformed(text, at);
    }
    for text in ["-", "1.", "1e", "1E+", "-0."] {
        truncated(text);
    }
}

#[test]
fn literals_are_lower_case_and_whole() {
    ["true", "false", "null"].into_iter().for_each(accepts);
    for (text, at) in [("True", 0), ("nul1", 3), ("nulll", 4), ("truefalse", 4), ("undefined", 0), ("'a'", 0)]
    {
        malformed(text, at);
    }
    ["t", "tru", "fals", "nul"].into_iter().for_each(truncated);
}

#[test]
fn empty_and_blank_texts_are_truncated() {
    ["", " ", "\t\r\n "].into_iter().for_each(truncated);
    malformed("\u{feff}1", 0);
    malformed("\u{a0}1", 0);
}

#[test]
fn whitespace_is_allowed_between_any_two_tokens_and_trimmed_from_spans() {
    let text = " \t\r\n{ \t\r\n\"a\" \t\r\n: \t\r\n[ \t\r\n1 \t\r\n, \t\r\n{ \t\r\n} \t\r\n] \t\r\n, \"b\" : 2 \n} \t\r\n";
    accepts(text);
    let mut scanner = Scanner::new();
    let Document::Object(object) = scanner.scan(text).expect("valid") else { panic!("an object") };
    let members: Vec<_> = object.members().map(|(key, raw)| (key.name(), raw.as_str())).collect();
    assert_eq!(members, [("a".into(), "[ \t\r\n1 \t\r\n, \t\r\n{ \t\r\n} \t\r\n]"), ("b".into(), "2")]);
    malformed("[1\u{b}]", 2);
    malformed("[1\u{c}]", 2);
}

#[test]
fn structure_must_be_complete_and_nothing_may_follow_it() {
    for text in ["[]", "{}", "[[],{}]", r#"{"a":{}}"#, r#"{"a":[{"b":[]}]}"#] {
        accepts(text);
    }
    for (text, at) in [("[1,]", 3), ("[,1]", 1), ("[1 2]", 3), ("[}", 1), ("{]", 1), ("[1}", 2), ("]", 0)] {
        malformed(text, at);
    }
    for (text, at) in [(r#"{"a"}"#, 4), (r#"{"a":}"#, 5), (r#"{"a":1,}"#, 7), (r#"{"a" 1}"#, 5), ("{1:2}", 1)]
    {
        malformed(text, at);
    }
    for (text, at) in [("{} {}", 3), ("1 2", 2), ("\"a\"b", 3), ("[]]", 2), ("{}}", 2), ("[{\"a\":1]]", 7)] {
        malformed(text, at);
    }
    for text in
        ["[", "{", "[1", "[1,", r#"{"a"#, r#"{"a""#, r#"{"a":"#, r#"{"a":1"#, r#"{"a":1,"#, "[{}", "\""]
    {
        truncated(text);
    }
}

#[test]
fn every_escape_form_is_read() {
    let text = r#""\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\uDE00 tail""#;
    accepts(text);
    let string = value(text).expect("valid").as_string();
    assert_eq!(string.as_deref(), Some("\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{20ac}\u{1f600} tail"));
    for (text, at) in
        [(r#""\x""#, 2), (r#""\U0041""#, 2), (r#""\u004g""#, 6), (r#""\u00""#, 5), ("\"\\\u{e9}\"", 2)]
    {
        malformed(text, at);
    }
    for text in [r#""\"#, r#""\u"#, r#""\u004"#, r#""a\""#] {
        truncated(text);
    }
}

#[test]
fn half_a_surrogate_pair_is_grammatical_but_stands_for_no_text() {
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
        r#""\ud83d\n""#,
        r#""\uDFFF\uD800""#,
    ] {
        accepts(text);
        let raw = value(text).expect(text);
        assert!(raw.is_string());
        assert_eq!(raw.as_string(), None, "{text}");
    }
}

#[test]
fn control_characters_are_refused_inside_strings_at_every_distance() {
    for control in '\0'..' ' {
        for before in 0..80 {
            malformed(&format!("\"{}{control}{}\"", "x".repeat(before), "y".repeat(80)), before + 1);
        }
    }
    accepts("\"\u{7f}\u{80}\u{2028}\"");
}

#[test]
fn depth_is_bounded_exactly() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let levels = open.matches(['[', '{']).count();
        let nested = |depth: usize| {
            let full = depth / levels;
            let rest = if depth % levels == 1 { "[]" } else { "0" };
            format!("{}{rest}{}", open.repeat(full), close.repeat(full))
        };
        accepts(&nested(MAX_DEPTH));
        let mut scanner = Scanner::new();
        scanner.scan(&nested(MAX_DEPTH)).expect("as deep as may be");
        let text = nested(MAX_DEPTH + levels);
        let at = text.match_indices(['[', '{']).nth(MAX_DEPTH).expect("one more").0;
        refuses(&text, JsonError::TooDeep { at });
        assert_eq!(scanner.scan(&text).expect_err("too deep"), JsonError::TooDeep { at });
    }
    // Depth is what is open at once, not what was opened.
    accepts(&format!("[{}]", vec!["[]"; 1000].join(",")));
}

#[test]
fn empty_containers_count_towards_depth() {
    let text = format!("{}{{}}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    refuses(&text, JsonError::TooDeep { at: MAX_DEPTH });
}

#[test]
fn an_envelope_yields_the_senders_own_bytes() {
    let text = r#"{"type":"send", "message": {"b" : 1e400, "a":"\u00e9"} ,"id":7}"#;
    let mut scanner = Scanner::new();
    let Document::Object(object) = scanner.scan(text).expect("valid") else { panic!("an object") };
    assert_eq!(object.len(), 3);
    assert_eq!(object.member("message").map(|raw| raw.as_str()), Some(r#"{"b" : 1e400, "a":"\u00e9"}"#));
    assert_eq!(object.member("id").and_then(|raw| raw.as_u64()), Some(7));
    assert_eq!(object.member("absent"), None);
}

#[test]
fn a_batch_yields_its_elements_and_their_members() {
    let text = r#" [ {"id":1,"a":2} , 3, {} , [{"id":4,"id":5}], {"id":6} ] "#;
    let mut scanner = Scanner::new();
    let Document::Array(array) = scanner.scan(text).expect("valid") else { panic!("an array") };
    let found: Vec<_> = array
        .elements()
        .map(|element| match element {
            Element::Object(object) => {
                (object.raw().as_str(), object.member("id").and_then(|id| id.as_u64()))
            }
            Element::Other(raw) => (raw.as_str(), None),
        })
        .collect();
    let expected = [
        (r#"{"id":1,"a":2}"#, Some(1)),
        ("3", None),
        ("{}", None),
        (r#"[{"id":4,"id":5}]"#, None),
        (r#"{"id":6}"#, Some(6)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_scanner_forgets_the_text_before() {
    let mut scanner = Scanner::new();
    scanner.scan(r#"[{"a":1},{"b":2}]"#).expect("valid");
    scanner.scan(r#"{"a":1,"b""#).expect_err("truncated");
    let Document::Object(object) = scanner.scan(r#"{"a":3}"#).expect("valid") else { panic!("an object") };
    assert_eq!(object.len(), 1);
    let Document::Array(array) = scanner.scan("[ ]").expect("valid") else { panic!("an array") };
    assert!(array.is_empty());
}

#[test]
fn repeated_keys_are_refused_however_they_are_spelt() {
    for (text, at) in [
        (r#"{"a":1,"a":2}"#, 7),
        (r#"{"a":1,"b":2,"\u0061":3}"#, 13),
        (r#"{"\u0061":1,"b":2,"a":3}"#, 18),
        (r#"{"":1,"":2}"#, 6),
        (r#"[{"a":1},{"b":1, "b":2}]"#, 17),
        (r#"{"\ud800":1,"\ud800":2}"#, 12),
    ] {
        json_reference::check(text);
        assert_eq!(scan_error(text), JsonError::DuplicateKey { at }, "{text}");
    }
    // One name in two objects, and in a payload, is no repetition of a command's.
    for text in [r#"[{"a":1},{"a":2}]"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":1,"A":2,"aa":3,"":4}"#] {
        json_reference::check(text);
        Scanner::new().scan(text).expect(text);
    }
}

#[test]
fn members_and_elements_are_bounded_exactly() {
    let object = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"k{n}\":{n}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let mut scanner = Scanner::new();
    scanner.scan(&object(MAX_MEMBERS)).expect("as many as may be");
    let text = object(MAX_MEMBERS + 1);
    let at = text.find(&format!("\"k{MAX_MEMBERS}\"")).expect("the last key");
    assert_eq!(scan_error(&text), JsonError::TooManyMembers { at });
    // In a payload any number will do.
    scanner.scan(&format!("{{\"message\":{text}}}")).expect("a large payload");

    let array = |count: usize| format!("[{}]", vec!["0"; count].join(","));
    scanner.scan(&array(MAX_ELEMENTS)).expect("as many as may be");
    assert_eq!(scan_error(&array(MAX_ELEMENTS + 1)), JsonError::TooManyElements { at: 1 + 2 * MAX_ELEMENTS });
    assert_eq!(elements(&array(MAX_ELEMENTS + 1)).count(), MAX_ELEMENTS + 1);
}

#[test]
fn elements_stop_at_the_first_error() {
    let found: Vec<_> = elements(" [1, [2] ,x, 4]").map(|element| element.map(|raw| raw.as_str())).collect();
    assert_eq!(found, [Ok("1"), Ok("[2]"), Err(JsonError::Malformed { at: 10 })]);
    assert_eq!(elements(" [ ] ").count(), 0);
    assert_eq!(elements("[1]]").last(), Some(Err(JsonError::Malformed { at: 3 })));
    assert_eq!(elements("{}").last(), Some(Err(JsonError::Malformed { at: 0 })));
    assert_eq!(elements("").last(), Some(Err(JsonError::Truncated { at: 0 })));
}

#[test]
fn integers_are_read_only_when_they_fit() {
    let read = |text| value(text).map(|raw| (raw.as_u64(), raw.as_i64())).expect(text);
    assert_eq!(read("18446744073709551615"), (Some(u64::MAX), None));
    assert_eq!(read("18446744073709551616"), (None, None));
    assert_eq!(read("-9223372036854775808"), (None, Some(i64::MIN)));
    assert_eq!(read("1.0"), (None, None));
    assert_eq!(read("1e2"), (None, None));
    assert_eq!(read("\"7\""), (None, None));
}

#[test]
fn strings_without_escapes_are_borrowed() {
    let raw = value("\"plain \u{e9}\"").expect("valid");
    assert!(matches!(raw.as_string(), Some(std::borrow::Cow::Borrowed("plain \u{e9}"))));
    assert_eq!(value("null").expect("valid").as_string(), None);
}

#[test]
fn writing_escapes_what_must_be_and_nothing_else() {
    let mut out = BytesMut::new();
    write_string(&mut out, "a\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}\u{2028}\u{1f600}");
    let expected = "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\u{2028}\u{1f600}\"";
    assert_eq!(out, expected);
    assert_eq!(escaped_len(""), 2);
}

#[test]
fn errors_say_where() {
    assert_eq!(scan_error("[1,]").to_string(), "the JSON text is malformed at byte 3");
    assert_eq!(scan_error("[1,").to_string(), "the JSON text ends too early, at byte 3");
}
