//! Triggers over HTTP: they are read, put, changed, switched and deleted while clients send.

use std::{fs, path::Path};

use fanfare_server::{Server, args::Args, config::Config};
use serde_json::{Value, json};

use crate::peer::{Client, ask, chat, configuration, raw, server, server_in};

const UPPER: &str = "export const message = (input) => input.payload.toUpperCase()";
const LOWER: &str = "export const message = (input) => input.payload.toLowerCase()";

fn put(server: &Server, name: &str, source: &str) -> Value {
    let (status, body) = put_as(server, name, &json!({"channel": "room*", "source": source}));
    assert_eq!(status, 200, "{body}");
    body
}

fn put_as(server: &Server, name: &str, settings: &Value) -> (u16, Value) {
    ask(server, "PUT", &format!("/v1/triggers/{name}"), settings)
}

fn code(answer: (u16, Value)) -> (u16, String) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned())
}

/// The message that the members of `room` get when `Aa` is sent.
fn spoken(client: &mut Client) -> Value {
    client.send(&chat("room", json!("Aa")));
    client.message()
}

#[test]
fn a_change_takes_effect_for_the_next_message() {
    let server = server(&[]);
    let mut ada = Client::connect(server.addresses()[0].address, "");
    ada.join("room");
    assert_eq!(spoken(&mut ada), "Aa");
    put(&server, "case", UPPER);
    assert_eq!(spoken(&mut ada), "AA");
    put(&server, "case", LOWER);
    assert_eq!(spoken(&mut ada), "aa");
    let patched = ask(&server, "PATCH", "/v1/triggers/case", &json!({"active": false}));
    assert_eq!((patched.0, &patched.1["active"], &patched.1["source"]), (200, &json!(false), &json!(LOWER)));
    assert_eq!(spoken(&mut ada), "Aa");
    let on = json!({"name": "case", "active": null, "tags": ["t"]});
    assert_eq!(ask(&server, "PATCH", "/v1/triggers", &on).0, 200);
    assert_eq!(spoken(&mut ada), "aa");
    assert_eq!(ask(&server, "DELETE", "/v1/triggers/case", &Value::Null), (200, json!({"deleted": "case"})));
    assert_eq!(spoken(&mut ada), "Aa");
    server.shut_down().expect("it ends");
}

#[test]
fn triggers_are_listed_without_their_scripts_and_read_with_them() {
    let server = server(&[("name = 'fixed'\nchannel = 'c'", UPPER)]);
    put_as(&server, "b", &json!({"channel": "x", "source": LOWER, "description": "d", "tags": ["1", "2"]}));
    put_as(&server, "a", &json!({"channel": "y", "source": LOWER, "actions": ["join"], "active": false}));
    let (status, list) = ask(&server, "GET", "/v1/triggers", &Value::Null);
    assert_eq!(status, 200);
    let (_, one) = ask(&server, "GET", "/v1/triggers/b", &Value::Null);
    let mut whole = list["triggers"][1].clone();
    whole["source"] = json!(LOWER);
    assert_eq!(one, whole);
    let expected = json!([
        {"name": "fixed", "channel": "c", "active": true, "configured": true},
        {"name": "b", "channel": "x", "active": true, "configured": false,
         "description": "d", "tags": ["1", "2"]},
        {"name": "a", "channel": "y", "active": false, "configured": false, "actions": ["join"]},
    ]);
    assert_eq!(list["triggers"], expected);
    server.shut_down().expect("it ends");
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let server = server(&[("name = 'fixed'\nchannel = 'c'", UPPER)]);
    put(&server, "case", UPPER);
    let broken = json!({"channel": "c", "source": "export const message = () => {\n  let = ;\n}"});
    let (status, problem) = put_as(&server, "case", &broken);
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_trigger")));
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.contains("`source` does not compile: line 2, column "), "{detail}");
    for (settings, word) in [
        (json!({"channel": "c"}), "no script"),
        (json!({"channel": "", "source": UPPER}), "`channel`"),
        (json!({"channel": "c", "file": "/etc/passwd"}), "`file` belongs in the configuration"),
        (json!({"channel": "c", "source": UPPER, "color": 1}), "unknown field `color`"),
        (json!({"channel": "c", "source": UPPER, "name": "other"}), "another one than in the path"),
        (json!({"channel": "c", "source": UPPER, "cpu_ms": 21}), "`cpu_ms` must be at most 20"),
        (json!({"channel": "c", "source": UPPER, "memory_bytes": 17 << 20}), "`memory_bytes`"),
        (json!({"channel": "c", "source": " ".repeat((256 << 10) + 1)}), "262144 bytes"),
        (json!([1]), "no JSON object"),
    ] {
        let (status, problem) = put_as(&server, "case", &settings);
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(word), "{status} {detail}: {word}");
    }
    assert_eq!(code(put_as(&server, "a%20b", &json!({"channel": "c", "source": UPPER}))).0, 400);
    for method in ["PUT", "PATCH", "DELETE"] {
        let answer = ask(&server, method, "/v1/triggers/fixed", &json!({"channel": "c", "source": UPPER}));
        assert_eq!(code(answer), (409, "configured".into()));
    }
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(
            code(ask(&server, method, "/v1/triggers/no", &Value::Null)),
            (404, "unknown_trigger".into())
        );
    }
    assert_eq!(code(ask(&server, "PUT", "/v1/triggers", &json!({"channel": "c"}))).0, 400, "it has no name");
    assert_eq!(code(ask(&server, "POST", "/v1/triggers", &Value::Null)).0, 405);
    for n in 2..64 {
        put(&server, &format!("t{n}"), UPPER);
    }
    let full = put_as(&server, "more", &json!({"channel": "c", "source": UPPER}));
    assert_eq!(code(full), (409, "too_many_triggers".into()));
    put(&server, "case", LOWER);
    server.shut_down().expect("it ends");
}

