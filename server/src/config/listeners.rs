//! Groups of addresses with options of their own: TLS, with certificates and keys, and the PROXY protocol.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::error::ConfigError;
use super::raw;
use super::settings::{LISTEN_MAX, endpoint};
use crate::tls::{Identity, IdentityError, Issued, Pem, TlsSettings, Validity};

/// The most certificates of one listener; the most listeners.
const CERTIFICATES_MAX: usize = 64;
const LISTENERS_MAX: usize = 16;

/// The most bytes of a file with certificates or with a key.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// What a connection begins with.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Preamble {
    /// The client's first byte.
    None,
    /// A header of the PROXY protocol.
    Proxy,
}

/// An address to listen on.
pub(crate) struct Listening<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// The place of the group in `[[server.listeners]]`; `None` for an endpoint of `server.listen`.
    pub(crate) place: Option<usize>,
    pub(super) group: Option<&'a ListenerGroup>,
}

impl Listening<'_> {
    /// The setting that names the address.
    pub(crate) fn setting(&self) -> &'static str {
        if self.group.is_some() { "server.listeners" } else { "server.listen" }
    }

    pub(crate) fn tls(&self) -> Option<&TlsSettings> {
        self.group?.tls.as_ref()
    }

    pub(crate) fn preamble(&self) -> Preamble {
        self.group.map_or(Preamble::None, |group| group.preamble)
    }
}

/// A group of addresses.
#[derive(Clone)]
pub(super) struct ListenerGroup {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) preamble: Preamble,
    pub(super) tls: Option<TlsSettings>,
    pub(super) warnings: Vec<String>,
    /// A hash of the contents of the listener's files.
    pub(super) fingerprint: u64,
    /// The listener as the configuration has it.
    pub(super) source: raw::Listener,
}

impl std::fmt::Debug for ListenerGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerGroup").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// Checks every listener. A relative file name is looked up in `base`, the configuration file's folder.
/// `issued` has the certificates of `[server.acme]`.
pub(super) fn build(
    entries: &[raw::Listener],
    base: Option<&Path>,
    issued: Option<&Arc<Issued>>,
) -> Result<Vec<ListenerGroup>, ConfigError> {
    if entries.len() > LISTENERS_MAX {
        let problem = format_args!("must not have more than {LISTENERS_MAX} entries");
        return Err(ConfigError::setting("server.listeners", problem));
    }
    // An authority has no client certificate, so a listener that asks for one answers no challenge.
    let answers = |raw: &raw::Listener| raw.acme == Some(true) && raw.client_ca_file.is_none();
    if issued.is_some() && !entries.iter().any(answers) {
        let problem =
            "has no listener: set `acme = true` for one of `server.listeners`, without `client_ca_file`";
        return Err(ConfigError::setting("server.acme", problem));
    }
    entries.iter().enumerate().map(|(place, raw)| Entry { place, base, issued }.build(raw)).collect()
}

/// One listener's entry while it is checked.
struct Entry<'a> {
    place: usize,
    base: Option<&'a Path>,
    issued: Option<&'a Arc<Issued>>,
}

