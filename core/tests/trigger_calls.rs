//! No call of a Channelstream back end slips past the triggers that are for the back end: before a verdict
//! nobody receives anything and nothing is remembered, and after a refusal neither.

mod desk;
mod support;

use std::sync::Arc;

use desk::Desk;
use fanfare_core::{
    app::{App, AppKeys, Apps, ChannelstreamOptions},
    dialect::{
        Format,
        channelstream::{Call, ConnId, Moment},
    },
    engine::{Engine, Node, Opening},
    id::{AppId, SessionSlot, WorkerId},
    publication::Payload,
    token::Claims,
    trigger::{Action, Decision, TriggerCall, TriggerKind, TriggerRule, TriggerSet, Verdict},
};
use serde_json::{Value, json};
use support::{
    Memory,
    directory::{BackEnd, Course, follow_up},
    trigger_rule,
};

const APP: AppId = AppId(0);
const ID: &str = "11111111-1111-4111-8111-111111111111";

/// Luke, a client in `t` whose first message has the id [`ID`], and Leia, whose client has not come.
struct Room {
    engine: Engine,
    back_end: BackEnd,
    desk: Arc<Desk>,
    sink: Memory,
    luke: ConnId,
    leia: ConnId,
}

impl Room {
    fn new(server: bool) -> Self {
        let mut app = App::new("default", AppKeys::default());
        app.channelstream = Some(ChannelstreamOptions::new("s3cret"));
        let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), 1, 64, 7));
        let mut engine = Engine::new(WorkerId(0), node.clone(), 11);
        engine.begin_turn(1_700_000_000_000);
        let mut back_end = BackEnd::new(&engine, Moment(1_700_000_000_000_000));
        let mut connect = |engine: &mut Engine, user: &str| {
            let settings = json!({"t": {"store_history": true, "notify_presence": true}});
            let body = json!({"username": user, "channels": ["t"], "channel_configs": settings});
            let (status, answer) = back_end.call(engine, Call::Connect, &body).answer();
            assert_eq!(status, 200);
            ConnId::parse(answer["conn_id"].as_str().expect("it is text")).expect("it is an id")
        };
        let [luke, leia] = ["luke", "leia"].map(|user| connect(&mut engine, user));
        let desk = Arc::new(Desk::default());
        let mut room = Self { engine, back_end, desk, sink: Memory::default(), luke, leia };
        room.attach(0, room.luke);
        let first = json!([{"user": "x", "channel": "t", "uuid": ID, "message": {"text": "first"}}]);
        room.call(Call::SendMessages, &first).answer();
        let set = TriggerSet::new(vec![TriggerRule { server, ..trigger_rule() }], room.desk.clone());
        node.set_triggers(APP, Some(Arc::new(set)));
        room.luke_sees();
        room
    }

    /// The client of a connection comes.
    fn attach(&mut self, connection: u32, conn: ConnId) -> SessionSlot {
        let arrival = self.back_end.directory.arrival(conn).expect("it waits");
        let app = self.engine.apps().of(APP).clone();
        let claims = Claims {
            user: arrival.user.into(),
            expires_at: None,
            profile: Some(arrival.public_state),
            channels: arrival.channels,
            id: None,
        };
        let (format, echo, claims) = (Format::ChannelstreamFrames, Some(false), Some(claims));
        let opening = Opening { app: &app, format, echo, claims, connection, ticket: None };
        let slot = self.engine.open(opening, |_| {}, |_, _, _| {}).expect("there is room");
        let mut effects = Vec::new();
        let id = self.engine.session_id(slot);
        self.back_end.directory.attach(conn, id, self.back_end.now, &mut effects);
        follow_up(&mut self.engine, &effects);
        slot
    }

    fn call(&mut self, call: Call, body: &Value) -> Course {
        self.back_end.call(&mut self.engine, call, body)
    }

    fn decide(&mut self, calls: &[TriggerCall], decision: impl Fn() -> Decision) {
        for call in calls {
            self.engine.node().post_verdict(call.worker, call.ticket, Verdict::new(decision()));
        }
        (0..2).for_each(|_| self.engine.on_mail());
    }

    fn luke_sees(&mut self) -> Vec<Value> {
        (0..2).for_each(|_| self.engine.on_mail());
        self.engine.flush(&mut self.sink);
        self.sink.take_json(0)
    }

    /// What back ends see of the channels that the routes change.
    fn channels(&mut self) -> Value {
        ["t", "t2", "t3"].map(|name| self.back_end.channel(&mut self.engine, name)).into_iter().collect()
    }

    /// The body of a route: `LEIA` stands for the id of Leia's connection.
    fn body(&self, route: &str) -> Value {
        serde_json::from_str(&route.replace("LEIA", &self.leia.to_string())).expect("it is JSON")
    }
}

