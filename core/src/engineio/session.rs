//! One session: which outlet it has, what is under way, when it ends.
//!
//! ```text
//!                     handle_upgrade            2probe                     5
//!   Polling, no probe ───────────────▶ Waiting ────────▶ Answered ────────────────▶ WebSocket
//!          ▲                              │  ▲              │ │ ▲
//!          └──────────────────────────────┴──│──────────────┘ └─┘ 2probe
//!             any other packet, time-out, end of the probing WebSocket
//!
//!   Open ── close, a poll held, or WebSocket ─────────────────────▶ Closed
//!    │  └── close, no poll held ──▶ Closing ── poll, `5`, time-out ─▶ Closed
//!    └───── a fault of the peer, its close packet, silence ───────▶ Closed
//! ```
//!
//! Until `5` arrives packets go by poll and come by POST; from then on everything goes over the WebSocket,
//! and what was queued for the next poll goes there first. So no packet is lost or sent twice.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::heartbeat::{Beat, Heartbeat};
use super::outbox::Outbox;
use super::{
    CloseReason, Config, Control, Framing, Message, Packet, PacketError, QueueError, RequestError, Transport,
};

/// One client's session. The caller finds it by its sid, which only the caller knows.
///
/// After every call of a `handle_*` method, of [`queue`](Self::queue), [`close`](Self::close) and
/// [`abort`](Self::abort), the caller carries out what [`poll_effect`](Self::poll_effect) yields before it
/// calls another one, and sets its timer to [`deadline_ms`](Self::deadline_ms). Several calls of `queue` may
/// follow one another: a held poll is then answered with all of it.
///
/// ```
/// use std::sync::Arc;
/// use bytes::BytesMut;
/// use fanfare_core::engineio::{Config, Effect, Framing, Message, Packet, Session, Transport};
///
/// let mut session = Session::open(Arc::new(Config::default()), Transport::Polling, 0);
/// session.handle_poll(10)?;
/// assert_eq!(session.poll_effect(), None, "the poll is held");
///
/// let Some(Message::Text(text)) = session.handle_packet(Packet::from_text("4hello"), 20) else { panic!() };
/// let mut packets = BytesMut::new();
/// Framing::Payload.put_text(&mut packets, [text]);
/// session.queue(&packets)?;
/// assert_eq!(session.poll_effect(), Some(Effect::AnswerPoll));
/// assert_eq!(session.take_payload(), "4hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    heartbeat: Heartbeat,
    phase: Phase,
    probe: Probe,
    /// What polling needs: there while the session polls, and until the queue has moved to the WebSocket.
    polling: Option<Box<Polling>>,
    transport: Transport,
    effects: Effects,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The server closed the session; the next poll is told.
    Closing {
        until_ms: u64,
    },
    Closed(CloseReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    Waiting { until_ms: u64 },
    Answered { until_ms: u64 },
}

#[derive(Debug, Default)]
struct Polling {
    poll: Request,
    post: Request,
    outbox: Outbox,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Request {
    #[default]
    None,
    UnderWay,
}

/// What the caller has to do. Each is yielded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Answer the held poll: status 200, [`PAYLOAD_TYPE`](super::PAYLOAD_TYPE), and the body that
    /// [`Session::take_payload`] gives now.
    AnswerPoll,
    /// Close the connection whose POST is arriving. It gets no answer.
    CutPost,
    /// Send [`Control::ProbeAnswer`] on the probing WebSocket.
    AnswerProbe,
    /// Close the probing WebSocket, without a code.
    CloseProbe,
    /// The probing WebSocket is the session's own now. Send on it what [`Session::take_frames`] gives now,
    /// and from now on everything else.
    Upgraded,
    /// Send [`Control::Ping`] on the WebSocket.
    SendPing,
    /// Close the WebSocket, without a code, behind what waits to be sent on it.
    CloseWebSocket,
    /// The session has ended: its sid is unknown from now on.
    Closed(CloseReason),
}

/// Effects that wait to be taken: one bit each, taken in the order of [`Effects::ORDER`].
#[derive(Debug, Clone, Copy, Default)]
struct Effects(u8);

