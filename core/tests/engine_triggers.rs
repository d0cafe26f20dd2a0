//! Triggers in the engine: every message passes its triggers, verdicts take effect in the order of sending,
//! the checks run before and after a verdict, and waiting calls are bounded.

mod desk;
mod support;

use std::sync::Arc;

use desk::Desk;
use fanfare_core::{
    app::{App, AppKeys, Apps, XanoChannel, XanoOptions},
    command::{AmendMessage, BackEndCommand, ChangeMessage, Disconnection, Outcome, Publish, PublishAs},
    dialect::Format,
    engine::{Engine, Flow, Node, Opening},
    error::ReplyError,
    id::{AppId, IdGenerator, MessageId, SessionSlot, WorkerId},
    publication::{Audience, Given, Payload},
    token::Claims,
    trigger::{Decision, Said, TriggerCall, TriggerKind, TriggerRule, TriggerSet, Triggers, Verdict},
    ws::Message,
};
use serde_json::{Value, json};
use support::{Memory, open_as, trigger_rule};

const APP: AppId = AppId(0);

/// One engine with two sessions, and the triggers of their app.
struct Room {
    engine: Engine,
    desk: Arc<Desk>,
    sink: Memory,
    ada: SessionSlot,
    bob: SessionSlot,
}

impl Room {
    fn with(rule: TriggerRule, change: impl FnOnce(&mut App)) -> Self {
        let mut app = App::new("default", AppKeys::default());
        app.announce = false;
        app.sender_edits = true;
        app.history.messages = 100;
        app.history.bytes = 1 << 20;
        app.history.age_ms = 1 << 20;
        change(&mut app);
        let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
        let mut engine = Engine::new(WorkerId(0), node.clone(), 11);
        engine.begin_turn(1_000);
        let ada = open_as(&mut engine, 0, Format::Native, Some("ada"));
        let bob = open_as(&mut engine, 1, Format::Native, Some("bob"));
        let desk = Arc::new(Desk::default());
        let mut room = Self { engine, desk, sink: Memory::default(), ada, bob };
        for channel in ["t", "free"] {
            room.say(room.bob, json!({"type": "join", "channel": channel}));
        }
        node.set_triggers(APP, Some(Arc::new(TriggerSet::new(vec![rule], room.desk.clone()))));
        room.take(0);
        room.take(1);
        room
    }

    fn new() -> Self {
        Self::with(trigger_rule(), |_| {})
    }

    /// Sends a command. Returns whether the session waits afterwards.
    fn say(&mut self, slot: SessionSlot, command: Value) -> bool {
        self.engine.receive(slot, Message::Text(&command.to_string())) == Flow::Pause
    }

    fn one_call(&self) -> TriggerCall {
        let [call] = self.desk.calls().try_into().unwrap_or_else(|_| panic!("one call was expected"));
        call
    }

    fn decide(&mut self, call: &TriggerCall, decision: Decision) {
        self.engine.node().post_verdict(call.worker, call.ticket, Verdict::new(decision));
    }

    fn take(&mut self, connection: u32) -> Vec<Value> {
        // The effect of a verdict may be mail for the next turn.
        (0..2).for_each(|_| self.engine.on_mail());
        self.engine.flush(&mut self.sink);
        self.sink.take_json(connection)
    }

    /// The messages that Bob, a member, receives.
    fn bob_sees(&mut self) -> Vec<Value> {
        let seen = self.take(1);
        seen.into_iter().map(|frame| frame["message"].clone()).collect()
    }
}

fn replacement(text: &str) -> Decision {
    Decision::Replace(Payload::Json(text).into())
}

fn send(channel: &str, message: impl Into<Value>) -> Value {
    json!({"type": "send", "channel": channel, "event": "e", "message": message.into()})
}

fn binary(channel: &str) -> Vec<u8> {
    let envelope = json!({"type": "send", "channel": channel, "event": "e"}).to_string();
    let mut frame = u16::try_from(envelope.len()).expect("it is short").to_be_bytes().to_vec();
    frame.extend_from_slice(envelope.as_bytes());
    frame.extend_from_slice(&[1, 2, 3]);
    frame
}

