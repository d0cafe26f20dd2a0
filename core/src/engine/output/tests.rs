//! What audiences and several runs cost, counted in steps: an entry that names a session, a segment that is
//! compared, a frame that is sorted.

use std::{cell::Cell, sync::Arc};

use super::{Segments, Sink};
use crate::{
    app::{App, AppKeys, Apps},
    dialect::Format,
    engine::{Engine, Flow, Node, Opening},
    id::{AppId, SessionSlot, WorkerId},
    token::Claims,
    ws::Message,
};

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn count_step() {
    STEPS.set(STEPS.get() + 1);
}

/// Counts writes and their parts and bytes.
#[derive(Default)]
struct Tally {
    writes: usize,
    parts: usize,
    bytes: usize,
}

impl Sink for Tally {
    fn write(&mut self, _: u32, parts: Segments<'_>) -> usize {
        self.writes += 1;
        for (_, range) in parts {
            self.parts += 1;
            self.bytes += range.len();
        }
        0
    }
}

/// An engine whose members are all in these channels, each with a user of its own.
fn engine(members: u32, channels: &[&str]) -> (Engine, Vec<SessionSlot>) {
    let mut app = App::new("default", AppKeys::default());
    app.announce = false;
    let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
    let mut engine = Engine::new(WorkerId(0), node, 11);
    engine.begin_turn(1);
    let open = |connection| {
        let app = engine.node().app(AppId(0)).clone();
        let user = format!("user-{connection}").into();
        let channels = channels.iter().map(|&channel| channel.into()).collect();
        let claims = Some(Claims { user, expires_at: None, profile: None, channels, id: None });
        let opening =
            Opening { app: &app, format: Format::Native, echo: None, claims, connection, ticket: None };
        engine.open(opening, |_| {}, |_, _, _| {}).expect("the app is not full")
    };
    let slots = (0..members).map(open).collect();
    engine.flush(&mut Tally::default());
    (engine, slots)
}

/// Writes what the turn has. Returns that, and the steps that linking and sorting took.
fn flush(engine: &mut Engine) -> (Tally, u64) {
    let mut sink = Tally::default();
    engine.flush(&mut sink);
    (sink, STEPS.take())
}

fn receive(engine: &mut Engine, slot: SessionSlot, command: &str) {
    assert_eq!(engine.receive(slot, Message::Text(command)), Flow::Continue);
}

#[test]
fn a_message_to_absent_users_costs_its_names_and_nothing_for_each_member() {
    let (mut engine, slots) = engine(10_000, &["room"]);
    let names: Vec<String> = (0..256).map(|name| format!("\"absent-{name}\"")).collect();
    let command = |names: &str| {
        format!(r#"{{"type":"send","channel":"room","event":"e","to_users":[{names}],"message":1}}"#)
    };
    STEPS.take();
    for _ in 0..20 {
        receive(&mut engine, slots[0], &command(&names.join(",")));
    }
    let (sink, steps) = flush(&mut engine);
    assert_eq!((sink.writes, steps), (0, 0));
    receive(&mut engine, slots[0], &command(r#""absent","user-7","user-9""#));
    let (sink, steps) = flush(&mut engine);
    assert_eq!((sink.writes, sink.parts), (2, 2));
    assert!(steps <= 4, "{steps} steps for two members");
}

#[test]
fn senders_without_echo_cost_each_its_own_exceptions() {
    const SENDERS: u32 = 5_000;
    let (mut engine, slots) = engine(SENDERS, &["room"]);
    STEPS.take();
    for &slot in &slots {
        receive(
            &mut engine,
            slot,
            r#"{"type":"send","channel":"room","event":"e","echo":false,"message":1}"#,
        );
    }
    let (sink, steps) = flush(&mut engine);
    assert_eq!(sink.writes, slots.len());
    let most = 2 * slots.len();
    assert!(sink.parts <= most, "{} parts of {most}", sink.parts);
    assert!(steps <= 4 * slots.len() as u64, "{steps} steps for {SENDERS} senders");
}

#[test]
fn members_of_two_channels_share_one_copy_of_small_messages_that_alternate() {
    let (mut engine, slots) = engine(5_000, &["one", "two"]);
    const MESSAGES: usize = 1_000;
    let command =
        |channel: &str| format!(r#"{{"type":"send","channel":"{channel}","event":"e","message":1}}"#);
    STEPS.take();
    for at in 0..MESSAGES {
        receive(&mut engine, slots[0], &command(if at % 2 == 0 { "one" } else { "two" }));
    }
    let (sink, steps) = flush(&mut engine);
    assert_eq!(sink.writes, slots.len());
    println!("{} parts, {} bytes, {steps} steps", sink.parts, sink.bytes);
    assert_eq!(sink.parts, slots.len(), "one part for each member");
    assert!(sink.bytes / slots.len() > MESSAGES * 50, "{} bytes", sink.bytes);
    assert!(steps <= (4 * slots.len() + MESSAGES) as u64, "{steps} steps");
}

#[test]
fn a_member_with_answers_of_its_own_gets_a_bounded_number_of_parts() {
    const MESSAGES: usize = 400;
    let (mut engine, slots) = engine(50, &["one", "two"]);
    for at in 0..MESSAGES {
        let channel = if at % 2 == 0 { "one" } else { "two" };
        let command = format!(r#"{{"type":"send","channel":"{channel}","id":{at},"event":"e","message":1}}"#);
        receive(&mut engine, slots[at % slots.len()], &command);
    }
    let (sink, _) = flush(&mut engine);
    assert_eq!(sink.writes, slots.len());
    let most = slots.len() * 16 + sink.bytes / 2048;
    assert!(sink.parts <= most, "{} parts of {most}", sink.parts);
}
