//! What state costs: heap bytes per session, per membership, per channel and per remembered message, counted
//! by the allocator itself. The figures are exact for the allocator's requests; they are bounded, and printed
//! for whoever compares commits (`scripts/bench-gate`), a line `bytes: NAME NUMBER` each.
//!
//! There is one test, since all threads of a process share the count.

mod counting;
mod support;

use std::sync::{Arc, atomic::Ordering};

use counting::LIVE;
use fanfare_core::{
    app::{App, AppKeys, Apps, HistoryLimits},
    dialect::Format,
    engine::{Engine, EngineMemory, Flow, Node, NodeMemory, Segments, Sink},
    id::{AppId, SessionSlot, WorkerId},
    ws::Message,
};
use support::open;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: u32, _: Segments<'_>) -> usize {
        0
    }
}

fn join(engine: &mut Engine, slot: SessionSlot, channel: usize) {
    let command = format!(r#"{{"type":"join","channel":"channel-{channel}"}}"#);
    assert_eq!(engine.receive(slot, Message::Text(&command)), Flow::Continue);
    engine.flush(&mut Nowhere);
}

fn hold_to(bound: usize, name: &str, bytes: usize) {
    println!("bytes: {name} {bytes}");
    assert!(bytes <= bound, "{name}: {bytes} bytes, more than {bound}");
}

/// The bytes that the memory ledger knows of.
fn ledger(engine: &Engine) -> usize {
    let EngineMemory { sessions, memberships, channels, buffers } = engine.memory();
    let shared = engine.node().memory();
    sessions + memberships + channels + buffers + shared.channels + shared.history + shared.buffers
}

/// The ledger and the allocator agree on how much was taken, up to a tenth.
fn hold_to_ledger(name: &str, counted: usize, known: usize) {
    println!("ledger: {name}: {known} of {counted} bytes");
    assert!(known.abs_diff(counted) <= counted / 10, "{name}: {known} bytes known, {counted} in use");
}

#[test]
fn state_costs_what_it_should() {
    sessions_memberships_and_channels();
    remembered_messages();
}

fn sessions_memberships_and_channels() {
    const SESSIONS: usize = 20_480;
    let apps = Apps::new(vec![App::new("default", AppKeys::default())]).expect("one app");
    let node = Arc::new(Node::new(apps, 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    engine.begin_turn(1_000);
    let mut slots = vec![SessionSlot(0); SESSIONS];

    let known_before = ledger(&engine);
    let before = LIVE.load(Ordering::Relaxed);
    for (connection, slot) in slots.iter_mut().enumerate() {
        *slot = open(&mut engine, u32::try_from(connection).expect("it is small"), Format::Native);
        engine.flush(&mut Nowhere);
    }
    let opened = LIVE.load(Ordering::Relaxed);
    hold_to_ledger("sessions", opened - before, ledger(&engine) - known_before);
    // One channel of many: what a membership costs.
    for &slot in &slots {
        join(&mut engine, slot, 0);
    }
    let joined = LIVE.load(Ordering::Relaxed);
    hold_to_ledger("members", joined - before, ledger(&engine) - known_before);
    // A channel of its own for each: what a channel with one member costs.
    for (at, &slot) in slots.iter().enumerate() {
        join(&mut engine, slot, at + 1);
    }
    let channels = LIVE.load(Ordering::Relaxed);
    hold_to_ledger("channels", channels - before, ledger(&engine) - known_before);

    let each = |from: usize, to: usize| (to - from) / SESSIONS;
    hold_to(192, "session", each(before, opened));
    hold_to(64, "first membership", each(opened, joined));
    hold_to(600, "channel with one member", each(joined, channels));

    for &slot in &slots {
        engine.close(slot);
        engine.flush(&mut Nowhere);
    }
    assert_eq!(engine.node().channels(), 0);
    let left = engine.memory();
    assert_eq!(left.memberships, 0, "{left:?}");
    assert_eq!(engine.node().memory(), NodeMemory::default());
    let after = LIVE.load(Ordering::Relaxed);
    hold_to(160, "left of a session when all have gone", after.saturating_sub(before) / SESSIONS);
}

/// In one channel. What such a message costs beyond its payload is the difference to 64.
fn remembered_messages() {
    const MESSAGES: u32 = 16_384;
    let mut app = App::new("default", AppKeys::default());
    app.history = HistoryLimits { messages: MESSAGES, bytes: u32::MAX, ..HistoryLimits::NONE };
    let apps = Apps::new(vec![app]).expect("one app");
    let mut engine = Engine::new(WorkerId(0), Arc::new(Node::new(apps, 1, 64, 7)), 11);
    engine.begin_turn(1_000);
    let slot = open(&mut engine, 0, Format::Native);
    join(&mut engine, slot, 0);
    let send =
        format!(r#"{{"type":"send","channel":"channel-0","event":"e","message":"{}"}}"#, "x".repeat(62));

    let known_before = ledger(&engine);
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 0..MESSAGES {
        assert_eq!(engine.receive(slot, Message::Text(&send)), Flow::Continue);
        engine.flush(&mut Nowhere);
    }
    let after = LIVE.load(Ordering::Relaxed);
    let (counted, told) = (after - before, engine.node().remembered(AppId(0)));
    assert!(told >= 64 * MESSAGES as usize, "they are not remembered");
    assert!(told.abs_diff(counted) <= counted / 100, "{told} bytes are accounted, and {counted} in use");
    hold_to_ledger("history", counted, ledger(&engine) - known_before);
    hold_to(128, "remembered message of 64 bytes", counted / MESSAGES as usize);

    // An hour later all of it is given back.
    engine.begin_turn(2_000 + 3_600_000);
    let page = Message::Text(r#"{"type":"history","channel":"channel-0"}"#);
    assert_eq!(engine.receive(slot, page), Flow::Continue);
    engine.flush(&mut Nowhere);
    let left = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    assert!(left <= 4096, "{left} bytes are left of them");
}
