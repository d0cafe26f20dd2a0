//! Clients that poll. Their outlet outlives sockets; each request finds it by the secret that it names.
//!
//! ```text
//!   request ─▶ locate ─┬─ here ──────▶ on_client ─▶ on_poll (held), on_post, on_upgrade
//!                      ├─ elsewhere ─▶ Next::HandOver: the outlet's worker reads the request again
//!                      └─ nowhere ───▶ the dialect's refusal
//!   turn's output ─▶ Outlets::write ─▶ (flush is over) ─▶ serve_outlet ─▶ the held poll is answered
//! ```
//!
//! A held poll is [`Protocol::Poll`]: its connection is not read, and neither time-out nor keep-alive counts.
//! While no poll is held, output waits in the outlet; the engine bounds it as it bounds what waits for a
//! socket. Output that was handed to a socket counts as received.

use fanfare_core::{
    dialect::{Ask, Format, Lobby, PollAnswer, Polled, ProbeAnswer, upgraded_answer},
    engine::{self, Flow},
    http::{BodyFraming, Head},
    secret::Secret,
    ws::{DecodeLimits, Message, Upgrade, put_response},
};

use super::{
    Worker,
    bare::{Bare, BareInput},
    http::Next,
    lobby::Stay,
};
use crate::{
    connection::{
        ConnectionSlot, Flag, Held, OutletId, OutletKind, OutletSlot, Posting, Probe, Protocol, Stage,
        Stranger,
    },
    http::{agnost, reply::Reply},
    sys::secret,
};

/// Bytes of a message on a WebSocket that a client may change to.
const PROBE_BYTES: usize = 1 << 10;

/// Bytes that may wait for a client that has no session.
const STRANGER_BYTES: usize = 64 << 10;

/// Where the client of a request is found.
pub(super) enum Whereabouts {
    /// On this worker.
    Here(OutletId),
    /// On another one: what becomes of the connection.
    Elsewhere(Next),
    /// There is none of this name.
    Nowhere,
}

/// What becomes of a POST's body.
pub(super) enum Body {
    /// It is read, and then handled by [`Worker::on_body`].
    Read(OutletId),
    /// It is not.
    Refused(PollAnswer),
    /// The request is read again, elsewhere or later.
    Elsewhere(Next),
}

impl Worker {
    /// Finds the client that a request names by a secret.
    pub(super) fn locate(&mut self, slot: ConnectionSlot, secret: Option<Secret>) -> Whereabouts {
        let Some(outlet) = secret.and_then(|secret| self.engine.node().outlet(&secret)) else {
            return Whereabouts::Nowhere;
        };
        if outlet.worker != self.id {
            // Answers that are still queued do not travel.
            let is_flushed = self.connections.live(slot).is_some_and(|connection| connection.is_flushed());
            return Whereabouts::Elsewhere(if is_flushed {
                Next::HandOver(outlet.worker)
            } else {
                Next::Hold
            });
        }
        let id = OutletId::from_token(outlet.id);
        match self.connections.outlets.find(id) {
            Some(_) => Whereabouts::Here(id),
            None => Whereabouts::Nowhere,
        }
    }

    /// Takes in a client that polls, or says why not.
    pub(super) fn open_outlet(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: &Reply) -> Next {
        let Some(connection) = self.connections.live(slot) else { return Next::End };
        let address = connection.stream.peer_addr().ok().map(|address| address.ip());
        if !self.admit_stranger(address) {
            self.counters.polling_refused_total += 1;
            return self.respond(slot, &agnost::forbidden(), reply);
        }
        let now_ms = self.clock.elapsed_ms();
        let origin = head.header("origin").map(|bytes| std::str::from_utf8(bytes).unwrap_or("").into());
        let state = Lobby::new(Format::AgnostPackets, now_ms);
        let stranger = Stranger { state, origin, address, began: self.now };
        let polled = Polled::new(Format::AgnostPackets, &self.poll_config, now_ms);
        let secret = secret();
        let opening = polled.opening(secret);
        let id = self.connections.outlets.insert(secret, polled, Stage::Stranger(Box::new(stranger)));
        let outlet = engine::Outlet { worker: self.id, id: id.token() };
        self.engine.node().open_outlet(secret, outlet);
        self.serve_outlet(id.slot);
        self.respond(slot, &opening, reply)
    }

    /// A request for a client that is here; a POST has no body.
    pub(super) fn on_client(
        &mut self,
        slot: ConnectionSlot,
        id: OutletId,
        ask: Ask,
        head: &Head<'_>,
        reply: Reply,
    ) -> Next {
        match ask {
            Ask::Poll => self.on_poll(slot, id, reply),
            Ask::Upgrade => self.on_upgrade(slot, id, head, &reply),
            Ask::Post => match self.begin_post(slot, id, head) {
                Body::Read(id) => self.on_body(slot, id, Vec::new(), reply),
                Body::Refused(answer) => self.respond(slot, &answer, &reply),
                Body::Elsewhere(next) => next,
            },
        }
    }

