//! From frames to replies: a session's messages are decoded by its dialect, executed in order, and answered.

use super::{
    Engine,
    members::Progress,
    operate::{Waiter, Waiting},
};
use crate::{
    command::{Command, Outcome},
    dialect::{self, Batch},
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
        let mut reader = self.reader.take().unwrap_or_default();
        let flow = match Batch::read(&mut reader, text) {
            Err(error) => {
                self.refuse(slot, None, error);
                Flow::Continue
            }
            Ok(mut batch) => self.run_batch(slot, text, &mut batch, from),
        };
        self.reader = Some(reader);
        flow
    }

    fn run_batch(&mut self, slot: u32, text: &str, batch: &mut Batch<'_, '_>, from: usize) -> Flow {
        if let Some(publish) = batch.repeated() {
            let result = self.publish_for(slot, &publish);
            return self.conclude(slot, None, result, |id| Rest { id, frame: None });
        }
        for at in from..batch.len() {
            let envelope = batch.envelope(at);
            let result = match envelope.command() {
                Ok(command) => {
                    if let Command::Publish(publish) = &command {
                        batch.learn(&envelope, publish);
                    }
                    self.execute(slot, command)
                }
                Err(error) => Err(error),
            };
            let frame = || (at + 1 < batch.len()).then(|| (text.into(), at + 1));
            if self.conclude(slot, envelope.id(), result, |id| Rest { id, frame: frame() }) == Flow::Pause {
                return Flow::Pause;
            }
        }
        Flow::Continue
    }

    fn receive_binary(&mut self, slot: u32, bytes: &[u8]) -> Flow {
        let mut reader = self.reader.take().unwrap_or_default();
        let flow = match dialect::read_binary(&mut reader, bytes) {
            Err(error) => {
                self.refuse(slot, None, error);
                Flow::Continue
            }
            Ok((envelope, payload)) => {
                let result =
                    envelope.binary_command(payload).and_then(|publish| self.publish_for(slot, &publish));
                self.conclude(slot, envelope.id(), result, |id| Rest { id, frame: None })
            }
        };
        self.reader = Some(reader);
        flow
    }

    /// Answers a command, or parks it.
    fn conclude(
        &mut self,
        slot: u32,
        id: Option<&str>,
        result: Result<Progress, ReplyError>,
        rest: impl FnOnce(Option<Box<str>>) -> Rest,
    ) -> Flow {
        self.counters.commands += 1;
        match result {
            Ok(Progress::Finished(outcome)) => {
                self.reply_outcome(slot, id, &outcome);
            }
            Ok(Progress::Waiting { ticket, outcome }) => {
                let session = self.sessions.get(slot);
                let who = Waiter::Session { slot, nonce: session.nonce, rest: rest(id.map(Into::into)) };
                self.waiting.insert(ticket, Waiting { outcome, who });
                return Flow::Pause;
            }
            Err(error) => self.refuse(slot, id, error),
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
