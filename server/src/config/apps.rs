//! From the raw `[apps.<name>]` sections to [`Apps`], and what a server without any gets instead.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use fanfare_core::app::{
    AgnostOptions, App, AppKeys, AppLimits, Apps, ChannelOptions, ChannelRule, HistoryLimits, InvalidSession,
    KEY_BYTES_MAX, KEY_BYTES_MIN, KeyRole, Origins, SignedInMessages, SlowConsumer, Who,
};
use fanfare_core::token::{Algorithm, KeyMaterial, SessionKey, SessionKeyError, SessionVerifier};

use super::error::ConfigError;
use super::layers::{Environment, within};
use super::{Demo, DevelopmentKeys, agnost, key_sets, keys, raw, triggers, xano};
use crate::issuer::Issuer;
use crate::trigger::spec::Spec;

/// Fixes the development keys, which otherwise differ at each start.
pub(super) const DEVELOPMENT_VARIABLE: &str = "FANFARE_DEV_KEY";

/// What a printed configuration has in the place of a secret.
pub(super) const PLACEHOLDER: &str = "<hidden>";

/// The app of a server without configuration.
const DEVELOPMENT_APP: &str = "default";

/// What follows the client key in a development server key, if the former was given.
const DEVELOPMENT_SERVER_SUFFIX: &str = "-server";

/// The messages that each channel of the demo remembers.
const DEMO_MESSAGES: u32 = 1000;

/// Keys of one role, and session keys: each is compared or tried in turn, so a few must do.
const KEYS_MAX: usize = 32;

/// Rules about channels: each is tried when a channel comes into being.
const RULES_MAX: usize = 256;

/// The most bytes of the name of the claim that names the user.
const CLAIM_BYTES_MAX: usize = 64;

/// Bytes of a session key's `kid`.
const KID_BYTES_MAX: usize = 256;

/// What [`build`] makes of the sections. `secrets` has the entries of `apps`, in their order; with
/// `development` both are the development app's.
pub(super) struct BuiltApps {
    pub(super) apps: Apps,
    pub(super) secrets: Vec<AppSource>,
    pub(super) development: Option<DevelopmentKeys>,
}

/// What is printed of an app as it was written: where its keys came from, and its rules about channels.
/// Public keys are in `session_keys` in full.
#[derive(Clone, Default)]
pub(super) struct AppSource {
    pub(super) client_keys: Vec<String>,
    pub(super) client_key_env: Vec<String>,
    pub(super) server_keys: Vec<String>,
    pub(super) server_key_env: Vec<String>,
    pub(super) session_keys: Vec<raw::SessionKey>,
    /// The keys with terms.
    pub(super) keys: Vec<raw::Key>,
    pub(super) session_key_sets: Vec<raw::SessionKeySet>,
    pub(super) issuers: Vec<Issuer>,
    /// The Channelstream section, with the sources of its secrets.
    pub(super) channelstream: Option<raw::Channelstream>,
    /// The rules about channels as they were written: the options that they leave out are the app's.
    pub(super) channels: Vec<raw::ChannelRule>,
    /// The triggers, with scripts that were read from their files.
    pub(super) triggers: Vec<Arc<Spec>>,
}

impl fmt::Debug for AppSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSource").finish_non_exhaustive()
    }
}

/// Checks every section. Relative names of files are looked up in `base`, the configuration file's folder.
pub(super) fn build(
    sections: &BTreeMap<String, raw::App>,
    environment: &mut Environment,
    base: Option<&Path>,
    demo: Demo,
) -> Result<BuiltApps, ConfigError> {
    if sections.is_empty() {
        return development(environment, demo);
    }
    let (mut apps, mut secrets) = (Vec::new(), Vec::new());
    for (name, raw) in sections {
        let (app, app_secrets) = Section { name, environment, base }.build(raw)?;
        apps.push(app);
        secrets.push(app_secrets);
    }
    let apps = Apps::new(apps).map_err(ConfigError::Apps)?;
    Ok(BuiltApps { apps, secrets, development: None })
}

