//! The listeners with TLS: their addresses, certificates and keys.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;

use super::error::ConfigError;
use super::raw;
use super::settings::{LISTEN_MAX, address};
use crate::tls::{Identity, IdentityError, Pem, TlsSettings, Validity};

/// Certificates of one listener, and listeners.
const CERTIFICATES_MAX: usize = 64;
const LISTENERS_MAX: usize = 16;

/// A file of certificates, or of a key, is not longer.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// A listener with TLS.
#[derive(Clone)]
pub(super) struct SecuredListener {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: TlsSettings,
    pub(super) warnings: Vec<String>,
    /// Of the contents of its files.
    pub(super) fingerprint: u64,
    /// As it was written.
    pub(super) source: raw::Listener,
}

impl std::fmt::Debug for SecuredListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecuredListener").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Checks every entry. Relative names of files are looked up in `base`, the configuration file's folder.
pub(super) fn build(
    entries: &[raw::Listener],
    base: Option<&Path>,
) -> Result<Vec<SecuredListener>, ConfigError> {
    if entries.len() > LISTENERS_MAX {
        let problem = format_args!("must not have more than {LISTENERS_MAX} entries");
        return Err(ConfigError::setting("server.listeners", problem));
    }
    entries.iter().enumerate().map(|(place, raw)| Entry { place, base }.build(raw)).collect()
}

/// One entry on its way.
struct Entry<'a> {
    place: usize,
    base: Option<&'a Path>,
}

impl Entry<'_> {
    fn key(&self, name: &str) -> String {
        format!("server.listeners[{}].{name}", self.place)
    }

    fn refuse(&self, name: &str, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::setting(self.key(name), problem)
    }

    fn build(&self, raw: &raw::Listener) -> Result<SecuredListener, ConfigError> {
        let texts = |texts: &Option<raw::Texts>| texts.clone().unwrap_or_default().0;
        let listen = texts(&raw.listen);
        if listen.is_empty() || listen.len() > LISTEN_MAX {
            return Err(self.refuse("listen", format_args!("must name 1 to {LISTEN_MAX} addresses")));
        }
        let addresses =
            listen.iter().map(|text| address(&self.key("listen"), text)).collect::<Result<_, _>>()?;
        let (certificates, keys) = (texts(&raw.certificate_file), texts(&raw.key_file));
        if certificates.is_empty() || certificates.len() > CERTIFICATES_MAX {
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
        let mut warnings = Vec::new();
        let mut identities = Vec::new();
        let mut hasher = DefaultHasher::new();
        for (certificate, key) in certificates.iter().zip(&keys) {
            let identity = self.identity(certificate, key, &mut hasher)?;
            let state = match identity.validity {
                Validity::Valid => None,
                Validity::Expired => Some("has expired"),
                Validity::NotYet => Some("is not valid yet"),
            };
            warnings.extend(
                state.map(|state| {
                    format!("The certificate of `{certificate}` {state}: clients will refuse it.")
                }),
            );
            identities.push(identity);
        }
        let client_ca = raw.client_ca_file.as_deref().map(|file| self.read("client_ca_file", file));
        let client_ca = client_ca.transpose()?;
        client_ca.hash(&mut hasher);
        let tls = TlsSettings::new(&identities, client_ca.as_deref())
            .map_err(|problem| self.refuse("client_ca_file", problem))?;
        Ok(SecuredListener { addresses, tls, warnings, fingerprint: hasher.finish(), source: raw.clone() })
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
