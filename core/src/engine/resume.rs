//! Sessions without an outlet. A session is parked when its connection is lost, is resumed by a ticket, and
//! ends if its client does not return in time.
//!
//! ```text
//!              open                 detach                    resume
//!   (nothing) ─────▶ attached ───────────────▶ parked ───────────────────▶ attached
//!                       │    connection lost      │  ticket, on any worker
//!                       │                         ├── deadline, token's end, a bound: ends
//!                       └── close, end            └── disconnected by the back end: ends
//! ```
//!
//! A parked session keeps its id, profile and memberships, and other members are not told that its connection
//! is lost. The session's output is recorded in its outbox. A ticket works once: the resumption takes the
//! ticket out of the node's table.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::{
    Engine, Node,
    outbox::Outbox,
    output::{NONE, Sink},
};
use crate::{
    dialect::Format,
    id::{AppId, SessionId, SessionSlot},
    secret::Secret,
    token::Claims,
};

/// The parked sessions of an engine.
#[derive(Default)]
pub(super) struct Parked {
    /// When each ends, on the steady clock; the earliest first.
    deadlines: BTreeSet<(u64, SessionSlot)>,
    /// Parked sessions that are to end before that.
    condemned: Vec<SessionId>,
}

/// Whether the app's limits on parked sessions apply.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Bounds {
    Kept,
    Ignored,
}

/// What became of a session whose connection is lost.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Detached {
    /// It waits for its client.
    Parked,
    /// It has left its channels and is gone.
    Ended,
}

/// A client's wish to go on with a session.
pub struct Resumption<'a> {
    /// The app that the client's key opens.
    pub app: AppId,
    /// What the ticket presented resumes, by [`Node::resumable`](super::Node::resumable).
    pub session: SessionId,
    /// The ticket presented.
    pub ticket: &'a Secret,
    /// The ticket for the next time.
    pub next_ticket: Secret,
    /// The number of data frames that the client has received in this session, without welcomes; `None` if
    /// the client gives no number.
    pub received: Option<u64>,
    /// How the connection wants frames.
    pub format: Format,
    /// The connection's echo, if the client gives one.
    pub echo: Option<bool>,
    /// What the connection's token says.
    pub claims: Option<&'a Claims>,
    /// The shell's name for the connection.
    pub connection: u32,
}

impl Engine {
    /// Keeps the output of the session from now on, and has `ticket` resume it.
    pub(super) fn make_resumable(&mut self, slot: SessionSlot, ticket: Secret, preface: usize) {
        let id = self.session_id(slot);
        let (hot, session) = self.sessions.both(slot);
        let limit = self.apps.of(session.app).limits.resume_bytes;
        let mut outbox = Outbox::new(hot.format, limit, ticket);
        outbox.skip(preface);
        hot.set_recorded();
        session.set_outbox(outbox);
        self.node.issue_ticket(ticket, id);
    }

    /// The session's connection is lost, with `unsent` bytes that were handed to it and never left.
    pub fn detach(&mut self, slot: SessionSlot, unsent: usize) -> Detached {
        self.detach_within(slot, unsent, Bounds::Kept)
    }

    /// Detaches a session that its client resumes on another connection while its present connection seems
    /// alive. [`Engine::resume`] follows at once, so the limits on parked sessions do not apply.
    pub fn detach_for_resume(&mut self, slot: SessionSlot, unsent: usize) -> Detached {
        self.detach_within(slot, unsent, Bounds::Ignored)
    }

    fn detach_within(&mut self, slot: SessionSlot, unsent: usize, bounds: Bounds) -> Detached {
        if self.try_park(slot, unsent, bounds) {
            self.counters.parked += 1;
            return Detached::Parked;
        }
        self.close(slot);
        Detached::Ended
    }

    fn try_park(&mut self, slot: SessionSlot, unsent: usize, bounds: Bounds) -> bool {
        let (hot, session) = self.sessions.both(slot);
        let connection = hot.connection;
        let is_wanted = !self.ended.contains(&slot)
            && !self.disconnects.iter().any(|&(condemned, _)| condemned == connection);
        let (app, expires_at) = (session.app, session.expires_at);
        let resume_ms = u64::from(self.apps.of(app).limits.resume_ms);
        let left_ms = expires_at.map_or(u64::MAX, |end| (end * 1000).saturating_sub(self.now_ms));
        let until_ms = self.steady_ms + resume_ms.min(left_ms);
        let Some(outbox) = session.outbox() else { return false };
        let bytes = outbox.bytes();
        let fits = |node: &Node| match bounds {
            Bounds::Kept => node.reserve_parked(self.apps.of(app), bytes),
            Bounds::Ignored => {
                node.count_parked(app, bytes);
                true
            }
        };
        if !is_wanted || until_ms == self.steady_ms || !fits(&self.node) {
            return false;
        }
        // A parked session does not count among the app's connections.
        self.node.release_session(app);
        outbox.on_detach(unsent, until_ms);
        hot.connection = NONE;
        self.unpaused.retain(|&other| other != connection);
        self.parked.deadlines.insert((until_ms, slot));
        true
    }

