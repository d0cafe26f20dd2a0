//! Carries out the effects of sessions on sockets.

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::engineio::{self, CloseReason, Control, Effect, Framing};

use super::Server;
use crate::session::Session;

impl Server {
    /// Calls `act` with a session, sends the session's output, and carries out the session's effects.
    pub(super) fn with_session(&mut self, sid: &Arc<str>, act: impl FnOnce(&mut Session, &mut BytesMut)) {
        let Some(session) = self.sessions.get_mut(sid) else { return };
        let mut out = BytesMut::new();
        let framing = session.engine.framing();
        act(session, &mut out);
        match (framing, session.websocket) {
            _ if out.is_empty() => {}
            (Framing::Frames, Some(token)) => self.write(token, &out),
            (Framing::Frames, None) => {}
            (Framing::Payload, _) => {
                if session.engine.queue(&out) == Err(engineio::QueueError::Full) {
                    session.engine.abort(CloseReason::SlowConsumer);
                }
            }
        }
        self.carry_out(sid);
    }

    pub(super) fn carry_out(&mut self, sid: &Arc<str>) {
        while let Some(session) = self.sessions.get_mut(sid) {
            let Some(effect) = session.engine.poll_effect() else { return };
            match effect {
                Effect::AnswerPoll => {
                    let (token, body) = (session.poll.take(), session.engine.take_payload());
                    self.answer_poll(token, &body);
                }
                Effect::CutPost => {
                    if let Some(token) = session.post.take() {
                        self.sockets.remove(&token);
                    }
                }
                Effect::AnswerProbe => {
                    let token = session.probe;
                    self.write_control(token, Control::ProbeAnswer);
                }
                Effect::CloseProbe => {
                    let token = session.probe.take();
                    self.close_websocket(token);
                }
                Effect::Upgraded => {
                    session.websocket = session.probe.take();
                    let (token, mut frames) = (session.websocket, BytesMut::new());
                    session.engine.take_frames(&mut frames);
                    if let Some(token) = token {
                        self.write(token, &frames);
                    }
                }
                Effect::SendPing => {
                    let token = session.websocket;
                    self.write_control(token, Control::Ping);
                }
                Effect::CloseWebSocket => {
                    let token = session.websocket.take();
                    self.close_websocket(token);
                }
                Effect::Closed(_) => {
                    self.sessions.remove(sid);
                }
            }
        }
    }
}
