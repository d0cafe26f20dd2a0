//! The answers of an app's back end to its http triggers: JSON that is hostile until it is checked.
//!
//! ```text
//!   {"verdict":"pass"}
//!   {"verdict":"replace","payload":…}      or "base64":"…", for a binary payload
//!   {"verdict":"refuse","why":"…"}
//!       each with "answer":[{"event","message"},…] and "publish":[{"channel","event","message"},…]
//!   {"verdicts":[…]}       for a request with a list of events: one for each, in their order
//! ```
//!
//! Members with other names are ignored. The memory of a decoded answer is linear in its length: lists are
//! read up to their bound. This module reads no HTTP.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    json::{self, Document, Object, Raw, Scanner},
    publication::{OwnedPayload, Payload},
    trigger::{Decision, Said, TRIGGER_PUBLICATIONS, Verdict},
};

/// The most characters of a reason. A longer reason is cut.
pub const REASON_CHARS: usize = 500;

/// The most bytes of a channel and of an event in an answer.
pub const NAME_BYTES: usize = 256;

/// The reason of a refusal without one.
const REASON: &str = "A trigger refused this.";

/// Whether a request has one event, or a list of events.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Form {
    /// The body is the event; the answer is its verdict.
    One,
    /// The body has a list of events; the answer has a list of verdicts.
    List,
}

/// The request that an answer is for.
#[derive(Copy, Clone, Debug)]
pub struct Asked<'a> {
    /// The form of the request.
    pub form: Form,
    /// The channel of each event.
    pub channels: &'a [Option<&'a str>],
    /// The most bytes of one verdict, as JSON text.
    pub verdict_bytes: usize,
}

/// Why an answer, or one of its verdicts, cannot be used.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[allow(missing_docs, reason = "the texts explain the variants")]
pub enum AnswerError {
    NotJson,
    NoList,
    WrongCount,
    NoObject,
    UnknownVerdict,
    TooLarge,
    NoPayload,
    WrongBase64,
    WrongReason,
    WrongMessages,
    WrongName,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "the answer is not JSON in UTF-8, or nested deeper than 128",
            Self::NoList => "the answer has no list `verdicts`",
            Self::WrongCount => "the answer has another number of verdicts than the request has events",
            Self::NoObject => "a verdict is no object",
            Self::UnknownVerdict => "a verdict is none of pass, replace and refuse",
            Self::TooLarge => "a verdict is larger than it may be",
            Self::NoPayload => "a replacement has neither `payload` nor `base64`, or both",
            Self::WrongBase64 => "`base64` is no string of standard base64 with padding",
            Self::WrongReason => "`why` is no string",
            Self::WrongMessages => "`answer` or `publish` is no list of at most 16 objects",
            Self::WrongName => "a message has no channel or event of 1 to 256 bytes",
        })
    }
}

/// Decodes the body of an answer: one verdict for each event of the request. An error in one verdict leaves
/// the others valid.
///
/// # Errors
/// The answer as a whole cannot be used.
pub fn decode(body: &[u8], asked: Asked<'_>) -> Result<Vec<Result<Verdict, AnswerError>>, AnswerError> {
    let text = std::str::from_utf8(body).map_err(|_| AnswerError::NotJson)?;
    if asked.form == Form::One {
        json::value(text).map_err(|_| AnswerError::NotJson)?;
        return Ok(asked.channels.iter().map(|channel| verdict(text.trim(), *channel, asked)).collect());
    }
    let mut scanner = Scanner::new();
    let Document::Object(answer) = scanner.scan(text).map_err(|_| AnswerError::NotJson)? else {
        return Err(AnswerError::NoList);
    };
    let list = answer.member("verdicts").filter(|list| list.is_array()).ok_or(AnswerError::NoList)?;
    let mut channels = asked.channels.iter();
    let mut verdicts = Vec::with_capacity(asked.channels.len());
    for element in json::elements(list.as_str()) {
        let element = element.map_err(|_| AnswerError::NotJson)?;
        let channel = channels.next().ok_or(AnswerError::WrongCount)?;
        verdicts.push(verdict(element.as_str(), *channel, asked));
    }
    if channels.next().is_some() { Err(AnswerError::WrongCount) } else { Ok(verdicts) }
}

