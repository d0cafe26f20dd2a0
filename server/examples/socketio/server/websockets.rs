//! WebSockets: handshakes, frames and ends.

use std::sync::Arc;

use fanfare_core::{
    engineio::{Control, Framing, Packet},
    http::{Persistence, put_response},
    ws::{DecodeLimits, Message, OpCode, Role as Side, Upgrade, put_close, put_frame},
};
use mio::Token;

use super::{PATIENCE_MS, Server, Step, new_id};
use crate::socket::{Life, Role};

impl Server {
    /// Answers a WebSocket's handshake.
    pub(super) fn become_websocket(&mut self, token: Token, sid: &Arc<str>, upgrade: &Upgrade<'_>) -> Life {
        let Some(socket) = self.sockets.get_mut(&token) else { return Life::Over };
        match upgrade.accept() {
            Ok(accept) => {
                fanfare_core::ws::put_response(&mut socket.output, &accept, None);
                socket.role = Role::WebSocket { sid: Arc::clone(sid), decoder: Default::default() };
                Life::On
            }
            Err(error) => {
                put_response(&mut socket.output, error.status(), error.headers(), b"", Persistence::Close);
                socket.close(self.now_ms);
                Life::Over
            }
        }
    }

    pub(super) fn on_frame(&mut self, token: Token) -> Step {
        let Some(socket) = self.sockets.get_mut(&token) else { return Step::Wait };
        let mut input = std::mem::take(&mut socket.input);
        let Role::WebSocket { sid, decoder } = &mut socket.role else { return Step::Wait };
        let (sid, mut decoder) = (Arc::clone(sid), std::mem::take(decoder));
        let limits = DecodeLimits { message_bytes: self.engine.limits.payload_bytes, fragments: 1024 };
        let step = match decoder.decode(&mut input, Side::Server, limits) {
            Ok(decoded) => {
                let consumed = decoded.consumed;
                let step = if decoded.message.is_some() { Step::Again } else { Step::Wait };
                if let Some(message) = decoded.message {
                    self.on_websocket_message(token, &sid, message);
                }
                input.drain(..consumed);
                step
            }
            Err(error) => {
                if let Some(socket) = self.sockets.get_mut(&token) {
                    put_close(&mut socket.output, error.close_code(), error.reason(), None);
                    socket.close(self.now_ms);
                }
                self.detach_websocket(token, &sid);
                return Step::Wait;
            }
        };
        if let Some(socket) = self.sockets.get_mut(&token) {
            socket.input = input;
            if let Role::WebSocket { decoder: place, .. } = &mut socket.role {
                *place = decoder;
            }
        }
        step
    }

    fn on_websocket_message(&mut self, token: Token, sid: &Arc<str>, message: Message<'_>) {
        let packet = match message {
            Message::Text(text) => Packet::from_text(text),
            Message::Binary(bytes) => Ok(Packet::from_binary(bytes)),
            Message::Ping(payload) => {
                if let Some(socket) = self.sockets.get_mut(&token) {
                    put_frame(&mut socket.output, OpCode::Pong, payload);
                }
                return;
            }
            Message::Pong(_) => return,
            Message::Close(_) => {
                self.close_websocket(Some(token));
                return self.detach_websocket(token, sid);
            }
        };
        let now_ms = self.now_ms;
        self.with_session(sid, |session, out| {
            if session.probe == Some(token) {
                session.engine.handle_probe(packet);
            } else if let Some(message) = session.engine.handle_packet(packet, now_ms) {
                session.on_message(message, now_ms, new_id(), out);
            }
        });
    }

    pub(super) fn detach_websocket(&mut self, token: Token, sid: &Arc<str>) {
        self.with_session(sid, |session, _| {
            if session.probe.take_if(|probe| *probe == token).is_some() {
                session.engine.handle_probe_ended();
            } else if session.websocket.take_if(|websocket| *websocket == token).is_some() {
                session.engine.handle_websocket_ended();
            }
        });
    }

    pub(super) fn write_control(&mut self, token: Option<Token>, control: Control) {
        if let Some(socket) = token.and_then(|token| self.sockets.get_mut(&token)) {
            Framing::Frames.put_control(&mut socket.output, control);
        }
    }

    pub(super) fn close_websocket(&mut self, token: Option<Token>) {
        if let Some(socket) = token.and_then(|token| self.sockets.get_mut(&token)) {
            socket.close_websocket();
            socket.deadline_ms = self.now_ms + PATIENCE_MS;
        }
    }
}