/// Every way in which a client's message reaches others runs its triggers.
#[test]
fn no_route_slips_past_a_trigger_that_refuses() {
    type Route = fn(&mut Room);
    let mut routes: Vec<(&str, Route, usize)> = vec![
        (
            "single",
            |room| {
                room.say(room.ada, send("t", "bad"));
            },
            1,
        ),
        (
            "batch",
            |room| {
                room.say(room.ada, json!([send("t", "bad"), send("t", "bad")]));
            },
            2,
        ),
        (
            "broadcast",
            |room| {
                room.say(room.ada, json!({"type": "broadcast", "event": "e", "message": "bad"}));
            },
            1,
        ),
        (
            "no history",
            |room| {
                let mut command = send("t", "bad");
                command["no_history"] = json!(true);
                {
                    room.say(room.ada, command);
                };
            },
            1,
        ),
        (
            "to users",
            |room| {
                let mut command = send("t", "bad");
                command["to_users"] = json!(["bob"]);
                {
                    room.say(room.ada, command);
                };
            },
            1,
        ),
        (
            "direct",
            |room| {
                let command =
                    json!({"type": "broadcast", "event": "e", "message": "bad", "to_users": ["bob"]});
                {
                    room.say(room.ada, command);
                };
            },
            1,
        ),
        (
            "a channel without members",
            |room| {
                room.say(room.ada, send("t-empty", "bad"));
            },
            1,
        ),
    ];
    routes.push((
        "binary",
        |room| {
            let frame = binary("t");
            assert_eq!(room.engine.receive(room.ada, Message::Binary(&frame)), Flow::Continue);
        },
        1,
    ));
    routes.push((
        "burst",
        |room| {
            let texts: Vec<String> = (0..40).map(|n| send("t", n).to_string()).collect();
            let messages = texts.iter().map(|text| Message::Text(text));
            assert_eq!(room.engine.receive_all(room.ada, messages), Flow::Continue);
        },
        40,
    ));
    for (name, route, calls) in routes {
        let mut room = Room::new();
        route(&mut room);
        assert_eq!(room.bob_sees(), [] as [Value; 0], "{name}: nothing before the verdict");
        let called = room.desk.calls();
        assert_eq!(called.len(), calls, "{name}");
        called.iter().for_each(|call| room.decide(call, Decision::Refuse("no".into())));
        assert_eq!(room.bob_sees(), [] as [Value; 0], "{name}: nothing after it");
        let told = room.sink.take_json(0);
        let error = json!({"error": {"code": "refused", "message": "no"}});
        assert_eq!(told, vec![error; calls], "{name}: the sender is told");
        let history = room.engine.request(APP, history("t"), 1);
        let Some(Ok(Outcome::History { page, .. })) = history else { panic!("{name}: {history:?}") };
        assert!(page.messages.is_empty(), "{name}: nothing is remembered");
        assert_eq!(room.engine.node().trigger_calls(APP), 0, "{name}");
    }
}

fn history(channel: &str) -> BackEndCommand<'_> {
    let from = fanfare_core::channel::PageStart::Before(u64::MAX);
    BackEndCommand::History { channel, from, limit: 10 }
}

#[test]
fn an_edit_by_its_sender_is_a_message_too() {
    let mut room = Room::new();
    assert!(
        !room.say(room.ada, json!({"id": 1, "type": "send", "channel": "t", "event": "e", "message": 1}))
    );
    let call = room.one_call();
    room.decide(&call, Decision::Pass);
    let sent = room.take(0);
    let id = sent[0]["ok"]["message_id"].as_str().expect("it has an id").to_owned();
    assert_eq!(room.bob_sees(), [json!(1)]);
    let edit = json!({"id": 2, "type": "edit", "channel": "t", "message_id": id, "message": "bad"});
    assert!(room.say(room.ada, edit.clone()));
    let call = room.one_call();
    assert_eq!((call.input.kind, call.input.message_id), (TriggerKind::Edit, MessageId::parse(&id)));
    room.decide(&call, Decision::Refuse("no".into()));
    assert_eq!(room.bob_sees(), [] as [Value; 0]);
    assert_eq!(room.sink.take_json(0)[0]["error"]["code"], "refused");
    assert!(room.say(room.ada, edit));
    let call = room.one_call();
    room.decide(&call, replacement("\"good\""));
    let seen = room.take(1);
    assert!(json!(seen).to_string().contains("good"), "{seen:?} {:?}", room.sink.take_json(0));
    // A deletion runs no trigger.
    room.sink.take_json(0);
    room.say(room.ada, json!({"id": 3, "type": "delete", "channel": "t", "message_id": id}));
    assert_eq!(room.desk.calls().len(), 0);
    assert!(room.take(0).iter().any(|frame| frame["id"] == 3 && frame["ok"].is_object()));
}

