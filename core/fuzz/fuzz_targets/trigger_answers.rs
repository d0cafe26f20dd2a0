//! Answers of back ends to http triggers from arbitrary bytes. The target asserts: nothing panics, an answer
//! has a verdict for each event, every payload is JSON, names and lists are within their bounds, and a
//! decision is the one that another JSON reader finds.
//!
//! The first byte of the input is the number of events, 0 for a request without a list. The rest is the body.

#![no_main]

use fanfare_core::{
    json,
    publication::Payload,
    trigger::{Decision, Said, TRIGGER_PUBLICATIONS, Verdict},
    verdict::{Asked, Form, NAME_BYTES, REASON_CHARS, decode},
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const VERDICT_BYTES: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some((&events, body)) = input.split_first() else { return };
    let events = usize::from(events) % 5;
    let form = if events == 0 { Form::One } else { Form::List };
    let channels = vec![Some("room"); events.max(1)];
    let asked = Asked { form, channels: &channels, verdict_bytes: VERDICT_BYTES };
    let Ok(verdicts) = decode(body, asked) else { return };
    assert_eq!(verdicts.len(), channels.len(), "a verdict for each event");
    // The other reader knows fewer numbers, and takes the last of several members of one name.
    let answer: Option<Value> = serde_json::from_slice(body).ok().filter(|_| !repeats(body));
    for (at, verdict) in verdicts.iter().enumerate() {
        let Ok(verdict) = verdict else { continue };
        let other = answer.as_ref().map(|answer| match form {
            Form::One => answer,
            Form::List => &answer["verdicts"][at],
        });
        check(verdict, other);
    }
});

/// Whether a name may stand twice in the body.
fn repeats(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let names = ["verdict\"", "verdicts\"", "payload\"", "base64\"", "why\"", "answer\"", "publish\""];
    text.contains("\\u") || names.iter().any(|name| text.matches(name).count() > 1)
}

fn check(verdict: &Verdict, other: Option<&Value>) {
    let word = match &verdict.decision {
        Decision::Pass => "pass",
        Decision::Replace(payload) => {
            if let Payload::Json(text) = payload.view() {
                json::value(text).expect("a payload is JSON");
                assert!(text.len() <= VERDICT_BYTES, "the bound");
                if let Some(other) = other {
                    let read: Value = serde_json::from_str(text).expect("both read it");
                    assert_eq!(read, other["payload"], "the payload");
                }
            }
            "replace"
        }
        Decision::Refuse(why) => {
            assert!(why.chars().count() <= REASON_CHARS, "the bound");
            "refuse"
        }
        Decision::Fail => panic!("a back end cannot say so"),
    };
    if let Some(other) = other {
        assert_eq!(other["verdict"], word, "the decision");
    }
    for said in [&verdict.answers, &verdict.publications] {
        assert!(said.len() <= TRIGGER_PUBLICATIONS, "the bound");
        said.iter().for_each(check_said);
    }
}

fn check_said(said: &Said) {
    let names = [&said.event, said.channel.as_ref().expect("a message has a channel")];
    assert!(names.iter().all(|name| (1..=NAME_BYTES).contains(&name.len())), "the bound");
    let Payload::Json(text) = said.payload.view() else { panic!("it is JSON") };
    json::value(text).expect("it is JSON");
}
