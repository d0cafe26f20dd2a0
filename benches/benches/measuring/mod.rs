//! What benches share: Criterion's settings, and turns in which one session sends commands.

#![allow(dead_code, reason = "not every bench has such turns")]

use std::{hint::black_box, time::Duration};

use criterion::{Bencher, Criterion};
use fanfare_benches::{Discard, naive::Naive};
use fanfare_core::{
    engine::{Engine, Flow},
    id::SessionSlot,
    ws::Message,
};

/// Criterion's settings: ten samples of each figure, which together take `time`.
pub(crate) fn settings(time: Duration) -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(time)
}

/// A turn: one session sends `command` so many `times`, and the output is flushed once.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) command: &'static str,
    pub(crate) times: u64,
}

impl Turn {
    /// Measures turns of an engine.
    pub(crate) fn through_engine(self, bencher: &mut Bencher<'_>, engine: &mut Engine, sender: SessionSlot) {
        let mut sink = Discard::default();
        bencher.iter(|| {
            engine.begin_turn(1);
            let commands = (0..self.times).map(|_| Message::Text(self.command));
            assert_eq!(engine.receive_all(sender, commands), Flow::Continue);
            engine.flush(&mut sink);
        });
        black_box(sink.bytes);
    }

    /// Measures turns of the baseline, whose first session sends.
    pub(crate) fn through_naive(self, bencher: &mut Bencher<'_>, mut naive: Naive) {
        bencher.iter(|| {
            (0..self.times).for_each(|_| naive.receive(0, self.command));
            black_box(naive.flush())
        });
    }
}
