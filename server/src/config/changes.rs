//! The differences between two configurations, and the settings that can change while the server runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use fanfare_core::app::App;
use toml::Value;

use super::{Config, ConfigError};
use crate::args::Secrets;

/// The settings of the server that can change while it runs. A setting in neither list needs a restart.
const LIVE: [&str; 28] = [
    "server.limits.address_connections",
    "server.limits.address_handshakes_per_second",
    "server.limits.address_failed_keys_per_minute",
    "server.trusted_proxies",
    "server.forwarding_header",
    "server.spin_us",
    "server.ping_interval_ms",
    "server.request_timeout_ms",
    "server.message_timeout_ms",
    "server.keep_alive_ms",
    "server.drain_spread_ms",
    "server.drain_ms",
    "server.limits.memory_bytes",
    "server.limits.frame_bytes",
    "server.limits.fragments",
    "server.limits.head_bytes",
    "server.limits.headers",
    "server.limits.body_bytes",
    "certificate_file",
    "key_file",
    "client_ca_file",
    "acme",
    "server.acme.domains",
    "server.acme.contact",
    "server.acme.agree_to_terms",
    "server.acme.directory",
    "server.acme.directory_ca_file",
    "server.acme.retry_s",
];

/// The settings of an app that can change while the server runs, by the first word after the app's name.
const LIVE_IN_APP: [&str; 29] = [
    "keys",
    "key_required",
    "member_addresses",
    "session_invalid",
    "client_keys",
    "client_key_env",
    "server_keys",
    "server_key_env",
    "origins",
    "session_required",
    "session_exp_required",
    "session_leeway_seconds",
    "session_keys",
    "session_key_sets",
    "echo",
    "membership_to_send",
    "announce",
    "presence_by_user",
    "slow_consumer",
    "history_messages",
    "history_bytes",
    "history_age_s",
    "show_sender",
    "sender_edits",
    "limits",
    "channels",
    "agnost",
    "xano",
    "triggers",
];

/// One setting with different values in two configurations.
#[derive(Clone, Debug)]
pub struct Change {
    /// The key of the setting.
    pub key: String,
    /// When the change takes effect.
    pub when: When,
    /// The values before and after, except secrets.
    shown: String,
}

/// When a changed setting takes effect.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum When {
    /// The change takes effect with a reload.
    Reload,
    /// The change takes effect with a restart.
    Restart,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Reload => "",
            When::Restart => " (needs a restart)",
        };
        write!(f, "{}: {}{when}", self.key, self.shown)
    }
}

impl Config {
    /// Reads the command line, the environment and the file again.
    ///
    /// # Errors
    /// The errors of [`Config::load`]; also if there is no file, or no app in the file.
    pub fn reread(&self) -> Result<Config, ConfigError> {
        let nothing = |problem: &str| ConfigError::setting("--config", problem);
        if self.file.is_none() {
            return Err(nothing("was not given: there is no file to read again"));
        }
        let config = Config::load(&self.args, std::env::vars_os())?;
        if config.development.is_some() || self.development.is_some() {
            return Err(nothing("names a file without an app: development keys last for one run"));
        }
        if let (Some(old), Some(new)) = (self.acme(), config.acme())
            && new.is_same(&old)
        {
            new.issued.join(&old.issued);
        }
        Ok(config)
    }

    /// The settings that differ in `new`.
    pub fn changes(&self, new: &Config) -> Vec<Change> {
        let (before, after) = (flat(self), flat(new));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let lone = lone_apps(self, new);
        let is_lone = |key: &str| lone.iter().any(|app| key.starts_with(&format!("{}.", app.key)));
        let differs = |key: &&String| before.get(*key) != after.get(*key) && !is_lone(key);
        let change = |key: &String| Change {
            key: key.clone(),
            when: when(key, new),
            shown: shown(key, before.get(key), after.get(key)),
        };
        let mut changes: Vec<Change> = keys.into_iter().filter(differs).map(change).collect();
        changes.extend(lone);
        for (place, (old, new)) in self.groups.iter().zip(&new.groups).enumerate() {
            if old.fingerprint != new.fingerprint {
                changes.push(Change {
                    key: format!("server.listeners[{place}]"),
                    when: When::Reload,
                    shown: String::from("its files have other contents"),
                });
            }
        }
        changes
    }
}

/// The apps that only one of two configurations has.
fn lone_apps(before: &Config, after: &Config) -> Vec<Change> {
    let without = |of: &Config, other: &Config, shown: &'static str| {
        let lone = of.apps.iter().filter(|app| other.apps.by_name(&app.name).is_none());
        let change = |app: &Arc<App>| Change {
            key: format!("apps.{}", app.name),
            // Channelstream's paths are found when the server starts.
            when: if app.channelstream.is_some() { When::Restart } else { When::Reload },
            shown: String::from(shown),
        };
        lone.map(change).collect::<Vec<_>>()
    };
    [without(before, after, "is gone"), without(after, before, "is new")].concat()
}

/// Every value of a configuration, by its key.
fn flat(config: &Config) -> BTreeMap<String, String> {
    let printed = config.to_toml(Secrets::Shown);
    let table: toml::Table = printed.parse().expect("what is printed is TOML");
    let mut values = BTreeMap::new();
    flatten("", &Value::Table(table), &mut values);
    values
}

fn flatten(key: &str, value: &Value, values: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, values);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (place, value) in list.iter().enumerate() {
                flatten(&format!("{key}[{place}]"), value, values);
            }
        }
        other => {
            values.insert(String::from(key), other.to_string());
        }
    }
}

fn when(key: &str, after: &Config) -> When {
    let last = key.rsplit('.').next().unwrap_or(key);
    let is_live = match key.strip_prefix("apps.") {
        Some(rest) => {
            let names = after.apps.iter().map(|app| &*app.name);
            let mut inside = names.filter_map(|name| rest.strip_prefix(name)?.strip_prefix('.'));
            let word = |inside: &str| inside.split(['.', '[']).next().map(String::from).unwrap_or_default();
            inside.any(|inside| LIVE_IN_APP.contains(&&*word(inside)))
        }
        None => LIVE.contains(&key) || (key.starts_with("server.listeners[") && LIVE.contains(&last)),
    };
    if is_live { When::Reload } else { When::Restart }
}

fn shown(key: &str, before: Option<&String>, after: Option<&String>) -> String {
    let is_secret = ["key", "secret"].iter().any(|word| key.contains(word));
    let text = |value: Option<&String>| value.map_or(String::from("not set"), Clone::clone);
    match is_secret {
        true => String::from("is different"),
        false => format!("{} -> {}", text(before), text(after)),
    }
}
