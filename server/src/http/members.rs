//! The members of a channel, as clients of Agnost and Altogic ask for them.

use fanfare_core::{
    app::Apps,
    dialect::{HttpProblem, MembersHead},
    http::{Head, Query},
    id::AppId,
};

use super::cors::{CorsPolicy, is_preflight};

/// Headers that pages may read of an answer.
const EXPOSED: &str = "Access-Token, Refresh-Token, Cross-Origin-Resource-Policy, \
                       Access-Control-Allow-Origin, Access-Control-Allow-Methods";

/// Whether a request is such a question, in a server that has such an app.
pub(crate) fn is_for(apps: &Apps, head: &Head<'_>) -> bool {
    MembersHead::is_at(head.path) && apps.serve_agnost()
}

/// Whether its body is wanted.
pub(crate) fn wants_body(apps: &Apps, head: &Head<'_>) -> bool {
    head.method == "POST" && with_head(head, |question| question.admit(apps).is_ok())
}

/// What its head and body ask for.
pub(super) enum Question {
    /// What a page may send, so a browser asks.
    Preflight,
    /// The members of this channel.
    Members { app: AppId, channel: Box<str> },
}

/// Reads a question.
pub(super) fn read(apps: &Apps, head: &Head<'_>, body: &[u8]) -> Result<Question, HttpProblem> {
    if is_preflight(head) {
        return Ok(Question::Preflight);
    }
    with_head(head, |question| {
        let app = question.admit(apps)?.id;
        if head.method != "POST" {
            return Err(HttpProblem::METHOD);
        }
        Ok(Question::Members { app, channel: question.channel(body)?.into() })
    })
}

/// Every page may read the answer: the app's key is in the request, and cookies play no part.
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
    // An origin that is not text is nobody's.
    let origin = head.header("origin").map(|bytes| std::str::from_utf8(bytes).unwrap_or(""));
    let media = given("content-type");
    let question = MembersHead::new(head.path, given("host"));
    ask(question.with(key, origin, media))
}
