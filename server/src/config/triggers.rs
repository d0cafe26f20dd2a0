//! The `[[apps.<name>.triggers]]` entries of an app, checked and compiled.

use std::sync::Arc;

use fanfare_core::trigger::TRIGGERS;

use super::{apps::Section, error::ConfigError};
use crate::trigger::spec::{RawTrigger, Spec, Wrong};

/// Checks the entries of a section.
pub(super) fn build(section: &Section<'_>, raw: &[RawTrigger]) -> Result<Vec<Arc<Spec>>, ConfigError> {
    if raw.len() > TRIGGERS {
        return Err(section.refuse("triggers", format_args!("must not have more than {TRIGGERS} entries")));
    }
    let mut triggers: Vec<Arc<Spec>> = Vec::new();
    for (place, raw) in raw.iter().enumerate() {
        let entry = format!("triggers[{place}]");
        let checked = raw.with_file(section.base).and_then(|raw| raw.check(None));
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
