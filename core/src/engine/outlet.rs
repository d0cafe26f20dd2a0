//! Moves a session from one outlet to another during its life: from the answers to polls to a WebSocket, and
//! back.

use super::{Engine, output::Sink};
use crate::{dialect::Format, id::SessionSlot};

impl Engine {
    /// Moves the session to `connection`, in `format`, which belongs to the session's dialect. The session's
    /// output until now is written to its former outlet.
    pub fn attach(&mut self, slot: SessionSlot, connection: u32, format: Format, sink: &mut impl Sink) {
        self.flush(sink);
        let (hot, session) = self.sessions.both(slot);
        debug_assert_eq!(hot.format.dialect(), format.dialect(), "a session keeps its dialect");
        let before = std::mem::replace(&mut hot.connection, connection);
        hot.format = format;
        for membership in session.memberships.as_slice() {
            self.channels[membership.local].formats.insert(format);
        }
        if let Some(broadcast) = self.node.broadcast(session.app).local(self.worker) {
            self.channels[broadcast].formats.insert(format);
        }
        self.unpaused.iter_mut().filter(|other| **other == before).for_each(|other| *other = connection);
        for (other, _) in &mut self.disconnects {
            *other = if *other == before { connection } else { *other };
        }
    }
}
