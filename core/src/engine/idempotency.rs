//! Publishing once: a request with an idempotency key that was used before is answered as the first one was.
//!
//! A back end that repeats a request comes over any connection, and so to any worker. Each key has an owner
//! among the workers, by its hash, which publishes and remembers the answer; the worker that was asked waits
//! for it as for any other mail. So there is nothing to lock, and two requests at once cannot both be the
//! first.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::{
    Engine, Mail, RandomState,
    waiting::{Progress, Waiter, Waiting},
};
use crate::{
    command::{Outcome, Publish},
    error::ReplyError,
    id::{AppId, MessageId, WorkerId},
    limits::{IDEMPOTENCY_KEY_BYTES, IDEMPOTENCY_KEYS, IDEMPOTENCY_MS},
    publication::{Audience, EVERYONE, OwnedPayload},
};

/// An app's key.
pub(super) type Key = (AppId, Arc<str>);

/// A request on its way to the owner of its key.
pub struct IdempotentPublish {
    key: Key,
    asker: Asker,
    channel: Option<Box<str>>,
    event: Box<str>,
    payload: OwnedPayload,
    history: bool,
    audience: Option<Box<Audience>>,
}

impl IdempotentPublish {
    /// About how many bytes it keeps alive.
    pub(super) fn bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, |name| name.len());
        let audience =
            self.audience.as_ref().map_or(0, |audience| size_of::<Audience>() + audience.heap_bytes());
        let texts = self.key.1.len() + channel + self.event.len() + self.payload.view().len();
        size_of::<Self>() + texts + audience
    }
}

/// Who waits for the answer.
#[derive(Copy, Clone)]
struct Asker {
    worker: WorkerId,
    ticket: u64,
}

/// What came of a publication.
#[derive(Copy, Clone, Debug)]
pub enum Published {
    /// To a channel; see [`Outcome::Sent`].
    Sent(MessageId, Option<u64>),
    /// To everyone, or to some.
    Broadcast(MessageId),
}

/// What an owner knows of a key.
enum State {
    /// It is being published.
    InProgress(Vec<Asker>),
    Done(Published),
}

/// The keys that a worker owns.
#[derive(Default)]
pub(super) struct Keys {
    states: HashMap<Key, State, RandomState>,
    /// When each was first used, the oldest first; for each app, so that none makes another's be forgotten.
    used: HashMap<AppId, VecDeque<(u64, Key)>, RandomState>,
}

impl Keys {
    /// Forgets the oldest. One that is under way stays until it is done.
    fn expire(&mut self, now_ms: u64) {
        let states = &mut self.states;
        self.used.retain(|_, used| {
            while let Some((at_ms, key)) = used.front() {
                let over = at_ms + IDEMPOTENCY_MS <= now_ms || used.len() > IDEMPOTENCY_KEYS;
                if !over || matches!(states.get(key), Some(State::InProgress(_))) {
                    break;
                }
                states.remove(key);
                used.pop_front();
            }
            !used.is_empty()
        });
    }
}

