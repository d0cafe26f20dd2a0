//! Arbitrary bytes as the body of a POST, and as a query.
//!
//! Holds: nothing panics; packets are at most as many as allowed; an error is the last; what was read,
//! encoded anew, reads the same.

#![no_main]

use bytes::BytesMut;
use fanfare_core::engineio::{Carrier, Framing, Limits, Method, Packet, Payload, Query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((limit, body)) = input.split_first() else { return };
    let limits = Limits { packets: usize::from(*limit), ..Limits::default() };
    let packets: Vec<_> = Payload::new(body, limits).collect();
    assert!(packets.len() <= limits.packets + 1);
    assert!(packets.iter().rev().skip(1).all(Result::is_ok), "an error ends the payload");

    let mut out = BytesMut::new();
    let mut messages = Vec::new();
    for packet in packets.into_iter().flatten() {
        match &packet {
            Packet::Text(text) => Framing::Payload.put_text(&mut out, [*text]),
            Packet::Binary(bytes) => Framing::Payload.put_binary(&mut out, bytes),
            _ => continue,
        }
        messages.push(Ok(packet));
    }
    if !out.is_empty() {
        assert_eq!(
            Payload::new(&out[1..], Limits { packets: messages.len(), ..limits }).collect::<Vec<_>>(),
            messages
        );
    }

    if let Ok(Ok(query)) = std::str::from_utf8(body).map(Query::parse) {
        for method in [Method::Get, Method::Post, Method::Other] {
            for carrier in [Carrier::Http, Carrier::Upgrade] {
                drop(query.route(method, carrier));
            }
        }
    }
});
