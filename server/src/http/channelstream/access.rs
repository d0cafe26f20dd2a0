//! Access to an app's paths: checks the caller's address, and then a signature or an administrator's cookie.

use std::borrow::Cow;

use fanfare_core::{
    dialect::channelstream::{Access, AdminPage, Ageing, Route},
    http::{Head, Query},
};

use super::{Page, Place};

/// How long an administrator stays signed in, in seconds.
const COOKIE_S: u64 = 30 * 86_400;
const COOKIE: &str = "auth_tkt";
/// The most bytes of a prefix that a proxy names.
const SCRIPT_BYTES_MAX: usize = 256;
/// The value that a cookie signs.
const COOKIE_VALUE: &str = "admin";

/// The head of a request to a place.
pub(crate) struct Knock<'a> {
    pub(crate) route: Route,
    pub(crate) path: &'a str,
    pub(crate) conn_id: Option<Cow<'a, str>>,
    pub(crate) callback: Option<Cow<'a, str>>,
    secret: Option<Cow<'a, str>>,
    cookie: Option<&'a str>,
}

/// The result of the checks.
pub(crate) enum Admission {
    /// The request is admitted.
    Admitted,
    /// The request is refused with this page.
    Refused(Page),
}

impl<'a> Knock<'a> {
    pub(crate) fn read(path: &'a str, head: &Head<'a>) -> Self {
        let method = if head.method == "HEAD" { "GET" } else { head.method };
        let header = head.header_str("x-channelstream-secret").filter(|secret| !secret.is_empty());
        let mut knock = Self {
            route: Route::of(method, path),
            path,
            conn_id: None,
            callback: None,
            secret: header.map(Cow::Borrowed),
            cookie: head.header_str("cookie").and_then(cookie),
        };
        // A pair of the query that does not decode is ignored.
        for (name, value) in Query::new(head.query.unwrap_or_default()).flatten() {
            match &*name {
                "conn_id" => knock.conn_id = Some(value),
                "callback" => knock.callback = Some(value),
                "secret" if knock.secret.is_none() && !value.is_empty() => knock.secret = Some(value),
                _ => {}
            }
        }
        knock
    }

    /// Checks the request in the original's order: the address, the signature, and then the route.
    pub(crate) fn admit(&self, place: &Place, address: &str, now_s: u64) -> Admission {
        let Self { route, .. } = self;
        if matches!(route, Route::Preflight | Route::WebSocket) {
            return Admission::Admitted;
        }
        let is_administrator = self.cookie.is_some_and(|cookie| place.is_cookie(cookie, now_s));
        let is_signed = match &self.secret {
            Some(secret) if place.options.allows(address) => match place.is_signed(secret, now_s) {
                true => true,
                false if is_administrator => false,
                false => return Admission::Refused(Page::BadSignature),
            },
            _ => false,
        };
        match (route, route.access()) {
            (Route::Nothing, _) => Admission::Refused(Page::NotFound),
            (_, Access::Anyone) => Admission::Admitted,
            (_, Access::Signed) if is_signed => Admission::Admitted,
            (_, Access::Admin) if is_signed || is_administrator => Admission::Admitted,
            (_, Access::Signed) => Admission::Refused(Page::Forbidden),
            (_, Access::Admin) => Admission::Refused(Page::SignIn),
        }
    }

    /// Whether the request's body is needed.
    pub(crate) fn wants_body(&self) -> bool {
        matches!(self.route, Route::Call(_) | Route::Admin(AdminPage::SignIn))
    }
}

impl Place {
    fn is_signed(&self, token: &str, now_s: u64) -> bool {
        let ageing = if self.options.validate_requests { Ageing::MINUTE } else { Ageing::Ignored };
        self.verifier.verify(token, now_s, ageing)
    }

    fn is_cookie(&self, token: &str, now_s: u64) -> bool {
        self.cookies.verify(token, now_s, Ageing::Seconds(COOKIE_S))
    }

    /// A signature of this server itself.
    pub(crate) fn signature(&self, now_s: u64) -> String {
        self.verifier.sign("dashboard", now_s)
    }

    /// The header of the cookie that signs an administrator in, for URLs below `base`.
    pub(crate) fn cookie(&self, base: &str, now_s: u64) -> String {
        let path = if base.is_empty() { "/" } else { base };
        let value = self.cookies.sign(COOKIE_VALUE, now_s);
        format!("{COOKIE}={value}; Max-Age={COOKIE_S}; Path={path}; HttpOnly; SameSite=Lax")
    }

    /// The header that removes the administrator's cookie.
    pub(crate) fn no_cookie(base: &str) -> String {
        let path = if base.is_empty() { "/" } else { base };
        format!("{COOKIE}=; Max-Age=0; Path={path}; HttpOnly; SameSite=Lax")
    }
}

/// The prefix that a proxy names in `X-Script-Name`, if the text is one.
pub(crate) fn script_name<'h>(head: &Head<'h>) -> Option<&'h str> {
    let name = head.header_str("x-script-name")?;
    let is_path = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    let is_prefix = name.starts_with('/') && !name.ends_with('/') && !name.contains("//");
    (is_path && is_prefix && name.len() <= SCRIPT_BYTES_MAX).then_some(name)
}

/// The scheme of a request's URL that a proxy names in `X-Scheme` or `X-Url-Scheme`.
pub(crate) fn scheme(head: &Head<'_>) -> Option<&'static str> {
    let named = head.header_str("x-scheme").or_else(|| head.header_str("x-url-scheme"))?;
    ["http", "https"].into_iter().find(|scheme| named.eq_ignore_ascii_case(scheme))
}

fn cookie(header: &str) -> Option<&str> {
    let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}
