//! Which of flag, variable, file and default a setting has its value from.
//!
//! A setting has one key, as in `server.limits.frame_bytes`, and its other names follow from it: the variable
//! is `FANFARE_` and the last word in capitals, the flag is `--` and that word with dashes. In `[log]`, the
//! level is just `LOG`, and the others begin with it. Flags go before variables, variables before the file,
//! the file before the default; a variable that is set to nothing is not set. Each value keeps the name it
//! was given by, for errors.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::error::ConfigError;
use super::raw::nearest;

/// Every variable of the server's own begins with this.
const PREFIX: &str = "FANFARE_";

/// An unknown variable that is this close to a setting is taken for a typing error.
const TYPING_ERRORS_MAX: usize = 2;

/// The process's environment, and which variables have been asked for: as settings, which have fixed names,
/// or as references, whose names the file chose.
#[derive(Default)]
pub(super) struct Environment {
    variables: BTreeMap<String, OsString>,
    settings: BTreeSet<String>,
    references: BTreeSet<String>,
}

/// A value, and the name it was given by.
pub(super) struct Given<T> {
    pub(super) name: String,
    pub(super) value: T,
}

impl Environment {
    pub(super) fn new<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Environment {
        let text = |name: OsString| name.to_string_lossy().into_owned();
        let variables = variables.into_iter().map(|(name, value)| (text(name.into()), value.into()));
        Environment {
            variables: variables.filter(|(_, value)| !value.is_empty()).collect(),
            settings: BTreeSet::new(),
            references: BTreeSet::new(),
        }
    }

    /// The value of a variable that is a setting, if it is set to something.
    pub(super) fn setting(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        self.settings.insert(String::from(name));
        self.value(name)
    }

    /// The value of a variable that the file refers to, if it is set to something.
    pub(super) fn reference(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        self.references.insert(String::from(name));
        self.value(name)
    }

    fn value(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.variables.get(name) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| ConfigError::setting(name, "is not UTF-8"))?;
        Ok(Some(String::from(text)))
    }

    /// The texts a setting has from flags, from its variable (which separates them by commas) or from the
    /// file.
    pub(super) fn texts(
        &mut self,
        key: &str,
        flags: &[String],
        file: Option<&[String]>,
    ) -> Result<Option<Given<Vec<String>>>, ConfigError> {
        if !flags.is_empty() {
            return Ok(Some(Given { name: flag_name(key), value: flags.to_vec() }));
        }
        let variable = variable_name(key);
        if let Some(list) = self.setting(&variable)? {
            let value = list.split(',').map(|text| String::from(text.trim())).collect();
            return Ok(Some(Given { name: variable, value }));
        }
        Ok(file.map(|file| Given { name: String::from(key), value: file.to_vec() }))
    }

    /// The text a setting has from its flag, its variable or the file.
    pub(super) fn text(
        &mut self,
        key: &str,
        flag: Option<&String>,
        file: Option<&String>,
    ) -> Result<Option<Given<String>>, ConfigError> {
        if let Some(flag) = flag {
            return Ok(Some(Given { name: flag_name(key), value: flag.clone() }));
        }
        let variable = variable_name(key);
        if let Some(value) = self.setting(&variable)? {
            return Ok(Some(Given { name: variable, value }));
        }
        Ok(file.map(|file| Given { name: String::from(key), value: file.clone() }))
    }

    /// The number a setting has from its variable, the file or the default.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        file: Option<i64>,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> Result<T, ConfigError> {
        let variable = variable_name(key);
        match self.setting(&variable)? {
            Some(text) => match text.parse() {
                Ok(value) => within(&variable, value, range),
                Err(_) => Err(out_of_range(&variable, &text, &range)),
            },
            None => within(key, file.unwrap_or(default), range),
        }
    }

    /// Looks at the variables that begin with `FANFARE_` and that nobody asked for. One that resembles a
    /// setting is an error. Any other is a warning only: Kubernetes, for one, gives every container such
    /// variables for a service named `fanfare`.
    pub(super) fn check_unknown(&self) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for name in self.variables.keys() {
            if !name.starts_with(PREFIX) || self.settings.contains(name) || self.references.contains(name) {
                continue;
            }
            let settings = self.settings.iter().map(String::as_str);
            if let Some(nearest) = nearest(name, settings, TYPING_ERRORS_MAX) {
                return Err(ConfigError::Variable { name: name.clone(), nearest: String::from(nearest) });
            }
            warnings.push(format!("The environment variable `{name}` is not a setting, and has no effect."));
        }
        Ok(warnings)
    }
}

/// Holds `value` to its range.
pub(super) fn within<T: TryFrom<i64>>(
    name: &str,
    value: i64,
    range: RangeInclusive<i64>,
) -> Result<T, ConfigError> {
    let converted = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
    converted.ok_or_else(|| out_of_range(name, &value, &range))
}

pub(super) fn out_of_range(name: &str, value: &dyn Display, range: &RangeInclusive<i64>) -> ConfigError {
    let (min, max) = (range.start(), range.end());
    ConfigError::setting(name, format_args!("is {value}: it must be a whole number from {min} to {max}"))
}

fn short_name(key: &str) -> String {
    match key.strip_prefix("log.") {
        Some("level") => String::from("log"),
        Some(rest) => format!("log_{rest}"),
        None => String::from(key.rsplit('.').next().unwrap_or(key)),
    }
}

fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", short_name(key).to_ascii_uppercase())
}

fn flag_name(key: &str) -> String {
    format!("--{}", short_name(key).replace('_', "-"))
}