/// The bits of [`Effects`].
#[derive(Debug, Clone, Copy)]
enum Due {
    AnswerPoll,
    CutPost,
    AnswerProbe,
    CloseProbe,
    Upgraded,
    SendPing,
    CloseWebSocket,
    Closed,
}

impl Effects {
    const ORDER: [Due; 8] = [
        Due::AnswerPoll,
        Due::CutPost,
        Due::AnswerProbe,
        Due::CloseProbe,
        Due::Upgraded,
        Due::SendPing,
        Due::CloseWebSocket,
        Due::Closed,
    ];

    fn add(&mut self, due: Due) {
        self.0 |= 1 << due as u8;
    }

    fn take(&mut self) -> Option<Due> {
        let due = Self::ORDER.into_iter().find(|due| self.0 & 1 << *due as u8 != 0)?;
        self.0 &= !(1 << due as u8);
        Some(due)
    }
}

/// What is known of a POST when its head has arrived.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostHead<'a> {
    /// The value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The value of `Content-Length`; `None` if the body is chunked.
    pub content_length: Option<u64>,
}

/// The answer to a WebSocket that names a session. Its handshake succeeds either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpgradeAnswer {
    /// It is the probing WebSocket: its packets are for [`Session::handle_probe`].
    Probe,
    /// The session has a WebSocket already, or is closing: close it at once, without a code.
    Close,
}

impl Session {
    /// A new session. The caller sends the open packet: [`put_open`](super::put_open).
    pub fn open(config: Arc<Config>, transport: Transport, now_ms: u64) -> Self {
        Self {
            heartbeat: Heartbeat::new(&config, now_ms),
            config,
            phase: Phase::Open,
            probe: Probe::None,
            polling: (transport == Transport::Polling).then(Box::default),
            transport,
            effects: Effects::default(),
        }
    }

    /// The configuration that the session was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether messages come and go. A session that is not open never becomes open again.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// How packets travel to the client now. It changes with [`Effect::Upgraded`].
    pub fn framing(&self) -> Framing {
        match self.transport {
            Transport::Polling => Framing::Payload,
            Transport::WebSocket => Framing::Frames,
        }
    }

    /// Bytes that wait for the next poll.
    pub fn queued_bytes(&self) -> usize {
        self.polling.as_ref().map_or(0, |polling| polling.outbox.len())
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; `None` once the session has ended.
    pub fn deadline_ms(&self) -> Option<u64> {
        let phase_ms = match self.phase {
            Phase::Open => self.heartbeat.deadline_ms(),
            Phase::Closing { until_ms } => until_ms,
            Phase::Closed(_) => return None,
        };
        Some(match self.probe {
            Probe::None => phase_ms,
            Probe::Waiting { until_ms } | Probe::Answered { until_ms } => phase_ms.min(until_ms),
        })
    }

    /// The next thing that the caller has to do.
    #[inline]
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.0 == 0 {
            return None;
        }
        Some(match self.effects.take()? {
            Due::AnswerPoll => Effect::AnswerPoll,
            Due::CutPost => Effect::CutPost,
            Due::AnswerProbe => Effect::AnswerProbe,
            Due::CloseProbe => Effect::CloseProbe,
            Due::Upgraded => Effect::Upgraded,
            Due::SendPing => Effect::SendPing,
            Due::CloseWebSocket => Effect::CloseWebSocket,
            Due::Closed => match self.phase {
                Phase::Closed(reason) => Effect::Closed(reason),
                Phase::Open | Phase::Closing { .. } => return None,
            },
        })
    }

    /// The body of the poll's answer, for [`Effect::AnswerPoll`].
    pub fn take_payload(&mut self) -> Bytes {
        self.polling.as_mut().map(|polling| polling.outbox.take()).unwrap_or_default()
    }

    /// Appends to `out` as frames what was queued for the next poll, for [`Effect::Upgraded`].
    pub fn take_frames(&mut self, out: &mut BytesMut) {
        debug_assert!(self.transport == Transport::WebSocket, "a polling session is emptied by polls");
        if let Some(mut polling) = self.polling.take() {
            polling.outbox.take_frames(out);
        }
    }

