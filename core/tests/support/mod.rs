#![allow(dead_code, reason = "each test uses its part")]
//! What tests of the engine share: a sink in memory, and the client's end of a connection.

pub(crate) mod directory;

use std::collections::HashMap;

use bytes::BytesMut;
use fanfare_core::{
    dialect::Format,
    engine::{Engine, Opening, Segments, Sink},
    id::AppId,
    id::SessionSlot,
    token::Claims,
    trigger::TriggerRule,
    ws::{DecodeLimits, Decoder, Message, OpCode, Role, put_frame},
};
use serde_json::{Value, json};

/// A trigger on every message and join in the channels `t*`, except those of back ends.
pub(crate) fn trigger_rule() -> TriggerRule {
    TriggerRule {
        name: "all".into(),
        active: true,
        channel: "t*".into(),
        on_message: true,
        on_join: true,
        in_channels: true,
        on_broadcasts: true,
        on_direct: true,
        server: false,
    }
}

/// Bounds of what a test receives.
pub(crate) const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 1 << 24, fragments: 1 };

/// Keeps what is written, for each connection.
#[derive(Default)]
pub(crate) struct Memory {
    written: HashMap<u32, Vec<u8>>,
    /// What every connection claims to have waiting.
    pub(crate) backlog: usize,
}

impl Sink for Memory {
    fn write(&mut self, connection: u32, parts: Segments<'_>) -> usize {
        let written = self.written.entry(connection).or_default();
        for (buffer, range) in parts {
            written.extend_from_slice(&buffer[range]);
        }
        self.backlog
    }
}

impl Memory {
    /// The frames a connection received since the last time, as JSON; see [`decode`].
    pub(crate) fn take_json(&mut self, connection: u32) -> Vec<Value> {
        decode(&mut self.written.remove(&connection).unwrap_or_default())
    }
}

/// Whole frames as JSON; a binary one as its envelope with the payload as `bytes`.
pub(crate) fn decode(input: &mut [u8]) -> Vec<Value> {
    let mut decoder = Decoder::new();
    let (mut at, mut frames) = (0, Vec::new());
    loop {
        let decoded =
            decoder.decode(&mut input[at..], Role::Client, LIMITS).expect("the server keeps RFC 6455");
        at += decoded.consumed;
        match decoded.message {
            Some(Message::Text(text)) => frames.push(serde_json::from_str(text).expect("it is JSON")),
            Some(Message::Binary(bytes)) => frames.push(binary(bytes)),
            Some(other) => panic!("the engine sends no {other:?}"),
            None => return frames,
        }
    }
}

fn binary(frame: &[u8]) -> Value {
    let (length, rest) = frame.split_first_chunk::<2>().expect("a length");
    let (envelope, payload) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
    let mut value: Value = serde_json::from_slice(envelope).expect("the envelope is JSON");
    value["bytes"] = json!(payload);
    value
}

/// Opens a session of the first app on `connection`; its welcome is `{"welcome":"<session>"}`.
pub(crate) fn open(engine: &mut Engine, connection: u32, format: Format) -> SessionSlot {
    open_as(engine, connection, format, None)
}

/// As above, for a session of a user, or of none.
pub(crate) fn open_as(
    engine: &mut Engine,
    connection: u32,
    format: Format,
    user: Option<&str>,
) -> SessionSlot {
    let app = engine.node().app(AppId(0)).clone();
    let claims = user.map(|user| Claims {
        user: user.into(),
        expires_at: None,
        profile: None,
        channels: Vec::new(),
        id: None,
    });
    let opening = Opening { app: &app, format, echo: None, claims, connection, ticket: None };
    let welcome = |out: &mut BytesMut, id: fanfare_core::id::SessionId, _: Option<&str>| {
        put_frame(out, OpCode::Text, json!({"welcome": id.to_string()}).to_string().as_bytes());
    };
    engine.open(opening, |_| {}, welcome).expect("the app is not full")
}
