//! The files of the admin listener's pages, as they are in the binary.
//!
//! Everything a page loads is here: no page asks another host for anything. Libraries are built by
//! `scripts/assets`.

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

/// A file: where it is served, and what it is.
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

/// What several pages load.
pub(super) const SHARED: &[Asset] = &[
    asset!("/assets/preact.js", SCRIPT, "vendor/preact.js"),
    asset!("/assets/fanfare.js", SCRIPT, "vendor/fanfare.js"),
];

/// The demo's page.
pub(super) const DEMO: &[Asset] = &[
    asset!("/demo/", HTML, "demo/index.html"),
    asset!("/demo/demo.js", SCRIPT, "demo/demo.js"),
    asset!("/demo/demo.css", STYLE, "demo/demo.css"),
];

/// A route for each file.
pub(super) fn routes(assets: &'static [Asset]) -> Router {
    assets.iter().fold(Router::new(), |router, asset| {
        let tag = tag(asset.text);
        router.route(asset.path, get(async move |headers: HeaderMap| serve(asset, tag, &headers)))
    })
}

/// Answers with a file, unless the browser has it.
fn serve(asset: &Asset, tag: u64, headers: &HeaderMap) -> Response {
    let tag = format!("\"{tag:016x}\"");
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        // A browser asks each time, and is told when nothing has changed.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, HeaderValue::try_from(tag).expect("digits are a header's value")),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, head).into_response(),
        false => (head, asset.text).into_response(),
    }
}

/// A number that differs when the text does.
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
