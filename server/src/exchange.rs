//! HTTP on a connection: requests from bytes, one after another, answered in order; and the upgrade to WebSocket.
//!
//! A connection whose answers are not taken is held: neither read nor handled until they are. So what waits for a peer is
//! bounded by [`BACKLOG_BYTES`] and one answer, however much it asks.

use fanfare_core::{
    command::Outcome,
    engine::Flow,
    error::ReplyError,
    http::{
        BodyDecoder, Head, HttpError, HttpLimits, Persistence, cut_body, parse_head, put_problem, resume_head,
    },
    ws::{Decoder, Message},
};

use crate::{
    access::{ANY_ORIGIN, app_name},
    connection::{ConnectionId, Exchange, PendingBody, Protocol},
    rest::Handled,
    timers::{TICK_MS, Tick},
    upgrade::{APP_FULL, Opened, upgrade},
    worker::{Handler, Worker},
};

/// Where WebSocket connections come in.
const WEBSOCKET_PATH: &str = "/v1/ws";

/// Answers that may wait to be sent before the next request is handled.
const BACKLOG_BYTES: usize = 64 << 10;

/// What became of the connection with a request.
enum Next {
    /// The next request may follow.
    Request,
    /// The answer comes later; until then nothing more is handled.
    Wait,
    /// It is a WebSocket now.
    Frames,
    /// It is a WebSocket now, and its first command waits for another thread.
    WaitWithFrames,
    /// It ends.
    End,
}

/// Handles input of an HTTP connection.
pub(crate) fn feed<H: Handler>(worker: &mut Worker<H>, slot: u32, input: &mut [u8]) {
    let now = worker.now;
    let limits = limits(worker);
    let Some(connection) = worker.connections.live(slot) else { return };
    let Protocol::Http(exchange) = &mut connection.protocol else { return };
    let mut exchange = exchange.take().map(|boxed| *boxed).unwrap_or_default();
    let mut held = connection.input.take();
    if held.is_none() && exchange.body.is_none() && connection.served {
        connection.heard = now;
    }
    let data: &mut [u8] = match &mut held {
        Some(held) => {
            held.extend_from_slice(input);
            held
        }
        None => input,
    };
    let mut at = 0;
    loop {
        if let Some(connection) = worker.connections.live(slot)
            && connection.backlog() > BACKLOG_BYTES
        {
            connection.held = true;
            return keep(worker, slot, exchange, &data[at..]);
        }
        let next = match step(worker, slot, &mut exchange, &data[at..], limits) {
            Ok((taken, Some(next))) => {
                at += taken;
                next
            }
            Ok((taken, None)) if exchange.body.is_some() && at + taken < data.len() => {
                at += taken;
                continue;
            }
            Ok((taken, None)) => return keep(worker, slot, exchange, &data[at + taken..]),
            Err(error) => return fail(worker, slot, error),
        };
        match next {
            Next::Request => {}
            Next::Wait => return keep(worker, slot, exchange, &data[at..]),
            Next::Frames => return worker.feed_frames(slot, &mut data[at..]),
            Next::WaitWithFrames => return worker.pause(slot, &data[at..]),
            Next::End => return worker.end_http(slot),
        }
    }
}

