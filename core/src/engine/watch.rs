//! Watches: samples of a channel's publications on this worker, for an operator's dashboard.
//!
//! A watch adds a format to its channel's part for one turn. The turn's run then has a lane in this format,
//! whatever its members receive, and the watch takes frames from the lane before the turn is written. A
//! format without members is dropped at the end of the run, so the watch adds the format again when it may
//! take more samples. Publishing does not know of watches, and a turn without watches only checks that there
//! are none.

use std::collections::VecDeque;

use super::{Engine, output::NONE};
use crate::{
    command::{Sample, Watched},
    dialect::Format,
    id::{AppId, LocalId},
    limits::{WATCH_FRAME_BYTES, WATCH_IDLE_MS, WATCH_SAMPLES, WATCH_SAMPLES_PER_SECOND, WATCHES},
};

/// The format of samples.
const FORMAT: Format = Format::NativeText;

/// The allowance that one sample takes. The allowance grows by a whole number each millisecond.
const SAMPLE: u64 = 1000;

/// A watched channel.
pub(super) struct Watch {
    app: AppId,
    channel: Box<str>,
    samples: VecDeque<Sample>,
    /// The number of the last sample.
    last: u64,
    /// The allowance for samples, in thousandths of a sample; at most the samples of one second.
    allowance: u64,
    /// When the allowance last grew, and when somebody last asked for samples.
    raised_ms: u64,
    asked_ms: u64,
    /// This worker's part of the channel, if the watch samples this turn's run.
    part: Option<LocalId>,
}

impl Engine {
    /// The samples after the number `after`. The channel is watched from now on.
    pub(super) fn watch(&mut self, app: AppId, channel: &str, after: u64) -> Watched {
        let offset = self.node.table.find(app, channel, |channel| channel.offset()).unwrap_or(0);
        let steady_ms = self.steady_ms;
        let known = self.watches.iter().position(|watch| watch.app == app && *watch.channel == *channel);
        let at = known.unwrap_or_else(|| self.begin_watch(app, channel));
        let watch = &mut self.watches[at];
        watch.asked_ms = steady_ms;
        // A number from an earlier watch of the channel means nothing in this watch.
        let after = if after > watch.last { 0 } else { after };
        let samples = watch.samples.iter().filter(|sample| sample.number > after).cloned().collect();
        Watched { samples, next: watch.last, offset }
    }

    /// Begins to watch a channel. If there are too many watches, the new watch replaces the one that nobody
    /// has asked for longest.
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

    /// Makes this turn's runs encode frames in the format of samples, where watches may take samples.
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
