//! HTTP on a connection: requests from bytes, one after another, answered in order.
//!
//! A connection whose answers are not taken is held: neither read nor handled until they are. So the bytes
//! that wait for a peer are bounded by [`BACKLOG_BYTES`] and one answer, however much it asks. A body is read
//! only for a request that its head admits.

use fanfare_core::{
    command::Outcome,
    dialect::{Ask, Dialect},
    error::ReplyError,
    http::{BodyDecoder, BodyFraming, Head, HttpError, HttpLimits, Persistence, parse_head, resume_head},
    id::WorkerId,
};

use super::{Worker, deadlines::ticks, polling::Body};
use crate::{
    asker::Asker,
    connection::{ConnectionId, ConnectionSlot, Flag, PartialBody, PartialRequest, Protocol},
    http::{
        agnost,
        api::{Completed, Handled},
        reply::{Problem, Reply},
        router::{WEBSOCKET_PATH, wants_body},
        xano,
    },
    timers::{TICK_MS, Tick},
};

/// Answers that may wait to be sent before the next request is handled.
const BACKLOG_BYTES: usize = 64 << 10;

/// What became of the connection with a request.
pub(super) enum Next {
    /// The next request may follow.
    Request,
    /// The answer comes later; until then nothing more is handled.
    Wait,
    /// It is a WebSocket now.
    Frames,
    /// It is a WebSocket now, and its first command waits for another thread.
    WaitWithFrames,
    /// The request is a poll, held or answered at once. No further input is handled in this turn.
    Poll,
    /// The request is handled after earlier answers have been sent.
    Hold,
    /// Its session lives on another worker, which takes the connection with the request.
    HandOver(WorkerId),
    /// It ends.
    End,
}

/// How far a request was read.
struct Step {
    /// Bytes that are done with.
    taken: usize,
    /// What is next, if a request was complete.
    next: Option<Next>,
}

impl Worker {
    /// Handles input of an HTTP connection.
    pub(super) fn feed_http(&mut self, slot: ConnectionSlot, input: &mut [u8]) {
        let now = self.now;
        let limits = self.http_limits();
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::Http(partial) = &mut connection.protocol else { return };
        let mut partial = partial.take().map(|boxed| *boxed).unwrap_or_default();
        let mut waiting = connection.input.take();
        if waiting.is_none() && partial.body.is_none() && connection.is(Flag::Served) {
            connection.heard = now;
        }
        let data: &mut [u8] = match &mut waiting {
            Some(waiting) => {
                waiting.extend_from_slice(input);
                waiting
            }
            None => input,
        };
        let mut at = 0;
        loop {
            if let Some(connection) = self.connections.live(slot)
                && connection.backlog() > BACKLOG_BYTES
            {
                connection.flags.raise(Flag::Held);
                return self.keep(slot, partial, &data[at..]);
            }
            let step = match self.step(slot, &mut partial, &data[at..], limits) {
                Ok(step) => step,
                Err(error) => return self.refuse_request(slot, partial, error),
            };
            at += step.taken;
            match step.next {
                None if partial.body.is_some() && at < data.len() => {}
                None | Some(Next::Wait) => return self.keep(slot, partial, &data[at..]),
                Some(Next::Request) => {}
                Some(Next::Frames) => return self.feed(slot, &mut data[at..]),
                Some(Next::WaitWithFrames) => return self.pause(slot, &data[at..]),
                Some(Next::Poll) => return self.keep_behind(slot, &data[at..]),
                Some(Next::Hold) => {
                    if let Some(connection) = self.connections.live(slot) {
                        connection.flags.raise(Flag::Held);
                    }
                    return self.keep(slot, PartialRequest::default(), &data[at..]);
                }
                Some(Next::HandOver(owner)) => return self.hand_over(slot, owner, &data[at..]),
                Some(Next::End) => return self.begin_close_http(slot),
            }
        }
    }

