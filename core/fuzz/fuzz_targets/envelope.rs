//! Command frames, text and binary, one after another with one reader: nothing panics, every answer a frame's commands
//! give is within the frame, and a reader that has read other frames before reads each as a new one does.
//!
//! Input: frames with a byte 0xff between them, which no text has. The first byte of each says what it is: `b` a binary
//! frame, `e` a binary frame's envelope (its length is put in front), `s` a frame that begins as one of [`HEADS`], which
//! the next byte picks, and any other the first byte of a text frame. Every frame comes twice.

#![no_main]

use fanfare_core::{
    command::Command,
    dialect::{Batch, CommandReader, Envelope, read_binary},
    error::ReplyError,
    limits::{AUDIENCE_USERS, BATCH, COMMAND_ID_BYTES, PAGE},
    publication::{Audience, Payload},
};
use libfuzzer_sys::fuzz_target;

/// Frames that differ in channel and message alone are what a reader knows again, if they are publications that want no
/// answer and are for everybody.
const HEADS: [&str; 8] = [
    r#"{"type":"send","channel":"c","event":"e","message":"#,
    r#"{"type":"send","channel":"dd","event":"e","message":"#,
    r#"{"type":"send","channel":""#,
    r#"{"type":"broadcast","event":"\u0065","echo":false,"no_history":true,"message":"#,
    r#"{"id":7,"type":"send","channel":"c","event":"e","message":"#,
    r#"{"type":"send","channel":"c","event":"e","to_users":["u"],"message":"#,
    r#"{"type":"join","channel":"c","event":"e","message":"#,
    r#"[{"type":"send","channel":"c","event":"e","message":"#,
];
const PAYLOAD: &[u8] = b"\x00\xfe";

fuzz_target!(|data: &[u8]| {
    let mut used = CommandReader::default();
    for frame in data.split(|&byte| byte == 0xff) {
        match frame.split_first() {
            Some((b'b', frame)) => compare(&mut used, frame, binary),
            Some((b'e', envelope)) => {
                let length = u16::try_from(envelope.len()).unwrap_or(u16::MAX);
                compare(&mut used, &[&length.to_be_bytes(), envelope, PAYLOAD].concat(), binary);
            }
            Some((b's', [head, rest @ ..])) => {
                let head = HEADS[usize::from(*head) % HEADS.len()].as_bytes();
                compare(&mut used, &[head, rest].concat(), text);
            }
            _ => compare(&mut used, frame, text),
        }
    }
});

fn compare(used: &mut CommandReader, frame: &[u8], read: impl Fn(&mut CommandReader, &[u8]) -> Vec<String>) {
    let expected = read(&mut CommandReader::default(), frame);
    for _ in 0..2 {
        assert_eq!(read(used, frame), expected, "{}", String::from_utf8_lossy(frame));
    }
}

/// What `reader` reads in a text frame, command by command, the way a session does; then all that a request may ask
/// of it.
fn text(reader: &mut CommandReader, frame: &[u8]) -> Vec<String> {
    let Ok(frame) = std::str::from_utf8(frame) else { return Vec::new() };
    let repeated = reader.match_template(frame).map(|repeated| {
        format!("{:?}", Ok::<_, ReplyError>(Command::Publish(reader.publish_from(repeated))))
    });
    let mut batch = match Batch::read(reader, frame) {
        Ok(batch) => batch,
        Err(error) => {
            assert!(repeated.is_none(), "known again, and refused otherwise");
            return vec![format!("{error:?}")];
        }
    };
    assert!(batch.len() <= BATCH && batch.is_list() == batch.object().is_none());
    let mut read = Vec::new();
    for place in 0..batch.len() {
        let envelope = batch.envelope(place);
        let command = envelope.command();
        if let Ok(command) = &command {
            check(command, frame);
        }
        if let Ok(Command::Publish(publish)) = &command {
            batch.record_template(&envelope, publish);
        }
        read.push(format!("{command:?}"));
        read.push(requests(&envelope, frame));
    }
    if let Some(repeated) = repeated {
        assert_eq!(read[0], repeated, "known again, and read otherwise");
        assert!(batch.envelope(0).id().is_none(), "known again, and not answered");
    }
    read
}

/// What the HTTP API asks of an envelope, and its id.
fn requests(envelope: &Envelope<'_, '_>, frame: &str) -> String {
    let id = envelope.id();
    assert!(id.is_none_or(|id| frame.contains(id) && id.len() <= 6 * COMMAND_ID_BYTES + 2));
    let publication = envelope.publication();
    if let Ok(publish) = &publication {
        assert!(payload_is_within(&publish.payload, frame.as_bytes()));
    }
    let key = envelope.idempotency_key();
    format!("{id:?} {publication:?} {key:?} {:?} {:?}", envelope.edit(), envelope.deletion())
}

fn binary(reader: &mut CommandReader, frame: &[u8]) -> Vec<String> {
    let (envelope, payload) = match read_binary(reader, frame) {
        Ok(read) => read,
        Err(error) => return vec![format!("{error:?}")],
    };
    assert!(frame.ends_with(payload), "the payload is the rest of the frame");
    let command = envelope.binary_command(payload);
    if let Ok(publish) = &command {
        assert!(matches!(publish.payload, Payload::Binary(bytes) if bytes == payload));
    }
    vec![format!("{:?} {command:?}", envelope.id())]
}

/// Holds of every command that is to be executed.
fn check(command: &Command<'_>, frame: &str) {
    let users = |audience: &Audience| {
        let lists = [&audience.only_users, &audience.except_users];
        lists.into_iter().flatten().all(|users| users.len() <= AUDIENCE_USERS && users.is_sorted())
    };
    match command {
        Command::Publish(publish) => {
            assert!(payload_is_within(&publish.payload, frame.as_bytes()));
            assert!(publish.audience.as_deref().is_none_or(users));
        }
        Command::Change(change) => assert!(change.audience.as_ref().is_none_or(users)),
        Command::History { limit, .. } | Command::Members { limit, .. } | Command::Users { limit, .. } => {
            assert!((1..=PAGE).contains(limit));
        }
        _ => {}
    }
}

/// Payloads travel as the very bytes that were sent.
fn payload_is_within(payload: &Payload<'_>, frame: &[u8]) -> bool {
    match payload {
        Payload::Json(json) => *json == "null" || frame.as_ptr_range().contains(&json.as_ptr()),
        Payload::Binary(bytes) => bytes.is_empty() || frame.as_ptr_range().contains(&bytes.as_ptr()),
    }
}