impl Entry<'_> {
    fn key(&self, name: &str) -> String {
        format!("server.listeners[{}].{name}", self.place)
    }

    fn refuse(&self, name: &str, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::setting(self.key(name), problem)
    }

    fn build(&self, raw: &raw::Listener) -> Result<ListenerGroup, ConfigError> {
        let texts = |texts: &Option<raw::Texts>| texts.clone().unwrap_or_default().0;
        let listen = texts(&raw.listen);
        if listen.is_empty() || listen.len() > LISTEN_MAX {
            return Err(self.refuse("listen", format_args!("must name 1 to {LISTEN_MAX} addresses")));
        }
        let endpoints =
            listen.iter().map(|text| endpoint(&self.key("listen"), text)).collect::<Result<_, _>>()?;
        let preamble = if raw.proxy_protocol == Some(true) { Preamble::Proxy } else { Preamble::None };
        let mut group = ListenerGroup {
            endpoints,
            preamble,
            tls: None,
            warnings: Vec::new(),
            fingerprint: 0,
            source: raw.clone(),
        };
        let names_no_file =
            raw.certificate_file.is_none() && raw.key_file.is_none() && raw.client_ca_file.is_none();
        if preamble == Preamble::Proxy && names_no_file && raw.acme != Some(true) {
            return Ok(group);
        }
        self.secure(&mut group)?;
        Ok(group)
    }

    /// Gives a group its certificates and keys.
    fn secure(&self, group: &mut ListenerGroup) -> Result<(), ConfigError> {
        let raw = group.source.clone();
        let texts = |texts: &Option<raw::Texts>| texts.clone().unwrap_or_default().0;
        let (certificates, keys) = (texts(&raw.certificate_file), texts(&raw.key_file));
        let issued = self.issued.filter(|_| raw.acme == Some(true)).cloned();
        if raw.acme == Some(true) && issued.is_none() {
            let problem = "is true, but there is no section `[server.acme]`";
            return Err(self.refuse("acme", problem));
        }
        let least = if issued.is_some() { 0 } else { 1 };
        if certificates.len() < least || certificates.len() > CERTIFICATES_MAX {
            let problem = format_args!("must name 1 to {CERTIFICATES_MAX} files");
            return Err(self.refuse("certificate_file", problem));
        }
        if certificates.len() != keys.len() {
            let problem = format_args!(
                "must name as many files as `certificate_file`, the key of each in its place: {}, and not {}",
                certificates.len(),
                keys.len()
            );
            return Err(self.refuse("key_file", problem));
        }
        let mut identities = Vec::new();
        let mut hasher = DefaultHasher::new();
        for (certificate, key) in certificates.iter().zip(&keys) {
            let identity = self.identity(certificate, key, &mut hasher)?;
            let state = match identity.validity {
                Validity::Valid => None,
                Validity::Expired => Some("has expired"),
                Validity::NotYet => Some("is not valid yet"),
            };
            group.warnings.extend(
                state.map(|state| {
                    format!("The certificate of `{certificate}` {state}: clients will refuse it.")
                }),
            );
            identities.push(identity);
        }
        let client_ca = raw.client_ca_file.as_deref().map(|file| self.read("client_ca_file", file));
        let client_ca = client_ca.transpose()?;
        client_ca.hash(&mut hasher);
        let tls = TlsSettings::new(&identities, issued, client_ca.as_deref())
            .map_err(|problem| self.refuse("client_ca_file", problem))?;
        group.tls = Some(tls);
        group.fingerprint = hasher.finish();
        Ok(())
    }

    fn identity(
        &self,
        certificate_file: &str,
        key_file: &str,
        hasher: &mut impl Hasher,
    ) -> Result<Identity, ConfigError> {
        let certificate = self.read("certificate_file", certificate_file)?;
        let key = self.read("key_file", key_file)?;
        (&certificate, &key).hash(hasher);
        let pem = Pem { certificate: &certificate, key: &key };
        Identity::from_pem(&pem, &TlsSettings::provider()).map_err(|error| match error {
            IdentityError::Certificate(problem) => {
                self.refuse("certificate_file", format_args!("names `{certificate_file}`, which {problem}"))
            }
            IdentityError::Key(problem) => {
                self.refuse("key_file", format_args!("names `{key_file}`, which {problem}"))
            }
        })
    }

    fn read(&self, name: &str, file: &str) -> Result<Vec<u8>, ConfigError> {
        let path = self.base.map_or_else(|| file.into(), |base| base.join(file));
        let unreadable = |error| {
            let problem = format_args!("names `{}`, which cannot be read: {error}", path.display());
            self.refuse(name, problem)
        };
        let bytes = std::fs::metadata(&path).map_err(unreadable)?.len();
        if bytes > PEM_BYTES_MAX {
            let problem = format_args!("names `{}`, which has {bytes} bytes, too many", path.display());
            return Err(self.refuse(name, problem));
        }
        std::fs::read(&path).map_err(unreadable)
    }
}
