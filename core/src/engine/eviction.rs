//! Forgetting: what is too old, and what is too much.
//!
//! Reading a history shows nothing that is too old, so sweeping only gives memory back: each engine walks
//! through its share of the table, some shards a second.
//!
//! When the histories of an app cost more than its limit, the oldest messages of the largest go first. Which
//! channels are the largest nobody keeps track of while publishing, for that would cost every publisher
//! something. Instead, one engine walks through the table twice, some shards a turn: first to measure, from
//! which follows the size that no history may exceed if an eighth of the limit is to become free; and then to
//! trim those that do. In the meantime channels may grow until the limit is exceeded by an eighth; from there
//! on each forgets as much as it learns.

use std::sync::Arc;

use super::{
    Engine,
    submit::{ChannelOp, Submitted},
};
use crate::{
    channel::{Channel, ChannelRequest},
    id::{AppId, WorkerId},
    limits::{CONFIGURED_SWEEP_MS, SWEEP_MS, TABLE_SHARDS},
};

/// Shards looked at in one turn while making room.
const SHARDS_A_TURN: usize = 8;

/// When and where to go on looking for what is too old.
#[derive(Default)]
pub(super) struct Sweep {
    next_ms: u64,
    shard: usize,
    /// When to look for options of unused channels.
    options_ms: u64,
    /// When to sweep the states of users.
    pub(super) users_ms: u64,
}

/// Making room in apps that remember too much.
#[derive(Default)]
pub(super) struct Evictor {
    /// Apps that need it.
    asked: Vec<AppId>,
    under_way: Option<Walk>,
}

/// A walk through the table for one app.
struct Walk {
    app: AppId,
    shard: usize,
    /// Once it is known, the size that no history may exceed.
    level: Option<usize>,
    sizes: Box<Sizes>,
}

impl Evictor {
    /// An app remembers too much.
    pub(super) fn ask_for(&mut self, app: AppId) {
        if !self.asked.contains(&app) {
            self.asked.push(app);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.under_way.is_some() || !self.asked.is_empty()
    }
}

impl Engine {
    /// Whether there are histories or options that may expire. The shell then begins a turn at least every
    /// second.
    pub fn wants_sweep(&self) -> bool {
        self.node.remembers() || self.node.has_configured() || self.knows_users()
    }

    /// Forgets some of what has to be forgotten. Once in a turn.
    pub(super) fn sweep(&mut self) {
        if self.steady_ms >= self.sweep.next_ms {
            self.sweep.next_ms = self.steady_ms + 1000;
            if self.node.remembers() {
                self.sweep_shards();
            }
            if self.knows_users() {
                self.sweep_users();
            }
            if self.worker == WorkerId(0) && self.steady_ms >= self.sweep.options_ms {
                self.sweep.options_ms = self.steady_ms + CONFIGURED_SWEEP_MS;
                self.node.expire_options(self.steady_ms);
            }
        }
        if self.evictor.is_wanted() {
            self.evict();
        }
    }

    fn sweep_shards(&mut self) {
        let workers = self.node.workers();
        let own = TABLE_SHARDS.div_ceil(workers);
        let seconds = usize::try_from(SWEEP_MS / 1000).expect("it is short");
        for _ in 0..own.div_ceil(seconds) {
            self.sweep.shard = (self.sweep.shard + 1) % own;
            let shard = self.sweep.shard * workers + usize::from(self.worker.0);
            if shard < TABLE_SHARDS {
                self.trim_shard(shard, usize::MAX, |_| true);
            }
        }
    }

    /// Lets those channels of a shard that have a history, and that are `meant`, forget what is too old or
    /// above `bytes`.
    fn trim_shard(&mut self, shard: usize, bytes: usize, meant: impl Fn(&Channel) -> bool) {
        let mut found: Vec<Arc<Channel>> = Vec::new();
        self.node.table.visit_shard(shard, |channel| {
            if channel.remembered() > 0 && meant(channel) {
                found.push(channel.clone());
            }
        });
        for channel in found {
            let request = Some(Box::new(ChannelRequest::Trim(bytes)));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                Submitted::Done { .. } | Submitted::Waiting(_) | Submitted::Closed => {}
                Submitted::Refused(_) => unreachable!("forgetting is not refused"),
            }
        }
    }