#[test]
fn a_key_of_clients_changes_no_trigger() {
    let server = server(&[]);
    let address = server.addresses()[0].address;
    let request = format!("GET /v1/triggers HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (key, status) in [("", "401"), ("authorization: Bearer client-key-0123456789\r\n", "403")] {
        let answer = raw(address, &format!("{request}{key}\r\n"));
        assert_eq!(&answer[9..12], status, "{answer}");
    }
    server.shut_down().expect("it ends");
}

#[test]
fn messages_in_flight_through_a_trigger_that_is_replaced_or_deleted_are_all_answered() {
    let slow = |mark: &str| {
        format!(
            "export function message(input) {{
                let n = 0; while (n < 2e4) n += 1; return input.payload + '{mark}' }}"
        )
    };
    let server = server(&[]);
    let mut ada = Client::connect(server.addresses()[0].address, "");
    ada.join("room");
    put(&server, "slow", &slow("a"));
    let mut marks = String::new();
    for round in 0..3 {
        for n in 0..60 {
            ada.send(&chat("room", json!(format!("{round}:{n}:"))));
        }
        match round {
            0 => drop(put(&server, "slow", &slow("b"))),
            1 => assert_eq!(ask(&server, "DELETE", "/v1/triggers/slow", &Value::Null).0, 200),
            _ => {}
        }
    }
    for round in 0..3 {
        for n in 0..60 {
            let message = ada.message();
            let message = message.as_str().expect("a text");
            let mark = message.strip_prefix(&format!("{round}:{n}:")).expect("the order of sending");
            assert!(mark.len() <= 1, "one version alone runs: {message}");
            marks.push_str(if mark.is_empty() { "-" } else { mark });
        }
    }
    assert!(marks.starts_with('a') && marks.ends_with('-'), "{marks}");
    let order: Vec<_> = marks.chars().map(|mark| "ab-".find(mark)).collect();
    assert!(order.is_sorted(), "no older version comes back: {marks}");
    server.shut_down().expect("it ends");
}

#[test]
fn triggers_outlive_the_server_in_its_data_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = format!("data_dir = '{}'", folder.path().display());
    let first = server_in(&settings, &[]);
    put(&first, "case", UPPER);
    put(&first, "gone", LOWER);
    ask(&first, "DELETE", "/v1/triggers/gone", &Value::Null);
    first.shut_down().expect("it ends");
    let second = server_in(&settings, &[]);
    let mut ada = Client::connect(second.addresses()[0].address, "");
    ada.join("room");
    assert_eq!(spoken(&mut ada), "AA");
    second.shut_down().expect("it ends");
    // A name of the configuration is the configuration's.
    let third = server_in(&settings, &[("name = 'case'\nchannel = 'room'", LOWER)]);
    let mut ada = Client::connect(third.addresses()[0].address, "");
    ada.join("room");
    assert_eq!(spoken(&mut ada), "aa");
    third.shut_down().expect("it ends");
    let fourth = server_in(&settings, &[]);
    let (_, case) = ask(&fourth, "GET", "/v1/triggers/case", &Value::Null);
    assert_eq!(case["source"], UPPER, "it was only set aside");
    fourth.shut_down().expect("it ends");
}

fn kept(folder: &Path) -> std::path::PathBuf {
    folder.join("triggers/default.json")
}