    /// Queues packets of [`Framing::Payload`] for the held poll, or the next one. Over a WebSocket the caller
    /// sends by itself.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`] beyond [`queue_bytes`](super::Limits::queue_bytes): the caller counts the packets
    /// as lost, or ends the session by [`abort`](Self::abort). [`QueueError::NotPolling`] if the session is
    /// not open, or has upgraded.
    pub fn queue(&mut self, packets: &[u8]) -> Result<(), QueueError> {
        let limit = self.config.limits.queue_bytes;
        match self.polling.as_deref_mut() {
            Some(polling) if self.phase == Phase::Open && self.transport == Transport::Polling => {
                polling.outbox.push(packets, limit)?;
            }
            _ => return Err(QueueError::NotPolling),
        }
        self.answer_poll_if_ready();
        Ok(())
    }

    /// A poll: [`Action::Poll`](super::Action::Poll). It is held until [`Effect::AnswerPoll`].
    ///
    /// # Errors
    ///
    /// [`RequestError::Overlap`] if another poll is held; that one is answered with a close packet, and the
    /// session ends. [`RequestError::BadRequest`] after an upgrade, [`RequestError::UnknownSession`] after
    /// the end.
    pub fn handle_poll(&mut self, now_ms: u64) -> Result<(), RequestError> {
        self.handle_timeout(now_ms);
        let polling = self.polling_mut()?;
        if polling.poll == Request::UnderWay {
            self.end(CloseReason::PollOverlap);
            return Err(RequestError::Overlap);
        }
        polling.poll = Request::UnderWay;
        if matches!(self.probe, Probe::Answered { .. }) && self.queued_bytes() == 0 {
            self.push_control(Control::Noop);
        }
        self.answer_poll_if_ready();
        if matches!(self.phase, Phase::Closing { .. }) {
            self.end(CloseReason::ClosedByServer);
        }
        Ok(())
    }

    /// The head of a POST: [`Action::Post`](super::Action::Post). When its body has arrived, the caller calls
    /// [`handle_post_body`](Self::handle_post_body), hands in the packets one by one, and answers 200 with
    /// [`POST_ANSWER`](super::POST_ANSWER), even if one of them ended the session.
    ///
    /// # Errors
    ///
    /// [`RequestError::Overlap`] while the body of another POST arrives, [`RequestError::BinaryBody`] for a
    /// body of octets: the session ends. [`RequestError::BodyTooLarge`]: it lives on. Else as
    /// [`handle_poll`](Self::handle_poll).
    pub fn handle_post(&mut self, head: PostHead<'_>, now_ms: u64) -> Result<(), RequestError> {
        self.handle_timeout(now_ms);
        let limit = self.config.limits.payload_bytes as u64;
        let polling = self.polling_mut()?;
        if polling.post == Request::UnderWay {
            self.end(CloseReason::PostOverlap);
            return Err(RequestError::Overlap);
        }
        if head.content_type.is_some_and(is_octets) {
            self.end(CloseReason::BinaryBody);
            return Err(RequestError::BinaryBody);
        }
        if head.content_length.is_some_and(|length| length > limit) {
            return Err(RequestError::BodyTooLarge);
        }
        polling.post = Request::UnderWay;
        Ok(())
    }

    /// The body of the POST has arrived as a whole, or was found too large and is answered with
    /// [`RequestError::BodyTooLarge`].
    pub fn handle_post_body(&mut self) {
        if let Some(polling) = &mut self.polling {
            polling.post = Request::None;
        }
    }

    /// The connection of the held poll or of the arriving POST broke. The session ends: what its client has
    /// received is not known.
    pub fn handle_request_cut(&mut self, action: super::Action) {
        let Some(polling) = self.polling.as_deref_mut().filter(|_| self.transport == Transport::Polling)
        else {
            return;
        };
        let request = match action {
            super::Action::Poll => &mut polling.poll,
            super::Action::Post => &mut polling.post,
            super::Action::Upgrade => return self.handle_probe_ended(),
        };
        if std::mem::take(request) == Request::UnderWay {
            self.end(CloseReason::RequestCut);
        }
    }

