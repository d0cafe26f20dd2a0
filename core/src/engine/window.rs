//! The in-order window: a session's commands in flight, answered from the front in the order in which they
//! were sent.
//!
//! A command that has to wait for another worker does not stop its session: publications to the same target
//! go on behind it. The channel's lock keeps their order, since one worker's operations apply in the order in
//! which they were submitted. A command that reads or changes membership, or that publishes elsewhere, is
//! held until the window is empty, so what a session sends to several channels keeps its order as well.
//!
//! ```text
//!   front                                   back
//!   [publish, in flight] [publish, done] [publish, in flight]      held: the command after them, and its message
//!        └── its answer leaves first, then the next one's
//! ```

use std::collections::VecDeque;

use super::{
    Engine,
    input::Flow,
    waiting::{Held, Interrupted, Progress, Waiter, Waiting},
};
use crate::{
    command::{Outcome, Publish},
    error::ReplyError,
    id::SessionSlot,
    limits::{WINDOW_BYTES, WINDOW_COMMANDS},
};

/// Commands in flight.
#[derive(Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// Where all of them publish; `None`: a broadcast, or a command that is none.
    target: Option<Box<str>>,
    /// Payload bytes of the entries.
    bytes: usize,
    /// The shell hands over nothing more.
    is_paused: bool,
    held: Option<HeldCommands>,
}

/// A message of which the commands from the `next`-th on wait for the window to be empty.
pub(super) struct HeldCommands {
    pub(super) message: Held,
    pub(super) next: usize,
}

struct Entry {
    /// The command's own id, as the dialect answers it.
    id: Option<Box<str>>,
    /// How many commands it stands for: several publications without id may be one operation.
    commands: usize,
    bytes: usize,
    state: State,
}

enum State {
    /// The result comes under this ticket.
    InFlight(u64),
    Done(Result<Outcome, ReplyError>),
}

/// A command's result, whose turn to be answered has come.
struct Answer {
    id: Option<Box<str>>,
    commands: usize,
    result: Result<Outcome, ReplyError>,
}

/// What was executed, for its answer.
#[derive(Copy, Clone)]
pub(super) struct Executed<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) commands: usize,
    /// Of a publication: where it goes, and how long its payloads are.
    pub(super) publication: Option<Publishing<'a>>,
}

/// Where a publication goes, and how many bytes its payloads have.
#[derive(Copy, Clone)]
pub(super) struct Publishing<'a> {
    pub(super) channel: Option<&'a str>,
    pub(super) bytes: usize,
}

impl<'a> Publishing<'a> {
    pub(super) fn of(publish: &Publish<'a>) -> Self {
        Self { channel: publish.channel, bytes: publish.payload.len() }
    }
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn push(&mut self, executed: &Executed<'_>, state: State) {
        let bytes = executed.publication.map_or(0, |publishing| publishing.bytes);
        self.bytes += bytes;
        self.entries.push_back(Entry {
            id: executed.id.map(Into::into),
            commands: executed.commands,
            bytes,
            state,
        });
    }

    fn has_room(&self) -> bool {
        self.entries.len() < WINDOW_COMMANDS && self.bytes < WINDOW_BYTES
    }

    /// Whether a publication may go on behind what is in flight.
    pub(super) fn admits(&self, channel: Option<&str>) -> bool {
        self.target.as_deref() == channel && self.has_room()
    }

    fn pop_done(&mut self) -> Option<Answer> {
        if !matches!(self.entries.front()?.state, State::Done(_)) {
            return None;
        }
        let Entry { id, commands, bytes, state } = self.entries.pop_front()?;
        self.bytes -= bytes;
        match state {
            State::Done(result) => Some(Answer { id, commands, result }),
            State::InFlight(_) => unreachable!("it was seen to be done"),
        }
    }
}

impl Engine {
    /// Whether a session's next command may be executed now. A publication names its target.
    #[inline]
    pub(super) fn window_admits(&self, slot: SessionSlot, publication: Option<Option<&str>>) -> bool {
        let Some(window) = self.sessions.get(slot).window() else { return true };
        publication.is_some_and(|channel| window.admits(channel))
    }

    /// Whether the session's connection hands over nothing until [`Engine::take_unpaused`] names it.
    pub fn is_paused(&self, slot: SessionSlot) -> bool {
        self.sessions.get(slot).window().is_some_and(|window| window.is_paused)
    }

    /// Holds commands that the window does not admit.
    pub(super) fn hold(&mut self, slot: SessionSlot, held: Option<HeldCommands>) -> Flow {
        let window = self.sessions.get_mut(slot).window_mut();
        window.is_paused = true;
        window.held = held;
        Flow::Pause
    }

    /// Holds commands until [`Engine::on_mail`] executes them. Their session is paused until then.
    fn interrupted(&mut self, slot: SessionSlot, held: HeldCommands) -> Interrupted {
        let session = self.session_id(slot);
        self.sessions.get_mut(slot).window_mut().is_paused = true;
        let HeldCommands { message, next } = held;
        Interrupted { session, message, next }
    }

