//! The life of outlets of clients that poll: their effects, deadlines, upgrades and ends.

use std::{collections::HashMap, net::IpAddr};

use bytes::BytesMut;
use fanfare_core::{
    dialect::{self, Lobby as State, PollAnswer, PollEffect},
    disconnect::Disconnect,
    id::SessionSlot,
    ws::Decoder,
};

use super::{Worker, deadlines::ticks, http::Next, lifecycle::Leaver};
use crate::{
    connection::{
        ConnectionId, ConnectionSlot, Flag, Lobby, NEVER, OutletKind, OutletSlot, Polling, Protocol, Stage,
        Standing, Stranger,
    },
    http::reply::Reply,
    timers::{TICK_MS, Tick},
};

/// The most clients of a worker that poll without a session, and the most of one address.
const STRANGERS: usize = 4096;
const STRANGERS_OF_ADDRESS: usize = 1024;

/// The number of clients that poll without a session.
#[derive(Default)]
pub(super) struct Strangers {
    count: usize,
    of: HashMap<IpAddr, usize>,
}

impl Strangers {
    /// Counts a client without a session, unless a limit is reached.
    fn enter(&mut self, address: Option<IpAddr>) -> bool {
        if self.count >= STRANGERS {
            return false;
        }
        if let Some(address) = address {
            let of = self.of.entry(address).or_default();
            if *of >= STRANGERS_OF_ADDRESS {
                return false;
            }
            *of += 1;
        }
        self.count += 1;
        true
    }

    /// Counts a client without a session less.
    pub(super) fn leave(&mut self, address: Option<IpAddr>) {
        self.count -= 1;
        if let Some(address) = address
            && let Some(of) = self.of.get_mut(&address)
        {
            *of -= 1;
            if *of == 0 {
                self.of.remove(&address);
            }
        }
    }
}

impl Worker {
    /// Whether one more client may poll. Such a client counts as a connection.
    pub(super) fn admit_stranger(&mut self, address: Option<IpAddr>) -> bool {
        if !self.control.capacity.take() {
            return false;
        }
        let is_admitted = self.strangers.enter(address);
        if !is_admitted {
            self.control.capacity.give_back(1);
        }
        is_admitted
    }

    /// Carries out the effects of an outlet, and arms its deadline.
    pub(super) fn serve_outlet(&mut self, slot: OutletSlot) {
        let now_ms = self.clock.elapsed_ms();
        if let Some(polling) = self.connections.outlets.polling(slot) {
            polling.polled.handle_output(now_ms);
        }
        while let Some(polling) = self.connections.outlets.polling(slot)
            && let Some(effect) = polling.polled.poll_effect()
        {
            match effect {
                PollEffect::AnswerPoll => self.answer_poll(slot),
                PollEffect::CutPost => {
                    if let Some(connection) = polling.post.take()
                        && self.connections.find(connection).is_some()
                    {
                        self.close(connection.slot);
                    }
                }
                PollEffect::AnswerProbe => {
                    if let Some(connection) = polling.probe {
                        self.out.clear();
                        polling.polled.put_probe_answer(&mut self.out);
                        self.send_to(connection);
                    }
                }
                PollEffect::CloseProbe => {
                    if let Some(connection) = polling.probe.take()
                        && self.connections.find(connection).is_some()
                    {
                        self.close_bare(connection.slot);
                    }
                }
                PollEffect::Upgraded => self.change_to_websocket(slot),
                PollEffect::Ended(why) => self.end_outlet(slot, why),
            }
        }
        self.arm_outlet(slot);
    }

    fn answer_poll(&mut self, slot: OutletSlot) {
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let answer = polling.polled.take_answer();
        let Some(held) = polling.poll.take() else { return };
        match &mut polling.stage {
            Stage::Session(session) => self.engine.on_drained(*session),
            Stage::BackEnd(back_end) if back_end.standing == Standing::Behind => {
                back_end.standing = Standing::Reads;
                self.ready.push_back(slot.number());
            }
            Stage::BackEnd(_) | Stage::Stranger(_) | Stage::Over => {}
        }
        self.answer_later(held.connection, &answer, held.reply);
    }

