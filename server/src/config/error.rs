//! Why a configuration was refused, in one sentence that names the key and what to change.

use std::fmt;
use std::io;
use std::path::PathBuf;

use fanfare_core::app::AppsError;

use super::Endpoint;

/// A configuration that cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// A file that the configuration names, or the configuration file itself, cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not TOML, or has a key or a type of value that does not belong there.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where the file's reader could tell.
        line: Option<usize>,
        /// What is wrong there.
        problem: String,
    },
    /// One setting has a value that it cannot have.
    Setting {
        /// The setting as it was given: a key of the file, a variable or a flag.
        name: String,
        /// What is wrong, and what would not be.
        problem: String,
    },
    /// A variable that looks like a mistyped setting.
    Variable {
        /// The variable.
        name: String,
        /// The setting it resembles.
        nearest: String,
    },
    /// The names of the apps, or how many there are.
    Apps(AppsError),
    /// Development keys, and an address that other machines can reach.
    DevelopmentExposed(Endpoint),
    /// The operating system has no randomness to make keys from.
    NoRandomness,
}

impl ConfigError {
    pub(super) fn setting(name: impl Into<String>, problem: impl fmt::Display) -> ConfigError {
        ConfigError::Setting { name: name.into(), problem: problem.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "Cannot read `{}`: {source}.", path.display()),
            Self::File { path, line: Some(line), problem } => {
                write!(f, "`{}`, line {line}: {problem}.", path.display())
            }
            Self::File { path, line: None, problem } => write!(f, "`{}`: {problem}.", path.display()),
            Self::Setting { name, problem } => write!(f, "`{name}` {problem}."),
            Self::Variable { name, nearest } => {
                write!(
                    f,
                    "The environment variable `{name}` is not a setting: unset it, or rename it to `{nearest}`."
                )
            }
            Self::Apps(error) => error.fmt(f),
            Self::DevelopmentExposed(address) => write!(
                f,
                "Without an app in the configuration file there are only development keys, which are not served on \
                 {address}: add `[apps.default]` with `client_keys` and `server_keys`, or listen on 127.0.0.1."
            ),
            Self::NoRandomness => f.write_str(
                "The operating system gives no random numbers for development keys: set FANFARE_DEV_KEY, or \
                 configure an app.",
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Apps(error) => Some(error),
            _ => None,
        }
    }
}
