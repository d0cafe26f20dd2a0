//! Who may come in: the app a request names, its origin, its keys, its session token. Used by the WebSocket
//! handshake and the HTTP API alike; each refusal is a problem document.
//!
//! The one rule for keys: a client key opens WebSockets and comes in the query or in `X-Fanfare-Key`; a
//! server key calls the HTTP API and comes in `Authorization` alone, for queries are logged by every proxy on
//! the way.

use std::{borrow::Cow, sync::Arc};

use fanfare_core::{
    app::{App, Apps, Grant, KeyRefusal, KeyRole, Visitor},
    dialect::native_http::RequestQuery,
    http::{Head, Query},
};

use super::reply::Problem;

/// The code of a refusal because the key is none of the app's.
pub(crate) const INVALID_KEY: &str = "invalid_key";

/// The query parameters that Fanfare knows, decoded.
#[derive(Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) app: Option<Cow<'a, str>>,
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) session: Option<Cow<'a, str>>,
    pub(crate) echo: Option<Cow<'a, str>>,
    pub(crate) binary: Option<Cow<'a, str>>,
    pub(crate) join: Option<Cow<'a, str>>,
    pub(crate) resume: Option<Cow<'a, str>>,
    pub(crate) received: Option<Cow<'a, str>>,
    pub(crate) channel: Option<Cow<'a, str>>,
    pub(crate) prefix: Option<Cow<'a, str>>,
    pub(crate) limit: Option<Cow<'a, str>>,
    pub(crate) after: Option<Cow<'a, str>>,
    pub(crate) before: Option<Cow<'a, str>>,
    pub(crate) by: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Reads the query. Parameters of other names are ignored; one that appears twice is refused.
    pub(crate) fn read(query: Option<&'a str>) -> Result<Self, Problem> {
        let mut parameters = Self::default();
        for pair in Query::new(query.unwrap_or_default()) {
            let (name, value) = pair.map_err(|error| Problem::invalid(format!("{error}.")))?;
            let place = match &*name {
                "app" => &mut parameters.app,
                "key" => &mut parameters.key,
                "session" => &mut parameters.session,
                "echo" => &mut parameters.echo,
                "binary" => &mut parameters.binary,
                "join" => &mut parameters.join,
                "resume" => &mut parameters.resume,
                "received" => &mut parameters.received,
                "channel" => &mut parameters.channel,
                "prefix" => &mut parameters.prefix,
                "limit" => &mut parameters.limit,
                "after" => &mut parameters.after,
                "before" => &mut parameters.before,
                "by" => &mut parameters.by,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Problem::invalid(format!("The query parameter {name} appears twice.")));
            }
        }
        Ok(parameters)
    }

    /// The query's parameters of a back end's request.
    pub(crate) fn request_query(&self) -> RequestQuery<'_> {
        RequestQuery {
            channel: self.channel.as_deref(),
            prefix: self.prefix.as_deref(),
            limit: self.limit.as_deref(),
            after: self.after.as_deref(),
            before: self.before.as_deref(),
            by: self.by.as_deref(),
        }
    }
}

/// The app that a request is for.
pub(crate) fn find_app<'a>(apps: &'a Apps, parameters: &Parameters<'_>) -> Result<&'a Arc<App>, Problem> {
    let name = parameters.app.as_deref().unwrap_or("default");
    apps.by_name(name).ok_or_else(|| Problem::new(401, "unknown_app", "There is no app of this name."))
}

/// The name of the app that a request is for, whether or not there is one. For the log.
pub(crate) fn app_name<'a>(head: &Head<'a>) -> Cow<'a, str> {
    let parameters = Parameters::read(head.query).unwrap_or_default();
    parameters.app.unwrap_or(Cow::Borrowed("default"))
}

/// Whether the request's origin may use the app.
pub(crate) fn check_origin(app: &App, head: &Head<'_>) -> Result<(), Problem> {
    match app.origin_allowed(origin(head)) {
        true => Ok(()),
        false => Err(Problem::new(403, "origin_not_allowed", "This origin may not use the app.")),
    }
}

