//! Reloads the configuration while the server runs.
//!
//! ```text
//!   SIGHUP, POST /reload ─▶ read and check ─▶ what changed? ─▶ node: apps ─▶ every worker, at its next turn
//!                             └── refused: nothing changes ◀──┘
//! ```
//!
//! A reload changes everything or nothing. A configuration that is not valid, or that changes a setting that
//! needs a restart, is refused with a sentence. Connections and sessions go on, except the sessions of apps
//! that are removed.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare_core::{app::Apps, engine::Node, limits::APPS_ADDED};

use super::admin::Observed;
use crate::{
    config::{Change, Config, When},
    trigger::{Reloading, Triggers},
    worker::Control,
};

/// The longest wait for the workers, each of which takes a new configuration over at its next turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The configuration in effect, and the generation by which workers notice a new one.
pub(crate) struct Current {
    config: Mutex<Arc<Config>>,
    /// The generation of the configuration; 0 for that of the start.
    generation: AtomicU64,
    /// The generation that each worker has taken over.
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

    /// The generation of the configuration; each worker asks once a turn. Acquire: pairs with the release in
    /// [`Current::replace`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Notes that a worker has taken over a generation. Release: pairs with the load in
    /// [`Current::is_taken`].
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

/// Reloads the configuration.
pub(crate) struct Reloader {
    pub(crate) control: Arc<Control>,
    pub(crate) node: Arc<Node>,
    pub(crate) observed: Arc<Observed>,
    pub(crate) triggers: Arc<Triggers>,
    /// Held during a reload, so that reloads come one at a time.
    pub(crate) turn: Mutex<()>,
}

impl Reloader {
    /// Reads the configuration again, and returns when every worker has taken it over. Waits for files and
    /// workers.
    ///
    /// # Errors
    /// The sentence that says why nothing was changed.
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
        let apps = self.node.successors(&config.apps).ok_or_else(|| {
            refused(&format!("a restart is needed to add more than {APPS_ADDED} apps since the last one."))
        })?;
        let triggers = self.triggers.reload(&config).map_err(|error| refused(&format!("{error}.")))?;
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.put(Arc::new(config), apps, triggers)
            .map_err(|error| format!("The configuration was reloaded, but {error}."))?;
        Ok(match changes.is_empty() {
            true => String::from("The configuration was reloaded: nothing has changed."),
            false => format!("The configuration was reloaded: {}.", list(&changes)),
        })
    }

    fn put(&self, config: Arc<Config>, apps: Arc<Apps>, triggers: Reloading<'_>) -> io::Result<()> {
        self.observed.errands.issuers.replace(config.issuers());
        self.observed.errands.acme.replace(config.acme());
        apps.removed().for_each(|app| self.node.set_triggers(app.id, None));
        self.node.set_apps(apps);
        triggers.finish();
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
