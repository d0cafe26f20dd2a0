//! Cross-origin requests (Fetch, section 3.2): whose pages may read an answer.

use fanfare_core::http::Head;

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const VARY: (&str, &str) = ("vary", "origin");

/// Which web pages may read an answer.
#[derive(Clone)]
pub(crate) enum CorsPolicy {
    /// Pages of every origin: the answer is no app's. Cookies and the browser's other credentials play no
    /// part.
    AnyOrigin,
    /// No page: the app does not list the request's origin.
    NoOrigin,
    /// Pages of the request's origin, also with requests that carry the browser's credentials; and which
    /// headers they may read.
    Credentials { origin: Option<Box<str>>, exposed: &'static str },
    /// Pages of the request's origin, if the request has one.
    Origin(Option<Box<str>>),
}

impl CorsPolicy {
    /// The header fields that say so.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields: [Option<(&str, &str)>; 4] = match self {
            Self::AnyOrigin => [Some((ALLOW_ORIGIN, "*")), None, None, None],
            Self::Origin(Some(origin)) => [Some((ALLOW_ORIGIN, origin)), Some(VARY), None, None],
            Self::Credentials { origin: Some(origin), exposed } => [
                Some((ALLOW_ORIGIN, origin)),
                Some(VARY),
                Some(("access-control-allow-credentials", "true")),
                Some(("access-control-expose-headers", exposed)),
            ],
            Self::NoOrigin | Self::Origin(None) | Self::Credentials { origin: None, .. } => [None; 4],
        };
        fields.into_iter().flatten()
    }
}

/// Whether a browser asks what a page may ask (Fetch, section 3.2.2).
pub(crate) fn is_preflight(head: &Head<'_>) -> bool {
    head.method == "OPTIONS" && head.header("access-control-request-method").is_some()
}
