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

pub(crate) mod desk;
pub(crate) mod http;
pub(crate) mod input;
pub(crate) mod metrics;
pub(crate) mod script;
pub(crate) mod spec;
pub(crate) mod state;
mod thread;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use fanfare_core::{
    app::{App, AppId},
    engine::Node,
    trigger::{TRIGGERS, TriggerSet},
};

use self::{
    desk::{AppTriggers, Desk, Runtime},
    http::HttpThread,
    spec::Spec,
    thread::ScriptThreads,
};
use crate::worker::Control;

/// All triggers of a server.
pub(crate) struct Triggers {
    node: Arc<Node>,
    desk: Arc<Desk>,
    /// The triggers by app. The lock orders changes.
    apps: Mutex<Vec<Vec<Arc<Spec>>>>,
}

/// The threads that run triggers.
pub(crate) struct TriggerThreads(Vec<JoinHandle<()>>);

impl Triggers {
    /// Starts the threads, and gives each app the triggers of the configuration.
    pub(crate) fn start(
        node: &Arc<Node>,
        control: &Arc<Control>,
        configured: &[Vec<Arc<Spec>>],
    ) -> io::Result<(Arc<Self>, TriggerThreads)> {
        let weak = Arc::downgrade(node);
        let (scripts, mut threads) = ScriptThreads::start(1, &weak)?;
        let (http, thread) = HttpThread::start()?;
        threads.push(thread);
        let desk = Arc::new(Desk { node: weak, control: control.clone(), scripts, http });
        let apps = Mutex::new(configured.to_vec());
        let triggers = Arc::new(Self { node: node.clone(), desk, apps });
        for app in node.apps().iter() {
            triggers.publish(app, triggers.of(app.id));
        }
        Ok((triggers, TriggerThreads(threads)))
    }

    /// The triggers of an app, in the order in which they run.
    pub(crate) fn of(&self, app: AppId) -> Vec<Arc<Spec>> {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        apps.get(usize::from(app.0)).cloned().unwrap_or_default()
    }

    /// Makes `specs` the triggers of an app, for every worker at once.
    fn publish(&self, app: &Arc<App>, specs: Vec<Arc<Spec>>) {
        let set = (!specs.is_empty()).then(|| {
            let rules = specs.iter().take(TRIGGERS).map(|spec| spec.rule.clone()).collect();
            let triggers = AppTriggers { app: app.clone(), specs, desk: self.desk.clone() };
            Arc::new(TriggerSet::new(rules, Arc::new(Runtime(Arc::new(triggers)))))
        });
        self.node.set_triggers(app.id, set);
    }

    /// Removes all triggers, so that the threads end after their present jobs.
    pub(crate) fn stop(&self) {
        self.node.apps().iter().for_each(|app| self.node.set_triggers(app.id, None));
        self.desk.http.stop();
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