    /// Answers a held request. Further input of its connection is handled at the end of the turn.
    pub(super) fn answer_later(&mut self, id: ConnectionId, answer: &PollAnswer, reply: Reply) {
        let date = self.date();
        let Some(connection) = self.connections.find(id) else { return };
        if let Protocol::Poll(_) = connection.protocol {
            connection.protocol = Protocol::Http(None);
        }
        match self.respond(id.slot, answer, &reply.dated(date)) {
            Next::End => self.begin_close_http(id.slot),
            _ => self.answered.push(id),
        }
    }

    fn send_to(&mut self, id: ConnectionId) {
        if self.connections.find(id).is_some() {
            self.connections.send(id.slot, &self.out);
        }
    }

    /// Moves a client to the WebSocket that it has probed.
    fn change_to_websocket(&mut self, slot: OutletSlot) {
        let Some(connection) =
            self.connections.outlets.polling(slot).and_then(|polling| polling.probe.take())
        else {
            return;
        };
        self.control.capacity.give_back(1);
        let outlet = self.connections.outlets.id(slot);
        let OutletKind::Polling(polling) = self.connections.outlets.upgrade(slot) else { return };
        let Polling { mut polled, stage, body, .. } = *polling;
        let mut frames = BytesMut::new();
        let format = polled.take_frames(&mut frames);
        self.upgraded.insert(connection.slot.0, slot);
        self.counters.upgrades_total += 1;
        self.connections.send(connection.slot, &frames);
        match stage {
            Stage::Session(session) => self.attach(connection.slot, session, format),
            Stage::Stranger(stranger) => self.move_to_lobby(connection.slot, *stranger),
            Stage::BackEnd(back_end) => self.move_back_end(outlet, connection, *back_end),
            Stage::Over => self.close_bare(connection.slot),
        }
        // The client has said that it awaits no further answer.
        if let Some(posting) = body
            && self.connections.find(posting.connection).is_some()
        {
            self.close(posting.connection.slot);
        }
    }

    /// Moves a session to a WebSocket.
    fn attach(&mut self, slot: ConnectionSlot, session: SessionSlot, format: dialect::Format) {
        self.engine.attach(session, slot.0, format, &mut self.connections);
        let is_paused = self.engine.is_paused(session);
        let Some(connection) = self.connections.live(slot) else { return self.engine.close(session) };
        if is_paused {
            connection.flags.raise(Flag::Paused);
        }
        self.bind(slot, session);
    }

    fn move_to_lobby(&mut self, slot: ConnectionSlot, stranger: Stranger) {
        let Stranger { mut state, origin, address, began } = stranger;
        self.strangers.leave(address);
        state.upgrade();
        let lobby = Lobby { decoder: Decoder::new(), state, origin, address, began };
        let due = self.now.saturating_add(self.lobby_interval(&lobby.state));
        let Some(connection) = self.connections.live(slot) else { return };
        connection.protocol = Protocol::Lobby(Box::new(lobby));
        self.arm_by(slot, due);
    }

    /// Ends the outlet of a client that polls, and the client's session.
    pub(super) fn end_outlet(&mut self, slot: OutletSlot, why: Disconnect) {
        let outlet = self.connections.outlets.remove(slot);
        self.engine.node().close_outlet(&outlet.secret);
        let OutletKind::Polling(polling) = outlet.kind else { return };
        self.control.capacity.give_back(1);
        match polling.stage {
            Stage::Session(session) => {
                self.count_end(why);
                let app = &self.engine.session_app(session).name;
                tracing::debug!(%app, session = %self.engine.session_id(session), ?why, "a session ends");
                let departed = self.departing_client(session);
                self.engine.close(session);
                self.forget_client(departed);
            }
            Stage::Stranger(stranger) => self.strangers.leave(stranger.address),
            Stage::BackEnd(_) | Stage::Over => {}
        }
        if let Some(held) = polling.poll
            && self.connections.find(held.connection).is_some()
        {
            self.close(held.connection.slot);
        }
        if let Some(posting) = polling.body {
            self.answer_later(posting.connection, &polling.polled.post_answer(), posting.reply);
        }
    }

    /// Removes the outlet of a client that changed to a WebSocket, because the WebSocket is closed.
    pub(super) fn forget_upgraded(&mut self, slot: ConnectionSlot) {
        if let Some(outlet) = self.upgraded.remove(&slot.0) {
            let outlet = self.connections.outlets.remove(outlet);
            self.engine.node().close_outlet(&outlet.secret);
        }
    }

