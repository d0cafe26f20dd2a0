//! The state of a client that polls, for every dialect with such clients: the output that waits for the next
//! poll, and the requests that are under way.
//!
//! ```text
//!   poll ─▶ handle_poll ─▶ held ─▶ PollEffect::AnswerPoll ─▶ take_answer
//!   POST ─▶ handle_post (its head) ─▶ handle_body ─▶ next_message ─▶ … ─▶ post_answer
//!   WebSocket ─▶ handle_upgrade ─▶ handle_probe ─▶ PollEffect::Upgraded ─▶ take_frames
//!   output of the turn ─▶ queue          time ─▶ handle_timeout
//! ```
//!
//! After every call of a `handle_*` method the shell carries out the effects that [`Polled::poll_effect`]
//! yields. The shell holds the sockets, and an effect names its socket by the socket's role. Another dialect
//! with clients that poll adds a variant to `Client` and an arm to each method that every such client has.
//! The requests of Engine.IO, which only Agnost's clients send, get `400` if they name another client.

use bytes::{Bytes, BytesMut};

use super::{Format, agnost, channelstream};
use crate::{disconnect::Disconnect, secret::Secret, ws::Message};

/// What an HTTP request asks of the session of a client that polls.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Ask {
    /// The request polls for output.
    Poll,
    /// The request posts messages in its body.
    Post,
    /// The request opens a WebSocket to which the session moves.
    Upgrade,
}

/// One thing that the shell has to do for a client that polls. [`Polled::poll_effect`] yields each effect
/// once.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum PollEffect {
    /// Answer the held poll with [`Polled::take_answer`].
    AnswerPoll,
    /// Close the connection whose POST is arriving. It gets no answer.
    CutPost,
    /// Send [`Polled::put_probe_answer`] on the probing WebSocket.
    AnswerProbe,
    /// Close the probing WebSocket.
    CloseProbe,
    /// The probing WebSocket is the client's transport: the shell sends [`Polled::take_frames`] and all later
    /// output there.
    Upgraded,
    /// The client has ended. Its secret names no client any more.
    Ended(Disconnect),
}

/// The HTTP answer to a request.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct PollAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Header fields besides date, content length and connection.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: Bytes,
}

/// The answer to a WebSocket that names a client that polls. The WebSocket handshake succeeds in both cases.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ProbeAnswer {
    /// The messages of the WebSocket are for [`Polled::handle_probe`].
    Probes,
    /// The shell closes the WebSocket at once.
    Close,
}

/// A message in the body of a POST.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Posted<'a> {
    /// A text message, as in a text frame.
    Text(&'a str),
    /// A binary message.
    Binary(Vec<u8>),
}

impl Posted<'_> {
    /// The message in the form of a WebSocket message.
    pub fn message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

/// The times and sizes that all clients that poll are told.
#[derive(Clone)]
pub struct PollConfig {
    agnost: agnost::PollConfig,
}

impl PollConfig {
    /// The configuration with a ping every `ping_interval_ms` and bodies of at most `body_bytes`.
    pub fn new(ping_interval_ms: u64, body_bytes: usize) -> Self {
        Self { agnost: agnost::PollConfig::new(ping_interval_ms, body_bytes) }
    }
}

/// The state of one client that polls.
pub struct Polled(Client);

enum Client {
    /// A client of Agnost or Altogic.
    Agnost(agnost::Polled),
    /// A client of Channelstream, which only polls.
    Channelstream(channelstream::Polled),
}

impl Polled {
    /// The state of a client that came at `now_ms` of a clock that never steps back.
    pub fn new(format: Format, config: &PollConfig, now_ms: u64) -> Self {
        debug_assert_eq!(format, Format::AgnostPackets, "the format's dialect polls");
        Self(Client::Agnost(agnost::Polled::new(&config.agnost, now_ms)))
    }

    /// The state of a client of Channelstream that came at `now_ms`.
    pub fn listening(now_ms: u64) -> Self {
        Self(Client::Channelstream(channelstream::Polled::new(now_ms)))
    }