#[test]
fn a_broken_file_lets_no_message_slip_past_its_triggers() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = format!("data_dir = '{}'", folder.path().display());
    let first = server_in(&settings, &[]);
    put(&first, "case", UPPER);
    first.shut_down().expect("it ends");
    let whole = fs::read(kept(folder.path())).expect("it was kept");
    fs::write(kept(folder.path()), &whole[..whole.len() / 2]).expect("it is cut");

    let second = server_in(&settings, &[]);
    let mut ada = Client::connect(second.addresses()[0].address, "");
    let refused = ada.ask(json!({"type": "join", "channel": "any"}));
    assert_eq!(refused["error"]["code"], "trigger_failed");
    assert_eq!(ada.ask(chat("any", json!(1)))["error"]["code"], "trigger_failed");
    for (method, body) in [("GET", Value::Null), ("PUT", json!({"channel": "c", "source": UPPER}))] {
        let (status, problem) = ask(&second, method, "/v1/triggers/case", &body);
        assert_eq!((status, &problem["code"]), (500, &json!("triggers_unreadable")));
        assert!(problem["detail"].as_str().expect("a sentence").contains("default.json"), "{problem}");
    }
    second.shut_down().expect("it ends");
    let cut = fs::read(kept(folder.path())).expect("it is left as it is");
    assert_eq!(cut, &whole[..whole.len() / 2]);

    // One script that does not compile breaks its own trigger alone.
    let text = String::from_utf8(whole).expect("JSON").replace(UPPER, "export const message = (");
    fs::write(kept(folder.path()), text).expect("it is written");
    let third = server_in(&settings, &[]);
    let mut ada = Client::connect(third.addresses()[0].address, "");
    ada.join("room");
    assert_eq!(ada.ask(chat("room", json!("Aa")))["error"]["code"], "trigger_failed");
    assert!(ada.ask(chat("other", json!("Aa")))["ok"].is_object());
    let (_, case) = ask(&third, "GET", "/v1/triggers/case", &Value::Null);
    assert!(case["broken"].as_str().expect("a sentence").contains("does not compile"), "{case}");
    put(&third, "case", UPPER);
    assert_eq!(spoken(&mut ada), "AA");
    third.shut_down().expect("it ends");
}

#[test]
fn a_change_that_cannot_be_kept_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server_in(&format!("data_dir = '{}'", folder.path().display()), &[]);
    // The place of the new file is taken by a directory.
    fs::create_dir(folder.path().join("triggers/default.json.new")).expect("it is free");
    let answer = put_as(&server, "case", &json!({"channel": "room", "source": UPPER}));
    assert_eq!(code(answer), (500, "not_kept".into()));
    let mut ada = Client::connect(server.addresses()[0].address, "");
    ada.join("room");
    assert_eq!(spoken(&mut ada), "Aa");
    server.shut_down().expect("it ends");
}

const CASE: &str = "[[apps.default.triggers]]
name = 'case'
channel = 'room'
file = 'case.js'
[[apps.default.triggers]]
name = 'count'
channel = 'room'
source = '''let n = 0; export const message = (input) => `${input.payload}${++n}`'''
";

const LAST: &str = "[[apps.default.triggers]]
name = 'last'
channel = 'room'
source = '''export const message = (input) => input.payload + '?' '''
";

#[test]
fn a_reload_reads_the_files_of_scripts_again_and_leaves_what_was_made_over_http() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, script) = (folder.path().join("fanfare.toml"), folder.path().join("case.js"));
    let write = |path: &Path, text: &str| fs::write(path, text).expect("it is written");
    write(&script, UPPER);
    write(&file, &(configuration("") + CASE));
    let args = Args { config: Some(file.clone()), ..Args::default() };
    let config = Config::load(&args, std::iter::empty::<(&str, &str)>()).expect("it is a configuration");
    let server = Server::start(config).expect("it starts");
    put(&server, "last", "export const message = (input) => input.payload + '!'");
    let mut ada = Client::connect(server.addresses()[0].address, "");
    ada.join("room");
    assert_eq!(spoken(&mut ada), "AA1!");
    let mut after = |path: &Path, text: &str| {
        write(path, text);
        server.reload();
        spoken(&mut ada)
    };
    assert_eq!(after(&script, LOWER), "aa2!", "the unchanged trigger still counts");
    assert_eq!(after(&script, "export const message = "), "aa3!", "nothing was reloaded");
    assert_eq!(after(&file, &configuration("")), "Aa!");
    assert_eq!(after(&file, &(configuration("") + LAST)), "Aa?", "the name is the configuration's");
    assert_eq!(after(&file, &configuration("")), "Aa!");
    server.shut_down().expect("it ends");
}
