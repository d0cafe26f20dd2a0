//! A driver of one Engine.IO session with a virtual clock: it does to its sockets what the session says,
//! writes down what leaves them, and sends every message back.

// Each test file uses its own part.
#![allow(dead_code, unreachable_pub, reason = "a module shared by several tests")]

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::engineio::{
    Action, Config, Control, Effect, Framing, Limits, Message, Packet, Payload, PostHead, QueueError,
    RequestError, Session, Transport, UpgradeAnswer,
};
use fanfare_core::ws::{DecodeLimits, Decoder, Message as Frame, Role};

/// The times of the official suite.
pub fn config() -> Config {
    let limits = Limits { payload_bytes: 1000, packets: 100, queue_bytes: 400 };
    Config {
        ping_interval_ms: 300,
        ping_timeout_ms: 200,
        upgrade_timeout_ms: 1000,
        close_timeout_ms: 3000,
        limits,
    }
}

/// A session and what is known of its sockets.
pub struct Peer {
    pub session: Session,
    pub now_ms: u64,
    /// What left the server since it was last asked for, in order.
    out: Vec<String>,
    /// Messages that the session gave out.
    pub received: Vec<String>,
}

impl Peer {
    pub fn open(transport: Transport) -> Self {
        let session = Session::open(Arc::new(config()), transport, 0);
        Self { session, now_ms: 0, out: Vec::new(), received: Vec::new() }
    }

