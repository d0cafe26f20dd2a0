//! What the request head parser accepts, and a named test for everything it refuses.

use super::*;

const LIMITS: HttpLimits = HttpLimits { head_bytes: 512, headers: 8, body_bytes: 100 };

fn parse(input: &str) -> Result<Option<(Head<'_>, usize)>, HttpError> {
    parse_head(input.as_bytes(), LIMITS)
}

fn head(input: &str) -> Head<'_> {
    let (head, length) = parse(input).expect("valid").expect("complete");
    assert_eq!(length, input.len());
    head
}

fn refusal(input: &str) -> HttpError {
    parse(input).expect_err("refused")
}

/// The refusal of an HTTP/1.1 POST with these lines between its Host and its empty line.
fn refusal_of_fields(fields: &str) -> HttpError {
    refusal(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: field\r\n\r\n")
}

fn assert_refused(error: HttpError, expected: HttpError, status: u16) {
    assert_eq!((error, error.status()), (expected, status));
}

#[test]
fn fields_of_a_head_are_found_without_case() {
    let head = head(
        "GET /a/b?c=d?e HTTP/1.1\r\nhOST: example.org:80\r\nX-A:  1 \r\nx-a:2\r\nOrigin: http://o\r\n\r\n",
    );
    assert_eq!(
        (head.method, head.target, head.path, head.query),
        ("GET", "/a/b?c=d?e", "/a/b", Some("c=d?e"))
    );
    assert_eq!((head.minor_version, head.body, head.keep_alive), (1, BodyFraming::None, true));
    assert_eq!(head.host(), Some("example.org:80"));
    assert_eq!(head.origin(), Some("http://o"));
    assert_eq!(head.header("X-a"), Some(b"1".as_slice()));
    assert_eq!(head.header_str("absent"), None);
    assert_eq!((head.count("x-A"), head.headers().count()), (2, 4));
    assert_eq!(head.headers().nth(2), Some(("x-a", b"2".as_slice())));
    assert_eq!(head.query_pairs().count(), 1);
}

#[test]
fn bytes_after_the_head_are_not_consumed() {
    let input = "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\n";
    let (_, length) = parse(input).expect("valid").expect("complete");
    assert_eq!(&input[length..], "GET /next HTTP/1.1\r\n");
}

#[test]
fn incomplete_head_needs_more() {
    let whole = "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).expect("valid").is_none(), "{len}");
    }
}

#[test]
fn resumed_head_is_the_head_and_leaves_a_fresh_scan() {
    let whole = get("/");
    let mut scan = HeadScan::default();
    for len in 0..whole.len() {
        assert!(resume_head(&whole.as_bytes()[..len], LIMITS, &mut scan).expect("valid").is_none());
    }
    let (head, length) = resume_head(whole.as_bytes(), LIMITS, &mut scan).expect("valid").expect("complete");
    assert_eq!((head.path, length, scan), ("/", whole.len(), HeadScan::default()));
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let with = |version: &str, fields: &str| {
        let text = format!("GET / {version}\r\nHost: h\r\n{fields}\r\n");
        let head = head(&text);
        (head.keep_alive, head.persistence())
    };
    assert_eq!(with("HTTP/1.1", ""), (true, Persistence::KeepAlive));
    assert_eq!(with("HTTP/1.1", "Connection: keep-alive, Upgrade\r\n"), (true, Persistence::KeepAlive));
    assert_eq!(with("HTTP/1.1", "Connection: Upgrade , CLOSE\r\n"), (false, Persistence::Close));
    assert_eq!(with("HTTP/1.1", "Connection: x\r\nConnection: close\r\n"), (false, Persistence::Close));
    assert_eq!(with("HTTP/1.0", ""), (false, Persistence::Close));
    assert_eq!(with("HTTP/1.0", "Connection: Keep-Alive\r\n"), (true, Persistence::KeepAliveAsked));
    assert_eq!(with("HTTP/1.0", "Connection: keep-alive, close\r\n"), (false, Persistence::Close));
}

#[test]
fn expect_continue_needs_a_body_and_http_1_1() {
    let with = |version: &str, length: u8| {
        let text =
            format!("PUT / {version}\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n");
        head(&text).expect_continue
    };
    assert!(with("HTTP/1.1", 1));
    assert!(!with("HTTP/1.1", 0));
    assert!(!with("HTTP/1.0", 1));
}

#[test]
fn body_framing_is_read_from_the_fields() {
    let with = |fields: &str| head(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).body;
    assert_eq!(with(""), BodyFraming::None);
    assert_eq!(with("Content-Length: 0\r\n"), BodyFraming::Length(0));
    assert_eq!(with("Content-Length: \t100 \r\n"), BodyFraming::Length(100));
    assert_eq!(with("Transfer-Encoding: CHUNKED\r\n"), BodyFraming::Chunked);
}

