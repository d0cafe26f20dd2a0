//! Who may come in: the app a request names, its origin, its key, its session token. Used by the WebSocket handshake
//! and the HTTP API alike; each refusal is a problem document.

use std::{borrow::Cow, sync::Arc};

use fanfare_core::{
    app::{App, Apps, KeyRole},
    http::{Head, Query},
};

/// Lets pages of every origin read an answer that is no app's. Credentials of the browser's play no part in any.
pub(crate) const ANY_ORIGIN: (&str, &str) = ("access-control-allow-origin", "*");

/// A request's refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) detail: Cow<'static, str>,
    /// Further headers, such as `Allow`.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Problem {
    pub(crate) fn new(status: u16, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), headers: &[] }
    }

    pub(crate) fn with(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

/// The query parameters that Fanfare knows, decoded.
#[derive(Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) app: Option<Cow<'a, str>>,
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) session: Option<Cow<'a, str>>,
    pub(crate) echo: Option<Cow<'a, str>>,
    pub(crate) binary: Option<Cow<'a, str>>,
    pub(crate) join: Option<Cow<'a, str>>,
    pub(crate) channel: Option<Cow<'a, str>>,
    pub(crate) prefix: Option<Cow<'a, str>>,
    pub(crate) limit: Option<Cow<'a, str>>,
    pub(crate) after: Option<Cow<'a, str>>,
    pub(crate) before: Option<Cow<'a, str>>,
    pub(crate) by: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Reads the query; parameters of other names are ignored, repeated ones are not.
    pub(crate) fn read(query: Option<&'a str>) -> Result<Self, Problem> {
        let mut parameters = Self::default();
        for pair in Query::new(query.unwrap_or_default()) {
            let (name, value) =
                pair.map_err(|error| Problem::new(400, "invalid_request", format!("{error}.")))?;
            let place = match &*name {
                "app" => &mut parameters.app,
                "key" => &mut parameters.key,
                "session" => &mut parameters.session,
                "echo" => &mut parameters.echo,
                "binary" => &mut parameters.binary,
                "join" => &mut parameters.join,
                "channel" => &mut parameters.channel,
                "prefix" => &mut parameters.prefix,
                "limit" => &mut parameters.limit,
                "after" => &mut parameters.after,
                "before" => &mut parameters.before,
                "by" => &mut parameters.by,
                _ => continue,
            };
            if place.replace(value).is_some() {
                let detail = format!("The query parameter {name} appears twice.");
                return Err(Problem::new(400, "invalid_request", detail));
            }
        }
        Ok(parameters)
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
    // An origin that is not text is nobody's.
    let origin = head.header("origin").map(|bytes| std::str::from_utf8(bytes).unwrap_or(""));
    match app.origin_allowed(origin) {
        true => Ok(()),
        false => Err(Problem::new(403, "origin_not_allowed", "This origin may not use the app.")),
    }
}

/// What the request's key may do.
pub(crate) fn check_key(app: &App, key: Option<&str>) -> Result<KeyRole, Problem> {
    let key = key.ok_or_else(|| Problem::new(401, "missing_key", "A key of the app is needed."))?;
    app.key_role(key).ok_or_else(|| Problem::new(401, "invalid_key", "The key is not one of this app's."))
}

/// The token of an `Authorization: Bearer` header (RFC 6750, section 2.1).
pub(crate) fn bearer<'a>(head: &Head<'a>) -> Option<&'a str> {
    let (scheme, token) = head.header_str("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
