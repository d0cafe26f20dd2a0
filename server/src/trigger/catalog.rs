//! The triggers of an app by their origin: the configuration, or requests over HTTP.
//!
//! A name belongs to the configuration as long as the configuration has it. A trigger that was made over HTTP
//! under such a name does not run, and runs again when the configuration gives the name up.

use std::sync::Arc;

use fanfare_core::trigger::TRIGGERS;

use super::spec::Spec;

/// The triggers of an app.
#[derive(Clone, Default)]
pub(super) struct Catalog {
    /// The triggers of the configuration, in its order.
    pub(super) configured: Vec<Arc<Spec>>,
    /// The triggers that were made over HTTP, in the order in which they were made.
    pub(super) managed: Vec<Arc<Spec>>,
    /// Why the app's file of managed triggers cannot be used.
    pub(super) fault: Option<Box<str>>,
}

/// The origin of a trigger.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Origin {
    Configuration,
    Http,
}

impl Catalog {
    /// The triggers in the order in which they run.
    pub(super) fn listed(&self) -> impl Iterator<Item = (Origin, &Arc<Spec>)> {
        let configured = self.configured.iter().map(|spec| (Origin::Configuration, spec));
        let managed = self.managed.iter().map(|spec| (Origin::Http, spec));
        configured.chain(managed.filter(|(_, spec)| named(&self.configured, &spec.rule.name).is_none()))
    }

    /// The trigger of a name.
    pub(super) fn find(&self, name: &str) -> Option<(Origin, &Arc<Spec>)> {
        self.listed().find(|(_, spec)| *spec.rule.name == *name)
    }

    /// The triggers that the engine runs. If the file of managed triggers cannot be used, the first trigger
    /// fails whatever a client does, because a trigger of the file may have been meant to refuse it.
    pub(super) fn running(&self) -> Vec<Arc<Spec>> {
        let fault = self.fault.as_ref().map(|fault| Arc::new(Spec::closed(fault)));
        fault.into_iter().chain(self.listed().map(|(_, spec)| spec.clone())).collect()
    }

    /// Whether the app has more triggers than it may have.
    pub(super) fn is_overfull(&self) -> bool {
        self.listed().count() > TRIGGERS
    }

    /// Takes over the triggers of another configuration. Triggers that stay the same are not made anew, and
    /// changed ones keep their states and counts.
    pub(super) fn reconfigure(&mut self, configured: &[Arc<Spec>]) {
        let renew = |new: &Arc<Spec>| match named(&self.configured, &new.rule.name) {
            Some(old) if old.raw == new.raw => old.clone(),
            Some(old) => Arc::new(new.after(old)),
            None => new.clone(),
        };
        self.configured = configured.iter().map(renew).collect();
    }

    /// Puts a managed trigger in the place of the one with its name, or behind the others.
    pub(super) fn put(&mut self, spec: Spec) {
        let spec = Arc::new(spec);
        match self.managed.iter_mut().find(|other| other.rule.name == spec.rule.name) {
            Some(place) => *place = spec,
            None => self.managed.push(spec),
        }
    }

    /// Removes a managed trigger.
    pub(super) fn remove(&mut self, name: &str) {
        self.managed.retain(|spec| *spec.rule.name != *name);
    }
}

fn named<'a>(specs: &'a [Arc<Spec>], name: &str) -> Option<&'a Arc<Spec>> {
    specs.iter().find(|spec| *spec.rule.name == *name)
}
