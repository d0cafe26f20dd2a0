//! `[apps.<name>.xano]`: the options of an app for Xano's clients. The default canonical is the app's name.

use std::collections::HashSet;

use fanfare_core::app::{App, AppLimits, Who, XanoChannel, XanoOptions};
use serde_json::{Map, Value};

use super::{
    apps::Section,
    error::ConfigError,
    layers::{Environment, within},
    raw,
};

/// The most entries. A channel's name is compared with each of them.
const CHANNELS_MAX: usize = 256;
/// The most bytes of a canonical and of a hash.
const NAME_BYTES_MAX: usize = 256;
/// The most bytes of a channel's description.
const DESCRIPTION_BYTES_MAX: usize = 1024;
/// The most messages that a channel may remember.
const HISTORY_MAX: i64 = 1000;

/// Reads the section's options, and adds the entries' rules about channels to the app.
pub(super) fn build(
    section: &Section<'_>,
    raw: &raw::Xano,
    app: &mut App,
) -> Result<XanoOptions, ConfigError> {
    let refuse = |key: &str, problem: &str| section.refuse(&format!("xano.{key}"), problem);
    let name = |key: &str, text: &str| {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        let is_segment = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#%".contains(&byte));
        match fits && is_segment {
            true => Ok(Box::from(text)),
            false => {
                let problem = "must have 1 to 256 visible ASCII characters other than `/`, `?`, `#` and `%`";
                Err(refuse(key, problem))
            }
        }
    };
    if raw.channels.len() > CHANNELS_MAX {
        return Err(refuse("channels", "must not have more than 256 entries"));
    }
    let default = XanoOptions::new(&app.name);
    let mut options = XanoOptions {
        canonical: raw.canonical.as_deref().map_or(Ok(default.canonical), |text| name("canonical", text))?,
        hash: raw.hash.as_deref().map(|text| name("hash", text)).transpose()?,
        enabled: raw.enabled.unwrap_or(default.enabled),
        channels: Vec::new(),
    };
    let mut patterns: HashSet<Box<str>> = app.rules.iter().map(|rule| rule.pattern.clone()).collect();
    for (place, raw) in raw.channels.iter().enumerate() {
        let channel = channel(section, &format!("xano.channels[{place}]"), raw)?;
        // An entry that is switched off has no rules about channels.
        let rules = channel.rules(app.default_options()).into_iter().filter(|_| channel.enabled);
        for rule in rules {
            if !patterns.insert(rule.pattern.clone()) {
                let problem = format!("is about `{}`, as another entry is: keep one of them", rule.pattern);
                return Err(refuse(&format!("channels[{place}].pattern"), &problem));
            }
            app.rules.push(rule);
        }
        options.channels.push(channel);
    }
    Ok(options)
}

fn channel(section: &Section<'_>, entry: &str, raw: &raw::XanoChannel) -> Result<XanoChannel, ConfigError> {
    let refuse = |key: &str, problem: &str| section.refuse(&format!("{entry}.{key}"), problem);
    let pattern = raw.pattern.as_deref().unwrap_or_default();
    let stem = pattern.strip_suffix('*').unwrap_or(pattern);
    if pattern.is_empty() || stem.len() > AppLimits::NAME_BYTES_MAX || stem.contains('*') {
        let problem = "must be a channel's name, or the beginning of one with a `*` behind it";
        return Err(refuse("pattern", problem));
    }
    let description = raw.description.as_deref().unwrap_or_default();
    if description.len() > DESCRIPTION_BYTES_MAX {
        return Err(refuse("description", "must have at most 1024 bytes"));
    }
    let key = section.key(&format!("{entry}.history"));
    let default = XanoChannel::new(pattern);
    Ok(XanoChannel {
        pattern: pattern.into(),
        description: description.into(),
        enabled: raw.enabled.unwrap_or(default.enabled),
        wildcard: raw.wildcard.unwrap_or(default.wildcard),
        anonymous_clients: raw.anonymous_clients.unwrap_or(default.anonymous_clients),
        presence: raw.presence.unwrap_or(default.presence),
        history: within(&key, raw.history.unwrap_or_default(), 0..=HISTORY_MAX)?,
        public_messaging: who(raw.client_public_messaging, raw.client_public_messaging_authenticated_only),
        authenticated_messaging: raw
            .client_authenticated_messaging
            .unwrap_or(default.authenticated_messaging),
        private_messaging: who(raw.client_private_messaging, raw.client_private_messaging_authenticated_only),
    })
}

