//! Who is where: which members, publishers and receivers a worker has. Computed alike by every worker, from
//! the plan alone.
//!
//! Publisher `g` of all belongs to channel `g / publishers`. A channel's publishers are on its *home* worker.
//! So are its members if there are channels for all workers; else its members are spread over the workers. In
//! every channel, publishers that are members come first, and slow members last.

use crate::{net::Slot, plan::PublishPlan};

/// One worker's part of the plan.
pub(super) struct Layout {
    /// By slot; connections that only publish come behind these.
    pub(super) members: Vec<Member>,
    /// The slot of each publisher of this worker, by publisher.
    pub(super) publishers: Vec<Option<Slot>>,
    /// Connections on this worker.
    pub(super) connections: u32,
    /// Receivers on this worker, by publisher.
    pub(super) receivers: Vec<u32>,
    /// Workers that have receivers, by publisher.
    pub(super) parts: Vec<u32>,
}

/// A subscriber.
pub(super) struct Member {
    /// Its channel's first publisher.
    pub(super) first_publisher: u32,
    /// Its stream of that publisher; those of the others follow.
    pub(super) first_stream: usize,
    /// Whether it stops reading.
    pub(super) is_slow: bool,
}

/// The worker that has a channel's publishers.
pub(super) fn home_of(channel: u32, workers: usize) -> usize {
    channel as usize % workers
}

impl Layout {
    pub(super) fn new(plan: &PublishPlan, worker: usize, workers: usize) -> Self {
        let total = (plan.channels * plan.publishers) as usize;
        let mut layout = Self {
            members: Vec::new(),
            publishers: vec![None; total],
            connections: 0,
            receivers: vec![0; total],
            parts: vec![0; total],
        };
        for channel in 0..plan.channels {
            layout.add_members(plan, channel, worker, workers);
        }
        layout.connections = layout.members.len() as u32;
        if !plan.publishers_join {
            for (publisher, slot) in layout.publishers.iter_mut().enumerate() {
                if home_of(publisher as u32 / plan.publishers, workers) == worker {
                    *slot = Some(layout.connections);
                    layout.connections += 1;
                }
            }
        }
        layout
    }

    fn add_members(&mut self, plan: &PublishPlan, channel: u32, worker: usize, workers: usize) {
        let home = home_of(channel, workers);
        let is_spread = plan.is_spread(workers as u32);
        let first_publisher = channel * plan.publishers;
        let mut receivers = vec![0_u32; workers];
        for member in 0..plan.members {
            let publishes = plan.publishers_join && member < plan.publishers;
            let is_slow = member >= plan.members - plan.slow;
            let its_worker = if is_spread && !publishes { (home + member as usize) % workers } else { home };
            receivers[its_worker] += u32::from(!is_slow);
            if its_worker != worker {
                continue;
            }
            if publishes {
                self.publishers[(first_publisher + member) as usize] = Some(self.members.len() as Slot);
            }
            let first_stream = self.members.len() * plan.publishers as usize;
            self.members.push(Member { first_publisher, first_stream, is_slow });
        }
        // A publisher that is a member does not hear itself unless it is to.
        receivers[home] -= u32::from(plan.publishers_join && !plan.echo);
        let parts = receivers.iter().filter(|count| **count > 0).count() as u32;
        for publisher in first_publisher..first_publisher + plan.publishers {
            self.receivers[publisher as usize] = receivers[worker];
            self.parts[publisher as usize] = parts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Pace, Scope};

    #[test]
    fn every_member_and_publisher_is_on_one_worker_and_receivers_add_up() {
        for workers in [1, 2, 3, 7] {
            for (channels, members, publishers, publishers_join, echo, slow) in [
                (1, 10, 4, false, false, 0),
                (1, 10, 4, true, false, 3),
                (5, 3, 1, true, true, 0),
                (5, 3, 2, false, false, 1),
                (9, 2, 1, true, false, 0),
            ] {
                let pace = Pace::Closed { window: 1 };
                let scope = Scope::Channel;
                let plan = PublishPlan {
                    channels,
                    members,
                    publishers,
                    publishers_join,
                    echo,
                    payload: 64,
                    pace,
                    scope,
                    slow,
                    expiry_seconds: 2.0,
                };
                let layouts: Vec<_> =
                    (0..workers).map(|worker| Layout::new(&plan, worker, workers)).collect();
                let placed: usize = layouts.iter().map(|layout| layout.members.len()).sum();
                assert_eq!(placed, (channels * members) as usize);
                for publisher in 0..(channels * publishers) as usize {
                    let its: Vec<_> =
                        layouts.iter().filter_map(|layout| layout.publishers[publisher]).collect();
                    assert_eq!(its.len(), 1);
                    let heard: u32 = layouts.iter().map(|layout| layout.receivers[publisher]).sum();
                    assert_eq!(heard, members - slow - u32::from(publishers_join && !echo));
                    let parts = layouts.iter().filter(|layout| layout.receivers[publisher] > 0).count();
                    assert!(layouts.iter().all(|layout| layout.parts[publisher] == parts as u32));
                }
            }
        }
    }
}