    /// A session whose probing WebSocket has been answered.
    pub fn probing() -> Self {
        let mut peer = Self::open(Transport::Polling);
        assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe));
        assert_eq!(peer.probe("2probe"), ["probe: 3probe"]);
        peer
    }

    /// A session that has upgraded.
    pub fn upgraded() -> Self {
        let mut peer = Self::probing();
        assert_eq!(peer.probe("5"), ["upgraded"]);
        peer
    }

    /// What has left since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out)
    }

    /// Time passes, deadline by deadline.
    pub fn pass(&mut self, ms: u64) -> Vec<String> {
        let until_ms = self.now_ms + ms;
        while let Some(deadline_ms) =
            self.session.deadline_ms().filter(|deadline_ms| *deadline_ms <= until_ms)
        {
            assert!(deadline_ms >= self.now_ms, "a deadline in the past");
            self.now_ms = deadline_ms;
            self.session.handle_timeout(deadline_ms);
            self.carry_out();
        }
        self.now_ms = until_ms;
        self.take()
    }

    pub fn poll(&mut self) -> Result<Vec<String>, RequestError> {
        let outcome = self.session.handle_poll(self.now_ms);
        self.carry_out();
        outcome.map(|()| self.take())
    }

    pub fn post_head(&mut self, head: PostHead<'_>) -> Result<(), RequestError> {
        let outcome = self.session.handle_post(head, self.now_ms);
        self.carry_out();
        outcome
    }

    /// A whole POST.
    pub fn post(&mut self, body: &str) -> Result<Vec<String>, RequestError> {
        self.post_head(PostHead::default())?;
        Ok(self.post_body(body.as_bytes()))
    }

    pub fn post_body(&mut self, body: &[u8]) -> Vec<String> {
        self.session.handle_post_body();
        for packet in Payload::new(body, config().limits) {
            let message = self.session.handle_packet(packet, self.now_ms);
            self.answer(message);
        }
        self.take()
    }

    /// Packets whose messages are not sent back.
    pub fn hand_in(&mut self, body: &str) -> Vec<String> {
        self.session.handle_post_body();
        for packet in Payload::new(body.as_bytes(), config().limits) {
            drop(self.session.handle_packet(packet, self.now_ms));
            self.carry_out();
        }
        self.take()
    }

    pub fn cut(&mut self, action: Action) -> Vec<String> {
        self.session.handle_request_cut(action);
        self.carry_out();
        self.take()
    }

    pub fn upgrade(&mut self) -> Result<UpgradeAnswer, RequestError> {
        let outcome = self.session.handle_upgrade(self.now_ms);
        self.carry_out();
        outcome
    }

    /// A text frame on the probing WebSocket.
    pub fn probe(&mut self, text: &str) -> Vec<String> {
        self.session.handle_probe(Packet::from_text(text));
        self.carry_out();
        self.take()
    }

    /// A text frame on the session's WebSocket.
    pub fn frame(&mut self, text: &str) -> Vec<String> {
        let message = self.session.handle_packet(Packet::from_text(text), self.now_ms);
        self.answer(message);
        self.take()
    }

    pub fn binary_frame(&mut self, bytes: &[u8]) -> Vec<String> {
        let message = self.session.handle_packet(Ok(Packet::from_binary(bytes)), self.now_ms);
        self.answer(message);
        self.take()
    }

    /// The server sends text.
    pub fn send(&mut self, text: &str) -> Result<Vec<String>, QueueError> {
        let mut out = BytesMut::new();
        self.session.framing().put_text(&mut out, [text]);
        self.write(&out)?;
        Ok(self.take())
    }

    pub fn close(&mut self) -> Vec<String> {
        self.session.close(self.now_ms);
        self.carry_out();
        self.take()
    }

    fn answer(&mut self, message: Option<Message<'_>>) {
        self.carry_out();
        let Some(message) = message else { return };
        let (mut out, framing) = (BytesMut::new(), self.session.framing());
        match message {
            Message::Text(text) => {
                framing.put_text(&mut out, [text]);
                self.received.push(text.to_owned());
            }
            Message::Binary(bytes) => {
                framing.put_binary(&mut out, &bytes);
                self.received.push(format!("{bytes:?}"));
            }
        }
        self.write(&out).expect("the tests' messages fit");
    }

    fn write(&mut self, packets: &[u8]) -> Result<(), QueueError> {
        match self.session.framing() {
            Framing::Payload => self.session.queue(packets)?,
            Framing::Frames => self.out.extend(frames(packets)),
        }
        self.carry_out();
        Ok(())
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::AnswerPoll => {
                    let payload = self.session.take_payload();
                    let text = std::str::from_utf8(&payload).expect("a payload is text");
                    self.out.push(format!("poll: {}", text.replace('\u{1e}', "|")));
                }
                Effect::CutPost => self.out.push("post cut".into()),
                Effect::AnswerProbe => {
                    let mut out = BytesMut::new();
                    Framing::Frames.put_control(&mut out, Control::ProbeAnswer);
                    self.out.extend(frames(&out).into_iter().map(|frame| frame.replace("frame", "probe")));
                }
                Effect::CloseProbe => self.out.push("probe closed".into()),
                Effect::Upgraded => {
                    let mut out = BytesMut::new();
                    self.session.take_frames(&mut out);
                    self.out.push("upgraded".into());
                    self.out.extend(frames(&out));
                }
                Effect::SendPing => {
                    let mut out = BytesMut::new();
                    Framing::Frames.put_control(&mut out, Control::Ping);
                    self.out.extend(frames(&out));
                }
                Effect::CloseWebSocket => self.out.push("websocket closed".into()),
                Effect::Closed(reason) => self.out.push(format!("ended: {reason:?}")),
            }
        }
    }
}

/// What a client reads from `bytes`.
pub fn frames(bytes: &[u8]) -> Vec<String> {
    let (mut bytes, mut decoder, mut read) = (bytes.to_vec(), Decoder::new(), Vec::new());
    let mut rest = &mut bytes[..];
    loop {
        let limits = DecodeLimits { message_bytes: 1 << 20, fragments: 1 };
        let decoded = decoder.decode(rest, Role::Client, limits).expect("well-formed frames");
        let consumed = decoded.consumed;
        match decoded.message {
            Some(Frame::Text(text)) => read.push(format!("frame: {text}")),
            Some(Frame::Binary(bytes)) => read.push(format!("frame: {bytes:?}")),
            Some(other) => panic!("{other:?}"),
            None => return read,
        }
        rest = &mut rest[consumed..];
    }
}