    /// A packet, or what should have been one, from a POST or from the session's WebSocket. What it carries
    /// for the application is returned; after the end of the session nothing is.
    #[inline]
    pub fn handle_packet<'a>(
        &mut self,
        packet: Result<Packet<'a>, PacketError>,
        now_ms: u64,
    ) -> Option<Message<'a>> {
        if self.phase != Phase::Open {
            return None;
        }
        self.heartbeat.on_packet(&self.config, now_ms);
        match packet {
            Ok(Packet::Text(text)) => return Some(Message::Text(text)),
            Ok(Packet::Binary(bytes)) => return Some(Message::Binary(bytes)),
            Ok(Packet::Pong(_)) => self.heartbeat.on_pong(&self.config, now_ms),
            Ok(Packet::Ping(_)) => self.end(CloseReason::PingFromPeer),
            Ok(Packet::Close) => self.end(CloseReason::ClosedByPeer),
            Ok(Packet::Open(_) | Packet::Upgrade | Packet::Noop) => {}
            Err(error) => self.end(CloseReason::Packet(error)),
        }
        None
    }

    /// The session's WebSocket ended.
    pub fn handle_websocket_ended(&mut self) {
        if self.transport == Transport::WebSocket {
            self.end(CloseReason::WebSocketEnded);
        }
    }

    /// A WebSocket that names this session: [`Action::Upgrade`](super::Action::Upgrade).
    ///
    /// # Errors
    ///
    /// [`RequestError::UnknownSession`] after the end.
    pub fn handle_upgrade(&mut self, now_ms: u64) -> Result<UpgradeAnswer, RequestError> {
        self.handle_timeout(now_ms);
        match self.phase {
            Phase::Closed(_) => Err(RequestError::UnknownSession),
            Phase::Open if self.transport == Transport::Polling && self.probe == Probe::None => {
                let until_ms = now_ms.saturating_add(self.config.upgrade_timeout_ms.into());
                self.probe = Probe::Waiting { until_ms };
                Ok(UpgradeAnswer::Probe)
            }
            Phase::Open | Phase::Closing { .. } => Ok(UpgradeAnswer::Close),
        }
    }

    /// A packet, or what should have been one, from the probing WebSocket (the protocol, "Upgrade"). Any but
    /// the two that an upgrade consists of, in their order, closes that WebSocket, and polling goes on.
    pub fn handle_probe(&mut self, packet: Result<Packet<'_>, PacketError>) {
        match (packet, self.probe) {
            (_, Probe::None) => {}
            (Ok(Packet::Ping("probe")), Probe::Waiting { until_ms } | Probe::Answered { until_ms }) => {
                self.probe = Probe::Answered { until_ms };
                self.effects.add(Due::AnswerProbe);
                self.release_poll(Control::Noop);
            }
            (Ok(Packet::Upgrade), Probe::Answered { .. }) => self.complete_upgrade(),
            (_, Probe::Waiting { .. } | Probe::Answered { .. }) => self.close_probe(),
        }
    }

    /// The probing WebSocket ended before the upgrade was complete.
    pub fn handle_probe_ended(&mut self) {
        self.probe = Probe::None;
    }

    /// Time has passed. May be called at any time, and late.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if let Probe::Waiting { until_ms } | Probe::Answered { until_ms } = self.probe
            && until_ms <= now_ms
        {
            self.close_probe();
        }
        match self.phase {
            Phase::Open => self.beat(now_ms),
            Phase::Closing { until_ms } if until_ms <= now_ms => self.end(CloseReason::ClosedByServer),
            Phase::Closing { .. } | Phase::Closed(_) => {}
        }
    }

    /// The server closes the session; from here on no message comes or goes. What is queued goes out first: a
    /// client that holds no poll learns it from its next one, within
    /// [`close_timeout_ms`](Config::close_timeout_ms).
    pub fn close(&mut self, now_ms: u64) {
        if self.phase != Phase::Open {
            return;
        }
        let holds_poll = self.polling.as_ref().is_some_and(|polling| polling.poll == Request::UnderWay);
        if self.transport == Transport::WebSocket || holds_poll {
            return self.end(CloseReason::ClosedByServer);
        }
        // A probing WebSocket stays: a client that has stopped polling for it would not look for the close.
        self.push_control(Control::Close);
        let until_ms = now_ms.saturating_add(self.config.close_timeout_ms.into());
        self.phase = Phase::Closing { until_ms };
    }

    /// Ends the session at once. What is queued is lost.
    pub fn abort(&mut self, reason: CloseReason) {
        self.end(reason);
    }

    /// Pings, or ends a session whose peer is silent.
    fn beat(&mut self, now_ms: u64) {
        while let Some(beat) = self.heartbeat.due(&self.config, now_ms) {
            match beat {
                Beat::Dead => return self.end(CloseReason::PingTimeout),
                Beat::Ping if self.transport == Transport::WebSocket => self.effects.add(Due::SendPing),
                Beat::Ping => {
                    self.push_control(Control::Ping);
                    self.answer_poll_if_ready();
                }
            }
        }
    }

    /// The polling half, if the session polls.
    fn polling_mut(&mut self) -> Result<&mut Polling, RequestError> {
        match (self.phase, self.transport, self.polling.as_deref_mut()) {
            (Phase::Closed(_), _, _) => Err(RequestError::UnknownSession),
            (_, Transport::Polling, Some(polling)) => Ok(polling),
            _ => Err(RequestError::BadRequest),
        }
    }

    fn push_control(&mut self, control: Control) {
        if let Some(polling) = &mut self.polling {
            polling.outbox.push_control(control);
        }
    }

    /// Has the held poll answered if there is something to answer it with.
    fn answer_poll_if_ready(&mut self) {
        let Some(polling) = &mut self.polling else { return };
        if polling.poll == Request::UnderWay && !polling.outbox.is_empty() {
            polling.poll = Request::None;
            self.effects.add(Due::AnswerPoll);
        }
    }

    /// Has the held poll answered with `control`, behind whatever waits for it.
    fn release_poll(&mut self, control: Control) {
        let Some(polling) = &mut self.polling else { return };
        if polling.poll == Request::UnderWay {
            polling.outbox.push_control(control);
            self.answer_poll_if_ready();
        }
    }

    fn complete_upgrade(&mut self) {
        self.release_poll(Control::Noop);
        self.cut_post();
        self.probe = Probe::None;
        self.transport = Transport::WebSocket;
        self.effects.add(Due::Upgraded);
        if matches!(self.phase, Phase::Closing { .. }) {
            self.end(CloseReason::ClosedByServer);
        }
    }

    fn close_probe(&mut self) {
        if std::mem::replace(&mut self.probe, Probe::None) != Probe::None {
            self.effects.add(Due::CloseProbe);
        }
    }

    fn cut_post(&mut self) {
        if let Some(polling) = &mut self.polling
            && std::mem::take(&mut polling.post) == Request::UnderWay
        {
            self.effects.add(Due::CutPost);
        }
    }

    #[cold]
    fn end(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.phase = Phase::Closed(reason);
        match self.transport {
            Transport::Polling => {
                let last = if reason == CloseReason::ClosedByPeer { Control::Noop } else { Control::Close };
                self.release_poll(last);
                self.cut_post();
            }
            Transport::WebSocket if reason == CloseReason::WebSocketEnded => {}
            Transport::WebSocket => self.effects.add(Due::CloseWebSocket),
        }
        self.close_probe();
        self.effects.add(Due::Closed);
    }
}

/// Whether a content type is `application/octet-stream`, its parameters aside.
fn is_octets(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_over_a_websocket_is_small() {
        assert!(size_of::<Session>() <= 88, "{}", size_of::<Session>());
        let session = Session::open(Arc::default(), Transport::WebSocket, 0);
        assert!(session.polling.is_none());
    }
}
