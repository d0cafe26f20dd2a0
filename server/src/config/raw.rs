//! The configuration file as it is written: every key optional, no value checked beyond its type.
//!
//! These structures are also what a printed configuration is written from, so what is printed is what can be
//! read. They hold secrets, and therefore have no `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::ConfigError;
use crate::trigger::spec::RawTrigger;

/// How many edits away a key may be to be suggested for an unknown one.
const TYPING_ERRORS_MAX: usize = 3;

/// The sections of a file.
const SECTIONS: [&str; 3] = ["server", "log", "apps"];

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    #[serde(deserialize_with = "table")]
    pub(super) server: Server,
    #[serde(deserialize_with = "table")]
    pub(super) log: Log,
    #[serde(deserialize_with = "named_tables", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) apps: BTreeMap<String, App>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: Option<Texts>,
    pub(super) admin_listen: Option<String>,
    pub(super) socket_mode: Option<String>,
    pub(super) trusted_proxies: Option<Texts>,
    pub(super) forwarding_header: Option<String>,
    pub(super) dashboard_password: Option<String>,
    /// An integer, or the word `auto`.
    pub(super) workers: Option<toml::Value>,
    pub(super) pin: Option<bool>,
    pub(super) spin_us: Option<i64>,
    pub(super) ping_interval_ms: Option<i64>,
    pub(super) request_timeout_ms: Option<i64>,
    pub(super) message_timeout_ms: Option<i64>,
    pub(super) keep_alive_ms: Option<i64>,
    pub(super) access_tokens: Option<Texts>,
    pub(super) drain_spread_ms: Option<i64>,
    pub(super) drain_ms: Option<i64>,
    pub(super) data_dir: Option<String>,
    pub(super) backlog: Option<i64>,
    #[serde(deserialize_with = "table")]
    pub(super) limits: ServerLimits,
    #[serde(deserialize_with = "some_table", skip_serializing_if = "Option::is_none")]
    pub(super) acme: Option<Acme>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) listeners: Vec<Listener>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listener {
    pub(super) listen: Option<Texts>,
    pub(super) proxy_protocol: Option<bool>,
    pub(super) certificate_file: Option<Texts>,
    pub(super) key_file: Option<Texts>,
    pub(super) client_ca_file: Option<String>,
    pub(super) acme: Option<bool>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Acme {
    pub(super) domains: Option<Texts>,
    pub(super) contact: Option<Texts>,
    pub(super) agree_to_terms: Option<bool>,
    pub(super) directory: Option<String>,
    pub(super) directory_ca_file: Option<String>,
    pub(super) retry_s: Option<i64>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerLimits {
    pub(super) connections: Option<i64>,
    pub(super) address_connections: Option<i64>,
    pub(super) address_handshakes_per_second: Option<i64>,
    pub(super) address_failed_keys_per_minute: Option<i64>,
    pub(super) memory_bytes: Option<i64>,
    pub(super) frame_bytes: Option<i64>,
    pub(super) fragments: Option<i64>,
    pub(super) head_bytes: Option<i64>,
    pub(super) headers: Option<i64>,
    pub(super) body_bytes: Option<i64>,
    pub(super) mailbox_depth: Option<i64>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct App {
    pub(super) client_keys: Option<Texts>,
    /// Another name of `client_keys`.
    pub(super) client_key: Option<Texts>,
    pub(super) client_key_env: Option<Texts>,
    pub(super) server_keys: Option<Texts>,
    /// Another name of `server_keys`.
    pub(super) server_key: Option<Texts>,
    pub(super) server_key_env: Option<Texts>,
    pub(super) origins: Option<Texts>,
    pub(super) key_required: Option<bool>,
    pub(super) member_addresses: Option<bool>,
    pub(super) session_required: Option<bool>,
    pub(super) session_exp_required: Option<bool>,
    pub(super) session_leeway_seconds: Option<i64>,
    pub(super) session_user_claim: Option<String>,
    pub(super) session_id_claim: Option<String>,
    pub(super) session_invalid: Option<String>,
    pub(super) echo: Option<bool>,
    pub(super) membership_to_send: Option<bool>,
    pub(super) announce: Option<bool>,
    pub(super) presence_by_user: Option<bool>,
    pub(super) slow_consumer: Option<String>,
    pub(super) history_messages: Option<i64>,
    pub(super) history_bytes: Option<i64>,
    pub(super) history_age_s: Option<i64>,
    pub(super) show_sender: Option<bool>,
    pub(super) sender_edits: Option<bool>,
    #[serde(deserialize_with = "table")]
    pub(super) limits: AppLimits,
    #[serde(deserialize_with = "some_table", skip_serializing_if = "Option::is_none")]
    pub(super) agnost: Option<Agnost>,
    #[serde(deserialize_with = "some_table", skip_serializing_if = "Option::is_none")]
    pub(super) channelstream: Option<Channelstream>,
    #[serde(deserialize_with = "some_table", skip_serializing_if = "Option::is_none")]
    pub(super) xano: Option<Xano>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) channels: Vec<ChannelRule>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) triggers: Vec<RawTrigger>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) session_keys: Vec<SessionKey>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<Key>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) session_key_sets: Vec<SessionKeySet>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AppLimits {
    pub(super) message_bytes: Option<i64>,
    pub(super) profile_bytes: Option<i64>,
    pub(super) channel_name_bytes: Option<i64>,
    pub(super) event_name_bytes: Option<i64>,
    pub(super) channels_per_connection: Option<i64>,
    pub(super) connections: Option<i64>,
    pub(super) messages_per_second: Option<i64>,
    pub(super) outbound_bytes: Option<i64>,
    pub(super) history_bytes: Option<i64>,
    pub(super) members_bytes: Option<i64>,
    pub(super) resume_ms: Option<i64>,
    pub(super) resume_bytes: Option<i64>,
    pub(super) parked_sessions: Option<i64>,
    pub(super) parked_bytes: Option<i64>,
    pub(super) trigger_calls: Option<i64>,
    pub(super) trigger_bytes: Option<i64>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agnost {
    pub(super) env_id: Option<String>,
    pub(super) subdomain: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) key_required: Option<bool>,
    pub(super) session_required: Option<bool>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Xano {
    pub(super) canonical: Option<String>,
    pub(super) hash: Option<String>,
    pub(super) enabled: Option<bool>,
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub(super) channels: Vec<XanoChannel>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct XanoChannel {
    pub(super) pattern: Option<String>,
    pub(super) description: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) wildcard: Option<bool>,
    pub(super) anonymous_clients: Option<bool>,
    pub(super) presence: Option<bool>,
    pub(super) history: Option<i64>,
    pub(super) client_public_messaging: Option<bool>,
    pub(super) client_public_messaging_authenticated_only: Option<bool>,
    pub(super) client_authenticated_messaging: Option<bool>,
    pub(super) client_private_messaging: Option<bool>,
    pub(super) client_private_messaging_authenticated_only: Option<bool>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Channelstream {
    pub(super) secret: Option<String>,
    pub(super) secret_env: Option<String>,
    pub(super) allow_posting_from: Option<Texts>,
    pub(super) validate_requests: Option<bool>,
    pub(super) admin_user: Option<String>,
    pub(super) admin_secret: Option<String>,
    pub(super) admin_secret_env: Option<String>,
    pub(super) allow_cors: Option<Texts>,
    pub(super) prefix: Option<String>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ChannelRule {
    pub(super) r#match: Option<String>,
    pub(super) membership_to_send: Option<bool>,
    pub(super) announce: Option<bool>,
    pub(super) presence_by_user: Option<bool>,
    pub(super) slow_consumer: Option<String>,
    pub(super) history_messages: Option<i64>,
    pub(super) history_bytes: Option<i64>,
    pub(super) history_age_s: Option<i64>,
    pub(super) join: Option<String>,
    pub(super) publish: Option<String>,
    pub(super) direct: Option<String>,
    pub(super) signed_in_messages: Option<String>,
    pub(super) roster: Option<bool>,
    pub(super) user_state: Option<bool>,
    pub(super) user_lists: Option<bool>,
    pub(super) presence_batch_ms: Option<i64>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SessionKey {
    pub(super) algorithm: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) secret_env: Option<String>,
    pub(super) public_key: Option<String>,
    pub(super) public_key_file: Option<String>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Key {
    pub(super) key: Option<String>,
    pub(super) key_env: Option<String>,
    pub(super) role: Option<String>,
    pub(super) expires_at: Option<toml::value::Datetime>,
    pub(super) origins: Option<Texts>,
    pub(super) addresses: Option<Texts>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SessionKeySet {
    pub(super) url: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) allow_http: Option<bool>,
    pub(super) floor_s: Option<i64>,
}

/// One string, or a list of them.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![String::from(text)]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// A section, which is a table and nothing else: a derived reader would take a list of the values as well,
/// and read `client_keys` right under `[apps]` as an app of that name.
struct Section<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionVisitor(PhantomData)).map(Section)
    }
}

struct SectionVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section with keys of its own")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

fn table<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Section::deserialize(deserializer).map(|Section(table)| table)
}

