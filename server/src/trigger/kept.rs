//! The files in which triggers that were made over HTTP outlive the server: one for each app.
//!
//! A file is replaced as a whole. Whatever interrupts a replacement, the file has the old triggers or the new
//! ones.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::spec::{RawTrigger, Spec, Wrong};
use crate::sys::replace_file;

/// The folder of the files.
pub(super) struct Folder(PathBuf);

/// The contents of a file.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    triggers: Vec<RawTrigger>,
}

impl Folder {
    /// The folder `triggers` of the data directory, which is made if it is missing.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("triggers");
        fs::create_dir_all(&folder).map_err(|error| {
            let sentence = format!("cannot make `{}` (`server.data_dir`): {error}", folder.display());
            io::Error::new(error.kind(), sentence)
        })?;
        Ok(Self(folder))
    }

    fn file(&self, app: &str) -> PathBuf {
        self.0.join(format!("{app}.json"))
    }

    /// Replaces the triggers of an app.
    pub(super) fn write(&self, app: &str, specs: &[Arc<Spec>]) -> io::Result<()> {
        let kept = Kept { triggers: specs.iter().map(|spec| spec.raw.clone()).collect() };
        // Only the owner may read the file: a trigger may have a secret.
        replace_file(&self.file(app), &serde_json::to_vec_pretty(&kept)?)
    }

    /// The triggers of an app. A trigger that cannot run any more fails in every run, as its `on_error` says.
    ///
    /// # Errors
    /// The sentence that says why the file as a whole cannot be used.
    pub(super) fn read(&self, app: &str) -> Result<Vec<Arc<Spec>>, String> {
        let path = self.file(app);
        let unusable = |why: &dyn std::fmt::Display| format!("cannot use `{}`: {why}", path.display());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(&error)),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| unusable(&error))?;
        let mut specs: Vec<Arc<Spec>> = Vec::new();
        for raw in kept.triggers {
            let name = raw.name.clone();
            if specs.iter().any(|other| *other.rule.name == *name) {
                return Err(unusable(&format_args!("two triggers have the name `{name}`")));
            }
            let spec = raw.clone().check(None).or_else(|wrong| {
                tracing::error!(app, trigger = name, "{}: the trigger fails in every run", unusable(&wrong));
                raw.broken(&wrong)
            });
            let about = |wrong: Wrong| unusable(&format_args!("the trigger `{name}`: {wrong}"));
            specs.push(Arc::new(spec.map_err(about)?));
        }
        Ok(specs)
    }
}
