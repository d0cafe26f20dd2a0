//! Benches of Fanfare; see `benches/`. Here is what several of them need: an engine with members, a sink that
//! keeps nothing, and input.

pub mod frames;
pub mod naive;
pub mod payload;

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::{
    app::{App, AppKeys, Apps, HistoryLimits},
    dialect::{Format, Memo, encode_publication},
    engine::{Engine, Flow, Node, Opening, Segments, Sink},
    id::{AppId, IdGenerator, SessionSlot, WorkerId},
    publication::{Payload, Publication},
    ws::Message,
};

/// As in the server; but who counts heap has to see the system's allocator.
#[cfg(not(feature = "counts"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes everything at once and counts the bytes.
#[derive(Default)]
pub struct Discard {
    /// Bytes so far.
    pub bytes: usize,
}

impl Sink for Discard {
    fn write(&mut self, _: u32, parts: Segments<'_>) -> usize {
        self.bytes += parts.map(|(_, range)| range.len()).sum::<usize>();
        0
    }
}

/// An engine alone, whose one app has every default but announces nobody.
pub fn engine() -> Engine {
    engine_with_history(0)
}

/// The same, and its channels remember that many messages.
pub fn engine_with_history(messages: u32) -> Engine {
    let mut app = App::new("default", AppKeys::default());
    app.announce = false;
    app.history = HistoryLimits { messages, ..HistoryLimits::NONE };
    engine_of(app)
}

/// An engine alone, whose one app has every default: members are told who joins, leaves and updates.
pub fn announcing_engine() -> Engine {
    engine_of(App::new("default", AppKeys::default()))
}

fn engine_of(app: App) -> Engine {
    engines_of(app, 1).pop().expect("there is one")
}

/// The engines of a node's workers, whose one app has every default but announces nobody.
pub fn engines(workers: u16) -> Vec<Engine> {
    let mut app = App::new("default", AppKeys::default());
    app.announce = false;
    engines_of(app, workers)
}

fn engines_of(app: App, workers: u16) -> Vec<Engine> {
    let apps = Apps::new(vec![app]).expect("one app");
    let node = Arc::new(Node::new(apps, workers.into(), 1 << 16, 7));
    (0..workers).map(|worker| Engine::new(WorkerId(worker), node.clone(), u64::from(worker) + 7)).collect()
}

/// Encodes what the engine makes of [`payload::SEND`], as its baselines do.
pub fn encode(ids: &mut IdGenerator, offset: u64, out: &mut BytesMut) {
    let publication = Publication {
        offset: Some(offset),
        ..Publication::message(ids.message_id(1), "chat", Payload::Json(payload::SENT))
    };
    encode_publication(Format::Native, out, &mut Memo::new(Format::Native), Some("room"), &publication);
}

/// An engine with members of one channel, one of whom sends the same messages in each turn.
pub struct Room {
    /// The engine.
    pub engine: Engine,
    /// What takes the engine's output.
    pub sink: Discard,
    /// The session that sends.
    pub speaker: SessionSlot,
    /// The frames of a turn.
    pub messages: Vec<String>,
}

impl Room {
    /// A turn: input, mail, output.
    pub fn turn(&mut self) {
        self.engine.begin_turn(1);
        let messages = self.messages.iter().map(|text| Message::Text(text));
        assert_eq!(self.engine.receive_all(self.speaker, messages), Flow::Continue);
        self.engine.on_mail();
        self.engine.flush(&mut self.sink);
    }
}

/// Opens sessions; returns their slots.
pub fn open_sessions(engine: &mut Engine, count: u32) -> Vec<SessionSlot> {
    let app = engine.node().app(AppId(0)).clone();
    let mut open = |connection| {
        let opening =
            Opening { app: &app, format: Format::Native, echo: None, claims: None, connection, ticket: None };
        engine.open(opening, |_| {}, |_, _, _| {}).expect("the app takes any number")
    };
    (0..count).map(&mut open).collect()
}

/// Opens sessions that join the channel `room`; returns their slots.
pub fn open_members(engine: &mut Engine, members: u32, sink: &mut Discard) -> Vec<SessionSlot> {
    let slots = open_sessions(engine, members);
    for &slot in &slots {
        let join = Message::Text(r#"{"type":"join","channel":"room"}"#);
        assert_eq!(engine.receive(slot, join), Flow::Continue, "an engine alone never waits");
    }
    engine.flush(sink);
    slots
}
