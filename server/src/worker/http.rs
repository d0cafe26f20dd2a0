//! HTTP on a connection: requests from bytes, one after another, answered in order; and the upgrade to
//! WebSocket.
//!
//! A connection whose answers are not taken is held: neither read nor handled until they are. So the bytes
//! that wait for a peer are bounded by [`BACKLOG_BYTES`] and one answer, however much it asks. A body is read
//! only for a request that its head admits.

use fanfare_core::{
    command::Outcome,
    engine::Flow,
    error::ReplyError,
    http::{BodyDecoder, Head, HttpError, HttpLimits, Persistence, parse_head, resume_head},
    id::WorkerId,
    ws::{Decoder, Message},
};

use super::{Worker, deadlines::ticks};
use crate::{
    connection::{ConnectionId, ConnectionSlot, Flag, PartialBody, PartialRequest, Protocol},
    http::{
        access::app_name,
        agnost,
        api::Handled,
        reply::{Problem, Reply},
        router::{WEBSOCKET_PATH, wants_body},
        upgrade::{APP_FULL, Handshake},
        xano::{self, Arrival},
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
                Err(error) => return self.refuse_unreadable(slot, error),
            };
            at += step.taken;
            match step.next {
                None if partial.body.is_some() && at < data.len() => {}
                None | Some(Next::Wait) => return self.keep(slot, partial, &data[at..]),
                Some(Next::Request) => {}
                Some(Next::Frames) => return self.feed(slot, &mut data[at..]),
                Some(Next::WaitWithFrames) => return self.pause(slot, &data[at..]),
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
            let (taken, done) = pending.decoder.decode(rest, &mut pending.body)?;
            if !done {
                partial.body = Some(pending);
                return Ok(Step { taken, next: None });
            }
            let (head, _) = parse_head(&pending.head, limits)?.expect("it was parsed before");
            let reply = Reply::to(&head, self.date());
            let next = self.answer(slot, &head, &pending.body, reply);
            return Ok(Step { taken, next: Some(next) });
        }
        if rest.is_empty() {
            return Ok(Step { taken: 0, next: None });
        }
        let Some((head, taken)) = resume_head(rest, limits, &mut partial.scan)? else {
            return Ok(Step { taken: 0, next: None });
        };
        if head.body.is_empty() || !self.wants_body(slot, &head) {
            let mut reply = Reply::to(&head, self.date());
            let (body, done) = skip_body(&head, &rest[taken..], limits)?;
            if !done {
                reply.persistence = Persistence::Close;
            }
            let next = self.answer(slot, &head, &[], reply);
            let taken = if matches!(next, Next::HandOver(_)) { 0 } else { taken + body };
            return Ok(Step { taken, next: Some(next) });
        }
        if head.expect_continue {
            self.connections.send(slot, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let decoder = BodyDecoder::new(head.body, limits);
        partial.body = Some(PartialBody { head: rest[..taken].to_vec(), decoder, body: Vec::new() });
        Ok(Step { taken, next: None })
    }

    /// Whether the body of a request is wanted. If not, the request is answered by its head alone.
    fn wants_body(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> bool {
        match self.control.places.owns(head.path) {
            true => self.place_wants_body(slot, head),
            false => wants_body(self.engine.apps(), head),
        }
    }

    /// Answers a complete request, or one that its head decides.
    fn answer(&mut self, slot: ConnectionSlot, head: &Head<'_>, body: &[u8], reply: Reply) -> Next {
        if head.path == WEBSOCKET_PATH {
            return self.upgrade(slot, head, reply);
        }
        if agnost::is_for(self.engine.apps(), head) {
            if self.is_draining() {
                return self.refuse_handshake(slot, head, &restarting(), reply);
            }
            return self.enter_lobby(slot, head, reply);
        }
        if xano::is_for(self.engine.apps(), head) {
            return self.admit_xano(slot, head, reply);
        }
        if self.control.places.owns(head.path) {
            return self.answer_at_place(slot, head, body, reply);
        }
        self.out.clear();
        let persistence = reply.persistence;
        let token = self.connections.id(slot).token();
        match self.requests.handle(&mut self.engine, (head, body), token, reply, &mut self.out) {
            Handled::Answered { status } => self.sent(slot, status, persistence),
            Handled::Waiting => {
                if let Some(connection) = self.connections.live(slot) {
                    connection.flags.raise(Flag::Paused);
                }
                Next::Wait
            }
        }
    }

    /// Makes a WebSocket of the connection, or says why not.
    fn upgrade(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: Reply) -> Next {
        if self.is_draining() {
            return self.refuse_handshake(slot, head, &restarting(), reply);
        }
        let handshake = match Handshake::read(&mut self.engine, head) {
            Ok(handshake) => handshake,
            Err(problem) => return self.refuse_handshake(slot, head, &problem, reply),
        };
        self.enter_session(slot, head, handshake, reply)
    }

    /// The same, for a client of Xano.
    fn admit_xano(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: Reply) -> Next {
        if self.is_draining() {
            return self.refuse_handshake(slot, head, &restarting(), reply);
        }
        match Arrival::read(&mut self.engine, head) {
            Ok(Arrival::Client(handshake)) => self.enter_session(slot, head, handshake, reply),
            Ok(Arrival::Stranger(farewell)) => {
                self.counters.session_refusals_total += 1;
                tracing::debug!(why = farewell.sentence(), "a session was refused");
                self.out.clear();
                farewell.put(&mut self.out);
                self.connections.send(slot, &self.out);
                self.linger_detached(slot);
                Next::Frames
            }
            Err(problem) => self.refuse_handshake(slot, head, &problem, reply),
        }
    }

    /// Opens the session that a handshake asks for, or goes on with the one that it names.
    fn enter_session(
        &mut self,
        slot: ConnectionSlot,
        head: &Head<'_>,
        handshake: Handshake<'_>,
        reply: Reply,
    ) -> Next {
        if let Some(owner) = self.owner_elsewhere(slot, &handshake) {
            return Next::HandOver(owner);
        }
        let Some(session) =
            self.resume_session(slot, &handshake).or_else(|| self.open_session(slot, &handshake))
        else {
            let problem = Problem::new(503, APP_FULL, "The app has as many connections as it may.");
            return self.refuse_handshake(slot, head, &problem, reply);
        };
        self.counters.handshakes_total += 1;
        if let Some(connection) = self.connections.live(slot) {
            connection.protocol = Protocol::WebSocket { decoder: Decoder::new(), session };
            connection.heard = self.now;
        }
        self.watch(slot, session);
        if self.engine.is_paused(session) {
            return Next::WaitWithFrames;
        }
        let Some(command) = handshake.command else { return Next::Frames };
        match (self.handler.on_message)(&mut self.engine, session, Message::Text(&command)) {
            Flow::Pause => Next::WaitWithFrames,
            Flow::Continue | Flow::Yield => Next::Frames,
        }
    }

    fn refuse_handshake(
        &mut self,
        slot: ConnectionSlot,
        head: &Head<'_>,
        problem: &Problem,
        mut reply: Reply,
    ) -> Next {
        // Checking a token is dear: whoever sends bad ones needs a connection for each.
        if matches!(problem.code, "invalid_session" | "session_expired") {
            reply.persistence = Persistence::Close;
        }
        self.counters.app_full_total += u64::from(problem.code == APP_FULL);
        let (status, code) = (problem.status, problem.code);
        tracing::debug!(app = %app_name(head), status, code, "a handshake was refused");
        self.out.clear();
        reply.put_problem(&mut self.out, problem);
        self.sent(slot, status, reply.persistence)
    }

    /// Sends the response in `out`.
    pub(super) fn sent(&mut self, slot: ConnectionSlot, status: u16, persistence: Persistence) -> Next {
        self.counters.requests_total += 1;
        self.counters.request_errors_total += u64::from(status >= 400);
        self.connections.send(slot, &self.out);
        let Some(connection) = self.connections.live(slot) else { return Next::End };
        connection.flags.raise(Flag::Served);
        connection.heard = self.now;
        if let Some(since) = connection.stalled_since() {
            self.arm_by(slot, since.saturating_add(ticks(self.config.request_timeout_ms)));
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

    /// An outcome has come that a request may have waited for.
    pub(super) fn on_answer(&mut self, token: u64, result: Result<Outcome, ReplyError>) {
        let Some(result) = self.on_back_end_answer(token, result) else { return };
        self.out.clear();
        let completed = match self.requests.on_answer(token, result, &mut self.out) {
            Some(completed) => completed,
            None => match self.held.on_answer(token, &mut self.out) {
                Some(completed) => completed,
                None => return,
            },
        };
        let id = ConnectionId::from_token(completed.connection);
        if self.connections.find(id).is_none() {
            return;
        }
        match self.sent(id.slot, completed.status, completed.persistence) {
            Next::End => self.begin_close_http(id.slot),
            _ => self.resume(id.slot),
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

    fn refuse_and_close(&mut self, slot: ConnectionSlot, problem: &Problem) {
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

fn restarting() -> Problem {
    Problem::new(503, "restarting", "The server is restarting; nothing was done.")
}
