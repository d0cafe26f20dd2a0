//! The guard of the admin listener's pages. Headers tell the browser to restrict the page. A page without a
//! password is served only to requests by a name of this machine.
//!
//! A page of another site can make its own name resolve to 127.0.0.1 and then send requests to this listener
//! (DNS rebinding). But the browser still sends the page's own name as `Host`.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Answers a request only if its `Host` names this machine; see the module's description.
pub(super) async fn loopback_only(request: Request, next: Next) -> Response {
    match is_loopback(request.headers()) {
        true => next.run(request).await,
        false => {
            let sentence = "This page is for this machine: open it as 127.0.0.1 or localhost.\n";
            (StatusCode::FORBIDDEN, sentence).into_response()
        }
    }
}

/// Whether the request's `Host` is a name of this machine.
pub(super) fn is_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// Adds the security headers to an answer. The page may connect to its own origin and to `connect`.
pub(super) fn harden(mut response: Response, connect: &str) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self' {connect}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value).expect("addresses are visible ASCII");
        headers.insert(name, value);
    };
    set(CONTENT_SECURITY_POLICY, &policy);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_pass() {
        let passes = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).expect("a value"));
            is_loopback(&headers)
        };
        for host in ["localhost", "localhost:8081", "127.0.0.1:8081", "[::1]:8081", "[::1]"] {
            assert!(passes(host), "{host}");
        }
        for host in ["example.com", "example.com:8081", "127.0.0.1.example.com", "localhost.example.com", ""]
        {
            assert!(!passes(host), "{host}");
        }
        assert!(!is_loopback(&HeaderMap::new()));
    }
}
