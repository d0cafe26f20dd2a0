//! The directory of Channelstream's users, connections and channels: its contents, their lifetimes and their
//! bounds.

use std::sync::Arc;

use fanfare_core::{
    dialect::channelstream::{
        Body, Call, ConnId, Directory, DirectoryLimits, Effect, Moment, Request, Tell, What,
    },
    id::SessionId,
    publication::IdentityCard,
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
        Self { directory: Directory::new(limits, 1, now, Arc::default()), now, calls: 0, effects: Vec::new() }
    }

    fn pass(&mut self, us: u64) {
        self.now = Moment(self.now.0 + us);
        self.directory.expire(self.now, &mut self.effects);
    }

    fn call(&mut self, call: Call, body: Value) -> (u16, Value) {
        self.calls += 1;
        let body = Body::read(body.to_string().as_bytes());
        let request = Request {
            call,
            method: "POST",
            body: &body,
            conn_id: None,
            entropy: self.calls,
            now: self.now,
            version: "1",
        };
        let mut answer = self.directory.handle(&request, &mut self.effects);
        while !answer.is_complete() {
            self.directory.go_on(&mut answer);
        }
        (answer.status, serde_json::from_str(&answer.text()).expect("an answer is JSON"))
    }

    fn connect(&mut self, user: &str, channels: &[&str]) -> ConnId {
        let told = json!({"notify_presence": true, "store_history": true, "history_size": 5});
        let body = json!({"username": user, "channels": channels, "channel_configs": {"told": told}});
        let (status, answer) = self.call(Call::Connect, body);
        assert_eq!(status, 200, "{answer}");
        ConnId::parse(answer["conn_id"].as_str().expect("it is text")).expect("it is an id")
    }

    fn observe(&mut self, channel: &str, member: &IdentityCard, is_member: bool) {
        self.directory.observe(channel, member, is_member, self.now, &mut self.effects);
    }

    fn info(&mut self) -> Value {
        self.call(Call::Info, json!({"info": {}})).1
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

/// A member whom another dialect serves.
fn other(at: u8, user: Option<&str>, profile: Option<&str>) -> IdentityCard {
    IdentityCard { id: session(at), user: user.map(Into::into), profile: profile.map(Into::into) }
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

#[test]
fn a_member_of_another_dialect_is_a_user_while_it_is_in_the_channel() {
    let mut world = World::new(DirectoryLimits::default());
    world.connect("leia", &["told"]);
    world.told();
    // Two sessions of one user are one user, and a session without user has its own name.
    for (at, user) in [(1, Some("luke")), (2, Some("luke")), (3, None)] {
        world.observe("told", &other(at, user, Some("{\"a\":1}")), true);
    }
    let anonymous = session(3).to_string();
    let joined: Vec<Value> = world.told();
    let users: Vec<&Value> = joined.iter().map(|frame| &frame["user"]).collect();
    assert_eq!(users, [&json!("luke"), &json!(anonymous)]);
    assert_eq!(
        (&joined[0]["state"], &joined[0]["message"]),
        (&json!({"a": 1}), &json!({"action": "joined"}))
    );
    let channel = &world.info()["channels"]["told"];
    assert_eq!((&channel["total_connections"], &channel["total_users"]), (&json!(4), &json!(3)));
    world.observe("told", &other(1, Some("luke"), None), false);
    assert_eq!(world.told(), [] as [Value; 0], "the user has another session");
    // A session that signs in has another name from then on.
    world.observe("told", &other(3, Some("han"), None), true);
    let changed: Vec<(Value, Value)> = world
        .told()
        .iter()
        .map(|frame| (frame["user"].clone(), frame["message"]["action"].clone()))
        .collect();
    assert_eq!(changed, [(json!(anonymous), json!("parted")), (json!("han"), json!("joined"))]);
    for (at, user) in [(2, "luke"), (3, "han")] {
        world.observe("told", &other(at, Some(user), None), false);
    }
    assert_eq!(world.told().len(), 2);
    // A leave of a member whom the directory does not list is nothing.
    world.observe("told", &other(9, None, None), false);
    assert_eq!((world.told(), &world.info()["channels"]["told"]["users"]), (Vec::new(), &json!(["leia"])));
}

#[test]
fn a_channel_of_other_dialects_is_listed_while_it_has_members_and_costs_nothing_afterwards() {
    let limits = DirectoryLimits { channels: 1, ..DirectoryLimits::default() };
    let mut world = World::new(limits);
    for at in 0..20u8 {
        world.observe(&format!("room-{at:02}"), &other(at, None, Some("7")), true);
    }
    let info = world.info();
    assert_eq!(info["channels"].as_object().map(serde_json::Map::len), Some(20));
    assert_eq!(info["users"][0]["state"], json!({"value": 7}), "a profile that is no object is a value");
    let uuid = info["channels"]["room-00"]["uuid"].clone();
    // Channels of others are no channels of this directory, whose bound they do not reach.
    world.connect("leia", &["room-00"]);
    assert_eq!(world.info()["channels"]["room-00"]["uuid"], uuid);
    for at in 0..20u8 {
        world.observe(&format!("room-{at:02}"), &other(at, None, None), false);
    }
    assert_eq!(world.info()["channels"].as_object().map(serde_json::Map::len), Some(1));
}

/// A listing visits the directory in steps, and describes each channel once.
#[test]
fn a_listing_of_many_channels_leaves_the_directory_to_others_in_between() {
    let mut world = World::new(DirectoryLimits::default());
    let names: Vec<String> = (0..300).map(|at| format!("c{at:03}")).collect();
    world.connect("leia", &names.iter().map(|name| &**name).collect::<Vec<_>>());
    let body = Body::read(b"");
    let request = Request {
        call: Call::Info,
        method: "GET",
        body: &body,
        conn_id: None,
        entropy: 0,
        now: world.now,
        version: "1",
    };
    let mut answer = world.directory.handle(&request, &mut world.effects);
    let mut steps = 0;
    while !answer.is_complete() {
        world.directory.go_on(&mut answer);
        // What comes in between takes nothing from what was there.
        world.observe(&format!("a-{steps}"), &other(1, None, None), true);
        steps += 1;
    }
    assert!(steps >= 4, "{steps}");
    let answer: Value = serde_json::from_str(&answer.text()).expect("an answer is JSON");
    let listed = answer["channels"].as_object().expect("it is one");
    assert!(names.iter().all(|name| listed.contains_key(name)));
}

#[test]
fn settings_reach_the_history_of_all_dialects_and_states_the_profiles_of_sessions() {
    let mut world = World::new(DirectoryLimits::default());
    let conn = world.connect("leia", &["told"]);
    let remembered = |effects: &mut Vec<Effect>| -> Vec<(Box<str>, u32)> {
        let wanted = |effect| match effect {
            Effect::Remember { channel, messages } => Some((channel, messages)),
            _ => None,
        };
        std::mem::take(effects).into_iter().filter_map(wanted).collect()
    };
    assert_eq!(remembered(&mut world.effects), [("told".into(), 5)]);
    world.connect("luke", &["told"]);
    assert_eq!(remembered(&mut world.effects), [], "the settings of a channel that exists do not count");
    world.call(Call::ChannelConfig, json!({"told": {"store_history": true, "history_size": 1_000_000}}));
    assert_eq!(remembered(&mut world.effects), [("told".into(), 65_536)]);
    world.call(Call::ChannelConfig, json!({"told": {}}));
    assert_eq!(remembered(&mut world.effects), [("told".into(), 0)]);
    world.directory.attach(conn, session(1), world.now, &mut world.effects);
    let state = json!({"user": "leia", "user_state": {"a": 1, "b": 2}, "state_public_keys": ["a"]});
    for expected in [Some("{\"a\":1}"), None] {
        world.effects.clear();
        world.call(Call::UserState, state.clone());
        let profile = world.effects.iter().find_map(|effect| match effect {
            Effect::Profile { profile, .. } => Some(&**profile),
            _ => None,
        });
        assert_eq!(profile, expected, "the same state is no change");
    }
}
