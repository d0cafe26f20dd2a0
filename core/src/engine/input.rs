//! From frames to replies: a session's messages are decoded by its dialect, executed in order, and answered.

use arrayvec::ArrayVec;

use super::{
    Engine,
    waiting::{Held, Interrupted, Progress, Rest, Waiter, Waiting},
};
use crate::{
    command::{Command, Outcome},
    dialect::{self, Batch, CommandReader, TemplateMatch},
    error::ReplyError,
    id::SessionSlot,
    limits::BURST,
    publication::Payload,
    ws::Message,
};

/// Whether the shell may go on handing over this connection's messages.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[must_use]
pub enum Flow {
    /// Yes.
    Continue,
    /// A command waits for another thread. Hand over nothing more until [`Engine::take_unpaused`] names the
    /// connection.
    Pause,
}

/// Publications of one sender to one channel, in a row.
#[derive(Default)]
struct Burst<'m>(ArrayVec<TemplateMatch<'m>, BURST>);

impl<'m> Burst<'m> {
    /// Whether nothing has to be published before this is handled.
    #[inline]
    fn takes(&self, new: Option<TemplateMatch<'m>>) -> bool {
        let Some(first) = self.0.first() else { return true };
        !self.0.is_full() && new.is_some_and(|new| new.channel == first.channel)
    }

    #[inline]
    fn add(&mut self, new: TemplateMatch<'m>) {
        self.0.push(new);
    }
}

impl Engine {
    /// Handles one message of a session's connection: commands. Control frames are the shell's.
    pub fn receive(&mut self, slot: SessionSlot, message: Message<'_>) -> Flow {
        self.receive_all(slot, [message])
    }

    /// Handles messages in order, the same as one by one. Those that `messages` has not yielded when it pauses are to be
    /// handed over later.
    pub fn receive_all<'m>(
        &mut self,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> Flow {
        let mut reader = self.reader.take().unwrap_or_default();
        let flow = self.receive_with(&mut reader, slot, messages);
        self.reader = Some(reader);
        flow
    }

    /// Publications to one channel that differ in their messages alone are gathered, to be published in one operation.
    #[inline]
    fn receive_with<'m>(
        &mut self,
        reader: &mut CommandReader,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> Flow {
        let longest = self.session_app(slot).limits.message_bytes;
        let mut burst = Burst::default();
        for message in messages {
            let repeated = match message {
                Message::Text(text) => reader.match_template(text).filter(|new| new.message.len() <= longest),
                _ => None,
            };
            if !burst.takes(repeated)
                && self.publish_burst(reader, slot, &mut burst, Some(message)) == Flow::Pause
            {
                return Flow::Pause;
            }
            match repeated {
                Some(repeated) => burst.add(repeated),
                None => {
                    if self.receive_one(reader, slot, message, 0) == Flow::Pause {
                        return Flow::Pause;
                    }
                }
            }
        }
        if burst.0.is_empty() { Flow::Continue } else { self.publish_burst(reader, slot, &mut burst, None) }
    }

    /// Publishes what was gathered; `next` is the message after it, if that was taken already.
    fn publish_burst(
        &mut self,
        reader: &CommandReader,
        slot: SessionSlot,
        Burst(burst): &mut Burst<'_>,
        next: Option<Message<'_>>,
    ) -> Flow {
        let payloads: ArrayVec<_, BURST> = burst.iter().map(|new| Payload::Json(new.message)).collect();
        let mut published = &payloads[..];
        let result = self.publish_for(slot, &reader.publish_from(burst[0]), &mut published);
        burst.clear();
        let next = || match next? {
            Message::Text(text) => Some((Held::Text(text.into()), 0)),
            Message::Binary(bytes) => Some((Held::Binary(bytes.into()), 0)),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
        };
        let flow = self.conclude(slot, (None, published.len()), result, next);
        for _ in published.len()..payloads.len() {
            self.counters.commands += 1;
            self.refuse(slot, None, ReplyError::RateLimited);
        }
        flow
    }