fn development(environment: &mut Environment, demo: Demo) -> Result<BuiltApps, ConfigError> {
    let keys = match environment.setting(DEVELOPMENT_VARIABLE)? {
        Some(key) => {
            DevelopmentKeys { server_key: format!("{key}{DEVELOPMENT_SERVER_SUFFIX}"), client_key: key }
        }
        None => DevelopmentKeys { client_key: random_key()?, server_key: random_key()? },
    };
    let checked = AppKeys::new(&[&keys.client_key], &[&keys.server_key]).map_err(|_| {
        let max = KEY_BYTES_MAX - DEVELOPMENT_SERVER_SUFFIX.len();
        let problem = format!("must have {KEY_BYTES_MIN} to {max} visible ASCII characters without spaces");
        ConfigError::setting(DEVELOPMENT_VARIABLE, problem)
    })?;
    let mut app = App::new(DEVELOPMENT_APP, checked);
    app.agnost = Some(AgnostOptions::new(DEVELOPMENT_APP));
    app.limits = agnost::default_limits();
    let mut source = AppSource::default();
    if demo == Demo::On {
        source.triggers.push(triggers::of_demo()?);
        app.show_sender = true;
        app.sender_edits = true;
        app.history.messages = DEMO_MESSAGES;
    }
    let apps = Apps::new(vec![app]).map_err(ConfigError::Apps)?;
    Ok(BuiltApps { apps, secrets: vec![source], development: Some(keys) })
}

fn random_key() -> Result<String, ConfigError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| ConfigError::NoRandomness)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("dev-{digits}"))
}

/// One `[apps.<name>]` section on its way to an [`App`].
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) environment: &'a mut Environment,
    pub(super) base: Option<&'a Path>,
}

