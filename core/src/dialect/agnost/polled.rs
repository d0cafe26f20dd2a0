//! Agnost's clients that poll: an Engine.IO session behind the interface of the dialect boundary.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{heartbeat, life::engine_config};
use crate::{
    dialect::{Ask, Format, PollAnswer, PollEffect, Posted, ProbeAnswer},
    disconnect::Disconnect,
    engineio::{
        Action, CloseReason, Config, Control, Effect, Framing, Limits, Packet, PacketError, Payload,
        PostHead, RequestError, Session, Transport, UpgradeAnswer, Upgrades, put_open,
    },
    secret::Secret,
    ws::Message,
};

/// Header fields of an answer. The server adds the CORS fields to every answer.
const PLAIN: &[(&str, &str)] = &[];
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const PACKETS: &[(&str, &str)] =
    &[("cache-control", "no-store"), ("content-type", "text/plain; charset=UTF-8")];
const TAKEN: &[(&str, &str)] = &[("cache-control", "no-store"), ("content-type", "text/html")];

/// Times and sizes that all sessions of a server share.
#[derive(Clone)]
pub(in crate::dialect) struct PollConfig(Arc<Config>);

impl PollConfig {
    /// The configuration with a ping at least every `ping_interval_ms` and bodies of at most `body_bytes`.
    pub(in crate::dialect) fn new(ping_interval_ms: u64, body_bytes: usize) -> Self {
        let mut config = engine_config(heartbeat(ping_interval_ms), body_bytes);
        // The engine bounds a session's queue, as it does over a WebSocket.
        config.limits = Limits { queue_bytes: usize::MAX, ..config.limits };
        Self(Arc::new(config))
    }
}

/// The state of a client that polls.
pub(in crate::dialect) struct Polled {
    engine: Session,
}

impl From<RequestError> for PollAnswer {
    fn from(error: RequestError) -> Self {
        let headers = if error.content_type().is_some() { JSON } else { PLAIN };
        Self { status: error.status(), headers, body: Bytes::from_static(error.body().as_bytes()) }
    }
}

/// The answer to a request that names a client whose upgrade is complete.
pub(in crate::dialect) fn upgraded_answer() -> PollAnswer {
    RequestError::BadRequest.into()
}

impl Polled {
    pub(in crate::dialect) fn new(config: &PollConfig, now_ms: u64) -> Self {
        Self { engine: Session::open(config.0.clone(), Transport::Polling, now_ms) }
    }

    pub(in crate::dialect) fn opening(&self, secret: Secret) -> PollAnswer {
        let sid = secret.text();
        let sid = std::str::from_utf8(&sid).expect("a secret's text is ASCII");
        let mut packet = BytesMut::new();
        put_open(&mut packet, Framing::Payload, sid, Upgrades::WebSocket, self.engine.config());
        PollAnswer { status: 200, headers: PACKETS, body: packet.freeze().slice(1..) }
    }

    pub(in crate::dialect) fn queue(&mut self, bytes: &[u8]) -> usize {
        // A closing session drops further output.
        let _is_queued = self.engine.queue(bytes).is_ok();
        self.engine.queued_bytes()
    }

    pub(in crate::dialect) fn queued_bytes(&self) -> usize {
        self.engine.queued_bytes()
    }

    pub(in crate::dialect) fn handle_poll(&mut self, now_ms: u64) -> Result<(), PollAnswer> {
        Ok(self.engine.handle_poll(now_ms)?)
    }

    pub(in crate::dialect) fn take_answer(&mut self) -> PollAnswer {
        PollAnswer { status: 200, headers: PACKETS, body: self.engine.take_payload() }
    }

    pub(in crate::dialect) fn handle_post(
        &mut self,
        content_type: Option<&[u8]>,
        content_length: Option<u64>,
        now_ms: u64,
    ) -> Result<(), PollAnswer> {
        Ok(self.engine.handle_post(PostHead { content_type, content_length }, now_ms)?)
    }

    pub(in crate::dialect) fn handle_overlap(&mut self) -> PollAnswer {
        self.engine.abort(CloseReason::PostOverlap);
        RequestError::Overlap.into()
    }

    /// Handles the body of a POST. A body with too many packets ends the session, and no packet of the body
    /// is handled.
    pub(in crate::dialect) fn handle_body(&mut self, body: &[u8], now_ms: u64) {
        self.engine.handle_post_body();
        if memchr::memchr_iter(SEPARATOR, body).count() >= self.engine.config().limits.packets {
            self.engine.handle_packet(Err(PacketError::TooManyPackets), now_ms);
        }
    }

