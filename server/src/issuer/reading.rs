//! When the document of an issuer is read, and what becomes of its answer.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fanfare_core::token::Jwks;
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderMap},
};
use tokio::{sync::Notify, time::sleep_until};

use super::{Issuer, Numbers};
use crate::egress::{Bounds, Reply};

/// What a request may cost.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), body_bytes: 256 << 10 };

/// How long keys are good if the issuer does not say.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long keys are good at most.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The state of an issuer, which outlives a reload.
#[derive(Default)]
pub(super) struct State {
    pub(super) numbers: Numbers,
    times: Mutex<Times>,
    /// The first request has ended.
    first: Condvar,
    asked: Notify,
}

#[derive(Default)]
struct Times {
    /// When the last request began.
    begun: Option<Instant>,
    /// When the next request is due.
    due: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    is_tried: bool,
    /// What was last told of skipped keys.
    skipped: Vec<String>,
}

impl State {
    /// A token names a key that is not there.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until the first request has ended.
    pub(super) fn wait_for_first(&self, deadline: Instant) {
        let mut times = self.times();
        while !times.is_tried {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            times = self.first.wait_timeout(times, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that reads an issuer's document again and again.
pub(super) struct Reading {
    issuer: Issuer,
    state: Arc<State>,
}

impl Reading {
    pub(super) fn new(issuer: Issuer, state: Arc<State>) -> Self {
        Self { issuer, state }
    }

    pub(super) async fn run(self) {
        loop {
            self.wait().await;
            self.state.times().begun = Some(Instant::now());
            self.issuer.set.begin_read();
            let done = self.read().await;
            self.settle(done);
        }
    }

    /// Waits until the document is due, or until a token asks for it and the floor has passed.
    async fn wait(&self) {
        let (begun, due) = {
            let times = self.state.times();
            (times.begun, times.due)
        };
        let now = Instant::now();
        let floor = begun.map_or(now, |begun| begun + self.issuer.floor);
        let due = due.unwrap_or(floor).max(floor);
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = self.state.asked.notified() => sleep_until(floor.into()).await,
        }
    }

    /// Reads the document. Returns the keys and how long they are good, or a sentence.
    async fn read(&self) -> Result<(Jwks, Duration), String> {
        let endpoint = &self.issuer.endpoint;
        let told = |clause: &dyn std::fmt::Display| format!("`{endpoint}` {clause}");
        let answer = endpoint.get(BOUNDS).await.map_err(|error| told(&error))?;
        let jwks = keys(&answer).map_err(|clause| told(&clause))?;
        Ok((jwks, lifetime(&answer.headers, self.issuer.floor)))
    }

    fn settle(&self, done: Result<(Jwks, Duration), String>) {
        let numbers = &self.state.numbers;
        let mut times = self.state.times();
        let app = &self.issuer.app;
        let wait = match done {
            Ok((jwks, lifetime)) => {
                tracing::debug!(%app, keys = jwks.keys.len(), "the keys of an issuer were read");
                if times.skipped != jwks.skipped && !jwks.skipped.is_empty() {
                    let skipped = jwks.skipped.join("; ");
                    tracing::warn!(%app, "`{}` has keys that are skipped: {skipped}", self.issuer.endpoint);
                }
                numbers.skipped.store(jwks.skipped.len() as u64, Ordering::Relaxed);
                times.skipped = jwks.skipped;
                times.failures = 0;
                self.issuer.set.replace(jwks.keys.into());
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                numbers.read_s.store(now.as_secs(), Ordering::Relaxed);
                numbers.reads.fetch_add(1, Ordering::Relaxed);
                lifetime
            }
            Err(sentence) => {
                tracing::warn!(%app, "An issuer's keys were not read, and the last keys stay: {sentence}.");
                numbers.failures.fetch_add(1, Ordering::Relaxed);
                times.failures = times.failures.saturating_add(1);
                retry(self.issuer.floor, times.failures)
            }
        };
        times.due = Some(Instant::now() + wait);
        times.is_tried = true;
        self.state.first.notify_all();
    }
}

/// The keys of an answer, or a clause that follows the address.
fn keys(answer: &Reply) -> Result<Jwks, String> {
    match answer.status {
        StatusCode::OK => {
            Jwks::parse(&answer.body).map_err(|error| format!("answered with a document that {error}"))
        }
        status if status.is_redirection() => {
            Err(format!("answered with the redirect {status}: name the place that has the document"))
        }
        status => Err(format!("answered with the status {status}")),
    }
}

/// How long the keys are good: as the issuer says, within the bounds.
fn lifetime(headers: &HeaderMap, floor: Duration) -> Duration {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(',')).map(str::trim);
    let said = directives.find_map(|directive| match directive.to_ascii_lowercase().split_once('=') {
        Some(("max-age", seconds)) => seconds.trim_matches('"').parse().ok().map(Duration::from_secs),
        None if ["no-cache", "no-store"].iter().any(|word| directive.eq_ignore_ascii_case(word)) => {
            Some(Duration::ZERO)
        }
        _ => None,
    });
    said.unwrap_or(LIFETIME).min(LIFETIME_MAX).max(floor)
}

/// The wait after this many failures in a row: it doubles each time.
fn retry(floor: Duration, failures: u32) -> Duration {
    let doubled = floor.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX.max(floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_secs(30);

    #[test]
    fn keys_are_good_for_as_long_as_the_issuer_says_within_bounds() {
        let cases = [
            (None, 300),
            (Some("public, max-age=120, must-revalidate"), 120),
            (Some("Max-Age=\"120\""), 120),
            (Some("max-age=1"), 30),
            (Some("max-age=99999999999"), 86_400),
            (Some("max-age=-5"), 300),
            (Some("no-store"), 30),
            (Some("nonsense"), 300),
        ];
        for (value, seconds) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CACHE_CONTROL, value.parse().expect("a value"));
            }
            assert_eq!(lifetime(&headers, FLOOR).as_secs(), seconds, "{value:?}");
        }
    }

    #[test]
    fn waits_after_failures_double_up_to_five_minutes() {
        let waits: Vec<u64> = (1..=6).map(|failures| retry(FLOOR, failures).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
        assert_eq!(retry(FLOOR, u32::MAX).as_secs(), 300);
        assert_eq!(retry(Duration::from_secs(3600), 9).as_secs(), 3600);
    }
}
