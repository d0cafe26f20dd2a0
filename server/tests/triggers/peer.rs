//! A server with triggers, its clients, and its back end.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::BytesMut;
use fanfare_core::ws::{DecodeLimits, Decoder, Message, OpCode, Role, put_masked_frame, put_request};
use fanfare_server::{Server, config::Config};
use serde_json::{Value, json};

pub(crate) const CLIENT: &str = "client-key-0123456789";
pub(crate) const SERVER: &str = "server-key-0123456789";
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A server with these triggers, each with its settings and its script.
pub(crate) fn server(triggers: &[(&str, &str)]) -> Server {
    server_in("", triggers)
}

/// A server with these triggers and these further settings of the server.
pub(crate) fn server_in(settings: &str, triggers: &[(&str, &str)]) -> Server {
    let mut text = configuration(settings);
    for (settings, script) in triggers {
        text += &format!("[[apps.default.triggers]]\n{settings}\nsource = '''{script}'''\n");
    }
    let config = Config::from_toml(&text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(config).expect("it starts")
}

/// A configuration with these further settings of the server. Its end is in the section of the app.
pub(crate) fn configuration(settings: &str) -> String {
    format!(
        "[server]\nlisten = ['127.0.0.1:0']\nadmin_listen = 'off'\nworkers = 2\n\
         ping_interval_ms = 600000\n{settings}\n\
         [apps.default]\nannounce = false\n\
         client_key = '{CLIENT}'\nserver_key = '{SERVER}'\n\
         sender_edits = true\nhistory_messages = 10\n"
    )
}

/// A client of the native dialect.
pub(crate) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, parameters: &str) -> Self {
        Self::connect_to(CLIENT, address, parameters)
    }

    /// Connects to the app that has this client key.
    pub(crate) fn connect_to(key: &str, address: SocketAddr, parameters: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
        let mut request = BytesMut::new();
        let path = format!("/v1/ws?key={key}{parameters}");
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

    pub(crate) fn send(&mut self, command: &Value) {
        self.write(OpCode::Text, command.to_string().as_bytes());
    }

    pub(crate) fn write(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut frame = BytesMut::new();
        put_masked_frame(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// The next text frame as JSON, or the JSON envelope of the next binary frame.
    pub(crate) fn next(&mut self) -> Value {
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
    pub(crate) fn ask(&mut self, mut command: Value) -> Value {
        command["id"] = json!("asked");
        self.send(&command);
        loop {
            let frame = self.next();
            if frame["id"] == "asked" {
                return frame;
            }
        }
    }

    pub(crate) fn join(&mut self, channel: &str) {
        let joined = self.ask(json!({"type": "join", "channel": channel}));
        assert_eq!(joined["ok"]["channel"], channel, "{joined}");
    }

    /// The payload of the next message.
    pub(crate) fn message(&mut self) -> Value {
        let frame = self.next();
        assert!(frame["event"].is_string(), "{frame}");
        frame["message"].clone()
    }
}

/// The command that sends a message.
pub(crate) fn chat(channel: &str, message: Value) -> Value {
    json!({"type": "send", "channel": channel, "event": "chat", "message": message})
}

/// An answer of the HTTP API: its status and its JSON.
pub(crate) type Answer = (u16, Value);

/// Asks the HTTP API with the server key.
pub(crate) fn ask(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let address = server.addresses()[0].address;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = raw(
        address,
        &format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {SERVER}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
    );
    let status = answer[9..12].parse().expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The answer to a request that closes its connection.
pub(crate) fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}
