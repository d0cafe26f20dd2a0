//! From frames to replies: a session's messages are decoded by its dialect, executed in order, and answered.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::{
    Engine,
    output::Turn,
    waiting::{Held, HeldBatch, Interrupted, Progress, Seen},
    window::{Executed, HeldCommands, Publishing},
};
use crate::{
    app::AppLimits,
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
    /// The turn is full, or too much output of the session waits. The shell keeps the rest of the input for
    /// the next turn.
    Yield,
}

/// Whether messages are left to a later turn when the present one is full.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Budget {
    Kept,
    Ignored,
}

/// The bytes of the turn's answers beyond which a session's next command waits for a later turn.
#[derive(Copy, Clone)]
struct AnswerBound(usize);

impl AnswerBound {
    /// A session gets `bytes` of answers more.
    #[inline]
    fn new(turn: &Turn, bytes: usize) -> Self {
        Self(turn.reply_bytes().saturating_add(bytes))
    }
}

/// What follows a command in its message.
#[derive(Copy, Clone)]
struct Rest {
    is_last: bool,
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

/// Keeps a message that is not read yet.
fn held(message: Message<'_>) -> Option<HeldCommands> {
    Some(HeldCommands { message: Held::copy(message, Seen::Unread, None)?, next: 0 })
}

/// Copies a message whose commands from the `next`-th on have to run later.
fn held_from(message: Message<'_>, commands: &Commands<'_, '_>, next: usize) -> Option<HeldCommands> {
    let kept = if let Message::Binary(_) = message { commands.keep() } else { None };
    let message = match kept {
        Some(kept) => Held::Commands(Box::new(kept)),
        None => Held::copy(message, Seen::Read, commands.spans())?,
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
    /// Handles one message of a session's connection, however full the turn is. Control frames are the
    /// shell's.
    pub fn receive(&mut self, slot: SessionSlot, message: Message<'_>) -> Flow {
        self.receive_from(slot, [message], Budget::Ignored)
    }

    /// Handles messages in order, the same as one by one. Those that `messages` has not yielded when it
    /// pauses are to be handed over later.
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

    /// Publications to one channel that differ in their messages alone are gathered, to be published in one
    /// operation.
    #[inline]
    fn receive_with<'m>(
        &mut self,
        decoder: &mut Decoder,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Message<'m>>,
        budget: Budget,
    ) -> Flow {
        let AppLimits { message_bytes: longest, answer_bytes, .. } = self.session_app(slot).limits;
        let bound = AnswerBound::new(&self.turn, answer_bytes);
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
            let repeated =
                decoder.match_template(format, slot, message).filter(|new| new.payload.len() <= longest);
            if !burst.takes(repeated)
                && self.publish_burst(decoder, slot, &mut burst, Some(message)) == Flow::Pause
            {
                return Flow::Pause;
            }
            match repeated {
                // The window stays as it is while a burst is gathered.
                Some(repeated) if !burst.0.is_empty() || self.window_admits(slot, Some(repeated.channel)) => {
                    burst.add(repeated);
                }
                Some(_) => {
                    self.counters.of(format).messages += 1;
                    return self.hold(slot, held(message));
                }
                None => {
                    self.counters.of(format).messages += 1;
                    let read = decoder.read(format, slot, message);
                    if self.run_commands(slot, message, read, 0, bound) == Flow::Pause {
                        return Flow::Pause;
                    }
                    if budget == Budget::Kept && self.is_answered(bound) {
                        flow = Flow::Yield;
                        break;
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
        let mut rest = &payloads[..];
        self.work += payloads.len();
        let format = self.sessions.hot(slot).format;
        self.counters.of(format).messages += payloads.len() as u64;
        let first = burst[0];
        burst.clear();
        loop {
            let mut published = rest;
            let result = self.publish_for(slot, &decoder.publish_from(format, first), &mut published);
            rest = &rest[published.len()..];
            // Triggers judge the publications one by one.
            let goes_on = !rest.is_empty() && matches!(result, Ok(Progress::Called(_)));
            let bytes = published.iter().map(Payload::len).sum();
            let executed = Executed {
                id: None,
                commands: published.len(),
                publication: Some(Publishing { channel: first.channel, bytes }),
            };
            let flow = self.conclude(slot, executed, result, || if goes_on { None } else { held(next?) });
            if !goes_on {
                self.refuse_in_order(slot, rest.len(), ReplyError::RateLimited);
                return flow;
            }
        }
    }

    /// Executes the commands that were read in a message, from the `from`-th on.
    fn run_commands(
        &mut self,
        slot: SessionSlot,
        message: Message<'_>,
        read: Result<Commands<'_, '_>, ReplyError>,
        from: usize,
        bound: AnswerBound,
    ) -> Flow {
        let mut commands = match read {
            Ok(commands) => commands,
            Err(error) => {
                self.refuse(slot, None, error);
                return Flow::Continue;
            }
        };
        for at in from..commands.len() {
            if at > from && (self.is_turn_full() || self.is_answered(bound)) {
                return self.yield_commands(slot, held_from(message, &commands, at));
            }
            let rest = Rest { is_last: at + 1 == commands.len() };
            let keep = |commands: &Commands<'_, '_>, ahead| held_from(message, commands, at + ahead);
            if self.run_command(slot, &mut commands, at, rest, keep) == Flow::Pause {
                return Flow::Pause;
            }
        }
        Flow::Continue
    }

    /// Executes the command at this place. `keep` keeps it and what follows, or, with 1, what follows.
    #[inline]
    fn run_command<'s, 'a>(
        &mut self,
        slot: SessionSlot,
        commands: &mut Commands<'s, 'a>,
        at: usize,
        rest: Rest,
        keep: impl Fn(&Commands<'s, 'a>, usize) -> Option<HeldCommands>,
    ) -> Flow {
        let source = commands.source(at);
        let mut executed = Executed { id: source.id(), commands: 1, publication: None };
        let command = source.command();
        let result = match command {
            Ok(command) => {
                executed.publication = publishing(&command);
                if !self.window_admits(slot, executed.publication.map(|publishing| publishing.channel)) {
                    return self.hold(slot, keep(commands, 0));
                }
                if let Command::Publish(publish) = &command {
                    commands.record_template(&source, publish);
                }
                self.execute(slot, command)
            }
            Err(error) => Err(error),
        };
        self.conclude(slot, executed, result, || if rest.is_last { None } else { keep(commands, 1) })
    }

    /// Executes the commands that are left of a message.
    pub(super) fn go_on(&mut self, interrupted: Interrupted) {
        let Interrupted { session, message, next } = interrupted;
        let Some(slot) = self.sessions.find(session) else { return };
        // It says that the session is paused, which ends here.
        self.sessions.get_mut(slot).take_empty_window();
        let mut decoder = self.decoder.take().unwrap_or_default();
        let flow = match &message {
            Held::Text(text, seen) => {
                self.go_on_message(&mut decoder, slot, (Message::Text(text), *seen), next)
            }
            Held::Binary(bytes, seen) => {
                self.go_on_message(&mut decoder, slot, (Message::Binary(bytes), *seen), next)
            }
            Held::Commands(kept) => {
                let bound = self.answer_bound(slot);
                self.run_commands(slot, Message::Binary(&[]), Ok(kept.commands()), next, bound)
            }
            Held::Batch(batch) => self.go_on_batch(&mut decoder, slot, batch, next),
        };
        self.decoder = Some(decoder);
        if flow == Flow::Continue {
            self.unpause(slot);
        }
    }

    fn go_on_message(
        &mut self,
        decoder: &mut Decoder,
        slot: SessionSlot,
        (message, seen): (Message<'_>, Seen),
        from: usize,
    ) -> Flow {
        let format = self.sessions.hot(slot).format;
        let bound = self.answer_bound(slot);
        let read = match seen {
            Seen::Unread => decoder.read(format, slot, message),
            Seen::Read => decoder.read_again(format, slot, message),
        };
        self.run_commands(slot, message, read, from, bound)
    }

    /// Executes the commands of a batch from the `from`-th on. Each is taken apart alone, and the text is not
    /// copied.
    fn go_on_batch(
        &mut self,
        decoder: &mut Decoder,
        slot: SessionSlot,
        batch: &Arc<HeldBatch>,
        from: usize,
    ) -> Flow {
        let format = self.sessions.hot(slot).format;
        let held = |next| Some(HeldCommands { message: Held::Batch(batch.clone()), next });
        let bound = self.answer_bound(slot);
        for at in from..batch.len() {
            if at > from && (self.is_turn_full() || self.is_answered(bound)) {
                return self.yield_commands(slot, held(at));
            }
            let mut commands = match decoder.read_one(format, batch.command(at)) {
                Ok(commands) => commands,
                Err(error) => {
                    self.refuse(slot, None, error);
                    continue;
                }
            };
            let rest = Rest { is_last: at + 1 == batch.len() };
            if self.run_command(slot, &mut commands, 0, rest, |_, ahead| held(at + ahead)) == Flow::Pause {
                return Flow::Pause;
            }
        }
        Flow::Continue
    }

    /// The bound of a session that goes on now.
    fn answer_bound(&self, slot: SessionSlot) -> AnswerBound {
        AnswerBound::new(&self.turn, self.session_app(slot).limits.answer_bytes)
    }

    #[inline]
    fn is_answered(&self, bound: AnswerBound) -> bool {
        self.turn.reply_bytes() > bound.0
    }

    pub(super) fn reply_outcome(&mut self, slot: SessionSlot, id: Option<&str>, outcome: &Outcome) {
        if let Outcome::Refused(why) = outcome {
            self.counters.command_errors += 1;
            let format = self.sessions.hot(slot).format;
            return self.reply(slot, |out| dialect::encode_refused(format, out, id, why));
        }
        if let Some(id) = id {
            let format = self.sessions.hot(slot).format;
            self.reply(slot, |out| dialect::encode_ok(format, out, id, outcome));
        }
        self.reply_missed(slot, outcome);
    }

    pub(super) fn refuse(&mut self, slot: SessionSlot, id: Option<&str>, error: ReplyError) {
        self.counters.command_errors += 1;
        self.counters.rate_limited += u64::from(error == ReplyError::RateLimited);
        self.counted(self.sessions.get(slot).app).refused_command(error);
        let format = self.sessions.hot(slot).format;
        self.counters.of(format).refusals += 1;
        self.reply(slot, |out| dialect::encode_error(format, out, id, error));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        app::{App, AppKeys, Apps},
        dialect::Format,
        engine::{Node, Opening, Segments, Sink},
        id::{AppId, WorkerId},
        json::tests::take_scanned,
    };

    const COMMANDS: usize = 256;

    /// Counts answers.
    #[derive(Default)]
    struct Answers(usize);

    impl Sink for Answers {
        fn write(&mut self, _: u32, parts: Segments<'_>) -> usize {
            for (buffer, range) in parts {
                self.0 += buffer[range].windows(6).filter(|text| text == b"\"total").count();
            }
            0
        }
    }

    fn engines() -> [Engine; 2] {
        let apps = Apps::new(vec![App::new("default", AppKeys::default())]).expect("one app");
        let node = Arc::new(Node::new(apps, 2, 64, 7));
        [0, 1].map(|worker| Engine::new(WorkerId(worker), node.clone(), u64::from(worker) + 1))
    }

    #[test]
    fn a_batch_that_waits_at_each_command_is_scanned_twice_at_most() {
        let mut engines = engines();
        for (engine, connection) in engines.iter_mut().zip(0..) {
            let app = engine.node().app(AppId(0)).clone();
            let (format, echo, claims, ticket) = (Format::Native, None, None, None);
            let opening = Opening { app: &app, format, echo, claims, connection, ticket };
            let slot = engine.open(opening, |_| {}, |_, _, _| {}).expect("the app is not full");
            let join = Message::Text(r#"{"type":"join","channel":"room"}"#);
            assert_ne!(engine.receive(slot, join), Flow::Yield);
        }
        let mut sink = Answers::default();
        let turn = |engines: &mut [Engine; 2], sink: &mut Answers| {
            for engine in engines {
                engine.begin_turn(1);
                engine.on_mail();
                engine.flush(sink);
            }
        };
        (0..4).for_each(|_| turn(&mut engines, &mut sink));
        let command =
            format!(r#"{{"type":"members","id":"{:4000}","channel":"room"}}"#, "").replace("    ", "");
        let padded = format!("{command}{:4096}", "");
        let batch = format!("[{}]", vec![padded; COMMANDS].join(","));
        assert!(batch.len() >= 1 << 20);
        take_scanned();
        assert_eq!(engines[0].receive(SessionSlot(0), Message::Text(&batch)), Flow::Pause);
        (0..2 * COMMANDS).for_each(|_| turn(&mut engines, &mut sink));
        assert_eq!(sink.0, COMMANDS, "not all are answered");
        let scanned = take_scanned();
        println!("{scanned} bytes of {} scanned", batch.len());
        assert!(scanned <= 2 * batch.len(), "{scanned} bytes of {} scanned", batch.len());
    }
}
