//! Sessions and their connections: opened by a handshake, parked when the connection is lost, resumed on
//! another one.
//!
//! A session lives on one worker. A handshake that resumes it may arrive at any: the connection is then
//! handed over to the session's worker, with the bytes of the request, before anything was answered.
//!
//! ```text
//!   worker B: accept, read, Handshake ─▶ the ticket is of a session on A ─▶ hand_over ──┐ queue, wake
//!   worker A: take_handed_over ─▶ read the same bytes ─▶ Handshake ─▶ resume_session ◀──┘
//! ```

use bytes::BytesMut;
use fanfare_core::{
    dialect,
    disconnect::Disconnect,
    engine::{Opening, Resumption},
    id::{SessionId, SessionSlot, WorkerId},
    ws::Decoder,
};
use mio::net::TcpStream;

use super::{Greeting, Worker, http::Next};
use crate::{
    connection::{Client, ConnectionSlot, Flag, Protocol, Socket},
    http::upgrade::{Greeted, Handshake, Outcome},
    sys::secret,
};

/// A connection on its way to another worker, with the bytes that were read from it.
pub(crate) struct HandedOver {
    socket: Socket,
    input: Vec<u8>,
}

impl HandedOver {
    /// A connection that no worker has had before.
    pub(crate) fn new(stream: TcpStream, input: Vec<u8>) -> Self {
        Self { socket: Socket { stream, tls: None, client: None, counted: None }, input }
    }
}

/// A connection that leaves this worker at the end of the turn.
pub(super) struct Leaving {
    slot: ConnectionSlot,
    owner: WorkerId,
    input: Vec<u8>,
}

impl Worker {
    /// Opens a session. `None`: the app is full.
    pub(super) fn open_session(
        &mut self,
        slot: ConnectionSlot,
        handshake: &Handshake<'_>,
    ) -> Option<SessionSlot> {
        let Self { engine, config, handler, connections, .. } = self;
        let keeps = handshake.app.limits.resume_ms > 0 && dialect::is_resumable(handshake.format);
        let ticket = keeps.then(secret);
        let opening = Opening {
            app: &handshake.app,
            format: handshake.format,
            echo: handshake.echo,
            claims: handshake.claims.clone(),
            connection: slot.0,
            ticket,
        };
        let welcome = |out: &mut BytesMut, session: SessionId, user: Option<&str>| {
            if handler.greeting == Greeting::Welcome {
                let outcome = Outcome::Opened;
                handshake.put_welcome(out, config, Greeted { session, user, ticket, outcome });
            }
        };
        let session = engine.open(opening, |out| handshake.put_response(out), welcome).ok()?;
        let app = &handshake.app.name;
        let (id, address) = (engine.session_id(session), || Client(connections.client(slot)));
        tracing::debug!(%app, session = %id, address = %address(), "a session begins");
        Some(session)
    }

    /// The connection's handshake has succeeded: it is the WebSocket of this session from here on.
    pub(super) fn begin_frames(&mut self, slot: ConnectionSlot, session: SessionSlot) -> Next {
        self.count_handshake(slot);
        self.bind(slot, session);
        if self.engine.is_paused(session) { Next::WaitWithFrames } else { Next::Frames }
    }

    /// Gives a session its connection.
    pub(super) fn bind(&mut self, slot: ConnectionSlot, session: SessionSlot) {
        if let Some(connection) = self.connections.live(slot) {
            connection.protocol = Protocol::WebSocket { decoder: Decoder::new(), session };
            connection.heard = self.now;
        }
        self.watch(slot, session);
    }

    /// The worker of the session that a handshake resumes, if it is another.
    pub(super) fn owner_elsewhere(
        &mut self,
        slot: ConnectionSlot,
        handshake: &Handshake<'_>,
    ) -> Option<WorkerId> {
        let ticket = handshake.resume?.ticket?;
        let owner = self.engine.node().resumable(&ticket)?.worker();
        // Answers to earlier requests that are still queued would have to travel as well: such a client
        // starts anew.
        let is_flushed = self.connections.live(slot)?.is_flushed();
        (owner != self.id && is_flushed).then_some(owner)
    }