/// Reads a request, or part of one. Returns how many bytes are done with, and what is next if a request was complete.
fn step<H: Handler>(
    worker: &mut Worker<H>,
    slot: u32,
    exchange: &mut Exchange,
    rest: &[u8],
    limits: HttpLimits,
) -> Result<(usize, Option<Next>), HttpError> {
    if let Some(mut pending) = exchange.body.take() {
        let (taken, done) = pending.decoder.decode(rest, &mut pending.body)?;
        if !done {
            exchange.body = Some(pending);
            return Ok((taken, None));
        }
        let (head, _) = parse_head(&pending.head, limits)?.expect("it was parsed before");
        return Ok((taken, Some(answer(worker, slot, &head, &pending.body))));
    }
    if rest.is_empty() {
        return Ok((0, None));
    }
    let Some((head, taken)) = resume_head(rest, limits, &mut exchange.scan)? else { return Ok((0, None)) };
    if head.body.is_empty() {
        return Ok((taken, Some(answer(worker, slot, &head, &[]))));
    }
    if head.expect_continue {
        worker.connections.send(slot, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let decoder = BodyDecoder::new(head.body, limits);
    exchange.body = Some(PendingBody { head: rest[..taken].to_vec(), decoder, body: Vec::new() });
    Ok((taken, None))
}

/// Answers a complete request.
fn answer<H: Handler>(worker: &mut Worker<H>, slot: u32, head: &Head<'_>, body: &[u8]) -> Next {
    worker.out.clear();
    let persistence = head.persistence();
    if head.path == WEBSOCKET_PATH {
        let Worker { engine, config, now_ms, .. } = worker;
        match upgrade(engine, config, head, slot, *now_ms, H::WELCOMES) {
            Ok(Opened { session, command }) => {
                worker.numbers.handshakes_total += 1;
                let engine = &worker.engine;
                let app = &engine.session_app(session).name;
                tracing::debug!(%app, session = %engine.session_id(session), "a session begins");
                if let Some(connection) = worker.connections.live(slot) {
                    connection.protocol = Protocol::WebSocket { decoder: Decoder::new(), session };
                    connection.heard = worker.now;
                }
                worker.watch(slot);
                let message = command.as_deref().map(Message::Text);
                return match worker.handler.on_messages(&mut worker.engine, session, message.into_iter()) {
                    Flow::Pause => Next::WaitWithFrames,
                    Flow::Continue => Next::Frames,
                };
            }
            Err(problem) => {
                worker.numbers.app_full_total += u64::from(problem.code == APP_FULL);
                let (status, headers) = (problem.status, problem.headers);
                tracing::debug!(app = %app_name(head), status, code = problem.code, "a handshake was refused");
                put_problem(&mut worker.out, status, problem.code, &problem.detail, persistence, headers);
                if head.method == "HEAD" {
                    cut_body(&mut worker.out, 0);
                }
                return sent(worker, slot, status, persistence);
            }
        }
    }
    let token = worker.connections.id(slot).token();
    let Worker { requests, engine, out, .. } = worker;
    match requests.handle(engine, head, body, token, out) {
        Handled::Answered { status } => sent(worker, slot, status, persistence),
        Handled::Waiting => {
            if let Some(connection) = worker.connections.live(slot) {
                connection.paused = true;
            }
            Next::Wait
        }
    }
}

/// Sends the response in `worker.out`.
fn sent<H: Handler>(worker: &mut Worker<H>, slot: u32, status: u16, persistence: Persistence) -> Next {
    worker.numbers.requests_total += 1;
    worker.numbers.request_errors_total += u64::from(status >= 400);
    worker.connections.send(slot, &worker.out);
    let Some(connection) = worker.connections.live(slot) else { return Next::End };
    connection.served = true;
    connection.heard = worker.now;
    if let Some(since) = connection.stalled_since() {
        worker.arm_by(slot, since.saturating_add(ticks(worker.config.request_timeout_ms)));
    }
    match persistence {
        Persistence::Close => Next::End,
        _ if worker.is_draining() => Next::End,
        _ => Next::Request,
    }
}

/// The peer has taken all answers there were.
pub(crate) fn on_drained<H: Handler>(worker: &mut Worker<H>, slot: u32) {
    let (now, draining) = (worker.now, worker.is_draining());
    let Some(connection) = worker.connections.live(slot) else { return };
    if connection.held {
        connection.heard = now;
        return if draining { worker.end_http(slot) } else { worker.resume(slot) };
    }
    if connection.paused || connection.ready {
        // An answer, or what is still to be read, decides.
        return;
    }
    if connection.half_closed || draining {
        return worker.close(slot);
    }
    if !connection.is_amid_request() {
        connection.heard = now;
    }
}

/// The last part of a waiting request's answer may have come.
pub(crate) fn on_answer<H: Handler>(worker: &mut Worker<H>, token: u64, result: Result<Outcome, ReplyError>) {
    worker.out.clear();
    let Some((connection, status, persistence)) = worker.requests.on_answer(token, result, &mut worker.out)
    else {
        return;
    };
    let id = ConnectionId::from_token(connection);
    if worker.connections.find(id).is_none() {
        return;
    }
    match sent(worker, id.slot, status, persistence) {
        Next::End => worker.end_http(id.slot),
        _ => worker.resume(id.slot),
    }
}

/// Keeps an incomplete request until more comes.
fn keep<H: Handler>(worker: &mut Worker<H>, slot: u32, exchange: Exchange, rest: &[u8]) {
    let Some(connection) = worker.connections.live(slot) else { return };
    if rest.is_empty() && exchange.body.is_none() {
        return;
    }
    let started = connection.heard;
    let second = connection.served && !connection.paused && !connection.held;
    if !rest.is_empty() {
        connection.input = Some(Box::new(rest.to_vec()));
    }
    connection.protocol = Protocol::Http(Some(Box::new(exchange)));
    if second {
        // The first request's deadline was set when the connection was accepted.
        let timeout = ticks(worker.config.request_timeout_ms);
        worker.arm_by(slot, started.saturating_add(timeout));
    }
}

/// Answers what could not be read as HTTP, and ends the connection.
fn fail<H: Handler>(worker: &mut Worker<H>, slot: u32, error: HttpError) {
    let code = match error.status() {
        413 => "body_too_large",
        414 | 431 => "head_too_large",
        408 => "request_timeout",
        501 => "not_implemented",
        505 => "version_not_supported",
        _ => "malformed_request",
    };
    tracing::debug!(status = error.status(), code, why = %error, "a request could not be read");
    worker.out.clear();
    let detail = format!("{error}.");
    put_problem(&mut worker.out, error.status(), code, &detail, Persistence::Close, &[ANY_ORIGIN]);
    sent(worker, slot, error.status(), Persistence::Close);
    worker.end_http(slot);
}

/// An HTTP connection's deadline has come.
pub(crate) fn on_due<H: Handler>(worker: &mut Worker<H>, slot: u32) {
    let now = worker.now;
    let Some(connection) = worker.connections.live(slot) else { return };
    let awaited = connection.is_amid_request() || !connection.served;
    let request_timeout = ticks(worker.config.request_timeout_ms);
    let stalled = connection.stalled_since().map(|since| since.saturating_add(request_timeout));
    if stalled.is_some_and(|deadline| now >= deadline) {
        worker.numbers.stalled_total += 1;
        tracing::debug!("a connection ends: its answers are not taken");
        return worker.close(slot);
    }
    let deadline = if connection.paused {
        now + 1000 / TICK_MS as Tick
    } else if awaited && !connection.held {
        connection.heard.saturating_add(request_timeout)
    } else {
        // It rests only when all answers are taken.
        stalled.unwrap_or(connection.heard.saturating_add(ticks(worker.config.keep_alive_ms)))
    };
    if now < deadline {
        return worker.arm(slot, stalled.map_or(deadline, |stalled| stalled.min(deadline)));
    }
    if awaited {
        worker.numbers.request_timeouts_total += 1;
        return fail(worker, slot, HttpError::Timeout);
    }
    worker.close(slot);
}

/// Answers a request that has not arrived whole before the server ends.
pub(crate) fn refuse_restarting<H: Handler>(worker: &mut Worker<H>, slot: u32) {
    worker.out.clear();
    let detail = "The server is restarting; nothing was done.";
    put_problem(&mut worker.out, 503, "restarting", detail, Persistence::Close, &[ANY_ORIGIN]);
    sent(worker, slot, 503, Persistence::Close);
    worker.end_http(slot);
}

/// Refuses a connection because the server is full.
pub(crate) fn refuse_full<H: Handler>(worker: &mut Worker<H>, slot: u32) {
    worker.out.clear();
    tracing::debug!(code = "too_many_connections", "a connection was refused");
    let detail = "The server has as many connections as it may.";
    put_problem(&mut worker.out, 503, "too_many_connections", detail, Persistence::Close, &[ANY_ORIGIN]);
    worker.connections.send(slot, &worker.out);
    worker.close(slot);
}

fn limits<H>(worker: &Worker<H>) -> HttpLimits {
    let config = &worker.config;
    HttpLimits { head_bytes: config.head_bytes, headers: config.headers, body_bytes: config.body_bytes }
}

fn ticks(ms: u32) -> Tick {
    Tick::try_from(u64::from(ms).div_ceil(TICK_MS)).unwrap_or(Tick::MAX)
}