/// The calls that publish, edit and join, and the answer to a call that is refused with `no`.
const ROUTES: [(Call, TriggerKind, &str, &str); 8] = [
    (
        Call::SendMessages,
        TriggerKind::Message,
        r#"[{"user":"x","channel":"t","message":{"text":"bad"}}]"#,
        r#"{"0":{"message":["no"]}}"#,
    ),
    (
        Call::SendMessages,
        TriggerKind::Message,
        r#"[{"user":"x"},{"user":"x","channel":"t","pm_users":["luke"],"message":{"text":"bad"}}]"#,
        r#"{"1":{"message":["no"]}}"#,
    ),
    (
        Call::SendMessages,
        TriggerKind::Message,
        r#"[{"user":"x","pm_users":["luke"],"message":{"text":"bad"}}]"#,
        r#"{"0":{"message":["no"]}}"#,
    ),
    (
        Call::SendMessages,
        TriggerKind::Message,
        r#"[{"user":"x","channel":"t"}]"#,
        r#"{"0":{"message":["no"]}}"#,
    ),
    (
        Call::EditMessages,
        TriggerKind::Edit,
        r#"[{"uuid":"11111111-1111-4111-8111-111111111111","channel":"t","message":{"text":"bad"}}]"#,
        r#"{"0":{"message":["no"]}}"#,
    ),
    (
        Call::EditMessages,
        TriggerKind::Edit,
        r#"[{"uuid":"11111111-1111-4111-8111-111111111111","pm_users":["luke"],"message":{"text":"bad"}}]"#,
        r#"{"0":{"message":["no"]}}"#,
    ),
    (
        Call::Subscribe,
        TriggerKind::Join,
        r#"{"conn_id":"LEIA","channels":["t","t2","t2"]}"#,
        r#"{"channels":{"1":["no"]}}"#,
    ),
    (
        Call::Connect,
        TriggerKind::Join,
        r#"{"username":"han","channels":["t3"]}"#,
        r#"{"channels":{"0":["no"]}}"#,
    ),
];

#[test]
fn no_call_slips_past_a_trigger_for_the_back_end() {
    for (at, (call, kind, body, refused)) in ROUTES.iter().enumerate() {
        for refuses in [true, false] {
            let about = format!("route {at}, {call:?}, refused: {refuses}");
            let mut room = Room::new(true);
            let (body, before) = (room.body(body), room.channels());
            let Course::Waits(hearing) = room.call(*call, &body) else { panic!("{about}: it does not wait") };
            assert_eq!((room.luke_sees(), room.channels()), (vec![], before.clone()), "{about}");
            let calls = room.desk.calls();
            assert_eq!((calls.len(), calls[0].input.kind), (1, *kind), "{about}");
            assert!(calls[0].input.client.is_none(), "{about}: the back end acts");
            let replaced = || Decision::Replace(Payload::Json("{\"text\":\"good\"}").into());
            room.decide(&calls, || if refuses { Decision::Refuse("no".into()) } else { replaced() });
            let (status, answer) = room.back_end.go_on(&mut room.engine, hearing).answer();
            let seen = json!([room.luke_sees(), answer, room.channels()]).to_string();
            if refuses {
                let refused: Value = serde_json::from_str(refused).expect("it is JSON");
                assert_eq!((status, answer), (422, refused), "{about}");
                assert_eq!(seen, json!([[], answer_of(&seen), before]).to_string(), "{about}");
                continue;
            }
            assert_eq!(status, 200, "{about}: {seen}");
            match kind.action() {
                Action::Message => assert!(seen.contains("good") && !seen.contains("bad"), "{about}: {seen}"),
                Action::Join => assert_ne!(room.channels(), before, "{about}"),
            }
            assert_eq!((room.desk.calls().len(), room.engine.node().trigger_calls(APP)), (0, 0), "{about}");
        }
    }
}

fn answer_of(seen: &str) -> Value {
    serde_json::from_str::<Value>(seen).expect("it is JSON")[1].clone()
}

#[test]
fn a_trigger_for_clients_alone_does_not_run() {
    for (call, _, body, _) in ROUTES {
        let mut room = Room::new(false);
        let body = room.body(body);
        assert_eq!(room.call(call, &body).answer().0, 200, "{call:?}");
        // The client of a connection that the back end announced joins nothing on its own.
        room.attach(1, room.leia);
        assert_eq!(room.desk.calls().len(), 0, "{call:?}");
    }
}

#[test]
fn a_client_that_comes_runs_no_trigger_for_channels_that_were_judged() {
    let mut room = Room::new(true);
    let body = room.body(r#"{"conn_id":"LEIA","channels":["t2"]}"#);
    let Course::Waits(hearing) = room.call(Call::Subscribe, &body) else { panic!("it waits") };
    let calls = room.desk.calls();
    let shown = calls[0].input.payload.view();
    assert!(matches!(shown, Payload::Json("{\"user\":\"leia\"}")), "{shown:?}");
    room.decide(&calls, || Decision::Pass);
    assert_eq!(room.back_end.go_on(&mut room.engine, hearing).answer().0, 200);
    room.attach(1, room.leia);
    assert_eq!(room.desk.calls().len(), 0);
    let message = json!([{"user": "x", "channel": "t2"}]);
    let Course::Waits(hearing) = room.call(Call::SendMessages, &message) else { panic!("it waits") };
    let calls = room.desk.calls();
    room.decide(&calls, || Decision::Pass);
    let (_, answer) = room.back_end.go_on(&mut room.engine, hearing).answer();
    assert!(answer[0].get("message").is_none(), "a trigger that lets pass adds no payload: {answer}");
    room.engine.flush(&mut room.sink);
    assert_eq!(room.sink.take_json(1).len(), 1, "Leia is a member");
}

#[test]
fn a_deletion_runs_no_trigger_and_a_failure_publishes_nothing() {
    let mut room = Room::new(true);
    let two = json!([{"user": "x", "channel": "t"}, {"user": "y", "channel": "t"}]);
    let Course::Waits(hearing) = room.call(Call::SendMessages, &two) else { panic!("it waits") };
    let calls = room.desk.calls();
    room.decide(&calls[..1], || Decision::Pass);
    let Course::Waits(hearing) = room.back_end.go_on(&mut room.engine, hearing) else { panic!("one lacks") };
    room.decide(&calls[1..], || Decision::Fail);
    assert_eq!(room.back_end.go_on(&mut room.engine, hearing).answer().0, 503);
    assert_eq!(room.luke_sees(), [] as [Value; 0]);
    let deletion = json!([{"uuid": ID, "channel": "t"}]);
    assert_eq!(room.call(Call::DeleteMessages, &deletion).answer().0, 200);
    assert_eq!(room.luke_sees().len(), 1);
}
