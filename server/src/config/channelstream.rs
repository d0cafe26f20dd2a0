//! `[apps.<name>.channelstream]`: the options of an app for back ends and clients of Channelstream.

use fanfare_core::app::ChannelstreamOptions;

use super::{Config, apps::Section, error::ConfigError, raw};

/// The app whose paths have no prefix by default.
const ROOT_APP: &str = "default";
/// The most entries of a list.
const LIST_MAX: usize = 256;
/// The most bytes of a secret, a name or a prefix.
const TEXT_BYTES_MAX: usize = 256;

impl Section<'_> {
    /// Reads the section. The app `default` has no prefix by default, and any other app has its name as
    /// prefix.
    pub(super) fn channelstream(
        &mut self,
        raw: &raw::Channelstream,
    ) -> Result<ChannelstreamOptions, ConfigError> {
        let secret = self.secret("secret", &raw.secret, &raw.secret_env)?.ok_or_else(|| {
            let problem =
                "is missing: back ends sign with it; or name a variable that holds it in `secret_env`";
            self.refuse("channelstream.secret", problem)
        })?;
        let default = ChannelstreamOptions::new(&secret);
        let admin_secret = self.secret("admin_secret", &raw.admin_secret, &raw.admin_secret_env)?;
        Ok(ChannelstreamOptions {
            allow_posting_from: self
                .list("allow_posting_from", &raw.allow_posting_from)?
                .unwrap_or(default.allow_posting_from),
            validate_requests: raw.validate_requests.unwrap_or(default.validate_requests),
            admin_user: match &raw.admin_user {
                Some(user) => self.text("admin_user", user)?,
                None => default.admin_user,
            },
            admin_secret,
            allow_cors: self.list("allow_cors", &raw.allow_cors)?.unwrap_or_default(),
            prefix: self.prefix(raw.prefix.as_deref())?,
            secret,
        })
    }

    fn secret(
        &mut self,
        key: &str,
        written: &Option<String>,
        variable: &Option<String>,
    ) -> Result<Option<Box<str>>, ConfigError> {
        let (key, env_key) = (format!("channelstream.{key}"), format!("channelstream.{key}_env"));
        let text = match (written, variable) {
            (Some(_), Some(_)) => {
                let problem = format!("stands beside `{key}`, which is the same setting: keep one of them");
                return Err(self.refuse(&env_key, problem));
            }
            (None, None) => return Ok(None),
            (Some(text), None) => {
                self.check_placeholder(&key, text, &env_key)?;
                text.clone()
            }
            (None, Some(variable)) => self.variable(&env_key, variable)?,
        };
        if !(1..=TEXT_BYTES_MAX).contains(&text.len()) {
            return Err(self.refuse(&key, format_args!("must have 1 to {TEXT_BYTES_MAX} bytes")));
        }
        Ok(Some(text.into()))
    }

    fn text(&self, key: &str, text: &str) -> Result<Box<str>, ConfigError> {
        match (1..=TEXT_BYTES_MAX).contains(&text.len()) {
            true => Ok(text.into()),
            false => {
                let problem = format_args!("must have 1 to {TEXT_BYTES_MAX} bytes");
                Err(self.refuse(&format!("channelstream.{key}"), problem))
            }
        }
    }

    fn list(&self, key: &str, texts: &Option<raw::Texts>) -> Result<Option<Vec<Box<str>>>, ConfigError> {
        let Some(raw::Texts(texts)) = texts else { return Ok(None) };
        if texts.len() > LIST_MAX {
            let problem = format_args!("must not have more than {LIST_MAX} entries");
            return Err(self.refuse(&format!("channelstream.{key}"), problem));
        }
        texts.iter().map(|text| self.text(key, text)).collect::<Result<_, _>>().map(Some)
    }

    fn prefix(&self, prefix: Option<&str>) -> Result<Box<str>, ConfigError> {
        let prefix = match prefix {
            Some(prefix) => prefix.to_owned(),
            None if self.name == ROOT_APP => String::new(),
            None => format!("/{}", self.name),
        };
        let is_path = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        let is_prefix = prefix.is_empty()
            || prefix.starts_with('/')
                && !prefix.ends_with('/')
                && is_path(&prefix)
                && !prefix.contains("//");
        let of_others = ["/v1", "/realtime", "/rt"];
        let is_owned = |of: &str| prefix == of || prefix.starts_with(&format!("{of}/"));
        if let Some(of) = of_others.into_iter().find(|of| is_owned(of)) {
            let problem = format_args!("is `{prefix}`, but what is below `{of}` is another protocol's");
            return Err(self.refuse("channelstream.prefix", problem));
        }
        if !is_prefix || prefix.len() > TEXT_BYTES_MAX {
            let problem = "must be empty, or begin with a `/` and end without one; it has letters, \
                           digits, `.`, `_` and `-`";
            return Err(self.refuse("channelstream.prefix", problem));
        }
        Ok(prefix.into())
    }
}

/// Refuses the original's public secrets, unless only this machine reaches the server.
pub(super) fn check_secrets(config: &Config) -> Result<(), ConfigError> {
    let is_reached = config.listen.iter().any(|endpoint| !endpoint.is_local());
    let has_known = |options: &ChannelstreamOptions| options.has_known_secret();
    let known = config.apps.iter().find(|app| app.channelstream.as_ref().is_some_and(has_known));
    match known {
        Some(app) if is_reached => {
            let problem = "or `admin_secret` is the original's default, which everybody knows: \
                           choose another, or listen on loopback addresses only";
            Err(ConfigError::setting(format!("apps.{}.channelstream.secret", app.name), problem))
        }
        _ => Ok(()),
    }
}

/// Prints the section. `source` has the sources of the secrets.
pub(super) fn print(
    options: &ChannelstreamOptions,
    source: raw::Channelstream,
    shown: impl Fn(&str) -> String,
) -> raw::Channelstream {
    let list = |texts: &[Box<str>]| raw::Texts(texts.iter().map(|text| String::from(&**text)).collect());
    raw::Channelstream {
        secret: source.secret.as_deref().map(&shown),
        secret_env: source.secret_env,
        allow_posting_from: Some(list(&options.allow_posting_from)),
        validate_requests: Some(options.validate_requests),
        admin_user: Some(options.admin_user.to_string()),
        admin_secret: source.admin_secret.as_deref().map(&shown),
        admin_secret_env: source.admin_secret_env,
        allow_cors: (!options.allow_cors.is_empty()).then(|| list(&options.allow_cors)),
        prefix: Some(options.prefix.to_string()),
    }
}