#[test]
fn a_join_waits_for_its_verdict_and_what_follows_for_the_join() {
    let mut room = Room::with(trigger_rule(), |app| app.membership_to_send = true);
    assert!(room.say(room.ada, json!({"id": 1, "type": "join", "channel": "t"})));
    let call = room.one_call();
    assert_eq!(call.input.kind, TriggerKind::Join);
    assert_eq!(room.take(0), [] as [Value; 0]);
    room.decide(&call, Decision::Pass);
    assert_eq!(room.take(0)[0]["ok"]["joined"], true);
    assert_eq!(room.engine.take_unpaused(), [0]);
    // A member that joins again runs no trigger.
    room.say(room.ada, json!({"id": 2, "type": "join", "channel": "t"}));
    assert_eq!(room.take(0)[0]["ok"]["joined"], false);
    assert_eq!(room.desk.calls().len(), 0);
    // After a refused join the session is no member, so it may not send.
    let batch = json!([{"id": 3, "type": "join", "channel": "t2"}, send("t2", 1)]);
    assert!(room.say(room.ada, batch));
    let call = room.one_call();
    room.decide(&call, Decision::Refuse("members only".into()));
    let told = room.take(0);
    assert_eq!(told[0], json!({"id": 3, "error": {"code": "refused", "message": "members only"}}));
    assert_eq!(told[1]["error"]["code"], "membership_required");
    assert_eq!(room.desk.calls().len(), 0);
}

#[test]
fn a_channel_that_a_token_claims_is_joined_by_leave_of_the_trigger() {
    let mut room = Room::with(trigger_rule(), |app| app.membership_to_send = true);
    let app = room.engine.node().app(APP).clone();
    for (connection, decision, sees) in [(2, Decision::Pass, 1), (3, Decision::Refuse("no".into()), 0)] {
        let claims = Some(Claims {
            user: "eve".into(),
            expires_at: None,
            profile: None,
            channels: vec!["t".into(), "free".into()],
            id: None,
        });
        let opening =
            Opening { app: &app, format: Format::Native, echo: None, claims, connection, ticket: None };
        let slot = room.engine.open(opening, |_| {}, |_, _, _| {}).expect("the app is not full");
        assert!(room.engine.is_paused(slot), "what it sends waits for the join");
        let call = room.one_call();
        room.decide(&call, decision);
        room.engine.on_mail();
        assert!(!room.engine.is_paused(slot));
        room.take(1);
        room.say(slot, send("t", 1));
        let calls = room.desk.calls();
        assert_eq!(calls.len(), sees, "only a member's message comes to a trigger");
        calls.iter().for_each(|call| room.decide(call, Decision::Pass));
        assert_eq!(room.bob_sees().len(), sees);
    }
}

#[test]
fn verdicts_take_effect_in_the_order_of_sending() {
    let mut room = Room::new();
    for n in 0..10 {
        room.say(room.ada, send("t", n));
    }
    let mut calls = room.desk.calls();
    calls.reverse();
    let last = calls.remove(9);
    for (at, call) in calls.iter().enumerate() {
        let decision = if at % 3 == 0 { Decision::Refuse("no".into()) } else { Decision::Pass };
        room.decide(call, decision);
        assert_eq!(room.bob_sees(), [] as [Value; 0], "the first is still being judged");
    }
    room.decide(&last, replacement("\"first\""));
    assert_eq!(room.bob_sees(), [json!("first"), json!(1), json!(2), json!(4), json!(5), json!(7), json!(8)]);
}

#[test]
fn a_message_to_another_channel_does_not_overtake() {
    let mut room = Room::new();
    assert!(!room.say(room.ada, send("t", 1)));
    assert!(room.say(room.ada, send("free", 2)));
    let call = room.one_call();
    room.decide(&call, Decision::Pass);
    assert_eq!(room.bob_sees(), [json!(1), json!(2)]);
}