fn some_table<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    table(deserializer).map(Some)
}

fn tables<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list: Vec<Section<T>> = Vec::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Section(table)| table).collect())
}

fn named_tables<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let map: BTreeMap<String, Section<T>> = BTreeMap::deserialize(deserializer)?;
    Ok(map.into_iter().map(|(name, Section(table))| (name, table)).collect())
}

impl File {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<File, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
        File::parse(&text, path)
    }

    /// Reads `text`, the content of `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<File, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| span.start.min(text.len()));
            ConfigError::File {
                path: path.to_path_buf(),
                line: at.map(|at| 1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()),
                problem: explain(error.message(), at.and_then(|at| key_at(text, at))),
            }
        })
    }
}

/// Makes one clause of the reader's message: suggests a key for an unknown one, and names the key whose value
/// has the wrong type.
fn explain(message: &str, key: Option<&str>) -> String {
    let message = message
        .trim_end_matches('.')
        .replace('\n', ", ")
        .replace(" as i128", "")
        .replace("expected i64", "expected an integer");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let unknown = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        if SECTIONS.contains(&unknown) {
            return format!("there is no key `{unknown}` here: `[{unknown}]` is a section of its own");
        }
        // A short word that is changed in half of its letters is another word.
        let edits_max = TYPING_ERRORS_MAX.min(unknown.len().div_ceil(3));
        return match nearest(unknown, known.iter().copied(), edits_max) {
            Some(near) => format!("there is no key `{unknown}` here, but there is `{near}`"),
            None => format!("there is no key `{unknown}` here, only {}", known.join(", ")),
        };
    }
    match key {
        Some(key) if message.starts_with("invalid type") => format!("`{key}` has an {message}"),
        _ => message,
    }
}

/// The key of the `key = value` on the line of byte `at`.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let start =
        text.as_bytes()[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let key = text.get(start..)?.lines().next()?.split_once('=')?.0.trim();
    (!key.is_empty()).then_some(key)
}

/// The one of `known` that is the fewest edits from `name`, if those are at most `edits_max`.
pub(super) fn nearest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    edits_max: usize,
) -> Option<&'a str> {
    let edits = |known| (strsim::osa_distance(name, known), known);
    known.into_iter().map(edits).filter(|(edits, _)| *edits <= edits_max).min().map(|(_, known)| known)
}
