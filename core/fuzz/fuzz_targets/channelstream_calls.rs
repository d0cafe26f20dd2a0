//! Calls of Channelstream's back ends, one after another, with arbitrary bodies. The target asserts: nothing
//! panics, each call is answered in JSON with a known status, and a refused call changes nothing.
//!
//! The input has a line for each call. The first byte of a line chooses the call.

#![no_main]

use fanfare_core::dialect::channelstream::{Body, Call, Directory, DirectoryLimits, Moment, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const CALLS: [Call; 11] = [
    Call::Connect,
    Call::Subscribe,
    Call::Unsubscribe,
    Call::UserState,
    Call::SendMessages,
    Call::EditMessages,
    Call::DeleteMessages,
    Call::ChannelConfig,
    Call::Info,
    Call::Disconnect,
    Call::AdminJson,
];

fuzz_target!(|input: &[u8]| {
    let limits = DirectoryLimits { bytes: 10_000, message_bytes: 1_000, waiting: 5, users: 5, channels: 5 };
    let mut directory = Directory::new(limits, 1, Moment(0), Default::default());
    for (at, line) in input.split(|byte| *byte == b'\n').enumerate() {
        let Some((first, body)) = line.split_first() else { continue };
        let parsed = Body::read(body);
        let request = Request {
            call: CALLS[usize::from(*first) % CALLS.len()],
            method: if first & 0x80 == 0 { "POST" } else { "GET" },
            body: &parsed,
            conn_id: std::str::from_utf8(body).ok(),
            entropy: at as u128,
            now: Moment(at as u64 * 1_000_000),
            version: "1",
        };
        let mut effects = Vec::new();
        let mut answer = directory.handle(&request, &mut effects);
        while !answer.is_complete() {
            directory.go_on(&mut answer);
        }
        assert!(matches!(answer.status, 200 | 422 | 503), "{}", answer.status);
        assert!(answer.status == 200 || effects.is_empty(), "what is refused does nothing");
        serde_json::from_str::<&RawValue>(&answer.text()).expect("an answer is JSON");
        directory.expire(request.now, &mut effects);
    }
});
