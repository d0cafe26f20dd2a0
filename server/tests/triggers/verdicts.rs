//! Verdicts end to end: from one client's bytes to another client's, through a server with two workers.

use fanfare_core::ws::OpCode;
use fanfare_server::config::Config;
use serde_json::json;

use crate::peer::{CLIENT, Client, chat, server};

const WORDS: &str = r"
const bad = /\b(darn|heck)\b/gi;
export function message(input) {
  if (typeof input.payload?.text !== 'string') refuse('A message has a text.');
  input.payload.text = input.payload.text.replace(bad, '****');
  return input.payload;
}
";

#[test]
fn bad_words_are_removed_on_their_way() {
    let server = server(&[("name = 'words'\nchannel = 'room:*'", WORDS)]);
    let address = server.addresses()[0].address;
    let mut readers: Vec<_> = (0..4).map(|_| Client::connect(address, "")).collect();
    readers.iter_mut().for_each(|reader| reader.join("room:1"));
    let mut ada = Client::connect(address, "");
    assert!(ada.ask(chat("room:1", json!({"text": "Darn, what the heck"})))["ok"].is_object());
    let refused = ada.ask(chat("room:1", json!("darn")));
    assert_eq!(refused["error"], json!({"code": "refused", "message": "A message has a text."}));
    for n in 0..200 {
        ada.send(&chat("room:1", json!({"text": format!("heck {n}")})));
    }
    for reader in &mut readers {
        assert_eq!(reader.message(), json!({"text": "****, what the ****"}));
        for n in 0..200 {
            assert_eq!(reader.message(), json!({"text": format!("**** {n}")}), "in the order of sending");
        }
    }
    // Triggers run on binary messages too.
    let envelope = br#"{"id":"b","type":"send","channel":"room:1","event":"raw"}"#;
    let mut frame = u16::try_from(envelope.len()).expect("it is short").to_be_bytes().to_vec();
    frame.extend_from_slice(envelope);
    frame.extend_from_slice(b"darn");
    ada.write(OpCode::Binary, &frame);
    assert_eq!(ada.next()["error"]["code"], "refused");
    server.shut_down().expect("it ends");
}

#[test]
fn a_join_waits_for_its_trigger_and_two_hundred_messages_behind_it_keep_their_order() {
    let slow = "export function join(input) {
        if (input.channel.endsWith('closed')) return false;
        const end = 3e5; let n = 0; while (n < end) n += 1;
    }";
    let server = server(&[("name = 'slow'\nchannel = 'room:*'\nactions = ['join']\ncpu_ms = 1000", slow)]);
    let address = server.addresses()[0].address;
    let mut ada = Client::connect(address, "&join=room:1");
    for n in 0..200 {
        ada.send(&chat("room:1", json!(n)));
    }
    assert_eq!(ada.next()["ok"]["joined"], true);
    for n in 0..200 {
        assert_eq!(ada.message(), n);
    }
    let refused = ada.ask(json!({"type": "join", "channel": "room:closed"}));
    assert_eq!(refused["error"]["code"], "refused");
    let mut bob = Client::connect(address, "&join=room:closed");
    assert_eq!(bob.next()["error"]["code"], "refused", "?join= is a join");
    server.shut_down().expect("it ends");
}

#[test]
fn triggers_run_in_their_order_and_the_first_refusal_is_the_last_word() {
    let append = |letter: &str| format!("export const message = (input) => input.payload + '{letter}'");
    let stop = "export function message(input) { if (input.payload === 'stopa') refuse('no'); }";
    let never = "export function message(input) { publish('log', 'ran', 1); }";
    let (a, b) = (append("a"), append("b"));
    let server = server(&[
        ("name = 'a'\nchannel = 'c*'", &a),
        ("name = 'off'\nchannel = 'c*'\nactive = false", &b),
        ("name = 'stop'\nchannel = 'c'", stop),
        ("name = 'b'\nchannel = '*'", &b),
        ("name = 'log'\nchannel = 'c'", never),
    ]);
    let mut ada = Client::connect(server.addresses()[0].address, "");
    ada.join("c");
    ada.join("log");
    assert_eq!(ada.ask(chat("c", json!("stop")))["error"]["message"], "no");
    ada.send(&chat("c", json!("x")));
    assert_eq!((ada.message(), ada.message()), (json!("xab"), json!(1)));
    server.shut_down().expect("it ends");
}

#[test]
fn a_trigger_that_spins_harms_its_own_messages_alone() {
    let spin = "export function message() { for (;;); }";
    let server = server(&[
        ("name = 'refuses'\nchannel = 'refuses'\ncpu_ms = 5", spin),
        ("name = 'passes'\nchannel = 'passes'\ncpu_ms = 5\non_error = 'pass'", spin),
    ]);
    let mut ada = Client::connect(server.addresses()[0].address, "");
    for channel in ["refuses", "passes", "free"] {
        ada.join(channel);
    }
    assert_eq!(ada.ask(chat("refuses", json!(1)))["error"]["code"], "trigger_failed");
    ada.send(&chat("passes", json!(2)));
    assert_eq!(ada.message(), 2);
    ada.send(&chat("free", json!(3)));
    assert_eq!(ada.message(), 3);
    server.shut_down().expect("it ends");
}

#[test]
fn a_configuration_with_a_script_that_does_not_compile_is_refused_with_its_place() {
    let text = format!(
        "[apps.a]\nclient_key = '{CLIENT}'\n[[apps.a.triggers]]\nname = 't'\n\
         channel = 'c'\nsource = '''\nfunction ('''"
    );
    let sentence = Config::from_toml(&text).expect_err("it does not compile").to_string();
    assert!(
        sentence.contains("apps.a.triggers[0].source") && sentence.contains("line 1, column "),
        "{sentence}"
    );
    let twice =
        "[[apps.a.triggers]]\nname = 't'\nchannel = 'c'\nsource = 'export const join = () => 1'\n".repeat(2);
    let sentence = Config::from_toml(&format!("[apps.a]\nclient_key = '{CLIENT}'\n{twice}"))
        .expect_err("they have one name")
        .to_string();
    assert!(sentence.contains("another trigger"), "{sentence}");
}
