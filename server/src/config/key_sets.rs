//! `[[apps.<name>.session_key_sets]]`: issuers whose keys the running server reads from a URL.

use std::{sync::Arc, time::Duration};

use fanfare_core::token::KeySet;

use super::{apps::Section, error::ConfigError, layers::within, raw};
use crate::{
    egress::{Endpoint, EndpointError, PlainHttp},
    issuer::Issuer,
};

/// The most issuers of an app.
const ISSUERS_MAX: usize = 8;

/// The most bytes of a file with certificates.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Checks the entries of a section. No request is sent.
pub(super) fn build(section: &Section<'_>, raw: &[raw::SessionKeySet]) -> Result<Vec<Issuer>, ConfigError> {
    if raw.len() > ISSUERS_MAX {
        let problem = format_args!("must not have more than {ISSUERS_MAX} entries");
        return Err(section.refuse("session_key_sets", problem));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (place, raw) in raw.iter().enumerate() {
        let issuer = Entry { section, place }.build(raw)?;
        if issuers.iter().any(|other| other.endpoint.to_string() == issuer.endpoint.to_string()) {
            let problem = format_args!("is `{}`, which another entry has too", issuer.endpoint);
            return Err(section.refuse(&format!("session_key_sets[{place}].url"), problem));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

/// One entry while it is checked.
struct Entry<'a> {
    section: &'a Section<'a>,
    place: usize,
}

impl Entry<'_> {
    fn key(&self, name: &str) -> String {
        format!("session_key_sets[{}].{name}", self.place)
    }

    fn build(&self, raw: &raw::SessionKeySet) -> Result<Issuer, ConfigError> {
        let url = raw.url.as_deref().unwrap_or_default();
        let plain = match raw.allow_http {
            Some(true) => PlainHttp::Anywhere,
            _ => PlainHttp::OnLoopback,
        };
        let authorities = self.authorities(raw.ca_file.as_deref())?;
        let endpoint = Endpoint::new(url, plain, authorities.as_deref()).map_err(|error| match error {
            EndpointError::Url(problem) => self.section.refuse(&self.key("url"), problem),
            EndpointError::Authorities(problem) => self.section.refuse(&self.key("ca_file"), problem),
        })?;
        let floor = self.section.key(&self.key("floor_s"));
        let floor_s: u32 = within(&floor, raw.floor_s.unwrap_or(30), 1..=3600)?;
        Ok(Issuer {
            app: self.section.name.into(),
            place: self.place,
            endpoint,
            floor: Duration::from_secs(floor_s.into()),
            set: Arc::new(KeySet::default()),
        })
    }

    /// The content of a file with certificates.
    fn authorities(&self, file: Option<&str>) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(file) = file else { return Ok(None) };
        let refuse = |problem: String| self.section.refuse(&self.key("ca_file"), problem);
        let path = self.section.base.map_or_else(|| file.into(), |base| base.join(file));
        let unreadable = |error| refuse(format!("names `{}`, which cannot be read: {error}", path.display()));
        if std::fs::metadata(&path).map_err(unreadable)?.len() > CA_BYTES_MAX {
            return Err(refuse(format!("names `{}`, which has too many bytes", path.display())));
        }
        std::fs::read(&path).map(Some).map_err(unreadable)
    }
}
