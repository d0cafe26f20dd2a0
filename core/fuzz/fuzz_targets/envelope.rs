//! Command frames, text and binary, one after another with one reader: nothing panics, every answer a frame's
//! commands give is within the frame, and a reader that has read other frames before reads each as a new one
//! does.
//!
//! Input: frames with a byte 0xff between them, which no text has. The first byte of each says what it is:
//! `b` a binary frame, `e` a binary frame's envelope (its length is put in front), `s` a frame that begins as
//! one of [`HEADS`], which the next byte picks, and any other the first byte of a text frame. Every frame
//! comes twice.

#![no_main]

use fanfare_core::{
    command::{BackEndCommand, Command},
    dialect::{
        Decoder, Format,
        native_http::{Request, RequestQuery, RequestReader, Resource},
    },
    error::ReplyError,
    id::SessionSlot,
    limits::{AUDIENCE_USERS, BATCH, COMMAND_ID_BYTES, PAGE},
    publication::{Audience, Payload},
    ws::Message,
};
use libfuzzer_sys::fuzz_target;

/// A reader recognises frames that differ in channel and message alone, if they are publications without id
/// and audience.
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

/// The readers that a worker uses for WebSockets and for HTTP.
#[derive(Default)]
struct Readers {
    decoder: Decoder,
    requests: RequestReader,
}

fuzz_target!(|data: &[u8]| {
    let mut used = Readers::default();
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

fn compare(used: &mut Readers, frame: &[u8], read: impl Fn(&mut Readers, &[u8]) -> Vec<String>) {
    let expected = read(&mut Readers::default(), frame);
    for _ in 0..2 {
        assert_eq!(read(used, frame), expected, "{}", String::from_utf8_lossy(frame));
    }
}

/// Reads the commands of a session in a text frame one by one, and then the requests of a back end in the
/// same frame.
fn text(readers: &mut Readers, frame: &[u8]) -> Vec<String> {
    let Ok(frame) = std::str::from_utf8(frame) else { return Vec::new() };
    let (message, decoder) = (Message::Text(frame), &mut readers.decoder);
    let repeated = decoder.match_template(Format::Native, SessionSlot(0), message).map(|repeated| {
        format!("{:?}", Ok::<_, ReplyError>(Command::Publish(decoder.publish_from(Format::Native, repeated))))
    });
    let mut commands = match decoder.read(Format::Native, SessionSlot(0), message) {
        Ok(commands) => commands,
        Err(error) => {
            assert!(repeated.is_none(), "known again, and refused otherwise");
            return vec![format!("{error:?}")];
        }
    };
    assert!(commands.len() <= BATCH);
    let mut read = Vec::new();
    for place in 0..commands.len() {
        let source = commands.source(place);
        let id = source.id();
        assert!(id.is_none_or(|id| frame.contains(id) && id.len() <= 6 * COMMAND_ID_BYTES + 2));
        let command = source.command();
        if let Ok(command) = &command {
            check(command, frame);
        }
        if let Ok(Command::Publish(publish)) = &command {
            commands.record_template(&source, publish);
        }
        read.push(format!("{command:?}"));
        read.push(format!("{id:?}"));
    }
    if let Some(repeated) = repeated {
        assert_eq!(read[0], repeated, "known again, and read otherwise");
        assert!(commands.source(0).id().is_none(), "known again, and not answered");
    }
    let requests = [
        ("POST", Resource::Send),
        ("POST", Resource::Publish),
        ("PATCH", Resource::Messages),
        ("DELETE", Resource::Messages),
        ("PUT", Resource::Options),
        ("POST", Resource::Disconnect),
    ];
    read.extend(requests.map(|(method, resource)| request(&mut readers.requests, method, resource, frame)));
    read
}

/// Reads the body of an HTTP API request.
fn request(reader: &mut RequestReader, method: &str, resource: Resource<'_>, body: &str) -> String {
    let mut read = Vec::new();
    let request = Request { resource, method, query: RequestQuery::default(), body: body.as_bytes() };
    let shape = reader.read(&request, &mut |command| {
        if let Ok(BackEndCommand::Publish { publish, .. }) = &command {
            assert!(payload_is_within(&publish.payload, body.as_bytes()));
        }
        read.push(format!("{command:?}"));
    });
    assert!(read.len() <= BATCH && (shape.is_ok() || read.is_empty()));
    format!("{shape:?} {read:?}")
}

fn binary(readers: &mut Readers, frame: &[u8]) -> Vec<String> {
    let commands = match readers.decoder.read(Format::Native, SessionSlot(0), Message::Binary(frame)) {
        Ok(commands) => commands,
        Err(error) => return vec![format!("{error:?}")],
    };
    let source = commands.source(0);
    let command = source.command();
    if let Ok(command) = &command {
        let Command::Publish(publish) = command else { panic!("{command:?} in a binary frame") };
        assert!(matches!(publish.payload, Payload::Binary(bytes) if frame.ends_with(bytes)));
    }
    vec![format!("{:?} {command:?}", source.id())]
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
