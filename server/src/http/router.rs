//! The resources of the API, and what a request's head alone decides: route, app, origin, method, key, media
//! type.
//!
//! [`admit`] runs before a byte of a body is read, so a stranger cannot make the server hold bodies.

use std::sync::Arc;

use fanfare_core::{
    app::{App, Apps},
    http::Head,
};

use super::{
    access::{Parameters, check_origin, check_server_key, find_app},
    cors::CorsPolicy,
    reply::Problem,
};

/// Where WebSocket connections come in.
pub(crate) const WEBSOCKET_PATH: &str = "/v1/ws";

/// A user's name follows.
const USERS: &str = "/v1/users/";

/// The resources of the API.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Route {
    Send,
    Broadcast,
    Publish,
    Members,
    History,
    Channels,
    Disconnect,
    Messages,
    Options,
    User,
}

impl Route {
    fn find(path: &str) -> Result<Self, Problem> {
        Ok(match path {
            "/v1/send" => Self::Send,
            "/v1/broadcast" => Self::Broadcast,
            "/v1/publish" => Self::Publish,
            "/v1/members" => Self::Members,
            "/v1/history" => Self::History,
            "/v1/channels" => Self::Channels,
            "/v1/disconnect" => Self::Disconnect,
            "/v1/messages" => Self::Messages,
            "/v1/options" => Self::Options,
            path if path.strip_prefix(USERS).is_some_and(|user| !user.is_empty()) => Self::User,
            _ => return Err(Problem::new(404, "not_found", "There is nothing here.")),
        })
    }

    fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Members | Self::History | Self::Channels | Self::User => &["GET", "HEAD"],
            Self::Messages => &["PATCH", "DELETE"],
            Self::Options => &["GET", "HEAD", "PUT"],
            Self::Send | Self::Broadcast | Self::Publish | Self::Disconnect => &["POST"],
        }
    }

    fn allow(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Members | Self::History | Self::Channels | Self::User => &[("allow", "GET, HEAD, OPTIONS")],
            Self::Messages => &[("allow", "PATCH, DELETE, OPTIONS")],
            Self::Options => &[("allow", "GET, HEAD, PUT, OPTIONS")],
            Self::Send | Self::Broadcast | Self::Publish | Self::Disconnect => &[("allow", "POST, OPTIONS")],
        }
    }

    /// The user in the path of [`Route::User`], still percent-encoded.
    pub(super) fn user<'a>(head: &Head<'a>) -> &'a str {
        head.path.strip_prefix(USERS).unwrap_or_default()
    }
}

/// What a head leads to.
pub(super) enum Admission<'a> {
    /// The answer to a preflight, with these methods.
    Preflight(String),
    /// A request of the app's back end, whose body may be read.
    Request(Box<Request<'a>>),
}

/// A request that may go on.
pub(super) struct Request<'a> {
    pub(super) route: Route,
    pub(super) app: Arc<App>,
    pub(super) parameters: Parameters<'a>,
}

/// Decides what can be decided at the head. `cors` becomes what the answer says about origins, whatever it
/// is.
pub(super) fn admit<'a>(
    apps: &Apps,
    head: &Head<'a>,
    cors: &mut CorsPolicy,
) -> Result<Admission<'a>, Problem> {
    let route = Route::find(head.path)?;
    let parameters = Parameters::read(head.query)?;
    let app = find_app(apps, &parameters)?;
    *cors = CorsPolicy::NoOrigin;
    check_origin(app, head)?;
    *cors = CorsPolicy::Origin(head.origin().map(Into::into));
    if head.method == "OPTIONS" {
        return Ok(Admission::Preflight(route.methods().join(", ")));
    }
    if !route.methods().contains(&head.method) {
        return Err(
            Problem::new(405, "method_not_allowed", "This resource has another method.").with(route.allow())
        );
    }
    check_server_key(app, head)?;
    if !matches!(head.method, "GET" | "HEAD") {
        check_media(head)?;
    }
    Ok(Admission::Request(Box::new(Request { route, app: app.clone(), parameters })))
}

/// Whether the body of a request with this head is wanted. If not, the request is answered by its head alone.
pub(crate) fn wants_body(apps: &Apps, head: &Head<'_>) -> bool {
    let mut cors = CorsPolicy::AnyOrigin;
    head.path != WEBSOCKET_PATH && matches!(admit(apps, head, &mut cors), Ok(Admission::Request(_)))
}

/// Whether the body may be JSON, in plain bytes.
fn check_media(head: &Head<'_>) -> Result<(), Problem> {
    let refusal = |detail| Problem::new(415, "unsupported_media_type", detail);
    if head.headers.all("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(refusal("The body must not be compressed.").with(&[("accept-encoding", "identity")]));
    }
    let Some(value) = head.header_str("content-type") else { return Ok(()) };
    let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // What curl says of a body unless it is told otherwise.
    let form = "application/x-www-form-urlencoded";
    match media == "application/json" || media.ends_with("+json") || media == form {
        true => Ok(()),
        false => Err(refusal("The body must be application/json.")),
    }
}