    /// Holds a poll of a client of Channelstream. Returns the answer to the poll that was held before.
    pub fn handle_listen(&mut self, listening: channelstream::Listening, now_ms: u64) -> Option<PollAnswer> {
        match &mut self.0 {
            Client::Agnost(_) => Some(listening.nothing()),
            Client::Channelstream(polled) => polled.handle_listen(listening, now_ms),
        }
    }

    /// The client that Agnost's requests reach. A request of Agnost's dialect may name the secret of another
    /// dialect's client.
    fn agnost(&self) -> Option<&agnost::Polled> {
        match &self.0 {
            Client::Agnost(polled) => Some(polled),
            Client::Channelstream(_) => None,
        }
    }

    fn agnost_mut(&mut self) -> Option<&mut agnost::Polled> {
        match &mut self.0 {
            Client::Agnost(polled) => Some(polled),
            Client::Channelstream(_) => None,
        }
    }

    /// Notes that the queued output came at `now_ms`.
    pub fn handle_output(&mut self, now_ms: u64) {
        if let Client::Channelstream(polled) = &mut self.0 {
            polled.handle_output(now_ms);
        }
    }

    /// The answer to the client's first request. `secret` names the client in later requests.
    pub fn opening(&self, secret: Secret) -> PollAnswer {
        self.agnost().map_or_else(no_such_request, |polled| polled.opening(secret))
    }

    /// Appends `bytes`, which are whole frames of the client's format, to the queue for the next poll.
    /// Returns how many bytes wait.
    pub fn queue(&mut self, bytes: &[u8]) -> usize {
        match &mut self.0 {
            Client::Agnost(polled) => polled.queue(bytes),
            Client::Channelstream(polled) => polled.queue(bytes),
        }
    }

    /// Bytes that wait for the next poll.
    pub fn queued_bytes(&self) -> usize {
        match &self.0 {
            Client::Agnost(polled) => polled.queued_bytes(),
            Client::Channelstream(polled) => polled.queued_bytes(),
        }
    }

    /// Holds a poll until [`PollEffect::AnswerPoll`].
    ///
    /// # Errors
    /// The answer to a poll that is not held.
    pub fn handle_poll(&mut self, now_ms: u64) -> Result<(), PollAnswer> {
        self.agnost_mut().ok_or_else(no_such_request)?.handle_poll(now_ms)
    }

    /// The answer to the held poll, for [`PollEffect::AnswerPoll`].
    pub fn take_answer(&mut self) -> PollAnswer {
        match &mut self.0 {
            Client::Agnost(polled) => polled.take_answer(),
            Client::Channelstream(polled) => polled.take_answer(),
        }
    }

    /// The head of a POST: its `Content-Type`, and its `Content-Length` unless it is chunked.
    ///
    /// # Errors
    /// The answer, if its body is not to be read.
    pub fn handle_post(
        &mut self,
        content_type: Option<&[u8]>,
        content_length: Option<u64>,
        now_ms: u64,
    ) -> Result<(), PollAnswer> {
        let polled = self.agnost_mut().ok_or_else(no_such_request)?;
        polled.handle_post(content_type, content_length, now_ms)
    }

    /// Answers a request that came while the messages of another request's body wait.
    pub fn handle_overlap(&mut self) -> PollAnswer {
        self.agnost_mut().map_or_else(no_such_request, agnost::Polled::handle_overlap)
    }

    /// Handles the body of the POST. [`Polled::next_message`] returns the messages of the body.
    pub fn handle_body(&mut self, body: &[u8], now_ms: u64) {
        if let Some(polled) = self.agnost_mut() {
            polled.handle_body(body, now_ms);
        }
    }

    /// Handles a POST whose body is too long. Returns the answer.
    pub fn handle_long_body(&mut self) -> PollAnswer {
        self.agnost_mut().map_or_else(no_such_request, agnost::Polled::handle_long_body)
    }

