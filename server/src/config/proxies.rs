//! The proxies that are trusted, and how they name their clients.

use fanfare_core::address::TrustedProxies;
use fanfare_core::http::ForwardingHeader;

use super::error::ConfigError;
use super::layers::{Environment, Given};
use super::raw;

/// The most trusted proxies. An address is compared with each of them in turn.
const PROXIES_MAX: usize = 64;

pub(super) fn trusted(
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<TrustedProxies, ConfigError> {
    let file = server.trusted_proxies.as_ref().map(|texts| texts.0.as_slice());
    let Some(Given { name, value }) = environment.texts("server.trusted_proxies", &[], file)? else {
        return Ok(TrustedProxies::default());
    };
    if value.len() > PROXIES_MAX {
        let problem = format_args!("must not have more than {PROXIES_MAX} entries");
        return Err(ConfigError::setting(name, problem));
    }
    TrustedProxies::parse(&value).map_err(|(text, error)| {
        ConfigError::setting(
            name,
            format_args!("is a list with `{text}`: each network {error}, or the word unix"),
        )
    })
}

pub(super) fn header(
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<ForwardingHeader, ConfigError> {
    let given = environment.text("server.forwarding_header", None, server.forwarding_header.as_ref())?;
    let Some(Given { name, value }) = given else { return Ok(ForwardingHeader::default()) };
    ForwardingHeader::from_name(&value).ok_or_else(|| {
        ConfigError::setting(name, format_args!("is `{value}`: it must be x-forwarded-for or forwarded"))
    })
}