    pub(in crate::dialect) fn handle_long_body(&mut self) -> PollAnswer {
        self.engine.handle_post_body();
        RequestError::BodyTooLarge.into()
    }

    /// Handles packets that have no message for the application, up to the next message.
    pub(in crate::dialect) fn next_message<'b>(
        &mut self,
        body: &'b [u8],
        at: &mut usize,
        now_ms: u64,
    ) -> Option<Posted<'b>> {
        let limits = self.engine.config().limits;
        while *at <= body.len() && self.engine.is_open() {
            let rest = &body[*at..];
            let end = memchr::memchr(SEPARATOR, rest).unwrap_or(rest.len());
            *at += end + 1;
            let packet = Payload::new(&rest[..end], limits).next()?;
            let text = std::str::from_utf8(&rest[..end]).unwrap_or_default();
            match self.engine.handle_packet(packet, now_ms) {
                Some(crate::engineio::Message::Text(_)) => return Some(Posted::Text(text)),
                Some(crate::engineio::Message::Binary(bytes)) => {
                    return Some(Posted::Binary(bytes.into_owned()));
                }
                None => {}
            }
        }
        None
    }

    pub(in crate::dialect) fn post_answer(&self) -> PollAnswer {
        PollAnswer { status: 200, headers: TAKEN, body: Bytes::from_static(b"ok") }
    }

    pub(in crate::dialect) fn handle_upgrade(&mut self, now_ms: u64) -> Result<ProbeAnswer, PollAnswer> {
        Ok(match self.engine.handle_upgrade(now_ms)? {
            UpgradeAnswer::Probe => ProbeAnswer::Probes,
            UpgradeAnswer::Close => ProbeAnswer::Close,
        })
    }

    pub(in crate::dialect) fn would_upgrade(&self, message: Message<'_>) -> bool {
        matches!(message, Message::Text(text) if text.starts_with('5'))
    }

    pub(in crate::dialect) fn handle_probe(&mut self, message: Message<'_>) {
        match message {
            Message::Text(text) => self.engine.handle_probe(Packet::from_text(text)),
            Message::Binary(bytes) => self.engine.handle_probe(Ok(Packet::from_binary(bytes))),
            _ => {}
        }
    }

    pub(in crate::dialect) fn put_probe_answer(&self, out: &mut BytesMut) {
        Framing::Frames.put_control(out, Control::ProbeAnswer);
    }

    pub(in crate::dialect) fn take_frames(&mut self, out: &mut BytesMut) -> Format {
        self.engine.take_frames(out);
        Format::AgnostFrames
    }

    pub(in crate::dialect) fn handle_cut(&mut self, what: Ask) {
        self.engine.handle_request_cut(match what {
            Ask::Poll => Action::Poll,
            Ask::Post => Action::Post,
            Ask::Upgrade => Action::Upgrade,
        });
    }

    pub(in crate::dialect) fn handle_timeout(&mut self, now_ms: u64) {
        self.engine.handle_timeout(now_ms);
    }

    pub(in crate::dialect) fn deadline_ms(&self) -> Option<u64> {
        self.engine.deadline_ms()
    }

    pub(in crate::dialect) fn close(&mut self, now_ms: u64) {
        self.engine.close(now_ms);
    }

    pub(in crate::dialect) fn poll_effect(&mut self) -> Option<PollEffect> {
        Some(match self.engine.poll_effect()? {
            Effect::AnswerPoll => PollEffect::AnswerPoll,
            Effect::CutPost => PollEffect::CutPost,
            Effect::AnswerProbe => PollEffect::AnswerProbe,
            Effect::CloseProbe => PollEffect::CloseProbe,
            Effect::Upgraded => PollEffect::Upgraded,
            // After the upgrade the shell pings and closes the WebSocket as any other WebSocket.
            Effect::SendPing | Effect::CloseWebSocket => return self.poll_effect(),
            Effect::Closed(reason) => PollEffect::Ended(why(reason)),
        })
    }
}

/// The character between two packets.
const SEPARATOR: u8 = 0x1E;

fn why(reason: CloseReason) -> Disconnect {
    match reason {
        CloseReason::PingTimeout => Disconnect::PingTimeout,
        CloseReason::Packet(_)
        | CloseReason::PingFromPeer
        | CloseReason::PollOverlap
        | CloseReason::PostOverlap
        | CloseReason::BinaryBody => Disconnect::BrokenDialect,
        CloseReason::SlowConsumer => Disconnect::SlowConsumer,
        CloseReason::RequestCut
        | CloseReason::WebSocketEnded
        | CloseReason::ClosedByPeer
        | CloseReason::ClosedByServer => Disconnect::PeerGone,
    }
}
