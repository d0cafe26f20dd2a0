//! Access tokens: what opens the connection of a back end that may name any app.

use std::fmt;

use fanfare_core::app::AppKeys;

use super::apps::PLACEHOLDER;
use super::error::ConfigError;
use super::layers::Environment;
use super::raw;
use super::raw::Texts;
use crate::args::Secrets;

/// Each is compared in turn, so a few must do.
const TOKENS_MAX: usize = 32;

/// Where the tokens came from, to be printed.
#[derive(Clone, Default)]
pub(super) struct AccessSource {
    pub(super) written: Option<Texts>,
    pub(super) variables: Option<Texts>,
}

impl fmt::Debug for AccessSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessSource").finish_non_exhaustive()
    }
}

impl AccessSource {
    /// The tokens as they are printed.
    pub(super) fn print(&self, secrets: Secrets) -> Option<Texts> {
        let shown = |text: &String| match secrets {
            Secrets::Shown => text.clone(),
            Secrets::Hidden => String::from(PLACEHOLDER),
        };
        self.written.as_ref().map(|Texts(tokens)| Texts(tokens.iter().map(shown).collect()))
    }
}

/// Checks the tokens, written out and in variables.
pub(super) fn tokens(
    server: &raw::Server,
    environment: &mut Environment,
) -> Result<(AppKeys, AccessSource), ConfigError> {
    let source =
        AccessSource { written: server.access_tokens.clone(), variables: server.access_token_env.clone() };
    let texts = |texts: &Option<Texts>| texts.clone().unwrap_or_default().0;
    let mut tokens = texts(&source.written);
    if tokens.iter().any(|token| token == PLACEHOLDER) {
        let problem = "has the placeholder of a printed configuration: name a variable in `access_token_env`";
        return Err(ConfigError::setting("server.access_tokens", problem));
    }
    for variable in texts(&source.variables) {
        let value = environment.reference(&variable)?;
        tokens.push(value.ok_or_else(|| {
            let problem = format!("names the environment variable `{variable}`, which is not set");
            ConfigError::setting("server.access_token_env", problem)
        })?);
    }
    if tokens.len() > TOKENS_MAX {
        let problem = format!("must not have more than {TOKENS_MAX} entries");
        return Err(ConfigError::setting("server.access_tokens", problem));
    }
    let keys = AppKeys::new(&[], &tokens).map_err(|error| {
        ConfigError::setting("server.access_tokens", format_args!("has a token that {error}"))
    })?;
    Ok((keys, source))
}
