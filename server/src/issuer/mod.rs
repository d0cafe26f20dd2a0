//! Issuers of session tokens, whose keys are read from a URL (JWKS, RFC 7517).
//!
//! ```text
//!   due, or a token names an unknown key ─▶ Reading::run ─▶ Endpoint::get ─▶ Jwks::parse ─▶ KeySet::replace
//!            (not before the floor)           └── refused: the last keys stay ◀──┘      └▶ all workers
//! ```
//!
//! A document is read on the background thread. No worker waits for it: a token whose key is not there yet is
//! refused, and its client comes again. A document that cannot be read or used changes nothing.

mod reading;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare_core::token::KeySet;
use tokio::task::AbortHandle;

use self::reading::{Reading, State};
use crate::{
    control::{background::Background, exposition::Kind},
    egress::Endpoint,
};

/// An issuer as the configuration names it.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// The app whose session tokens it signs.
    pub(crate) app: Box<str>,
    /// The issuer's place among those of the app.
    pub(crate) place: usize,
    pub(crate) endpoint: Endpoint,
    /// The shortest time between two requests.
    pub(crate) floor: Duration,
    /// The keys, which the app's verifier shares.
    pub(crate) set: Arc<KeySet>,
}

/// What was counted of an issuer since the server started.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) reads: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) skipped: AtomicU64,
    /// When the keys were last read, in seconds since 1970; 0 for never.
    pub(crate) read_s: AtomicU64,
}

/// The issuers of a running server.
pub(crate) struct Issuers {
    background: Arc<Background>,
    running: Mutex<Vec<Running>>,
}

struct Running {
    issuer: Issuer,
    state: Arc<State>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuers {
    /// Begins to read the keys of `issuers`.
    pub(crate) fn start(background: Arc<Background>, issuers: Vec<Issuer>) -> Self {
        let this = Self { background, running: Mutex::default() };
        this.replace(issuers);
        this
    }

    /// Replaces the issuers. An issuer that stays keeps its keys and its times.
    pub(crate) fn replace(&self, issuers: Vec<Issuer>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for issuer in issuers {
            let is_same = |other: &Running| other.issuer.is_same(&issuer);
            let state = match before.iter().position(is_same).map(|place| before.swap_remove(place)) {
                Some(old) => {
                    issuer.set.replace(old.issuer.set.keys());
                    old.state.clone()
                }
                None => Arc::default(),
            };
            let asked = state.clone();
            issuer.set.on_unknown(move || asked.ask());
            let task = self.background.spawn(Reading::new(issuer.clone(), state.clone()).run());
            running.push(Running { issuer, state, task });
        }
    }

    /// Waits until every issuer was asked once, and no longer than `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for running in running.iter() {
            running.state.wait_for_first(deadline);
        }
    }

    /// Calls `visit` with each issuer's app, place, keys and numbers.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&Issuer, &Numbers)) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().for_each(|running| visit(&running.issuer, &running.state.numbers));
    }
}

impl Issuer {
    /// Whether `other` reads the keys of the same app from the same URL.
    fn is_same(&self, other: &Self) -> bool {
        self.app == other.app && self.endpoint.to_string() == other.endpoint.to_string()
    }
}

/// A metric of an issuer.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) value: fn(&Issuer, &Numbers) -> u64,
}

/// The metrics of issuers.
pub(crate) const METRICS: [Metric; 5] = [
    Metric {
        name: "fanfare_issuer_keys",
        kind: Kind::Gauge,
        help: "Keys of the issuer that verify session tokens.",
        value: |issuer, _| issuer.set.keys().len() as u64,
    },
    Metric {
        name: "fanfare_issuer_skipped_keys",
        kind: Kind::Gauge,
        help: "Keys of the issuer that no session token can be signed with.",
        value: |_, numbers| numbers.skipped.load(Ordering::Relaxed),
    },
    Metric {
        name: "fanfare_issuer_reads_total",
        kind: Kind::Counter,
        help: "Times the keys of the issuer were read.",
        value: |_, numbers| numbers.reads.load(Ordering::Relaxed),
    },
    Metric {
        name: "fanfare_issuer_failures_total",
        kind: Kind::Counter,
        help: "Times the keys of the issuer could not be read.",
        value: |_, numbers| numbers.failures.load(Ordering::Relaxed),
    },
    Metric {
        name: "fanfare_issuer_read_timestamp_seconds",
        kind: Kind::Gauge,
        help: "Time at which the keys of the issuer were last read, in seconds since 1970; 0 for never.",
        value: |_, numbers| numbers.read_s.load(Ordering::Relaxed),
    },
];