/// The origin that a request names. An origin that is not text is no app's origin.
pub(crate) fn origin<'a>(head: &Head<'a>) -> Option<&'a str> {
    head.header("origin").map(|bytes| std::str::from_utf8(bytes).unwrap_or(""))
}

/// Whether the handshake has one of the app's client keys, in the query or in `X-Fanfare-Key`. Returns when
/// the key expires.
pub(crate) fn check_client_key(
    app: &App,
    head: &Head<'_>,
    parameters: &Parameters<'_>,
    visitor: &Visitor<'_>,
) -> Result<Option<u64>, Problem> {
    let header = single(head, "x-fanfare-key", "X-Fanfare-Key")?;
    let key = either(parameters.key.as_deref(), header, "The key is in the query or in X-Fanfare-Key.")?;
    if key.is_none() && !app.key_required {
        return Ok(None);
    }
    let key = key.ok_or_else(|| {
        missing_key("A client key of the app is needed, as the query parameter key or in X-Fanfare-Key.")
    })?;
    let grant = admit_key(app, key, visitor)?;
    match grant.role {
        KeyRole::Client => Ok(grant.expires_at),
        KeyRole::Server => {
            let detail = "A handshake takes a client key. The server key belongs in Authorization alone.";
            Err(Problem::new(403, "client_key_required", detail))
        }
    }
}

/// Whether the request has one of the app's server keys, in `Authorization`.
pub(crate) fn check_server_key(app: &App, head: &Head<'_>, visitor: &Visitor<'_>) -> Result<(), Problem> {
    let key = bearer(head)?.ok_or_else(|| {
        missing_key("A server key of the app is needed, in the header Authorization: Bearer <key>.")
    })?;
    match admit_key(app, key, visitor)?.role {
        KeyRole::Server => Ok(()),
        KeyRole::Client => Err(Problem::new(403, "server_key_required", "This needs the app's server key.")),
    }
}

/// The session token of a handshake, in the query or in `Authorization`.
pub(crate) fn session_token<'a>(
    head: &Head<'a>,
    parameters: &'a Parameters<'a>,
) -> Result<Option<&'a str>, Problem> {
    let detail = "The session token is in the query or in Authorization.";
    either(parameters.session.as_deref(), bearer(head)?, detail)
}

fn missing_key(detail: &'static str) -> Problem {
    Problem::new(401, "missing_key", detail)
}

fn admit_key(app: &App, key: &str, visitor: &Visitor<'_>) -> Result<Grant, Problem> {
    app.admit_key(key, visitor).map_err(|refusal| match refusal {
        KeyRefusal::Unknown => Problem::new(401, INVALID_KEY, "The key is not one of this app's."),
        KeyRefusal::Expired => Problem::new(401, "key_expired", "The key has expired."),
        KeyRefusal::NoOrigin => {
            Problem::new(403, "origin_not_allowed", "The key is bound to origins, and the request has none.")
        }
        KeyRefusal::Origin => Problem::new(403, "origin_not_allowed", "This origin may not use the key."),
        KeyRefusal::Address => Problem::new(403, "address_not_allowed", "This address may not use the key."),
    })
}

/// The token of an `Authorization: Bearer` header (RFC 6750, section 2.1).
fn bearer<'a>(head: &Head<'a>) -> Result<Option<&'a str>, Problem> {
    let Some((scheme, token)) =
        single(head, "authorization", "Authorization")?.and_then(|v| v.split_once(' '))
    else {
        return Ok(None);
    };
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()))
}

/// The value of a header that may stand once: of two, a proxy on the way may have looked at the other.
fn single<'a>(head: &Head<'a>, name: &str, shown: &str) -> Result<Option<&'a str>, Problem> {
    match head.count(name) {
        0 | 1 => Ok(head.header_str(name)),
        _ => Err(Problem::invalid(format!("The header {shown} appears twice."))),
    }
}

/// The one of two that is given.
fn either<'a>(
    first: Option<&'a str>,
    second: Option<&'a str>,
    detail: &'static str,
) -> Result<Option<&'a str>, Problem> {
    match (first, second) {
        (Some(_), Some(_)) => Err(Problem::invalid(detail)),
        (first, second) => Ok(first.or(second)),
    }
}
