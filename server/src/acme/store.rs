//! The files in which accounts and certificates outlive the server:
//! `<data_dir>/acme/<authority>/account.json` and `…/<domain>.pem`, each readable by its owner alone.
//!
//! A certificate and its key are one file, which is replaced as a whole. A configuration that names another
//! authority uses other files.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use instant_acme::AccountCredentials;

use crate::{
    sys::replace_file,
    tls::{Identity, IdentityError, Pem, TlsSettings},
};

/// The most bytes of a file.
const FILE_BYTES: u64 = 1 << 20;

/// The folder of an authority's files.
#[derive(Clone, Debug)]
pub(crate) struct Store(PathBuf);

impl Store {
    /// The folder for the authority with this URL. No file is touched.
    pub(crate) fn new(data_dir: &Path, url: &str) -> Self {
        let name = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
        let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        // Not `.` or `..`.
        Self(data_dir.join("acme").join(format!("of-{}", name.chars().map(letter).collect::<String>())))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Makes the folder if it is missing.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(|error| {
            let sentence = format!("cannot make `{}` (`server.data_dir`): {error}", self.0.display());
            io::Error::new(error.kind(), sentence)
        })
    }

    /// The account, if there is one.
    pub(super) fn account(&self) -> io::Result<Option<AccountCredentials>> {
        let Some(text) = read(&self.0.join("account.json"))? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(io::Error::other)
    }

    pub(super) fn put_account(&self, account: &AccountCredentials) -> io::Result<()> {
        replace_file(&self.0.join("account.json"), &serde_json::to_vec(account)?)
    }

    /// Removes an account that the authority does not know.
    pub(super) fn drop_account(&self) {
        if let Err(error) = fs::remove_file(self.0.join("account.json")) {
            tracing::warn!(%error, "the account of an authority could not be removed");
        }
    }

    /// The certificate of a domain, if there is one.
    ///
    /// # Errors
    /// A sentence that says why the file cannot be used.
    pub(crate) fn certificate(&self, domain: &str) -> Result<Option<Identity>, String> {
        let path = self.0.join(format!("{domain}.pem"));
        let unusable = |why: &dyn std::fmt::Display| format!("`{}` cannot be used: {why}", path.display());
        match read(&path) {
            Ok(None) => Ok(None),
            Ok(Some(pem)) => identity(&pem, domain).map(Some).map_err(|clause| unusable(&clause)),
            Err(error) => Err(unusable(&error)),
        }
    }

    pub(super) fn put_certificate(&self, domain: &str, pem: &[u8]) -> io::Result<()> {
        replace_file(&self.0.join(format!("{domain}.pem")), pem)
    }
}

/// The identity in a text with a private key and certificates.
///
/// # Errors
/// A clause that follows the name of the certificate.
pub(super) fn identity(pem: &[u8], domain: &str) -> Result<Identity, String> {
    let both = Pem { certificate: pem, key: pem };
    let identity = Identity::from_pem(&both, &TlsSettings::provider()).map_err(|error| match error {
        IdentityError::Certificate(clause) => format!("the certificate {clause}"),
        IdentityError::Key(clause) => format!("the key {clause}"),
    })?;
    match identity.has_name(domain) {
        true => Ok(identity),
        false => Err(format!("the certificate does not name {domain}")),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(file) if file.len() > FILE_BYTES => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    fs::read(path).map(Some)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../tls/session/keys/localhost.crt");
    const KEY: &[u8] = include_bytes!("../tls/session/keys/localhost.key");

    #[test]
    fn each_authority_has_a_folder_below_the_data_directory() {
        let folder = |url| Store::new(Path::new("/d"), url).0.display().to_string();
        assert_eq!(folder("https://a.example/directory"), "/d/acme/of-a.example_directory");
        assert_eq!(folder("https://a.example:14000/dir?x=1/"), "/d/acme/of-a.example_14000_dir_x_1");
        assert_eq!(folder("https://../../etc"), "/d/acme/of-.._.._etc");
    }

    #[test]
    fn a_certificate_is_kept_for_its_owner_alone_and_for_its_domain() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let store = Store::new(data.path(), "https://a.example/");
        assert!(store.certificate("localhost").is_ok_and(|kept| kept.is_none()));
        store.prepare().expect("the folder can be made");
        let pem = [KEY, CERTIFICATE].concat();
        store.put_certificate("localhost", &pem).expect("the folder can be written");
        assert!(store.certificate("localhost").is_ok_and(|kept| kept.is_some()));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&store.0), mode(&store.0.join("localhost.pem"))), (0o700, 0o600));
        for (domain, pem, why) in [
            ("other.example", &*pem, "does not name"),
            ("localhost", b"", "no certificate"),
            ("localhost", CERTIFICATE, "no private key"),
            ("localhost", KEY, "no certificate"),
        ] {
            store.put_certificate(domain, pem).expect("the folder can be written");
            let sentence = store.certificate(domain).expect_err("it cannot be used");
            assert!(sentence.contains(why), "{sentence}");
        }
    }
}
