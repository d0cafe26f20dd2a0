//! Requests of clients that poll. A client's outlet outlives the sockets. Each request finds the outlet by
//! the secret that it names.
//!
//! ```text
//!   request ─▶ locate ─┬─ here ──────▶ on_client ─▶ on_poll (held), on_post, on_upgrade
//!                      ├─ elsewhere ─▶ Next::HandOver: the outlet's worker reads the request again
//!                      └─ nowhere ───▶ the dialect's refusal
//!   turn's output ─▶ Outlets::write ─▶ (flush is over) ─▶ serve_outlet ─▶ the held poll is answered
//! ```
//!
//! A connection with a held poll is [`Protocol::Poll`]: it is not read, and neither its time-out nor
//! keep-alive counts. Output waits in the outlet while no poll is held. The engine bounds an outlet's output
//! as it bounds a socket's. Output that was handed to a socket counts as received.

use fanfare_core::{
    dialect::{Ask, Dialect, Format, Lobby, PollAnswer, Polled, ProbeAnswer, upgraded_answer},
    engine::{self, Flow},
    http::{BodyFraming, Head},
    secret::Secret,
    ws::{DecodeLimits, Message, Upgrade, put_response},
};

use super::{
    Worker,
    bare::{Bare, BareInput},
    http::Next,
    lobby::{Caller, Stay},
};
use crate::{
    connection::{
        ConnectionSlot, Flag, Held, OutletId, OutletKind, OutletSlot, Posting, Probe, Protocol, Stage,
        Standing, Stranger,
    },
    http::{access, agnost, reply::Reply},
    sys::secret,
};

/// The most bytes of a message on a WebSocket to which a client may change.
const PROBE_BYTES: usize = 1 << 10;

/// The most bytes of output that wait for a client without a session.
const STRANGER_BYTES: usize = 64 << 10;

/// The place of a request's client.
pub(super) enum Whereabouts {
    /// The client's outlet is on this worker.
    Here(OutletId),
    /// The outlet is on another worker, to which the connection goes.
    Elsewhere(Next),
    /// No client has this secret.
    Nowhere,
}

/// The decision about the body of a POST.
pub(super) enum Body {
    /// The body is read, and then handled by [`Worker::on_body`].
    Read(OutletId),
    /// The body is not read.
    Refused(PollAnswer),
    /// The request is read again, by another worker or later.
    Elsewhere(Next),
}

impl Worker {
    /// Finds the client whose secret a request names.
    pub(super) fn locate(&mut self, slot: ConnectionSlot, secret: Option<Secret>) -> Whereabouts {
        let Some(outlet) = secret.and_then(|secret| self.engine.node().outlet(&secret)) else {
            return Whereabouts::Nowhere;
        };
        if outlet.worker != self.id {
            // A connection with queued answers cannot move to another worker.
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

    /// Opens the outlet of a client that polls, or refuses the client.
    pub(super) fn open_outlet(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: &Reply) -> Next {
        let address = self.client_of(slot, head);
        if let Err(problem) = self.admit_handshake(address) {
            return self.refuse_client(slot, head, (Dialect::Agnost, &problem), reply.clone());
        }
        if !self.admit_stranger(address) {
            self.counters.polling_refused_total += 1;
            return self.respond(slot, &agnost::forbidden(), reply);
        }
        let now_ms = self.clock.elapsed_ms();
        let origin = access::origin(head).map(Into::into);
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

    /// Handles a request of a client on this worker. A POST here has no body.
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

    /// Holds a poll until there is output for it.
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

    /// Decides by the head of a POST whether its body is read.
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

    /// Handles the body of a POST.
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

    /// Refuses a body that is too long.
    pub(super) fn on_long_body(&mut self, slot: ConnectionSlot, id: OutletId, reply: &Reply) {
        let Some(polling) = self.connections.outlets.find_polling(id) else { return };
        polling.post = None;
        let answer = polling.polled.handle_long_body();
        self.respond(slot, &answer, reply);
    }

    /// Goes on with a client whose session waited, or whose messages were too many for one turn.
    pub(super) fn resume_outlet(&mut self, slot: OutletSlot) {
        if let Some((answer, posting)) = self.handle_posted(slot) {
            self.answer_later(posting.connection, &answer, posting.reply);
        }
    }

    /// Handles the messages of a POST's body. Returns the answer when all are handled, and `None` if some
    /// have to wait.
    fn handle_posted(&mut self, slot: OutletSlot) -> Option<(PollAnswer, Posting)> {
        let now_ms = self.clock.elapsed_ms();
        let polling = self.connections.outlets.polling(slot)?;
        if let Stage::BackEnd(back_end) = &polling.stage
            && back_end.standing != Standing::Reads
        {
            return None;
        }
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
                Stage::BackEnd(_) => self.on_posted_event(slot, posted.message()),
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

    /// Handles a message of a client without a session.
    fn on_stranger(&mut self, slot: OutletSlot, message: Message<'_>) {
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let Stage::Stranger(mut stranger) = std::mem::replace(&mut polling.stage, Stage::Over) else {
            return;
        };
        let mut out = bytes::BytesMut::new();
        let is_small = matches!(message, Message::Text(text) if text.len() <= Lobby::MESSAGE_BYTES);
        let stay = match is_small {
            true => {
                let Stranger { state, origin, address, .. } = &mut *stranger;
                let caller = Caller { slot: slot.number(), origin: origin.as_deref(), address: *address };
                self.knock(caller, state, message, &mut out)
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
            Stay::BackEnd(scope) => {
                self.strangers.leave(stranger.address);
                self.begin_polling_back_end(slot, stranger.state, scope);
            }
            Stay::Yes | Stay::No => {
                polling.polled.close(now_ms);
                self.strangers.leave(stranger.address);
            }
        }
    }

    /// Handles a WebSocket that names a client.
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
        self.count_handshake(slot);
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

    /// Handles input of a WebSocket to which a client may change.
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
            // The client's earlier output is in its outlet after the flush, and goes first.
            self.engine.flush(&mut self.connections);
            self.serve_outlet(id.slot);
        }
        if let Some(polling) = self.connections.outlets.find_polling(id) {
            polling.polled.handle_probe(message);
            self.serve_outlet(id.slot);
        }
    }

    /// Closes a WebSocket to which a client might have changed, after an error or a close frame.
    pub(super) fn close_probe(&mut self, slot: ConnectionSlot) {
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::Probe(probe) = &connection.protocol else { return };
        let outlet = probe.outlet;
        self.close_bare(slot);
        self.on_cut(outlet, Ask::Upgrade);
    }

    /// Handles the loss of the connection of a request that is under way.
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

    /// Answers a connection's request at once.
    pub(super) fn respond(&mut self, slot: ConnectionSlot, answer: &PollAnswer, reply: &Reply) -> Next {
        self.out.clear();
        reply.put(&mut self.out, answer.status, answer.headers, &answer.body);
        self.sent(slot, answer.status, reply.persistence)
    }
}
