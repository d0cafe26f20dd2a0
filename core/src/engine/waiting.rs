//! Commands that wait: for a ticket of another worker, with the outcome as far as it is known.

use std::{ops::Range, sync::Arc};

use super::{Engine, idempotency::Key};
use crate::{command::Outcome, dialect::KeptCommands, error::ReplyError, id::SessionId, ws::Message};

/// An outcome, or the ticket under which it will come.
pub(super) enum Progress {
    Finished(Outcome),
    Waiting {
        ticket: u64,
        outcome: Outcome,
    },
    /// The command waits for its triggers. The outcome comes under this ticket.
    Called(u64),
}

/// Who waits for a ticket, with the outcome as far as it is known.
pub(super) struct Waiting {
    pub(super) outcome: Outcome,
    pub(super) who: Waiter,
}

pub(super) enum Waiter {
    /// A session, with so many commands that are one operation.
    Session { session: SessionId, ticket: u64, commands: usize },
    /// A request of the shell's.
    Request(u64),
    /// Everybody who asks for this idempotency key.
    IdempotentPublish(Key),
}

impl Waiter {
    /// How many commands wait.
    pub(super) fn commands(&self) -> usize {
        match self {
            Waiter::Session { commands, .. } => *commands,
            Waiter::Request(_) | Waiter::IdempotentPublish(_) => 1,
        }
    }
}

/// A message that waits.
pub(super) enum Held {
    Text(Box<str>, Seen),
    Binary(Box<[u8]>, Seen),
    Batch(Arc<HeldBatch>),
    /// The commands of a message whose bytes are not enough.
    Commands(Box<KeptCommands>),
}

/// Whether a session's decoder has read a message that waits.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Seen {
    Unread,
    Read,
}

/// A text with several commands, copied once and taken apart once however often its commands wait.
pub(super) struct HeldBatch {
    text: Box<str>,
    /// Where each command stands.
    spans: Box<[Range<u32>]>,
}

impl HeldBatch {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The text of the command at this place.
    pub(super) fn command(&self, place: usize) -> &str {
        let Range { start, end } = self.spans[place];
        &self.text[start as usize..end as usize]
    }
}

impl Held {
    /// Copies a message, of which the commands stand at `spans` if it is a text with several; none of a
    /// control frame.
    pub(super) fn copy(message: Message<'_>, seen: Seen, spans: Option<Box<[Range<u32>]>>) -> Option<Self> {
        Some(match (message, spans) {
            (Message::Text(text), Some(spans)) => {
                Self::Batch(Arc::new(HeldBatch { text: text.into(), spans }))
            }
            (Message::Text(text), None) => Self::Text(text.into(), seen),
            (Message::Binary(bytes), _) => Self::Binary(bytes.into(), seen),
            (Message::Ping(_) | Message::Pong(_) | Message::Close(_), _) => return None,
        })
    }
}

/// A message whose commands are to be executed from the `next`-th on.
pub(super) struct Interrupted {
    pub(super) session: SessionId,
    pub(super) message: Held,
    pub(super) next: usize,
}

impl Engine {
    pub(super) fn finish_request(
        &mut self,
        progress: Result<Progress, ReplyError>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        match progress {
            Ok(Progress::Finished(outcome)) => Some(Ok(outcome)),
            Ok(Progress::Waiting { ticket, outcome }) => {
                self.waiting.insert(ticket, Waiting { outcome, who: Waiter::Request(token) });
                None
            }
            Ok(Progress::Called(ticket)) => {
                self.await_verdict(ticket, Waiter::Request(token));
                None
            }
            Err(error) => {
                self.counters.command_errors += 1;
                Some(Err(error))
            }
        }
    }

    /// Gives a waiter its answer, now or when it has come.
    pub(super) fn settle(&mut self, who: Waiter, progress: Result<Progress, ReplyError>) {
        match progress {
            Ok(Progress::Finished(outcome)) => self.answer(who, Ok(outcome)),
            Ok(Progress::Waiting { ticket, outcome }) => {
                self.waiting.insert(ticket, Waiting { outcome, who });
            }
            Ok(Progress::Called(ticket)) => self.await_verdict(ticket, who),
            Err(error) => self.answer(who, Err(error)),
        }
    }

    /// Gives a waiter its answer.
    pub(super) fn answer(&mut self, who: Waiter, result: Result<Outcome, ReplyError>) {
        match who {
            Waiter::IdempotentPublish(key) => match result {
                Ok(outcome) => self.on_published(&key, Ok(&outcome)),
                Err(error) => self.on_published(&key, Err(error)),
            },
            Waiter::Request(token) => self.answers.push((token, result)),
            Waiter::Session { session, ticket, .. } => {
                if let Some(slot) = self.sessions.find(session) {
                    self.on_command_done(slot, ticket, result);
                }
            }
        }
    }
}