    fn evict(&mut self) {
        let Some(mut walk) = self.evictor.under_way.take() else {
            let Some(app) = self.evictor.asked.pop() else { return };
            if self.node.start_eviction(app) {
                self.evictor.under_way = Some(Walk { app, shard: 0, level: None, sizes: Box::default() });
            }
            return;
        };
        let end = (walk.shard + SHARDS_A_TURN).min(TABLE_SHARDS);
        for shard in walk.shard..end {
            match walk.level {
                None => self.node.table.visit_shard(shard, |channel| {
                    if channel.app() == walk.app {
                        walk.sizes.add(channel.remembered());
                    }
                }),
                Some(level) => self.trim_shard(shard, level, |channel| {
                    channel.app() == walk.app && channel.remembered() > level
                }),
            }
        }
        walk.shard = end;
        if end == TABLE_SHARDS {
            if walk.level.is_some() {
                return self.node.end_eviction(walk.app);
            }
            let limit = self.apps.of(walk.app).limits.history_bytes;
            let excess = self.node.remembered(walk.app).saturating_sub(limit - limit / 8);
            walk.shard = 0;
            walk.level = Some(walk.sizes.level(excess));
        }
        self.evictor.under_way = Some(walk);
    }
}

/// Steps of [`Sizes`] for each doubling.
const STEPS: usize = 8;

/// How many histories there are of which size, in steps of an eighth.
struct Sizes([(usize, usize); usize::BITS as usize * STEPS]);

impl Default for Sizes {
    fn default() -> Self {
        Self([(0, 0); usize::BITS as usize * STEPS])
    }
}

impl Sizes {
    fn add(&mut self, bytes: usize) {
        if bytes > 0 {
            let (count, sum) = &mut self.0[step(bytes)];
            *count += 1;
            *sum += bytes;
        }
    }

    /// The highest of the sizes at which all that is above it is at least `excess`.
    fn level(&self, excess: usize) -> usize {
        let (mut count, mut sum) = (0, 0);
        for (at, (here, bytes)) in self.0.iter().enumerate().rev() {
            count += here;
            sum += bytes;
            let level = size(at);
            if count > 0 && sum.saturating_sub(count * level) >= excess {
                return level;
            }
        }
        0
    }
}

/// The step of a size.
fn step(bytes: usize) -> usize {
    let doublings = bytes.ilog2() as usize;
    let within = if doublings >= 3 { bytes >> (doublings - 3) } else { bytes << (3 - doublings) };
    doublings * STEPS + (within - STEPS)
}

/// The smallest size of a step.
fn size(step: usize) -> usize {
    let (doublings, within) = (step / STEPS, step % STEPS + STEPS);
    if doublings >= 3 { within << (doublings - 3) } else { within >> (3 - doublings) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_is_at_least_that_of_its_step() {
        for bytes in (1..5000).chain([usize::MAX / 3, usize::MAX]) {
            let least = size(step(bytes));
            assert!(least <= bytes && bytes - least <= bytes / 8, "{bytes} {least}");
        }
    }

    proptest! {
        /// The level frees what is asked for, and no level much above it would.
        #[test]
        fn the_level_is_as_high_as_it_can_be(sizes in prop::collection::vec(1..1_000_000usize, 1..50), part in 1..100usize) {
            let mut measured = Sizes::default();
            sizes.iter().for_each(|&bytes| measured.add(bytes));
            let excess = sizes.iter().sum::<usize>() * part / 100;
            let level = measured.level(excess);
            let freed = |level: usize| sizes.iter().map(|bytes| bytes.saturating_sub(level)).sum::<usize>();
            prop_assert!(freed(level) >= excess);
            let higher = level + level / 4 + 2;
            prop_assert!(freed(higher) < excess || level + 1 >= *sizes.iter().max().expect("there is one"));
        }
    }
}
