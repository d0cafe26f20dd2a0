//! Requests: heads and bodies in, answers out.

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::{
    engineio::{
        self, Action, Carrier, Framing, Method, Payload, PostHead, Query, RequestError, Route, Transport,
        UpgradeAnswer, Upgrades, put_open,
    },
    http::{BodyDecoder, Head, HttpError, HttpLimits, Persistence, parse_head, put_error},
    ws::Upgrade,
};
use mio::Token;

use super::{HEADS, MAX_SESSIONS, PATIENCE_MS, Server, Step, new_id};
use crate::answer::Answer;
use crate::session::{Service, Session};
use crate::socket::{Life, Role, Socket};

impl Server {
    pub(super) fn on_head(&mut self, token: Token) -> Step {
        let Some(socket) = self.sockets.get_mut(&token) else { return Step::Wait };
        let input = std::mem::take(&mut socket.input);
        match parse_head(&input, HEADS) {
            Ok(None) => {
                socket.input = input;
                Step::Wait
            }
            Ok(Some((head, len))) => {
                socket.input = input[len..].to_vec();
                self.on_request(token, &head);
                Step::Again
            }
            Err(error) => {
                put_error(&mut socket.output, error);
                socket.close(self.now_ms);
                Step::Wait
            }
        }
    }

    fn on_request(&mut self, token: Token, head: &Head<'_>) {
        // A refused body is not waited for.
        let persistence = if head.body.is_empty() { head.persistence() } else { Persistence::Close };
        let Some(service) = Service::of(head.path) else {
            return self.answer(token, &Answer::empty(404, persistence));
        };
        if head.method == "OPTIONS" {
            return self.answer(token, &Answer::empty(204, persistence));
        }
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let carrier = if upgrade.is_requested() { Carrier::Upgrade } else { Carrier::Http };
        let query = Query::parse(head.query.unwrap_or_default());
        let outcome = match &query {
            Ok(query) => match query.route(Method::new(head.method), carrier) {
                Ok(Route::Open(transport)) => self.open(token, service, transport, &upgrade, persistence),
                Ok(Route::Session { sid, action }) => self.on_action(token, sid, action, head, &upgrade),
                Err(error) => Err(error),
            },
            Err(error) => Err(*error),
        };
        if let Err(error) = outcome {
            self.refuse(token, error, persistence);
        }
    }

