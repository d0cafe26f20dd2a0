//! Messages to users and to single sessions, whatever channels these are in: found by each worker in its own
//! index, so that only those meant are touched. They have no order with anything but other messages of their
//! sender.

use std::sync::Arc;

use super::{Engine, output::ReplyRange, users::Addressed};
use crate::{
    dialect::{self, Format, Memos},
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
        let others = || concerned.clone().map(WorkerId).filter(|worker| *worker != self.worker);
        if others().any(|worker| self.node.mailbox(worker).is_full()) {
            self.counters.overloaded += 1;
            return Err(ReplyError::Overloaded);
        }
        let others: Vec<WorkerId> = others().collect();
        if !others.is_empty() {
            let shared = Arc::new(OwnedPublication::from(*publication));
            for worker in others {
                self.post(worker, super::Mail::Direct { app, publication: shared.clone() });
            }
        }
        if concerned.contains(&self.worker.0) {
            self.deliver_direct(app, publication);
        }
        Ok(())
    }

    /// Gives a publication to this worker's sessions that its audience names.
    pub(super) fn deliver_direct(&mut self, app: AppId, publication: &Publication<'_>) {
        let audience = publication.audience;
        let Addressed::Only(slots) = self.resolve(app, audience) else { return };
        let mut memos = Memos::default();
        // Sessions of one format share one copy.
        let mut encoded: Vec<(Format, ReplyRange)> = Vec::new();
        for slot in slots {
            self.work += 1;
            let (hot, session) = self.sessions.both(slot);
            if session.app != app {
                continue;
            }
            if hot.is_congested() {
                session.miss(self.node.broadcast(app), 1);
                continue;
            }
            let format = hot.format;
            let range = match encoded.iter().find(|(of, _)| *of == format) {
                Some((_, range)) => *range,
                None => {
                    let memo = memos.of(format);
                    let range = self.turn.encode_reply(|out| {
                        dialect::encode_publication(format, out, memo, None, publication);
                    });
                    encoded.push((format, range));
                    range
                }
            };
            let delivered = u64::from(!range.is_empty());
            self.counters.deliveries += delivered;
            self.of_apps[usize::from(app.0)].delivered(delivered);
            self.turn.link_reply(slot, hot, range);
        }
    }
}