fn verdict(text: &str, channel: Option<&str>, asked: Asked<'_>) -> Result<Verdict, AnswerError> {
    if text.len() > asked.verdict_bytes {
        return Err(AnswerError::TooLarge);
    }
    let mut scanner = Scanner::new();
    let Ok(Document::Object(object)) = scanner.scan(text) else { return Err(AnswerError::NoObject) };
    let word = object.member("verdict").and_then(Raw::as_string);
    let decision = match word.as_deref() {
        Some("pass") => Decision::Pass,
        Some("replace") => Decision::Replace(replacement(&object)?),
        Some("refuse") => Decision::Refuse(reason(&object)?),
        _ => return Err(AnswerError::UnknownVerdict),
    };
    let answers = messages(object.member("answer"), |_| Ok(channel.map(Into::into)))?;
    let publications = messages(object.member("publish"), |said| name(said, "channel").map(Some))?;
    Ok(Verdict { decision, answers, publications })
}

fn replacement(verdict: &Object<'_, '_>) -> Result<OwnedPayload, AnswerError> {
    match (verdict.member("payload"), verdict.member("base64")) {
        (Some(payload), None) => Ok(Payload::Json(payload.as_str()).into()),
        (None, Some(text)) => {
            let text = text.as_string().ok_or(AnswerError::WrongBase64)?;
            let bytes = STANDARD.decode(&*text).map_err(|_| AnswerError::WrongBase64)?;
            Ok(Payload::Binary(&bytes).into())
        }
        _ => Err(AnswerError::NoPayload),
    }
}

fn reason(verdict: &Object<'_, '_>) -> Result<Box<str>, AnswerError> {
    let Some(why) = verdict.member("why") else { return Ok(REASON.into()) };
    let why = why.as_string().ok_or(AnswerError::WrongReason)?;
    Ok(why.chars().take(REASON_CHARS).collect())
}

/// Reads a list of messages; a message without `message` has the payload `null`.
fn messages(
    list: Option<Raw<'_>>,
    channel: impl Fn(&Object<'_, '_>) -> Result<Option<Box<str>>, AnswerError>,
) -> Result<Vec<Said>, AnswerError> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let mut scanner = Scanner::new();
    let mut messages = Vec::new();
    for element in json::elements(list.as_str()) {
        let element = element.map_err(|_| AnswerError::WrongMessages)?;
        let Ok(Document::Object(said)) = scanner.scan(element.as_str()) else {
            return Err(AnswerError::WrongMessages);
        };
        if messages.len() == TRIGGER_PUBLICATIONS {
            return Err(AnswerError::WrongMessages);
        }
        let payload = said.member("message").map_or("null", Raw::as_str);
        messages.push(Said {
            channel: channel(&said)?,
            event: name(&said, "event")?,
            payload: Payload::Json(payload).into(),
        });
    }
    Ok(messages)
}

