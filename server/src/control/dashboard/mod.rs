//! The dashboard: a page that shows the present state of the server, and the page's API.
//!
//! ```text
//!   browser ─▶ guard ─▶ files                                   anybody's: they hold nothing
//!                  └─▶ api ─▶ account ─▶ overview, census       read here, from what workers publish
//!                                    ├─▶ ask ─▶ a worker        by its queue: reading, disconnecting
//!                                    ├─▶ triggers               by the queue of the thread that changes them
//!                                    └─▶ calls ─▶ a worker      as a back end of Channelstream
//!   WebSocket ─▶ console ─▶ a worker                            the socket itself: a session like any other
//! ```
//!
//! A dashboard on loopback without a password answers only requests by a name of this machine. Elsewhere a
//! dashboard needs a password. The dashboard costs nothing while no page is open.

mod account;
mod ask;
mod calls;
mod census;
mod console;
mod handshake;
mod overview;
mod triggers;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE},
    },
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use crossbeam::channel::Sender;

pub(super) use self::console::Console;
use self::{account::Accounts, census::Censuses};
use super::{
    admin::Observed,
    assets::{self, DASHBOARD},
    guard,
};
use crate::{config::Password, trigger::manage::ManageRequest, worker::Answered};

/// The most bytes of a request's body.
const BODY_BYTES: usize = 64 << 10;

/// The state that the dashboard's routes share.
pub(super) struct Dashboard {
    observed: Arc<Observed>,
    accounts: Accounts,
    censuses: Censuses,
    /// Takes requests about triggers.
    manage: Sender<ManageRequest>,
}

impl Dashboard {
    /// The dashboard of an admin listener at `address`; `None` if a dashboard there needs a password and has
    /// none.
    pub(super) fn new(
        address: Option<SocketAddr>,
        password: Option<Password>,
        observed: Arc<Observed>,
        manage: Sender<ManageRequest>,
    ) -> Option<Arc<Self>> {
        if password.is_none() && address.is_some_and(|address| !is_loopback(address.ip())) {
            return None;
        }
        let (accounts, censuses) = (Accounts::new(password), Censuses::default());
        Some(Arc::new(Self { observed, accounts, censuses, manage }))
    }
}

/// Whether only this machine reaches an address.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The page, what it loads, and its API.
pub(super) fn routes(dashboard: &Arc<Dashboard>) -> Router {
    let wants_password = dashboard.accounts.wants_password();
    let api = Router::new()
        .route("/dashboard/api/overview", get(overview))
        .route("/dashboard/api/census", get(census))
        .route(
            "/dashboard/api/apps/{app}/{*what}",
            get(ask_app).post(ask_app).put(ask_app).patch(ask_app).delete(ask_app),
        )
        .route_layer(middleware::from_fn_with_state(dashboard.clone(), signed_in_only))
        .route("/dashboard/api/account", get(account))
        .route("/dashboard/api/login", post(login))
        .route("/dashboard/api/logout", post(logout))
        .route_layer(middleware::from_fn(own_requests_only))
        .with_state(dashboard.clone());
    let pages = Router::new()
        .route("/dashboard", get(|| async { Redirect::to("/dashboard/") }))
        .merge(assets::routes(DASHBOARD))
        .merge(api)
        .route_layer(middleware::map_response(async |response| guard::harden(response, "")));
    match wants_password {
        true => pages,
        false => pages.route_layer(middleware::from_fn(guard::loopback_only)),
    }
}

/// The answer of a server without a dashboard.
pub(super) fn absent() -> Router {
    let sentence = "There is no dashboard here: an admin listener that other machines reach needs \
                    `server.dashboard_password`.\n";
    Router::new()
        .route("/dashboard", get((StatusCode::NOT_FOUND, sentence)))
        .route("/dashboard/", get((StatusCode::NOT_FOUND, sentence)))
}

/// Refuses requests of other sites: a page of another site cannot set this header without a CORS preflight,
/// and the server allows none.
async fn own_requests_only(request: Request, next: axum::middleware::Next) -> Response {
    match request.headers().get("x-fanfare").map(HeaderValue::as_bytes) {
        Some(b"dashboard") => next.run(request).await,
        _ => refuse(403, "not_a_page", "The header X-Fanfare is missing."),
    }
}

async fn signed_in_only(
    State(dashboard): State<Arc<Dashboard>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    match dashboard.accounts.is_signed_in(request.headers()) {
        true => next.run(request).await,
        false => refuse(401, "signed_out", "Sign in first."),
    }
}

fn refuse(status: u16, code: &str, detail: &str) -> Response {
    json(Answered::refusal(status, code, detail))
}

fn json(Answered { status, body }: Answered) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response()
}

fn found(body: impl Into<Bytes>) -> Response {
    json(Answered { status: 200, body: body.into() })
}

async fn account(State(dashboard): State<Arc<Dashboard>>, headers: HeaderMap) -> Response {
    let accounts = &dashboard.accounts;
    let (password, signed_in) = (accounts.wants_password(), accounts.is_signed_in(&headers));
    found(format!("{{\"password\":{password},\"signed_in\":{signed_in}}}"))
}

async fn login(State(dashboard): State<Arc<Dashboard>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(password) = to_bytes(body, BODY_BYTES).await else {
        return refuse(413, "body_too_large", "The password is too long.");
    };
    match dashboard.accounts.sign_in(&password, &head.headers) {
        Ok(cookie) => (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response(),
        Err(account::Refused::Wrong) => refuse(403, "wrong_password", "The password is wrong."),
        Err(account::Refused::TooOften) => {
            refuse(429, "too_many_attempts", "There were too many attempts: wait a minute.")
        }
    }
}

async fn logout(State(dashboard): State<Arc<Dashboard>>, headers: HeaderMap) -> Response {
    let cookie = dashboard.accounts.sign_out(&headers);
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

async fn overview(State(dashboard): State<Arc<Dashboard>>) -> Response {
    found(overview::json(&dashboard.observed))
}

async fn census(State(dashboard): State<Arc<Dashboard>>, uri: Uri) -> Response {
    let node = &dashboard.observed.node;
    let name = ask::parameter(&uri, "app").unwrap_or_default();
    match node.apps().by_name(&name) {
        Some(app) => found(dashboard.censuses.json(node, app.id)),
        None => unknown_app(),
    }
}

fn unknown_app() -> Response {
    refuse(404, "unknown_app", "There is no app of this name.")
}

async fn ask_app(State(dashboard): State<Arc<Dashboard>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().strip_prefix("/dashboard/api/apps/").unwrap_or_default();
    let (app, what) = path.split_once('/').unwrap_or_default();
    let is_about_triggers = triggers::is_about(what);
    let most = if is_about_triggers { triggers::BODY_BYTES } else { BODY_BYTES };
    let Ok(body) = to_bytes(body, most).await else {
        return refuse(413, "body_too_large", "The request is too long.");
    };
    let node = &dashboard.observed.node;
    let name = fanfare_core::http::percent_decode(app).unwrap_or_default();
    let Some(app) = node.apps().by_name(&name).cloned() else { return unknown_app() };
    if let (Some(call), "POST") = (what.strip_prefix("channelstream/"), head.method.as_str()) {
        return json(calls::request(&dashboard.observed, &app, call, &body).await);
    }
    let app = app.id;
    if is_about_triggers {
        return json(triggers::request(&dashboard.manage, app, (&head.method, what), body).await);
    }
    if what == "watch" {
        return json(ask::watch(&dashboard.observed, app, &head.uri).await);
    }
    json(ask::request(&dashboard.observed, app, (&head.method, what), &head.uri, body).await)
}
