//! The TLS parameters of a listener: versions, suites, certificates, tickets.
//!
//! TLS 1.2 and 1.3, with forward secrecy and authenticated encryption; rustls has nothing else. `http/1.1` is
//! the only protocol of ALPN, beside that of challenges on a listener with issued certificates. Tickets
//! resume sessions without state on the server. A listener has its own ticket keys, which change every six
//! hours. A listener that asks for client certificates gives no tickets, because a ticket would outlive the
//! check of the certificate.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
    server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier},
};

use super::{
    identity::{Identities, Identity},
    issued::{CHALLENGE_ALPN, Issued},
    session::Tls,
};

/// The one protocol that clients may choose by ALPN.
const ALPN: &[u8] = b"http/1.1";

/// The TLS settings of a listener. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TlsSettings {
    config: Arc<ServerConfig>,
    /// When the first of the listener's own certificates expires, in seconds since 1970.
    pub(crate) expires_s: Option<u64>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// The cryptography of all listeners.
    pub(crate) fn provider() -> CryptoProvider {
        ring::default_provider()
    }

    /// The settings for `identities` and certificates that are issued while the server runs. With
    /// `client_ca`, authorities' certificates in PEM, a handshake needs a certificate of one of these
    /// authorities.
    ///
    /// # Errors
    /// A clause that follows the name of the setting, if `client_ca` has no usable certificate.
    pub(crate) fn new(
        identities: &[Identity],
        issued: Option<Arc<Issued>>,
        client_ca: Option<&[u8]>,
    ) -> Result<Self, String> {
        let provider = Arc::new(Self::provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites of both versions");
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider)
                    .build()
                    .map_err(|error| format!("cannot be used: {error}"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let answers_challenges = issued.is_some();
        let mut config = builder.with_cert_resolver(Arc::new(Identities::new(identities, issued)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        if answers_challenges {
            config.alpn_protocols.push(CHALLENGE_ALPN.to_vec());
        }
        // `records` takes over after the handshake.
        config.enable_secret_extraction = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if client_ca.is_none() {
            config.ticketer = ring::Ticketer::new().map_err(|error| error.to_string())?;
        } else {
            config.send_tls13_tickets = 0;
        }
        let expires_s = identities.iter().map(|identity| identity.lifetime.expires_s).min();
        Ok(Self { config: Arc::new(config), expires_s })
    }

    /// The state of a new connection.
    ///
    /// # Errors
    /// If rustls refuses the settings, which no configuration causes.
    pub(crate) fn begin(&self) -> Result<Tls, rustls::Error> {
        UnbufferedServerConnection::new(self.config.clone()).map(Tls::new)
    }
}

/// The authorities of a PEM file.
///
/// # Errors
/// A clause that follows the name of the setting.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("has a certificate that cannot be an authority: {error}"))?;
    }
    match roots.is_empty() {
        true => Err(String::from("holds no certificate: it must have a `BEGIN CERTIFICATE` block")),
        false => Ok(roots),
    }
}
