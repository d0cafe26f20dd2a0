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

const KEY: &str = "server.access_tokens";

/// The tokens that the file has, to be printed. Those of a variable stay there.
#[derive(Clone, Default)]
pub(super) struct AccessSource(Vec<String>);

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
        (!self.0.is_empty()).then(|| Texts(self.0.iter().map(shown).collect()))
    }
}

/// Checks the tokens of the file or of the variable.
pub(super) fn tokens(
    server: &raw::Server,
    environment: &mut Environment,
) -> Result<(AppKeys, AccessSource), ConfigError> {
    let file = server.access_tokens.as_ref().map(|texts| texts.0.as_slice());
    let Some(given) = environment.texts(KEY, &[], file)? else { return Ok(Default::default()) };
    let tokens = given.value;
    if tokens.iter().any(|token| token == PLACEHOLDER) {
        let problem = "is the placeholder of a printed configuration: print it with `--show-secrets`";
        return Err(ConfigError::setting(given.name, problem));
    }
    if tokens.len() > TOKENS_MAX {
        let problem = format!("is a list of more than {TOKENS_MAX} tokens");
        return Err(ConfigError::setting(given.name, problem));
    }
    let keys = AppKeys::new(&[], &tokens).map_err(|error| {
        ConfigError::setting(&given.name, format_args!("is a list with a token that {error}"))
    })?;
    let source = if given.name == KEY { AccessSource(tokens) } else { AccessSource::default() };
    Ok((keys, source))
}
