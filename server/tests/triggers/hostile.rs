//! Hostile scripts harm their own messages alone, and the server says what happened.

use std::time::Instant;

use fanfare_server::{Server, config::Config};
use serde_json::{Value, json};

use crate::peer::{Client, DEADLINE, ask, chat, configuration, raw, server};

const UPPER: &str = "export const message = (input) => input.payload.toUpperCase()";

/// The client key of another app.
const OTHER: &str = "other-client-key-0123456789";

/// Operations that the engine of scripts cannot stop: loops of 2^52 rounds within one built-in function, and
/// a search of many minutes.
const STUCK: [&str; 4] = [
    "Array.prototype.reverse.call({length: 2 ** 53 - 1})",
    "Array.prototype.join.call({length: 2 ** 53 - 1})",
    "[].concat({[Symbol.isConcatSpreadable]: true, length: 2 ** 53 - 1})",
    "('a'.repeat(4e6) + 'c').indexOf('a'.repeat(2e6) + 'b')",
];

fn script(body: &str) -> String {
    format!("export function message(input) {{ {body} }}")
}

/// Makes or replaces a trigger of the channel that has its name.
fn put(server: &Server, name: &str, body: &str) {
    let settings = json!({"channel": name, "source": script(body)});
    let (status, answer) = ask(server, "PUT", &format!("/v1/triggers/{name}"), &settings);
    assert_eq!(status, 200, "{answer}");
}

fn client(server: &Server) -> Client {
    Client::connect(server.addresses()[0].address, "")
}

/// Sends a message to a channel and returns the code of its error; empty if the message was published.
fn failure(client: &mut Client, channel: &str) -> String {
    let answer = client.ask(chat(channel, json!("x")));
    answer["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The value of a metric, which has these labels.
fn metric(server: &Server, name: &str, labels: &str) -> usize {
    let address = server.admin_address().expect("it is on");
    let metrics =
        raw(address, &format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"));
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(labels));
    values.next().and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}

#[test]
fn a_script_that_is_stuck_fails_and_others_are_served() {
    let text = configuration("").replace("admin_listen = 'off'", "admin_listen = '127.0.0.1:0'");
    let counting = "let n = 0; export const message = (input) => { input.payload; return n += 1 }";
    let text = format!(
        "{text}[[apps.default.triggers]]\nname = 'count'\nchannel = 'room'\nsource = '''{counting}'''\n"
    );
    let server = Server::start(Config::from_toml(&text).expect("it is valid")).expect("it starts");
    put(&server, "stuck", STUCK[0]);
    let (mut ada, mut bob) = (client(&server), client(&server));
    bob.join("room");
    bob.send(&chat("room", json!("a")));
    assert_eq!(bob.message(), 1);
    ada.send(&chat("stuck", json!(1)));
    bob.send(&chat("room", json!("waits for its turn")));
    assert_eq!(bob.message(), 2, "other scripts keep their global variables");
    assert_eq!(ada.next()["error"]["code"], "trigger_failed");
    for n in 3..6 {
        // The trigger does not run any more.
        assert_eq!(failure(&mut ada, "stuck"), "trigger_failed");
        bob.send(&chat("room", json!("b")));
        assert_eq!(bob.message(), n);
    }
    assert!(metric(&server, "fanfare_trigger_stuck_threads", "") >= 1);
    let labels = "{app=\"default\",trigger=\"stuck\",why=\"stuck\"}";
    assert_eq!(metric(&server, "fanfare_trigger_errors_total", labels), 4);
    put(&server, "stuck", "return 1");
    assert_eq!(failure(&mut ada, "stuck"), "", "a changed trigger runs");
    server.shut_down().expect("it ends");
}

#[test]
fn a_message_passes_a_stuck_trigger_that_is_to_pass_on_errors() {
    let server = server(&[("name = 'stuck'\nchannel = 'room'\non_error = 'pass'", &script(STUCK[1]))]);
    let mut ada = client(&server);
    ada.join("room");
    for n in 0..3 {
        ada.send(&chat("room", json!(n)));
        assert_eq!(ada.message(), n);
    }
    server.shut_down().expect("it ends");
}

#[test]
fn the_scripts_of_an_app_stop_after_four_stuck_ones_and_those_of_other_apps_run() {
    let mut text = configuration("");
    for (n, body) in STUCK.iter().enumerate() {
        let script = script(body);
        text +=
            &format!("[[apps.default.triggers]]\nname = 's{n}'\nchannel = 's{n}'\nsource = '''{script}'''\n");
    }
    text += &format!(
        "[[apps.default.triggers]]\nname = 'sound'\nchannel = 'sound'\nsource = '''{UPPER}'''\n\
         [apps.other]\nannounce = false\nclient_key = '{OTHER}'\n\
         [[apps.other.triggers]]\nname = 'upper'\nchannel = 'room'\nsource = '''{UPPER}'''\n"
    );
    let server = Server::start(Config::from_toml(&text).expect("it is valid")).expect("it starts");
    let mut ada = client(&server);
    for (n, body) in STUCK.iter().enumerate() {
        assert_eq!(failure(&mut ada, "sound"), "", "{n} scripts are stuck");
        assert_eq!(failure(&mut ada, &format!("s{n}")), "trigger_failed", "{body}");
    }
    assert_eq!(failure(&mut ada, "sound"), "trigger_failed");
    let mut bob = Client::connect_to(OTHER, server.addresses()[0].address, "&app=other");
    bob.join("room");
    bob.send(&chat("room", json!("b")));
    assert_eq!(bob.message(), "B");
    server.shut_down().expect("it ends");
}

#[test]
fn a_trigger_runs_again_when_its_stuck_run_has_ended() {
    let server = server(&[]);
    // The operation takes some seconds of CPU time. The loop after it is stopped.
    put(&server, "long", "if (input.payload !== 'long') return; [].reverse.call({length: 2e7}); for (;;);");
    let mut ada = client(&server);
    assert_eq!(ada.ask(chat("long", json!("long")))["error"]["code"], "trigger_failed");
    let began = Instant::now();
    while !failure(&mut ada, "long").is_empty() {
        assert!(began.elapsed() < 4 * DEADLINE);
    }
    server.shut_down().expect("it ends");
}

#[test]
fn the_server_ends_while_a_script_is_about_to_be_stuck() {
    let server = server(&[("name = 'stuck'\nchannel = 'room'", &script(STUCK[0]))]);
    let mut ada = client(&server);
    ada.send(&chat("room", json!(1)));
    let began = Instant::now();
    server.shut_down().expect("it ends");
    assert!(began.elapsed() < DEADLINE);
}

#[test]
fn a_script_whose_top_level_is_stuck_is_refused_and_other_changes_follow() {
    let server = server(&[]);
    let source = format!("{}; {UPPER}", STUCK[0]);
    let (status, problem) = ask(&server, "PUT", "/v1/triggers/a", &json!({"channel": "c", "source": source}));
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(status == 400 && detail.contains("stuck in an operation"), "{status} {detail}");
    let settings = json!({"channel": "c", "source": UPPER});
    assert_eq!(ask(&server, "PUT", "/v1/triggers/a", &settings).0, 200);
    assert_eq!(ask(&server, "GET", "/v1/triggers", &Value::Null).1["triggers"][0]["name"], "a");
    server.shut_down().expect("it ends");
}
