//! Hostile clients against a server with one worker and default limits. The attackers send the most expensive
//! input that exists, and some of them never read. Each test asserts that
//!
//! - resident memory grows by at most twice `outbound_bytes` and `frame_bytes` for each attacker, and 32 MiB;
//! - resident memory is back within a tenth and 8 MiB once the attackers have gone;
//! - the server answers a bystander's pings throughout the attack.
//!
//! The tests assert no times, which `scripts/hostile` reports.

mod attack;
mod process;
#[path = "../running/mod.rs"]
mod running;

use attack::{Attack, Reading};
use process::{Client, frames};

/// The messages that a channel remembers whose name begins with `history`.
const HISTORY: usize = 1000;

/// A valid token of the user `leia` that never expires.
const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJsZWlhIn0.Zzx6SCvbpVq2l5ryozI_BBS8lVR4qO_GKP2B8IBOTpE";

/// Fills the history of a channel, and returns its epoch.
fn fill_history(client: &mut Client) -> String {
    let text = "x".repeat(200);
    let send = format!(r#"{{"type":"send","channel":"history","event":"e","message":"{text}"}}"#);
    client.send(&frames(std::iter::repeat_n(send.as_str(), HISTORY)));
    client.send_text(r#"{"type":"history","channel":"history","limit":1,"id":"filled"}"#);
    let answer = client.read_until("\"filled\"");
    let epoch = answer.split("\"epoch\":\"").nth(1).and_then(|rest| rest.split('"').next());
    epoch.expect("the answer has an epoch").to_owned()
}

/// As many copies of a frame as fit into 64 KiB.
fn one_read(command: &str) -> Vec<u8> {
    frames(std::iter::repeat_n(command, (64 << 10) / (command.len() + 8)))
}

#[test]
fn pages_of_history_in_one_read() {
    for reading in [Reading::Never, Reading::Always] {
        let mut attack = Attack::start("");
        fill_history(attack.bystander());
        let page = r#"{"type":"history","channel":"history","limit":1000,"id":"1"}"#;
        attack.run(3, reading, |_| one_read(page));
    }
}

#[test]
fn leaving_and_joining_again_with_all_that_was_missed() {
    let mut attack = Attack::start("");
    let epoch = fill_history(attack.bystander());
    let since = format!(r#"{{"epoch":"{epoch}","offset":1}}"#);
    let rejoin = format!(
        r#"[{{"type":"leave","channel":"history"}},{{"type":"join","channel":"history","since":{since}}}]"#
    );
    attack.run(3, Reading::Never, |_| one_read(&rejoin));
}

#[test]
fn batches_of_member_lists() {
    let mut attack = Attack::start("");
    let members: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = attack.connect();
            let profile = "x".repeat(3000);
            client.send_text(&format!(r#"{{"type":"update","profile":"{profile}","id":"profile"}}"#));
            client.read_until("\"profile\"");
            client.send_text(r#"{"type":"join","channel":"crowd","id":1}"#);
            client.read_until("\"joined\":true");
            client
        })
        .collect();
    let list = r#"{"type":"members","channel":"crowd","limit":1000,"id":"1"}"#;
    let padded = format!("{list}{:3900}", "");
    let batch = format!("[{}]", vec![padded; 256].join(","));
    attack.run(5, Reading::Never, |_| frames([batch.as_str()]));
    drop(members);
}

#[test]
fn tokens_that_do_not_verify() {
    let mut attack = Attack::start("");
    let forged = format!("{}AAAA", &TOKEN[..TOKEN.len() - 4]);
    let command = format!(r#"{{"type":"session","token":"{forged}","id":"1"}}"#);
    attack.run(20, Reading::Never, |_| one_read(&command));
}

#[test]
fn small_messages_that_alternate_between_channels_of_the_same_members() {
    let mut attack = Attack::start("");
    let send = |channel: &str| format!(r#"{{"type":"send","channel":"{channel}","event":"e","message":1}}"#);
    let (one, two) = (send("one"), send("two"));
    attack.run(20, Reading::Never, |_| {
        let join = r#"[{"type":"join","channel":"one"},{"type":"join","channel":"two"}]"#;
        let pairs = (64 << 10) / (2 * one.len() + 16);
        frames(std::iter::once(join).chain((0..pairs).flat_map(|_| [one.as_str(), two.as_str()])))
    });
}

#[test]
fn audiences_of_absent_users() {
    let mut attack = Attack::start("");
    let names: Vec<String> = (0..256).map(|name| format!("\"absent-{name:013}\"")).collect();
    let names = names.join(",");
    let command =
        format!(r#"{{"type":"send","channel":"room","event":"e","to_users":[{names}],"message":1}}"#);
    attack.run(20, Reading::Never, |_| {
        let join = r#"{"type":"join","channel":"room"}"#;
        frames(std::iter::once(join).chain(std::iter::repeat_n(command.as_str(), 200)))
    });
}

#[test]
fn messages_to_a_user_with_many_sessions() {
    let mut attack = Attack::start("");
    let mut sessions: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = attack.connect();
            client.send_text(&format!(r#"{{"type":"session","token":"{TOKEN}","id":1}}"#));
            client.read_until("\"ok\"");
            client
        })
        .collect();
    let text = "x".repeat(2000);
    let command = format!(r#"{{"type":"broadcast","event":"e","to_users":["leia"],"message":"{text}"}}"#);
    attack.run(5, Reading::Never, |_| one_read(&command));
    sessions[0].read_until(&text);
}

#[test]
fn bodies_without_a_key() {
    let mut attack = Attack::start("");
    let head = "POST /v1/send HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    attack.run_raw(100, |_| [head.as_bytes(), &[b'x'; 900_000]].concat());
}

#[test]
fn halves_of_messages() {
    let mut attack = Attack::start("");
    attack.run(20, Reading::Never, |_| {
        let mut half = frames([format!("\"{}\"", "x".repeat(1_000_000)).as_str()]);
        half.truncate(900_000);
        half
    });
}

#[test]
fn answers_that_nobody_reads() {
    let mut attack = Attack::start("");
    let ping = r#"{"type":"ping","id":"an id of some length, since the answer repeats it"}"#;
    attack.run(20, Reading::Never, |_| std::iter::repeat_n(one_read(ping), 16).flatten().collect());
}

#[test]
fn answers_that_nobody_reads_in_turns_that_others_fill() {
    let mut attack = Attack::start("");
    fill_history(attack.bystander());
    let page = r#"{"type":"history","channel":"history","limit":1000,"id":"1"}"#;
    let ping = r#"{"type":"ping","id":"1"}"#;
    attack.run(10, Reading::EverySecond, |attacker| match attacker % 2 {
        0 => one_read(page),
        _ => frames([ping]),
    });
}

#[test]
fn a_drain_of_one_large_channel() {
    let mut attack = Attack::start("drain_ms = 5000\n");
    let mut members: Vec<Client> = (0..800)
        .map(|_| {
            let mut client = attack.connect();
            client.send_text(r#"{"type":"join","channel":"crowd","echo":false,"id":1}"#);
            client
        })
        .collect();
    // An attacker that has the last join's notice has the notices of all joins before it.
    for client in &mut members {
        client.read_until("\"joined\":true");
        client.ping();
    }
    let received = attack.drain(&mut members);
    let most = members.len() * 1024;
    assert!(received <= most, "{received} bytes for {} members", members.len());
}
