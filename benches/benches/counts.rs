//! How many instructions, and how much heap, do the core's paths take?
//!
//! Counted by Valgrind through gungraun, the same in every run on one machine and toolchain: callgrind counts
//! the instructions of user space, DHAT what the heap was asked for. The baseline is another commit, see
//! `scripts/bench-gate`. Units: instructions, bytes and blocks, for the whole of what a bench says it does.
//!
//! Each bench prepares its input before the counting starts, and runs once beforehand, so that buffers have
//! their size and the count is that of the steady state. The bench's output is dropped after the counting.

#![allow(missing_docs, reason = "the macros make public modules")]

use std::hint::black_box;

use bytes::BytesMut;
use fanfare_benches::{
    Discard, announcing_engine, engine, engine_with_history, engines,
    frames::{UPGRADE_HEADERS, decode_all, text_frames},
    open_members, open_sessions,
    payload::{self, SEND},
};
use fanfare_core::{
    channel::ChannelTable,
    engine::{Engine, Flow},
    id::{AppId, SessionSlot},
    json::{Document, Element, Scanner},
    ws::{Decoder, Fin, Message, OpCode, Upgrade, put_header},
};
use gungraun::{Callgrind, Dhat, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

const APP: AppId = AppId(1);

/// A table of 10,000 channels, and the names of 1,000 of them or of 1,000 others.
fn table(known: bool) -> (ChannelTable, Vec<String>) {
    let name = |number: usize| format!("room-{number:07}");
    let table = ChannelTable::new(4, 7);
    (0..10_000).for_each(|number| drop(table.find_or_create(APP, &name(number), Default::default)));
    let first = if known { 0 } else { 10_000 };
    (table, (0..1_000).map(|number| name(first + number * 7919 % 10_000)).collect())
}

// 1,000 look-ups.
#[library_benchmark]
#[bench::of_10000(table(true))]
fn table_find((table, names): (ChannelTable, Vec<String>)) -> (ChannelTable, Vec<String>, u64) {
    let found = names.iter().filter_map(|name| table.find(APP, name, |channel| channel.epoch())).sum();
    (table, names, found)
}

// 1,000 channels come into being and go.
#[library_benchmark]
#[bench::of_10000(table(false))]
fn table_churn((table, names): (ChannelTable, Vec<String>)) -> (ChannelTable, Vec<String>) {
    for name in &names {
        table.remove(&table.find_or_create(APP, name, Default::default));
    }
    (table, names)
}

/// An engine after a turn, what takes its output, its sessions, and a command of each.
struct Room {
    engine: Engine,
    sink: Discard,
    slots: Vec<SessionSlot>,
    commands: Vec<String>,
}

impl Room {
    /// What one session sends is handed over together, as the server does.
    fn turn(&mut self) {
        self.engine.begin_turn(1);
        self.engine.on_early_mail();
        let mut commands = self.commands.iter();
        for same in self.slots.chunk_by(|one, next| one == next) {
            let messages = commands.by_ref().take(same.len()).map(|command| Message::Text(command));
            assert_eq!(self.engine.receive_all(same[0], messages), Flow::Continue);
        }
        self.engine.on_mail();
        self.engine.flush(&mut self.sink);
    }

    /// The mail of other workers is handled.
    fn turn_for_mail(&mut self) {
        self.engine.begin_turn(1);
        self.engine.on_mail();
        self.engine.flush(&mut self.sink);
    }
}

/// 1,000 sessions that join next: all of them the same channel, or each a channel of its own. The sessions
/// have joined and left before.
fn newcomers(channels: usize) -> Room {
    let mut room = members(channels);
    room.turn();
    room.commands = joins(channels);
    room
}

/// The same, in the channel and about to leave it.
fn members(channels: usize) -> Room {
    let (mut engine, mut sink) = (engine(), Discard::default());
    let slots = open_sessions(&mut engine, 1_000);
    engine.flush(&mut sink);
    let mut room = Room { engine, sink, slots, commands: joins(channels) };
    room.turn();
    room.commands = membership_commands("leave", channels);
    room
}

fn joins(channels: usize) -> Vec<String> {
    membership_commands("join", channels)
}

fn membership_commands(kind: &str, channels: usize) -> Vec<String> {
    let channel = |session: usize| session % channels;
    (0..1_000)
        .map(|session| format!(r#"{{"type":"{kind}","channel":"room-{}"}}"#, channel(session)))
        .collect()
}

// 1,000 joins in a turn.
#[library_benchmark]
#[bench::one_channel(newcomers(1))]
#[bench::own_channels(newcomers(1_000))]
fn join(mut room: Room) -> Room {
    room.turn();
    room
}

// 1,000 leaves in a turn.
#[library_benchmark]
#[bench::one_channel(members(1))]
#[bench::own_channels(members(1_000))]
fn leave(mut room: Room) -> Room {
    room.turn();
    room
}

/// `count` members of one channel, the first of which sends `window` messages in a turn.
fn speaker(count: u32, window: usize) -> Room {
    speaker_in(engine(), count, window)
}

/// The same in a channel that remembers the last 100 messages, and has as many.
fn remembered_speaker(count: u32, window: usize) -> Room {
    let mut room = speaker_in(engine_with_history(100), count, window);
    (0..100).for_each(|_| room.turn());
    room
}

fn speaker_in(mut engine: Engine, count: u32, window: usize) -> Room {
    let mut sink = Discard::default();
    let first = open_members(&mut engine, count, &mut sink)[0];
    let mut room = Room { engine, sink, slots: vec![first; window], commands: vec![SEND.into(); window] };
    // The engine keeps some buffers from one turn to the next: let it settle.
    (0..3).for_each(|_| room.turn());
    room
}

/// As [`speaker`], but each command has an id: no two are alike, and all are answered.
fn answered_speaker(count: u32, window: usize) -> Room {
    let mut room = speaker(count, window);
    for (number, command) in room.commands.iter_mut().enumerate() {
        *command = SEND.replacen('{', &format!(r#"{{"id":{number},"#), 1);
    }
    (0..3).for_each(|_| room.turn());
    room
}

// 32 commands to one or two members.
#[library_benchmark]
#[bench::to_1(speaker(1, 32))]
#[bench::to_2(speaker(2, 32))]
#[bench::to_2_answered(answered_speaker(2, 32))]
#[bench::to_2_remembered(remembered_speaker(2, 32))]
fn publish(mut room: Room) -> Room {
    room.turn();
    room
}

// Members times messages of one turn.
#[library_benchmark]
#[bench::of_1000x1(speaker(1_000, 1))]
#[bench::of_1000x32(speaker(1_000, 32))]
#[bench::of_9000x1(speaker(9_000, 1))]
fn fanout(mut room: Room) -> Room {
    room.turn();
    room
}

/// The workers of a node, which take turns on one thread.
struct House(Vec<Room>);

impl House {
    /// Each worker has a turn for what its sessions send, and one for mail.
    fn turn(&mut self) {
        let House(rooms) = self;
        rooms.iter_mut().for_each(Room::turn);
        rooms.iter_mut().for_each(Room::turn_for_mail);
    }
}

/// 500 channels with a sender and a receiver, each on a worker of its own by chance. A sender sends `window`
/// messages in a turn.
fn pairs(workers: u16, window: usize) -> House {
    let room = |engine| Room { engine, sink: Discard::default(), slots: Vec::new(), commands: Vec::new() };
    let mut rooms: Vec<Room> = engines(workers).into_iter().map(room).collect();
    for session in 0..1_000_u32 {
        let (channel, sends) = (session / 2, session % 2 == 0);
        let room = &mut rooms[(session.wrapping_mul(0x9e37_79b9) >> 16) as usize % usize::from(workers)];
        let slot = open_sessions(&mut room.engine, 1)[0];
        let join = format!(r#"{{"type":"join","channel":"room-{channel}"}}"#);
        assert_eq!(room.engine.receive(slot, Message::Text(&join)), Flow::Continue);
        if sends {
            room.slots.extend(vec![slot; window]);
            let to = format!(r#""echo":false,"channel":"room-{channel}""#);
            let send = SEND.replacen(r#""channel":"room""#, &to, 1);
            room.commands.extend(vec![send; window]);
        }
    }
    let mut house = House(rooms);
    (0..3).for_each(|_| house.turn());
    house
}

// 500 channels times 4 messages: workers that take turns on one thread.
#[library_benchmark]
#[bench::of_1_worker(pairs(1, 4))]
#[bench::of_2_workers(pairs(2, 4))]
#[bench::of_4_workers(pairs(4, 4))]
fn crossing(mut house: House) -> House {
    house.turn();
    house
}

/// A stream of `count` frames, the buffer to read it through, and the decoder.
fn stream(payload_len: usize, count: usize) -> (Decoder, BytesMut, Vec<u8>) {
    (Decoder::new(), text_frames(payload_len, count), vec![0; 64 << 10])
}

// 100 frames.
#[library_benchmark]
#[bench::of_64_bytes(stream(64, 100))]
#[bench::of_512_bytes(stream(512, 100))]
fn ws_decode(
    (mut decoder, stream, mut buffer): (Decoder, BytesMut, Vec<u8>),
) -> (Decoder, BytesMut, Vec<u8>, usize) {
    let seen = decode_all(&mut decoder, &stream, &mut buffer);
    (decoder, stream, buffer, seen)
}

// The headers of 1,000 frames.
#[library_benchmark]
#[bench::headers(BytesMut::with_capacity(64 << 10))]
fn ws_encode(mut out: BytesMut) -> BytesMut {
    (0..1_000).for_each(|len| put_header(&mut out, OpCode::Text, Fin::Last, black_box(len), None));
    out
}

// One check, and its response.
#[library_benchmark]
#[bench::of_a_browser(&UPGRADE_HEADERS)]
fn ws_handshake(headers: &'static [(&'static str, &'static [u8])]) -> usize {
    let headers = headers.iter().copied();
    black_box(Upgrade::new("GET", 1, headers).accept()).is_ok().into()
}

/// A scanner that has seen the text before, and the text.
fn scanned(text: String) -> (Scanner, String) {
    let mut scanner = Scanner::new();
    members_of(&mut scanner, &text);
    (scanner, text)
}

/// Proves `text` and visits the members of its envelopes; returns how many there are.
fn members_of(scanner: &mut Scanner, text: &str) -> usize {
    match scanner.scan(text).expect("the bench's text is valid") {
        Document::Object(object) => object.members().map(black_box).count(),
        Document::Array(array) => array
            .elements()
            .map(|element| match element {
                Element::Object(object) => object.members().map(black_box).count(),
                Element::Other(_) => 0,
            })
            .sum(),
        Document::Other(_) => 0,
    }
}

// Proving a message's text and finding the members of its envelopes.
#[library_benchmark]
#[bench::text_64(scanned(payload::envelope(&payload::text(64))))]
#[bench::text_4096(scanned(payload::envelope(&payload::text(4096))))]
#[bench::tree_512(scanned(payload::envelope(&payload::tree(512))))]
#[bench::batch_of_16(scanned(payload::batch(16, &payload::tree(64))))]
fn envelope((mut scanner, text): (Scanner, String)) -> (Scanner, String, usize) {
    let count = members_of(&mut scanner, &text);
    (scanner, text, count)
}

library_benchmark_group!(name = table, benchmarks = [table_find, table_churn]);
/// 1,000 members of a channel that announces them; the first sends this command.
fn announcing(command: &str) -> Room {
    let mut room = speaker_in(announcing_engine(), 1_000, 1);
    room.commands = vec![command.into()];
    (0..3).for_each(|_| room.turn());
    room
}

// One broadcast to 1,000 sessions.
#[library_benchmark]
#[bench::to_1000(announcing(
    r#"{"type":"broadcast","event":"news","message":{"text":"some forty bytes or so"}}"#
))]
fn broadcast(mut room: Room) -> Room {
    room.turn();
    room
}

// One update of a profile, told to 1,000 members.
#[library_benchmark]
#[bench::of_1000(announcing(r#"{"type":"update","profile":{"name":"Ada Lovelace"}}"#))]
fn update(mut room: Room) -> Room {
    room.turn();
    room
}

library_benchmark_group!(
    name = engine,
    benchmarks = [join, leave, publish, fanout, crossing, broadcast, update]
);
library_benchmark_group!(name = codec, benchmarks = [ws_decode, ws_encode, ws_handshake, envelope]);

main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        .tool(Dhat::default()),
    library_benchmark_groups = [table, engine, codec]
);
