//! Hostile scripts harm their own messages alone, and the server says what happened.

use serde_json::{Value, json};

use crate::peer::{Client, ask, chat, server};

const UPPER: &str = "export const message = (input) => input.payload.toUpperCase()";

/// An operation that the engine of scripts cannot stop: a loop of 2^52 rounds within one built-in function.
const STUCK: &str = "export function message() { Array.prototype.reverse.call({length: 2 ** 53 - 1}) }";

#[test]
fn a_script_that_is_stuck_fails_and_others_are_served() {
    let server = server(&[("name = 'upper'\nchannel = 'room'", UPPER)]);
    let put = |source: &str| {
        let settings = json!({"channel": "stuck", "source": source});
        assert_eq!(ask(&server, "PUT", "/v1/triggers/stuck", &settings).0, 200);
    };
    put(STUCK);
    let mut ada = Client::connect(server.addresses()[0].address, "");
    let mut bob = Client::connect(server.addresses()[0].address, "");
    bob.join("room");
    ada.send(&chat("stuck", json!(1)));
    bob.send(&chat("room", json!("waits for its turn")));
    assert_eq!(bob.message(), "WAITS FOR ITS TURN");
    assert_eq!(ada.next()["error"]["code"], "trigger_failed");
    for _ in 0..3 {
        // The trigger does not run any more.
        assert_eq!(ada.ask(chat("stuck", json!(2)))["error"]["code"], "trigger_failed");
        bob.send(&chat("room", json!("b")));
        assert_eq!(bob.message(), "B");
    }
    put("export function message() { return 1 }");
    assert!(ada.ask(chat("stuck", json!(3)))["ok"].is_object(), "a changed trigger runs");
    server.shut_down().expect("it ends");
}

#[test]
fn a_script_whose_top_level_is_stuck_is_refused_and_other_changes_follow() {
    let server = server(&[]);
    let source = format!("Array.prototype.reverse.call({{length: 2 ** 53 - 1}}); {UPPER}");
    let (status, problem) = ask(&server, "PUT", "/v1/triggers/a", &json!({"channel": "c", "source": source}));
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(status == 400 && detail.contains("stuck in an operation"), "{status} {detail}");
    let settings = json!({"channel": "c", "source": UPPER});
    assert_eq!(ask(&server, "PUT", "/v1/triggers/a", &settings).0, 200);
    assert_eq!(ask(&server, "GET", "/v1/triggers", &Value::Null).1["triggers"][0]["name"], "a");
    server.shut_down().expect("it ends");
}