    /// Goes on with the session that a handshake names. A session whose connection still seems alive loses
    /// it.
    pub(super) fn resume_session(
        &mut self,
        slot: ConnectionSlot,
        handshake: &Handshake<'_>,
    ) -> Option<SessionSlot> {
        let resume = handshake.resume?;
        let ticket = resume.ticket?;
        let session = self.engine.node().resumable(&ticket).filter(|session| session.worker() == self.id)?;
        let next_ticket = secret();
        let resumption = Resumption {
            app: handshake.app.id,
            session,
            ticket: &ticket,
            next_ticket,
            received: resume.received,
            format: handshake.format,
            echo: handshake.echo,
            claims: handshake.claims.as_ref(),
            connection: slot.0,
        };
        if !self.engine.may_resume(&resumption) {
            return None;
        }
        if let Some(before) = self.engine.connection_of(session) {
            self.park(ConnectionSlot(before), Disconnect::Resumed);
        }
        let Self { engine, connections, config, .. } = self;
        let welcome = |out: &mut BytesMut, session: SessionId, user: Option<&str>| {
            let (ticket, outcome) = (Some(next_ticket), Outcome::Resumed);
            handshake.put_welcome(out, config, Greeted { session, user, ticket, outcome });
        };
        let resumed = engine.resume(&resumption, connections, |out| handshake.put_response(out), welcome)?;
        let address = || Client(connections.client(slot));
        tracing::debug!(app = %handshake.app.name, %session, address = %address(), "a session is resumed");
        Some(resumed)
    }

    /// Parks a session for its client's return, and ends the connection with the dialect's last frame. The
    /// session's earlier output is sent first.
    pub(super) fn park(&mut self, slot: ConnectionSlot, why: Disconnect) {
        self.engine.flush(&mut self.connections);
        let Some(connection) = self.connections.live(slot) else { return };
        let Protocol::WebSocket { session, .. } = connection.protocol else { return };
        let unsent = connection.backlog();
        connection.input = None;
        self.log_disconnect(slot, why);
        let format = self.engine.session_format(session);
        match why {
            Disconnect::Resumed => self.engine.detach_for_resume(session, unsent),
            _ => self.engine.detach(session, unsent),
        };
        self.out.clear();
        dialect::put_disconnect(format, &mut self.out, why);
        self.connections.send(slot, &self.out);
        self.linger_detached(slot);
    }

    /// Whether the session of a lost connection is kept for its client's return.
    pub(super) fn keeps(&self, session: SessionSlot) -> bool {
        self.engine.is_resumable(session) && !self.is_draining()
    }

    /// Gives a connection to the worker of the session that it resumes, at the end of the turn.
    pub(super) fn hand_over(&mut self, slot: ConnectionSlot, owner: WorkerId, input: &[u8]) {
        self.connections.retire(slot);
        self.leaving.push(Leaving { slot, owner, input: input.to_vec() });
    }

    /// Sends the connections away that leave this worker.
    pub(super) fn finish_hand_over(&mut self) {
        for Leaving { slot, owner, input } in std::mem::take(&mut self.leaving) {
            let mut socket = self.connections.take_socket(slot);
            let to = usize::from(owner.0);
            let waker = &self.control.wakers[to];
            if let Err(error) = self.poll.registry().deregister(&mut socket.stream) {
                tracing::warn!(%error, "a connection could not be handed over");
                self.control.capacity.give_back(1);
                if let Some(block) = socket.counted {
                    self.control.addresses.release(block);
                }
                self.counters.closed_total += 1;
                continue;
            }
            self.control.handed_over[to].push(HandedOver { socket, input });
            if let Err(error) = waker.wake() {
                tracing::error!(%error, worker = owner.0, "a worker could not be woken");
            }
        }
    }

    /// Takes in the connections that other workers have handed over.
    pub(super) fn take_handed_over(&mut self) {
        while let Some(HandedOver { socket, mut input }) =
            self.control.handed_over[usize::from(self.id.0)].pop()
        {
            if let Some(slot) = self.register(socket) {
                if let Some(connection) = self.connections.live(slot) {
                    connection.flags.raise(Flag::Admitted);
                }
                self.guard(slot, |worker| worker.feed_http(slot, &mut input));
                // Its readiness may have been told to the other worker's poll.
                self.make_ready(slot);
            }
        }
    }
}
