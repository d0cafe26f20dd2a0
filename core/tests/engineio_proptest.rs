//! Engine.IO against random input: packets come back as they were put, and no order of requests, frames and
//! time loses, repeats or reorders a message, or leaves a deadline in the past.

use std::borrow::Cow;

use bytes::BytesMut;
use fanfare_core::engineio::{Action, Framing, Limits, Packet, Payload, PostHead, Query, Transport};
use fanfare_core::engineio::{Carrier, Method};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

mod engineio;

use engineio::{Peer, frames};

#[derive(Debug, Clone)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof!["[^\u{1e}]{0,40}".prop_map(Sent::Text), vec(any::<u8>(), 0..40).prop_map(Sent::Binary),]
}

fn put(framing: Framing, messages: &[Sent]) -> BytesMut {
    let mut out = BytesMut::new();
    for message in messages {
        match message {
            // Cut somewhere: how a text is given in pieces makes no difference.
            Sent::Text(text) => {
                let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                framing.put_text(&mut out, [&text[..middle], &text[middle..]]);
            }
            Sent::Binary(bytes) => framing.put_binary(&mut out, bytes),
        }
    }
    out
}

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Step {
    Poll,
    Post(String),
    PostHead,
    PostBody(String),
    Cut(Action),
    Upgrade,
    Probe(String),
    Frame(String),
    Send(String),
    Pass(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let packet = prop_oneof![
        4 => "4[a-c]{0,3}",
        2 => Just("3".to_owned()),
        1 => "[0-7b]?[a-c=]{0,3}",
    ];
    let probe = prop_oneof![4 => Just("2probe".to_owned()), 4 => Just("5".to_owned()), 1 => "[0-6]"];
    let body = vec(packet.clone(), 1..4).prop_map(|packets| packets.join("\u{1e}"));
    prop_oneof![
        6 => Just(Step::Poll),
        4 => body.clone().prop_map(Step::Post),
        1 => Just(Step::PostHead),
        1 => body.prop_map(Step::PostBody),
        1 => prop_oneof![Just(Action::Poll), Just(Action::Post), Just(Action::Upgrade)].prop_map(Step::Cut),
        2 => Just(Step::Upgrade),
        4 => probe.prop_map(Step::Probe),
        4 => packet.prop_map(Step::Frame),
        4 => "[d-f]{1,3}".prop_map(Step::Send),
        3 => (0..400_u64).prop_map(Step::Pass),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #[test]
    fn what_is_put_into_a_payload_is_read_from_it(messages in vec(sent(), 1..10)) {
        let out = put(Framing::Payload, &messages);
        let read: Vec<_> = Payload::new(&out[1..], Limits::default()).collect();
        let expected: Vec<_> = messages
            .iter()
            .map(|message| Ok(match message {
                Sent::Text(text) => Packet::Text(text),
                Sent::Binary(bytes) => Packet::Binary(Cow::Borrowed(bytes)),
            }))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn what_waits_for_a_poll_moves_to_the_websocket_unchanged(messages in vec(sent(), 0..6)) {
        let mut peer = Peer::probing();
        for message in &messages {
            let packet = put(Framing::Payload, std::slice::from_ref(message));
            prop_assert_eq!(peer.session.queue(&packet), Ok(()));
        }
        let mut expected = vec!["upgraded".to_owned()];
        expected.extend(frames(&put(Framing::Frames, &messages)));
        prop_assert_eq!(peer.probe("5"), expected);
    }

    #[test]
    fn bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let count = Payload::new(&bytes, Limits { packets: 20, ..Limits::default() }).count();
        prop_assert!((1..=21).contains(&count));
    }

    #[test]
    fn queries_are_read_without_a_panic(
        query in "([a-zA-Z]{0,9}=?[^&]{0,9}&?){0,5}",
        upgrade in any::<bool>(),
    ) {
        let carrier = if upgrade { Carrier::Upgrade } else { Carrier::Http };
        if let Ok(parsed) = Query::parse(&query) {
            let _outcome = parsed.route(Method::Get, carrier);
        }
    }

    #[test]
    fn no_order_of_things_loses_or_repeats_a_message(steps in vec(step(), 0..60)) {
        let mut peer = Peer::open(Transport::Polling);
        let (mut accepted, mut seen) = (Vec::new(), Vec::new());
        let mut is_cut = false;
        for step in steps {
            let was_websocket = peer.session.framing() == Framing::Frames;
            let read_before = peer.received.len();
            let out = match step {
                Step::Poll => peer.poll().unwrap_or_default(),
                Step::Post(body) => peer.post(&body).unwrap_or_default(),
                Step::PostHead => {
                    let _outcome = peer.post_head(PostHead::default());
                    Vec::new()
                }
                Step::PostBody(body) if !was_websocket => peer.post_body(body.as_bytes()),
                Step::Cut(action) => peer.cut(action),
                Step::Upgrade => peer.upgrade().map(|_| Vec::new()).unwrap_or_default(),
                Step::Probe(text) => peer.probe(&text),
                Step::Frame(text) if was_websocket => peer.frame(&text),
                Step::Send(text) if peer.session.is_open() => {
                    let out = peer.send(&text).expect("the steps fit the queue");
                    accepted.push(format!("4{text}"));
                    out
                }
                Step::Pass(ms) => peer.pass(ms),
                Step::Close => peer.close(),
                Step::PostBody(_) | Step::Frame(_) | Step::Send(_) => Vec::new(),
            };
            // The driver answers each message with itself, after what the step's own packets have caused.
            let texts = peer.received[read_before..].iter().filter(|text| !text.starts_with('['));
            accepted.extend(texts.map(|text| format!("4{text}")));
            for line in out.into_iter().chain(peer.take()) {
                is_cut |= line.starts_with("ended");
                let frame = line.strip_prefix("frame: ");
                let packets = line.strip_prefix("poll: ").or(frame).unwrap_or_default();
                seen.extend(packets.split('|').filter(|packet| packet.starts_with('4')).map(str::to_owned));
            }
            prop_assert!(accepted.starts_with(&seen), "{accepted:?} {seen:?}");
            prop_assert!(peer.session.deadline_ms().is_none_or(|deadline_ms| deadline_ms > peer.now_ms));
            prop_assert_eq!(is_cut, peer.session.deadline_ms().is_none());
        }
        // Nothing is left behind in an open session: a poll, or the WebSocket, has had it all.
        if peer.session.is_open() && peer.session.queued_bytes() == 0 {
            prop_assert_eq!(accepted, seen);
        }
    }
}