impl Engine {
    /// Publishes, unless a request of this app had the same key before.
    pub(super) fn publish_once(
        &mut self,
        app: AppId,
        key: &str,
        publish: &Publish<'_>,
    ) -> Result<Progress, ReplyError> {
        if !(1..=IDEMPOTENCY_KEY_BYTES).contains(&key.len()) {
            let wrong = "idempotency_key must be a string of 1 to 128 bytes.";
            return Err(ReplyError::InvalidCommand(wrong));
        }
        super::check::check_message(self.apps.of(app), publish, &[publish.payload])?;
        let owner = self.node.owner(app, key);
        if self.node.mailbox(owner).is_full() {
            self.counters.overloaded += 1;
            return Err(ReplyError::Overloaded);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let once = IdempotentPublish {
            key: (app, key.into()),
            asker: Asker { worker: self.worker, ticket },
            channel: publish.channel.map(Into::into),
            event: publish.event.into(),
            payload: publish.payload.into(),
            history: publish.history,
            audience: publish.audience.clone(),
        };
        self.post(owner, Mail::IdempotentPublish(Box::new(once)));
        Ok(Progress::Waiting { ticket, outcome: Outcome::Updated })
    }

    /// A request for a key of ours.
    pub(super) fn on_once(&mut self, once: &IdempotentPublish) {
        self.once.expire(self.steady_ms);
        match self.once.states.get_mut(&once.key) {
            Some(State::Done(published)) => {
                let published = *published;
                return self.post_published(once.asker, Ok(published));
            }
            Some(State::InProgress(askers)) => return askers.push(once.asker),
            None => {}
        }
        self.once.states.insert(once.key.clone(), State::InProgress(vec![once.asker]));
        let app = once.key.0;
        self.once.used.entry(app).or_default().push_back((self.steady_ms, once.key.clone()));
        let publish = Publish {
            channel: once.channel.as_deref(),
            event: &once.event,
            payload: once.payload.view(),
            echo: None,
            history: once.history,
            audience: once.audience.clone(),
        };
        let target = self.target(app, publish.channel);
        let audience = publish.audience.as_deref().unwrap_or(&EVERYONE);
        match self.publish(app, target, (&publish, &[publish.payload]), (audience, None)) {
            Ok(Progress::Finished(outcome)) => self.on_published(&once.key, Ok(&outcome)),
            Ok(Progress::Waiting { ticket, outcome }) => {
                self.waiting
                    .insert(ticket, Waiting { outcome, who: Waiter::IdempotentPublish(once.key.clone()) });
            }
            Err(error) => self.on_published(&once.key, Err(error)),
        }
    }

    /// What came of the first request with a key: everybody who asked is told. What was refused may be tried
    /// again.
    pub(super) fn on_published(&mut self, key: &Key, result: Result<&Outcome, ReplyError>) {
        let result = result.map(|outcome| match outcome {
            Outcome::Sent { message_id, offset } => Published::Sent(*message_id, *offset),
            Outcome::Broadcast { message_id } => Published::Broadcast(*message_id),
            _ => unreachable!("publishing has no other outcome"),
        });
        let before = match result {
            Ok(published) => self.once.states.insert(key.clone(), State::Done(published)),
            Err(_) => {
                if let Some(used) = self.once.used.get_mut(&key.0) {
                    used.retain(|(_, used)| used != key);
                }
                self.once.states.remove(key)
            }
        };
        if let Some(State::InProgress(askers)) = before {
            for asker in askers {
                self.post_published(asker, result);
            }
        }
    }

    fn post_published(&mut self, asker: Asker, result: Result<Published, ReplyError>) {
        self.post(asker.worker, Mail::Published { result, ticket: asker.ticket });
    }

    /// The owner's answer.
    pub(super) fn on_owner_answer(&mut self, ticket: u64, result: Result<Published, ReplyError>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let outcome = result.map(|published| match published {
            Published::Sent(message_id, offset) => Outcome::Sent { message_id, offset },
            Published::Broadcast(message_id) => Outcome::Broadcast { message_id },
        });
        self.answer(waiting.who, outcome);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn use_key(keys: &mut Keys, app: u16, key: &str, state: State) {
        let key: Key = (AppId(app), key.into());
        keys.states.insert(key.clone(), state);
        keys.used.entry(key.0).or_default().push_back((1_000, key));
    }

    fn done() -> State {
        State::Done(Published::Broadcast(crate::id::IdGenerator::new(1).message_id(1)))
    }

    fn knows(keys: &Keys, app: u16, key: &str) -> bool {
        keys.states.contains_key(&(AppId(app), key.into()))
    }

    #[test]
    fn a_key_is_forgotten_after_its_time_or_after_so_many_others_of_its_app() {
        let mut keys = Keys::default();
        use_key(&mut keys, 1, "first", done());
        use_key(&mut keys, 2, "another app's", done());
        (1..IDEMPOTENCY_KEYS).for_each(|number| use_key(&mut keys, 1, &number.to_string(), done()));
        keys.expire(1_000 + IDEMPOTENCY_MS - 1);
        assert!(knows(&keys, 1, "first"));
        use_key(&mut keys, 1, "one too many", done());
        keys.expire(1_000);
        assert!(!knows(&keys, 1, "first") && knows(&keys, 1, "1") && knows(&keys, 2, "another app's"));
        keys.expire(1_000 + IDEMPOTENCY_MS);
        assert!(keys.states.is_empty() && keys.used.is_empty());
    }

    #[test]
    fn a_key_that_is_being_published_is_not_forgotten() {
        let mut keys = Keys::default();
        use_key(&mut keys, 1, "under way", State::InProgress(Vec::new()));
        keys.expire(1_000 + IDEMPOTENCY_MS);
        assert!(knows(&keys, 1, "under way"));
    }
}
