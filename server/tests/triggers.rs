//! Triggers end to end: from one client's bytes to another client's, through a server with two workers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::BytesMut;
use fanfare_core::ws::{DecodeLimits, Decoder, Message, OpCode, Role, put_masked_frame, put_request};
use fanfare_server::{Server, config::Config};
use serde_json::{Value, json};

const CLIENT: &str = "client-key-0123456789";
const DEADLINE: Duration = Duration::from_secs(30);

/// A server with these triggers, each with its settings and its script.
fn server(triggers: &[(&str, &str)]) -> Server {
    let mut text = format!(
        "[server]\nlisten = ['127.0.0.1:0']\nadmin_listen = 'off'\nworkers = 2\n\
         [apps.default]\nannounce = false\n\
         client_key = '{CLIENT}'\nserver_key = 'server-key-0123456789'\n\
         sender_edits = true\nhistory_messages = 10\n"
    );
    for (settings, script) in triggers {
        text += &format!("[[apps.default.triggers]]\n{settings}\nsource = '''{script}'''\n");
    }
    let config = Config::from_toml(&text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(config).expect("it starts")
}

/// A client of the native dialect.
struct Client {
    stream: TcpStream,
    decoder: Decoder,
    input: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, parameters: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
        let mut request = BytesMut::new();
        let path = format!("/v1/ws?key={CLIENT}{parameters}");
        put_request(&mut request, &address.to_string(), &path, [7; 16], std::iter::empty());
        stream.write_all(&request).expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the server answers");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut client = Self { stream, decoder: Decoder::new(), input: Vec::new() };
        assert!(client.next()["welcome"].is_object());
        client
    }

    fn send(&mut self, command: &Value) {
        self.write(OpCode::Text, command.to_string().as_bytes());
    }

    fn write(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut frame = BytesMut::new();
        put_masked_frame(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// The next frame as JSON. A binary frame is read up to the end of its envelope.
    fn next(&mut self) -> Value {
        let limits = DecodeLimits { message_bytes: 1 << 20, fragments: 1 };
        loop {
            let decoded = self.decoder.decode(&mut self.input, Role::Client, limits).expect("RFC 6455");
            let value = match decoded.message {
                Some(Message::Text(text)) => Some(serde_json::from_str(text).expect("JSON")),
                Some(Message::Binary(bytes)) => {
                    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                    Some(serde_json::from_slice(&bytes[2..2 + length]).expect("JSON"))
                }
                _ => None,
            };
            let consumed = decoded.consumed;
            self.input.drain(..consumed);
            if let Some(value) = value {
                return value;
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).expect("the server sends");
            assert!(read > 0, "the server has closed");
            self.input.extend_from_slice(&buffer[..read]);
        }
    }

    /// Sends a command and returns its answer. Frames before the answer are dropped.
    fn ask(&mut self, mut command: Value) -> Value {
        command["id"] = json!("asked");
        self.send(&command);
        loop {
            let frame = self.next();
            if frame["id"] == "asked" {
                return frame;
            }
        }
    }

    fn join(&mut self, channel: &str) {
        let joined = self.ask(json!({"type": "join", "channel": channel}));
        assert_eq!(joined["ok"]["channel"], channel, "{joined}");
    }

    /// The payload of the next message.
    fn message(&mut self) -> Value {
        let frame = self.next();
        assert!(frame["event"].is_string(), "{frame}");
        frame["message"].clone()
    }
}

fn chat(channel: &str, message: Value) -> Value {
    json!({"type": "send", "channel": channel, "event": "chat", "message": message})
}

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
