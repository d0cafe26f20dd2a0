//! Cross-origin requests (Fetch, section 3.2): whose pages may read an answer.

use fanfare_core::http::Head;

/// Which web pages may read an answer.
#[derive(Clone)]
pub(crate) enum CorsPolicy {
    /// Pages of every origin: the answer is no app's. Cookies and the browser's other credentials play no
    /// part.
    AnyOrigin,
    /// No page: the app does not list the request's origin.
    NoOrigin,
    /// Pages of the request's origin, if the request has one.
    Origin(Option<Box<str>>),
}

impl CorsPolicy {
    /// The header fields that say so.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields: [Option<(&str, &str)>; 2] = match self {
            Self::AnyOrigin => [Some(("access-control-allow-origin", "*")), None],
            Self::Origin(Some(origin)) => {
                [Some(("access-control-allow-origin", &**origin)), Some(("vary", "origin"))]
            }
            Self::NoOrigin | Self::Origin(None) => [None, None],
        };
        fields.into_iter().flatten()
    }
}

/// Whether a browser asks what a page may ask (Fetch, section 3.2.2).
pub(crate) fn is_preflight(head: &Head<'_>) -> bool {
    head.method == "OPTIONS" && head.header("access-control-request-method").is_some()
}
