//! Admission: checks the payload of a client's CONNECT, in the order of the original server.

use std::{borrow::Cow, sync::Arc};

use super::{back_end::Scope, event::is_truthy};
use crate::{
    app::{AgnostOptions, App, Apps, Environment, Grant, KeyRefusal, KeyRole, Visitor},
    json::{Document, Raw, Scanner},
    token::{Claims, TokenError},
};

/// The result of an admitted CONNECT.
#[derive(Debug)]
pub enum Entrance {
    /// A client begins a session.
    Session(Admission),
    /// A back end begins its connection.
    BackEnd(Scope),
}

/// A session that may begin.
#[derive(Debug)]
pub struct Admission {
    /// The app of the session.
    pub app: Arc<App>,
    /// Whether the session receives its own messages, unless an event says otherwise.
    pub echo: bool,
    /// The claims of the client's session token, if the token is valid.
    pub claims: Option<Claims>,
    /// When the client's key expires, in Unix seconds.
    pub key_expires_at: Option<u64>,
}

/// The reason why a CONNECT is refused. A stock client does not retry after a refusal.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Refusal {
    code: &'static str,
    title: &'static str,
    message: &'static str,
}

impl Refusal {
    const fn new(code: &'static str, title: &'static str, message: &'static str) -> Self {
        Self { code, title, message }
    }

    const NO_ENVIRONMENT: Self = Self::new(
        "no_environment_found",
        "No Environment Found",
        "There is no environment of this identifier.",
    );
    const DISABLED: Self = Self::new(
        "realtime_not_allowed",
        "Realtime Disabled",
        "Realtime connections are switched off in this environment.",
    );
    const MISSING_KEY: Self =
        Self::new("missing_api_key", "Missing API Key", "This environment asks for an API key.");
    const EXPIRED_KEY: Self = Self::new("expired_api_key", "Expired API Key", "The API key has expired.");
    const MISSING_ORIGIN: Self = Self::new(
        "missing_request_origin",
        "Origin Domain Not Found",
        "The API key is bound to domains, and the request names no origin.",
    );
    const ADDRESS: Self = Self::new(
        "ip_not_authorized",
        "IP Address Not Authorized",
        "The API key may not be used from this address.",
    );
    const INVALID_KEY: Self =
        Self::new("invalid_api_key", "Invalid API Key", "The API key is none of this environment's.");
    /// The spelling is the original's.
    const UNAUTHORIZED_KEY: Self = Self::new(
        "unauthorizez_api_key",
        "Unauthorized API Key",
        "This API key does not allow realtime connections of clients.",
    );
    const ORIGIN: Self = Self::new(
        "domain_not_authorized",
        "Origin Domain Not Authorized",
        "The origin of the request may not use this environment.",
    );
    const MISSING_SESSION: Self = Self::new(
        "missing_session_token",
        "Missing Session Token",
        "This environment asks for a session token.",
    );
    const INVALID_SESSION: Self =
        Self::new("invalid_session_token", "Invalid Session Token", "The session token is not valid.");

    /// The refusal's code, which clients find in the error's `data`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Whether the client's key is wrong.
    pub fn is_wrong_key(&self) -> bool {
        *self == Self::INVALID_KEY || *self == Self::UNAUTHORIZED_KEY
    }

    /// The payload of a CONNECT_ERROR. No part of the payload needs escapes in JSON.
    pub(super) fn payload(&self) -> String {
        let Self { code, title, message } = self;
        [
            r#"{"message":"Realtime Connection Error - "#,
            title,
            r#"","data":{"origin":"client_error","code":""#,
            code,
            r#"","message":""#,
            message,
            r#""}}"#,
        ]
        .concat()
    }
}

/// The known members of a CONNECT's payload. Agnost's names take precedence over Altogic's.
#[derive(Default)]
struct Credentials<'a> {
    env_id: Option<Raw<'a>>,
    subdomain: Option<Raw<'a>>,
    key: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    echo: bool,
    access_token: Option<Cow<'a, str>>,
}

