//! The directory of Channelstream's users, connections and channels: its contents, their lifetimes and their
//! bounds.

use fanfare_core::{
    dialect::channelstream::{Call, ConnId, Directory, DirectoryLimits, Effect, Moment, Request, Tell, What},
    id::SessionId,
};
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A directory with a clock. No client receives its effects.
struct World {
    directory: Directory,
    now: Moment,
    calls: u128,
    effects: Vec<Effect>,
}

impl World {
    fn new(limits: DirectoryLimits) -> Self {
        let now = Moment(1_700_000_000 * SECOND);
        Self { directory: Directory::new(limits, 1, now), now, calls: 0, effects: Vec::new() }
    }

    fn pass(&mut self, us: u64) {
        self.now = Moment(self.now.0 + us);
        self.directory.expire(self.now, &mut self.effects);
    }

    fn call(&mut self, call: Call, body: Value) -> (u16, Value) {
        self.calls += 1;
        let body = body.to_string();
        let request = Request {
            call,
            method: "POST",
            body: body.as_bytes(),
            conn_id: None,
            entropy: self.calls,
            now: self.now,
            version: "1",
        };
        let answer = self.directory.handle(&request, &mut self.effects);
        (answer.status, serde_json::from_str(&answer.body).expect("an answer is JSON"))
    }

    fn connect(&mut self, user: &str, channels: &[&str]) -> ConnId {
        let told = json!({"notify_presence": true, "store_history": true, "history_size": 5});
        let body = json!({"username": user, "channels": channels, "channel_configs": {"told": told}});
        let (status, answer) = self.call(Call::Connect, body);
        assert_eq!(status, 200, "{answer}");
        ConnId::parse(answer["conn_id"].as_str().expect("it is text")).expect("it is an id")
    }

    fn overview(&mut self) -> Value {
        self.call(Call::AdminJson, json!({})).1
    }

    /// The frames in the directory's effects since the last call.
    fn told(&mut self) -> Vec<Value> {
        let words = |effect| match effect {
            Effect::Tell(tell) => match *tell {
                Tell { what: What::Words(words), .. } => serde_json::from_str(&words).ok(),
                _ => None,
            },
            _ => None,
        };
        std::mem::take(&mut self.effects).into_iter().filter_map(words).collect()
    }
}

fn session(at: u8) -> SessionId {
    SessionId::parse(&format!("AAAAAAAAAAAAAAAAAAA{}", char::from(b'A' + at))).expect("it is one")
}

#[test]
fn a_connection_whose_client_does_not_come_is_collected_after_fifteen_seconds() {
    let mut world = World::new(DirectoryLimits::default());
    world.connect("leia", &["told"]);
    let alone = world.connect("luke", &[]);
    world.pass(15 * SECOND - 1_000);
    assert_eq!(world.overview()["total_connections"], 2);
    world.effects.clear();
    world.pass(SECOND);
    assert_eq!(world.overview()["total_connections"], 0);
    assert_eq!(world.told()[0]["message"], json!({"action": "parted"}));
    assert!(world.directory.arrival(alone).is_none(), "without channels as well");
    assert_eq!(world.directory.counters().collected, 2);
}

#[test]
fn a_client_that_has_come_stays_until_it_goes() {
    let mut world = World::new(DirectoryLimits::default());
    let conn = world.connect("leia", &["told"]);
    let mut effects = Vec::new();
    world.directory.attach(conn, session(1), world.now, &mut effects);
    world.pass(2 * DAY);
    assert_eq!(world.overview()["total_connections"], 1);
    world.directory.attach(conn, session(2), world.now, &mut effects);
    assert!(matches!(effects[..], [Effect::End { session: ended }] if ended == session(1)));
    world.directory.detach(session(1), world.now, &mut effects);
    assert!(world.directory.arrival(conn).is_some(), "another session has taken its place");
    world.directory.detach(session(2), world.now, &mut effects);
    assert!(world.directory.arrival(conn).is_none());
}

#[test]
fn users_are_kept_for_a_day_and_channels_for_seven() {
    let mut world = World::new(DirectoryLimits::default());
    world.connect("leia", &["told"]);
    world.pass(DAY - SECOND);
    assert_eq!(world.overview()["remembered_user_count"], 1);
    world.pass(2 * SECOND);
    let overview = world.overview();
    assert_eq!((&overview["remembered_user_count"], &overview["total_channels"]), (&json!(0), &json!(1)));
    world.pass(7 * DAY);
    assert_eq!(world.overview()["total_channels"], 0);
    assert!(world.directory.next_due().is_none(), "nothing is left to be looked at");
}

#[test]
fn bounds_refuse_what_is_new_and_nothing_else() {
    let limits = DirectoryLimits { waiting: 2, users: 2, channels: 2, ..DirectoryLimits::default() };
    let mut world = World::new(limits);
    let first = world.connect("leia", &["a"]);
    world.connect("luke", &["b"]);
    let refused = |world: &mut World, call, body| world.call(call, body).0 == 503;
    assert!(refused(&mut world, Call::Connect, json!({"username": "leia"})), "two wait already");
    let mut effects = Vec::new();
    world.directory.attach(first, session(1), world.now, &mut effects);
    assert!(refused(&mut world, Call::Connect, json!({"username": "han"})), "there are two users");
    assert!(refused(&mut world, Call::Connect, json!({"username": "leia", "channels": ["c"]})));
    assert!(refused(&mut world, Call::ChannelConfig, json!({"c": {}})));
    let body = json!({"conn_id": first.to_string(), "channels": ["b", "c"]});
    assert!(refused(&mut world, Call::Subscribe, body));
    assert_eq!(world.directory.counters().refused, 5);
    assert_eq!(world.call(Call::Connect, json!({"username": "leia", "channels": ["b"]})).0, 200);
}

#[test]
fn what_is_remembered_is_bounded_and_the_oldest_goes() {
    let limits = DirectoryLimits { bytes: 20_000, ..DirectoryLimits::default() };
    let mut world = World::new(limits);
    let conn = world.connect("leia", &["told"]);
    for n in 0..100 {
        let body = json!([{"user": "x", "channel": "told", "message": {"n": n, "text": "x".repeat(500)}}]);
        assert_eq!(world.call(Call::SendMessages, body).0, 200);
    }
    let mut effects = Vec::new();
    let missed = world.directory.attach(conn, session(1), world.now, &mut effects);
    let last: Value = serde_json::from_str(missed.last().expect("some are left")).expect("it is JSON");
    assert!(missed.len() < 20 && last["message"]["n"] == 99, "{}", missed.len());
}

#[test]
fn a_message_that_is_too_long_is_refused_before_anything_is_done() {
    let limits = DirectoryLimits { message_bytes: 100, ..DirectoryLimits::default() };
    let mut world = World::new(limits);
    world.connect("leia", &["told"]);
    let long = json!({"user": "x", "channel": "told", "message": {"text": "x".repeat(100)}});
    let short = json!({"user": "x", "channel": "told", "message": {"text": "x"}});
    let (status, answer) = world.call(Call::SendMessages, json!([short, long]));
    assert_eq!((status, answer), (422, json!({"1": {"message": ["Longer than 100 bytes."]}})));
    assert_eq!(world.overview()["total_unique_messages"], 0);
}
