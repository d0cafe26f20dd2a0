//! What a huge turn leaves: bytes of the heap, counted by the allocator itself. There is one test, since all
//! threads of a process share the count.

mod counting;
mod support;

use std::sync::{Arc, atomic::Ordering};

use counting::LIVE;
use fanfare_core::{
    app::{App, AppKeys, Apps, HistoryLimits},
    dialect::Format,
    engine::{Engine, Flow, Node, Segments, Sink},
    id::{SessionSlot, WorkerId},
    ws::Message,
};
use support::open;

/// Bytes that a worker's turn may keep for the next.
const KEPT: usize = 6 << 20;

const SESSIONS: usize = 20_000;
const MESSAGES: usize = 4000;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: u32, _: Segments<'_>) -> usize {
        0
    }
}

fn receive(engine: &mut Engine, slot: SessionSlot, command: &str) {
    assert_eq!(engine.receive(slot, Message::Text(command)), Flow::Continue);
}

#[test]
fn buffers_that_a_huge_turn_has_grown_are_given_back() {
    let mut app = App::new("default", AppKeys::default());
    app.announce = false;
    app.history = HistoryLimits { messages: 1000, bytes: u32::MAX, ..HistoryLimits::NONE };
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    engine.begin_turn(1_000);
    let slots: Vec<SessionSlot> = (0..SESSIONS)
        .map(|connection| {
            let slot = open(&mut engine, u32::try_from(connection).expect("it is small"), Format::Native);
            for channel in 0..4 {
                receive(&mut engine, slot, &format!(r#"{{"type":"join","channel":"channel-{channel}"}}"#));
            }
            engine.flush(&mut Nowhere);
            slot
        })
        .collect();
    let payload = "x".repeat(400);
    let send = |channel: usize| {
        format!(r#"{{"type":"send","channel":"channel-{channel}","event":"e","message":"{payload}"}}"#)
    };
    for (message, &slot) in slots.iter().enumerate().take(MESSAGES) {
        receive(&mut engine, slot, &send(message % 4));
        engine.flush(&mut Nowhere);
    }
    let before = LIVE.load(Ordering::Relaxed);
    // Pages of history to a few, messages to all of four channels that alternate, and replies between them.
    for turn in 0..2 {
        engine.begin_turn(2_000 + turn);
        for _ in 0..100 {
            receive(
                &mut engine,
                slots[0],
                r#"{"type":"history","id":"1","channel":"channel-0","limit":1000}"#,
            );
        }
        for (message, &slot) in slots.iter().enumerate().take(MESSAGES) {
            receive(&mut engine, slot, &send(message % 4));
        }
        let peak = LIVE.load(Ordering::Relaxed).saturating_sub(before);
        assert!(peak > 4 * KEPT, "the turn is not huge: {peak} bytes");
        engine.flush(&mut Nowhere);
    }
    let kept = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    println!("bytes: kept after a huge turn {kept}");
    assert!(kept <= KEPT, "{kept} bytes are kept after a huge turn");
}