fn name(said: &Object<'_, '_>, member: &str) -> Result<Box<str>, AnswerError> {
    let name = said.member(member).and_then(Raw::as_string).ok_or(AnswerError::WrongName)?;
    if (1..=NAME_BYTES).contains(&name.len()) { Ok((*name).into()) } else { Err(AnswerError::WrongName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &[Option<&str>] = &[Some("room")];

    fn one(body: &str) -> Result<Verdict, AnswerError> {
        let asked = Asked { form: Form::One, channels: ROOM, verdict_bytes: 4096 };
        decode(body.as_bytes(), asked).and_then(|mut verdicts| verdicts.remove(0))
    }

    fn list(body: &str, channels: &[Option<&str>]) -> Result<Vec<Result<Verdict, AnswerError>>, AnswerError> {
        decode(body.as_bytes(), Asked { form: Form::List, channels, verdict_bytes: 4096 })
    }

    #[test]
    fn verdicts_are_read_as_documented() {
        let passed = one("  {\"verdict\":\"pass\",\"more\":1}\n").expect("it is a verdict");
        assert!(matches!(passed.decision, Decision::Pass));
        let replaced = |body| match one(body).expect("it is a verdict").decision {
            Decision::Replace(payload) => payload,
            other => panic!("{other:?}"),
        };
        let payload = replaced(r#"{"verdict":"replace","payload":{"a": 1.0}}"#);
        assert_eq!(payload.view(), Payload::Json(r#"{"a": 1.0}"#));
        assert_eq!(replaced(r#"{"verdict":"replace","payload":null}"#).view(), Payload::NULL);
        let payload = replaced(r#"{"verdict":"replace","base64":"AP8="}"#);
        assert_eq!(payload.view(), Payload::Binary(&[0, 255]));
        let refused = |body| match one(body).expect("it is a verdict").decision {
            Decision::Refuse(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(&*refused(r#"{"verdict":"refuse","why":"n\u006f"}"#), "no");
        assert_eq!(&*refused(r#"{"verdict":"refuse"}"#), REASON);
        let long = format!(r#"{{"verdict":"refuse","why":"{}"}}"#, "é".repeat(501));
        assert_eq!(*refused(&long), "é".repeat(REASON_CHARS));
    }

    #[test]
    fn a_verdict_answers_the_sender_and_publishes() {
        let body = r#"{"verdict":"pass","answer":[{"event":"e","message":1}],
                       "publish":[{"channel":"c","event":"p"},{"channel":"d","event":"q","message":[2]}]}"#;
        let Verdict { answers, publications, .. } = one(body).expect("it is a verdict");
        assert_eq!((answers[0].channel.as_deref(), &*answers[0].event), (Some("room"), "e"));
        let said: Vec<_> = publications.iter().map(|said| (said.channel.as_deref(), &*said.event)).collect();
        assert_eq!(said, [(Some("c"), "p"), (Some("d"), "q")]);
        assert_eq!(publications[0].payload.view(), Payload::NULL);
        assert_eq!(publications[1].payload.view(), Payload::Json("[2]"));
    }

    #[test]
    fn other_answers_are_refused() {
        let many = format!(r#"{{"verdict":"pass","answer":[{}]}}"#, vec![r#"{"event":"e"}"#; 17].join(","));
        let deep = format!(r#"{{"verdict":"replace","payload":{}{}}}"#, "[".repeat(128), "]".repeat(128));
        let large = format!(r#"{{"verdict":"replace","payload":"{}"}}"#, "x".repeat(4096));
        let name = format!(r#"{{"verdict":"pass","answer":[{{"event":"{}"}}]}}"#, "x".repeat(257));
        for (body, error) in [
            ("", AnswerError::NotJson),
            (r#"{"verdict":"pass"}x"#, AnswerError::NotJson),
            (&deep, AnswerError::NotJson),
            ("<html>", AnswerError::NotJson),
            ("1", AnswerError::NoObject),
            (r#"[{"verdict":"pass"}]"#, AnswerError::NoObject),
            ("{}", AnswerError::UnknownVerdict),
            (r#"{"verdicts":[]}"#, AnswerError::UnknownVerdict),
            (r#"{"verdict":"maybe"}"#, AnswerError::UnknownVerdict),
            (r#"{"verdict":1}"#, AnswerError::UnknownVerdict),
            (r#"{"verdict":"replace"}"#, AnswerError::NoPayload),
            (r#"{"verdict":"replace","payload":1,"base64":""}"#, AnswerError::NoPayload),
            (r#"{"verdict":"replace","base64":"A"}"#, AnswerError::WrongBase64),
            (r#"{"verdict":"refuse","why":1}"#, AnswerError::WrongReason),
            (r#"{"verdict":"pass","answer":{}}"#, AnswerError::WrongMessages),
            (r#"{"verdict":"pass","publish":[1]}"#, AnswerError::WrongMessages),
            (&many, AnswerError::WrongMessages),
            (r#"{"verdict":"pass","publish":[{"event":"e"}]}"#, AnswerError::WrongName),
            (r#"{"verdict":"pass","answer":[{"event":""}]}"#, AnswerError::WrongName),
            (&name, AnswerError::WrongName),
            (&large, AnswerError::TooLarge),
        ] {
            assert_eq!(one(body).expect_err(body), error, "{body}");
        }
        let asked = Asked { form: Form::One, channels: ROOM, verdict_bytes: 4096 };
        assert_eq!(decode(b"\"\xff\"", asked).expect_err("no UTF-8"), AnswerError::NotJson);
    }

    #[test]
    fn a_list_has_a_verdict_for_each_event_and_a_wrong_one_fails_alone() {
        let body = r#"{"verdicts":[{"verdict":"pass"},null,{"verdict":"refuse","why":"no"}]}"#;
        let verdicts = list(body, &[Some("a"), None, Some("b")]).expect("it is a list");
        assert!(matches!(verdicts[0], Ok(Verdict { decision: Decision::Pass, .. })));
        assert_eq!(*verdicts[1].as_ref().expect_err("it is null"), AnswerError::NoObject);
        assert!(matches!(&verdicts[2], Ok(Verdict { decision: Decision::Refuse(_), .. })));
        for (body, error) in [
            (r#"{"verdicts":[{"verdict":"pass"}]}"#, AnswerError::WrongCount),
            (r#"{"verdicts":[1,2,3]}"#, AnswerError::WrongCount),
            (r#"{"verdict":"pass"}"#, AnswerError::NoList),
            (r#"{"verdicts":{}}"#, AnswerError::NoList),
            ("[]", AnswerError::NoList),
            ("{", AnswerError::NotJson),
        ] {
            assert_eq!(list(body, &[None, None]).expect_err(body), error, "{body}");
        }
    }
}
