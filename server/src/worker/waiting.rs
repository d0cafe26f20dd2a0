//! How a worker waits for events: not at all while it has work, by asking again and again for `spin_us`, and
//! then asleep in the kernel until its next deadline.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use super::{Worker, accept::Accepting};
use crate::timers::{TICK_MS, Tick};

/// How often a worker that sleeps looks after the histories of its channels.
const SWEEP_TICKS: Tick = (1000 / TICK_MS) as Tick;

/// How a worker waits for events.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Wait {
    /// Not at all: there is work.
    Look,
    /// By asking again and again.
    Spin,
    /// In the kernel. The mailbox's sleeping flag is up.
    Sleep,
}

impl Worker {
    /// Waits for events, unless there is work already.
    pub(super) fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let start = (self.config.spin_us > 0).then(Instant::now);
        loop {
            let idle = start.map_or(Duration::MAX, |start| start.elapsed());
            match self.choose_wait(idle) {
                Wait::Look => return poll_once(&mut self.poll, events, Some(Duration::ZERO)),
                Wait::Spin => {
                    poll_once(&mut self.poll, events, Some(Duration::ZERO))?;
                    if !events.is_empty() {
                        return Ok(());
                    }
                }
                Wait::Sleep => {
                    let timeout = self.sleep_timeout();
                    poll_once(&mut self.poll, events, timeout)?;
                    self.engine.node().mailbox(self.id).awake();
                    return Ok(());
                }
            }
        }
    }

    /// How to wait after having been idle for that long. Only [`Wait::Sleep`] puts the mailbox's flag up:
    /// producers pay for a wake call when they see that flag, and a spinning worker looks by itself.
    fn choose_wait(&self, idle: Duration) -> Wait {
        if self.has_work() {
            return Wait::Look;
        }
        if idle < Duration::from_micros(u64::from(self.config.spin_us)) {
            return Wait::Spin;
        }
        if self.engine.node().mailbox(self.id).fall_asleep() { Wait::Sleep } else { Wait::Look }
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.closing.is_empty()
            || !self.answered.is_empty()
            || self.securing.has_work()
            || matches!(self.accepting, Accepting::More)
            || self.engine.is_busy()
    }

    /// How long to sleep at most: until the next deadline.
    fn sleep_timeout(&self) -> Option<Duration> {
        let paused_until = match self.accepting {
            Accepting::Paused(until) => Some(until),
            Accepting::More | Accepting::Idle => None,
        };
        let sweeps = self.engine.wants_sweep() || self.looks_after_places();
        let ticks = [
            self.timers.next_due(),
            paused_until,
            self.drain_deadline,
            self.tidy_due,
            self.departures.front().map(|departing| departing.due),
            sweeps.then(|| self.now.saturating_add(SWEEP_TICKS)),
        ];
        let next_ms = ticks.into_iter().flatten().min().map(|tick| u64::from(tick) * TICK_MS);
        let next_ms = next_ms.into_iter().chain(self.engine.next_due_ms()).min()?;
        // One millisecond more, so that the tick has come when we look.
        Some(Duration::from_millis(next_ms.saturating_sub(self.clock.elapsed_ms()).saturating_add(1)))
    }
}

/// Polls; an interruption is no events.
pub(super) fn poll_once(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanfare_core::{engine::Node, id::WorkerId};

    use super::*;
    use crate::{
        config::Config,
        worker::{Control, MessageHandler, Parts, poll_and_waker},
    };

    fn worker(server: &str) -> Worker {
        let text = format!("[server]\n{server}\n[apps.default]\nclient_key = \"client-key-0123456789\"\n");
        let config = Config::from_toml(&text).expect("it is a configuration");
        let (poll, waker) = poll_and_waker().expect("the system has polls");
        let config = Arc::new(config);
        let node = Arc::new(Node::new(config.apps.clone(), 1, config.mailbox_depth, 1));
        let control = Control::new(vec![waker], 1, config.clone(), &node);
        let mut worker = Worker::new(Parts {
            id: WorkerId(0),
            node,
            config,
            control: Arc::new(control),
            metrics: Arc::default(),
            poll,
            listeners: Vec::new(),
            handler: MessageHandler::COMMANDS,
            manage: crossbeam::channel::bounded(1).0,
        })
        .expect("nothing has to be registered");
        worker.accepting = Accepting::Idle;
        worker
    }

    #[test]
    fn a_spinning_worker_need_not_be_woken_and_a_sleeping_one_must() {
        let worker = worker("spin_us = 100");
        let mailbox = worker.engine.node().mailbox(worker.id);
        assert_eq!(worker.choose_wait(Duration::from_micros(99)), Wait::Spin);
        assert!(!mailbox.must_wake(), "a producer would pay for a wake call");
        assert_eq!(worker.choose_wait(Duration::from_micros(100)), Wait::Sleep);
        assert!(mailbox.must_wake());
    }
}
