//! How many instructions does the core take for clients and back ends of Channelstream, beside native ones in
//! the same run?
//!
//! The baseline of each group is its row `native`: the same members, receivers and messages. Counted by
//! Valgrind through gungraun, as in `counts.rs`; the unit is instructions of a whole turn. The size of
//! the frames is printed for each row.
//!
//!     cargo bench --package fanfare-benches --bench channelstream --features counts

#![allow(missing_docs, reason = "the macros make public modules")]

use std::fmt::Write;

use bytes::BytesMut;
use fanfare_benches::{Discard, Room, engine, payload::SENT};
use fanfare_core::{
    command::Outcome,
    dialect::{
        Format, PollEffect, Polled,
        channelstream::{Body, Call, Directory, DirectoryLimits, Listening, Moment, Request as CallOf},
        native_http::{Request, RequestQuery, RequestReader, Resource, put_answer},
    },
    engine::{Engine, Opening},
    error::ReplyError,
    http::{HttpLimits, parse_head},
    id::{AppId, SessionSlot},
    token::Claims,
};
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

const APP: AppId = AppId(0);
const NOW: Moment = Moment(1_700_000_000_000_000);

/// Opens a session of a format in the channel.
fn open(engine: &mut Engine, format: Format, connection: u32) -> SessionSlot {
    let app = engine.node().app(APP).clone();
    let channels = vec!["room".into()];
    let user = format!("user-{connection}");
    let claims = Claims { user: user.into(), expires_at: None, profile: None, channels, id: None };
    let claims = Some(claims);
    let opening = Opening { app: &app, format, echo: Some(false), claims, connection, ticket: None };
    engine.open(opening, |_| {}, |_, _, _| {}).expect("the app takes any number")
}

/// A room in which a native member speaks, who does not receive its own messages.
fn room(format: Format, members: u32, window: usize) -> Room {
    let (mut engine, sink) = (engine(), Discard::default());
    let speaker = open(&mut engine, Format::Native, members);
    (0..members).for_each(|connection| {
        open(&mut engine, format, connection);
    });
    let echo = r#"{"type":"send","channel":"room","event":"message","echo":false,"message":"#;
    let mut room = Room { engine, sink, speaker, messages: vec![format!("{echo}{SENT}}}"); window] };
    // The engine keeps some buffers from one turn to the next: let it settle.
    (0..3).for_each(|_| room.turn());
    let before = room.sink.bytes;
    room.turn();
    let deliveries = window * members as usize;
    eprintln!("{format:?}: {} bytes for each delivery", (room.sink.bytes - before) / deliveries);
    room
}

// 32 messages to 2 members: what a message costs.
#[library_benchmark]
#[bench::native(room(Format::Native, 2, 32))]
#[bench::channelstream(room(Format::ChannelstreamFrames, 2, 32))]
fn send_32_to_2(mut room: Room) -> Room {
    room.turn();
    room
}

// 32 messages to 1,000 members: what a delivery costs if messages come together.
#[library_benchmark]
#[bench::native(room(Format::Native, 1_000, 32))]
#[bench::channelstream(room(Format::ChannelstreamFrames, 1_000, 32))]
fn fan_out_32_to_1000(mut room: Room) -> Room {
    room.turn();
    room
}

// One message to 9,000 members: what a delivery costs if messages come alone.
#[library_benchmark]
#[bench::native(room(Format::Native, 9_000, 1))]
#[bench::channelstream(room(Format::ChannelstreamFrames, 9_000, 1))]
fn fan_out_1_to_9000(mut room: Room) -> Room {
    room.turn();
    room
}

/// A back end that publishes messages to a channel with two members.
struct BackEnd {
    engine: Engine,
    sink: Discard,
    reader: RequestReader,
    directory: Directory,
    body: String,
    out: BytesMut,
}

