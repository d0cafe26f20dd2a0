//! Sessions whose keys expire, and what the engine reads of their clients' addresses.

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use fanfare_core::{
    app::{App, AppKeys, Apps},
    command::{BackEndCommand, Outcome, TokensOf},
    dialect::Format,
    disconnect::Disconnect,
    engine::{Engine, Flow, Node, Terms},
    id::{AppId, SessionSlot, WorkerId},
    now::Now,
    ws::Message,
};
use support::{Memory, open, open_as};

const GONE: Disconnect = Disconnect::ByServer { reconnect: false };

fn engine(change: impl FnOnce(&mut App)) -> Engine {
    let keys = AppKeys::new(&["client-key-0123456789"], &["server-key-0123456789"]).expect("they are keys");
    let mut app = App::new("default", keys);
    change(&mut app);
    let apps = Apps::new(vec![app]).expect("one app");
    Engine::new(WorkerId(0), Arc::new(Node::new(apps, 1, 64, 1)), 1)
}

fn pass(engine: &mut Engine, seconds: u64) {
    engine.begin_turn(Now { unix_ms: 1_000_000 + seconds * 1000, steady_ms: seconds * 1000 });
}

fn expiring(engine: &mut Engine, slot: SessionSlot, seconds: u64) {
    engine.set_terms(slot, Terms { address: None, key_expires_at: Some(1_000 + seconds) });
}

#[test]
fn a_session_ends_with_its_key_and_wakes_the_worker_then() {
    let mut engine = engine(|_| ());
    pass(&mut engine, 0);
    let [first, second, other] = [1, 2, 3].map(|connection| open(&mut engine, connection, Format::Native));
    expiring(&mut engine, first, 20);
    expiring(&mut engine, second, 10);
    engine.set_terms(other, Terms::default());
    assert_eq!(engine.next_due_ms(), Some(10_000));
    pass(&mut engine, 9);
    assert_eq!(engine.take_disconnects(), []);
    pass(&mut engine, 10);
    assert_eq!(engine.take_disconnects(), [(2, GONE)]);
    assert_eq!(engine.next_due_ms(), Some(20_000));
    pass(&mut engine, 25);
    assert_eq!(engine.take_disconnects(), [(1, GONE)]);
    assert_eq!((engine.next_due_ms(), engine.counters().expired_keys), (None, 2));
}

#[test]
fn nothing_is_kept_of_the_key_of_a_closed_session() {
    let mut engine = engine(|_| ());
    pass(&mut engine, 0);
    let slot = open(&mut engine, 1, Format::Native);
    expiring(&mut engine, slot, 10);
    engine.close(slot);
    assert_eq!(engine.next_due_ms(), None);
    let slot = open(&mut engine, 2, Format::Native);
    expiring(&mut engine, slot, 10);
    expiring(&mut engine, slot, 30);
    assert_eq!(engine.next_due_ms(), Some(30_000), "later terms take the place of earlier ones");
    pass(&mut engine, 20);
    assert_eq!(engine.take_disconnects(), []);
}

#[test]
fn a_revocation_ends_the_users_sessions_alone() {
    let mut engine = engine(|_| ());
    pass(&mut engine, 0);
    for (connection, user) in [(1, Some("ada")), (2, Some("bob")), (3, Some("ada")), (4, None)] {
        open_as(&mut engine, connection, Format::Native, user);
    }
    let revoke =
        BackEndCommand::Revoke { tokens: TokensOf::User { name: "ada", issued_until: None }, for_s: 60 };
    let answer = engine.request(AppId(0), revoke, 7);
    assert!(matches!(answer, Some(Ok(Outcome::Disconnected { sessions: 2 }))), "{answer:?}");
    let mut ended = engine.take_disconnects();
    ended.sort_by_key(|(connection, _)| *connection);
    assert_eq!(ended, [(1, GONE), (3, GONE)]);
    assert_eq!(engine.node().revoked_users(AppId(0)), 1);
}

#[test]
fn back_ends_alone_see_addresses_and_only_where_the_app_says_so() {
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    for shows in [true, false] {
        let mut engine = engine(|app| app.member_addresses = shows);
        pass(&mut engine, 0);
        let slot = open(&mut engine, 1, Format::Native);
        engine.set_terms(slot, Terms { address, key_expires_at: None });
        for command in
            [r#"{"type":"join","channel":"room","id":1}"#, r#"{"type":"members","channel":"room","id":2}"#]
        {
            assert_eq!(engine.receive(slot, Message::Text(command)), Flow::Continue);
        }
        let mut sink = Memory::default();
        engine.flush(&mut sink);
        let frames = sink.take_json(1);
        let answer = frames.iter().find(|frame| frame["id"] == 2).expect("an answer");
        let members = &answer["ok"]["members"];
        assert!(members[0]["id"].is_string() && members[0]["address"].is_null(), "{members}");
        let ask = BackEndCommand::Members { channel: "room", limit: 10, after: None };
        let Some(Ok(Outcome::Members(page))) = engine.request(AppId(0), ask, 7) else { panic!("one worker") };
        assert_eq!(page.addresses, shows.then(|| vec![address]));
    }
}
