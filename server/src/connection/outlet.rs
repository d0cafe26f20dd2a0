//! Outlets of clients that poll. An outlet holds a client's output for the next poll, and outlives the
//! sockets of polls.
//!
//! Outlets and connections share one space of numbers, so the engine and the timers name both in the same
//! way. An outlet's number has the highest bit set. [`Connections`](super::Connections) hands output to
//! outlets.

use std::net::IpAddr;

use fanfare_core::{
    dialect::{BackEnd, Lobby, Polled},
    engine::Segments,
    id::SessionSlot,
    secret::Secret,
    slots::Slots,
};

use super::{ConnectionId, ConnectionSlot, NEVER, halves, token};
use crate::{http::reply::Reply, timers::Tick};

/// The bit that is set in the number of an outlet, and not in the number of a connection.
const OUTLETS: u32 = 1 << 31;

/// An outlet's place in its worker's table.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct OutletSlot(u32);

impl OutletSlot {
    /// The outlet with this number; `None` if the number names a connection.
    pub(crate) fn of(slot: ConnectionSlot) -> Option<Self> {
        (slot.0 & OUTLETS != 0).then_some(Self(slot.0 & !OUTLETS))
    }

    /// The outlet's number among connections and outlets.
    pub(crate) fn number(self) -> ConnectionSlot {
        ConnectionSlot(self.0 | OUTLETS)
    }
}

/// The name of an outlet beyond the present turn.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct OutletId {
    pub(crate) slot: OutletSlot,
    generation: u32,
}

impl OutletId {
    /// The name as one number, for the node's table.
    pub(crate) fn token(self) -> u64 {
        token(self.generation, self.slot.0)
    }

    pub(crate) fn from_token(token: u64) -> Self {
        let [generation, slot] = halves(token);
        Self { slot: OutletSlot(slot), generation }
    }
}

/// One outlet.
pub(crate) struct Outlet {
    generation: u32,
    /// The secret by which the client names the outlet.
    pub(crate) secret: Secret,
    pub(crate) kind: OutletKind,
}

/// The state of an outlet.
pub(crate) enum OutletKind {
    /// The client polls.
    Polling(Box<Polling>),
    /// The client has changed to a WebSocket. The secret stays known while the WebSocket lives.
    Upgraded,
}

/// A client that polls.
pub(crate) struct Polling {
    pub(crate) polled: Polled,
    pub(crate) stage: Stage,
    /// The poll that is held.
    pub(crate) poll: Option<Held>,
    /// The connection whose POST is arriving.
    pub(crate) post: Option<ConnectionId>,
    /// The WebSocket that the client may change to.
    pub(crate) probe: Option<ConnectionId>,
    /// A POST's body whose messages are being handled.
    pub(crate) body: Option<Posting>,
    /// When the worker next looks at the outlet's deadline.
    pub(crate) due: Tick,
}

/// The stage of a client that polls.
pub(crate) enum Stage {
    /// The client has no session yet.
    Stranger(Box<Stranger>),
    /// The client has this session.
    Session(SessionSlot),
    /// The client is a back end.
    BackEnd(Box<PollingBackEnd>),
    /// The client's session has ended or was refused, and the outlet waits for its end.
    Over,
}

/// A client without a session.
pub(crate) struct Stranger {
    pub(crate) state: Lobby,
    /// The origin of the client's page.
    pub(crate) origin: Option<Box<str>>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) began: Tick,
}

/// A back end that polls.
pub(crate) struct PollingBackEnd {
    pub(crate) state: BackEnd,
    pub(crate) standing: Standing,
}

/// Whether the next command of a back end that polls is executed.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Standing {
    Reads,
    /// A command waits for its answer.
    Waits,
    /// Too many answers wait for the next poll.
    Behind,
}

/// A poll that waits for output.
pub(crate) struct Held {
    pub(crate) connection: ConnectionId,
    pub(crate) reply: Reply,
}