fn back_end(format: Format, messages: usize) -> BackEnd {
    let mut engine = engine();
    (0..2).for_each(|connection| {
        open(&mut engine, format, connection);
    });
    let states = engine.node().user_states(APP).clone();
    let directory = Directory::new(DirectoryLimits::default(), 1, NOW, states);
    let (sink, reader, out) = (Discard::default(), RequestReader::default(), BytesMut::new());
    let mut back_end = BackEnd { engine, sink, reader, directory, body: String::new(), out };
    if format == Format::Native {
        back_end.body = format!(r#"{{"channel":"room","event":"message","message":{SENT}}}"#);
        (0..3).for_each(|_| back_end.publish(messages));
        return back_end;
    }
    back_end.call(Call::ChannelConfig, r#"{"room":{}}"#);
    for n in 0..messages {
        let comma = if n == 0 { "[" } else { "," };
        write!(back_end.body, r#"{comma}{{"user":"ada","channel":"room","message":{SENT}}}"#)
            .expect("a string takes it");
    }
    back_end.body.push(']');
    let body = back_end.body.clone();
    (0..3).for_each(|_| back_end.call(Call::SendMessages, &body));
    back_end
}

impl BackEnd {
    /// One native request for each message: its head, its body and its answer.
    fn publish(&mut self, messages: usize) {
        self.engine.begin_turn(1);
        let head = "POST /v1/send HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Length: 85\r\n\
                    Content-Type: application/json\r\nAuthorization: Bearer server-key-0123456789\r\n\r\n";
        for _ in 0..messages {
            let parsed = parse_head(head.as_bytes(), HttpLimits::default());
            assert!(matches!(parsed, Ok(Some(_))), "it is a head");
            let Self { engine, reader, body, out, .. } = self;
            let (query, body) = (RequestQuery::default(), body.as_bytes());
            let request = Request { resource: Resource::Send, method: "POST", query, body };
            let mut results: Vec<Result<Outcome, ReplyError>> = Vec::with_capacity(1);
            let shape = reader.read(&request, &mut |command| {
                results.extend(engine.request(APP, command.expect("it is a command"), 0));
            });
            out.clear();
            put_answer(out, shape.expect("it is a request"), &results).expect("it is published");
        }
        self.engine.on_mail();
        self.engine.flush(&mut self.sink);
    }

    fn call(&mut self, call: Call, body: &str) {
        self.engine.begin_turn(1);
        let body = Body::read(body.as_bytes());
        let (method, body) = ("POST", &body);
        let request = CallOf { call, method, body, conn_id: None, entropy: 1, now: NOW, version: "1" };
        let mut effects = Vec::new();
        let answer = self.directory.handle(&request, &mut effects);
        let app = self.engine.node().app(APP).clone();
        for effect in &effects {
            self.engine.request(APP, effect.command(&app), 0);
        }
        self.out.clear();
        self.out.extend_from_slice(answer.text().as_bytes());
        self.engine.on_mail();
        self.engine.flush(&mut self.sink);
    }
}

// 100 messages of a back end to 2 members: one request for each message, or one call with all messages.
#[library_benchmark]
#[bench::native(back_end(Format::Native, 100))]
fn post_100(mut back_end: BackEnd) -> BackEnd {
    back_end.publish(100);
    back_end
}

#[library_benchmark]
#[bench::channelstream(back_end(Format::ChannelstreamFrames, 100))]
fn post_100_in_one(mut back_end: BackEnd) -> BackEnd {
    let body = back_end.body.clone();
    back_end.call(Call::SendMessages, &body);
    back_end
}

// A `GET /listen` that one message answers: parsing the request, and writing the response.
#[library_benchmark]
#[bench::channelstream(Polled::listening(0))]
fn poll(mut polled: Polled) -> (Polled, usize) {
    let head = "GET /listen?conn_id=11111111-1111-4111-8111-111111111111 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\
                Accept: */*\r\nUser-Agent: a-browser\r\n\r\n";
    let parsed = parse_head(head.as_bytes(), HttpLimits::default());
    assert!(matches!(parsed, Ok(Some(_))), "it is a head");
    polled.handle_listen(Listening { callback: None, headers: &[] }, 0);
    polled.queue(SENT.as_bytes());
    polled.queue(b"\n");
    polled.handle_output(1);
    polled.handle_timeout(1_000);
    let mut bytes = 0;
    while let Some(effect) = polled.poll_effect() {
        if effect == PollEffect::AnswerPoll {
            bytes += polled.take_answer().body.len();
        }
    }
    (polled, bytes)
}

library_benchmark_group!(
    name = channelstream,
    benchmarks = [send_32_to_2, fan_out_32_to_1000, fan_out_1_to_9000, post_100, post_100_in_one, poll]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [channelstream]
);
