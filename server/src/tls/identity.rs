//! Certificates with their private keys, and the choice of a certificate by the name that a client asks for
//! (SNI, RFC 6066, section 3).

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use webpki::{EndEntityCert, KeyUsage};

use super::issued::{CHALLENGE_ALPN, Issued, Lifetime};

/// The end of the year 9999. No certificate is valid after it.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// The contents of two PEM files.
pub(crate) struct Pem<'a> {
    /// The certificate, and the certificates that lead to its root.
    pub(crate) certificate: &'a [u8],
    /// The private key of the certificate: PKCS #8, PKCS #1 or SEC 1.
    pub(crate) key: &'a [u8],
}

/// A certificate with its private key.
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    /// DNS names of the certificate, in lower case; `*.` stands for one label.
    names: Vec<Box<str>>,
    pub(crate) lifetime: Lifetime,
    /// Whether the certificate is valid now.
    pub(crate) validity: Validity,
}

/// Whether a certificate is valid now.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Validity {
    Valid,
    Expired,
    NotYet,
}

/// Why a certificate or its key cannot be used: a clause that follows the name of a setting.
#[derive(Debug)]
pub(crate) enum IdentityError {
    /// The certificate's file is wrong.
    Certificate(String),
    /// The key's file is wrong.
    Key(String),
}

impl Identity {
    /// Reads a certificate and its key, and checks that they belong together.
    pub(crate) fn from_pem(pem: &Pem<'_>, provider: &CryptoProvider) -> Result<Self, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| IdentityError::Certificate(format!("is not PEM: {error}")))?;
        let Some(first) = chain.first().cloned() else {
            let problem = "holds no certificate: it must have a `BEGIN CERTIFICATE` block";
            return Err(IdentityError::Certificate(String::from(problem)));
        };
        let unreadable = |error| {
            let problem = format!("has a first certificate that cannot be read: {error}");
            IdentityError::Certificate(problem)
        };
        let parsed = EndEntityCert::try_from(&first).map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|error| {
            IdentityError::Key(format!("holds no private key in PEM without a passphrase: {error}"))
        })?;
        let names = parsed.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect();
        let lifetime = lifetime(&parsed, provider);
        let validity = validity(&parsed, provider);
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                IdentityError::Key(String::from("is not the key of the first certificate"))
            }
            error => IdentityError::Key(format!("cannot be used: {error}")),
        })?;
        Ok(Self { key: Arc::new(key), names, lifetime, validity })
    }

    /// Whether the certificate names a host, given in lower case. Wildcards do not count.
    pub(crate) fn has_name(&self, host: &str) -> bool {
        self.names.iter().any(|name| **name == *host)
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The error of a certificate at a time. No root is trusted here, so there is always an error: that of a
/// valid certificate is an unknown issuer.
fn flaw(certificate: &EndEntityCert<'_>, provider: &CryptoProvider, at: Duration) -> Option<webpki::Error> {
    let algorithms = provider.signature_verification_algorithms.all;
    let usage = KeyUsage::server_auth();
    let time = UnixTime::since_unix_epoch(at);
    certificate.verify_for_usage(algorithms, &[], &[], time, usage, None, None).err()
}

fn lifetime(certificate: &EndEntityCert<'_>, provider: &CryptoProvider) -> Lifetime {
    let begins_s = match flaw(certificate, provider, Duration::ZERO) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        _ => 0,
    };
    let expires_s = match flaw(certificate, provider, END_OF_TIME) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        _ => END_OF_TIME.as_secs(),
    };
    Lifetime { begins_s, expires_s }
}

fn validity(certificate: &EndEntityCert<'_>, provider: &CryptoProvider) -> Validity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match flaw(certificate, provider, now) {
        Some(webpki::Error::CertExpired { .. }) => Validity::Expired,
        Some(webpki::Error::CertNotValidYet { .. }) => Validity::NotYet,
        _ => Validity::Valid,
    }
}

/// Several identities, and issued certificates. A client gets the first identity if it asks for no name, or
/// for a name that no identity has.
#[derive(Debug)]
pub(super) struct Identities {
    first: Option<Arc<CertifiedKey>>,
    issued: Option<Arc<Issued>>,
    /// Identities by the names of their certificates. A wildcard name is kept without its star, so
    /// `*.example.com` is `.example.com` here.
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Identities {
    /// The identities by their names. Of two identities with the same name, the first has the name, and an
    /// issued certificate comes last.
    pub(super) fn new(identities: &[Identity], issued: Option<Arc<Issued>>) -> Self {
        let mut by_name = HashMap::new();
        for identity in identities {
            for name in &identity.names {
                let name = name.strip_prefix('*').unwrap_or(name);
                by_name.entry(Box::from(name)).or_insert_with(|| identity.key.clone());
            }
        }
        Self { first: identities.first().map(Identity::key), issued, by_name }
    }

    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let issued = || self.issued.as_ref().and_then(|issued| issued.find(&name));
        let parent = || name.find('.').and_then(|dot| self.by_name.get(&name[dot..]));
        self.by_name.get(&*name).cloned().or_else(issued).or_else(|| parent().cloned())
    }

    fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.first.clone().or_else(|| self.issued.as_ref()?.first())
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn().is_some_and(|mut names| names.any(|name| name == CHALLENGE_ALPN));
        match (&self.issued, hello.server_name()) {
            (Some(issued), Some(name)) if is_challenge => issued.challenge(name),
            (_, name) => name.and_then(|name| self.find(name)).or_else(|| self.first()),
        }
    }
}