impl Section<'_> {
    fn build(mut self, raw: &raw::App) -> Result<(App, AppSource), ConfigError> {
        let (keys, mut secrets) = self.keys(raw)?;
        let (sessions, session_keys) = self.sessions(raw)?;
        secrets.session_keys = session_keys;
        let mut app = App::new(self.name, keys);
        app.session_required = raw.session_required.unwrap_or(app.session_required);
        app.key_required = raw.key_required.unwrap_or(app.key_required);
        app.member_addresses = raw.member_addresses.unwrap_or(app.member_addresses);
        app.invalid_session = match raw.session_invalid.as_deref() {
            None | Some("refuse") => InvalidSession::Refuse,
            Some("anonymous") => InvalidSession::Anonymous,
            Some(other) => {
                let problem = format_args!("is `{other}`: it must be refuse or anonymous");
                return Err(self.refuse("session_invalid", problem));
            }
        };
        app.echo = raw.echo.unwrap_or(app.echo);
        app.show_sender = raw.show_sender.unwrap_or(app.show_sender);
        app.sender_edits = raw.sender_edits.unwrap_or(app.sender_edits);
        let defaults = raw::ChannelRule {
            r#match: None,
            membership_to_send: raw.membership_to_send,
            announce: raw.announce,
            presence_by_user: raw.presence_by_user,
            slow_consumer: raw.slow_consumer.clone(),
            history_messages: raw.history_messages,
            history_bytes: raw.history_bytes,
            history_age_s: raw.history_age_s,
            ..raw::ChannelRule::default()
        };
        let options = self.channel_options("", &defaults, app.default_options())?;
        app.membership_to_send = options.membership_to_send;
        app.announce = options.announce;
        app.presence_by_user = options.presence_by_user;
        app.slow_consumer = options.slow_consumer;
        app.history = options.history;
        let limits = if raw.agnost.is_some() { agnost::default_limits() } else { AppLimits::default() };
        app.limits = self.limits(&raw.limits, limits)?;
        app.rules = self.rules(&raw.channels, &app)?;
        secrets.channels = raw.channels.clone();
        secrets.triggers = triggers::build(&mut self, &raw.triggers)?;
        app.origins = self.origins(raw)?;
        secrets.issuers = key_sets::build(&self, &raw.session_key_sets)?;
        secrets.session_key_sets = raw.session_key_sets.clone();
        let sets = secrets.issuers.iter().map(|issuer| issuer.set.clone()).collect();
        app.sessions = sessions.with_sets(sets);
        if app.session_required && app.sessions.accepts_nothing() {
            let problem =
                "is true, but nobody can have a session: add an `[[session_keys]]` entry to the app";
            return Err(self.refuse("session_required", problem));
        }
        app.agnost = raw.agnost.as_ref().map(|raw| agnost::build(&self, raw, &app)).transpose()?;
        app.channelstream = raw.channelstream.as_ref().map(|raw| self.channelstream(raw)).transpose()?;
        secrets.channelstream = raw.channelstream.clone();
        app.xano = raw.xano.as_ref().map(|raw| xano::build(&self, raw, &mut app)).transpose()?;
        Ok((app, secrets))
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("apps.{}.{name}", self.name)
    }

    pub(super) fn refuse(&self, name: &str, problem: impl fmt::Display) -> ConfigError {
        ConfigError::setting(self.key(name), problem)
    }

    fn keys(&mut self, raw: &raw::App) -> Result<(AppKeys, AppSource), ConfigError> {
        let texts = |texts: &Option<raw::Texts>| texts.clone().unwrap_or_default().0;
        let secrets = AppSource {
            client_keys: texts(
                self.one_of(("client_keys", &raw.client_keys), ("client_key", &raw.client_key))?,
            ),
            client_key_env: texts(&raw.client_key_env),
            server_keys: texts(
                self.one_of(("server_keys", &raw.server_keys), ("server_key", &raw.server_key))?,
            ),
            server_key_env: texts(&raw.server_key_env),
            keys: raw.keys.clone(),
            ..AppSource::default()
        };
        let mut client =
            self.role(("client_keys", &secrets.client_keys), ("client_key_env", &secrets.client_key_env))?;
        let mut server =
            self.role(("server_keys", &secrets.server_keys), ("server_key_env", &secrets.server_key_env))?;
        let bound = keys::build(self, &raw.keys)?;
        for key in &bound {
            let of_role = if key.role == KeyRole::Client { &mut client } else { &mut server };
            of_role.push(key.text.clone());
        }
        if client.len().max(server.len()) > KEYS_MAX {
            return Err(self.refuse("keys", format_args!("makes more than {KEYS_MAX} keys of one role")));
        }
        if client.is_empty() && server.is_empty() && raw.key_required != Some(false) {
            let problem = format!(
                "has no keys, so nobody can use it: add `client_keys` and `server_keys`, of {KEY_BYTES_MIN} to \
                 {KEY_BYTES_MAX} visible ASCII characters each"
            );
            return Err(ConfigError::setting(format!("apps.{}", self.name), problem));
        }
        if client.iter().any(|key| server.contains(key)) {
            let problem = "has a key that is a client key too: whoever may connect could do everything, so give the \
                           back end a key of its own";
            return Err(self.refuse("server_keys", problem));
        }
        // Each key passed on its own already, so what is left is one that is there twice.
        let keys = AppKeys::new(&client, &server).map_err(|error| {
            ConfigError::setting(format!("apps.{}", self.name), format_args!("has a key that {error}"))
        })?;
        Ok((keys::with_terms(keys, bound), secrets))
    }

    /// The one of two names of a setting that is used.
    fn one_of<'r>(
        &self,
        (name, first): (&str, &'r Option<raw::Texts>),
        (other, second): (&str, &'r Option<raw::Texts>),
    ) -> Result<&'r Option<raw::Texts>, ConfigError> {
        match (first, second) {
            (Some(_), Some(_)) => {
                let problem =
                    format_args!("stands beside `{name}`, which is the same setting: keep one of them");
                Err(self.refuse(other, problem))
            }
            (None, second) => Ok(second),
            (first, None) => Ok(first),
        }
    }

    /// The keys of one role: those written out, and those in variables.
    fn role(
        &mut self,
        (key, written): (&str, &[String]),
        (env_key, variables): (&str, &[String]),
    ) -> Result<Vec<String>, ConfigError> {
        if written.len() + variables.len() > KEYS_MAX {
            return Err(self.refuse(key, format_args!("must not have more than {KEYS_MAX} entries")));
        }
        let mut keys = Vec::new();
        for text in written {
            self.check_placeholder(key, text, env_key)?;
            keys.push((self.key(key), text.clone()));
        }
        for variable in variables {
            keys.push((variable.clone(), self.variable(env_key, variable)?));
        }
        for (name, text) in &keys {
            AppKeys::new(&[text], &[])
                .map_err(|error| ConfigError::setting(name, format_args!("has a key that {error}")))?;
        }
        Ok(keys.into_iter().map(|(_, text)| text).collect())
    }

    /// The value of a variable that `key` names.
    pub(super) fn variable(&mut self, key: &str, variable: &str) -> Result<String, ConfigError> {
        let value = self.environment.reference(variable)?;
        value.ok_or_else(|| {
            self.refuse(key, format_args!("names the environment variable `{variable}`, which is not set"))
        })
    }

    pub(super) fn check_placeholder(&self, key: &str, text: &str, env_key: &str) -> Result<(), ConfigError> {
        if text != PLACEHOLDER {
            return Ok(());
        }
        let problem = format!(
            "is the placeholder `{PLACEHOLDER}` of a printed configuration: print it with `--show-secrets`, or name \
             a variable that holds it in `{env_key}`"
        );
        Err(self.refuse(key, problem))
    }

    fn origins(&self, raw: &raw::App) -> Result<Origins, ConfigError> {
        let Some(raw::Texts(entries)) = &raw.origins else {
            return Ok(Origins::any());
        };
        Origins::new(entries).map_err(|error| self.refuse("origins", format_args!("is wrong: {error}")))
    }

    fn rules(&self, raw: &[raw::ChannelRule], app: &App) -> Result<Vec<ChannelRule>, ConfigError> {
        if raw.len() > RULES_MAX {
            return Err(self.refuse("channels", format_args!("must not have more than {RULES_MAX} entries")));
        }
        let mut rules: Vec<ChannelRule> = Vec::new();
        for (place, raw) in raw.iter().enumerate() {
            let entry = format!("channels[{place}]");
            let pattern = raw.r#match.as_deref().unwrap_or_default();
            // The star is not part of the name.
            if !(1..=AppLimits::NAME_BYTES_MAX + 1).contains(&pattern.len()) {
                let problem = "must be a channel's name, or the beginning of one with a `*` behind it";
                return Err(self.refuse(&format!("{entry}.match"), problem));
            }
            if pattern[..pattern.len() - 1].contains('*') {
                let problem = format_args!("is `{pattern}`: a `*` may only be its last character");
                return Err(self.refuse(&format!("{entry}.match"), problem));
            }
            if rules.iter().any(|rule| *rule.pattern == *pattern) {
                let problem = format_args!("is `{pattern}`, which another entry has too: keep one of them");
                return Err(self.refuse(&format!("{entry}.match"), problem));
            }
            let options = self.channel_options(&format!("{entry}."), raw, app.default_options())?;
            rules.push(ChannelRule { pattern: pattern.into(), options });
        }
        Ok(rules)
    }

    /// The options of a rule, or of the app itself; what is not given is as in `default`.
    fn channel_options(
        &self,
        prefix: &str,
        raw: &raw::ChannelRule,
        default: ChannelOptions,
    ) -> Result<ChannelOptions, ConfigError> {
        let key = |name: &str| self.key(&format!("{prefix}{name}"));
        let history = default.history;
        let messages = raw.history_messages.unwrap_or(history.messages.into());
        let bytes = raw.history_bytes.unwrap_or(history.bytes.into());
        let age_s = raw.history_age_s.unwrap_or(i64::from(history.age_ms) / 1000);
        let batch = raw.presence_batch_ms.unwrap_or(default.presence_batch_ms.into());
        let age_s: u32 = within(&key("history_age_s"), age_s, HistoryLimits::AGE_S)?;
        Ok(ChannelOptions {
            history: HistoryLimits {
                messages: within(&key("history_messages"), messages, HistoryLimits::MESSAGES)?,
                bytes: within(&key("history_bytes"), bytes, HistoryLimits::BYTES)?,
                age_ms: age_s * 1000,
            },
            announce: raw.announce.unwrap_or(default.announce),
            presence_by_user: raw.presence_by_user.unwrap_or(default.presence_by_user),
            membership_to_send: raw.membership_to_send.unwrap_or(default.membership_to_send),
            slow_consumer: match raw.slow_consumer.as_deref() {
                None => default.slow_consumer,
                Some("disconnect") => SlowConsumer::Disconnect,
                Some("drop") => SlowConsumer::Drop,
                Some(other) => {
                    let problem = format_args!("is `{other}`: it must be disconnect or drop");
                    return Err(self.refuse(&format!("{prefix}slow_consumer"), problem));
                }
            },
            join: self.who(&format!("{prefix}join"), raw.join.as_deref(), default.join)?,
            publish: self.who(&format!("{prefix}publish"), raw.publish.as_deref(), default.publish)?,
            direct: self.who(&format!("{prefix}direct"), raw.direct.as_deref(), default.direct)?,
            roster: raw.roster.unwrap_or(default.roster),
            user_state: raw.user_state.unwrap_or(default.user_state),
            user_lists: raw.user_lists.unwrap_or(default.user_lists),
            presence_batch_ms: within(&key("presence_batch_ms"), batch, ChannelOptions::PRESENCE_BATCH_MS)?,
            signed_in_messages: match raw.signed_in_messages.as_deref() {
                None => default.signed_in_messages,
                Some("optional") => SignedInMessages::Optional,
                Some("never") => SignedInMessages::Never,
                Some("always") => SignedInMessages::Always,
                Some(other) => {
                    let problem = format_args!("is `{other}`: it must be optional, never or always");
                    return Err(self.refuse(&format!("{prefix}signed_in_messages"), problem));
                }
            },
        })
    }

    fn who(&self, key: &str, raw: Option<&str>, default: Who) -> Result<Who, ConfigError> {
        match raw {
            None => Ok(default),
            Some("anybody") => Ok(Who::Anybody),
            Some("users") => Ok(Who::Users),
            Some("nobody") => Ok(Who::Nobody),
            Some(other) => {
                let problem = format_args!("is `{other}`: it must be anybody, users or nobody");
                Err(self.refuse(key, problem))
            }
        }
    }

    fn limits(&self, raw: &raw::AppLimits, default: AppLimits) -> Result<AppLimits, ConfigError> {
        let bytes = |name: &str, value: Option<i64>, default: usize, range| match value {
            Some(value) => within(&self.key(&format!("limits.{name}")), value, range),
            None => Ok(default),
        };
        let count = |name: &str, value: Option<i64>, max| {
            within(&self.key(&format!("limits.{name}")), value.unwrap_or(0), 0..=max)
        };
        let names = 1..=AppLimits::NAME_BYTES_MAX as i64;
        let channels = raw.channels_per_connection.unwrap_or(default.channels_per_connection.into());
        let outbound = 65_536..=1_073_741_824;
        let outbound_bytes = bytes("outbound_bytes", raw.outbound_bytes, default.outbound_bytes, outbound)?;
        Ok(AppLimits {
            message_bytes: bytes("message_bytes", raw.message_bytes, default.message_bytes, 16..=16_777_216)?,
            profile_bytes: bytes("profile_bytes", raw.profile_bytes, default.profile_bytes, 16..=1_048_576)?,
            channel_name_bytes: bytes(
                "channel_name_bytes",
                raw.channel_name_bytes,
                default.channel_name_bytes,
                names.clone(),
            )?,
            event_name_bytes: bytes(
                "event_name_bytes",
                raw.event_name_bytes,
                default.event_name_bytes,
                names,
            )?,
            channels_per_connection: within(
                &self.key("limits.channels_per_connection"),
                channels,
                1..=u16::MAX.into(),
            )?,
            connections: count("connections", raw.connections, 16_777_216)?,
            messages_per_second: count("messages_per_second", raw.messages_per_second, 1_000_000)?,
            outbound_bytes,
            answer_bytes: outbound_bytes / 8,
            history_bytes: bytes(
                "history_bytes",
                raw.history_bytes,
                default.history_bytes,
                65_536..=1_099_511_627_776,
            )?,
            members_bytes: bytes(
                "members_bytes",
                raw.members_bytes,
                default.members_bytes,
                1024..=1_073_741_824,
            )?,
            resume_ms: within(
                &self.key("limits.resume_ms"),
                raw.resume_ms.unwrap_or(default.resume_ms.into()),
                0..=3_600_000,
            )?,
            resume_bytes: bytes(
                "resume_bytes",
                raw.resume_bytes,
                default.resume_bytes,
                1024..=1_073_741_824,
            )?,
            parked_sessions: bytes(
                "parked_sessions",
                raw.parked_sessions,
                default.parked_sessions,
                0..=16_777_216,
            )?,
            parked_bytes: bytes(
                "parked_bytes",
                raw.parked_bytes,
                default.parked_bytes,
                0..=1_099_511_627_776,
            )?,
            trigger_calls: bytes("trigger_calls", raw.trigger_calls, default.trigger_calls, 1..=1_048_576)?,
            trigger_bytes: bytes(
                "trigger_bytes",
                raw.trigger_bytes,
                default.trigger_bytes,
                65_536..=1_099_511_627_776,
            )?,
        })
    }

    fn sessions(&mut self, raw: &raw::App) -> Result<(SessionVerifier, Vec<raw::SessionKey>), ConfigError> {
        if raw.session_keys.len() > KEYS_MAX {
            return Err(
                self.refuse("session_keys", format_args!("must not have more than {KEYS_MAX} entries"))
            );
        }
        let (mut keys, mut printed) = (Vec::new(), Vec::new());
        for (place, raw) in raw.session_keys.iter().enumerate() {
            let (key, raw) = self.session_key(&format!("session_keys[{place}]"), raw)?;
            keys.push(key);
            printed.push(raw);
        }
        let leeway = raw.session_leeway_seconds.unwrap_or(5);
        let leeway = within(&self.key("session_leeway_seconds"), leeway, 0..=300)?;
        let verifier = SessionVerifier::new(keys, leeway, raw.session_exp_required.unwrap_or(true));
        let claims =
            [("session_user_claim", &raw.session_user_claim), ("session_id_claim", &raw.session_id_claim)];
        for (key, claim) in claims {
            if claim.as_ref().is_some_and(|claim| !(1..=CLAIM_BYTES_MAX).contains(&claim.len())) {
                return Err(self.refuse(key, format_args!("must have 1 to {CLAIM_BYTES_MAX} bytes")));
            }
        }
        let user_claim = raw.session_user_claim.as_deref().unwrap_or(verifier.user_claim()).to_owned();
        let id_claim = raw.session_id_claim.as_deref();
        Ok((verifier.with_user_claim(&user_claim).with_id_claim(id_claim), printed))
    }

    /// The key of one entry, and the entry as it is printed: with the public key itself in the place of its
    /// file.
    fn session_key(
        &mut self,
        entry: &str,
        raw: &raw::SessionKey,
    ) -> Result<(SessionKey, raw::SessionKey), ConfigError> {
        let algorithm = self.algorithm(entry, raw)?;
        let kid = raw.kid.as_deref();
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return Err(
                self.refuse(&format!("{entry}.kid"), format_args!("must have 1 to {KID_BYTES_MAX} bytes"))
            );
        }
        let mut printed = raw.clone();
        let sources = (&raw.secret, &raw.secret_env, &raw.public_key, &raw.public_key_file);
        let (name, made) = match sources {
            (Some(secret), None, None, None) => {
                self.check_placeholder(&format!("{entry}.secret"), secret, "secret_env")?;
                ("secret", SessionKey::new(algorithm, kid, KeyMaterial::Secret(secret.as_bytes())))
            }
            (None, Some(variable), None, None) => {
                let secret = self.variable(&format!("{entry}.secret_env"), variable)?;
                ("secret_env", SessionKey::new(algorithm, kid, KeyMaterial::Secret(secret.as_bytes())))
            }
            (None, None, Some(pem), None) => {
                ("public_key", SessionKey::new(algorithm, kid, KeyMaterial::PublicPem(pem)))
            }
            (None, None, None, Some(file)) => {
                let path = self.base.map_or_else(|| file.into(), |base| base.join(file));
                let pem = std::fs::read_to_string(&path).map_err(|error| {
                    let problem = format_args!("is `{}`, which cannot be read: {error}", path.display());
                    self.refuse(&format!("{entry}.public_key_file"), problem)
                })?;
                let key = SessionKey::new(algorithm, kid, KeyMaterial::PublicPem(&pem));
                printed.public_key_file = None;
                printed.public_key = Some(pem);
                ("public_key_file", key)
            }
            _ => {
                let problem =
                    "must have exactly one of `secret`, `secret_env`, `public_key` and `public_key_file`";
                return Err(self.refuse(entry, problem));
            }
        };
        let key = made.map_err(|error| {
            let setting = format!("{entry}.{name}");
            match error {
                SessionKeyError::PublicKeyNeeded => self.refuse(
                    &setting,
                    format_args!(
                        "does not fit {algorithm}, which verifies with a public key: give `public_key` or \
                         `public_key_file` in its place"
                    ),
                ),
                SessionKeyError::SecretNeeded => self.refuse(
                    &setting,
                    format_args!(
                        "does not fit {algorithm}, which verifies with a secret: give `secret` or `secret_env` in its \
                         place"
                    ),
                ),
                error => self.refuse(&setting, error),
            }
        })?;
        Ok((key, printed))
    }

    fn algorithm(&self, entry: &str, raw: &raw::SessionKey) -> Result<Algorithm, ConfigError> {
        raw.algorithm.as_deref().and_then(Algorithm::from_name).ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            self.refuse(&format!("{entry}.algorithm"), format_args!("must be one of {names}"))
        })
    }
}
