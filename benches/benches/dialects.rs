//! How many instructions do the core's paths take in another dialect, beside the native one in the same run?
//!
//! The baseline of each row is the row `native` of its group: the same members, and the same message in the
//! words of each dialect. Counted by Valgrind through gungraun, as in `counts.rs`; the unit is instructions
//! of a whole turn. A delivery is one message to one member.
//!
//!     cargo bench --package fanfare-benches --bench dialects --features counts

#![allow(missing_docs, reason = "the macros make public modules")]

use bytes::BytesMut;
use fanfare_benches::{Discard, Room, engine, payload::SENT};
use fanfare_core::{
    dialect::{Format, PollConfig, PollEffect, Polled, Posted},
    engine::{Flow, Opening},
    id::AppId,
    ws::Message,
};
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

fn join(format: Format) -> String {
    match format {
        Format::AgnostFrames => r#"42["join",{"channel":"room","echo":false}]"#.into(),
        _ => r#"{"type":"join","channel":"room"}"#.into(),
    }
}

fn send(format: Format) -> String {
    match format {
        Format::AgnostFrames => {
            format!(r#"42["message",{{"channel":"room","eventName":"chat","message":{SENT}}}]"#)
        }
        _ => format!(r#"{{"type":"send","channel":"room","event":"chat","message":{SENT}}}"#),
    }
}

fn room(format: Format, members: u32, window: usize) -> Room {
    let (mut engine, mut sink) = (engine(), Discard::default());
    let app = engine.node().app(AppId(0)).clone();
    let mut speaker = None;
    for connection in 0..members {
        let opening = Opening { app: &app, format, echo: Some(true), claims: None, connection, ticket: None };
        let slot = engine.open(opening, |_| {}, |_, _, _| {}).expect("the app takes any number");
        assert_eq!(engine.receive(slot, Message::Text(&join(format))), Flow::Continue);
        speaker.get_or_insert(slot);
    }
    engine.flush(&mut sink);
    let speaker = speaker.expect("there is a member");
    let mut room = Room { engine, sink, speaker, messages: vec![send(format); window] };
    // The engine keeps some buffers from one turn to the next: let it settle.
    (0..3).for_each(|_| room.turn());
    room
}

// 32 messages of one sender to itself and another member: what a message costs.
#[library_benchmark]
#[bench::native(room(Format::Native, 2, 32))]
#[bench::agnost(room(Format::AgnostFrames, 2, 32))]
fn send_32_to_2(mut room: Room) -> Room {
    room.turn();
    room
}

// 32 messages to 1,000 members: what a delivery costs if messages come together.
#[library_benchmark]
#[bench::native(room(Format::Native, 1_000, 32))]
#[bench::agnost(room(Format::AgnostFrames, 1_000, 32))]
fn fan_out_32_to_1000(mut room: Room) -> Room {
    room.turn();
    room
}

// One message to 9,000 members: what a delivery costs if messages come alone.
#[library_benchmark]
#[bench::native(room(Format::Native, 9_000, 1))]
#[bench::agnost(room(Format::AgnostFrames, 9_000, 1))]
fn fan_out_1_to_9000(mut room: Room) -> Room {
    room.turn();
    room
}

/// A client that polls, without its sockets.
struct Poller {
    polled: Polled,
    out: BytesMut,
}

fn poller() -> Poller {
    let config = PollConfig::new(10_000, 1 << 20);
    Poller { polled: Polled::new(Format::AgnostPackets, &config, 0), out: BytesMut::new() }
}

impl Poller {
    /// A poll that is held, some packets of output, and the answer.
    fn poll(&mut self, packets: usize) -> usize {
        assert!(self.polled.handle_poll(1).is_ok(), "no other poll is held");
        let packet = format!(r#"42["chat",{{"channel":"room","message":{SENT}}}]"#);
        for at in 0..packets {
            self.out.clear();
            // Packets of a payload are separated.
            if at > 0 {
                self.out.extend_from_slice(b"\x1e");
            }
            self.out.extend_from_slice(packet.as_bytes());
            self.polled.queue(&self.out);
        }
        let mut bytes = 0;
        while let Some(effect) = self.polled.poll_effect() {
            if effect == PollEffect::AnswerPoll {
                bytes += self.polled.take_answer().body.len();
            }
        }
        bytes
    }

    /// A POST with some messages.
    fn post(&mut self, body: &[u8]) -> usize {
        assert!(self.polled.handle_post(None, Some(body.len() as u64), 1).is_ok(), "no other is under way");
        self.polled.handle_body(body, 1);
        let (mut at, mut bytes) = (0, 0);
        while let Some(posted) = self.polled.next_message(body, &mut at, 1) {
            bytes += if let Posted::Text(text) = posted { text.len() } else { 0 };
        }
        bytes + self.polled.post_answer().body.len()
    }
}

// A poll and its answer with so many packets: what a poll costs, and what a message in it costs.
#[library_benchmark]
#[bench::of_1(poller(), 1)]
#[bench::of_33(poller(), 33)]
fn poll(mut poller: Poller, packets: usize) -> (Poller, usize) {
    let bytes = poller.poll(packets);
    (poller, bytes)
}

fn poster(messages: usize) -> (Poller, String) {
    (poller(), vec![send(Format::AgnostFrames); messages].join("\x1e"))
}

// A POST with so many messages, without the execution of their commands.
#[library_benchmark]
#[bench::of_1(poster(1))]
#[bench::of_33(poster(33))]
fn post((mut poller, body): (Poller, String)) -> (Poller, String, usize) {
    let bytes = poller.post(body.as_bytes());
    (poller, body, bytes)
}

library_benchmark_group!(
    name = dialects,
    benchmarks = [send_32_to_2, fan_out_32_to_1000, fan_out_1_to_9000, poll, post]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [dialects]
);
