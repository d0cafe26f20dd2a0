//! The open loop: a schedule that is fixed in advance and does not care how the server is doing.

/// How many a second are due: so many for a while, then evenly more or less, then so many.
///
/// ```text
///    to                ┌─────
///                   ╱
///  from ──────────┘
///        │ steady │ change │
/// ```
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    from: f64,
    to: f64,
    steady_seconds: f64,
    change_seconds: f64,
}

/// Message `n` of all is due when the schedule says so, and is sent by publisher `n` modulo their number.
#[derive(Debug)]
pub(crate) struct Pacer {
    schedule: Schedule,
    /// Number of publishers of all workers.
    publishers: u64,
    /// This worker's, ascending.
    own: Vec<u32>,
    round: u64,
    at: usize,
}

impl Schedule {
    /// So many a second, all the time.
    pub(crate) fn steady(rate: f64) -> Self {
        Self { from: rate, to: rate, steady_seconds: f64::INFINITY, change_seconds: 0.0 }
    }

    /// First so many a second, then evenly more or less of them, up or down to so many.
    pub(crate) fn changing((from, to): (f64, f64), steady_seconds: f64, change_seconds: f64) -> Self {
        Self { from, to, steady_seconds, change_seconds }
    }

    /// When the one of this number is due, in nanoseconds from the start: the inverse of [`Schedule::count`].
    pub(crate) fn due_ns(&self, number: u64) -> u64 {
        let number = number as f64;
        let changing = number - self.from * self.steady_seconds;
        if changing <= 0.0 {
            return (number * 1e9 / self.from) as u64;
        }
        let in_change = f64::midpoint(self.from, self.to) * self.change_seconds;
        let seconds = if changing <= in_change {
            // Of from·t + growth·t²/2 = changing, in a form that loses nothing when growth is small.
            2.0 * changing / (self.from + (self.from.powi(2) + 2.0 * self.growth() * changing).sqrt())
        } else {
            self.change_seconds + (changing - in_change) / self.to
        };
        ((self.steady_seconds + seconds) * 1e9) as u64
    }

    /// How many are due up to so many nanoseconds from the start.
    pub(crate) fn count(&self, ns: u64) -> f64 {
        let seconds = ns as f64 / 1e9;
        let Some(beyond) = Some(seconds - self.steady_seconds).filter(|beyond| *beyond > 0.0) else {
            return self.from * seconds;
        };
        let changing = beyond.min(self.change_seconds);
        self.from * (self.steady_seconds + changing)
            + self.growth() * changing.powi(2) / 2.0
            + self.to * (beyond - changing)
    }

    /// A second more brings so many more a second.
    fn growth(&self) -> f64 {
        (self.to - self.from) / self.change_seconds
    }
}

impl Pacer {
    /// A schedule for all publishers, seen by the worker of some.
    pub(crate) fn new(schedule: Schedule, publishers: u32, own: Vec<u32>) -> Self {
        Self { schedule, publishers: u64::from(publishers), own, round: 0, at: 0 }
    }

    /// When a publisher's message of this number is due, whichever worker has it.
    pub(crate) fn due_ns(&self, start_ns: u64, publisher: u32, sequence: u32) -> u64 {
        start_ns + self.schedule.due_ns(u64::from(sequence) * self.publishers + u64::from(publisher))
    }

    /// When this worker's next message is due, and whose it is.
    pub(crate) fn next(&self, start_ns: u64) -> Option<(u64, u32)> {
        let publisher = *self.own.get(self.at)?;
        let number = self.round * self.publishers + u64::from(publisher);
        Some((start_ns + self.schedule.due_ns(number), publisher))
    }

    /// That message was sent.
    pub(crate) fn advance(&mut self) {
        self.at += 1;
        if self.at == self.own.len() {
            self.at = 0;
            self.round += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_together_keep_one_evenly_spaced_schedule() {
        let new = |own| Pacer::new(Schedule::steady(1000.0), 5, own);
        let mut workers = [new(vec![0, 2, 4]), new(vec![1, 3])];
        let mut all = Vec::new();
        for (worker, count) in workers.iter_mut().zip([6, 4]) {
            for _ in 0..count {
                all.extend(worker.next(7));
                worker.advance();
            }
        }
        assert_eq!(workers[1].due_ns(7, 4, 1), 7 + 9_000_000, "also of another worker's publisher");
        all.sort_unstable();
        let expected: Vec<_> = (0..10).map(|n| (7 + n * 1_000_000, (n % 5) as u32)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn worker_without_publishers_has_nothing_due() {
        assert_eq!(Pacer::new(Schedule::steady(1.0), 4, vec![]).next(0), None);
    }

    #[test]
    fn rate_that_changes_is_asked_for_evenly_and_from_the_first_to_the_last() {
        for (from, to) in [(100.0, 500.0), (500.0, 100.0), (300.0, 300.0), (0.5, 2_000.0)] {
            let schedule = Schedule::changing((from, to), 1.0, 4.0);
            let second = |number: u64| {
                schedule.count((number + 1) * 1_000_000_000) - schedule.count(number * 1_000_000_000)
            };
            let step = (to - from) / 4.0;
            for (number, expected) in
                [from, from + 0.5 * step, from + 1.5 * step, from + 2.5 * step, from + 3.5 * step, to, to]
                    .into_iter()
                    .enumerate()
            {
                assert!((second(number as u64) - expected).abs() < 1e-6, "{from} to {to}, second {number}");
            }
            let mut last_ns = 0;
            for number in 0..(schedule.count(7_000_000_000) as u64) {
                let due_ns = schedule.due_ns(number);
                assert!(due_ns >= last_ns, "{number} is due before the one before it");
                assert!((schedule.count(due_ns) - number as f64).abs() < 1e-3, "{number} is due at {due_ns}");
                last_ns = due_ns;
            }
        }
    }
}
