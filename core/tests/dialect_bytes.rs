//! What a client of another dialect costs beside a native one: heap bytes of an idle session, counted by the
//! allocator itself, and what is left of an event with attachments. Figures are printed as in
//! `state_bytes.rs`.
//!
//! There is one test, since all threads of a process share the count.

mod counting;
mod support;

use std::sync::{Arc, atomic::Ordering};

use counting::LIVE;
use fanfare_core::{
    app::{App, AppKeys, Apps, XanoOptions},
    dialect::{Format, PollConfig, Polled},
    engine::{Engine, Flow, Node, Segments, Sink},
    id::{SessionSlot, WorkerId},
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

/// A power of two and a quarter: no table of the engine is nearly full or nearly empty.
const SESSIONS: usize = 20_480;

/// The most bytes that an idle session of another dialect costs beyond a native session.
const BEYOND_NATIVE: usize = 200;

fn engine() -> Engine {
    let mut app = App::new("default", AppKeys::default());
    app.xano = Some(XanoOptions::new("canonical"));
    app.limits.message_bytes = 1 << 20;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    engine.begin_turn(1_000);
    engine
}

fn open_all(engine: &mut Engine, format: Format) -> Vec<SessionSlot> {
    let mut slots = Vec::with_capacity(SESSIONS);
    for connection in 0..u32::try_from(SESSIONS).expect("it is small") {
        slots.push(open(engine, connection, format));
        engine.flush(&mut Nowhere);
    }
    slots
}

/// The bytes of an idle session of this format.
fn session_bytes(format: Format) -> usize {
    let mut engine = engine();
    let before = LIVE.load(Ordering::Relaxed);
    let slots = open_all(&mut engine, format);
    let bytes =
        (LIVE.load(Ordering::Relaxed) - before - slots.capacity() * size_of::<SessionSlot>()) / SESSIONS;
    println!("bytes: session of {format:?} {bytes}");
    bytes
}

#[test]
fn clients_of_other_dialects_cost_little_more() {
    let native = session_bytes(Format::Native);
    for format in
        [Format::AgnostFrames, Format::AgnostPackets, Format::XanoFrames, Format::ChannelstreamFrames]
    {
        let own = session_bytes(format);
        assert!(own <= native + BEYOND_NATIVE, "{format:?}: {own} bytes, and native {native}");
    }
    // What the shell keeps of a client that polls comes to this.
    let config = PollConfig::new(10_000, 1 << 20);
    let before = LIVE.load(Ordering::Relaxed);
    let polled: Vec<Polled> = (0..SESSIONS).map(|_| Polled::new(Format::AgnostPackets, &config, 0)).collect();
    let bytes = (LIVE.load(Ordering::Relaxed) - before) / SESSIONS;
    println!("bytes: polling state {bytes}");
    assert!(bytes <= 512, "the state of a client that polls has {bytes} bytes");
    drop(polled);
    attachments_leave_nothing();
}

/// A session keeps nothing of an event with attachments that has taken effect, however large the event was.
fn attachments_leave_nothing() {
    const SENDERS: usize = 64;
    const BYTES: usize = 100_000;
    let mut engine = engine();
    let slots: Vec<SessionSlot> =
        (0..SENDERS as u32).map(|at| open(&mut engine, at, Format::AgnostFrames)).collect();
    let message = r#"451-["message",{"eventName":"e","message":[{"_placeholder":true,"num":0}]}]"#;
    let attachment = vec![7; BYTES];
    let mut send = |attachment: &[u8]| {
        for &slot in &slots {
            assert_eq!(engine.receive(slot, Message::Text(message)), Flow::Continue);
            assert_eq!(engine.receive(slot, Message::Binary(attachment)), Flow::Continue);
            engine.flush(&mut Nowhere);
        }
        LIVE.load(Ordering::Relaxed)
    };
    let before = (0..2).map(|_| send(&[1])).last().unwrap_or_default();
    let after = send(&attachment);
    let kept = after.saturating_sub(before);
    println!("bytes: kept of {SENDERS} events with attachments {kept}");
    // The engine's own buffers have room for some large events.
    assert!(kept < SENDERS * BYTES / 8, "{kept} bytes are kept of {SENDERS} events of {BYTES} bytes");
}
