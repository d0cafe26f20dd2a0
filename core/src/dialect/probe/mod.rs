//! A dialect for tests of the dialect boundary, whose packets are lines of words. Its pushed format has each
//! packet in a WebSocket text frame. Its polled format ends each packet with a semicolon. The dialect has a
//! decoder with state for each session and a heartbeat of its own, but no word for edits, deletions and
//! updates. The tests show that such a dialect needs no code outside the boundary.

#[cfg(not(loom))]
mod tests;

use std::{cell::Cell, collections::HashMap};

use bytes::BytesMut;

use crate::{
    command::{Command, Publish},
    dialect::{Beat, Closing, Format, Heartbeat, Life, Rhythm},
    disconnect::Disconnect,
    error::ReplyError,
    id::SessionSlot,
    publication::{Body, Payload, Publication},
    ws::{Message, OpCode, put_frame},
};

thread_local! {
    /// How many publications this thread has encoded in the polled format.
    static POLLED: Cell<u64> = const { Cell::new(0) };
}

/// How many publications were encoded in the polled format.
#[cfg(not(loom))]
fn polled() -> u64 {
    POLLED.get()
}

/// Each session numbers its packets from 1. One that is out of turn is refused.
#[derive(Default)]
pub(super) struct Sessions(HashMap<SessionSlot, u64>);

/// One packet: `NUMBER VERB [CHANNEL [TEXT]]`.
#[derive(Copy, Clone)]
pub struct Line<'a>(pub(super) &'a str);

impl Sessions {
    pub(super) fn begin(&mut self, slot: SessionSlot) {
        assert_eq!(self.0.insert(slot, 0), None, "the session before it has ended");
    }

    pub(super) fn end(&mut self, slot: SessionSlot) {
        assert!(self.0.remove(&slot).is_some(), "it has begun");
    }

    /// The session has sent its next packet.
    pub(super) fn advance(&mut self, slot: SessionSlot, message: Message<'_>) -> Result<(), ReplyError> {
        let Message::Text(text) = message else { return Ok(()) };
        let last = self.0.get_mut(&slot).expect("the session has begun");
        let number = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        if number != Some(*last + 1) {
            return Err(ReplyError::InvalidCommand("The packet is out of turn."));
        }
        *last += 1;
        Ok(())
    }
}

impl<'a> Line<'a> {
    pub(super) fn id(&self) -> Option<&'a str> {
        self.0.split(' ').next()
    }

    pub(super) fn command(&self) -> Result<Command<'a>, ReplyError> {
        let mut words = self.0.splitn(4, ' ').skip(1);
        let (verb, channel, text) = (words.next(), words.next(), words.next());
        let channel = channel.ok_or(ReplyError::InvalidChannel);
        match (verb, text) {
            (Some("enter"), None) => {
                Ok(Command::Join { channel: channel?, echo: None, since: None, notices: None })
            }
            (Some("exit"), None) => Ok(Command::Leave { channel: channel?, echo: None }),
            (Some("say"), Some(text)) => {
                Ok(Command::Publish(Publish::new(Some(channel?), "say", Payload::Json(text))))
            }
            _ => Err(ReplyError::UnknownCommand),
        }
    }
}

/// The word for an error.
pub(super) fn word(error: ReplyError) -> &'static str {
    match error {
        ReplyError::UnknownCommand => "what?",
        _ => "no",
    }
}

/// Appends a packet of these words.
pub(super) fn put(format: Format, out: &mut BytesMut, words: &[&str]) {
    let packet = words.join(" ");
    match format {
        Format::ProbePoll => {
            out.extend_from_slice(packet.as_bytes());
            out.extend_from_slice(b";");
        }
        _ => put_frame(out, OpCode::Text, packet.as_bytes()),
    }
}

pub(super) fn encode_publication(
    format: Format,
    out: &mut BytesMut,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    if format == Format::ProbePoll {
        POLLED.set(POLLED.get() + 1);
    }
    let channel = channel.unwrap_or("*");
    match publication.body {
        Body::Message { payload: Payload::Json(text), .. } => put(format, out, &[channel, "says", text]),
        Body::MemberJoined(card) => {
            put(format, out, &[channel, "enters", card.user.as_deref().unwrap_or("-")])
        }
        Body::MemberLeft(card) => put(format, out, &[channel, "exits", card.user.as_deref().unwrap_or("-")]),
        // There are no words for these.
        Body::Message { payload: Payload::Binary(_), .. }
        | Body::Edit { .. }
        | Body::Delete
        | Body::MemberUpdated(_)
        | Body::UserJoined(_)
        | Body::UserLeft(_)
        | Body::UserUpdated(_)
        | Body::Worded(_) => {}
    }
}

pub(super) fn heartbeat(format: Format) -> Heartbeat {
    match format {
        Format::ProbePoll => Heartbeat {
            interval_ms: 5_000,
            timeout_ms: 15_000,
            beat: Beat::PollPacket("beat;"),
            life: Life::Request,
            rhythm: Rhythm::Regular,
        },
        _ => Heartbeat {
            interval_ms: 10_000,
            timeout_ms: 40_000,
            beat: Beat::TextFrame("beat"),
            life: Life::AnyInput,
            rhythm: Rhythm::OnSilence,
        },
    }
}

pub(super) fn closing(why: Disconnect) -> Closing {
    match why {
        Disconnect::Restart => Closing { code: 3001, reason: "again" },
        _ => Closing { code: 3000, reason: "over" },
    }
}

/// There are no close frames: a packet says it.
pub(super) fn put_disconnect(format: Format, out: &mut BytesMut, why: Disconnect) {
    put(format, out, &["bye", closing(why).reason]);
}