    /// Holds a poll until there is something to answer it with.
    fn on_poll(&mut self, slot: ConnectionSlot, id: OutletId, reply: Reply) -> Next {
        let connection = self.connections.id(slot);
        let now_ms = self.clock.elapsed_ms();
        let Some(polling) = self.connections.outlets.find_polling(id) else {
            return self.respond(slot, &upgraded_answer(Format::AgnostPackets), &reply);
        };
        if let Err(answer) = polling.polled.handle_poll(now_ms) {
            self.serve_outlet(id.slot);
            return self.respond(slot, &answer, &reply);
        }
        polling.poll = Some(Held { connection, reply });
        if let Some(connection) = self.connections.live(slot) {
            connection.flags.raise(Flag::Paused);
            connection.protocol = Protocol::Poll(id);
        }
        self.serve_outlet(id.slot);
        Next::Poll
    }

    /// The head of a POST has arrived: decides whether its body is read.
    pub(super) fn begin_post(&mut self, slot: ConnectionSlot, id: OutletId, head: &Head<'_>) -> Body {
        let connection = self.connections.id(slot);
        let now_ms = self.clock.elapsed_ms();
        let Some(polling) = self.connections.outlets.find_polling(id) else {
            return Body::Refused(upgraded_answer(Format::AgnostPackets));
        };
        let length = match head.body {
            BodyFraming::Length(length) => Some(length),
            BodyFraming::None | BodyFraming::Chunked => None,
        };
        let body = if polling.body.is_some() {
            Body::Refused(polling.polled.handle_overlap())
        } else {
            match polling.polled.handle_post(head.header("content-type"), length, now_ms) {
                Ok(()) => {
                    polling.post = Some(connection);
                    Body::Read(id)
                }
                Err(answer) => Body::Refused(answer),
            }
        };
        self.serve_outlet(id.slot);
        body
    }

    /// The body of a POST has arrived.
    pub(super) fn on_body(
        &mut self,
        slot: ConnectionSlot,
        id: OutletId,
        body: Vec<u8>,
        reply: Reply,
    ) -> Next {
        let connection = self.connections.id(slot);
        let now_ms = self.clock.elapsed_ms();
        let Some(polling) = self.connections.outlets.find_polling(id) else {
            return self.respond(slot, &agnost::unknown(), &reply);
        };
        polling.post = None;
        polling.polled.handle_body(&body, now_ms);
        polling.body = Some(Posting { connection, reply, body, at: 0 });
        match self.handle_posted(id.slot) {
            Some((answer, posting)) => self.respond(slot, &answer, &posting.reply),
            None => {
                if let Some(connection) = self.connections.live(slot) {
                    connection.flags.raise(Flag::Paused);
                }
                Next::Wait
            }
        }
    }

    /// A body is longer than it may be.
    pub(super) fn on_long_body(&mut self, slot: ConnectionSlot, id: OutletId, reply: &Reply) {
        let Some(polling) = self.connections.outlets.find_polling(id) else { return };
        polling.post = None;
        let answer = polling.polled.handle_long_body();
        self.respond(slot, &answer, reply);
    }

    /// A client whose session waited, or whose messages were too much for a turn, goes on.
    pub(super) fn resume_outlet(&mut self, slot: OutletSlot) {
        if let Some((answer, posting)) = self.handle_posted(slot) {
            self.answer_later(posting.connection, &answer, posting.reply);
        }
    }

    /// Handles the messages of a body. Returns the answer when all are handled, `None` if some wait.
    fn handle_posted(&mut self, slot: OutletSlot) -> Option<(PollAnswer, Posting)> {
        let now_ms = self.clock.elapsed_ms();
        let polling = self.connections.outlets.polling(slot)?;
        let mut posting = polling.body.take()?;
        let answer = polling.polled.post_answer();
        while let Some(polling) = self.connections.outlets.polling(slot) {
            let Some(posted) = polling.polled.next_message(&posting.body, &mut posting.at, now_ms) else {
                break;
            };
            let flow = match polling.stage {
                Stage::Session(session) => {
                    (self.handler.on_message)(&mut self.engine, session, posted.message())
                }
                Stage::Stranger(_) => {
                    self.on_stranger(slot, posted.message());
                    Flow::Continue
                }
                Stage::Over => Flow::Continue,
            };
            if flow == Flow::Continue {
                continue;
            }
            if let Some(polling) = self.connections.outlets.polling(slot) {
                polling.body = Some(posting);
            }
            if flow == Flow::Yield {
                self.ready.push_back(slot.number());
            }
            return None;
        }
        self.serve_outlet(slot);
        Some((answer, posting))
    }

    /// A message of a client that has no session.
    fn on_stranger(&mut self, slot: OutletSlot, message: Message<'_>) {
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let Stage::Stranger(mut stranger) = std::mem::replace(&mut polling.stage, Stage::Over) else {
            return;
        };
        let mut out = bytes::BytesMut::new();
        let is_small = matches!(message, Message::Text(text) if text.len() <= Lobby::MESSAGE_BYTES);
        let stay = match is_small {
            true => {
                let Stranger { state, origin, .. } = &mut *stranger;
                self.knock(slot.number(), state, origin.as_deref(), message, &mut out)
            }
            false => Stay::No,
        };
        let now_ms = self.clock.elapsed_ms();
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let waiting = if out.is_empty() { 0 } else { polling.polled.queue(&out) };
        match stay {
            Stay::Yes if waiting <= STRANGER_BYTES => polling.stage = Stage::Stranger(stranger),
            Stay::Session(session) => {
                polling.stage = Stage::Session(session);
                self.strangers.leave(stranger.address);
            }
            // Back ends are served over WebSocket alone.
            Stay::Yes | Stay::No | Stay::BackEnd(_) => {
                polling.polled.close(now_ms);
                self.strangers.leave(stranger.address);
            }
        }
    }

