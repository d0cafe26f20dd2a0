//! The certificate authorities that the operating system trusts.
//!
//! They vouch for every server whose URL has no authorities of its own. Nothing takes the place of an empty
//! trust store: the URL is refused.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::RootCertStore;
use rustls_native_certs::{CertificateResult, load_native_certs};

/// How long a trust store that was read is used for further URLs. All URLs of a configuration share it, and a
/// later reload reads the files again.
const FRESH: Duration = Duration::from_secs(10);

static KEPT: Mutex<Kept> = Mutex::new(Kept(None));

/// The trust store of the operating system, from its files or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
///
/// # Errors
/// The trust store has no certificate. A clause that follows the name of the setting with the authorities.
pub(super) fn system_authorities() -> Result<Arc<RootCertStore>, String> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get(Instant::now(), || trusted(load_native_certs()))
}

/// The last trust store, and when it was read.
struct Kept(Option<(Instant, Arc<RootCertStore>)>);

impl Kept {
    fn get(
        &mut self,
        now: Instant,
        read: impl FnOnce() -> Result<RootCertStore, String>,
    ) -> Result<Arc<RootCertStore>, String> {
        match &self.0 {
            Some((read_at, roots)) if now.saturating_duration_since(*read_at) < FRESH => Ok(roots.clone()),
            _ => {
                self.0 = None;
                let roots = Arc::new(read()?);
                self.0 = Some((now, roots.clone()));
                Ok(roots)
            }
        }
    }
}

/// The certificates that can be used. A trust store may have others.
fn trusted(read: CertificateResult) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = read.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
    Err(format!("is needed, because the operating system's trust store has no certificate{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_trust_store_is_refused_with_its_error() {
        let nothing = trusted(CertificateResult::default()).expect_err("it is empty");
        assert!(nothing.ends_with("has no certificate"), "{nothing}");
        let file = std::path::Path::new("/nowhere/roots.pem");
        let unreadable = rustls_native_certs::load_certs_from_paths(Some(file), None);
        let clause = trusted(unreadable).expect_err("there is no such file");
        assert!(clause.contains("/nowhere/roots.pem"), "{clause}");
    }

    #[test]
    fn a_trust_store_is_read_once_for_a_configuration_and_again_for_a_later_one() {
        let (mut kept, start) = (Kept(None), Instant::now());
        let first = kept.get(start, || Ok(RootCertStore::empty())).expect("it was read");
        let soon = start + FRESH - Duration::from_millis(1);
        let second = kept.get(soon, || panic!("it is fresh")).expect("it is fresh");
        assert!(Arc::ptr_eq(&first, &second));
        let later = kept.get(start + FRESH, || Ok(RootCertStore::empty())).expect("it was read");
        assert!(!Arc::ptr_eq(&first, &later));
    }

    #[test]
    fn a_failure_is_not_kept() {
        let (mut kept, now) = (Kept(None), Instant::now());
        assert!(kept.get(now, || Err("is empty".into())).is_err());
        assert!(kept.get(now, || Ok(RootCertStore::empty())).is_ok());
    }
}