    /// Reads a request, or part of one.
    fn step(
        &mut self,
        slot: ConnectionSlot,
        partial: &mut PartialRequest,
        rest: &[u8],
        limits: HttpLimits,
    ) -> Result<Step, HttpError> {
        if let Some(mut pending) = partial.body.take() {
            let decoded = pending.decoder.decode(rest, &mut pending.body);
            let Ok((taken, true)) = decoded else {
                partial.body = Some(pending);
                return decoded.map(|(taken, _)| Step { taken, next: None });
            };
            let any_body = HttpLimits { body_bytes: usize::MAX, ..limits };
            let (head, _) = parse_head(&pending.head, any_body)?.expect("it was parsed before");
            let reply = Reply::to(&head, self.date());
            let next = match pending.outlet {
                Some(outlet) => self.on_body(slot, outlet, pending.body, reply),
                None => self.answer(slot, &head, &pending.body, reply),
            };
            return Ok(Step { taken, next: Some(next) });
        }
        if rest.is_empty() {
            return Ok(Step { taken: 0, next: None });
        }
        // The limit of a body depends on the path.
        let any_body = HttpLimits { body_bytes: usize::MAX, ..limits };
        let Some((head, taken)) = resume_head(rest, any_body, &mut partial.scan)? else {
            return Ok(Step { taken: 0, next: None });
        };
        if let Err(problem) = self.admit_request(slot, &head) {
            let mut reply = Reply::to(&head, self.date());
            reply.persistence = Persistence::Close;
            let next = self.refuse_handshake(slot, &head, &problem, reply);
            return Ok(Step { taken, next: Some(next) });
        }
        let mut outlet = None;
        let is_polling = !head.body.is_empty() && agnost::is_for(self.engine.apps(), &head);
        if !is_polling
            && matches!(head.body, BodyFraming::Length(length) if length > limits.body_bytes as u64)
        {
            return Err(HttpError::BodyTooLarge);
        }
        if is_polling {
            match self.begin_body(slot, &head) {
                Body::Read(id) => outlet = Some(id),
                Body::Elsewhere(next) => return Ok(Step { taken: 0, next: Some(next) }),
                Body::Refused(answer) => {
                    let mut reply = Reply::to(&head, self.date());
                    reply.persistence = Persistence::Close;
                    let next = self.respond(slot, &answer, &reply);
                    return Ok(Step { taken, next: Some(next) });
                }
            }
        } else if head.body.is_empty() || !self.wants_body(slot, &head) {
            let mut reply = Reply::to(&head, self.date());
            let (body, done) = skip_body(&head, &rest[taken..], limits)?;
            if !done {
                reply.persistence = Persistence::Close;
            }
            let next = self.answer(slot, &head, &[], reply);
            let taken = if matches!(next, Next::HandOver(_) | Next::Hold) { 0 } else { taken + body };
            return Ok(Step { taken, next: Some(next) });
        }
        if head.expect_continue {
            self.connections.send(slot, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body_bytes = if outlet.is_some() { self.config.frame_bytes } else { limits.body_bytes };
        let decoder = BodyDecoder::new(head.body, HttpLimits { body_bytes, ..limits });
        let head = rest[..taken].to_vec();
        partial.body = Some(PartialBody { head, decoder, body: Vec::new(), outlet });
        Ok(Step { taken, next: None })
    }

    /// Whether the body of a request is needed. Without it, the request is answered by its head alone.
    fn wants_body(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> bool {
        match self.is_for_place(slot, head) {
            true => self.place_wants_body(slot, head),
            false => {
                let visitor = self.visitor(slot, head);
                wants_body(self.engine.apps(), head, &visitor)
            }
        }
    }

    /// Answers a complete request, or one that its head decides.
    fn answer(&mut self, slot: ConnectionSlot, head: &Head<'_>, body: &[u8], reply: Reply) -> Next {
        if head.path == WEBSOCKET_PATH {
            return self.upgrade(slot, head, reply);
        }
        if agnost::is_for(self.engine.apps(), head) {
            if self.is_draining() {
                return self.refuse_client(slot, head, (Dialect::Agnost, &restarting()), reply);
            }
            return self.answer_agnost(slot, head, reply);
        }
        if xano::is_for(self.engine.apps(), head) {
            return self.admit_xano(slot, head, reply);
        }
        if self.is_for_place(slot, head) {
            return self.answer_at_place(slot, head, body, reply);
        }
        self.out.clear();
        let persistence = reply.persistence;
        let token = self.connections.id(slot).token();
        let visitor = self.visitor(slot, head);
        let request = (head, body, &visitor);
        match self.requests.handle(&mut self.engine, request, token, reply, &mut self.out) {
            Handled::Answered { status } => {
                if self.requests.take_wrong_keys() > 0 {
                    let address = self.client_of(slot, head);
                    self.count_failed_key(address);
                }
                self.sent(slot, status, persistence)
            }
            Handled::Waiting => {
                if let Some(connection) = self.connections.live(slot) {
                    connection.flags.raise(Flag::Paused);
                }
                Next::Wait
            }
        }
    }

    /// Refuses a request that could not be read.
    fn refuse_request(&mut self, slot: ConnectionSlot, partial: PartialRequest, error: HttpError) {
        let Some(PartialBody { head, outlet: Some(outlet), .. }) = partial.body else {
            return self.refuse_unreadable(slot, error);
        };
        if error != HttpError::BodyTooLarge {
            self.refuse_unreadable(slot, error);
            return self.on_cut(outlet, Ask::Post);
        }
        let date = self.date();
        let limits = HttpLimits { body_bytes: usize::MAX, ..self.http_limits() };
        if let Ok(Some((head, _))) = parse_head(&head, limits) {
            let mut reply = Reply::to(&head, date);
            reply.persistence = Persistence::Close;
            self.on_long_body(slot, outlet, &reply);
        }
        self.begin_close_http(slot);
    }

    /// Sends the response in `out`.
    pub(super) fn sent(&mut self, slot: ConnectionSlot, status: u16, persistence: Persistence) -> Next {
        self.counters.requests_total += 1;
        self.counters.request_errors_total += u64::from(status >= 400);
        self.connections.send(slot, &self.out);
        let Some(connection) = self.connections.live(slot) else { return Next::End };
        let is_first = connection.flags.raise(Flag::Served);
        connection.heard = self.now;
        if let Some(since) = connection.stalled_since() {
            self.arm_by(slot, since.saturating_add(ticks(self.config.request_timeout_ms)));
        }
        if is_first {
            self.connections.take_arrival(slot);
        }
        match persistence {
            Persistence::Close => Next::End,
            _ if self.is_draining() => Next::End,
            _ => Next::Request,
        }
    }

    /// The peer has taken all answers there were.
    pub(super) fn on_answers_taken(&mut self, slot: ConnectionSlot) {
        let (now, draining) = (self.now, self.is_draining());
        let Some(connection) = self.connections.live(slot) else { return };
        if connection.is(Flag::Held) {
            connection.heard = now;
            return if draining { self.begin_close_http(slot) } else { self.resume(slot) };
        }
        if connection.is(Flag::Paused) || connection.is(Flag::Ready) {
            // An answer, or what is still to be read, decides.
            return;
        }
        if connection.is(Flag::HalfClosed) || draining {
            return self.close(slot);
        }
        if !connection.is_amid_request() {
            connection.heard = now;
        }
    }

    /// An outcome has come that somebody may wait for.
    pub(super) fn on_answer(&mut self, token: u64, result: Result<Outcome, ReplyError>) {
        self.out.clear();
        let completed = match Asker::of(token) {
            Asker::Request => self.requests.on_answer(token, result, &mut self.out),
            Asker::Place => self.on_place_answer(token, result),
            Asker::BackEnd => return self.on_back_end_answer(token, result),
            Asker::ControlPlane => return self.on_inquired(token, &result),
            Asker::Nobody => return,
        };
        if let Some(completed) = completed {
            self.finish_answer(&completed);
        }
    }

    /// Takes in the answers to requests about triggers.
    pub(super) fn take_managed(&mut self) {
        while let Some(answer) = self.control.managed[usize::from(self.id.0)].pop() {
            self.out.clear();
            if let Some(completed) = self.requests.on_managed(answer, &mut self.out) {
                self.finish_answer(&completed);
            }
        }
    }

    /// Sends the answer in `out`, for which its connection waited.
    fn finish_answer(&mut self, completed: &Completed) {
        let id = ConnectionId::from_token(completed.connection);
        if self.connections.find(id).is_none() {
            return;
        }
        match self.sent(id.slot, completed.status, completed.persistence) {
            Next::End => self.begin_close_http(id.slot),
            _ => self.resume(id.slot),
        }
    }

    /// Keeps the input after a poll.
    fn keep_behind(&mut self, slot: ConnectionSlot, rest: &[u8]) {
        if let Some(connection) = self.connections.live(slot)
            && !rest.is_empty()
            && matches!(connection.protocol, Protocol::Poll(_) | Protocol::Http(_))
        {
            connection.input = Some(Box::new(rest.to_vec()));
        }
    }

    /// Keeps an incomplete request until more comes.
    fn keep(&mut self, slot: ConnectionSlot, partial: PartialRequest, rest: &[u8]) {
        let Some(connection) = self.connections.live(slot) else { return };
        if rest.is_empty() && partial.body.is_none() {
            return;
        }
        let started = connection.heard;
        // The deadline of a connection's first request was set when the connection was accepted.
        let is_later = connection.is(Flag::Served);
        let is_read = !connection.is(Flag::Paused) && !connection.is(Flag::Held);
        if !rest.is_empty() {
            connection.input = Some(Box::new(rest.to_vec()));
        }
        connection.protocol = Protocol::Http(Some(Box::new(partial)));
        if is_later && is_read {
            let timeout = ticks(self.config.request_timeout_ms);
            self.arm_by(slot, started.saturating_add(timeout));
        }
    }

    /// An HTTP connection's deadline has come.
    pub(super) fn on_request_due(&mut self, slot: ConnectionSlot) {
        let now = self.now;
        let Some(connection) = self.connections.live(slot) else { return };
        let awaited = connection.is_amid_request() || !connection.is(Flag::Served);
        let request_timeout = ticks(self.config.request_timeout_ms);
        let stalled = connection.stalled_since().map(|since| since.saturating_add(request_timeout));
        if stalled.is_some_and(|deadline| now >= deadline) {
            self.counters.stalled_total += 1;
            tracing::debug!("a connection ends: its answers are not taken");
            return self.close(slot);
        }
        let deadline = if connection.is(Flag::Paused) {
            now + 1000 / TICK_MS as Tick
        } else if awaited && !connection.is(Flag::Held) {
            connection.heard.saturating_add(request_timeout)
        } else {
            // It rests only when all answers are taken.
            stalled.unwrap_or(connection.heard.saturating_add(ticks(self.config.keep_alive_ms)))
        };
        if now < deadline {
            return self.arm(slot, stalled.map_or(deadline, |stalled| stalled.min(deadline)));
        }
        if awaited {
            self.counters.request_timeouts_total += 1;
            return self.refuse_unreadable(slot, HttpError::Timeout);
        }
        self.close(slot);
    }

    /// Answers bytes that could not be read as HTTP, and ends the connection.
    fn refuse_unreadable(&mut self, slot: ConnectionSlot, error: HttpError) {
        let code = match error.status() {
            413 => "body_too_large",
            414 | 431 => "head_too_large",
            408 => "request_timeout",
            501 => "not_implemented",
            505 => "version_not_supported",
            _ => "malformed_request",
        };
        tracing::debug!(status = error.status(), code, why = %error, "a request could not be read");
        self.refuse_and_close(slot, &Problem::new(error.status(), code, format!("{error}.")));
    }

    /// Answers a request that has not arrived whole before the server ends.
    pub(super) fn refuse_restarting(&mut self, slot: ConnectionSlot) {
        self.refuse_and_close(slot, &restarting());
    }

    pub(super) fn refuse_and_close(&mut self, slot: ConnectionSlot, problem: &Problem) {
        self.out.clear();
        Reply::last(self.date()).put_problem(&mut self.out, problem);
        self.sent(slot, problem.status, Persistence::Close);
        self.begin_close_http(slot);
    }

    fn http_limits(&self) -> HttpLimits {
        let config = &self.config;
        HttpLimits { head_bytes: config.head_bytes, headers: config.headers, body_bytes: config.body_bytes }
    }
}

/// Skips the body of a request that is answered without it, as far as it is here: how many bytes those are,
/// and whether the body ends with them. If not, the connection ends with the answer, and nothing more is read
/// or kept.
fn skip_body(head: &Head<'_>, rest: &[u8], limits: HttpLimits) -> Result<(usize, bool), HttpError> {
    let mut decoder = BodyDecoder::new(head.body, limits);
    let (taken, _) = decoder.decode(rest, &mut Vec::new())?;
    Ok((taken, decoder.is_done()))
}

pub(super) fn restarting() -> Problem {
    Problem::new(503, "restarting", "The server is restarting; nothing was done.")
}
