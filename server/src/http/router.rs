//! The decisions that a request's head allows: resource, app, origin, method, key, media type.
//!
//! [`admit`] runs before a byte of a body is read, so a stranger cannot make the server hold bodies.

use std::sync::Arc;

use fanfare_core::{
    app::{App, Apps},
    dialect::{native_http::Resource, xano},
    http::Head,
};

use super::{
    access::{Parameters, check_origin, check_server_key, find_app},
    cors::CorsPolicy,
    members,
    reply::Problem,
};

/// Where WebSocket connections come in.
pub(crate) const WEBSOCKET_PATH: &str = "/v1/ws";

/// The path of an app's triggers. The name of a trigger may follow.
const TRIGGERS_PATH: &str = "/v1/triggers";

/// The target of a request.
#[derive(Copy, Clone)]
pub(super) enum Target<'a> {
    /// A resource of the native dialect.
    Native(Resource<'a>),
    /// An event of Xano's back end.
    XanoEvent,
    /// The app's triggers, or the one of this name.
    Triggers(Option<&'a str>),
}

impl<'a> Target<'a> {
    fn at(apps: &Apps, path: &'a str) -> Option<Self> {
        match path {
            xano::EVENT_PATH => apps.serve_xano().then_some(Self::XanoEvent),
            TRIGGERS_PATH => Some(Self::Triggers(None)),
            path => match path.strip_prefix(TRIGGERS_PATH).and_then(|rest| rest.strip_prefix('/')) {
                Some(name) => Some(Self::Triggers(Some(name))),
                None => Resource::at(path).map(Self::Native),
            },
        }
    }
}

/// The methods of a resource, without `OPTIONS`, which every resource has.
fn methods(target: Target<'_>) -> &'static [&'static str] {
    let resource = match target {
        Target::Native(resource) => resource,
        Target::XanoEvent => return &["POST"],
        Target::Triggers(_) => return &["GET", "HEAD", "PUT", "PATCH", "DELETE"],
    };
    match resource {
        Resource::Members | Resource::History | Resource::Channels | Resource::Sessions => &["GET", "HEAD"],
        Resource::User(_) => &["GET", "HEAD", "PATCH"],
        Resource::Messages => &["PATCH", "DELETE"],
        Resource::Options => &["GET", "HEAD", "PUT"],
        Resource::Send | Resource::Broadcast | Resource::Publish | Resource::Disconnect => &["POST"],
    }
}

/// The `Allow` header field with these methods and `OPTIONS`.
fn allow(target: Target<'_>) -> &'static [(&'static str, &'static str)] {
    let resource = match target {
        Target::Native(resource) => resource,
        Target::XanoEvent => return &[("allow", "POST, OPTIONS")],
        Target::Triggers(_) => return &[("allow", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")],
    };
    match resource {
        Resource::User(_) => &[("allow", "GET, HEAD, PATCH, OPTIONS")],
        Resource::Members | Resource::History | Resource::Channels | Resource::Sessions => {
            &[("allow", "GET, HEAD, OPTIONS")]
        }
        Resource::Messages => &[("allow", "PATCH, DELETE, OPTIONS")],
        Resource::Options => &[("allow", "GET, HEAD, PUT, OPTIONS")],
        Resource::Send | Resource::Broadcast | Resource::Publish | Resource::Disconnect => {
            &[("allow", "POST, OPTIONS")]
        }
    }
}

/// The result of the checks.
pub(super) enum Admission<'a> {
    /// The answer to a preflight, with these methods.
    Preflight(String),
    /// A request of the app's back end, whose body may be read.
    Request(Box<Request<'a>>),
}

/// A request that may go on.
pub(super) struct Request<'a> {
    pub(super) target: Target<'a>,
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
    let target = Target::at(apps, head.path)
        .ok_or_else(|| Problem::new(404, "not_found", "There is nothing here."))?;
    let parameters = Parameters::read(head.query)?;
    let app = find_app(apps, &parameters)?;
    *cors = CorsPolicy::NoOrigin;
    check_origin(app, head)?;
    *cors = CorsPolicy::Origin(head.origin().map(Into::into));
    if head.method == "OPTIONS" {
        return Ok(Admission::Preflight(methods(target).join(", ")));
    }
    if !methods(target).contains(&head.method) {
        return Err(
            Problem::new(405, "method_not_allowed", "This resource has another method.").with(allow(target))
        );
    }
    check_server_key(app, head)?;
    if !matches!(head.method, "GET" | "HEAD") {
        check_media(head)?;
    }
    Ok(Admission::Request(Box::new(Request { target, app: app.clone(), parameters })))
}

/// Whether the body of a request with this head is wanted. If not, the request is answered by its head alone.
pub(crate) fn wants_body(apps: &Apps, head: &Head<'_>) -> bool {
    if members::is_for(apps, head) {
        return members::wants_body(apps, head);
    }
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
