//! Changes of an app's settings by its back end, while sessions go on.
//!
//! ```text
//!   node: the apps ─▶ each worker: takes them over, ends memberships ─▶ one worker: options of channels
//!                     that they forbid, some sessions a turn              some shards of the table a turn
//! ```
//!
//! The answer comes after the last channel has its new options. A channel that comes into being meanwhile has
//! them from the start, because every worker has the new apps by then.

use std::sync::Arc;

use super::{
    Engine,
    query::Question,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    app::App,
    channel::{Channel, ChannelRequest},
    dialect,
    error::ReplyError,
    id::{AppId, LocalId, SessionSlot},
    limits::{SESSIONS_LOOKED_AT, TABLE_SHARDS},
};

/// The shards of the table that a turn visits.
const SHARDS: usize = 8;

/// A change on its way through the workers, and then through the table.
pub(super) struct Reconfiguration {
    /// The app before the change.
    before: Arc<App>,
    /// The next slot on the worker that is visited.
    slot: u32,
    /// The next shard of the table.
    shard: usize,
}

/// Whether a worker has done its part of a change.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Part {
    Done,
    /// The worker continues in its next turn.
    Goes,
}

impl Reconfiguration {
    pub(super) fn new(before: Arc<App>) -> Self {
        Self { before, slot: 0, shard: 0 }
    }
}

impl Engine {
    /// Has every worker take over the node's apps, of which this one has changed.
    pub(super) fn reconfigure(&mut self, app: AppId) -> Result<Progress, ReplyError> {
        let change = Reconfiguration::new(self.apps.of(app).clone());
        self.ask(app, 0..self.node.worker_count(), Question::Reconfigure(change))
    }

    /// Does the next step of a change on this worker. The last worker also changes the channels.
    pub(super) fn reconfigure_here(
        &mut self,
        app: AppId,
        change: &mut Reconfiguration,
        is_last: bool,
    ) -> Part {
        self.set_apps(self.node.apps());
        if change.slot < self.sessions.slots() {
            self.end_forbidden(app, change);
            return Part::Goes;
        }
        if is_last && change.shard < TABLE_SHARDS {
            self.change_channels(app, change);
            return Part::Goes;
        }
        change.slot = 0;
        Part::Done
    }

    /// Ends memberships of channels that the session's dialect had settings about and has none any more.
    fn end_forbidden(&mut self, app: AppId, change: &mut Reconfiguration) {
        let after = self.apps.of(app).clone();
        let until = self.sessions.slots().min(change.slot.saturating_add(SESSIONS_LOOKED_AT as u32));
        for slot in (change.slot..until).map(SessionSlot) {
            if !self.sessions.is_of(slot, app) {
                continue;
            }
            let format = self.sessions.output(slot).format;
            let is_ended = |part: LocalId| {
                let name = self.channels[part].channel.name()?;
                let is_known = |app: &App| dialect::knows_channel(format, app, name);
                (is_known(&change.before) && !is_known(&after)).then(|| Box::<str>::from(name))
            };
            let memberships = self.sessions.get(slot).memberships.as_slice().iter();
            let ended: Vec<Box<str>> = memberships.filter_map(|own| is_ended(own.local)).collect();
            for name in ended {
                self.work += 1;
                self.reply(slot, |out| dialect::encode_closed(format, out, &name));
                self.leave(slot, &name, Some(false));
            }
        }
        change.slot = until;
    }

    fn change_channels(&mut self, app: AppId, change: &mut Reconfiguration) {
        let after = self.apps.of(app).clone();
        let until = TABLE_SHARDS.min(change.shard + SHARDS);
        let mut changed: Vec<Arc<Channel>> = Vec::new();
        for shard in change.shard..until {
            self.node.table.visit_shard(shard, |channel| {
                let Some(name) = channel.name().filter(|_| channel.app() == app) else { return };
                if change.before.channel_options(name) != after.channel_options(name) {
                    changed.push(channel.clone());
                }
            });
        }
        for channel in changed {
            self.work += 1;
            if channel.name().is_some_and(|name| self.node.is_configured(app, name)) {
                continue;
            }
            let request = Some(Box::new(ChannelRequest::Reconfigure));
            // A closed channel is not used any more. The others apply the change now or later.
            let (Submitted::Done { .. } | Submitted::Waiting(_) | Submitted::Closed | Submitted::Refused(_)) =
                self.submit(&channel, ChannelOp { request, ..ChannelOp::default() });
        }
        change.shard = until;
    }
}
