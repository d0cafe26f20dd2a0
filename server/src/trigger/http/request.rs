//! The request about one or several events, its signature, and what its reply says.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use fanfare_core::{
    json::write_string,
    publication::Payload,
    trigger::Verdict,
    verdict::{self, AnswerError, Asked, Form},
};
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue},
};
use ring::hmac;

use super::settings::HttpSettings;
use crate::{
    egress::Reply,
    trigger::{desk::Job, input::put_head},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SIGNATURE: HeaderName = HeaderName::from_static("fanfare-signature");

/// Bytes of a list of verdicts besides the verdicts.
const LIST_BYTES: usize = 4096;

/// Why a request has no verdict for an event.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum HttpError {
    /// The deadline has passed.
    TimedOut,
    /// The breaker permits no request.
    BreakerOpen,
    /// There is no connection. A clause that follows the name of the back end.
    Unreachable(String),
    /// The connection ended, or its bytes are no HTTP.
    Broken(String),
    Status(StatusCode),
    NoJson,
    TooLarge,
    Answer(AnswerError),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the back end did not answer in time"),
            Self::BreakerOpen => f.write_str("the back end failed too often, and is not asked for now"),
            Self::Unreachable(clause) => write!(f, "the back end {clause}"),
            Self::Broken(error) => write!(f, "the request failed: {error}"),
            Self::Status(status) => write!(f, "the back end answered with the status {}", status.as_u16()),
            Self::NoJson => f.write_str("the answer's type is not application/json, or it is encoded"),
            Self::TooLarge => f.write_str("the answer is larger than it may be"),
            Self::Answer(error) => error.fmt(f),
        }
    }
}

/// The request about the events of some jobs, signed at `time_s` (seconds since 1970).
pub(super) fn request(settings: &HttpSettings, jobs: &[Job], time_s: u64) -> Request<Full<Bytes>> {
    let body = match settings.form {
        Form::One => {
            let mut body = BytesMut::with_capacity(1024);
            jobs.iter().for_each(|job| put_event(&mut body, job));
            body
        }
        Form::List => list(jobs),
    };
    let signature = signature(&settings.key, time_s, &body);
    let mut request = settings.endpoint.request(Method::POST, body.freeze());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(SIGNATURE, signature);
    request
}

fn list(jobs: &[Job]) -> BytesMut {
    let mut body = BytesMut::with_capacity(1024 * jobs.len());
    for (at, job) in jobs.iter().enumerate() {
        body.extend_from_slice(if at == 0 { b"{\"events\":[" } else { b"," });
        put_event(&mut body, job);
    }
    body.extend_from_slice(b"]}");
    body
}

/// Writes the input of a trigger. A binary payload is in `base64`, so no JSON payload looks like it.
fn put_event(body: &mut BytesMut, job: &Job) {
    put_head(body, &job.triggers.app.name, &job.call.input);
    match job.payload() {
        Payload::Json(text) => {
            body.extend_from_slice(b",\"payload\":");
            body.extend_from_slice(text.as_bytes());
        }
        Payload::Binary(bytes) => {
            body.extend_from_slice(b",\"payload\":null,\"base64\":");
            write_string(body, &STANDARD.encode(bytes));
        }
    }
    body.extend_from_slice(b"}");
}

/// The value of the header `Fanfare-Signature`: `t=1750000000,v1=` and the HMAC-SHA-256 of the time, a dot
/// and the body, in lower-case hexadecimal.
fn signature(key: &hmac::Key, time_s: u64, body: &[u8]) -> HeaderValue {
    let mut context = hmac::Context::with_key(key);
    context.update(time_s.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = format!("t={time_s},v1=");
    for byte in context.sign().as_ref() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    HeaderValue::try_from(text).expect("digits and letters are a header's value")
}

/// The most bytes of a reply's body.
pub(super) fn reply_bytes(settings: &HttpSettings, events: usize) -> usize {
    settings.output_bytes * events + LIST_BYTES
}

/// The verdicts of a reply, one for each job.
pub(super) fn verdicts(
    settings: &HttpSettings,
    jobs: &[Job],
    reply: &Reply,
) -> Result<Vec<Result<Verdict, HttpError>>, HttpError> {
    if reply.status != StatusCode::OK {
        return Err(HttpError::Status(reply.status));
    }
    let content_type = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // No request permits an encoded body.
    let is_encoded = reply.headers.contains_key(CONTENT_ENCODING);
    if is_encoded || !essence.eq_ignore_ascii_case("application/json") {
        return Err(HttpError::NoJson);
    }
    let channels: Vec<Option<&str>> = jobs.iter().map(|job| job.call.input.channel.as_deref()).collect();
    let asked = Asked { form: settings.form, channels: &channels, verdict_bytes: settings.output_bytes };
    let verdicts = verdict::decode(&reply.body, asked).map_err(HttpError::Answer)?;
    match (settings.form, &verdicts[..]) {
        // An answer with one verdict that is wrong is a failure of the back end.
        (Form::One, [Err(error)]) => Err(HttpError::Answer(*error)),
        _ => Ok(verdicts.into_iter().map(|verdict| verdict.map_err(HttpError::Answer)).collect()),
    }
}