#[test]
fn checks_come_first_and_again_after_the_verdict() {
    let mut room = Room::with(trigger_rule(), |app| {
        app.membership_to_send = true;
        app.limits.message_bytes = 100;
    });
    room.say(room.ada, send("t", 1));
    assert_eq!(room.desk.calls().len(), 0, "no member");
    assert_eq!(room.take(0)[0]["error"]["code"], "membership_required");
    room.say(room.bob, send("t", 1));
    let call = room.one_call();
    room.decide(&call, replacement(&format!("\"{}\"", "x".repeat(100))));
    assert_eq!(room.take(1)[0]["error"]["code"], "message_too_large", "a replacement is held to the limits");
    room.say(room.bob, send("t", 2));
    let call = room.one_call();
    room.decide(&call, Decision::Fail);
    assert_eq!(room.take(1)[0]["error"]["code"], "trigger_failed");
}

#[test]
fn a_message_of_a_session_that_has_left_takes_effect_and_one_of_a_banned_session_does_not() {
    for (is_banned, seen) in [(false, 1), (true, 0)] {
        let mut room = Room::new();
        room.say(room.ada, send("t", "last words"));
        let call = room.one_call();
        if is_banned {
            let whom = Disconnection::User("ada".into());
            room.engine.request(APP, BackEndCommand::Disconnect { whom, reconnect: false }, 1);
        }
        room.engine.close(room.ada);
        room.decide(&call, Decision::Pass);
        assert_eq!(room.bob_sees().len(), seen, "banned: {is_banned}");
        assert_eq!(room.engine.node().trigger_calls(APP), 0);
    }
}