/// A POST's body whose messages are being handled.
pub(crate) struct Posting {
    pub(crate) connection: ConnectionId,
    pub(crate) reply: Reply,
    pub(crate) body: Vec<u8>,
    /// The place of the next message in the body.
    pub(crate) at: usize,
}

/// All outlets of a worker.
#[derive(Default)]
pub(crate) struct Outlets {
    slots: Slots<Outlet>,
    next_generation: u32,
    /// The outlets that were handed output in this turn.
    touched: Vec<OutletSlot>,
}

impl Outlets {
    /// Adds the outlet of a client that polls.
    pub(crate) fn insert(&mut self, secret: Secret, polled: Polled, stage: Stage) -> OutletId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let polling = Polling { polled, stage, poll: None, post: None, probe: None, body: None, due: NEVER };
        let kind = OutletKind::Polling(Box::new(polling));
        let slot = self.slots.insert(Outlet { generation, secret, kind });
        OutletId { slot: OutletSlot(slot), generation }
    }

    /// The bytes of all outlets, without the output that they hold.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes() + self.slots.len() * size_of::<Polling>()
    }

    /// The number of outlets.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slots of all outlets.
    pub(crate) fn slots(&self) -> Vec<OutletSlot> {
        self.slots.occupied().map(OutletSlot).collect()
    }

    /// The name of an outlet beyond this turn.
    pub(crate) fn id(&self, slot: OutletSlot) -> OutletId {
        OutletId { slot, generation: self.slots[slot.0].generation }
    }

    /// The outlet with this id, if it still exists.
    pub(crate) fn find(&mut self, id: OutletId) -> Option<&mut Outlet> {
        self.slots.get_mut(id.slot.0).filter(|outlet| outlet.generation == id.generation)
    }

    /// The outlet in `slot`, if its client polls.
    pub(crate) fn polling(&mut self, slot: OutletSlot) -> Option<&mut Polling> {
        match &mut self.slots.get_mut(slot.0)?.kind {
            OutletKind::Polling(polling) => Some(polling),
            OutletKind::Upgraded => None,
        }
    }

    /// The client with this outlet id, if it still polls.
    pub(crate) fn find_polling(&mut self, id: OutletId) -> Option<&mut Polling> {
        self.find(id)?;
        self.polling(id.slot)
    }

    /// Marks the outlet's client as changed to a WebSocket. Returns the former state.
    pub(crate) fn upgrade(&mut self, slot: OutletSlot) -> OutletKind {
        std::mem::replace(&mut self.slots[slot.0].kind, OutletKind::Upgraded)
    }

    /// Removes an outlet.
    pub(crate) fn remove(&mut self, slot: OutletSlot) -> Outlet {
        self.slots.remove(slot.0)
    }

    /// The outlets that were handed output since the last call.
    pub(crate) fn take_touched(&mut self) -> Vec<OutletSlot> {
        std::mem::take(&mut self.touched)
    }

    /// Hands output to an outlet. Returns how many bytes wait in the outlet.
    #[cold]
    pub(super) fn write(&mut self, slot: ConnectionSlot, parts: Segments<'_>) -> usize {
        let Some(slot) = OutletSlot::of(slot) else { return 0 };
        let Some(polling) = self.polling(slot) else { return 0 };
        let mut waiting = 0;
        for (buffer, range) in parts {
            waiting = polling.polled.queue(&buffer[range]);
        }
        self.touched.push(slot);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlets_and_connections_have_different_numbers() {
        let outlet = OutletSlot(7);
        assert_eq!(OutletSlot::of(outlet.number()), Some(outlet));
        assert_ne!(outlet.number(), ConnectionSlot(7));
        assert_eq!(OutletSlot::of(ConnectionSlot(7)), None);
    }

    #[test]
    fn outlet_id_survives_its_token() {
        let id = OutletId { slot: OutletSlot(7), generation: 0xffff_fffe };
        assert_eq!(OutletId::from_token(id.token()), id);
    }
}
