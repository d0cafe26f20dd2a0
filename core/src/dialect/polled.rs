//! What a dialect keeps of a client that polls: what waits for its next poll, and which requests are under
//! way.
//!
//! ```text
//!   poll ─▶ handle_poll ─▶ held ─▶ PollEffect::AnswerPoll ─▶ take_answer
//!   POST ─▶ handle_post (its head) ─▶ handle_body ─▶ next_message ─▶ … ─▶ post_answer
//!   WebSocket ─▶ handle_upgrade ─▶ handle_probe ─▶ PollEffect::Upgraded ─▶ take_frames
//!   output of the turn ─▶ queue          time ─▶ handle_timeout
//! ```
//!
//! After every call of a `handle_*` method the shell carries out what [`Polled::poll_effect`] yields. It
//! holds the sockets; effects name them by what they do. Another dialect whose clients poll is a variant of
//! `Client` and an arm in each method.

use bytes::{Bytes, BytesMut};

use super::{Format, agnost, channelstream};
use crate::{disconnect::Disconnect, secret::Secret, ws::Message};

/// What a request asks of a session that its client polls.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Ask {
    /// What waits for it.
    Poll,
    /// To take the messages in the body.
    Post,
    /// To go on over the WebSocket that the request opens.
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
    /// The probing WebSocket is the client's own: [`Polled::take_frames`] and all that follows go there.
    Upgraded,
    /// The client is gone, and its name with it.
    Ended(Disconnect),
}

/// The answer to a request.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct PollAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Header fields besides date, length and connection.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: Bytes,
}

/// The answer to a WebSocket that names a session. Its handshake succeeds either way.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ProbeAnswer {
    /// Its messages are for [`Polled::handle_probe`].
    Probes,
    /// It is to be closed at once.
    Close,
}