#[test]
fn absolute_form_yields_its_path_and_its_host() {
    let taken = |target: &str| {
        let text = get(target);
        let head = head(&text);
        (head.path.to_owned(), head.query.map(str::to_owned), head.host().map(str::to_owned))
    };
    let expected = |path: &str, query: Option<&str>, host: &str| {
        (path.to_owned(), query.map(str::to_owned), Some(host.to_owned()))
    };
    assert_eq!(taken("http://target:8080/a?b"), expected("/a", Some("b"), "target:8080"));
    assert_eq!(taken("HTTPS://target"), expected("/", None, "target"));
    assert_eq!(taken("http://[::1]?b"), expected("/", Some("b"), "[::1]"));
    assert_eq!(taken("//not-a-host/a"), expected("//not-a-host/a", None, "field"));
}

#[test]
fn options_asterisk_is_accepted() {
    assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path, "*");
}

#[test]
fn one_leading_empty_line_is_tolerated() {
    assert_eq!(head("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").method, "GET");
}

#[test]
fn http_1_0_needs_no_host() {
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").host(), None);
}

#[test]
fn values_may_hold_bytes_outside_ascii() {
    let input = b"GET / HTTP/1.1\r\nHost: h\r\nX: \xff\xe9\r\n\r\n";
    let (head, _) = parse_head(input, LIMITS).expect("valid").expect("complete");
    assert_eq!((head.header("x"), head.header_str("x")), (Some(b"\xff\xe9".as_slice()), None));
}

