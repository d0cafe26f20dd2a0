//! Triggers: scripts that an app runs on messages and joins, on threads of their own. See docs/TRIGGERS.md.
//!
//! ```text
//!   worker ─▶ Runtime::submit ─▶ dispatch ─▶ ScriptThread: each trigger of the call in turn
//!      ▲                            ▲             │
//!      └─ mail: Verdict ◀── post ◀──┴── on_run ◀──┘
//! ```
//!
//! The engine decides when triggers run and applies their verdicts ([`fanfare_core::trigger`]). This module
//! runs the triggers. No worker waits for a trigger.

mod catalog;
pub(crate) mod desk;
mod guard;
pub(crate) mod http;
pub(crate) mod input;
mod kept;
pub(crate) mod manage;
pub(crate) mod metrics;
pub(crate) mod script;
pub(crate) mod spec;
pub(crate) mod state;
mod thread;
pub mod trial;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

use crossbeam::channel::Receiver;
use fanfare_core::{
    app::App,
    engine::Node,
    trigger::{TRIGGERS, TriggerSet},
};

use self::{
    catalog::Catalog,
    desk::{AppTriggers, Desk, Runtime},
    http::HttpThread,
    kept::Folder,
    manage::ManageRequest,
    metrics::Counted,
    spec::{Spec, Work},
    thread::ScriptThreads,
};
use crate::{
    config::Config,
    control::exposition::{Exposition, Kind},
    worker::Control,
};

/// The native stack of the thread that compiles scripts of requests.
const MANAGE_STACK_BYTES: usize = 4 << 20;

const FAULTS_HELP: &str = "Apps whose file of triggers cannot be used: their messages and joins are refused.";

const STUCK_HELP: &str = "Threads with a script that is stuck in an operation that cannot be stopped.";

/// All triggers of a server.
pub(crate) struct Triggers {
    node: Arc<Node>,
    /// The folder of the triggers that were made over HTTP.
    folder: Option<Folder>,
    state: Mutex<State>,
}

struct State {
    /// `None` after the end.
    desk: Option<Arc<Desk>>,
    /// By the app's name.
    apps: BTreeMap<Box<str>, Catalog>,
}

/// The threads that run and change triggers.
pub(crate) struct TriggerThreads(Vec<JoinHandle<()>>);

/// A reloaded configuration's triggers, which take effect if the reload does.
pub(crate) struct Reloading<'t> {
    triggers: &'t Triggers,
    state: MutexGuard<'t, State>,
    apps: BTreeMap<Box<str>, Catalog>,
}

impl Triggers {
    /// Starts the threads, and gives each app its triggers.
    pub(crate) fn start(
        node: &Arc<Node>,
        control: &Arc<Control>,
        config: &Config,
        requests: Receiver<ManageRequest>,
    ) -> io::Result<(Arc<Self>, TriggerThreads)> {
        let weak = Arc::downgrade(node);
        let folder = config.data_dir.as_deref().map(Folder::open).transpose()?;
        let (scripts, guard) = ScriptThreads::start(&weak)?;
        let mut threads = vec![guard];
        let (http, thread) = HttpThread::start()?;
        threads.push(thread);
        let desk = Some(Arc::new(Desk { node: weak, control: control.clone(), scripts, http }));
        let state = Mutex::new(State { desk, apps: BTreeMap::new() });
        let triggers = Arc::new(Self { node: node.clone(), folder, state });
        triggers.reload(config).map_err(io::Error::other)?.finish();
        let (managing, control) = (triggers.clone(), control.clone());
        let thread = Builder::new().name("triggers-manage".into()).stack_size(MANAGE_STACK_BYTES);
        threads.push(thread.spawn(move || manage::serve(&managing, &requests, &control))?);
        Ok((triggers, TriggerThreads(threads)))
    }

