//! Questions to workers: the reading requests of an app's back end, disconnections, and samples of
//! publications.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{Method, Uri},
};
use bytes::BytesMut;
use fanfare_core::{
    http::Query,
    id::{AppId, WorkerId},
};
use tokio::{sync::oneshot, time::timeout};

use super::Observed;
use crate::worker::{Answered, Ask, Inquiry};

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A parameter of the query, decoded.
pub(super) fn parameter(uri: &Uri, wanted: &str) -> Option<String> {
    let pairs = Query::new(uri.query().unwrap_or_default()).filter_map(Result::ok);
    pairs.into_iter().find(|(name, _)| *name == *wanted).map(|(_, value)| value.into_owned())
}

/// Answers a request of the HTTP API. Only requests that read or disconnect are allowed.
pub(super) async fn request(
    observed: &Observed,
    app: AppId,
    (method, what): (&Method, &str),
    uri: &Uri,
    body: Bytes,
) -> Answered {
    let reads = ["members", "history", "channels", "sessions", "options"].contains(&what)
        || what.strip_prefix("users/").is_some_and(|user| !user.is_empty());
    let method = match (method.as_str(), what) {
        ("GET", _) if reads => "GET",
        ("POST", "disconnect") => "POST",
        _ => return Answered::refusal(404, "not_found", "There is nothing here."),
    };
    let query = uri.query().unwrap_or_default().to_owned();
    let ask = Ask::Request { method, path: format!("/v1/{what}"), query, body };
    inquire(observed, observed.next_worker(), app, ask).await
}

/// Reads samples of a channel from the worker with most of its members. The samples follow the last one that
/// the page has from the same worker.
pub(super) async fn watch(observed: &Observed, app: AppId, uri: &Uri) -> Answered {
    let Some(channel) = parameter(uri, "channel") else {
        return Answered::refusal(400, "invalid_request", "The query parameter channel is missing.");
    };
    let found = observed.node.channel(app, Some(&channel)).and_then(|channel| channel.largest_part());
    let Some(WorkerId(worker)) = found else {
        let body = "{\"worker\":null,\"messages\":[],\"next\":0,\"offset\":0}";
        return Answered { status: 200, body: body.into() };
    };
    let is_same = parameter(uri, "worker").is_some_and(|before| before == worker.to_string());
    let after = parameter(uri, "after").and_then(|after| after.parse().ok()).filter(|_| is_same);
    let ask = Ask::Watch { channel, after: after.unwrap_or(0) };
    let Answered { status, body } = inquire(observed, usize::from(worker), app, ask).await;
    if status != 200 {
        return Answered { status, body };
    }
    let mut whole = BytesMut::from(format!("{{\"worker\":{worker},").as_bytes());
    whole.extend_from_slice(body.strip_prefix(b"{").unwrap_or(&body));
    Answered { status, body: whole.freeze() }
}

/// Asks a worker, and waits for its answer.
async fn inquire(observed: &Observed, worker: usize, app: AppId, ask: Ask) -> Answered {
    let (answer, answered) = oneshot::channel();
    let control = &observed.control;
    if control.inquiries[worker].push(Inquiry { app, ask, answer }).is_err() {
        return Answered::refusal(503, "overloaded", "The worker has too many questions to answer.");
    }
    if let Err(error) = control.wakers[worker].wake() {
        tracing::error!(%error, worker, "a worker could not be woken");
    }
    match timeout(PATIENCE, answered).await {
        Ok(Ok(answered)) => answered,
        _ => Answered::refusal(503, "no_answer", "The worker did not answer in time."),
    }
}
