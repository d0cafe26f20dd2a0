//! Messages to users and to single sessions, whatever channels these are in: found by each worker in its own
//! index, so that only those meant are touched.
//!
//! A direct message has its place among what the worker publishes: a session receives it after what the
//! channels published before it. What is in the mailbox is from before, so it waits behind that.

use std::sync::Arc;

use super::{Engine, Mail, users::Addressed};
use crate::{
    dialect::FormatSet,
    error::ReplyError,
    id::{AppId, WorkerId},
    publication::{Audience, OwnedPublication, Publication},
};

impl Engine {
    /// Whether a message without channel names those it is for.
    pub(super) fn is_direct(channel: Option<&str>, audience: &Audience) -> bool {
        channel.is_none() && (audience.only_session.is_some() || audience.only_users.is_some())
    }

    /// Publishes to the sessions that the audience names.
    pub(super) fn publish_direct(
        &mut self,
        app: AppId,
        publication: &Publication<'_>,
    ) -> Result<(), ReplyError> {
        let concerned = match publication.audience.only_session {
            Some(session) => self.node.workers_of(session),
            None => 0..self.node.worker_count(),
        };
        let own = concerned.contains(&self.worker.0);
        let delivers_now = own && self.node.mailbox(self.worker).is_empty();
        let by_mail = || {
            let concerned = concerned.clone().map(WorkerId);
            concerned.filter(|worker| !(delivers_now && *worker == self.worker))
        };
        if by_mail().any(|worker| self.node.mailbox(worker).is_full()) {
            self.counters.overloaded += 1;
            return Err(ReplyError::Overloaded);
        }
        let by_mail: Vec<WorkerId> = by_mail().collect();
        if !by_mail.is_empty() {
            let shared = Arc::new(OwnedPublication::from(*publication));
            for worker in by_mail {
                self.post(worker, Mail::Direct { app, publication: shared.clone() });
            }
        }
        if delivers_now {
            self.deliver_direct(app, publication);
        }
        Ok(())
    }

    /// Gives a publication to this worker's sessions that its audience names.
    pub(super) fn deliver_direct(&mut self, app: AppId, publication: &Publication<'_>) {
        let Addressed::Only(mut slots) = self.resolve(app, publication.audience) else { return };
        self.work += slots.len();
        let mut formats = FormatSet::default();
        slots.retain(|&slot| {
            let (hot, session) = self.sessions.both(slot);
            let receives = session.app == app && !hot.is_congested();
            if receives {
                formats.insert(hot.format);
            } else if session.app == app {
                session.miss(self.node.broadcast(app), 1);
            }
            receives
        });
        if slots.is_empty() {
            return;
        }
        self.turn.append_direct(formats, publication);
        let mut delivered = 0;
        for slot in slots {
            delivered += self.turn.link_direct(slot, self.sessions.hot(slot));
        }
        self.counters.deliveries += delivered;
        self.of_apps[usize::from(app.0)].delivered(delivered);
    }
}
