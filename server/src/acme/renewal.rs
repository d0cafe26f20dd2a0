//! When certificates are obtained: at once if there is none, and again when two thirds of their lifetime have
//! passed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::sleep;

use super::{Numbers, Settings, authority};
use crate::tls::Lifetime;

/// The longest wait after a failure, if the first wait is not longer.
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);

/// How long the task sleeps at most: the clock may be set, and the machine may have slept.
const SLEEP_MAX_S: u64 = 3600;

/// The task that obtains certificates again and again.
pub(super) struct Renewal {
    settings: Arc<Settings>,
    numbers: Arc<[Numbers]>,
    attempts: Vec<Attempts>,
}

/// The attempts for a domain.
#[derive(Copy, Clone, Default)]
struct Attempts {
    /// Failures in a row.
    failures: u32,
    /// The time before which no attempt is made, in seconds since 1970.
    not_before_s: u64,
}

impl Renewal {
    pub(super) fn new(settings: Arc<Settings>, numbers: Arc<[Numbers]>) -> Self {
        let attempts = vec![Attempts::default(); settings.domains.len()];
        Self { settings, numbers, attempts }
    }

    pub(super) async fn run(mut self) {
        loop {
            let times = (0..self.attempts.len()).map(|at| (self.due_s(at), at));
            let Some((due_s, at)) = times.min() else { return };
            match due_s.saturating_sub(now_s()) {
                0 => self.attempt(at).await,
                wait_s => sleep(Duration::from_secs(wait_s.min(SLEEP_MAX_S))).await,
            }
        }
    }

    /// When a certificate is due for a domain, in seconds since 1970.
    fn due_s(&self, at: usize) -> u64 {
        let lifetime = self.settings.issued.lifetime(&self.settings.domains[at]);
        lifetime.map_or(0, renewal_s).max(self.attempts[at].not_before_s)
    }

    async fn attempt(&mut self, at: usize) {
        let Self { settings, numbers, attempts } = self;
        let (domain, numbers, attempts) = (&*settings.domains[at], &numbers[at], &mut attempts[at]);
        match authority::obtain(settings, domain).await {
            Ok(obtained) => {
                let Lifetime { expires_s, .. } = obtained.identity.lifetime;
                settings.issued.put(domain, obtained.identity);
                numbers.obtained.fetch_add(1, Ordering::Relaxed);
                tracing::info!(domain, expires_s, "a certificate was obtained");
                if let Err(error) = settings.store.put_certificate(domain, obtained.pem.as_bytes()) {
                    tracing::error!(domain, %error, "a certificate could not be kept: it lasts for this run");
                }
                // A certificate that lasts for seconds must not make the server ask without a pause.
                *attempts = Attempts { failures: 0, not_before_s: now_s() + settings.retry.as_secs() };
            }
            Err(sentence) => {
                attempts.failures = attempts.failures.saturating_add(1);
                let wait_s = retry(settings.retry, attempts.failures).as_secs();
                attempts.not_before_s = now_s() + wait_s;
                tracing::warn!(
                    domain,
                    wait_s,
                    "No certificate was obtained, and the last one stays: {sentence}."
                );
                // Whoever sees the number finds the reason in the log.
                numbers.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// When a certificate is renewed: a third of its lifetime before its end.
fn renewal_s(lifetime: Lifetime) -> u64 {
    let Lifetime { begins_s, expires_s } = lifetime;
    expires_s - expires_s.saturating_sub(begins_s) / 3
}

/// The wait after this many failures in a row: it doubles each time.
fn retry(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_MAX.max(first))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_a_third_of_its_lifetime_before_its_end() {
        for (begins_s, expires_s, renewal) in
            [(0, 90, 60), (1000, 1000 + 90 * 86_400, 1000 + 60 * 86_400), (100, 100, 100), (200, 100, 100)]
        {
            assert_eq!(renewal_s(Lifetime { begins_s, expires_s }), renewal);
        }
    }

    #[test]
    fn waits_after_failures_double_up_to_six_hours() {
        let first = Duration::from_secs(120);
        let waits: Vec<u64> = (1..=9).map(|failures| retry(first, failures).as_secs()).collect();
        assert_eq!(waits, [120, 240, 480, 960, 1920, 3840, 7680, 15_360, 21_600]);
        assert_eq!(retry(first, u32::MAX), RETRY_MAX);
        assert_eq!(retry(Duration::from_secs(86_400), 5).as_secs(), 86_400);
    }
}
