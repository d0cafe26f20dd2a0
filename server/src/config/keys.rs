//! Keys that expire, or that are bound to origins or addresses.

use fanfare_core::address::Networks;
use fanfare_core::app::{AppKeys, KeyRole, KeyTerms, Origins};
use toml::value::{Datetime, Offset};

use super::apps::Section;
use super::error::ConfigError;
use super::raw;

/// The most addresses and networks of one key.
const ADDRESSES_MAX: usize = 64;

/// A key of the app with its terms.
pub(super) struct BoundKey {
    pub(super) text: String,
    pub(super) role: KeyRole,
    terms: KeyTerms,
}

/// The app's keys with the terms of those that have some.
pub(super) fn with_terms(keys: AppKeys, bound: Vec<BoundKey>) -> AppKeys {
    bound.into_iter().fold(keys, |keys, BoundKey { text, terms, .. }| keys.with_terms(&text, terms))
}

/// Checks the entries of `[[keys]]`.
pub(super) fn build(section: &mut Section<'_>, entries: &[raw::Key]) -> Result<Vec<BoundKey>, ConfigError> {
    entries.iter().enumerate().map(|(place, raw)| key(section, &format!("keys[{place}]"), raw)).collect()
}

fn key(section: &mut Section<'_>, entry: &str, raw: &raw::Key) -> Result<BoundKey, ConfigError> {
    let text = match (&raw.key, &raw.key_env) {
        (Some(text), None) => {
            section.check_placeholder(&format!("{entry}.key"), text, "key_env")?;
            text.clone()
        }
        (None, Some(variable)) => section.variable(&format!("{entry}.key_env"), variable)?,
        _ => return Err(section.refuse(entry, "must have exactly one of `key` and `key_env`")),
    };
    AppKeys::new(&[&text], &[])
        .map_err(|error| section.refuse(&format!("{entry}.key"), format_args!("is a key that {error}")))?;
    let role = match raw.role.as_deref() {
        None | Some("client") => KeyRole::Client,
        Some("server") => KeyRole::Server,
        Some(other) => {
            let problem = format_args!("is `{other}`: it must be client or server");
            return Err(section.refuse(&format!("{entry}.role"), problem));
        }
    };
    let expires_at = raw.expires_at.map(|date| {
        unix_seconds(&date).ok_or_else(|| {
            let problem = format_args!(
                "is {date}: write a date and a time with an offset, such as \
                                        2027-01-31T12:00:00Z"
            );
            section.refuse(&format!("{entry}.expires_at"), problem)
        })
    });
    let origins = raw.origins.as_ref().map(|raw::Texts(entries)| {
        Origins::new(entries)
            .map_err(|error| section.refuse(&format!("{entry}.origins"), format_args!("is wrong: {error}")))
    });
    let addresses = raw.addresses.as_ref().map(|raw::Texts(texts)| addresses(section, entry, texts));
    let terms = KeyTerms {
        expires_at: expires_at.transpose()?,
        origins: origins.transpose()?,
        addresses: addresses.transpose()?,
    };
    Ok(BoundKey { text, role, terms })
}

fn addresses(section: &Section<'_>, entry: &str, texts: &[String]) -> Result<Networks, ConfigError> {
    let key = format!("{entry}.addresses");
    if texts.len() > ADDRESSES_MAX {
        return Err(section.refuse(&key, format_args!("must not have more than {ADDRESSES_MAX} entries")));
    }
    Networks::parse(texts).map_err(|(text, error)| {
        section.refuse(&key, format_args!("is a list with `{text}`: each network {error}"))
    })
}

/// A date and time with an offset as Unix seconds; `None` if a part is missing, or before 1970.
fn unix_seconds(datetime: &Datetime) -> Option<u64> {
    let (date, time) = (datetime.date?, datetime.time?);
    let minutes = match datetime.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // Days since 1970 by the proleptic Gregorian calendar, in years that begin in March.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + i64::from(date.day)
        - 1
        - 719_468;
    let of_day = (i64::from(time.hour) * 60 + i64::from(time.minute) - minutes) * 60;
    u64::try_from(days * 86_400 + of_day + i64::from(time.second.unwrap_or(0))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_with_an_offset_are_unix_seconds() {
        let seconds = |text: &str| unix_seconds(&text.parse().expect("it is a date and time"));
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:30:15Z"), Some(951_827_415));
        assert_eq!(seconds("2027-01-31T12:00:00+02:00"), Some(1_801_389_600));
        assert_eq!(seconds("2027-12-31T23:59:59-01:30"), Some(1_830_302_999));
        assert_eq!(seconds("2027-01-31T12:00:00"), None);
        assert_eq!(seconds("2027-01-31"), None);
        assert_eq!(seconds("1969-12-31T23:59:59Z"), None);
    }
}