    /// A WebSocket that names a client.
    fn on_upgrade(&mut self, slot: ConnectionSlot, id: OutletId, head: &Head<'_>, reply: &Reply) -> Next {
        let connection = self.connections.id(slot);
        let now_ms = self.clock.elapsed_ms();
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let Ok(accept) = upgrade.accept() else { return self.respond(slot, &agnost::bad_request(), reply) };
        let probe = match self.connections.outlets.find(id).map(|outlet| &mut outlet.kind) {
            None => return self.respond(slot, &agnost::unknown(), reply),
            Some(OutletKind::Upgraded) => ProbeAnswer::Close,
            Some(OutletKind::Polling(polling)) => match polling.polled.handle_upgrade(now_ms) {
                Ok(ProbeAnswer::Probes) => {
                    polling.probe = Some(connection);
                    ProbeAnswer::Probes
                }
                Ok(ProbeAnswer::Close) => ProbeAnswer::Close,
                Err(answer) => {
                    self.serve_outlet(id.slot);
                    return self.respond(slot, &answer, reply);
                }
            },
        };
        self.out.clear();
        put_response(&mut self.out, &accept, None);
        self.connections.send(slot, &self.out);
        self.counters.handshakes_total += 1;
        match probe {
            ProbeAnswer::Probes => {
                if let Some(connection) = self.connections.live(slot) {
                    let probe = Probe { decoder: Default::default(), outlet: id };
                    connection.protocol = Protocol::Probe(Box::new(probe));
                }
            }
            ProbeAnswer::Close => self.close_bare(slot),
        }
        self.serve_outlet(id.slot);
        Next::Frames
    }

    /// Handles input of a WebSocket that a client may change to.
    pub(super) fn feed_probe(&mut self, slot: ConnectionSlot, input: &mut [u8]) {
        let limits = DecodeLimits { message_bytes: PROBE_BYTES, fragments: self.config.fragments };
        let mut input = BareInput::new(input, limits);
        loop {
            let Some(connection) = self.connections.live(slot) else { return };
            let Protocol::Probe(probe) = &mut connection.protocol else {
                return self.feed(slot, input.rest());
            };
            let outlet = probe.outlet;
            self.out.clear();
            match input.next(&mut probe.decoder, &mut self.out) {
                Bare::Nothing => return,
                Bare::Control if self.out.is_empty() => {}
                Bare::Control => self.connections.send(slot, &self.out),
                Bare::Over => return self.close_probe(slot),
                // Copied, since the rest of the connection is needed to handle it: there are two of them.
                Bare::Message(Message::Text(text)) => {
                    let text = text.to_owned();
                    self.on_probe(outlet, Message::Text(&text));
                }
                Bare::Message(Message::Binary(bytes)) => {
                    let bytes = bytes.to_vec();
                    self.on_probe(outlet, Message::Binary(&bytes));
                }
                Bare::Message(_) => {}
            }
        }
    }

    fn on_probe(&mut self, id: OutletId, message: Message<'_>) {
        let Some(polling) = self.connections.outlets.find_polling(id) else { return };
        if polling.polled.would_upgrade(message) {
            // What the client was to receive until now is in its outlet then, and goes first.
            self.engine.flush(&mut self.connections);
            self.serve_outlet(id.slot);
        }
        if let Some(polling) = self.connections.outlets.find_polling(id) {
            polling.polled.handle_probe(message);
            self.serve_outlet(id.slot);
        }
    }

    /// A WebSocket that a client might have changed to is over, by its own fault or wish.
    pub(super) fn close_probe(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::Probe(probe) = &connection.protocol else { return };
        let outlet = probe.outlet;
        self.close_bare(slot);
        self.on_cut(outlet, Ask::Upgrade);
    }

    /// The connection of a request that was under way is gone.
    pub(super) fn on_cut(&mut self, id: OutletId, what: Ask) {
        let Some(polling) = self.connections.outlets.find_polling(id) else { return };
        match what {
            Ask::Poll => polling.poll = None,
            Ask::Post => polling.post = None,
            Ask::Upgrade => polling.probe = None,
        }
        polling.polled.handle_cut(what);
        self.serve_outlet(id.slot);
    }

    /// Answers the request of a connection at once.
    pub(super) fn respond(&mut self, slot: ConnectionSlot, answer: &PollAnswer, reply: &Reply) -> Next {
        self.out.clear();
        reply.put(&mut self.out, answer.status, answer.headers, &answer.body);
        self.sent(slot, answer.status, reply.persistence)
    }
}
