//! The files of the admin listener's pages, which are part of the binary.
//!
//! Every file that a page loads is here, so a page loads nothing from another host. `scripts/assets` builds
//! the libraries among the files.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use axum::{
    Router,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
    routing::get,
};

/// A file with its path and its media type.
pub(super) struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! asset {
    ($path:literal, $kind:ident, $file:literal) => {
        Asset { path: $path, kind: $kind, text: include_str!(concat!("../../assets/", $file)) }
    };
}

/// The files of the demo's page, which also loads `preact.js` of the dashboard.
pub(super) const DEMO: &[Asset] = &[
    asset!("/demo/", HTML, "demo/index.html"),
    asset!("/demo/demo.js", SCRIPT, "demo/demo.js"),
    asset!("/demo/demo.css", STYLE, "demo/demo.css"),
    asset!("/assets/fanfare.js", SCRIPT, "vendor/fanfare.js"),
];

/// The files of the dashboard's page, some of which the demo's page loads too.
pub(super) const DASHBOARD: &[Asset] = &[
    asset!("/dashboard/", HTML, "dashboard/index.html"),
    asset!("/dashboard/main.js", SCRIPT, "dashboard/main.js"),
    asset!("/dashboard/api.js", SCRIPT, "dashboard/api.js"),
    asset!("/dashboard/parts.js", SCRIPT, "dashboard/parts.js"),
    asset!("/dashboard/chart.js", SCRIPT, "dashboard/chart.js"),
    asset!("/dashboard/overview.js", SCRIPT, "dashboard/overview.js"),
    asset!("/dashboard/costs.js", SCRIPT, "dashboard/costs.js"),
    asset!("/dashboard/channels.js", SCRIPT, "dashboard/channels.js"),
    asset!("/dashboard/triggers.js", SCRIPT, "dashboard/triggers.js"),
    asset!("/dashboard/sessions.js", SCRIPT, "dashboard/sessions.js"),
    asset!("/dashboard/problems.js", SCRIPT, "dashboard/problems.js"),
    asset!("/dashboard/console.js", SCRIPT, "dashboard/console.js"),
    asset!("/dashboard/dialects.js", SCRIPT, "dashboard/dialects.js"),
    asset!("/dashboard/style.css", STYLE, "dashboard/style.css"),
    asset!("/assets/preact.js", SCRIPT, "vendor/preact.js"),
    asset!("/assets/uplot.js", SCRIPT, "vendor/uplot.js"),
    asset!("/assets/uplot.css", STYLE, "vendor/uplot.css"),
];

/// A route for each file.
pub(super) fn routes(assets: &'static [Asset]) -> Router {
    assets.iter().fold(Router::new(), |router, asset| {
        let tag = tag(asset.text);
        router.route(asset.path, get(async move |headers: HeaderMap| serve(asset, tag, &headers)))
    })
}

/// Answers with a file, or with 304 if the browser has the file.
fn serve(asset: &Asset, tag: u64, headers: &HeaderMap) -> Response {
    let tag = format!("\"{tag:016x}\"");
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        // A browser asks for the file each time, and gets 304 for an unchanged file.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, HeaderValue::try_from(tag).expect("digits are a header's value")),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, head).into_response(),
        false => (head, asset.text).into_response(),
    }
}

/// A hash of the text, for the ETag.
fn tag(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let asset = &DEMO[0];
        let first = serve(asset, 7, &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(serve(asset, 7, &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(serve(asset, 8, &headers).status(), StatusCode::OK);
    }
}
