//! Arbitrary messages of an Agnost client and of an Agnost back end, and arbitrary bodies of the HTTP request
//! for members.
//!
//! The target asserts: nothing panics; a back end's commands contain valid JSON; a requested channel has a
//! name.
//!
//! The input has messages: a byte with the message's length, whose highest bit marks a binary message, and
//! the message's bytes. A text gets the head of an event, so that most texts are read beyond the head.

#![no_main]

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::{
    app::{AgnostOptions, App, AppKeys, Apps, Visitor},
    command::BackEndCommand,
    dialect::{self, BackEnd, Entrance, Format, Heard, Knock, Lobby, MembersHead},
    engine::{Engine, Node, Opening, Segments, Sink},
    id::{AppId, WorkerId},
    json,
    publication::Payload,
    secret::Secret,
    token::TokenError,
    ws::Message,
};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "server-key-0123456789";

struct Nothing;

impl Sink for Nothing {
    fn write(&mut self, _: u32, _: Segments<'_>) -> usize {
        0
    }
}

fn apps() -> Apps {
    let keys = AppKeys::new(&[], &[KEY]).expect("a key");
    let app = App { agnost: Some(AgnostOptions::new("e")), ..App::new("default", keys) };
    Apps::new(vec![app]).expect("one app")
}

fn back_end(apps: &Apps) -> BackEnd {
    let connect = format!("40{{\"accessToken\":\"{KEY}\"}}");
    let (mut lobby, mut out) = (Lobby::new(Format::AgnostFrames, 0), BytesMut::new());
    let Knock::Asks { auth } = lobby.handle(Message::Text(&connect), 0, &mut out) else {
        panic!("it is a CONNECT");
    };
    let entrance = dialect::admit(apps, auth, &Visitor::default(), |_, _| Err(TokenError::Malformed));
    let Ok(Entrance::BackEnd(scope)) = entrance else { panic!("it is the app's key") };
    lobby.admit_back_end(scope, Secret::new(7), &mut out)
}

fn check(payload: Payload<'_>) {
    if let Payload::Json(text) = payload {
        assert!(json::value(text.trim_end()).is_ok(), "{text}");
    }
}

fuzz_target!(|input: &[u8]| {
    let apps_of_back_end = apps();
    let mut engine = Engine::new(WorkerId(0), Arc::new(Node::new(apps(), 1, 64, 7)), 7);
    let app = engine.node().app(AppId(0)).clone();
    let (format, echo, claims, ticket) = (Format::AgnostFrames, Some(true), None, None);
    let opening = Opening { app: &app, format, echo, claims, connection: 0, ticket };
    let slot = engine.open(opening, |_| {}, |_, _, _| {}).expect("there is room");
    let (mut is_open, mut end) = (true, Some(back_end(&apps_of_back_end)));

    let members = MembersHead::new("/e/agnost/realtime/get-members", None);
    if let Ok(channel) = members.channel(input) {
        assert!(!channel.trim().is_empty());
    }
    let (mut rest, mut out) = (input, BytesMut::new());
    while let Some((head, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(usize::from(head & 0x7F).min(after.len()));
        rest = after;
        let text = std::str::from_utf8(bytes).ok().filter(|_| head & 0x80 == 0);
        let text = text.map(|text| if text.starts_with('4') { text.into() } else { format!("42{text}") });
        let message = text.as_deref().map_or(Message::Binary(bytes), Message::Text);
        if is_open {
            let _flow = engine.receive(slot, message);
            is_open = engine.take_disconnects().is_empty();
        }
        let Some(state) = &mut end else { continue };
        let heard = state.handle(message, &apps_of_back_end, 0, &mut out, &mut |_, _, command| match command {
            BackEndCommand::Publish { publish, .. } => check(publish.payload),
            BackEndCommand::PublishToUser { payload, .. } => check(payload),
            _ => {}
        });
        if heard == Heard::Over {
            end = None;
        }
    }
    engine.flush(&mut Nothing);
});
