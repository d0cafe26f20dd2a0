//! The page of `fanfare demo`, a chat room. The admin listener serves it on loopback.

use std::net::SocketAddr;

use axum::{
    Router,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    middleware,
    response::Redirect,
    routing::get,
};

use super::{
    assets::{self, DEMO},
    guard,
};
use crate::{
    Listening,
    config::{Config, Demo},
};

/// The settings of the demo's page.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The address to which clients connect.
    address: SocketAddr,
    /// The client key.
    key: String,
}

impl Settings {
    /// The settings for a server that listens on `addresses`, if the server serves the demo.
    pub(crate) fn of(config: &Config, addresses: &[Listening]) -> Option<Self> {
        let keys = config.development.as_ref().filter(|_| config.demo == Demo::On)?;
        Some(Self { address: addresses.first()?.address, key: keys.client_key.clone() })
    }
}

/// The routes of the page and its files.
pub(super) fn routes(settings: Settings) -> Router {
    let Settings { address, key } = settings;
    // A key is visible ASCII. A key from the environment may have quotes and backslashes.
    let key = key.replace('\\', "\\\\").replace('"', "\\\"");
    let json = format!("{{\"url\":\"http://{address}\",\"key\":\"{key}\"}}");
    let connect = format!("http://{address} ws://{address}");
    Router::new()
        .route("/", get(|| async { Redirect::to("/demo/") }))
        .route("/demo", get(|| async { Redirect::to("/demo/") }))
        .route(
            "/demo/settings.json",
            get(|| async { ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json) }),
        )
        .merge(assets::routes(DEMO))
        .layer(middleware::map_response(move |response| {
            let connect = connect.clone();
            async move { guard::harden(response, &connect) }
        }))
        .layer(middleware::from_fn(guard::loopback_only))
}
