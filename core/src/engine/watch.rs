//! Watching a channel from outside: a few of the publications that pass through this worker, for an operator
//! who looks.
//!
//! A watch adds a format to its channel's part for one turn, so that the run of that turn has a lane in it,
//! whoever the members are, and takes frames from the lane before the turn is written. A format without
//! members falls off at the end of the run, so the watch adds it again when it may take more. Without a watch
//! nothing of this runs: publishing does not know of it, and a turn looks at one length.

use std::collections::VecDeque;

use super::{Engine, output::NONE};
use crate::{
    command::{Sample, Watched},
    dialect::Format,
    id::{AppId, LocalId},
    limits::{WATCH_FRAME_BYTES, WATCH_IDLE_MS, WATCH_SAMPLES, WATCH_SAMPLES_PER_SECOND, WATCHES},
};

/// What samples are in.
const FORMAT: Format = Format::NativeText;

/// Thousandths of a sample: what a millisecond adds to the allowance is a whole number of them.
const SAMPLE: u64 = 1000;

/// A channel that is watched.
pub(super) struct Watch {
    app: AppId,
    channel: Box<str>,
    samples: VecDeque<Sample>,
    /// The number of the last sample.
    last: u64,
    /// What may be taken, in thousandths of a sample; at most a second's worth.
    allowance: u64,
    /// When the allowance was raised last, and when somebody asked last.
    raised_ms: u64,
    asked_ms: u64,
    /// This worker's part of the channel, if this turn's run is looked at.
    part: Option<LocalId>,
}

impl Engine {
    /// The samples after one, of a channel that is watched from now on if it was not.
    pub(super) fn watch(&mut self, app: AppId, channel: &str, after: u64) -> Watched {
        let offset = self.node.table.find(app, channel, |channel| channel.offset()).unwrap_or(0);
        let steady_ms = self.steady_ms;
        let known = self.watches.iter().position(|watch| watch.app == app && *watch.channel == *channel);
        let at = known.unwrap_or_else(|| self.begin_watch(app, channel));
        let watch = &mut self.watches[at];
        watch.asked_ms = steady_ms;
        // A number of a watch that has ended since names nothing in this one.
        let after = if after > watch.last { 0 } else { after };
        let samples = watch.samples.iter().filter(|sample| sample.number > after).cloned().collect();
        Watched { samples, next: watch.last, offset }
    }

    /// Begins to watch a channel, in place of the one that was asked for longest ago if there are too many.
    fn begin_watch(&mut self, app: AppId, channel: &str) -> usize {
        if self.watches.len() == WATCHES {
            let oldest = (0..WATCHES).min_by_key(|&at| self.watches[at].asked_ms).expect("there are some");
            self.watches.swap_remove(oldest);
        }
        self.watches.push(Watch {
            app,
            channel: channel.into(),
            samples: VecDeque::new(),
            last: 0,
            allowance: WATCH_SAMPLES_PER_SECOND * SAMPLE,
            raised_ms: self.steady_ms,
            asked_ms: self.steady_ms,
            part: None,
        });
        self.watches.len() - 1
    }

    /// Has the runs of this turn encoded that watches may take samples of.
    #[cold]
    pub(super) fn arm_watches(&mut self) {
        let now = self.steady_ms;
        self.watches.retain(|watch| now.saturating_sub(watch.asked_ms) < WATCH_IDLE_MS);
        for watch in &mut self.watches {
            let passed = now.saturating_sub(watch.raised_ms).min(1000);
            watch.allowance =
                (watch.allowance + passed * WATCH_SAMPLES_PER_SECOND).min(WATCH_SAMPLES_PER_SECOND * SAMPLE);
            watch.raised_ms = now;
            watch.part = None;
            if watch.allowance < SAMPLE {
                continue;
            }
            let worker = self.worker;
            let found = self.node.table.find(watch.app, &watch.channel, |channel| channel.local(worker));
            watch.part = found.flatten();
            if let Some(part) = watch.part {
                self.channels[part].formats.insert(FORMAT);
            }
        }
    }

    /// Takes samples of this turn's runs.
    #[cold]
    pub(super) fn take_samples(&mut self) {
        for watch in &mut self.watches {
            let Some(local) = watch.part.take().and_then(|part| self.channels.get(part)) else { continue };
            if local.run == NONE || local.channel.name() != Some(&watch.channel) {
                continue;
            }
            for frame in self.turn.frames_in(local.run, FORMAT) {
                if watch.allowance < SAMPLE {
                    break;
                }
                watch.allowance -= SAMPLE;
                watch.last += 1;
                if watch.samples.len() == WATCH_SAMPLES {
                    watch.samples.pop_front();
                }
                let frame = (frame.len() <= WATCH_FRAME_BYTES).then(|| frame.into());
                watch.samples.push_back(Sample { number: watch.last, frame });
            }
        }
    }
}
