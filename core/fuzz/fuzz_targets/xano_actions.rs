//! Xano's actions from arbitrary text. The target asserts: nothing panics, a command says the same as another
//! JSON reader finds in its frame, and answers and publications are JSON with the same channel and payload.
//!
//! The input is the body of a back end's event after an `e`, or a frame after an `f`. Any other input has
//! lines from which a frame is made: its action, and its channel, `socketId` and payload as JSON.

#![no_main]

use std::{cell::RefCell, sync::Arc};

use bytes::BytesMut;
use fanfare_core::{
    app::{App, AppKeys, XanoChannel, XanoOptions},
    command::{BackEndCommand, Command},
    dialect::{Decoder, Format, Memo, encode_error, encode_publication, xano::read_event},
    error::ReplyError,
    id::{IdGenerator, SessionSlot},
    publication::{Payload, Publication},
    ws::{DecodeLimits, Decoder as Frames, Message, Role},
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const FORMAT: Format = Format::XanoFrames;
const SLOT: SessionSlot = SessionSlot(0);

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new(decoder());
}

fn decoder() -> Decoder {
    let mut options = XanoOptions::new("c");
    options.channels.push(XanoChannel::new("*"));
    let app = App { xano: Some(options), ..App::new("a", AppKeys::default()) };
    let mut decoder = Decoder::default();
    decoder.begin_session(FORMAT, SLOT, &Arc::new(app));
    decoder
}

fuzz_target!(|text: &str| {
    if let Some(body) = text.strip_prefix('e') {
        return check_event(body);
    }
    let made;
    let text = match text.strip_prefix('f') {
        Some(frame) => frame,
        None => {
            let mut lines = text.splitn(4, '\n').chain(["null"; 3]);
            let mut line = || lines.next().unwrap_or_default();
            let (action, channel, socket, payload) = (line(), line(), line(), line());
            let options = format!(r#"{{"channel":{channel},"socketId":{socket}}}"#);
            made = format!(r#"{{"action":"{action}","options":{options},"payload":{payload}}}"#);
            &made
        }
    };
    DECODER.with_borrow_mut(|decoder| {
        let Ok(commands) = decoder.read(FORMAT, SLOT, Message::Text(text)) else { return };
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        for place in 0..commands.len() {
            let source = commands.source(place);
            let mut out = BytesMut::new();
            encode_error(FORMAT, &mut out, source.id(), ReplyError::RateLimited);
            let answer = if place > 0 { Value::Null } else { json(&out) };
            assert_eq!(out.is_empty(), place > 0, "what follows a join is refused with it");
            if let Ok(command) = source.command() {
                check_command(&frame, &command);
            }
            if !frame.is_null() && place == 0 {
                assert_eq!(answer["options"]["channel"], frame["options"]["channel"], "the answer's channel");
            }
        }
    });
});

/// A command says the same as the other reader finds in its frame. The other reader knows fewer numbers and
/// no unpaired surrogates; in such a case `frame` is `null`.
fn check_command(frame: &Value, command: &Command<'_>) {
    let channel = match command {
        Command::Join { channel, .. }
        | Command::Leave { channel, .. }
        | Command::Roster { channel }
        | Command::History { channel, .. } => channel,
        Command::Publish(publish) => {
            let passed = encoded(publish.channel, publish.payload);
            if !frame.is_null() {
                assert_eq!(passed["payload"]["data"], frame["payload"], "the payload");
            }
            publish.channel.expect("a message is for a channel")
        }
        other => panic!("{other:?} is no action"),
    };
    if !frame.is_null() {
        assert_eq!(frame["options"]["channel"], *channel, "the channel");
    }
}

/// The frame that members of a channel receive for a payload.
fn encoded(channel: Option<&str>, payload: Payload<'_>) -> Value {
    let id = IdGenerator::new(1).message_id(1);
    let (mut out, mut memo) = (BytesMut::new(), Memo::new(FORMAT));
    encode_publication(FORMAT, &mut out, &mut memo, channel, &Publication::message(id, "event", payload));
    json(&out)
}

/// The JSON of the single frame in `bytes`; `null` if the other reader cannot read it.
fn json(bytes: &[u8]) -> Value {
    let mut input = bytes.to_vec();
    let limits = DecodeLimits { message_bytes: usize::MAX, fragments: 1 };
    let mut frames = Frames::new();
    let decoded = frames.decode(&mut input, Role::Client, limits).expect("a frame");
    assert_eq!(decoded.consumed, bytes.len(), "one frame");
    let Some(Message::Text(text)) = decoded.message else { panic!("it is text") };
    fanfare_core::json::value(text).expect("what is sent is JSON");
    serde_json::from_str(text).unwrap_or_default()
}

fn check_event(body: &str) {
    let read = read_event(body.as_bytes(), &mut |command| {
        let BackEndCommand::Publish { publish, .. } = command else { panic!("an event is published") };
        let passed = encoded(publish.channel, publish.payload);
        let Ok(body) = serde_json::from_str::<Value>(body) else { return };
        assert_eq!(body["channel"], publish.channel.expect("an event is for a channel"), "the channel");
        assert_eq!(passed["payload"]["data"], body["data"], "the data");
    });
    if read.is_ok() {
        fanfare_core::json::value(body).expect("what is read is JSON");
    }
}
