//! The heap bytes of a Channelstream client that polls and has nothing to receive: its part of the directory,
//! its held poll, and its session. The allocator counts them.
//!
//! There is one test, since all threads of a process share the count.

mod counting;
mod support;

use std::sync::{Arc, atomic::Ordering};

use counting::LIVE;
use fanfare_core::{
    app::{App, AppKeys, Apps},
    dialect::{
        Format, Polled,
        channelstream::{Body, Call, ConnId, Directory, DirectoryLimits, Listening, Moment, Request},
    },
    engine::{Engine, Node, Opening, Segments, Sink},
    id::WorkerId,
    token::Claims,
};
use serde_json::{Value, json};

const CLIENTS: usize = 10_000;
/// The most bytes of a client in the core.
const MOST: usize = 1_000;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: u32, _: Segments<'_>) -> usize {
        0
    }
}

#[test]
fn a_client_at_rest_costs_little() {
    let now = Moment(1_700_000_000_000_000);
    let apps = Apps::new(vec![App::new("default", AppKeys::default())]).expect("one app");
    let app = apps.iter().next().expect("there is one").clone();
    let mut engine = Engine::new(WorkerId(0), Arc::new(Node::new(apps, 1, 64, 7)), 11);
    engine.begin_turn(1_000);
    let mut directory = Directory::new(DirectoryLimits::default(), 1, now, Arc::default());
    let mut polls = Vec::with_capacity(CLIENTS);
    let mut conns = Vec::with_capacity(CLIENTS);

    let before = LIVE.load(Ordering::Relaxed);
    for client in 0..CLIENTS {
        conns.push(announce(&mut directory, client, now));
    }
    let announced = LIVE.load(Ordering::Relaxed);
    for (at, conn) in conns.iter().enumerate() {
        let arrival = directory.arrival(*conn).expect("it was announced");
        let claims = Claims {
            user: arrival.user.into(),
            expires_at: None,
            profile: Some(arrival.public_state),
            channels: arrival.channels,
            id: None,
        };
        let opening = Opening {
            app: &app,
            format: Format::ChannelstreamPolls,
            echo: Some(false),
            claims: Some(claims),
            connection: u32::try_from(at).expect("it is small"),
            ticket: None,
        };
        let session = engine.open(opening, |_| {}, |_, _, _| {}).expect("there is room");
        engine.flush(&mut Nowhere);
        directory.attach(*conn, engine.session_id(session), now, &mut Vec::new());
        let mut polled = Polled::listening(0);
        polled.handle_listen(Listening { callback: None, headers: &[] }, 0);
        polls.push(polled);
    }
    let after = LIVE.load(Ordering::Relaxed);

    let each = |from: usize, to: usize| (to - from) / CLIENTS;
    println!("bytes: announced client {}", each(before, announced));
    println!("bytes: polling client at rest {}", each(before, after) + size_of::<Polled>());
    assert!(each(before, after) + size_of::<Polled>() <= MOST);
}

fn announce(directory: &mut Directory, client: usize, now: Moment) -> ConnId {
    // The answer would list all users of the channel.
    let info = json!({"include_users": false});
    let body = json!({"username": format!("user-{client}"), "channels": ["lobby"], "info": info}).to_string();
    let request = Request {
        call: Call::Connect,
        method: "POST",
        body: &Body::read(body.as_bytes()),
        conn_id: None,
        entropy: client as u128 + 1,
        now,
        version: "1",
    };
    let answer = directory.handle(&request, &mut Vec::new());
    let answer: Value = serde_json::from_str(&answer.text()).expect("an answer is JSON");
    ConnId::parse(answer["conn_id"].as_str().expect("it is text")).expect("it is an id")
}