    /// Output of a parked session was recorded; `is_whole`: nothing of it was lost.
    pub(super) fn on_parked_output(&mut self, slot: SessionSlot, is_whole: bool) {
        let session = self.sessions.get_mut(slot);
        let app = session.app;
        let Some(outbox) = session.outbox() else { return };
        let fits = match outbox.account() {
            Ok(more) => self.node.grow_parked(self.apps.of(app), more),
            Err(less) => {
                self.node.shrink_parked(app, less);
                true
            }
        };
        if !is_whole || !fits {
            // The bytes of an ended session make room at once, so that no further session ends needlessly.
            self.node.shrink_parked(app, outbox.discard());
            self.condemn(slot);
        }
    }

    /// A parked session is to end.
    pub(super) fn condemn(&mut self, slot: SessionSlot) {
        self.revoke_ticket(slot);
        let id = self.session_id(slot);
        self.parked.condemned.push(id);
    }

    /// Whether some parked session is to end at once.
    pub(super) fn has_condemned(&self) -> bool {
        !self.parked.condemned.is_empty()
    }

    /// Ends the parked sessions whose time is over. Once in a turn.
    pub(super) fn end_expired(&mut self) {
        while let Some(&(until_ms, slot)) = self.parked.deadlines.first()
            && until_ms <= self.steady_ms
        {
            self.counters.unresumed += 1;
            self.close(slot);
        }
        for id in std::mem::take(&mut self.parked.condemned) {
            if let Some(slot) = self.sessions.find(id)
                && self.sessions.hot(slot).is_parked()
            {
                self.counters.unresumed += 1;
                self.close(slot);
            }
        }
    }

    /// When the next parked session ends, or the next batch of presence notices leaves, on the steady clock:
    /// the shell must begin a turn then.
    pub fn next_due_ms(&self) -> Option<u64> {
        let parked = self.parked.deadlines.first().map(|&(until_ms, _)| until_ms);
        parked.into_iter().chain(self.batches.next_due_ms()).min()
    }

    /// For how many milliseconds the session that was parked first has been without a connection.
    pub fn longest_parked_ms(&self) -> u64 {
        // Sessions of one app end in the order in which they were parked; of several, this is an upper bound.
        let parked_since = |&(until_ms, slot): &(u64, SessionSlot)| {
            let resume_ms = self.apps.of(self.sessions.get(slot).app).limits.resume_ms;
            until_ms.saturating_sub(u64::from(resume_ms))
        };
        self.parked.deadlines.first().map_or(0, |first| self.steady_ms.saturating_sub(parked_since(first)))
    }

    /// The connection of a session of this worker; `None` if the session is parked or gone.
    pub fn connection_of(&self, session: SessionId) -> Option<u32> {
        let slot = self.sessions.find(session)?;
        let output = self.sessions.output(slot);
        (!output.is_parked()).then_some(output.connection)
    }

    /// Whether the session is kept when its connection is lost.
    pub fn is_resumable(&self, slot: SessionSlot) -> bool {
        self.sessions.output(slot).is_recorded()
    }