#[test]
fn the_back_end_passes_by_unless_a_trigger_wants_it() {
    for server in [false, true] {
        let mut room = Room::with(TriggerRule { server, ..trigger_rule() }, |_| {});
        let publish = || Publish::new(Some("t"), "e", Payload::Json("1"));
        let commands: [fn(Publish<'static>) -> BackEndCommand<'static>; 2] = [
            |publish| BackEndCommand::publish(publish),
            |publish| BackEndCommand::Publish { publish, idempotency_key: Some("k") },
        ];
        for command in commands {
            let answered = room.engine.request(APP, command(publish()), 1);
            room.engine.on_mail();
            let calls = room.desk.calls();
            assert_eq!(calls.len(), usize::from(server));
            if !server {
                assert_eq!(room.bob_sees(), [json!(1)]);
                room.engine.take_answers();
                continue;
            }
            assert!(answered.is_none() && calls[0].input.client.is_none());
            room.decide(&calls[0], Decision::Refuse("no".into()));
            assert_eq!(room.bob_sees(), [] as [Value; 0]);
            let answers = room.engine.take_answers();
            let is_refusal =
                matches!(&answers[..], [(1, Ok(Outcome::Refused(_)) | Err(ReplyError::Refused))]);
            assert!(is_refusal, "{answers:?}");
        }
        let id = IdGenerator::new(1).message_id(1);
        let payload = Some(Payload::Json("1"));
        let change = ChangeMessage { channel: "t", id, payload, audience: None };
        room.engine.request(APP, BackEndCommand::Change(change), 2);
        assert_eq!(room.desk.calls().len(), usize::from(server), "an edit likewise");
    }
}

/// Back ends' messages with fields of their own keep these fields through a verdict.
#[test]
fn messages_with_an_id_a_name_or_a_user_and_lenient_edits_run_the_triggers_for_back_ends() {
    let id = IdGenerator::new(1).message_id(1);
    let given = || Given { label: Some("Zoe".into()), ..Given::default() };
    let to_bob = || Audience { only_users: Some(Arc::new(["bob".into()])), ..Audience::default() };
    let command = |route: usize, triggers| match route {
        0 => BackEndCommand::PublishAs(PublishAs {
            publish: Publish::new(Some("t"), "e", Payload::Json("1")),
            id: Some(id),
            given: given(),
            only_existing: true,
            triggers,
        }),
        1 => {
            BackEndCommand::PublishToUser { user: "bob", event: "e", payload: Payload::Json("1"), note: None }
        }
        place => BackEndCommand::Amend(AmendMessage {
            channel: (place == 2).then_some("t"),
            id,
            deletes: false,
            payload: Some(Payload::Json("1")),
            audience: if place == 2 { Audience::default() } else { to_bob() },
            given: given(),
            triggers,
        }),
    };
    for route in 0..4 {
        let mut room = Room::with(TriggerRule { server: true, ..trigger_rule() }, |_| {});
        room.engine.request(APP, command(route, Triggers::Run), 1);
        assert_eq!(room.bob_sees(), [] as [Value; 0], "{route}: nothing before the verdict");
        let call = room.one_call();
        let kind = if route < 2 { TriggerKind::Message } else { TriggerKind::Edit };
        assert_eq!((call.input.kind, call.input.payload.view()), (kind, Payload::Json("1")), "{route}");
        room.decide(&call, Decision::Refuse("no".into()));
        assert_eq!(room.bob_sees(), [] as [Value; 0], "{route}: nothing after a refusal");
        let answers = room.engine.take_answers();
        assert!(matches!(&answers[..], [(1, Ok(Outcome::Refused(_)))]), "{route}: {answers:?}");
        room.engine.request(APP, command(route, Triggers::Run), 2);
        let call = room.one_call();
        room.decide(&call, replacement("2"));
        let seen = room.take(1);
        assert_eq!(seen.len(), 1, "{route}");
        let text = seen[0].to_string();
        assert_eq!(seen[0]["message"], 2, "{route}: {text}");
        assert_eq!(text.contains("Zoe"), route != 1, "{route}: {text}");
        assert_eq!((room.desk.calls().len(), room.engine.node().trigger_calls(APP)), (0, 0), "{route}");
        let mut room = Room::with(trigger_rule(), |_| {});
        room.engine.request(APP, command(route, Triggers::Run), 3);
        assert_eq!((room.desk.calls().len(), room.bob_sees().len()), (0, 1), "{route}: not for back ends");
    }
    let mut room = Room::with(TriggerRule { server: true, ..trigger_rule() }, |_| {});
    room.engine.request(APP, command(0, Triggers::PassBy), 4);
    assert_eq!((room.desk.calls().len(), room.bob_sees().len()), (0, 1));
}

#[test]
fn calls_are_bounded_for_each_app_and_refused_beyond() {
    let mut room = Room::with(trigger_rule(), |app| app.limits.trigger_calls = 3);
    for n in 0..5 {
        room.say(room.ada, send("t", n));
    }
    assert_eq!(room.desk.calls().len(), 3);
    assert_eq!(room.engine.counters().overloaded, 2);
    let mut room = Room::with(trigger_rule(), |app| app.limits.trigger_bytes = 4096);
    room.say(room.ada, send("t", "x".repeat(2000)));
    room.say(room.ada, send("t", "x".repeat(2000)));
    let call = room.one_call();
    room.decide(&call, Decision::Pass);
    let told = room.take(0);
    assert_eq!(told.iter().filter(|frame| frame["error"]["code"] == "overloaded").count(), 1, "{told:?}");
    room.say(room.ada, send("t", "x".repeat(2000)));
    assert_eq!(room.desk.calls().len(), 1, "there is room again");
}

#[test]
fn a_change_of_triggers_holds_for_the_next_message_and_loses_none_in_flight() {
    let mut room = Room::new();
    room.say(room.ada, send("t", 1));
    let call = room.one_call();
    let node = room.engine.node().clone();
    node.set_triggers(APP, None);
    room.decide(&call, Decision::Pass);
    assert_eq!(room.bob_sees(), [json!(1)]);
    room.say(room.ada, send("t", 2));
    assert_eq!((room.desk.calls().len(), room.bob_sees()), (0, vec![json!(2)]));
    for channel in ["free", "t"] {
        let rule = TriggerRule { channel: channel.into(), ..trigger_rule() };
        node.set_triggers(APP, Some(Arc::new(TriggerSet::new(vec![rule], room.desk.clone()))));
        for other in ["free", "t"] {
            room.say(room.ada, send(other, 3));
            let calls = room.desk.calls();
            assert_eq!(calls.len(), usize::from(channel == other), "{channel} {other}");
            calls.iter().for_each(|call| room.decide(call, Decision::Pass));
            assert_eq!(room.bob_sees(), [json!(3)]);
        }
    }
}

/// Messages for which no trigger runs any more wait behind the messages for which one ran.
#[test]
fn a_message_overtakes_none_that_waits_for_a_trigger_which_was_removed_or_does_not_concern_it() {
    let mut room = Room::new();
    room.say(room.ada, send("t", 1));
    let call = room.one_call();
    let node = room.engine.node().clone();
    node.set_triggers(APP, None);
    room.say(room.ada, send("t", 2));
    room.say(room.bob, send("t", "from another session"));
    assert_eq!(room.engine.receive(room.ada, Message::Binary(&binary("t"))), Flow::Continue);
    assert_eq!(room.bob_sees(), [json!("from another session")]);
    room.decide(&call, Decision::Pass);
    assert_eq!(room.bob_sees(), [json!(1), json!(2), Value::Null], "the binary message is the last");
    // A direct message runs a trigger, and the broadcast after it none.
    let rule = TriggerRule { on_broadcasts: false, ..trigger_rule() };
    node.set_triggers(APP, Some(Arc::new(TriggerSet::new(vec![rule], room.desk.clone()))));
    let broadcast =
        |message, to: &[&str]| json!({"type": "broadcast", "event": "e", "message": message, "to_users": to});
    room.say(room.ada, broadcast(3, &["bob"]));
    let mut to_all = broadcast(4, &[]);
    to_all.as_object_mut().expect("an object").remove("to_users");
    room.say(room.ada, to_all);
    let call = room.one_call();
    assert_eq!(room.bob_sees(), [] as [Value; 0]);
    room.decide(&call, Decision::Pass);
    assert_eq!(room.bob_sees(), [json!(3), json!(4)]);
    assert_eq!(node.trigger_calls(APP), 0);
}

#[test]
fn what_a_trigger_says_reaches_whom_it_is_for_and_runs_no_trigger() {
    let mut room = Room::new();
    room.say(room.ada, send("t", 1));
    let call = room.one_call();
    let said = |channel: &str, text| Said {
        channel: Some(channel.into()),
        event: "said".into(),
        payload: Payload::Json(text).into(),
    };
    let verdict = Verdict {
        decision: Decision::Pass,
        answers: vec![said("t", "\"for ada\"")],
        publications: vec![said("t", "\"for all\""), said("free", "\"for all\"")],
    };
    room.engine.node().post_verdict(call.worker, call.ticket, verdict);
    let texts =
        |frames: Vec<Value>| frames.into_iter().map(|frame| frame["message"].clone()).collect::<Vec<_>>();
    let bob = room.bob_sees();
    assert_eq!(bob, [json!(1), json!("for all"), json!("for all")]);
    assert_eq!(texts(room.sink.take_json(0)), [json!("for ada")]);
    assert_eq!(room.desk.calls().len(), 0);
}

/// In Xano's dialect a join trigger sees a join that the channel's rules forbid, and what the client asks
/// for.
#[test]
fn a_dialect_may_run_join_triggers_before_the_rules_are_checked() {
    for (format, sees) in [(Format::XanoFrames, true), (Format::Native, false)] {
        let mut room = Room::with(trigger_rule(), |app| {
            let mut options = XanoOptions::new("canonical");
            let row = XanoChannel { presence: true, ..XanoChannel::new("t2") };
            app.rules.extend(row.rules(app.default_options()));
            options.channels.push(row);
            app.xano = Some(options);
        });
        let eve = open_as(&mut room.engine, 2, format, None);
        room.take(2);
        let command = match format {
            Format::Native => json!({"type": "join", "id": 1, "channel": "t2"}),
            _ => json!({"action": "join", "options": {"channel": "t2"}, "payload": {"history": true}}),
        };
        room.say(eve, command);
        let calls = room.desk.calls();
        assert_eq!(calls.len(), usize::from(sees), "{format:?}");
        for call in &calls {
            assert_eq!(call.input.payload.view(), Payload::Json(r#"{"history":true,"presence":false}"#));
            room.decide(call, Decision::Pass);
        }
        let seen = room.take(2);
        let refusal = seen[0].to_string();
        assert!(refusal.contains("Anonymous clients cannot join") || refusal.contains("session_required"));
        assert_eq!(seen.len(), 1, "the join alone is refused: {seen:?}");
    }
}
