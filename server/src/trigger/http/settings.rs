//! The settings of an http trigger, checked.

use std::time::Duration;

use fanfare_core::verdict::Form;
use ring::hmac;

use super::breaker::BreakerSettings;
use crate::{
    egress::{Endpoint, EndpointError, PlainHttp},
    trigger::spec::{RawTrigger, Wrong, within, wrong},
};

/// The fewest and the most bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

/// The most bytes of the authorities' certificates.
const AUTHORITIES_BYTES: usize = 256 << 10;

const OUTPUT_BYTES: usize = 256 << 10;

/// The connections of a trigger whose settings do not say how many.
pub(crate) const CONNECTIONS: usize = 8;

/// A back end that decides, and the bounds of the requests to it.
#[derive(Debug)]
pub(crate) struct HttpSettings {
    pub(crate) endpoint: Endpoint,
    /// The key of signatures.
    pub(crate) key: hmac::Key,
    pub(crate) form: Form,
    /// The most events of a request.
    pub(crate) batch: usize,
    /// The longest time of a request, from connecting to the last byte of the answer.
    pub(crate) timeout: Duration,
    /// The most connections, each of which has one request under way.
    pub(crate) connections: usize,
    /// How long a connection without a request stays open.
    pub(crate) keep_alive: Duration,
    pub(crate) breaker: BreakerSettings,
    /// The most bytes of a verdict, as JSON text.
    pub(crate) output_bytes: usize,
}

impl HttpSettings {
    /// Checks the settings of a trigger with a `url`.
    pub(crate) fn new(raw: &RawTrigger, url: &str, secret: &str) -> Result<Self, Wrong> {
        if !SECRET_BYTES.contains(&secret.len()) {
            let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
            return wrong("secret", format_args!("must have {least} to {most} bytes"));
        }
        if raw.ca.as_ref().is_some_and(|ca| ca.len() > AUTHORITIES_BYTES) {
            return wrong("ca", format_args!("must not be longer than {AUTHORITIES_BYTES} bytes"));
        }
        let authorities = raw.ca.as_ref().map(String::as_bytes);
        let endpoint = Endpoint::new(url, PlainHttp::Anywhere, authorities).or_else(|error| match error {
            EndpointError::Url(problem) => wrong("url", problem),
            EndpointError::Authorities(problem) => wrong("ca", problem),
        })?;
        let form = if raw.batch.is_some() { Form::List } else { Form::One };
        let milliseconds = |key, value, default, min, max| {
            within(key, value, default, min, max).map(|ms| Duration::from_millis(ms as u64))
        };
        let failures = within("breaker_failures", raw.breaker_failures, 10, 1, 1000)?;
        Ok(Self {
            endpoint,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            form,
            batch: within("batch", raw.batch, 1, 1, 100)?,
            timeout: milliseconds("timeout_ms", raw.timeout_ms, 2000, 10, 60_000)?,
            connections: within("connections", raw.connections, CONNECTIONS, 1, 256)?,
            keep_alive: milliseconds("keep_alive_ms", raw.keep_alive_ms, 4000, 0, 600_000)?,
            breaker: BreakerSettings {
                failures: u32::try_from(failures).unwrap_or(u32::MAX),
                open_for: milliseconds("breaker_ms", raw.breaker_ms, 5000, 10, 600_000)?,
            },
            output_bytes: within("output_bytes", raw.output_bytes, OUTPUT_BYTES, 16, 16 << 20)?,
        })
    }
}
