//! The open loop: a schedule that is fixed in advance and does not care how the server is doing.

/// Message `n` of all is due at `start + n × interval`, and is sent by publisher `n` modulo their number.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval_ns: f64,
    /// Number of publishers of all workers.
    publishers: u64,
    /// This worker's, ascending.
    own: Vec<u32>,
    round: u64,
    at: usize,
}

impl Pacer {
    /// A schedule of `rate` messages a second for all publishers, seen by the worker of some.
    pub(crate) fn new(rate: f64, publishers: u32, own: Vec<u32>) -> Self {
        Self { interval_ns: 1e9 / rate, publishers: u64::from(publishers), own, round: 0, at: 0 }
    }

    /// When this worker's next message is due, and whose it is.
    pub(crate) fn next(&self, start_ns: u64) -> Option<(u64, u32)> {
        let publisher = *self.own.get(self.at)?;
        let number = self.round * self.publishers + u64::from(publisher);
        Some((start_ns + (number as f64 * self.interval_ns) as u64, publisher))
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
        let mut workers = [Pacer::new(1000.0, 5, vec![0, 2, 4]), Pacer::new(1000.0, 5, vec![1, 3])];
        let mut all = Vec::new();
        for (worker, count) in workers.iter_mut().zip([6, 4]) {
            for _ in 0..count {
                all.extend(worker.next(7));
                worker.advance();
            }
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..10).map(|n| (7 + n * 1_000_000, (n % 5) as u32)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn worker_without_publishers_has_nothing_due() {
        assert_eq!(Pacer::new(1.0, 4, vec![]).next(0), None);
    }
}
