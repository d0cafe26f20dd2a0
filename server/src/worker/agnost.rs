//! Requests of Agnost's clients: what each asks for, and the client that it is of.

use fanfare_core::{dialect::Ask, http::Head};

use super::{
    Worker,
    http::Next,
    polling::{Body, Whereabouts},
};
use crate::{
    connection::ConnectionSlot,
    http::{agnost, reply::Reply},
};

impl Worker {
    /// Answers a request without a body.
    pub(super) fn answer_agnost(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: Reply) -> Next {
        match agnost::Asked::read(head) {
            Err(answer) => self.respond(slot, &answer, &reply),
            Ok(agnost::Asked::Preflight) => {
                self.out.clear();
                agnost::put_preflight(&mut self.out, head, &reply);
                self.sent(slot, 204, reply.persistence)
            }
            Ok(agnost::Asked::WebSocket(opening)) => self.enter_lobby(slot, head, &opening),
            Ok(agnost::Asked::Polling) => self.open_outlet(slot, head, &reply),
            Ok(agnost::Asked::Client { secret, ask }) => match (self.locate(slot, secret), ask) {
                (Whereabouts::Nowhere, _) => self.respond(slot, &agnost::unknown(), &reply),
                (Whereabouts::Elsewhere(next), _) => next,
                (Whereabouts::Here(_), Err(answer)) => self.respond(slot, &answer, &reply),
                (Whereabouts::Here(id), Ok(ask)) => self.on_client(slot, id, ask, head, reply),
            },
        }
    }

    /// The head of a request with a body has arrived: decides whether the body is read.
    pub(super) fn begin_body(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> Body {
        match agnost::Asked::read(head) {
            Err(answer) => Body::Refused(answer),
            Ok(agnost::Asked::Client { secret, ask }) => match (self.locate(slot, secret), ask) {
                (Whereabouts::Nowhere, _) => Body::Refused(agnost::unknown()),
                (Whereabouts::Elsewhere(next), _) => Body::Elsewhere(next),
                (Whereabouts::Here(id), Ok(Ask::Post)) => self.begin_post(slot, id, head),
                (Whereabouts::Here(_), Err(answer)) => Body::Refused(answer),
                (Whereabouts::Here(_), Ok(_)) => Body::Refused(agnost::bad_request()),
            },
            Ok(_) => Body::Refused(agnost::bad_request()),
        }
    }
}
