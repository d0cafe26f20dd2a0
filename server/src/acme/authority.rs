//! One order of one certificate.
//!
//! The authority is hostile: each request has a bound in time and in bytes, the whole order has a bound in
//! time, and what the authority says is shortened before it is logged.

use std::{error::Error as StdError, future::Future, io, pin::Pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tokio::time::timeout;

use super::{Settings, store};
use crate::{
    egress::{Bounds, Endpoint},
    tls::{Answering, Identity},
};

/// What a request may cost.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), body_bytes: 128 << 10 };

/// What an order may cost.
const ORDER_TIME: Duration = Duration::from_secs(120);

/// How often and how long the authority is asked for its verdict on a name, and for a certificate.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(50));

/// The longest wait that the authority may ask for.
const RETRY_AFTER_MAX_S: u64 = 60;

/// The most characters of a sentence in which the authority has a part.
const SENTENCE: usize = 500;

/// A certificate with its key, and both as text.
pub(super) struct Obtained {
    pub(super) identity: Identity,
    pub(super) pem: String,
}

/// Obtains a certificate for a domain.
///
/// # Errors
/// A sentence without a full stop.
pub(super) async fn obtain(settings: &Settings, domain: &str) -> Result<Obtained, String> {
    let done = timeout(ORDER_TIME, order(settings, domain)).await;
    let done = done.unwrap_or_else(|_| Err(format!("the order was not done in {} s", ORDER_TIME.as_secs())));
    done.map_err(|sentence| short(&sentence))
}

async fn order(settings: &Settings, domain: &str) -> Result<Obtained, String> {
    let account = account(settings).await?;
    let identifiers = [Identifier::Dns(domain.into())];
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = order.map_err(|error| {
        if is_about_account(&error) {
            // The next attempt makes another account.
            settings.store.drop_account();
        }
        told(error)
    })?;
    // Challenges are answered until the authority's verdict.
    let answering = authorize(settings, &mut order, domain).await?;
    let status = match order.state().status {
        status @ (OrderStatus::Ready | OrderStatus::Valid) => status,
        _ => order.poll_ready(&POLLING).await.map_err(told)?,
    };
    drop(answering);
    if status == OrderStatus::Invalid {
        return Err(verdict(&mut order).await);
    }
    let key = order.finalize().await.map_err(told)?;
    let chain = order.poll_certificate(&POLLING).await.map_err(told)?;
    let pem = format!("{key}{chain}");
    let identity = store::identity(pem.as_bytes(), domain)?;
    Ok(Obtained { identity, pem })
}

/// The account of the server, which is made if there is none.
async fn account(settings: &Settings) -> Result<Account, String> {
    let unusable = |error: io::Error| {
        format!("the account in `{}` cannot be used: {error}", settings.store.folder().display())
    };
    settings.store.prepare().map_err(|error| error.to_string())?;
    let requests = Requests(settings.directory.clone());
    let builder = Account::builder_with_http(Box::new(requests));
    if let Some(credentials) = settings.store.account().map_err(unusable)? {
        return builder.from_credentials(credentials).await.map_err(told);
    }
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let created = builder.create(&new, settings.directory.to_string(), None).await;
    let (account, credentials) = created.map_err(told)?;
    settings.store.put_account(&credentials).map_err(unusable)?;
    Ok(account)
}

/// Answers the challenges of an order from now on, and asks the authority to check.
async fn authorize(
    settings: &Settings,
    order: &mut Order,
    domain: &str,
) -> Result<Option<Answering>, String> {
    let mut answering = None;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(told)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(format!("the authority has an authorization that is {status:?}")),
        }
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or("the authority does not offer the challenge TLS-ALPN-01")?;
        let digest = challenge.key_authorization().digest();
        answering = Some(answer(settings, domain, digest.as_ref())?);
        challenge.set_ready().await.map_err(told)?;
    }
    Ok(answering)
}

/// Answers challenges with a certificate that has the digest in an extension (RFC 8737, section 3).
fn answer(settings: &Settings, domain: &str, digest: &[u8]) -> Result<Answering, String> {
    let told = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(told)?;
    let mut parameters = CertificateParams::new([String::from(domain)]).map_err(told)?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = parameters.self_signed(&key).map_err(told)?;
    let answering = settings.issued.answer(domain, certificate.der().to_vec(), key.into());
    answering.map_err(|error| error.to_string())
}

/// Why the authority refused an order.
async fn verdict(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { break };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return refusal(problem);
        }
    }
    String::from("the authority refused the order")
}

fn told(error: Error) -> String {
    match error {
        Error::Api(problem) => refusal(&problem),
        error => error.to_string(),
    }
}

fn refusal(problem: &Problem) -> String {
    let said = problem.detail.as_deref().or(problem.r#type.as_deref()).unwrap_or("it does not say why");
    format!("the authority refused: {}", said.trim_end_matches('.'))
}

/// Whether the authority does not know the account, for example because the authority was set up anew.
fn is_about_account(error: &Error) -> bool {
    let Error::Api(problem) = error else { return false };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// A sentence of one line, of at most [`SENTENCE`] characters.
fn short(sentence: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut characters = sentence.chars().map(printable);
    let mut short: String = characters.by_ref().take(SENTENCE).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// The requests of ACME, sent by the server's own client.
struct Requests(Endpoint);

impl HttpClient for Requests {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let endpoint = self.0.with_url(&request.uri().to_string());
        let url = request.uri().clone();
        Box::pin(async move {
            let told = |clause: &dyn std::fmt::Display| other(format!("`{url}` {clause}"));
            let endpoint = endpoint.map_err(|clause| told(&clause))?;
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let mut request = endpoint.request(head.method, body);
            let headers = request.headers_mut();
            // A certificate is no JSON.
            headers.remove(ACCEPT);
            headers.extend(head.headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())));
            let reply = endpoint.send(request, BOUNDS).await.map_err(|error| told(&error))?;
            let mut response = Response::new(Full::new(reply.body));
            *response.status_mut() = reply.status;
            *response.headers_mut() = reply.headers;
            bound_wait(response.headers_mut());
            Ok(BytesResponse::from(response))
        })
    }
}

/// Removes a wait that is too long, or that is a date.
fn bound_wait(headers: &mut HeaderMap) {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    if seconds.is_none_or(|seconds: u64| seconds > RETRY_AFTER_MAX_S) {
        headers.remove(RETRY_AFTER);
    }
}

fn other(sentence: String) -> Error {
    Error::Other(Box::<dyn StdError + Send + Sync>::from(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_of_several_lines_becomes_a_short_line() {
        assert_eq!(short("a\r\n\u{1b}[31mb"), "a   [31mb");
        let long = short(&"ä".repeat(10_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (SENTENCE + 1, true));
    }

    #[test]
    fn an_authority_cannot_ask_for_an_endless_wait() {
        for (value, stays) in [
            ("3", true),
            (" 60 ", true),
            ("61", false),
            ("18446744073709551615", false),
            ("-1", false),
            ("Fri, 31 Dec 9999 23:59:59 GMT", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().expect("a value"));
            bound_wait(&mut headers);
            assert_eq!(headers.contains_key(RETRY_AFTER), stays, "{value}");
        }
    }
}
