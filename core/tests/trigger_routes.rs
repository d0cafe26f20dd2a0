//! No route of a dialect slips past the triggers: before a verdict nobody receives anything, and after a
//! refusal nobody but the sender.

mod desk;
mod support;

use std::sync::Arc;

use desk::Desk;
use fanfare_core::{
    app::{AgnostOptions, App, AppKeys, Apps, Who, XanoChannel, XanoOptions},
    dialect::Format,
    engine::{Engine, Flow, Node},
    id::{AppId, SessionSlot, WorkerId},
    publication::Payload,
    trigger::{Action, Decision, TriggerCall, TriggerSet, Verdict},
    ws::Message,
};
use serde_json::{Value, json};
use support::{Memory, open_as, trigger_rule};

const APP: AppId = AppId(0);

fn app() -> App {
    let mut app = App::new("default", AppKeys::default());
    app.agnost = Some(AgnostOptions::new("env"));
    app.history.messages = 10;
    app.history.bytes = 1 << 20;
    app.history.age_ms = 1 << 20;
    let mut xano = XanoOptions::new("canonical");
    xano.channels = vec![XanoChannel {
        anonymous_clients: true,
        authenticated_messaging: true,
        public_messaging: Who::Anybody,
        private_messaging: Who::Anybody,
        ..XanoChannel::new("t*")
    }];
    for channel in &xano.channels {
        app.rules.extend(channel.rules(app.default_options()));
    }
    App { xano: Some(xano), ..app }
}

/// A sender of a dialect, and Bob, a native member of `t`.
struct Room {
    engine: Engine,
    desk: Arc<Desk>,
    sink: Memory,
    sender: SessionSlot,
    bob: String,
}

impl Room {
    fn with(format: Format) -> Self {
        let node = Arc::new(Node::new(Apps::new(vec![app()]).expect("one app"), 1, 64, 7));
        let mut engine = Engine::new(WorkerId(0), node.clone(), 11);
        engine.begin_turn(1_000);
        let sender = open_as(&mut engine, 0, format, Some("7:42"));
        let bob = open_as(&mut engine, 1, Format::Native, Some("bob"));
        let id = engine.session_id(bob).to_string();
        let mut room = Self { engine, desk: Arc::default(), sink: Memory::default(), sender, bob: id };
        let join = r#"{"type":"join","channel":"t"}"#;
        assert!(matches!(
            room.engine.receive(bob, Message::Text(join)),
            fanfare_core::engine::Flow::Continue
        ));
        room.say(Message::Text(match format {
            Format::XanoFrames => r#"{"action":"join","options":{"channel":"t"},"payload":null}"#,
            Format::Native => join,
            _ => r#"42["join",{"channel":"t"}]"#,
        }));
        let rules = vec![trigger_rule()];
        node.set_triggers(APP, Some(Arc::new(TriggerSet::new(rules, room.desk.clone()))));
        room.bob_sees();
        room
    }

    fn say(&mut self, message: Message<'_>) {
        assert_ne!(self.engine.receive(self.sender, message), Flow::Yield);
    }

    fn bob_sees(&mut self) -> Vec<Value> {
        (0..2).for_each(|_| self.engine.on_mail());
        self.engine.flush(&mut self.sink);
        self.sink.take_json(1)
    }

    fn calls(&self) -> Vec<TriggerCall> {
        self.desk.calls()
    }

    fn decide(&mut self, call: &TriggerCall, decision: Decision) {
        self.engine.node().post_verdict(call.worker, call.ticket, Verdict::new(decision));
    }
}

/// A route: its messages, `BOB` standing for the session of Bob, and the action that they ask for.
struct Route {
    format: Format,
    messages: &'static [&'static str],
    bytes: &'static [u8],
    action: Action,
}

const fn route(format: Format, message: &'static [&'static str]) -> Route {
    Route { format, messages: message, bytes: &[], action: Action::Message }
}