    /// Ends the session of a client that polls. Its dialect's last packet for `why` follows the session's
    /// earlier output.
    pub(super) fn disconnect_outlet(&mut self, slot: OutletSlot, why: Disconnect) {
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let Stage::Session(session) = std::mem::replace(&mut polling.stage, Stage::Over) else { return };
        let format = self.engine.session_format(session);
        let departed = self.departing_client(session);
        self.engine.end(session, |out| dialect::put_disconnect(format, out, why));
        self.forget_client(departed);
        self.closing.push(slot.number());
        // Further messages of the client are discarded.
        self.resume_outlet(slot);
    }

    /// Ends an outlet that holds the last output of its session.
    pub(super) fn close_outlet(&mut self, slot: OutletSlot) {
        let now_ms = self.clock.elapsed_ms();
        if let Some(polling) = self.connections.outlets.polling(slot)
            && matches!(polling.stage, Stage::Over)
        {
            polling.polled.close(now_ms);
            self.serve_outlet(slot);
        }
    }

    /// Ends all outlets, because the server ends. Returns the outlets with a held poll, whose clients can be
    /// told. The other outlets end at once, because no further request reaches them.
    pub(super) fn drain_outlets(&mut self) -> Vec<Leaver> {
        let mut told = Vec::new();
        for slot in self.connections.outlets.slots() {
            let Some(polling) = self.connections.outlets.polling(slot) else { continue };
            if polling.poll.is_some() && matches!(polling.stage, Stage::Session(_)) {
                told.push(Leaver::Outlet(self.connections.outlets.id(slot)));
            } else {
                self.end_outlet(slot, Disconnect::Restart);
            }
        }
        told
    }

    /// Arms the deadline of an outlet.
    fn arm_outlet(&mut self, slot: OutletSlot) {
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        let mut due = polling.polled.deadline_ms().map_or(NEVER, tick_after);
        if let Stage::Stranger(stranger) = &polling.stage {
            due = due.min(stranger.began.saturating_add(ticks(State::PATIENCE_MS)));
        }
        if due < polling.due {
            polling.due = self.timers.arm(slot.number(), due);
        }
    }

    /// Handles the deadline of an outlet, if it has come.
    pub(super) fn on_outlet_due(&mut self, slot: OutletSlot, tick: Tick) {
        let (now, now_ms) = (self.now, self.clock.elapsed_ms());
        let Some(polling) = self.connections.outlets.polling(slot).filter(|polling| polling.due == tick)
        else {
            return;
        };
        polling.due = NEVER;
        polling.polled.handle_timeout(now_ms);
        self.expire_polling_back_end(slot);
        let Some(polling) = self.connections.outlets.polling(slot) else { return };
        if let Stage::Stranger(stranger) = &polling.stage
            && now >= stranger.began.saturating_add(ticks(State::PATIENCE_MS))
        {
            let address = stranger.address;
            polling.stage = Stage::Over;
            polling.polled.close(now_ms);
            self.strangers.leave(address);
            self.counters.request_timeouts_total += 1;
        }
        self.serve_outlet(slot);
    }
}

/// The first tick after `ms` have passed.
fn tick_after(ms: u64) -> Tick {
    Tick::try_from(ms.div_ceil(TICK_MS)).unwrap_or(Tick::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_bounded_together_and_by_address() {
        let address = |n: u16| Some(IpAddr::from([10, 0, (n >> 8) as u8, n as u8]));
        let mut strangers = Strangers::default();
        for _ in 0..STRANGERS_OF_ADDRESS {
            assert!(strangers.enter(address(1)));
        }
        assert!(!strangers.enter(address(1)), "the address has as many as it may");
        strangers.leave(address(1));
        assert!(strangers.enter(address(1)));
        let rest = STRANGERS - STRANGERS_OF_ADDRESS;
        for n in 0..rest {
            assert!(strangers.enter(address(100 + n as u16)), "{n}");
        }
        assert!(!strangers.enter(address(2)) && !strangers.enter(None), "the worker has as many as it may");
        for n in 0..rest {
            strangers.leave(address(100 + n as u16));
        }
        assert_eq!(strangers.of.len(), 1, "nothing is kept of addresses without strangers");
    }
}