    /// Reads the next message of a body at `at`, and moves `at` behind the message; `None` at the end of the
    /// body.
    pub fn next_message<'b>(&mut self, body: &'b [u8], at: &mut usize, now_ms: u64) -> Option<Posted<'b>> {
        self.agnost_mut()?.next_message(body, at, now_ms)
    }

    /// The answer to a POST whose messages were handled.
    pub fn post_answer(&self) -> PollAnswer {
        self.agnost().map_or_else(no_such_request, agnost::Polled::post_answer)
    }

    /// Handles a WebSocket that names the client.
    ///
    /// # Errors
    /// The answer to a handshake that fails.
    pub fn handle_upgrade(&mut self, now_ms: u64) -> Result<ProbeAnswer, PollAnswer> {
        self.agnost_mut().ok_or_else(no_such_request)?.handle_upgrade(now_ms)
    }

    /// Whether a message of the probing WebSocket would complete the upgrade. The shell queues all earlier
    /// output before it handles such a message.
    pub fn would_upgrade(&self, message: Message<'_>) -> bool {
        self.agnost().is_some_and(|polled| polled.would_upgrade(message))
    }

    /// Handles a message of the probing WebSocket.
    pub fn handle_probe(&mut self, message: Message<'_>) {
        if let Some(polled) = self.agnost_mut() {
            polled.handle_probe(message);
        }
    }

    /// Appends the answer to a probe, for [`PollEffect::AnswerProbe`].
    pub fn put_probe_answer(&self, out: &mut BytesMut) {
        if let Some(polled) = self.agnost() {
            polled.put_probe_answer(out);
        }
    }

    /// Appends the output that waits, in the client's format over a WebSocket. Returns that format.
    pub fn take_frames(&mut self, out: &mut BytesMut) -> Format {
        match &mut self.0 {
            Client::Agnost(polled) => polled.take_frames(out),
            Client::Channelstream(_) => Format::ChannelstreamFrames,
        }
    }

    /// Handles the loss of the connection of a request that is under way.
    pub fn handle_cut(&mut self, what: Ask) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_cut(what),
            Client::Channelstream(polled) => polled.handle_cut(),
        }
    }

    /// Handles the passage of time. The shell may call this method at any time, also late.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_timeout(now_ms),
            Client::Channelstream(polled) => polled.handle_timeout(now_ms),
        }
    }

    /// When [`Polled::handle_timeout`] has to be called next; `None` if the client has ended.
    pub fn deadline_ms(&self) -> Option<u64> {
        match &self.0 {
            Client::Agnost(polled) => polled.deadline_ms(),
            Client::Channelstream(polled) => polled.deadline_ms(),
        }
    }

    /// Ends the client for the server. The queued output is sent first.
    pub fn close(&mut self, now_ms: u64) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.close(now_ms),
            Client::Channelstream(polled) => polled.close(),
        }
    }

    /// The next effect that the shell has to carry out.
    pub fn poll_effect(&mut self) -> Option<PollEffect> {
        match &mut self.0 {
            Client::Agnost(polled) => polled.poll_effect(),
            Client::Channelstream(polled) => polled.poll_effect(),
        }
    }
}

/// The answer to a request that the client's dialect does not have.
fn no_such_request() -> PollAnswer {
    PollAnswer { status: 400, headers: &[], body: Bytes::new() }
}

/// The answer to a request that names a client whose upgrade is complete.
pub fn upgraded_answer(format: Format) -> PollAnswer {
    debug_assert_eq!(format.dialect(), super::Dialect::Agnost, "the format's dialect upgrades");
    agnost::upgraded_answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_dialect_is_refused_and_changes_nothing() {
        let mut polled = Polled::listening(0);
        let waiting = polled.queue(b"{}\n");
        let refused = no_such_request();
        assert_eq!(polled.handle_poll(1), Err(refused.clone()));
        assert_eq!(polled.handle_post(None, Some(1), 1), Err(refused.clone()));
        assert_eq!(polled.handle_upgrade(1), Err(refused.clone()));
        assert_eq!(polled.next_message(b"42[\"a\"]", &mut 0, 1), None);
        for answer in [polled.handle_overlap(), polled.handle_long_body(), polled.post_answer()] {
            assert_eq!(answer, refused);
        }
        assert_eq!((polled.queued_bytes(), polled.poll_effect()), (waiting, None));
    }
}
