//! Handshakes of WebSocket: from a request to a session, or to the reason why there is none.

use fanfare_core::{
    dialect::Dialect,
    engine::Flow,
    http::{Head, Persistence},
    ws::Message,
};

use super::{
    Worker,
    clients::terms,
    http::{Next, restarting},
};
use crate::{
    connection::{Client, ConnectionSlot},
    http::{
        access::{INVALID_KEY, app_name},
        reply::{Problem, Reply},
        upgrade::{APP_FULL, Handshake},
        xano::Arrival,
    },
};

impl Worker {
    /// Makes a WebSocket of the connection, or says why not.
    pub(super) fn upgrade(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: Reply) -> Next {
        if self.is_draining() {
            return self.refuse_client(slot, head, (Dialect::Native, &restarting()), reply);
        }
        let visitor = self.visitor(slot, head);
        let handshake = Handshake::read(&mut self.engine, head, &visitor);
        self.count_forged_tokens(|worker| worker.client_of(slot, head));
        let handshake = match handshake {
            Ok(handshake) => handshake,
            Err(problem) => {
                return self.refuse_client(slot, head, (Dialect::Native, &problem), reply);
            }
        };
        self.enter_session(slot, head, handshake, reply)
    }

    /// Turns the connection into the WebSocket of a Xano client, or refuses the handshake.
    pub(super) fn admit_xano(&mut self, slot: ConnectionSlot, head: &Head<'_>, reply: Reply) -> Next {
        if self.is_draining() {
            return self.refuse_client(slot, head, (Dialect::Xano, &restarting()), reply);
        }
        let arrival = Arrival::read(&mut self.engine, head);
        self.count_forged_tokens(|worker| worker.client_of(slot, head));
        match arrival {
            Ok(Arrival::Client(handshake)) => self.enter_session(slot, head, handshake, reply),
            Ok(Arrival::Stranger(farewell)) => {
                self.counters.session_refusals_total += 1;
                self.metrics.count_refusal(Dialect::Xano);
                tracing::debug!(why = farewell.sentence(), "a session was refused");
                self.out.clear();
                farewell.put(&mut self.out);
                self.connections.send(slot, &self.out);
                self.linger_detached(slot);
                Next::Frames
            }
            Err(problem) => self.refuse_client(slot, head, (Dialect::Xano, &problem), reply),
        }
    }

    /// Opens the session of a handshake, or resumes the session that the handshake names.
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
        self.keep_client(slot, head);
        let Some(session) =
            self.resume_session(slot, &handshake).or_else(|| self.open_session(slot, &handshake))
        else {
            let problem = Problem::new(503, APP_FULL, "The app has as many connections as it may.");
            return self.refuse_client(slot, head, (handshake.format.dialect(), &problem), reply);
        };
        let address = self.connections.client(slot);
        self.engine.set_terms(session, terms(&handshake.app, address, handshake.key_expires_at));
        let next = self.begin_frames(slot, session);
        let (Next::Frames, Some(command)) = (&next, handshake.command) else { return next };
        match (self.handler.on_message)(&mut self.engine, session, Message::Text(&command)) {
            Flow::Pause => Next::WaitWithFrames,
            Flow::Continue | Flow::Yield => Next::Frames,
        }
    }

    /// Refuses the handshake of a client of a dialect.
    pub(super) fn refuse_client(
        &mut self,
        slot: ConnectionSlot,
        head: &Head<'_>,
        (dialect, problem): (Dialect, &Problem),
        reply: Reply,
    ) -> Next {
        self.metrics.count_refusal(dialect);
        self.refuse_handshake(slot, head, problem, reply)
    }

    pub(super) fn refuse_handshake(
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
        if code == INVALID_KEY {
            let address = self.client_of(slot, head);
            self.count_failed_key(address);
        }
        let address = || Client(self.client_of(slot, head));
        tracing::debug!(app = %app_name(head), address = %address(), status, code, "a handshake was refused");
        self.out.clear();
        reply.put_problem(&mut self.out, problem);
        self.sent(slot, status, reply.persistence)
    }
}
