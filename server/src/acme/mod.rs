//! Certificates that the server obtains by itself and renews (ACME, RFC 8555).
//!
//! ```text
//!   due ─▶ Renewal ─▶ authority::obtain ─▶ Endpoint::send ─▶ the authority
//!             │             └ challenge ─▶ Issued ◀─ asks for acme-tls/1 on a listener ─┘
//!             └▶ Store (files) ─▶ Issued ─▶ the next handshakes
//! ```
//!
//! `instant-acme` speaks the protocol: it signs, counts nonces and reads orders. Its own HTTP client is left
//! out of the build, because its requests go through `egress`, which bounds them, and which has the trust
//! store and the TLS of all requests of the server. So ACME adds neither a runtime nor a second HTTP stack.
//!
//! A listener answers challenges itself (TLS-ALPN-01), so no other port is needed. Orders are made one after
//! another on the background thread. A new certificate is for new handshakes; connections stay as they are.
//! The last certificate stays whatever fails.

mod authority;
mod renewal;
mod store;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::AbortHandle;

use self::renewal::Renewal;
pub(crate) use self::store::Store;
use crate::{
    control::{background::Background, exposition::Kind},
    egress::Endpoint,
    tls::Issued,
};

/// What the configuration says of certificates that the server obtains.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The names, in lower case. There is at least one, and each gets a certificate of its own.
    pub(crate) domains: Vec<Box<str>>,
    /// The addresses that the authority may write to, as URLs.
    pub(crate) contact: Vec<String>,
    /// The directory of the authority.
    pub(crate) directory: Endpoint,
    /// Certificates in PEM, one of which vouches for the directory; without it, the trust store of the
    /// system.
    pub(crate) directory_ca: Option<Vec<u8>>,
    /// The wait after the first failure. It doubles with each further failure in a row.
    pub(crate) retry: Duration,
    pub(crate) store: Store,
    /// The certificates, which the listeners share.
    pub(crate) issued: Arc<Issued>,
}

impl Settings {
    /// Whether `other` asks the same authority for certificates of the same domains.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let texts = |own: &Self| (own.directory.to_string(), own.store.folder().to_owned(), own.retry);
        self.domains == other.domains
            && self.contact == other.contact
            && self.directory_ca == other.directory_ca
            && texts(self) == texts(other)
    }
}

/// What was counted of a name since the settings took effect.
#[derive(Default)]
pub(crate) struct Numbers {
    obtained: AtomicU64,
    failures: AtomicU64,
}

/// The certificates of a running server.
pub(crate) struct Acme {
    background: Arc<Background>,
    running: Mutex<Option<Running>>,
}

struct Running {
    settings: Arc<Settings>,
    numbers: Arc<[Numbers]>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Acme {
    /// Begins to obtain and renew certificates.
    ///
    /// # Errors
    /// The folder for the account and the certificates cannot be made.
    pub(crate) fn start(background: Arc<Background>, settings: Option<Arc<Settings>>) -> io::Result<Self> {
        if let Some(settings) = &settings {
            settings.store.prepare()?;
        }
        let this = Self { background, running: Mutex::default() };
        this.replace(settings);
        Ok(this)
    }

    /// Replaces the settings. An order goes on if nothing has changed.
    pub(crate) fn replace(&self, settings: Option<Arc<Settings>>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(running), Some(settings)) = (&*running, &settings)
            && running.settings.is_same(settings)
        {
            return;
        }
        *running = settings.map(|settings| {
            let numbers: Arc<[Numbers]> = settings.domains.iter().map(|_| Numbers::default()).collect();
            let renewal = Renewal::new(settings.clone(), numbers.clone());
            let task = self.background.spawn(renewal.run());
            Running { settings, numbers, task }
        });
    }

    /// When the first of the certificates expires, in seconds since 1970.
    pub(crate) fn expires_s(&self) -> Option<u64> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref()?.settings.issued.expires_s()
    }

    /// Calls `visit` with each name, when its certificate expires (0 without one), and its numbers.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&str, u64, &Numbers)) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { settings, numbers, .. }) = &*running else { return };
        for (domain, numbers) in settings.domains.iter().zip(numbers.iter()) {
            let lifetime = settings.issued.lifetime(domain);
            visit(domain, lifetime.map_or(0, |lifetime| lifetime.expires_s), numbers);
        }
    }
}

/// A metric of a name.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    /// The value, from the time at which the certificate expires and the numbers.
    pub(crate) value: fn(u64, &Numbers) -> u64,
}

/// The metrics of names with certificates that the server obtains.
pub(crate) const METRICS: [Metric; 3] = [
    Metric {
        name: "fanfare_acme_certificates_total",
        kind: Kind::Counter,
        help: "Certificates obtained for the domain.",
        value: |_, numbers| numbers.obtained.load(Ordering::Relaxed),
    },
    Metric {
        name: "fanfare_acme_failures_total",
        kind: Kind::Counter,
        help: "Times no certificate could be obtained for the domain.",
        value: |_, numbers| numbers.failures.load(Ordering::Relaxed),
    },
    Metric {
        name: "fanfare_acme_expiry_timestamp_seconds",
        kind: Kind::Gauge,
        help: "Time at which the certificate of the domain expires, in seconds since 1970; 0 without one.",
        value: |expires_s, _| expires_s,
    },
];
