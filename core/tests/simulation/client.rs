//! The client's end of a session: reads what it received, in order, into answers and publications.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::checker::{Key, Kind, Peer, Seen};
use fanfare_core::ws::{DecodeLimits, Decoder, Message, Role};

const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 1 << 24, fragments: 1 };

/// The sender of what a back end publishes on the first worker; on the next it is one less, and so on.
pub(crate) const BACK_END: Peer = Peer::MAX;

/// Anything the server sends, by the members it may have.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    welcome: Option<&'a str>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Payload<'a>>,
    offset: Option<u64>,
    id: Option<u64>,
    #[serde(borrow)]
    ok: Option<Okay<'a>>,
    #[serde(borrow)]
    error: Option<Failure<'a>>,
    #[serde(borrow)]
    gap: Option<Gap<'a>>,
}

/// A message of the simulation's, a member, or bytes as base64.
#[derive(Deserialize, Default)]
struct Payload<'a> {
    app: Option<u32>,
    sender: Option<Peer>,
    number: Option<u32>,
    id: Option<&'a str>,
    data: Option<u32>,
    base64: Option<&'a str>,
}

/// The object of an event of Agnost's dialect.
#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Payload<'a>,
}

#[derive(Deserialize)]
struct Okay<'a> {
    joined: Option<bool>,
    #[serde(borrow)]
    members: Option<&'a RawValue>,
    epoch: Option<&'a str>,
    offset: Option<u64>,
    left: Option<bool>,
    message_id: Option<&'a str>,
    total: Option<usize>,
    next: Option<&'a str>,
    time_ms: Option<u64>,
    user: Option<&'a str>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Gap<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    missed: u64,
}

/// An entry of a members page.
#[derive(Deserialize)]
struct Listed {
    id: String,
}

/// What came of a command, as its sender reads it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    Joined { joined: bool, members: usize, offset: u64, epoch: String },
    Left(bool),
    Sent(Option<u64>),
    Members { total: usize, next: Option<String>, ids: Vec<String> },
    Pong,
    Session,
    Updated,
    Error(String),
}

/// What a client received, in its order.
#[derive(Debug)]
pub(crate) enum Received {
    Welcome(String),
    /// Of a channel, or a broadcast.
    Publication {
        channel: Option<String>,
        seen: Seen,
    },
    Answer {
        id: Option<u64>,
        answer: Answer,
    },
    Gap {
        channel: Option<String>,
        missed: u64,
    },
}

/// Who is who, by session id: the peer and its app.
pub(crate) type Directory = HashMap<String, (Peer, u32)>;

/// Reads whole frames; a publication of another app than `app` is an error.
pub(crate) fn read(bytes: &mut [u8], app: u32, directory: &Directory) -> Result<VecDeque<Received>, String> {
    let mut decoder = Decoder::new();
    let (mut at, mut received) = (0, VecDeque::new());
    // The text of an event whose bytes follow.
    let mut event: Option<String> = None;
    loop {
        let decoded =
            decoder.decode(&mut bytes[at..], Role::Client, LIMITS).map_err(|e| format!("frame: {e:?}"))?;
        at += decoded.consumed;
        match decoded.message {
            None => return Ok(received),
            Some(Message::Text(text)) if text.starts_with("451-") => event = Some(text[4..].into()),
            Some(Message::Text(text)) if text.starts_with("42") => {
                received.push_back(read_event(&text[2..], None, app, directory)?);
            }
            Some(Message::Binary(bytes)) if event.is_some() => {
                let event = event.take().expect("there is one");
                received.push_back(read_event(&event, Some(bytes), app, directory)?);
            }
            Some(Message::Text(text)) => received.push_back(read_frame(text, None, app, directory)?),
            Some(Message::Binary(bytes)) => {
                let (length, rest) = bytes.split_first_chunk::<2>().ok_or("no length")?;
                let (envelope, payload) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
                let envelope = std::str::from_utf8(envelope).map_err(|e| e.to_string())?;
                received.push_back(read_frame(envelope, Some(payload), app, directory)?);
            }
            Some(other) => return Err(format!("the engine sends no {other:?}")),
        }
    }
}

fn read_frame(
    text: &str,
    payload: Option<&[u8]>,
    app: u32,
    directory: &Directory,
) -> Result<Received, String> {
    let frame: Frame<'_> = serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))?;
    if let Some(welcome) = frame.welcome {
        return Ok(Received::Welcome(welcome.into()));
    }
    if let Some(gap) = frame.gap {
        return Ok(Received::Gap { channel: gap.channel.map(Cow::into_owned), missed: gap.missed });
    }
    if let Some(event) = frame.event {
        let message = frame.message.unwrap_or_default();
        let decoded = match message.base64 {
            Some(text) => STANDARD.decode(text).map_err(|e| e.to_string())?,
            None => payload.unwrap_or_default().to_vec(),
        };
        let message = match decoded.is_empty() {
            true => message,
            false => serde_json::from_slice(&decoded).map_err(|e| format!("payload: {e}"))?,
        };
        let key = read_key(&event, &message, app, directory).ok_or_else(|| format!("audience: {text}"))?;
        let channel = frame.channel.map(Cow::into_owned);
        return Ok(Received::Publication { channel, seen: Seen { key, offset: frame.offset } });
    }
    let answer = match (frame.ok, frame.error) {
        (Some(ok), None) => read_ok(ok),
        (None, Some(error)) => Some(Answer::Error(error.code.into_owned())),
        _ => None,
    };
    Ok(Received::Answer { id: frame.id, answer: answer.ok_or_else(|| format!("what is {text}"))? })
}

/// Reads an event of Agnost's dialect.
fn read_event(
    text: &str,
    payload: Option<&[u8]>,
    app: u32,
    directory: &Directory,
) -> Result<Received, String> {
    let (name, content): (Cow<'_, str>, Content<'_>) =
        serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))?;
    let message = match payload {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|e| format!("payload: {e}"))?,
        None => content.message,
    };
    let key = read_key(&name, &message, app, directory).ok_or_else(|| format!("audience: {text}"))?;
    Ok(Received::Publication {
        channel: content.channel.map(Cow::into_owned),
        seen: Seen { key, offset: None },
    })
}

fn read_key(event: &str, payload: &Payload<'_>, app: u32, directory: &Directory) -> Option<Key> {
    let kind = match event {
        "channel:join" => Kind::Join,
        "channel:leave" => Kind::Leave,
        "channel:update" => Kind::Update,
        _ if payload.app == Some(app) => {
            return Some(Key::Message { sender: payload.sender?, number: payload.number? });
        }
        _ => return None,
    };
    let &(peer, of) = directory.get(payload.id?)?;
    (of == app).then_some(Key::Notice { kind, peer, profile: payload.data.unwrap_or(0) })
}

fn read_ok(ok: Okay<'_>) -> Option<Answer> {
    Some(if let Some(joined) = ok.joined {
        let members = ok.members?.get().parse().ok()?;
        Answer::Joined { joined, members, offset: ok.offset?, epoch: ok.epoch?.into() }
    } else if let Some(left) = ok.left {
        Answer::Left(left)
    } else if ok.message_id.is_some() {
        Answer::Sent(ok.offset)
    } else if let Some(total) = ok.total {
        let listed: Vec<Listed> = serde_json::from_str(ok.members?.get()).ok()?;
        let ids = listed.into_iter().map(|member| member.id).collect();
        Answer::Members { total, next: ok.next.map(Into::into), ids }
    } else if ok.time_ms.is_some() {
        Answer::Pong
    } else if ok.user.is_some() {
        Answer::Session
    } else {
        Answer::Updated
    })
}
