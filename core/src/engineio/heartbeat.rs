//! When to ping, and when a silent peer is gone (the protocol, "Heartbeat").
//!
//! ```text
//!              interval after the opening or the last pong            time-out after the ping
//!   Quiet ────────────────────────────────────────────────▶ Pinged ──────────────────────────▶ dead
//!     ▲                        ping                            │ ▲
//!     └──────────────────────── pong ──────────────────────────┘ └ any packet: interval + time-out from now
//! ```
//!
//! Times are milliseconds of one monotonic clock.

use super::Config;

/// The clock of one session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heartbeat {
    deadline_ms: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Quiet,
    Pinged,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    Dead,
}

impl Heartbeat {
    pub(super) fn new(config: &Config, now_ms: u64) -> Self {
        Self { deadline_ms: now_ms.saturating_add(config.ping_interval_ms.into()), state: State::Quiet }
    }

    /// When [`due`](Self::due) has something to say.
    pub(super) const fn deadline_ms(self) -> u64 {
        self.deadline_ms
    }

    /// A packet arrived, of whatever type.
    pub(super) fn on_packet(&mut self, config: &Config, now_ms: u64) {
        if self.state == State::Pinged {
            let patience = u64::from(config.ping_interval_ms) + u64::from(config.ping_timeout_ms);
            self.deadline_ms = now_ms.saturating_add(patience);
        }
    }

    pub(super) fn on_pong(&mut self, config: &Config, now_ms: u64) {
        *self = Self::new(config, now_ms);
    }

    /// What is due now. A ping counts as sent when this says so. The time-out runs from the ping's deadline,
    /// so that it is exact; only if the caller is late by more than half the time-out, it runs from now.
    pub(super) fn due(&mut self, config: &Config, now_ms: u64) -> Option<Beat> {
        if now_ms < self.deadline_ms {
            return None;
        }
        if self.state == State::Pinged {
            return Some(Beat::Dead);
        }
        let timeout = u64::from(config.ping_timeout_ms);
        let is_late = now_ms - self.deadline_ms > timeout / 2;
        let sent_ms = if is_late { now_ms } else { self.deadline_ms };
        *self = Self { deadline_ms: sent_ms.saturating_add(timeout), state: State::Pinged };
        Some(Beat::Ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { ping_interval_ms: 300, ping_timeout_ms: 200, ..Config::default() }
    }

    #[test]
    fn ping_after_the_interval_and_death_after_the_timeout() {
        let (config, mut heartbeat) = (config(), Heartbeat::new(&config(), 1000));
        assert_eq!(heartbeat.due(&config, 1299), None);
        assert_eq!(heartbeat.due(&config, 1300), Some(Beat::Ping));
        assert_eq!(heartbeat.due(&config, 1499), None);
        assert_eq!(heartbeat.due(&config, 1500), Some(Beat::Dead));
    }

    #[test]
    fn pong_starts_the_interval_anew() {
        let (config, mut heartbeat) = (config(), Heartbeat::new(&config(), 0));
        assert_eq!(heartbeat.due(&config, 300), Some(Beat::Ping));
        heartbeat.on_pong(&config, 450);
        assert_eq!(heartbeat.due(&config, 749), None);
        assert_eq!(heartbeat.due(&config, 750), Some(Beat::Ping));
    }

    #[test]
    fn any_packet_is_life_but_only_a_pong_brings_the_next_ping() {
        let (config, mut heartbeat) = (config(), Heartbeat::new(&config(), 0));
        heartbeat.on_packet(&config, 299);
        assert_eq!(heartbeat.due(&config, 300), Some(Beat::Ping), "a packet does not put off the ping");
        heartbeat.on_packet(&config, 400);
        assert_eq!(heartbeat.due(&config, 899), None);
        heartbeat.on_packet(&config, 899);
        assert_eq!(heartbeat.due(&config, 1398), None);
        assert_eq!(heartbeat.due(&config, 1399), Some(Beat::Dead));
    }

    #[test]
    fn caller_that_is_very_late_does_not_shorten_the_timeout() {
        let config = config();
        let mut punctual = Heartbeat::new(&config, 0);
        assert_eq!(punctual.due(&config, 400), Some(Beat::Ping));
        assert_eq!(punctual.deadline_ms(), 500);
        let mut late = Heartbeat::new(&config, 0);
        assert_eq!(late.due(&config, 401), Some(Beat::Ping));
        assert_eq!(late.deadline_ms(), 601);
    }
}