    /// Continues the commands that the last turn deferred, after the turn is written. Sessions in `behind`
    /// have to wait longer.
    pub(super) fn settle_yielded(&mut self, behind: &[SessionSlot]) {
        for interrupted in self.yielded.drain(..) {
            match self.sessions.find(interrupted.session) {
                Some(slot) if behind.contains(&slot) => self.behind.push(interrupted),
                _ => self.interrupted.push_back(interrupted),
            }
        }
    }

    /// Notes that the session's connection has taken output, and that `backlog` bytes are left. Commands that
    /// waited for the output continue.
    pub fn on_taken(&mut self, slot: SessionSlot, backlog: usize) {
        if self.behind.is_empty() || self.is_behind(slot, backlog) {
            return;
        }
        let session = self.session_id(slot);
        self.interrupted.extend(self.behind.extract_if(.., |interrupted| interrupted.session == session));
    }

    /// Defers the rest of a message's commands to a later turn, because the turn is full or the session's
    /// client has much to read.
    pub(super) fn yield_commands(&mut self, slot: SessionSlot, held: Option<HeldCommands>) -> Flow {
        match held {
            Some(held) if self.sessions.get(slot).window().is_none() => {
                let interrupted = self.interrupted(slot, held);
                self.yielded.push(interrupted);
                Flow::Pause
            }
            // They wait for what is in flight.
            held => self.hold(slot, held),
        }
    }

    /// Answers a command, or keeps its place in the window. `next` are the commands of its message behind it.
    pub(super) fn conclude(
        &mut self,
        slot: SessionSlot,
        executed: Executed<'_>,
        result: Result<Progress, ReplyError>,
        next: impl FnOnce() -> Option<HeldCommands>,
    ) -> Flow {
        self.counters.commands += executed.commands as u64;
        let state = match result {
            Ok(Progress::Waiting { ticket, outcome }) => {
                let who =
                    Waiter::Session { session: self.session_id(slot), ticket, commands: executed.commands };
                self.waiting.insert(ticket, Waiting { outcome, who });
                State::InFlight(ticket)
            }
            Ok(Progress::Called(ticket)) => {
                let session = self.session_id(slot);
                self.await_verdict(ticket, Waiter::Session { session, ticket, commands: 1 });
                State::InFlight(ticket)
            }
            Ok(Progress::Finished(outcome)) if self.sessions.get(slot).window().is_none() => {
                self.reply_outcome(slot, executed.id, &outcome);
                return Flow::Continue;
            }
            Err(error) if self.sessions.get(slot).window().is_none() => {
                self.refuse_all(slot, executed.id, executed.commands, error);
                return Flow::Continue;
            }
            Ok(Progress::Finished(outcome)) => State::Done(Ok(outcome)),
            Err(error) => State::Done(Err(error)),
        };
        let window = self.sessions.get_mut(slot).window_mut();
        if window.entries.is_empty() {
            window.target = executed.publication.and_then(|publishing| publishing.channel).map(Into::into);
        }
        window.push(&executed, state);
        if executed.publication.is_some() && window.has_room() {
            return Flow::Continue;
        }
        let held = next();
        self.hold(slot, held)
    }

    /// The result of a command in flight has come: answers what is done at the front of its session's window.
    /// An empty window lets the session go on: with commands that were held when [`Engine::on_mail`] comes to
    /// them, which is not here, because this runs amid the handling of mail and would nest without bound;
    /// else with its connection's next message.
    pub(super) fn on_command_done(
        &mut self,
        slot: SessionSlot,
        ticket: u64,
        result: Result<Outcome, ReplyError>,
    ) {
        let Some(window) = self.sessions.get_mut(slot).existing_window() else { return };
        let of_ticket = |entry: &&mut Entry| matches!(entry.state, State::InFlight(of) if of == ticket);
        let Some(entry) = window.entries.iter_mut().find(of_ticket) else { return };
        entry.state = State::Done(result);
        while let Some(answer) = self.sessions.get_mut(slot).existing_window().and_then(Window::pop_done) {
            let Answer { id, commands, result } = answer;
            match result {
                Ok(outcome) => self.reply_outcome(slot, id.as_deref(), &outcome),
                Err(error) => self.refuse_all(slot, id.as_deref(), commands, error),
            }
        }
        let Some(window) = self.sessions.get_mut(slot).take_empty_window() else { return };
        match window.held {
            Some(held) => {
                let interrupted = self.interrupted(slot, held);
                self.interrupted.push_back(interrupted);
            }
            None if window.is_paused => self.unpause(slot),
            None => {}
        }
    }

    /// Refuses publications without id that follow what was concluded last.
    pub(super) fn refuse_in_order(&mut self, slot: SessionSlot, commands: usize, error: ReplyError) {
        if commands == 0 {
            return;
        }
        self.counters.commands += commands as u64;
        match self.sessions.get_mut(slot).existing_window() {
            Some(window) => {
                window.push(&Executed { id: None, commands, publication: None }, State::Done(Err(error)));
            }
            None => self.refuse_all(slot, None, commands, error),
        }
    }

    fn refuse_all(&mut self, slot: SessionSlot, id: Option<&str>, commands: usize, error: ReplyError) {
        (0..commands).for_each(|_| self.refuse(slot, id, error));
    }
}
