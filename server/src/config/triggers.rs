//! The `[[apps.<name>.triggers]]` entries of an app, checked and compiled.

use std::sync::Arc;

use fanfare_core::trigger::TRIGGERS;

use super::{apps::Section, error::ConfigError};
use crate::trigger::spec::{RawTrigger, Spec, Wrong};

/// Checks the entries of a section.
pub(super) fn build(section: &mut Section<'_>, raw: &[RawTrigger]) -> Result<Vec<Arc<Spec>>, ConfigError> {
    if raw.len() > TRIGGERS {
        return Err(section.refuse("triggers", format_args!("must not have more than {TRIGGERS} entries")));
    }
    let mut triggers: Vec<Arc<Spec>> = Vec::new();
    for (place, raw) in raw.iter().enumerate() {
        let entry = format!("triggers[{place}]");
        let secret_value = section.trigger_secret(&entry, raw)?;
        let checked = raw.with_file(section.base);
        let checked = checked.and_then(|raw| RawTrigger { secret_value, ..raw }.check(None));
        let spec = checked.map_err(|Wrong { key, problem }| match key {
            "" => section.refuse(&entry, problem),
            key => section.refuse(&format!("{entry}.{key}"), problem),
        })?;
        if triggers.iter().any(|other| other.rule.name == spec.rule.name) {
            let problem = format_args!("is `{}`, which another trigger has too", spec.rule.name);
            return Err(section.refuse(&format!("{entry}.name"), problem));
        }
        triggers.push(Arc::new(spec));
    }
    Ok(triggers)
}

/// The trigger of the demo's chat room, which masks bad words.
pub(super) fn of_demo() -> Result<Arc<Spec>, ConfigError> {
    let raw = RawTrigger {
        name: "words".into(),
        description: Some("Masks two bad words.".into()),
        channel: "*".into(),
        source: Some(include_str!("../../assets/demo/words.js").into()),
        ..RawTrigger::default()
    };
    let wrong = |Wrong { key, problem }| ConfigError::setting(format!("triggers[0].{key}"), problem);
    raw.check(None).map(Arc::new).map_err(wrong)
}

impl Section<'_> {
    /// The secret of a trigger's requests, if the trigger names a variable that holds it.
    fn trigger_secret(&mut self, entry: &str, raw: &RawTrigger) -> Result<Option<String>, ConfigError> {
        if let Some(secret) = &raw.secret {
            self.check_placeholder(&format!("{entry}.secret"), secret, "secret_env")?;
        }
        let key = format!("{entry}.secret_env");
        raw.secret_env.as_ref().map(|variable| self.variable(&key, variable)).transpose()
    }
}
