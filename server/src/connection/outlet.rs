//! Outlets of clients that poll: what a client receives waits here for its next poll, and outlives sockets.
//!
//! Outlets and connections share one space of numbers, so that the engine and the timers name either: an
//! outlet's number has the highest bit. [`Connections`](super::Connections) hands output to outlets.

use std::net::IpAddr;

use fanfare_core::{
    dialect::{Lobby, Polled},
    engine::Segments,
    id::SessionSlot,
    secret::Secret,
    slots::Slots,
};

use super::{ConnectionId, ConnectionSlot, NEVER, halves, token};
use crate::{http::reply::Reply, timers::Tick};

/// What the number of an outlet has and that of a connection has not.
const OUTLETS: u32 = 1 << 31;

/// An outlet's place in its worker's table.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct OutletSlot(u32);

impl OutletSlot {
    /// The outlet that a number names, unless it names a connection.
    pub(crate) fn of(slot: ConnectionSlot) -> Option<Self> {
        (slot.0 & OUTLETS != 0).then_some(Self(slot.0 & !OUTLETS))
    }

    /// Its number among connections and outlets.
    pub(crate) fn number(self) -> ConnectionSlot {
        ConnectionSlot(self.0 | OUTLETS)
    }
}

/// Names an outlet beyond the present turn.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct OutletId {
    pub(crate) slot: OutletSlot,
    generation: u32,
}

impl OutletId {
    /// As one number, for the node's table.
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
    /// What its client names it by.
    pub(crate) secret: Secret,
    pub(crate) kind: OutletKind,
}

/// What an outlet is at present.
pub(crate) enum OutletKind {
    /// Its client polls.
    Polling(Box<Polling>),
    /// Its client has changed to a WebSocket; the name stays known as long as that lives.
    Upgraded,
}

/// A client that polls.
pub(crate) struct Polling {
    pub(crate) polled: Polled,
    pub(crate) stage: Stage,
    /// The poll that is held.
    pub(crate) poll: Option<Held>,
    /// The connection of the POST that is arriving.
    pub(crate) post: Option<ConnectionId>,
    /// The WebSocket that the client may change to.
    pub(crate) probe: Option<ConnectionId>,
    /// A body that has arrived and whose messages are being handled.
    pub(crate) body: Option<Posting>,
    /// When its deadline is looked at.
    pub(crate) due: Tick,
}

/// How far a client that polls has come.
pub(crate) enum Stage {
    /// It has no session yet.
    Stranger(Box<Stranger>),
    /// It has this one.
    Session(SessionSlot),
    /// It had one, or was refused: only its end is awaited.
    Over,
}

/// A client without a session.
pub(crate) struct Stranger {
    pub(crate) state: Lobby,
    /// The origin of the page it belongs to.
    pub(crate) origin: Option<Box<str>>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) began: Tick,
}

/// A poll that waits for output.
pub(crate) struct Held {
    pub(crate) connection: ConnectionId,
    pub(crate) reply: Reply,
}

/// A body whose messages are being handled.
pub(crate) struct Posting {
    pub(crate) connection: ConnectionId,
    pub(crate) reply: Reply,
    pub(crate) body: Vec<u8>,
    /// Where the next message begins.
    pub(crate) at: usize,
}

/// All outlets of a worker.
#[derive(Default)]
pub(crate) struct Outlets {
    slots: Slots<Outlet>,
    next_generation: u32,
    /// Those that output was handed to in this turn.
    touched: Vec<OutletSlot>,
}

impl Outlets {
    /// Takes in a client that polls.
    pub(crate) fn insert(&mut self, secret: Secret, polled: Polled, stage: Stage) -> OutletId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let polling = Polling { polled, stage, poll: None, post: None, probe: None, body: None, due: NEVER };
        let kind = OutletKind::Polling(Box::new(polling));
        let slot = self.slots.insert(Outlet { generation, secret, kind });
        OutletId { slot: OutletSlot(slot), generation }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All of them.
    pub(crate) fn slots(&self) -> Vec<OutletSlot> {
        self.slots.occupied().map(OutletSlot).collect()
    }

    /// The name of an outlet beyond this turn.
    pub(crate) fn id(&self, slot: OutletSlot) -> OutletId {
        OutletId { slot, generation: self.slots[slot.0].generation }
    }

    /// The outlet, if it is the one meant and still there.
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

    /// The same, if it is the one meant.
    pub(crate) fn find_polling(&mut self, id: OutletId) -> Option<&mut Polling> {
        self.find(id)?;
        self.polling(id.slot)
    }

    /// The client in `slot` has changed to a WebSocket. Returns what it was.
    pub(crate) fn upgrade(&mut self, slot: OutletSlot) -> OutletKind {
        std::mem::replace(&mut self.slots[slot.0].kind, OutletKind::Upgraded)
    }

    /// Removes an outlet.
    pub(crate) fn remove(&mut self, slot: OutletSlot) -> Outlet {
        self.slots.remove(slot.0)
    }

    /// Outlets that were handed output since the last call.
    pub(crate) fn take_touched(&mut self) -> Vec<OutletSlot> {
        std::mem::take(&mut self.touched)
    }

    /// Hands output to an outlet. Returns how many bytes wait there now.
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