impl<'a> Credentials<'a> {
    /// Reads the payload of a CONNECT, which is an object or is missing.
    fn read(scanner: &mut Scanner, auth: Option<&'a str>) -> Self {
        let Some(Ok(Document::Object(object))) = auth.map(|auth| scanner.scan(auth)) else {
            return Self::default();
        };
        let text = |name| object.given(name).and_then(Raw::as_string).filter(|text| !text.is_empty());
        Self {
            // Altogic's clients send an empty `envId` beside the subdomain.
            env_id: object.given("envId").filter(|id| is_truthy(*id)),
            subdomain: object.given("subdomain"),
            key: text("apiKey").or_else(|| text("clientKey")),
            session: text("session").or_else(|| text("Session")),
            echo: object.given("echoMessages").is_some_and(is_truthy),
            access_token: text("accessToken"),
        }
    }

    fn app<'n>(&self, apps: &'n Apps) -> Option<&'n Arc<App>> {
        if let Some(env_id) = self.env_id {
            return apps.by_environment(Environment::Id(&env_id.as_string()?));
        }
        apps.by_environment(Environment::Subdomain(&self.subdomain?.as_string()?))
    }
}

/// Checks a CONNECT with the payload `auth` of this visitor. An access token makes the client a back end.
/// `verify` checks a session token of the app.
///
/// # Errors
/// The first check that fails.
pub fn admit(
    apps: &Apps,
    auth: Option<&str>,
    visitor: &Visitor<'_>,
    verify: impl FnOnce(&App, &str) -> Result<Claims, TokenError>,
) -> Result<Entrance, Refusal> {
    let mut scanner = Scanner::new();
    let credentials = Credentials::read(&mut scanner, auth);
    if let Some(token) = &credentials.access_token
        && let Some(scope) = Scope::of(apps, token, visitor)
    {
        return Ok(Entrance::BackEnd(scope));
    }
    let app = credentials.app(apps).ok_or(Refusal::NO_ENVIRONMENT)?;
    let options = app.agnost.as_ref().ok_or(Refusal::NO_ENVIRONMENT)?;
    if !options.enabled {
        return Err(Refusal::DISABLED);
    }
    let key_expires_at = match options.key_required {
        true => check_key(app, credentials.key.as_deref(), visitor)?,
        false => None,
    };
    if !app.origin_allowed(visitor.origin) {
        return Err(Refusal::ORIGIN);
    }
    let claims = claims(app, options, credentials.session.as_deref(), verify)?;
    Ok(Entrance::Session(Admission { app: app.clone(), echo: credentials.echo, claims, key_expires_at }))
}

/// Checks a client's key. Returns when the key expires.
fn check_key(app: &App, key: Option<&str>, visitor: &Visitor<'_>) -> Result<Option<u64>, Refusal> {
    match app.admit_key(key.ok_or(Refusal::MISSING_KEY)?, visitor) {
        Ok(Grant { role: KeyRole::Client, expires_at }) => Ok(expires_at),
        Ok(_) => Err(Refusal::UNAUTHORIZED_KEY),
        Err(KeyRefusal::Unknown) => Err(Refusal::INVALID_KEY),
        Err(KeyRefusal::Expired) => Err(Refusal::EXPIRED_KEY),
        Err(KeyRefusal::NoOrigin) => Err(Refusal::MISSING_ORIGIN),
        Err(KeyRefusal::Origin) => Err(Refusal::ORIGIN),
        Err(KeyRefusal::Address) => Err(Refusal::ADDRESS),
    }
}

/// The claims of a session token. An invalid token counts as no token, unless the app requires a session.
fn claims(
    app: &App,
    options: &AgnostOptions,
    token: Option<&str>,
    verify: impl FnOnce(&App, &str) -> Result<Claims, TokenError>,
) -> Result<Option<Claims>, Refusal> {
    match (token.map(|token| verify(app, token)), options.session_required) {
        (Some(Ok(claims)), _) => Ok(Some(claims)),
        (Some(Err(_)), true) => Err(Refusal::INVALID_SESSION),
        (None, true) => Err(Refusal::MISSING_SESSION),
        (Some(Err(_)) | None, false) => Ok(None),
    }
}