    /// Executes the commands of a message from the `from`-th on.
    fn receive_one(
        &mut self,
        reader: &mut CommandReader,
        slot: SessionSlot,
        message: Message<'_>,
        from: usize,
    ) -> Flow {
        let read = match message {
            Message::Text(text) => {
                Batch::read(reader, text).map(|mut batch| self.run_batch(slot, text, &mut batch, from))
            }
            Message::Binary(bytes) => self.receive_binary(reader, slot, bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(Flow::Continue),
        };
        read.unwrap_or_else(|error| {
            self.refuse(slot, None, error);
            Flow::Continue
        })
    }

    fn run_batch(&mut self, slot: SessionSlot, text: &str, batch: &mut Batch<'_, '_>, from: usize) -> Flow {
        for at in from..batch.len() {
            let envelope = batch.envelope(at);
            let result = match envelope.command() {
                Ok(command) => {
                    if let Command::Publish(publish) = &command {
                        batch.record_template(&envelope, publish);
                    }
                    self.execute(slot, command)
                }
                Err(error) => Err(error),
            };
            let next = || (at + 1 < batch.len()).then(|| (Held::Text(text.into()), at + 1));
            if self.conclude(slot, (envelope.id(), 1), result, next) == Flow::Pause {
                return Flow::Pause;
            }
        }
        Flow::Continue
    }

    fn receive_binary(
        &mut self,
        reader: &mut CommandReader,
        slot: SessionSlot,
        bytes: &[u8],
    ) -> Result<Flow, ReplyError> {
        let (envelope, payload) = dialect::read_binary(reader, bytes)?;
        let publish = envelope.binary_command(payload);
        let result =
            publish.and_then(|publish| self.publish_for(slot, &publish, &mut &[publish.payload][..]));
        Ok(self.conclude(slot, (envelope.id(), 1), result, || None))
    }

    /// Answers a command, or several without id that are one operation; or parks them, with what comes `next`.
    fn conclude(
        &mut self,
        slot: SessionSlot,
        (id, commands): (Option<&str>, usize),
        result: Result<Progress, ReplyError>,
        next: impl FnOnce() -> Option<(Held, usize)>,
    ) -> Flow {
        self.counters.commands += commands as u64;
        match result {
            Ok(Progress::Finished(outcome)) => {
                self.reply_outcome(slot, id, &outcome);
            }
            Ok(Progress::Waiting { ticket, outcome }) => {
                let session = self.sessions.get(slot);
                let rest = Rest { id: id.map(Into::into), commands, next: next() };
                let who = Waiter::Session { slot, nonce: session.nonce, rest };
                self.waiting.insert(ticket, Waiting { outcome, who });
                return Flow::Pause;
            }
            Err(error) => (0..commands).for_each(|_| self.refuse(slot, id, error)),
        }
        Flow::Continue
    }

    /// Gives a paused session its answer and lets it go on: at once with its connection's next message, or, if commands
    /// of its last one are left, when [`Engine::on_mail`] comes to them. Not here: this runs amid the handling of
    /// mail, perhaps for a command of another session, and would nest without bound.
    pub(super) fn answer_session(
        &mut self,
        slot: SessionSlot,
        rest: Rest,
        result: Result<Outcome, ReplyError>,
    ) {
        match result {
            Ok(outcome) => self.reply_outcome(slot, rest.id.as_deref(), &outcome),
            Err(error) => {
                (0..rest.commands).for_each(|_| self.refuse(slot, rest.id.as_deref(), error));
            }
        }
        match rest.next {
            Some((message, next)) => {
                let session = self.session_id(slot);
                self.interrupted.push_back(Interrupted { session, message, next });
            }
            None => self.unpause(slot),
        }
    }

    /// Executes the commands that are left of a message.
    pub(super) fn go_on(&mut self, interrupted: Interrupted) {
        let Interrupted { session, message, next } = interrupted;
        let Some(slot) = self.sessions.find(session) else { return };
        let mut reader = self.reader.take().unwrap_or_default();
        let flow = self.receive_one(&mut reader, slot, message.view(), next);
        self.reader = Some(reader);
        if flow == Flow::Continue {
            self.unpause(slot);
        }
    }

    fn reply_outcome(&mut self, slot: SessionSlot, id: Option<&str>, outcome: &Outcome) {
        if let Some(id) = id {
            let format = self.sessions.hot(slot).format;
            self.reply(slot, |out| dialect::encode_ok(format, out, id, outcome));
        }
        self.reply_missed(slot, outcome);
    }

    fn refuse(&mut self, slot: SessionSlot, id: Option<&str>, error: ReplyError) {
        self.counters.command_errors += 1;
        self.counters.rate_limited += u64::from(error == ReplyError::RateLimited);
        let format = self.sessions.hot(slot).format;
        self.reply(slot, |out| dialect::encode_error(format, out, id, error));
    }
}
