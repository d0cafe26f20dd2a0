//! Messages that are handed over together have the effect of the same messages handed over one by one, though
//! those to one channel are published in one operation.

mod support;
mod workers;

use std::cell::Cell;

use fanfare_core::{
    app::{App, HistoryLimits},
    channel::Channel,
    dialect::Format,
    disconnect::Disconnect,
    engine::Flow,
    id::AppId,
    limits::WINDOW_COMMANDS,
    ws::Message,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use workers::Workers;

/// How the app is, and what happens while the messages come.
#[derive(Copy, Clone, Debug)]
struct Setting {
    history: bool,
    membership_to_send: bool,
    messages_per_second: u32,
    /// Somebody is inside the order of `room`, so that the first message to it waits.
    contended: bool,
}

const LONGEST: usize = 40;

impl Setting {
    fn apply(self, app: &mut App) {
        app.announce = false;
        app.history = HistoryLimits { messages: if self.history { 8 } else { 0 }, ..HistoryLimits::NONE };
        app.membership_to_send = self.membership_to_send;
        app.limits.messages_per_second = self.messages_per_second;
        app.limits.message_bytes = LONGEST;
    }
}

/// Hands `frames` over, together or one by one, for a native sender that is in `room` alone. Returns the
/// output of three sessions: the sender, and those of [`deliver`]. The output is split into publications and
/// other frames.
fn run(setting: Setting, frames: &[String], together: bool) -> Vec<[Vec<Value>; 2]> {
    let (mut workers, sessions) = deliver(setting, Format::Native, frames, together);
    let received =
        |session| workers.received(session).into_iter().partition(|frame: &Value| frame["event"].is_string());
    sessions.map(received).map(|(publications, others)| [publications, others]).to_vec()
}

/// The same for a sender of Agnost's dialect: the output of the sessions of [`deliver`], the end of the
/// sender, and the number of failed commands.
fn run_agnost(
    setting: Setting,
    frames: &[String],
    together: bool,
) -> ([Vec<Value>; 2], Vec<Disconnect>, u64) {
    let (mut workers, [_, near, far]) = deliver(setting, Format::AgnostFrames, frames, together);
    let ends = workers.engines[0].take_disconnects().iter().map(|(_, why)| *why).collect();
    let errors = workers.engines[0].counters().command_errors;
    ([near, far].map(|session| workers.received(session)), ends, errors)
}

/// Hands `frames` over, together or one by one, for a sender that is in `room` alone. Two other sessions, on
/// the sender's worker and on another worker, are in `room` and in `side`.
fn deliver(setting: Setting, format: Format, frames: &[String], together: bool) -> (Workers, [usize; 3]) {
    let mut workers = Workers::new(2, 256, |app| setting.apply(app));
    let sessions = [workers.open_in(0, format, None), workers.open(0), workers.open(1)];
    let (worker, slot) = workers.sessions[sessions[0]];
    let join = match format {
        Format::AgnostFrames => r#"42["join",{"channel":"room"}]"#,
        _ => r#"{"type":"join","channel":"room"}"#,
    };
    assert_eq!(workers.engines[worker].receive(slot, Message::Text(join)), Flow::Continue);
    for (session, channel) in [(1, "room"), (1, "side"), (2, "room"), (2, "side")] {
        workers.command(sessions[session], &json!({"type": "join", "channel": channel}));
        workers.run_until_idle();
    }
    if format == Format::Native {
        workers.received(sessions[0]);
    }
    let room: Arc<Channel> = workers.node.channel(AppId(0), Some("room")).expect("somebody is in it");
    let held = setting.contended.then(|| room.lock.try_enter().expect("nobody is inside"));
    let mut rest = frames;
    let mut hand_over = |workers: &mut Workers| {
        let (worker, slot) = workers.sessions[sessions[0]];
        let engine = &mut workers.engines[worker];
        while !rest.is_empty() {
            let taken = Cell::new(0);
            let count = if together { rest.len() } else { 1 };
            let messages = rest[..count].iter().map(|frame| {
                taken.set(taken.get() + 1);
                match frame.strip_prefix('\0') {
                    Some(binary) => Message::Binary(binary.as_bytes()),
                    None => Message::Text(frame),
                }
            });
            let flow = engine.receive_all(slot, messages);
            rest = &rest[taken.get()..];
            if flow == Flow::Pause {
                return;
            }
        }
    };
    hand_over(&mut workers);
    if let Some(held) = held {
        workers.engines[1].leave_lock(&room, held);
    }
    for _ in 0..=frames.len() {
        workers.run_until_idle();
        let resumed = workers.engines[0].take_unpaused();
        if !resumed.is_empty() {
            hand_over(&mut workers);
        }
    }
    (workers, sessions)
}

/// A binary frame begins with a zero byte here, which is that of its envelope's length.
fn frame() -> impl Strategy<Value = String> {
    let send = |channel: &'static str, members: &'static str| {
        prop::sample::select(vec![
            "1",
            "{\"a\":[]}",
            "\"plain\"",
            "\"\\n\"",
            "\"é\"",
            "\"a string that is longer than allowed here\"",
            "nul",
        ])
        .prop_map(move |message| {
            format!(r#"{{"type":"send","channel":"{channel}","event":"e"{members},"message":{message}}}"#)
        })
        .boxed()
    };
    let fixed = |text: &str| Just(text.to_owned()).boxed();
    let envelope = r#"{"type":"send","channel":"room","event":"e"}"#;
    let binary =
        format!("\0{}{envelope}bytes", char::from(u8::try_from(envelope.len()).expect("it is short")));
    prop_oneof![
        12 => send("room", ""),
        4 => send("room", ",\"echo\":false"),
        4 => send("side", ""),
        1 => send("nobody", ""),
        1 => send("", ""),
        1 => send("room", ",\"id\":3"),
        1 => send("room", ",\"to_users\":[\"u\"]"),
        2 => fixed(r#"{"type":"broadcast","event":"e","message":1}"#),
        1 => fixed(r#"{"type":"ping","id":"p"}"#),
        1 => fixed(r#"[{"type":"send","channel":"room","event":"e","message":1},{"type":"send","id":1,"channel":"side","event":"e"}]"#),
        1 => fixed("{"),
        1 => Just(binary),
    ]
}

/// A packet of Agnost's dialect. A binary frame begins with a zero byte here, which is part of it.
fn packet() -> impl Strategy<Value = String> {
    let message = |channel: &'static str, members: &'static str| {
        prop::sample::select(vec!["1", "{\"a\":[]}", "\"plain\"", "\"\\n\"", "nul", "1}", "1]"])
            .prop_map(move |message| {
                format!(r#"42["message",{{{channel}"eventName":"e"{members},"message":{message}}}]"#)
            })
            .boxed()
    };
    let fixed = |text: &str| Just(text.to_owned()).boxed();
    let bytes =
        r#"451-["message",{"channel":"room","eventName":"e","message":{"_placeholder":true,"num":0}}]"#;
    prop_oneof![
        16 => message(r#""channel":"room","#, ""),
        4 => message(r#""channel":"room","#, r#","echo":false"#),
        4 => message(r#""channel":"side","#, ""),
        2 => message(r#""channel":"","#, ""),
        2 => message("", ""),
        1 => message(r#""channel":"\u0063","#, ""),
        2 => fixed(r#"42["message",{"channel":"room","eventName":"e","message":1,"echo":0}]"#),
        1 => fixed(r#"42["message",{"channel":"room","eventName":"user:x","message":1}]"#),
        1 => fixed(r#"42["update",{"data":1}]"#),
        1 => fixed("3"),
        2 => fixed(bytes),
        3 => fixed("\0"),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    (any::<bool>(), any::<bool>(), prop::sample::select(vec![0, 0, 3, 20]), any::<bool>()).prop_map(
        |(history, membership_to_send, messages_per_second, contended)| Setting {
            history,
            membership_to_send,
            messages_per_second,
            contended,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn together_is_as_one_by_one(setting in setting(), frames in prop::collection::vec(frame(), 1..60)) {
        prop_assert_eq!(run(setting, &frames, true), run(setting, &frames, false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn together_is_as_one_by_one_in_the_dialect_of_agnost(
        setting in setting(),
        frames in prop::collection::vec(packet(), 1..60),
    ) {
        prop_assert_eq!(run_agnost(setting, &frames, true), run_agnost(setting, &frames, false));
    }
}

#[test]
fn a_packet_behind_a_burst_that_waits_is_read_in_its_turn() {
    let setting =
        Setting { history: false, membership_to_send: false, messages_per_second: 0, contended: true };
    let message = r#"42["message",{"channel":"room","eventName":"e","message":1}]"#;
    let bytes =
        r#"451-["message",{"channel":"room","eventName":"e","message":{"_placeholder":true,"num":0}}]"#;
    // A heartbeat ends a burst. The last burst fills the window, so the packet after it is held unread.
    let mut frames = [message, "3"].repeat(WINDOW_COMMANDS);
    frames.pop();
    frames.extend([bytes, "\0\u{7}"]);
    let frames: Vec<String> = frames.into_iter().map(String::from).collect();
    let (received, ends, errors) = run_agnost(setting, &frames, true);
    assert_eq!((received[0].len(), ends, errors), (WINDOW_COMMANDS + 1, vec![], 0));
    assert_eq!(received[0], received[1]);
    assert_eq!(received[0][WINDOW_COMMANDS]["bytes"], json!([7]));
}

#[test]
fn a_burst_reaches_everybody_but_the_sender_without_echo_in_order() {
    let setting =
        Setting { history: true, membership_to_send: false, messages_per_second: 0, contended: false };
    let send = |number| {
        format!(r#"{{"type":"send","channel":"room","event":"e","echo":{},"message":{number}}}"#, number > 40)
    };
    let frames: Vec<String> = (1..=60).map(send).collect();
    let received = run(setting, &frames, true);
    let numbers = |session: usize| -> Vec<u64> {
        received[session][0].iter().map(|frame| frame["message"].as_u64().expect("a number")).collect()
    };
    assert_eq!(numbers(0), (41..=60).collect::<Vec<_>>());
    assert_eq!(numbers(1), (1..=60).collect::<Vec<_>>());
    assert_eq!(numbers(2), (1..=60).collect::<Vec<_>>());
}

#[test]
fn of_messages_to_a_full_worker_each_arrives_or_is_refused() {
    const DEPTH: usize = 2;
    for (contended, messages_per_second) in [(false, 0), (false, 30), (true, 0), (true, 30)] {
        let setting = Setting { history: false, membership_to_send: false, messages_per_second, contended };
        let mut workers = Workers::new(3, DEPTH, |app| setting.apply(app));
        let sessions = [workers.open(0), workers.open(1), workers.open(2)];
        for session in sessions {
            workers.command(session, &json!({"type": "join", "channel": "room"}));
            workers.run_until_idle();
        }
        let frames: Vec<String> = (0..40)
            .map(|number| format!(r#"{{"type":"send","channel":"room","event":"e","message":{number}}}"#))
            .collect();
        let hand_over = |workers: &mut Workers, frames: &[String]| {
            let (worker, slot) = workers.sessions[sessions[0]];
            workers.engines[worker].receive_all(slot, frames.iter().map(|frame| Message::Text(frame)))
        };
        // The second and third worker take no mail meanwhile: the first burst fills their mailboxes.
        assert_eq!(hand_over(&mut workers, &frames[..20]), Flow::Continue);
        let room: Arc<Channel> = workers.node.channel(AppId(0), Some("room")).expect("somebody is in it");
        let held = setting.contended.then(|| room.lock.try_enter().expect("nobody is inside"));
        // What is contended waits in the session's window, which has room for it.
        assert_eq!(hand_over(&mut workers, &frames[20..36]), Flow::Continue);
        if let Some(held) = held {
            workers.engines[2].leave_lock(&room, held);
        }
        workers.run_until_idle();
        let told = workers.received(sessions[0]);
        let refused = told.iter().filter(|frame| frame["error"].is_object()).count();
        let arrived = workers.received(sessions[1]).len();
        assert!(arrived < 36 && refused > 1, "{setting:?}: {arrived} arrived, {refused} were refused");
        assert_eq!(arrived + refused, 36, "{setting:?}");
        let counters = workers.engines[0].counters();
        assert_eq!(counters.command_errors, refused as u64, "{setting:?}");
        assert_eq!(counters.overloaded + counters.rate_limited, refused as u64, "{setting:?}");
        assert_eq!(counters.commands, 1 + 36, "{setting:?}");
    }
}
