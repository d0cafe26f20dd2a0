//! A circuit breaker: it stops requests to a back end that fails, and tries one from time to time.
//!
//! ```text
//!              failures in a row                open_for has passed
//!   Closed ───────────────────────▶ Open ───────────────────────────▶ Probing
//!     ▲                              ▲                                 │  │
//!     │                              └── the probe failed ─────────────┘  │
//!     └──────────────────────────────── the probe succeeded ──────────────┘
//! ```
//!
//! Results of requests that began before the breaker opened change nothing.

use std::time::{Duration, Instant};

/// The settings of a breaker.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct BreakerSettings {
    /// The failed requests in a row that open the breaker.
    pub(crate) failures: u32,
    /// The time without requests.
    pub(crate) open_for: Duration,
}

pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// What a breaker permits.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Permit {
    /// Any request.
    Any,
    /// One request, the probe.
    Probe,
    /// No request.
    Nothing,
}

/// A change that the result of a request made.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Change {
    Opened,
    Closed,
    Nothing,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// What is permitted now. A probe that is permitted is under way with [`Breaker::probe`].
    pub(super) fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Any,
            State::Open { until } if now >= until => Permit::Probe,
            State::Open { .. } | State::Probing => Permit::Nothing,
        }
    }

    /// Begins the probe.
    pub(super) fn probe(&mut self) {
        self.state = State::Probing;
    }

    /// Notes the success of a request that began with `permit`.
    pub(super) fn on_success(&mut self, permit: Permit) -> Change {
        let before = self.state;
        match (before, permit) {
            (State::Closed { .. }, Permit::Any) | (State::Probing, Permit::Probe) => {
                self.state = State::Closed { failures: 0 };
            }
            _ => return Change::Nothing,
        }
        if before == State::Probing { Change::Closed } else { Change::Nothing }
    }

    /// Notes the failure of a request that began with `permit`.
    pub(super) fn on_failure(&mut self, permit: Permit, now: Instant) -> Change {
        let opens = match (self.state, permit) {
            (State::Closed { failures }, Permit::Any) => {
                self.state = State::Closed { failures: failures + 1 };
                failures + 1 >= self.settings.failures
            }
            (State::Probing, Permit::Probe) => true,
            _ => false,
        };
        if !opens {
            return Change::Nothing;
        }
        self.state = State::Open { until: now + self.settings.open_for };
        Change::Opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(5);

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings { failures: 3, open_for: OPEN_FOR })
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not_count() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..2 {
            assert_eq!(breaker.on_failure(Permit::Any, now), Change::Nothing);
        }
        assert_eq!(breaker.on_success(Permit::Any), Change::Nothing);
        for change in [Change::Nothing, Change::Nothing, Change::Opened, Change::Nothing] {
            assert_eq!(breaker.on_failure(Permit::Any, now), change);
        }
        assert_eq!(breaker.permit(now), Permit::Nothing);
        assert_eq!(breaker.on_success(Permit::Any), Change::Nothing, "an older request closes nothing");
        assert_eq!(breaker.permit(now + OPEN_FOR), Permit::Probe);
    }

    #[test]
    fn one_probe_decides() {
        let (mut breaker, now) = (breaker(), Instant::now());
        let changes = [(); 3].map(|()| breaker.on_failure(Permit::Any, now));
        assert_eq!(changes.last(), Some(&Change::Opened));
        let later = now + OPEN_FOR;
        breaker.probe();
        assert_eq!(breaker.permit(later), Permit::Nothing, "there is one probe at a time");
        assert_eq!(
            breaker.on_failure(Permit::Any, later),
            Change::Nothing,
            "an older request decides nothing"
        );
        assert_eq!(breaker.on_failure(Permit::Probe, later), Change::Opened);
        assert_eq!(breaker.permit(later), Permit::Nothing);
        assert_eq!(breaker.permit(later + OPEN_FOR), Permit::Probe);
        breaker.probe();
        assert_eq!(breaker.on_success(Permit::Probe), Change::Closed);
        assert_eq!(breaker.permit(later), Permit::Any);
    }
}