    /// Prepares the triggers of a configuration. No other change comes between the preparation and its end.
    ///
    /// # Errors
    /// The sentence that says why an app cannot have its triggers.
    pub(crate) fn reload(&self, config: &Config) -> Result<Reloading<'_>, String> {
        let state = self.lock();
        let mut apps = BTreeMap::new();
        for (name, configured) in config.triggers() {
            let mut catalog = match state.apps.get(name) {
                Some(catalog) if catalog.fault.is_none() => catalog.clone(),
                _ => self.restore(name),
            };
            catalog.reconfigure(configured);
            if catalog.is_overfull() {
                return Err(format!(
                    "app `{name}` has more than {TRIGGERS} triggers, with those that were made over HTTP"
                ));
            }
            apps.insert(name.into(), catalog);
        }
        Ok(Reloading { triggers: self, state, apps })
    }

    /// The kept triggers of an app, without those of the configuration.
    fn restore(&self, app: &str) -> Catalog {
        match self.folder.as_ref().map(|folder| folder.read(app)) {
            None => Catalog::default(),
            Some(Ok(managed)) => Catalog { managed, ..Catalog::default() },
            Some(Err(fault)) => {
                tracing::error!(app, "the server {fault}: messages and joins of the app's clients fail");
                Catalog { fault: Some(fault.into()), ..Catalog::default() }
            }
        }
    }

    /// The triggers of an app.
    fn catalog(&self, app: &str) -> Catalog {
        self.lock().apps.get(app).cloned().unwrap_or_default()
    }

    /// Writes the metrics of triggers.
    pub(crate) fn put_metrics(&self, text: &mut Exposition) {
        let state = self.lock();
        let faults = state.apps.values().filter(|catalog| catalog.fault.is_some()).count();
        text.begin("fanfare_trigger_file_faults", Kind::Gauge, FAULTS_HELP);
        text.sample(&[], faults);
        let runs = state.desk.as_ref().map_or(0, |desk| desk.scripts.stuck());
        text.begin("fanfare_trigger_stuck_threads", Kind::Gauge, STUCK_HELP);
        text.sample(&[], runs + guard::stuck_aside());
        let mut all = Vec::new();
        for (app, catalog) in &state.apps {
            let specs = catalog.listed().map(|(_, spec)| spec);
            all.extend(specs.map(|spec| Counted {
                app,
                trigger: &spec.rule.name,
                numbers: &spec.numbers,
                asks_back_end: matches!(spec.work, Work::Http(_)),
            }));
        }
        metrics::put(text, &all);
    }

    /// Replaces the triggers of an app, for every worker at once.
    fn replace(&self, app: &Arc<App>, catalog: Catalog) {
        let mut state = self.lock();
        self.publish(&state, app, catalog.running());
        state.apps.insert(app.name.clone(), catalog);
    }

    /// Makes `specs` the triggers of an app, for every worker at once.
    fn publish(&self, state: &State, app: &Arc<App>, specs: Vec<Arc<Spec>>) {
        let Some(desk) = &state.desk else { return };
        let set = (!specs.is_empty()).then(|| {
            let rules = specs.iter().take(TRIGGERS).map(|spec| spec.rule.clone()).collect();
            let triggers = AppTriggers { app: app.clone(), specs, desk: desk.clone() };
            Arc::new(TriggerSet::new(rules, Arc::new(Runtime(Arc::new(triggers)))))
        });
        self.node.set_triggers(app.id, set);
    }

    /// Removes all triggers, so that the threads end after their present jobs.
    pub(crate) fn stop(&self) {
        let desk = self.lock().desk.take();
        self.node.apps().iter().for_each(|app| self.node.set_triggers(app.id, None));
        if let Some(desk) = desk {
            desk.http.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reloading<'_> {
    /// Makes the prepared triggers those of the apps.
    pub(crate) fn finish(self) {
        let Self { triggers, mut state, apps } = self;
        for app in triggers.node.apps().iter() {
            let catalog = apps.get(&app.name).cloned().unwrap_or_default();
            triggers.publish(&state, app, catalog.running());
        }
        state.apps = apps;
    }
}

impl TriggerThreads {
    /// Waits for the end of the threads, after all triggers were removed.
    pub(crate) fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a trigger thread panicked");
            }
        }
    }
}
