//! Acknowledgements that the server waits for.

use std::collections::VecDeque;

use super::{AckId, TooManyAcks};

/// The events that wait for an acknowledgement, in the order in which they were sent, which is that of their
/// deadlines.
#[derive(Debug, Default)]
pub(super) struct Acks {
    last: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: AckId,
    namespace: Box<str>,
    deadline_ms: u64,
}

impl Acks {
    /// A number for an event that is sent now.
    pub(super) fn expect(
        &mut self,
        namespace: &str,
        deadline_ms: u64,
        limit: usize,
    ) -> Result<AckId, TooManyAcks> {
        if self.waiting.len() >= limit {
            return Err(TooManyAcks);
        }
        let id = AckId::new(self.last).ok_or(TooManyAcks)?;
        self.last += 1;
        self.waiting.push_back(Waiting { id, namespace: namespace.into(), deadline_ms });
        Ok(id)
    }

    /// Takes out the event that `id` acknowledges; whether there is one.
    pub(super) fn settle(&mut self, namespace: &str, id: AckId) -> bool {
        let place = self.waiting.iter().position(|it| it.id == id && *it.namespace == *namespace);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// Takes out an event whose time is over.
    pub(super) fn take_expired(&mut self, now_ms: u64) -> Option<AckId> {
        let is_expired = self.waiting.front()?.deadline_ms <= now_ms;
        if is_expired { self.waiting.pop_front().map(|expired| expired.id) } else { None }
    }

    /// Takes out every event of a namespace that the peer has left.
    pub(super) fn remove_namespace(&mut self, namespace: &str) {
        self.waiting.retain(|it| *it.namespace != *namespace);
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.deadline_ms)
    }
}
