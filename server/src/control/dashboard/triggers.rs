//! The dashboard's requests about triggers, which the thread that changes triggers answers.

use std::time::Duration;

use axum::{body::Bytes, http::Method as HttpMethod};
use crossbeam::channel::Sender;
use fanfare_core::id::AppId;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    trigger::manage::{ManageRequest, Method, Waiter},
    worker::Answered,
};

/// The most bytes of a request: a script of 256 KiB as JSON, and settings.
pub(super) const BODY_BYTES: usize = 1 << 20;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a path of an app is about triggers.
pub(super) fn is_about(what: &str) -> bool {
    what == "trial" || what == "triggers" || what.starts_with("triggers/")
}

/// Answers a request about an app's triggers: all with their counts, one, a change, or a trial.
pub(super) async fn request(
    manage: &Sender<ManageRequest>,
    app: AppId,
    (method, what): (&HttpMethod, &str),
    body: Bytes,
) -> Answered {
    // The names of triggers have no character that a path would have to escape.
    let name = what.strip_prefix("triggers/").map(String::from);
    let method = match (method.as_str(), what, &name) {
        ("POST", "trial", _) => Method::Try,
        ("GET", "triggers", _) => Method::Count,
        ("GET", _, Some(_)) => Method::Read,
        ("PUT" | "PATCH" | "DELETE", _, Some(_)) => Method::of(method.as_str()),
        _ => return Answered::refusal(404, "not_found", "There is nothing here."),
    };
    let (answer, answered) = oneshot::channel();
    let request = ManageRequest { waiter: Waiter::Dashboard(answer), app, method, name, body: body.to_vec() };
    if manage.try_send(request).is_err() {
        return Answered::refusal(503, "overloaded", "Too many changes of triggers wait; try again.");
    }
    match timeout(PATIENCE, answered).await {
        Ok(Ok(Ok(body))) => Answered { status: 200, body: body.into() },
        Ok(Ok(Err(refusal))) => refusal.into(),
        _ => Answered::refusal(503, "no_answer", "The answer did not come in time."),
    }
}
