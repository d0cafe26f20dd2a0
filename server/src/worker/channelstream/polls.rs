//! Polls of Channelstream's clients, answered as JSON or as JSONP scripts.
//!
//! The connection id names a client's outlet, on any worker; see [`polling`](crate::worker::polling).

use std::net::IpAddr;

use fanfare_core::{
    dialect::{
        Format, Polled,
        channelstream::{Answer, ConnId, Listening, is_callback},
    },
    engine::Outlet,
    http::Head,
};

use super::opening;
use crate::{
    connection::{ConnectionSlot, Flag, Held, OutletId, Protocol, Stage},
    http::{
        channelstream::{Knock, Page, Place, listen_headers, plain, put_answer, put_page},
        reply::Reply,
    },
    worker::{Worker, http::Next, polling::Whereabouts},
};

const WRONG_ID: &str = "[\n    \"Wrong UUID format\"\n]";
const WRONG_CALLBACK: &str = "{\n    \"callback\": [\n        \"Not the name of a function.\"\n    ]\n}";

impl Worker {
    /// Handles a poll: answers it with the output that waits, or holds it.
    pub(super) fn listen(
        &mut self,
        place: &Place,
        knock: &Knock<'_>,
        slot: ConnectionSlot,
        head: &Head<'_>,
        reply: Reply,
    ) -> Next {
        let origin = head.header_str("origin");
        let callback = knock.callback.as_deref().filter(|callback| !callback.is_empty());
        let mut refuse = |body| {
            let answer = Answer::of_text(422, body);
            let status = put_answer(&mut self.out, &reply, &place.options, origin, &answer);
            self.sent(slot, status, reply.persistence)
        };
        let Some(conn) = knock.conn_id.as_deref().and_then(ConnId::parse) else { return refuse(WRONG_ID) };
        if callback.is_some_and(|callback| !is_callback(callback)) {
            return refuse(WRONG_CALLBACK);
        }
        let headers = listen_headers(&place.options, origin, callback.is_some());
        let listening = Listening { callback: callback.map(Into::into), headers };
        let plain = plain(&reply);
        match self.locate(slot, Some(conn.secret())) {
            Whereabouts::Elsewhere(next) => next,
            Whereabouts::Here(id) => self.hold(slot, id, listening, plain),
            Whereabouts::Nowhere => {
                let arrival = place.directory().arrival(conn);
                match arrival {
                    None => {
                        let status = put_page(&mut self.out, &reply, head, &Page::Unauthorized, "");
                        self.sent(slot, status, reply.persistence)
                    }
                    Some(_) if self.is_draining() => self.respond(slot, &listening.nothing(), &plain),
                    Some(_) => match self.open_poller(place, conn, self.client_of(slot, head)) {
                        Some(id) => self.hold(slot, id, listening, plain),
                        None => self.respond(slot, &listening.nothing(), &plain),
                    },
                }
            }
        }
    }

    /// Opens the outlet of a client that polls; `None` if the client has a WebSocket, or if there is no room.
    fn open_poller(&mut self, place: &Place, conn: ConnId, address: Option<IpAddr>) -> Option<OutletId> {
        let mut directory = place.directory();
        let arrival = directory.arrival(conn).filter(|arrival| !arrival.is_attached)?;
        if !self.control.capacity.take() {
            self.counters.polling_refused_total += 1;
            return None;
        }
        let polled = Polled::listening(self.clock.elapsed_ms());
        let secret = conn.secret();
        let id = self.connections.outlets.insert(secret, polled, Stage::Over);
        let opening = opening(place, Format::ChannelstreamPolls, arrival, id.slot.number().0);
        let Ok(session) = self.engine.open(opening, |_| {}, |_, _, _| {}) else {
            self.counters.app_full_total += 1;
            self.connections.outlets.remove(id.slot);
            self.control.capacity.give_back(1);
            return None;
        };
        if let Some(polling) = self.connections.outlets.find_polling(id) {
            polling.stage = Stage::Session(session);
        }
        self.engine.node().open_outlet(secret, Outlet { worker: self.id, id: id.token() });
        self.begin_client(place, &mut directory, conn, session, address);
        Some(id)
    }

    /// Holds a poll until there is output for it. The poll that was held before is answered at once.
    fn hold(&mut self, slot: ConnectionSlot, id: OutletId, listening: Listening, reply: Reply) -> Next {
        let connection = self.connections.id(slot);
        let now_ms = self.clock.elapsed_ms();
        let Some(polling) = self.connections.outlets.find_polling(id) else {
            return self.respond(slot, &listening.nothing(), &reply);
        };
        let before = polling.poll.take().zip(polling.polled.handle_listen(listening, now_ms));
        polling.poll = Some(Held { connection, reply });
        if let Some((held, answer)) = before {
            self.answer_later(held.connection, &answer, held.reply);
        }
        if let Some(connection) = self.connections.live(slot) {
            connection.flags.raise(Flag::Paused);
            connection.protocol = Protocol::Poll(id);
        }
        self.serve_outlet(id.slot);
        Next::Poll
    }
}
