//! Which window and which tick of the clock a time belongs to. Windows and ticks follow from the plan and the
//! start alone, so every worker of every process draws the same lines, and what was due in a window belongs
//! to it however late it arrives.
//!
//! ```text
//!  start ── warm-up ──▶ first ── window 0 ──▶ ── window 1 ──▶ … ──▶ end
//!                       │ tick │ tick │ tick │ …
//! ```

use std::ops::Range;

use crate::clock::seconds;

/// Ticks of a run at most.
const MAX_TICKS: u64 = 3600;
const SECOND_NS: u64 = 1_000_000_000;

/// How long the stages of a plan last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    pub(crate) warmup_ns: u64,
    pub(crate) window_ns: u64,
    pub(crate) windows: u32,
}

/// The lines of a run that has a start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    timing: Timing,
    /// When the first window begins.
    pub(crate) first_ns: u64,
}

/// A piece of time that is in one window and in one tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) time_ns: Range<u64>,
    pub(crate) window: usize,
    pub(crate) tick: usize,
}

impl Timing {
    pub(crate) fn new(warmup_seconds: f64, window_seconds: f64, windows: u32) -> Self {
        Self { warmup_ns: seconds(warmup_seconds), window_ns: seconds(window_seconds), windows }
    }

    fn total_ns(self) -> u64 {
        self.window_ns * u64::from(self.windows)
    }

    /// Length of a tick: a tenth of a second in a short run, a second in others, more in very long ones.
    pub(crate) fn tick_ns(self) -> u64 {
        match self.total_ns() / SECOND_NS {
            0..20 => SECOND_NS / 10,
            seconds => seconds.div_ceil(MAX_TICKS) * SECOND_NS,
        }
    }

    pub(crate) fn ticks(self) -> usize {
        self.total_ns().div_ceil(self.tick_ns()) as usize
    }
}

impl Timeline {
    pub(crate) fn new(timing: Timing, start_ns: u64) -> Self {
        Self { timing, first_ns: start_ns + timing.warmup_ns }
    }

    /// When this window ends.
    pub(crate) fn end_of(&self, window: u32) -> u64 {
        self.first_ns + self.timing.window_ns * u64::from(window + 1)
    }

    /// When the last window ends.
    pub(crate) fn end_ns(&self) -> u64 {
        self.first_ns + self.timing.total_ns()
    }

    /// The piece that holds this time, if a window does.
    pub(crate) fn piece(&self, time_ns: u64) -> Option<Piece> {
        let Timing { window_ns, .. } = self.timing;
        let since_ns = time_ns.checked_sub(self.first_ns).filter(|since| *since < self.timing.total_ns())?;
        let (window, tick) = (since_ns / window_ns, since_ns / self.timing.tick_ns());
        let from = (window * window_ns).max(tick * self.timing.tick_ns());
        let until = ((window + 1) * window_ns).min((tick + 1) * self.timing.tick_ns());
        let time_ns = self.first_ns + from..self.first_ns + until;
        Some(Piece { time_ns, window: window as usize, tick: tick as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_of_the_windows_is_in_one_piece_and_no_other_moment_is_in_any() {
        let timing = Timing::new(0.5, 0.15, 4);
        let timeline = Timeline::new(timing, 1_000);
        assert_eq!((timeline.piece(500_000_999), timeline.piece(timeline.end_ns())), (None, None));
        let (mut at, mut pieces) = (timeline.first_ns, Vec::new());
        while let Some(piece) = timeline.piece(at) {
            assert_eq!(piece.time_ns.start, at, "pieces follow each other");
            assert_eq!(timeline.piece(piece.time_ns.end - 1), Some(piece.clone()));
            at = piece.time_ns.end;
            pieces.push((piece.window, piece.tick));
        }
        assert_eq!(at, timeline.end_of(3));
        // Windows of 150 ms and ticks of 100 ms.
        assert_eq!(pieces, [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (2, 4), (3, 4), (3, 5)]);
        assert_eq!(timing.ticks(), 6);
    }

    #[test]
    fn long_runs_have_longer_ticks_and_no_more_of_them_than_fit() {
        for (window_seconds, windows, tick_ns) in
            [(3.0, 3, 100_000_000), (30.0, 2, SECOND_NS), (86_400.0, 1000, 24_000 * SECOND_NS)]
        {
            let timing = Timing::new(0.0, window_seconds, windows);
            assert_eq!(timing.tick_ns(), tick_ns);
            assert!(timing.ticks() as u64 <= MAX_TICKS);
        }
    }
}
