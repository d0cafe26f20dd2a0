//! Reading the configuration again while the server runs.
//!
//! ```text
//!   SIGHUP, POST /reload ─▶ read and check ─▶ what changed? ─▶ node: apps ─▶ every worker, at its next turn
//!                             └── refused: nothing changes ◀──┘
//! ```
//!
//! A reload is whole: a file that is not valid, or that changes what cannot change while the server runs, is
//! refused with a sentence, and everything stays as it is. Connections and sessions notice nothing.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare_core::engine::Node;

use super::admin::Observed;
use crate::{
    config::{Change, Config, When},
    worker::Control,
};

/// How long workers may take to take a configuration over. Each does at its next turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The configuration that is in effect, and how workers notice another one.
pub(crate) struct Current {
    config: Mutex<Arc<Config>>,
    /// Which one it is; 0 is that of the start.
    generation: AtomicU64,
    /// The one that each worker has taken over.
    taken: Box<[AtomicU64]>,
}

impl Current {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let taken = (0..config.workers).map(|_| AtomicU64::new(0)).collect();
        Self { config: Mutex::new(config), generation: AtomicU64::new(0), taken }
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asked once a turn. Acquire: pairs with the release in [`Current::replace`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A worker has taken over a generation. Release: pairs with the load in [`Current::is_taken`].
    pub(crate) fn take(&self, worker: usize, generation: u64) {
        self.taken[worker].store(generation, Ordering::Release);
    }

    fn is_taken(&self, generation: u64) -> bool {
        self.taken.iter().all(|taken| taken.load(Ordering::Acquire) >= generation)
    }

    fn replace(&self, config: Arc<Config>) -> u64 {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.generation.fetch_add(1, Ordering::Release) + 1
    }
}

/// Reads the configuration again.
pub(crate) struct Reloader {
    pub(crate) control: Arc<Control>,
    pub(crate) node: Arc<Node>,
    pub(crate) observed: Arc<Observed>,
    /// One reload at a time.
    pub(crate) turn: Mutex<()>,
}

impl Reloader {
    /// Reads the configuration again, and returns when every worker has it. Waits for files and workers.
    ///
    /// # Errors
    /// Why nothing was changed, in a sentence.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.try_reload();
        match &done {
            Ok(sentence) => {
                self.observed.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!("{sentence}");
            }
            Err(sentence) => {
                self.observed.failed_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{sentence}");
            }
        }
        done
    }

    fn try_reload(&self) -> Result<String, String> {
        let refused = |why: &dyn std::fmt::Display| format!("Nothing was reloaded: {why}");
        let before = self.control.current.config();
        let config = before.reread().map_err(|error| refused(&error))?;
        let changes = before.changes(&config);
        let fixed: Vec<&str> =
            changes.iter().filter(|change| change.when == When::Restart).map(|change| &*change.key).collect();
        if !fixed.is_empty() {
            return Err(refused(&format!("a restart is needed to change {}.", fixed.join(", "))));
        }
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.put(Arc::new(config))
            .map_err(|error| format!("The configuration was reloaded, but {error}."))?;
        Ok(match changes.is_empty() {
            true => String::from("The configuration was reloaded: nothing has changed."),
            false => format!("The configuration was reloaded: {}.", list(&changes)),
        })
    }

    fn put(&self, config: Arc<Config>) -> io::Result<()> {
        self.node.set_apps(Arc::new(config.apps.clone()));
        let expires_s = config.certificate_expires_s().unwrap_or(0);
        self.observed.certificate_expires_s.store(expires_s, Ordering::Relaxed);
        let generation = self.control.current.replace(config);
        for waker in &self.control.wakers {
            waker.wake()?;
        }
        let start = Instant::now();
        while !self.control.current.is_taken(generation) {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("a worker has not taken it over yet"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn list(changes: &[Change]) -> String {
    changes.iter().map(|change| &*change.key).collect::<Vec<_>>().join(", ")
}
