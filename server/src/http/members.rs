//! The HTTP request for a channel's members of clients of Agnost and Altogic.

use fanfare_core::{
    app::{Apps, Visitor},
    dialect::{HttpProblem, MembersHead},
    http::{Head, Query},
    id::AppId,
};

use super::cors::{CorsPolicy, is_preflight};

/// The headers of an answer that pages may read.
const EXPOSED: &str = "Access-Token, Refresh-Token, Cross-Origin-Resource-Policy, \
                       Access-Control-Allow-Origin, Access-Control-Allow-Methods";

/// Whether a request asks for members, on a server with an app for Agnost's clients.
pub(crate) fn is_for(apps: &Apps, head: &Head<'_>) -> bool {
    MembersHead::is_at(head.path) && apps.serve_agnost()
}

/// Whether the request's body is needed.
pub(crate) fn wants_body(apps: &Apps, head: &Head<'_>, visitor: &Visitor<'_>) -> bool {
    head.method == "POST" && with_head(head, |question| question.admit(apps, visitor).is_ok())
}

/// The content of a request for members.
pub(super) enum Question {
    /// A browser's CORS preflight.
    Preflight,
    /// The request asks for the members of this channel.
    Members { app: AppId, channel: Box<str> },
}

/// Reads a request for members.
pub(super) fn read(
    apps: &Apps,
    (head, body): (&Head<'_>, &[u8]),
    visitor: &Visitor<'_>,
) -> Result<Question, HttpProblem> {
    if is_preflight(head) {
        return Ok(Question::Preflight);
    }
    with_head(head, |question| {
        let app = question.admit(apps, visitor)?.id;
        if head.method != "POST" {
            return Err(HttpProblem::METHOD);
        }
        Ok(Question::Members { app, channel: question.channel(body)?.into() })
    })
}

/// The CORS policy: every page may read the answer, because the request has the app's key and no cookie
/// counts.
pub(super) fn cors(head: &Head<'_>) -> CorsPolicy {
    CorsPolicy::Credentials { origin: head.origin().map(Into::into), exposed: EXPOSED }
}

fn with_head<T>(head: &Head<'_>, ask: impl FnOnce(MembersHead<'_>) -> T) -> T {
    let in_query = Query::new(head.query.unwrap_or_default())
        .filter_map(Result::ok)
        .find(|(name, _)| name == "apikey")
        .map(|(_, key)| key);
    let given = |name| head.header_str(name).filter(|value| !value.is_empty());
    let key = given("x-client-key").or_else(|| given("authorization")).or(in_query.as_deref());
    let media = given("content-type");
    let question = MembersHead::new(head.path, given("host"));
    ask(question.with(key, media))
}
