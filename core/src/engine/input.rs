//! From frames to replies: a session's messages are decoded by its dialect, executed in order, and answered.

use arrayvec::ArrayVec;

use super::{
    Engine,
    waiting::{Held, Interrupted},
    window::{Executed, HeldCommands, Publishing},
};
use crate::{
    command::{Command, Outcome},
    dialect::{self, Commands, Decoder, TemplateMatch},
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
    /// The turn is full. Keep what was not taken for the next turn.
    Yield,
}

/// Whether messages are left to a later turn when the present one is full.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Budget {
    Kept,
    Ignored,
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

/// Keeps a message of which the commands from the `next`-th on are to be executed later.
fn held(message: Message<'_>, next: usize) -> Option<HeldCommands> {
    let message = match message {
        Message::Text(text) => Held::Text(text.into()),
        Message::Binary(bytes) => Held::Binary(bytes.into()),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return None,
    };
    Some(HeldCommands { message, next })
}

fn publishing<'a>(command: &Command<'a>) -> Option<Publishing<'a>> {
    match command {
        Command::Publish(publish) => Some(Publishing::of(publish)),
        _ => None,
    }
}

impl Engine {
    /// Handles one message of a session's connection, however full the turn is. Control frames are the shell's.
    pub fn receive(&mut self, slot: SessionSlot, message: Message<'_>) -> Flow {
        self.receive_from(slot, [message], Budget::Ignored)
    }

    /// Handles messages in order, the same as one by one. Those that `messages` has not yielded when it pauses are to be
    /// handed over later.
    pub fn receive_all<'m>(
        &mut self,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> Flow {
        self.receive_from(slot, messages, Budget::Kept)
    }

    fn receive_from<'m>(
        &mut self,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Message<'m>>,
        budget: Budget,
    ) -> Flow {
        let mut decoder = self.decoder.take().unwrap_or_default();
        let flow = self.receive_with(&mut decoder, slot, messages, budget);
        self.decoder = Some(decoder);
        flow
    }

    /// Publications to one channel that differ in their messages alone are gathered, to be published in one operation.
    #[inline]
    fn receive_with<'m>(
        &mut self,
        decoder: &mut Decoder,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Message<'m>>,
        budget: Budget,
    ) -> Flow {
        let longest = self.session_app(slot).limits.message_bytes;
        let format = self.sessions.hot(slot).format;
        let mut burst = Burst::default();
        let mut messages = messages.into_iter();
        let mut flow = Flow::Continue;
        loop {
            if budget == Budget::Kept && self.is_turn_full() {
                flow = Flow::Yield;
                break;
            }
            let Some(message) = messages.next() else { break };
            let repeated = decoder.match_template(format, message).filter(|new| new.payload.len() <= longest);
            if !burst.takes(repeated)
                && self.publish_burst(decoder, slot, &mut burst, Some(message)) == Flow::Pause
            {
                return Flow::Pause;
            }
            match repeated {
                Some(repeated) if self.window_admits(slot, Some(repeated.channel)) => burst.add(repeated),
                Some(_) => return self.hold(slot, held(message, 0)),
                None => {
                    let read = decoder.read(format, slot, message);
                    if self.run_commands(slot, message, read, 0) == Flow::Pause {
                        return Flow::Pause;
                    }
                }
            }
        }
        if !burst.0.is_empty() && self.publish_burst(decoder, slot, &mut burst, None) == Flow::Pause {
            return Flow::Pause;
        }
        flow
    }

    /// Publishes what was gathered; `next` is the message after it, if that was taken already.
    fn publish_burst(
        &mut self,
        decoder: &Decoder,
        slot: SessionSlot,
        Burst(burst): &mut Burst<'_>,
        next: Option<Message<'_>>,
    ) -> Flow {
        let payloads: ArrayVec<_, BURST> = burst.iter().map(|new| new.payload).collect();
        let mut published = &payloads[..];
        self.work += payloads.len();
        let result = self.publish_for(slot, &decoder.publish_from(burst[0]), &mut published);
        let channel = burst[0].channel;
        burst.clear();
        let bytes = published.iter().map(Payload::len).sum();
        let executed = Executed {
            id: None,
            commands: published.len(),
            publication: Some(Publishing { channel, bytes }),
        };
        let flow = self.conclude(slot, executed, result, || held(next?, 0));
        self.refuse_in_order(slot, payloads.len() - published.len(), ReplyError::RateLimited);
        flow
    }

    /// Executes the commands that were read in a message, from the `from`-th on.
    fn run_commands(
        &mut self,
        slot: SessionSlot,
        message: Message<'_>,
        read: Result<Commands<'_, '_>, ReplyError>,
        from: usize,
    ) -> Flow {
        let mut commands = match read {
            Ok(commands) => commands,
            Err(error) => {
                self.refuse(slot, None, error);
                return Flow::Continue;
            }
        };
        for at in from..commands.len() {
            if at > from && self.is_turn_full() {
                return self.yield_commands(slot, held(message, at));
            }
            let source = commands.source(at);
            let mut executed = Executed { id: source.id(), commands: 1, publication: None };
            let result = match source.command() {
                Ok(command) => {
                    executed.publication = publishing(&command);
                    if !self.window_admits(slot, executed.publication.map(|publishing| publishing.channel)) {
                        return self.hold(slot, held(message, at));
                    }
                    if let Command::Publish(publish) = &command {
                        commands.record_template(&source, publish);
                    }
                    self.execute(slot, command)
                }
                Err(error) => Err(error),
            };
            let next = || if at + 1 < commands.len() { held(message, at + 1) } else { None };
            if self.conclude(slot, executed, result, next) == Flow::Pause {
                return Flow::Pause;
            }
        }
        Flow::Continue
    }

    /// Executes the commands that are left of a message.
    pub(super) fn go_on(&mut self, interrupted: Interrupted) {
        let Interrupted { session, message, next } = interrupted;
        let Some(slot) = self.sessions.find(session) else { return };
        // It says that the session is paused, which ends here.
        self.sessions.get_mut(slot).take_empty_window();
        let mut decoder = self.decoder.take().unwrap_or_default();
        let format = self.sessions.hot(slot).format;
        let read = decoder.read_again(format, slot, message.view());
        let flow = self.run_commands(slot, message.view(), read, next);
        self.decoder = Some(decoder);
        if flow == Flow::Continue {
            self.unpause(slot);
        }
    }

    pub(super) fn reply_outcome(&mut self, slot: SessionSlot, id: Option<&str>, outcome: &Outcome) {
        if let Some(id) = id {
            let format = self.sessions.hot(slot).format;
            self.reply(slot, |out| dialect::encode_ok(format, out, id, outcome));
        }
        self.reply_missed(slot, outcome);
    }

    pub(super) fn refuse(&mut self, slot: SessionSlot, id: Option<&str>, error: ReplyError) {
        self.counters.command_errors += 1;
        self.counters.rate_limited += u64::from(error == ReplyError::RateLimited);
        let format = self.sessions.hot(slot).format;
        self.reply(slot, |out| dialect::encode_error(format, out, id, error));
    }
}