    fn open(
        &mut self,
        token: Token,
        service: Service,
        transport: Transport,
        upgrade: &Upgrade<'_>,
        persistence: Persistence,
    ) -> Result<(), RequestError> {
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(RequestError::Forbidden);
        }
        let sid: Arc<str> = new_id().into();
        let mut packet = BytesMut::new();
        let engine = engineio::Session::open(Arc::clone(&self.engine), transport, self.now_ms);
        let mut session = Session::new(service, engine, &self.connection, self.now_ms);
        match transport {
            Transport::Polling => {
                put_open(&mut packet, Framing::Payload, &sid, Upgrades::WebSocket, &self.engine);
                self.answer(token, &Answer::payload(&packet[1..], persistence));
            }
            Transport::WebSocket => {
                if self.become_websocket(token, &sid, upgrade) == Life::Over {
                    return Ok(());
                }
                put_open(&mut packet, Framing::Frames, &sid, Upgrades::None, &self.engine);
                self.write(token, &packet);
                session.websocket = Some(token);
            }
        }
        self.sessions.insert(sid, session);
        Ok(())
    }

    fn on_action(
        &mut self,
        token: Token,
        sid: &str,
        action: Result<Action, RequestError>,
        head: &Head<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Result<(), RequestError> {
        let (sid, session) = self.sessions.get_key_value(sid).ok_or(RequestError::UnknownSession)?;
        let sid = Arc::clone(sid);
        if Service::of(head.path) != Some(session.service) {
            return Err(RequestError::UnknownSession);
        }
        let outcome = match action? {
            Action::Poll => self.on_poll(token, &sid, head.persistence()),
            Action::Post => self.on_post(token, &sid, head),
            Action::Upgrade => self.on_upgrade(token, &sid, upgrade),
        };
        self.carry_out(&sid);
        outcome
    }

    fn on_poll(
        &mut self,
        token: Token,
        sid: &Arc<str>,
        persistence: Persistence,
    ) -> Result<(), RequestError> {
        let Some(session) = self.sessions.get_mut(sid) else { return Err(RequestError::UnknownSession) };
        session.engine.handle_poll(self.now_ms)?;
        session.poll = Some(token);
        self.set_role(token, Role::Poll { sid: Arc::clone(sid), persistence });
        Ok(())
    }

    fn on_post(&mut self, token: Token, sid: &Arc<str>, head: &Head<'_>) -> Result<(), RequestError> {
        let Some(session) = self.sessions.get_mut(sid) else { return Err(RequestError::UnknownSession) };
        let post = PostHead { content_type: head.header("content-type"), content_length: length_of(head) };
        session.engine.handle_post(post, self.now_ms)?;
        session.post = Some(token);
        if head.expect_continue {
            self.write(token, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let limits = HttpLimits { body_bytes: self.engine.limits.payload_bytes, ..HEADS };
        let decoder = BodyDecoder::new(head.body, limits);
        let role =
            Role::Post { sid: Arc::clone(sid), body: Vec::new(), decoder, persistence: head.persistence() };
        self.set_role(token, role);
        Ok(())
    }

    fn on_upgrade(
        &mut self,
        token: Token,
        sid: &Arc<str>,
        upgrade: &Upgrade<'_>,
    ) -> Result<(), RequestError> {
        let Some(session) = self.sessions.get_mut(sid) else { return Err(RequestError::UnknownSession) };
        let answer = session.engine.handle_upgrade(self.now_ms)?;
        if answer == UpgradeAnswer::Probe {
            session.probe = Some(token);
        }
        match (self.become_websocket(token, sid, upgrade), answer) {
            (Life::On, UpgradeAnswer::Close) => self.close_websocket(Some(token)),
            (Life::Over, UpgradeAnswer::Probe) => {
                if let Some(session) = self.sessions.get_mut(sid) {
                    session.engine.handle_probe_ended();
                    session.probe = None;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_body(&mut self, token: Token) -> Step {
        let Some(socket) = self.sockets.get_mut(&token) else { return Step::Wait };
        let Role::Post { sid, body, decoder, persistence } = &mut socket.role else { return Step::Wait };
        let (sid, persistence) = (Arc::clone(sid), *persistence);
        match decoder.decode(&socket.input, body) {
            Ok((consumed, true)) => {
                socket.input.drain(..consumed);
                let body = std::mem::take(body);
                self.on_packets(token, &sid, &body, persistence);
                Step::Again
            }
            Ok((consumed, false)) => {
                socket.input.drain(..consumed);
                Step::Wait
            }
            Err(HttpError::BodyTooLarge) => {
                self.with_session(&sid, |session, _| {
                    session.post = None;
                    session.engine.handle_post_body();
                });
                self.refuse(token, RequestError::BodyTooLarge, Persistence::Close);
                Step::Wait
            }
            Err(_) => {
                self.on_ended(token);
                Step::Wait
            }
        }
    }

    fn on_packets(&mut self, token: Token, sid: &Arc<str>, body: &[u8], persistence: Persistence) {
        let (now_ms, limits) = (self.now_ms, self.engine.limits);
        self.with_session(sid, |session, out| {
            session.post = None;
            session.engine.handle_post_body();
            for packet in Payload::new(body, limits) {
                if let Some(message) = session.engine.handle_packet(packet, now_ms) {
                    session.on_message(message, now_ms, new_id(), out);
                }
            }
        });
        self.answer(token, &Answer::post(persistence));
    }

    pub(super) fn cut(&mut self, sid: &Arc<str>, action: Action) {
        self.with_session(sid, |session, _| session.engine.handle_request_cut(action));
    }

    pub(super) fn answer_poll(&mut self, token: Option<Token>, body: &[u8]) {
        let Some(token) = token else { return };
        let Some(Socket { role: Role::Poll { persistence, .. }, .. }) = self.sockets.get(&token) else {
            return;
        };
        let persistence = *persistence;
        self.answer(token, &Answer::payload(body, persistence));
    }

    fn refuse(&mut self, token: Token, error: RequestError, persistence: Persistence) {
        self.answer(token, &Answer::refusal(error, persistence));
    }

    /// Writes an answer; the socket is ready for the next request.
    fn answer(&mut self, token: Token, answer: &Answer<'_>) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        answer.put(&mut socket.output);
        socket.role = Role::Http;
        socket.deadline_ms = self.now_ms + PATIENCE_MS;
        if answer.persistence == Persistence::Close {
            socket.close(self.now_ms);
        }
        self.ready.push(token);
    }

    fn set_role(&mut self, token: Token, role: Role) {
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.role = role;
        }
    }
}

fn length_of(head: &Head<'_>) -> Option<u64> {
    match head.body {
        fanfare_core::http::BodyFraming::None => Some(0),
        fanfare_core::http::BodyFraming::Length(length) => Some(length),
        fanfare_core::http::BodyFraming::Chunked => None,
    }
}