const fn joining(format: Format, message: &'static [&'static str]) -> Route {
    Route { action: Action::Join, ..route(format, message) }
}

const BINARY: &str =
    r#"451-["message",{"channel":"t","eventName":"e","message":{"_placeholder":true,"num":0}}]"#;

const ROUTES: [Route; 17] = [
    route(Format::AgnostFrames, &[r#"42["message",{"channel":"t","eventName":"e","message":"bad"}]"#]),
    route(Format::AgnostFrames, &[r#"42["message",{"eventName":"e","message":"bad"}]"#]),
    route(
        Format::AgnostFrames,
        &[r#"42["message",{"channel":"t","eventName":"e","message":1,"echo":false}]"#],
    ),
    Route { bytes: &[1, 2, 3], ..route(Format::AgnostFrames, &[BINARY]) },
    joining(Format::AgnostFrames, &[r#"42["join",{"channel":"t2"}]"#]),
    route(Format::AgnostPackets, &[r#"42["message",{"channel":"t","eventName":"e","message":"bad"}]"#]),
    route(Format::AgnostPackets, &[r#"42["message",{"eventName":"e","message":"bad"}]"#]),
    Route { bytes: &[1, 2, 3], ..route(Format::AgnostPackets, &[BINARY]) },
    joining(Format::AgnostPackets, &[r#"42["join",{"channel":"t2"}]"#]),
    route(Format::XanoFrames, &[r#"{"action":"message","options":{"channel":"t"},"payload":"bad"}"#]),
    route(
        Format::XanoFrames,
        &[r#"{"action":"message","options":{"channel":"t","socketId":"BOB"},"payload":"bad"}"#],
    ),
    route(
        Format::XanoFrames,
        &[r#"{"action":"message","options":{"channel":"t","authenticated":true},"payload":"bad"}"#],
    ),
    joining(
        Format::XanoFrames,
        &[r#"{"action":"join","options":{"channel":"t2"},"payload":{"presence":true}}"#],
    ),
    route(
        Format::Native,
        &[r#"{"type":"send","channel":"t","event":"e","message":"bad","to_session":"BOB"}"#],
    ),
    route(Format::Native, &[r#"{"type":"broadcast","event":"e","message":"bad","to_session":"BOB"}"#]),
    route(Format::Native, &[r#"[{"type":"send","channel":"t","event":"e","message":"bad"}]"#]),
    joining(Format::Native, &[r#"{"type":"join","channel":"t2","since":{"offset":0,"epoch":"x"}}"#]),
];

#[test]
fn no_route_of_a_dialect_slips_past_a_trigger() {
    for (at, Route { format, messages, bytes, action }) in ROUTES.iter().enumerate() {
        for refuses in [true, false] {
            let mut room = Room::with(*format);
            let bob = room.bob.clone();
            for message in *messages {
                room.say(Message::Text(&message.replace("BOB", &bob)));
            }
            if !bytes.is_empty() {
                room.say(Message::Binary(bytes));
            }
            let about = format!("route {at}, {format:?}, {messages:?}");
            assert_eq!(room.bob_sees(), [] as [Value; 0], "{about}: nothing before the verdict");
            let calls = room.calls();
            assert_eq!(calls.len(), 1, "{about}");
            assert_eq!(calls[0].input.kind.action(), *action, "{about}");
            let replaced = Decision::Replace(Payload::Json("\"good\"").into());
            let refused = Decision::Refuse("no".into());
            room.decide(&calls[0], if refuses { refused } else { replaced });
            let seen = json!(room.bob_sees()).to_string();
            let expected = match action {
                Action::Message if !refuses => seen.contains("\"good\"") && !seen.contains("bad"),
                // Bob is no member of the channel that is joined.
                _ => seen == "[]",
            };
            assert!(expected, "{about}: {seen}");
            assert_eq!((room.calls().len(), room.engine.node().trigger_calls(APP)), (0, 0), "{about}");
        }
    }
}
