//! From frames to replies: a session's messages are decoded by its dialect, executed in order, and answered.

use super::{
    Engine,
    members::Progress,
    operate::{Waiter, Waiting},
};
use crate::{
    command::Outcome,
    dialect::{self, Batch, Envelope},
    error::ReplyError,
    id::SessionId,
    ws::Message,
};

/// Whether the shell may go on handing over this connection's messages.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[must_use]
pub enum Flow {
    /// Yes.
    Continue,
    /// A command waits for another thread. Hand over nothing more until [`Engine::take_resumed`] names the
    /// connection.
    Pause,
}

/// What a paused session goes on with.
pub(super) struct Rest {
    /// Of the command that waits.
    id: Option<Box<str>>,
    /// The frame it came in, if commands follow, and the first of those.
    frame: Option<(Box<str>, usize)>,
}

/// A frame whose commands are to be executed from the `next`-th on.
pub(super) struct Interrupted {
    session: SessionId,
    frame: Box<str>,
    next: usize,
}

impl Engine {
    /// Handles one message of a session's connection: commands. Control frames are the shell's.
    pub fn receive(&mut self, slot: u32, message: Message<'_>) -> Flow {
        match message {
            Message::Text(text) => self.receive_batch(slot, text, 0),
            Message::Binary(bytes) => self.receive_binary(slot, bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Flow::Continue,
        }
    }

    /// Executes the commands of a text frame from the `from`-th on.
    fn receive_batch(&mut self, slot: u32, text: &str, from: usize) -> Flow {
        let mut scanner = std::mem::take(&mut self.scanner);
        let flow = match Batch::read(&mut scanner, text) {
            Err(error) => {
                self.refuse(slot, None, error);
                Flow::Continue
            }
            Ok(batch) => self.run_batch(slot, text, &batch, from),
        };
        self.scanner = scanner;
        flow
    }

    fn run_batch(&mut self, slot: u32, text: &str, batch: &Batch<'_, '_>, from: usize) -> Flow {
        for (at, envelope) in batch.envelopes().enumerate().skip(from) {
            let result = envelope.command().and_then(|command| self.execute(slot, command));
            let rest = |id: Option<&str>| Rest {
                id: id.map(Into::into),
                frame: (at + 1 < batch.len()).then(|| (text.into(), at + 1)),
            };
            if self.conclude(slot, &envelope, result, rest) == Flow::Pause {
                return Flow::Pause;
            }
        }
        Flow::Continue
    }

    fn receive_binary(&mut self, slot: u32, bytes: &[u8]) -> Flow {
        let mut scanner = std::mem::take(&mut self.scanner);
        let flow = match dialect::read_binary(&mut scanner, bytes) {
            Err(error) => {
                self.refuse(slot, None, error);
                Flow::Continue
            }
            Ok((envelope, payload)) => {
                let result = envelope.binary_command(payload).and_then(|command| self.execute(slot, command));
                let rest = |id: Option<&str>| Rest { id: id.map(Into::into), frame: None };
                self.conclude(slot, &envelope, result, rest)
            }
        };
        self.scanner = scanner;
        flow
    }

    /// Answers a command, or parks it.
    fn conclude(
        &mut self,
        slot: u32,
        envelope: &Envelope<'_>,
        result: Result<Progress, ReplyError>,
        rest: impl FnOnce(Option<&str>) -> Rest,
    ) -> Flow {
        self.counters.commands += 1;
        match result {
            Ok(Progress::Finished(outcome)) => {
                self.reply_outcome(slot, envelope.id(), &outcome);
            }
            Ok(Progress::Waiting { ticket, outcome }) => {
                let session = self.sessions.get(slot);
                let who = Waiter::Session { slot, nonce: session.nonce, rest: rest(envelope.id()) };
                self.waiting.insert(ticket, Waiting { outcome, who });
                return Flow::Pause;
            }
            Err(error) => self.refuse(slot, envelope.id(), error),
        }
        Flow::Continue
    }

    /// Gives a paused session its answer and lets it go on: at once with its connection's next message, or, if commands
    /// of its last one are left, when [`Engine::on_mail`] comes to them. Not here: this runs amid the handling of
    /// mail, perhaps for a command of another session, and would nest without bound.
    pub(super) fn answer_session(&mut self, slot: u32, rest: Rest, result: Result<Outcome, ReplyError>) {
        match result {
            Ok(outcome) => self.reply_outcome(slot, rest.id.as_deref(), &outcome),
            Err(error) => self.refuse(slot, rest.id.as_deref(), error),
        }
        match rest.frame {
            Some((frame, next)) => {
                let session = self.session_id(slot);
                self.interrupted.push_back(Interrupted { session, frame, next });
            }
            None => self.resumed.push(self.sessions.hot(slot).connection),
        }
    }

    /// Executes the commands that are left of a frame.
    pub(super) fn go_on(&mut self, interrupted: Interrupted) {
        let Interrupted { session, frame, next } = interrupted;
        let Some(slot) = self.sessions.find(session) else { return };
        if self.receive_batch(slot, &frame, next) == Flow::Continue {
            self.resumed.push(self.sessions.hot(slot).connection);
        }
    }

    fn reply_outcome(&mut self, slot: u32, id: Option<&str>, outcome: &Outcome) {
        if let Some(id) = id {
            let format = self.sessions.hot(slot).format;
            self.reply(slot, |out| dialect::encode_ok(format, out, id, outcome));
        }
        self.reply_missed(slot, outcome);
    }

    fn refuse(&mut self, slot: u32, id: Option<&str>, error: ReplyError) {
        self.counters.command_errors += 1;
        self.counters.rate_limited += u64::from(error == ReplyError::RateLimited);
        let format = self.sessions.hot(slot).format;
        self.reply(slot, |out| dialect::encode_error(format, out, id, error));
    }
}