/// The options of an app after a request's changes. The request has the keys of the section. A key that is
/// missing stays as it is, and `hash` may be `null`.
///
/// # Errors
/// The sentence that says what is wrong.
pub(crate) fn change(app: &App, body: &[u8]) -> Result<XanoOptions, String> {
    let invalid = |error: serde_json::Error| format!("The settings are not valid: {error}.");
    let mut change: Map<String, Value> = serde_json::from_slice(body).map_err(invalid)?;
    if let Some(Value::Array(channels)) = change.get_mut("channels") {
        channels.iter_mut().filter_map(Value::as_object_mut).for_each(|channel| {
            // The number of an entry is its place.
            channel.remove("id");
        });
    }
    let own = app.xano.as_ref().map(print).unwrap_or_default();
    let Ok(Value::Object(mut settings)) = serde_json::to_value(own) else {
        return Err(String::from("The settings cannot be written."));
    };
    settings.extend(change);
    let settings: raw::Xano = serde_json::from_value(Value::Object(settings)).map_err(invalid)?;
    let mut others = app.without_xano();
    let section = Section { name: &app.name, environment: &mut Environment::default(), base: None };
    build(&section, &settings, &mut others).map_err(|error| error.to_string())
}

/// The settings as JSON. `id` is the place of an entry, from 1.
pub(crate) fn json(options: &XanoOptions) -> String {
    let mut settings = serde_json::to_value(print(options)).unwrap_or_default();
    settings["hash"] = options.hash.as_deref().into();
    settings["channels"] = options.channels.iter().zip(1..).map(json_of_channel).collect();
    settings.to_string()
}

fn json_of_channel((channel, id): (&XanoChannel, usize)) -> Value {
    let mut entry = serde_json::to_value(print_channel(channel)).unwrap_or_default();
    entry["id"] = id.into();
    entry["description"] = (*channel.description).into();
    entry
}

/// The sessions that two settings allow an action: the first setting allows the action, the second restricts
/// it to clients with a token.
fn who(is_on: Option<bool>, authenticated_only: Option<bool>) -> Who {
    match (is_on, authenticated_only) {
        (Some(true), Some(true)) => Who::Users,
        (Some(true), _) => Who::Anybody,
        _ => Who::Nobody,
    }
}

/// The section in the form in which the configuration is printed.
pub(super) fn print(options: &XanoOptions) -> raw::Xano {
    raw::Xano {
        canonical: Some(options.canonical.to_string()),
        hash: options.hash.as_deref().map(String::from),
        enabled: Some(options.enabled),
        channels: options.channels.iter().map(print_channel).collect(),
    }
}

fn print_channel(channel: &XanoChannel) -> raw::XanoChannel {
    raw::XanoChannel {
        pattern: Some(channel.pattern.to_string()),
        description: Some(channel.description.to_string()).filter(|text| !text.is_empty()),
        enabled: Some(channel.enabled),
        wildcard: Some(channel.wildcard),
        anonymous_clients: Some(channel.anonymous_clients),
        presence: Some(channel.presence),
        history: Some(channel.history.into()),
        client_public_messaging: Some(channel.public_messaging != Who::Nobody),
        client_public_messaging_authenticated_only: Some(channel.public_messaging == Who::Users),
        client_authenticated_messaging: Some(channel.authenticated_messaging),
        client_private_messaging: Some(channel.private_messaging != Who::Nobody),
        client_private_messaging_authenticated_only: Some(channel.private_messaging == Who::Users),
    }
}