/// A message of a POST.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Posted<'a> {
    /// Text, as a text frame would have it.
    Text(&'a str),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Posted<'_> {
    /// The same, as if it had come in a WebSocket.
    pub fn message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

/// What all clients that poll are told of times and sizes.
#[derive(Clone)]
pub struct PollConfig {
    agnost: agnost::PollConfig,
}

impl PollConfig {
    /// Pings every `ping_interval_ms`, bodies of at most `body_bytes`.
    pub fn new(ping_interval_ms: u64, body_bytes: usize) -> Self {
        Self { agnost: agnost::PollConfig::new(ping_interval_ms, body_bytes) }
    }
}

/// One client that polls.
pub struct Polled(Client);

enum Client {
    /// Of Agnost or Altogic.
    Agnost(agnost::Polled),
    /// Of Channelstream. It sends nothing but polls.
    Channelstream(channelstream::Polled),
}

impl Polled {
    /// A client that has come at `now_ms` of a clock that never steps back.
    pub fn new(format: Format, config: &PollConfig, now_ms: u64) -> Self {
        debug_assert_eq!(format, Format::AgnostPackets, "the format's dialect polls");
        Self(Client::Agnost(agnost::Polled::new(&config.agnost, now_ms)))
    }

    /// A client of Channelstream that has come at `now_ms`.
    pub fn listening(now_ms: u64) -> Self {
        Self(Client::Channelstream(channelstream::Polled::new(now_ms)))
    }

    /// A poll of a client of Channelstream, which is held. Returns the answer to the one held before.
    pub fn handle_listen(&mut self, listening: channelstream::Listening, now_ms: u64) -> Option<PollAnswer> {
        match &mut self.0 {
            Client::Agnost(_) => Some(listening.nothing()),
            Client::Channelstream(polled) => polled.handle_listen(listening, now_ms),
        }
    }

    /// What was queued came at `now_ms`.
    pub fn handle_output(&mut self, now_ms: u64) {
        if let Client::Channelstream(polled) = &mut self.0 {
            polled.handle_output(now_ms);
        }
    }

    /// The answer to the request that made `secret` the client's name.
    pub fn opening(&self, secret: Secret) -> PollAnswer {
        match &self.0 {
            Client::Agnost(polled) => polled.opening(secret),
            Client::Channelstream(_) => no_such_request(),
        }
    }

    /// Appends `bytes`, which are whole frames of the client's format, to what waits for the next poll.
    /// Returns how many bytes wait now.
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

    /// A poll, which is held until [`PollEffect::AnswerPoll`].
    ///
    /// # Errors
    /// The answer, if it is not held.
    pub fn handle_poll(&mut self, now_ms: u64) -> Result<(), PollAnswer> {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_poll(now_ms),
            Client::Channelstream(_) => Err(no_such_request()),
        }
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
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_post(content_type, content_length, now_ms),
            Client::Channelstream(_) => Err(no_such_request()),
        }
    }

    /// A request while the messages of another's body wait to be handled.
    pub fn handle_overlap(&mut self) -> PollAnswer {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_overlap(),
            Client::Channelstream(_) => no_such_request(),
        }
    }

    /// The body of the POST has arrived: its messages are those of [`Polled::next_message`].
    pub fn handle_body(&mut self, body: &[u8], now_ms: u64) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_body(body, now_ms),
            Client::Channelstream(_) => {}
        }
    }

    /// The body of the POST is longer than it may be. Returns the answer.
    pub fn handle_long_body(&mut self) -> PollAnswer {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_long_body(),
            Client::Channelstream(_) => no_such_request(),
        }
    }

    /// The next message of a body that has arrived, from `at` on, which moves behind it. `None`: there are no
    /// more.
    pub fn next_message<'b>(&mut self, body: &'b [u8], at: &mut usize, now_ms: u64) -> Option<Posted<'b>> {
        match &mut self.0 {
            Client::Agnost(polled) => polled.next_message(body, at, now_ms),
            Client::Channelstream(_) => None,
        }
    }

    /// The answer to a POST whose messages were handled.
    pub fn post_answer(&self) -> PollAnswer {
        match &self.0 {
            Client::Agnost(polled) => polled.post_answer(),
            Client::Channelstream(_) => no_such_request(),
        }
    }

    /// A WebSocket that names the client.
    ///
    /// # Errors
    /// The answer, if its handshake fails.
    pub fn handle_upgrade(&mut self, now_ms: u64) -> Result<ProbeAnswer, PollAnswer> {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_upgrade(now_ms),
            Client::Channelstream(_) => Err(no_such_request()),
        }
    }

    /// Whether a message of the probing WebSocket would complete the upgrade: all output until now must be
    /// queued before.
    pub fn would_upgrade(&self, message: Message<'_>) -> bool {
        match &self.0 {
            Client::Agnost(polled) => polled.would_upgrade(message),
            Client::Channelstream(_) => false,
        }
    }

    /// A message of the probing WebSocket.
    pub fn handle_probe(&mut self, message: Message<'_>) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_probe(message),
            Client::Channelstream(_) => {}
        }
    }

    /// Appends the answer to a probe, for [`PollEffect::AnswerProbe`].
    pub fn put_probe_answer(&self, out: &mut BytesMut) {
        match &self.0 {
            Client::Agnost(polled) => polled.put_probe_answer(out),
            Client::Channelstream(_) => {}
        }
    }

    /// Appends what waited for the next poll, in the format that the client receives over a WebSocket.
    /// Returns that format.
    pub fn take_frames(&mut self, out: &mut BytesMut) -> Format {
        match &mut self.0 {
            Client::Agnost(polled) => polled.take_frames(out),
            Client::Channelstream(_) => Format::ChannelstreamFrames,
        }
    }

    /// The connection of a request that is under way is gone.
    pub fn handle_cut(&mut self, what: Ask) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_cut(what),
            Client::Channelstream(polled) => polled.handle_cut(),
        }
    }

    /// Time has passed. May be called at any time, and late.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.handle_timeout(now_ms),
            Client::Channelstream(polled) => polled.handle_timeout(now_ms),
        }
    }

    /// When [`Polled::handle_timeout`] is to be called next; `None`: the client is gone.
    pub fn deadline_ms(&self) -> Option<u64> {
        match &self.0 {
            Client::Agnost(polled) => polled.deadline_ms(),
            Client::Channelstream(polled) => polled.deadline_ms(),
        }
    }

    /// The server ends it. What is queued goes out first.
    pub fn close(&mut self, now_ms: u64) {
        match &mut self.0 {
            Client::Agnost(polled) => polled.close(now_ms),
            Client::Channelstream(polled) => polled.close(),
        }
    }

    /// The next thing that the shell has to do.
    pub fn poll_effect(&mut self) -> Option<PollEffect> {
        match &mut self.0 {
            Client::Agnost(polled) => polled.poll_effect(),
            Client::Channelstream(polled) => polled.poll_effect(),
        }
    }
}

/// The answer to a request that no client of the dialect makes.
fn no_such_request() -> PollAnswer {
    PollAnswer { status: 400, headers: &[], body: Bytes::new() }
}

/// The answer to a request that names a client whose upgrade is complete.
pub fn upgraded_answer(format: Format) -> PollAnswer {
    debug_assert_eq!(format.dialect(), super::Dialect::Agnost, "the format's dialect upgrades");
    agnost::upgraded_answer()
}
