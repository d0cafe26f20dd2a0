//! `[server.acme]`: certificates that the running server obtains by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::DnsName;

use super::error::ConfigError;
use super::layers::within;
use super::raw;
use crate::acme::{Settings, Store};
use crate::egress::{Endpoint, EndpointError, PlainHttp};
use crate::tls::Issued;

/// The most domains, and the most bytes of a domain. A file is named after a domain.
const DOMAINS_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 240;

/// The most addresses to write to, and the most bytes of an address.
const CONTACTS_MAX: usize = 8;
const CONTACT_BYTES_MAX: usize = 256;

/// The most bytes of the directory's URL. A folder is named after the URL.
const DIRECTORY_BYTES_MAX: usize = 240;

/// The most bytes of a file with certificates.
const CA_BYTES_MAX: u64 = 4 << 20;

const DIRECTORY_DEFAULT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The directory of the configuration file, and the data directory.
#[derive(Copy, Clone)]
pub(super) struct Folders<'a> {
    pub(super) base: Option<&'a Path>,
    pub(super) data: Option<&'a Path>,
}

/// Certificates that the running server obtains, with those of an earlier run.
#[derive(Clone)]
pub(super) struct Acme {
    pub(super) settings: Arc<Settings>,
    pub(super) warnings: Vec<String>,
    /// The section as the configuration has it.
    pub(super) source: raw::Acme,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Checks the section. No request is sent.
pub(super) fn build(raw: &raw::Acme, folders: Folders<'_>) -> Result<Acme, ConfigError> {
    if raw.agree_to_terms != Some(true) {
        let problem = "must be true: the authority gives certificates to those who agree to its terms";
        return Err(refuse("agree_to_terms", problem));
    }
    let retry_s: u32 = within("server.acme.retry_s", raw.retry_s.unwrap_or(120), 1..=86_400)?;
    let Some(data) = folders.data else {
        return Err(ConfigError::setting(
            "server.data_dir",
            "must name a directory, for the certificates of `server.acme`",
        ));
    };
    let domains = domains(raw)?;
    let url = raw.directory.as_deref().unwrap_or(DIRECTORY_DEFAULT);
    if url.len() > DIRECTORY_BYTES_MAX {
        let problem = format_args!("must not be longer than {DIRECTORY_BYTES_MAX} bytes");
        return Err(refuse("directory", problem));
    }
    let directory_ca = raw.directory_ca_file.as_deref().map(|file| authorities(file, folders.base));
    let directory_ca = directory_ca.transpose()?;
    let directory = Endpoint::new(url, PlainHttp::OnLoopback, directory_ca.as_deref());
    let directory = directory.map_err(|error| match error {
        EndpointError::Url(problem) => refuse("directory", problem),
        EndpointError::Authorities(problem) => refuse("directory_ca_file", problem),
    })?;
    let (store, issued) = (Store::new(data, url), Issued::new(&domains));
    let mut warnings = Vec::new();
    for domain in &domains {
        match store.certificate(domain) {
            Ok(Some(identity)) => issued.put(domain, identity),
            Ok(None) => {}
            Err(sentence) => warnings.push(format!("{sentence}. The server obtains another certificate.")),
        }
    }
    let settings = Settings {
        contact: contact(raw)?,
        domains,
        directory,
        directory_ca,
        retry: Duration::from_secs(retry_s.into()),
        store,
        issued: Arc::new(issued),
    };
    Ok(Acme { settings: Arc::new(settings), warnings, source: raw.clone() })
}

fn refuse(name: &str, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError::setting(format!("server.acme.{name}"), problem)
}

fn texts(texts: &Option<raw::Texts>) -> Vec<String> {
    texts.clone().unwrap_or_default().0
}

fn domains(raw: &raw::Acme) -> Result<Vec<Box<str>>, ConfigError> {
    let given = texts(&raw.domains);
    if given.is_empty() || given.len() > DOMAINS_MAX {
        return Err(refuse("domains", format_args!("must name 1 to {DOMAINS_MAX} domains")));
    }
    let mut domains: Vec<Box<str>> = Vec::new();
    for text in given {
        let domain = text.to_ascii_lowercase();
        let is_name = DnsName::try_from(&*domain).is_ok() && domain.len() <= DOMAIN_BYTES_MAX;
        if !is_name || domain.ends_with('.') {
            let problem =
                format_args!("has `{text}`: write a host's name without a star, such as chat.example.com");
            return Err(refuse("domains", problem));
        }
        if domains.iter().any(|other| **other == *domain) {
            return Err(refuse("domains", format_args!("names `{domain}` twice")));
        }
        domains.push(domain.into());
    }
    Ok(domains)
}

/// The addresses that the authority may write to, as URLs.
fn contact(raw: &raw::Acme) -> Result<Vec<String>, ConfigError> {
    let given = texts(&raw.contact);
    if given.len() > CONTACTS_MAX {
        return Err(refuse("contact", format_args!("must not have more than {CONTACTS_MAX} addresses")));
    }
    let url = |text: String| match text.split_once('@') {
        Some((user, host))
            if !user.is_empty()
                && !host.is_empty()
                && text.len() <= CONTACT_BYTES_MAX
                && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(format!("mailto:{}", text.trim_start_matches("mailto:")))
        }
        _ => Err(refuse("contact", format_args!("has `{text}`: write an e-mail address"))),
    };
    given.into_iter().map(url).collect()
}

fn authorities(file: &str, base: Option<&Path>) -> Result<Vec<u8>, ConfigError> {
    let path = base.map_or_else(|| file.into(), |base| base.join(file));
    let name = "directory_ca_file";
    let unreadable =
        |error| refuse(name, format_args!("names `{}`, which cannot be read: {error}", path.display()));
    if std::fs::metadata(&path).map_err(unreadable)?.len() > CA_BYTES_MAX {
        return Err(refuse(name, format_args!("names `{}`, which has too many bytes", path.display())));
    }
    std::fs::read(&path).map_err(unreadable)
}