    /// Gives a parked session a connection again. `preface` and `welcome` are written as by [`Engine::open`],
    /// followed by the frames that the client has missed. `None` if the ticket is not valid, or if frames
    /// that the client needs are lost; in the second case the session has ended. `sink` takes the session's
    /// output of this turn.
    pub fn resume(
        &mut self,
        resumption: &Resumption<'_>,
        sink: &mut impl Sink,
        preface: impl FnOnce(&mut BytesMut),
        welcome: impl FnOnce(&mut BytesMut, SessionId, Option<&str>),
    ) -> Option<SessionSlot> {
        let slot = self.sessions.find(resumption.session)?;
        if self.sessions.output(slot).has_segments() {
            // What the session was to receive before goes into its outbox first.
            self.flush(sink);
        }
        let missed = self.take_parked(slot, resumption)?;
        let Some(missed) = missed else {
            self.counters.unresumed += 1;
            self.close(slot);
            return None;
        };
        let id = self.session_id(slot);
        let (hot, session) = self.sessions.both(slot);
        hot.connection = resumption.connection;
        if let Some(claims) = resumption.claims {
            session.expires_at = claims.expires_at;
        }
        session.echo = resumption.echo.unwrap_or(session.echo);
        let user = session.user.clone();
        let greeting = self.greet(slot, preface, |out| welcome(out, id, user.as_deref()));
        if let Some(outbox) = self.sessions.get_mut(slot).outbox() {
            outbox.skip(greeting);
        }
        for frames in missed {
            self.reply(slot, |out| out.extend_from_slice(&frames));
        }
        self.on_drained(slot);
        self.counters.resumed += 1;
        Some(slot)
    }

    /// Whether the resumption fits a session of this worker: its app, its format and its user.
    pub fn may_resume(&self, resumption: &Resumption<'_>) -> bool {
        let Some(slot) = self.sessions.find(resumption.session) else { return false };
        let session = self.sessions.get(slot);
        let is_user = |claims: &Claims| session.user.as_deref() == Some(&*claims.user);
        session.app == resumption.app
            && self.sessions.output(slot).format == resumption.format
            && resumption.claims.is_none_or(is_user)
    }

    /// Takes a session out of the parked sessions, and the frames that its client has missed out of its
    /// outbox. The inner `None` means that such frames are lost.
    fn take_parked(&mut self, slot: SessionSlot, resumption: &Resumption<'_>) -> Option<Option<Vec<Bytes>>> {
        let &Resumption { app, ticket, next_ticket, received, .. } = resumption;
        let is_parked = self.sessions.output(slot).is_parked();
        if !is_parked || !self.may_resume(resumption) || !self.node.revoke_ticket(ticket) {
            return None;
        }
        let session = self.sessions.get_mut(slot);
        let id = session.id(slot);
        let outbox = session.outbox()?;
        self.parked.deadlines.remove(&(outbox.parked_until_ms, slot));
        self.node.release_parked(app, outbox.accounted());
        self.node.readmit_session(app);
        let missed = outbox.take_missed(received);
        outbox.on_attach(next_ticket);
        self.node.issue_ticket(next_ticket, id);
        Some(missed)
    }

    /// Removes the session's ticket, so that nothing resumes the session from now on.
    pub(super) fn revoke_ticket(&mut self, slot: SessionSlot) {
        if let Some(outbox) = self.sessions.get_mut(slot).outbox() {
            self.node.revoke_ticket(&outbox.ticket);
        }
    }

    /// Forgets what could resume a session that ends.
    pub(super) fn retire_outbox(&mut self, slot: SessionSlot) {
        let session = self.sessions.get_mut(slot);
        let app = session.app;
        let Some(outbox) = session.outbox() else { return };
        self.node.revoke_ticket(&outbox.ticket);
        if outbox.is_parked() {
            self.parked.deadlines.remove(&(outbox.parked_until_ms, slot));
            self.node.release_parked(app, outbox.accounted());
        }
    }

    /// A ping is about to be sent to the session's client.
    pub fn on_ping(&mut self, slot: SessionSlot) {
        if let Some(outbox) = self.sessions.get_mut(slot).outbox() {
            outbox.on_ping();
        }
    }

    /// The client has answered the last ping: what was sent before it has arrived.
    pub fn on_pong(&mut self, slot: SessionSlot) {
        if let Some(outbox) = self.sessions.get_mut(slot).outbox() {
            outbox.on_pong();
        }
    }

    /// A paused session may go on: hands its connection to the shell, if it has one.
    pub(super) fn unpause(&mut self, slot: SessionSlot) {
        let output = self.sessions.output(slot);
        if !output.is_parked() {
            self.unpaused.push(output.connection);
        }
    }

    /// Writes what a connection begins with. Returns the number of bytes.
    pub(super) fn greet(
        &mut self,
        slot: SessionSlot,
        preface: impl FnOnce(&mut BytesMut),
        welcome: impl FnOnce(&mut BytesMut),
    ) -> usize {
        let mut len = 0;
        self.reply(slot, |out| {
            let start = out.len();
            preface(out);
            welcome(out);
            len = out.len() - start;
        });
        len
    }
}