#[test]
fn second_leading_empty_line_is_refused() {
    assert_refused(refusal("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), HttpError::RequestLine, 400);
}

#[test]
fn bare_lf_is_refused() {
    for input in [
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 5\r\n\r\n",
    ] {
        assert_refused(refusal(input), HttpError::LineEnding, 400);
    }
}

#[test]
fn bare_cr_is_refused() {
    for input in
        ["GET / HTTP/1.1\rHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\rx\r\n\r\n", "\rGET", "G\r\rE"]
    {
        assert_refused(refusal(input), HttpError::LineEnding, 400);
    }
}

#[test]
fn obsolete_line_folding_is_refused() {
    assert_refused(refusal_of_fields("X: a\r\n b\r\n"), HttpError::Header, 400);
    assert_refused(refusal_of_fields("X: a\r\n\tb\r\n"), HttpError::Header, 400);
    assert_refused(refusal("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), HttpError::Header, 400);
}

#[test]
fn whitespace_before_the_colon_is_refused() {
    assert_refused(refusal_of_fields("Content-Length : 5\r\n"), HttpError::Header, 400);
    assert_refused(refusal_of_fields("Content-Length\t: 5\r\n"), HttpError::Header, 400);
}

#[test]
fn malformed_header_names_are_refused() {
    for field in [": x\r\n", "no-colon\r\n", "a b: c\r\n", "a\0: c\r\n", "(a): c\r\n", "\u{e9}: c\r\n"] {
        assert_refused(refusal_of_fields(field), HttpError::Header, 400);
    }
}

#[test]
fn nul_and_other_controls_in_values_are_refused() {
    for byte in ['\0', '\u{1}', '\u{b}', '\u{1b}', '\u{7f}'] {
        assert_refused(refusal_of_fields(&format!("X: a{byte}b\r\n")), HttpError::Header, 400);
        // Long enough for the vectorised paths of the value parser.
        let long = format!("X: {}{byte}{}\r\n", "a".repeat(70), "b".repeat(70));
        assert_refused(refusal_of_fields(&long), HttpError::Header, 400);
    }
}

#[test]
fn missing_host_is_refused() {
    assert_refused(refusal("GET / HTTP/1.1\r\n\r\n"), HttpError::Host, 400);
    assert_refused(refusal("GET http://h/ HTTP/1.1\r\n\r\n"), HttpError::Host, 400);
}

#[test]
fn repeated_host_is_refused() {
    assert_refused(refusal_of_fields("Host: h\r\n"), HttpError::Host, 400);
    assert_refused(refusal("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), HttpError::Host, 400);
}

#[test]
fn host_that_is_no_host_is_refused() {
    for host in ["a b", "a/b", "user@h", "h?x", "h#x", "\u{e9}"] {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_refused(refusal(&input), HttpError::Host, 400);
    }
}

#[test]
fn content_length_with_transfer_encoding_is_refused() {
    let fields = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    assert_refused(refusal_of_fields(fields), HttpError::Framing, 400);
}

#[test]
fn differing_content_lengths_are_refused() {
    assert_refused(
        refusal_of_fields("Content-Length: 5\r\ncontent-length: 6\r\n"),
        HttpError::ContentLength,
        400,
    );
}

#[test]
fn repeated_content_length_is_refused() {
    assert_refused(
        refusal_of_fields("Content-Length: 5\r\ncontent-length: 5\r\n"),
        HttpError::ContentLength,
        400,
    );
    assert_refused(refusal_of_fields("Content-Length: 5, 5\r\n"), HttpError::ContentLength, 400);
}

#[test]
fn content_length_that_is_not_digits_is_refused() {
    for value in ["+5", "-5", "5 5", "", "0x5", "5.0", "5e1", "\u{665}", "five", "5,"] {
        assert_refused(
            refusal_of_fields(&format!("Content-Length: {value}\r\n")),
            HttpError::ContentLength,
            400,
        );
    }
}

#[test]
fn content_length_overflow_is_refused() {
    let fields = "Content-Length: 18446744073709551616\r\n";
    assert_refused(refusal_of_fields(fields), HttpError::ContentLength, 400);
}

#[test]
fn content_length_over_the_limit_is_refused_from_the_head() {
    assert_refused(refusal_of_fields("Content-Length: 101\r\n"), HttpError::BodyTooLarge, 413);
    assert_refused(
        refusal_of_fields("Content-Length: 18446744073709551615\r\n"),
        HttpError::BodyTooLarge,
        413,
    );
}

#[test]
fn transfer_encoding_other_than_chunked_is_refused() {
    for value in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "",
        "xchunked",
        "chunked;a",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        assert_refused(refusal_of_fields(&fields), HttpError::TransferEncoding, 501);
    }
}

#[test]
fn repeated_transfer_encoding_is_refused() {
    let fields = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_refused(refusal_of_fields(fields), HttpError::Framing, 400);
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let input = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_refused(refusal(input), HttpError::Framing, 400);
}

#[test]
fn http_2_preface_is_refused() {
    assert_refused(refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HttpError::Version, 505);
}

#[test]
fn other_versions_are_refused() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0"] {
        assert_refused(refusal(&format!("GET / {version}\r\nHost: h\r\n\r\n")), HttpError::Version, 505);
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET /",
        "GET",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/11",
        "GET /a b HTTP/1.1",
        "G(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /\0 HTTP/1.1",
    ] {
        let error = refusal(&format!("{line}\r\nHost: h\r\n\r\n"));
        assert_refused(error, HttpError::RequestLine, 400);
    }
}

#[test]
fn noise_is_refused_at_its_first_byte() {
    assert_eq!(parse_head(b"\x16", LIMITS).map(|_| ()), Err(HttpError::RequestLine));
    assert_eq!(parse_head(b"\r\n\x16", LIMITS).map(|_| ()), Err(HttpError::RequestLine));
}

#[test]
fn targets_of_other_forms_are_refused() {
    for target in [
        "*",
        "example.org:443",
        "path",
        "?query",
        "http:///path",
        "http://",
        "http:/path",
        "http://user@host/",
        "ftp://host/",
        "ws://host/",
        "/a#fragment",
        "/\u{e9}",
    ] {
        assert_refused(refusal(&get(target)), HttpError::Target, 400);
    }
}

#[test]
fn connect_is_refused() {
    assert_refused(refusal("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"), HttpError::Target, 400);
    assert_refused(refusal("CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n"), HttpError::Target, 400);
}

#[test]
fn head_over_the_limit_is_refused() {
    let input = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(LIMITS.head_bytes));
    assert_refused(refusal(&input), HttpError::HeadTooLarge, 431);
    assert_refused(refusal(&input[..LIMITS.head_bytes]), HttpError::HeadTooLarge, 431);
    assert!(parse(&input[..LIMITS.head_bytes - 1]).expect("still within").is_none());
}

#[test]
fn request_line_over_the_limit_is_refused() {
    let input = get(&format!("/{}", "x".repeat(LIMITS.head_bytes)));
    assert_refused(refusal(&input), HttpError::TargetTooLong, 414);
    assert_refused(refusal(&input[..LIMITS.head_bytes]), HttpError::TargetTooLong, 414);
}

#[test]
fn bytes_beyond_the_limit_do_not_change_the_refusal() {
    let input = b"\r\n\x16\n";
    for head_bytes in 0..3 {
        let limits = HttpLimits { head_bytes, ..LIMITS };
        let whole = parse_head(input, limits).map(|_| ());
        assert_eq!(whole, Err(HttpError::TargetTooLong), "{head_bytes}");
        assert_eq!(parse_head(&input[..head_bytes], limits).map(|_| ()), whole, "{head_bytes}");
    }
}

#[test]
fn more_headers_than_the_limit_are_refused() {
    let with = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(head(&with(LIMITS.headers)).headers.len(), LIMITS.headers);
    assert_refused(refusal(&with(LIMITS.headers + 1)), HttpError::TooManyHeaders, 431);
}

#[test]
fn limits_cannot_raise_the_header_count_past_the_array() {
    let limits = HttpLimits { head_bytes: 1 << 16, headers: usize::MAX, body_bytes: 0 };
    let with = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(parse_head(with(64).as_bytes(), limits).expect("valid").is_some());
    let error = parse_head(with(65).as_bytes(), limits).expect_err("refused");
    assert_eq!(error, HttpError::TooManyHeaders);
}
