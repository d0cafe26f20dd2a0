//! `[apps.<name>.agnost]`: the options for Agnost's clients.

use fanfare_core::app::{AgnostOptions, App, AppLimits};

use super::{apps::Section, error::ConfigError, raw};

/// The most bytes of an environment's id and of a subdomain.
const ENVIRONMENT_BYTES_MAX: usize = 256;

/// The limits of an app with the section, before its own: such clients send large messages and profiles. A
/// message fits with its envelope in a frame of the default size.
pub(super) fn default_limits() -> AppLimits {
    AppLimits { message_bytes: 1_000_000, profile_bytes: 64 << 10, ..AppLimits::default() }
}

/// The section's options. The default environment id is the app's name.
pub(super) fn build(
    section: &Section<'_>,
    raw: &raw::Agnost,
    app: &App,
) -> Result<AgnostOptions, ConfigError> {
    let name = |key: &str, text: &str| match (1..=ENVIRONMENT_BYTES_MAX).contains(&text.len()) {
        true => Ok(Box::from(text)),
        false => {
            let problem = format_args!("must have 1 to {ENVIRONMENT_BYTES_MAX} bytes");
            Err(section.refuse(&format!("agnost.{key}"), problem))
        }
    };
    let default = AgnostOptions::new(&app.name);
    let options = AgnostOptions {
        env_id: raw.env_id.as_deref().map_or(Ok(default.env_id), |id| name("env_id", id))?,
        subdomain: raw.subdomain.as_deref().map(|text| name("subdomain", text)).transpose()?,
        enabled: raw.enabled.unwrap_or(default.enabled),
        key_required: raw.key_required.unwrap_or(default.key_required),
        session_required: raw.session_required.unwrap_or(default.session_required),
    };
    if options.session_required && app.sessions.accepts_nothing() {
        let problem = "is true, but nobody can have a session: add an `[[session_keys]]` entry to the app";
        return Err(section.refuse("agnost.session_required", problem));
    }
    Ok(options)
}

/// What is printed of the section.
pub(super) fn print(options: &AgnostOptions) -> raw::Agnost {
    raw::Agnost {
        env_id: Some(options.env_id.to_string()),
        subdomain: options.subdomain.as_deref().map(String::from),
        enabled: Some(options.enabled),
        key_required: Some(options.key_required),
        session_required: Some(options.session_required),
    }
}
