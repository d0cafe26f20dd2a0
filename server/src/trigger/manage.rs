//! Changes of triggers over HTTP: one request after another, on a thread that may compile scripts and write
//! files.
//!
//! ```text
//!   worker ─▶ ManageRequest ─▶ this thread: compile, keep, publish ─▶ ManageAnswer ─▶ worker
//! ```

use std::sync::Arc;

use crossbeam::channel::Receiver;
use fanfare_core::{
    app::App,
    dialect::native_http::Refusal,
    id::{AppId, WorkerId},
    trigger::TRIGGERS,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{
    Triggers,
    catalog::{Catalog, Origin},
    metrics::Counts,
    spec::{RawTrigger, Spec, Work, Wrong},
    trial,
};
use crate::{control::histogram::BOUNDS_NS, worker::Control};

/// The most requests that wait. Further requests are refused.
pub(crate) const MANAGE_REQUESTS: usize = 64;

/// A request about an app's triggers.
pub(crate) struct ManageRequest {
    pub(crate) waiter: Waiter,
    pub(crate) app: AppId,
    pub(crate) method: Method,
    /// The trigger's name, if the path has one.
    pub(crate) name: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Who waits for an answer.
pub(crate) enum Waiter {
    /// A connection of this worker.
    Connection {
        worker: WorkerId,
        connection: u64,
    },
    Dashboard(oneshot::Sender<Result<String, Refusal>>),
}

/// The method of a request.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Method {
    Read,
    Put,
    Patch,
    Delete,
    /// Reads all triggers with their counts.
    Count,
    /// Runs the script of the body once.
    Try,
}

impl Method {
    /// The method of a request that the router has admitted.
    pub(crate) fn of(method: &str) -> Self {
        match method {
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::Read,
        }
    }
}

/// The result of a request: the body of a 200, or a refusal.
pub(crate) struct ManageAnswer {
    pub(crate) connection: u64,
    pub(crate) result: Result<String, Refusal>,
}

/// A trigger as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    raw: RawTrigger,
    /// Whether the configuration has the trigger.
    configured: bool,
    /// Why every run fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<&'a str>,
}

/// A trigger with its counts.
#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    shown: Shown<'a>,
    counts: Counts,
}

/// Whether a trigger is shown with its script.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Source {
    Shown,
    Hidden,
}

/// Answers requests until no worker is left that could send one.
pub(super) fn serve(triggers: &Triggers, requests: &Receiver<ManageRequest>, control: &Control) {
    while let Ok(request) = requests.recv() {
        let result = triggers.manage(&request);
        let (worker, connection) = match request.waiter {
            Waiter::Connection { worker, connection } => (usize::from(worker.0), connection),
            Waiter::Dashboard(answer) => {
                // The page may have gone.
                drop(answer.send(result));
                continue;
            }
        };
        control.managed[worker].push(ManageAnswer { connection, result });
        if let Err(error) = control.wakers[worker].wake() {
            tracing::error!(%error, worker, "a worker could not be woken");
        }
    }
}

impl Triggers {
    fn manage(&self, request: &ManageRequest) -> Result<String, Refusal> {
        let app = &self.node.app(request.app);
        let catalog = self.catalog(&app.name);
        if let Some(fault) = &catalog.fault {
            let detail = format!("The server {fault}. Repair or remove the file, and reload the server.");
            return Err(Refusal { status: 500, code: "triggers_unreadable", detail: detail.into() });
        }
        match request.method {
            Method::Read => return read(&catalog, request.name.as_deref()),
            Method::Count => return counted(&catalog),
            Method::Try => return trial::answer(&request.body).map_err(invalid),
            Method::Put | Method::Patch | Method::Delete => {}
        }
        let (name, body) = named(request)?;
        if matches!(request.waiter, Waiter::Dashboard(_)) && body.contains_key("url") {
            return Err(invalid(
                "The dashboard changes scripts alone: the back end or the configuration gives `url`.",
            ));
        }
        let before = match catalog.find(&name) {
            Some((Origin::Configuration, _)) => return Err(is_configured(&name)),
            Some((Origin::Http, spec)) => Some(spec.clone()),
            None => None,
        };
        match (request.method, before) {
            (Method::Put, before) => self.put(app, catalog, parse(body)?, before),
            (Method::Patch, Some(before)) => {
                let body = patched(&before.raw, body)?;
                self.put(app, catalog, parse(body)?, Some(before))
            }
            (Method::Delete, Some(_)) => {
                let mut catalog = catalog;
                catalog.remove(&name);
                self.keep(app, catalog)?;
                tracing::info!(app = %app.name, trigger = name, "a trigger was deleted");
                Ok(json!({"deleted": name}).to_string())
            }
            _ => Err(unknown(&name)),
        }
    }

    /// Makes a trigger of these settings.
    fn put(
        &self,
        app: &Arc<App>,
        mut catalog: Catalog,
        raw: RawTrigger,
        before: Option<Arc<Spec>>,
    ) -> Result<String, Refusal> {
        raw.check_modest().map_err(|wrong| refusal(&wrong))?;
        let name = raw.name.clone();
        let spec = raw.check(before.as_deref()).map_err(|wrong| refusal(&wrong))?;
        catalog.put(spec);
        if catalog.is_overfull() {
            let detail = format!("An app has at most {TRIGGERS} triggers.");
            return Err(Refusal { status: 409, code: "too_many_triggers", detail: detail.into() });
        }
        let answer = read(&catalog, Some(&name));
        self.keep(app, catalog)?;
        tracing::info!(app = %app.name, trigger = name, "a trigger was put");
        answer
    }

    /// Keeps changed triggers, and makes them the app's. If they cannot be kept, nothing changes.
    fn keep(&self, app: &Arc<App>, catalog: Catalog) -> Result<(), Refusal> {
        if let Some(folder) = &self.folder {
            folder.write(&app.name, &catalog.managed).map_err(|error| {
                tracing::error!(app = %app.name, %error, "a change of triggers could not be kept");
                let detail = format!("The change cannot be kept in the data directory: {error}.");
                Refusal { status: 500, code: "not_kept", detail: detail.into() }
            })?;
        }
        self.replace(app, catalog);
        Ok(())
    }
}

/// The answer to a question for all triggers, or for one.
fn read(catalog: &Catalog, name: Option<&str>) -> Result<String, Refusal> {
    let text = match name {
        None => {
            let list: Vec<_> =
                catalog.listed().map(|(origin, spec)| shown(spec, origin, Source::Hidden)).collect();
            serde_json::to_string(&json!({ "triggers": list }))
        }
        Some(name) => {
            let (origin, spec) = catalog.find(name).ok_or_else(|| unknown(name))?;
            serde_json::to_string(&shown(spec, origin, Source::Shown))
        }
    };
    text.map_err(|error| invalid(error.to_string()))
}

/// All triggers with their counts.
fn counted(catalog: &Catalog) -> Result<String, Refusal> {
    let list: Vec<_> = catalog
        .listed()
        .map(|(origin, spec)| Counted {
            shown: shown(spec, origin, Source::Hidden),
            counts: spec.numbers.counts(),
        })
        .collect();
    serde_json::to_string(&json!({ "bounds_ns": BOUNDS_NS, "triggers": list }))
        .map_err(|error| invalid(error.to_string()))
}

fn shown(spec: &Spec, origin: Origin, source: Source) -> Shown<'_> {
    let mut raw = spec.raw.clone();
    raw.active = Some(spec.rule.active);
    raw.secret = None;
    if source == Source::Hidden {
        (raw.source, raw.ca) = (None, None);
    }
    let broken = match &spec.work {
        Work::Broken(why) => Some(&**why),
        Work::Script(_) | Work::Http(_) => None,
    };
    Shown { raw, configured: origin == Origin::Configuration, broken }
}

/// The name of the trigger that a request changes, and the body with this name.
fn named(request: &ManageRequest) -> Result<(String, Map<String, Value>), Refusal> {
    let mut body = match request.body.is_empty() {
        true => Map::new(),
        false => serde_json::from_slice(&request.body)
            .map_err(|error| invalid(format!("The body is no JSON object: {error}.")))?,
    };
    let told = body.get("name").map(|name| name.as_str().unwrap_or_default().to_owned());
    let name = match (&request.name, told) {
        (Some(name), Some(told)) if *name != told => {
            return Err(invalid("`name` is another one than in the path."));
        }
        (Some(name), _) => name.clone(),
        (None, Some(told)) => told,
        (None, None) => return Err(invalid("`name` is missing: it is in the path, or in the body.")),
    };
    body.insert("name".into(), json!(name));
    Ok((name, body))
}

/// The settings of a trigger with the changes of a body. `null` takes a setting away (RFC 7396).
fn patched(before: &RawTrigger, changes: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let Ok(Value::Object(mut settings)) = serde_json::to_value(before) else {
        return Err(invalid("The trigger has no settings."));
    };
    for (key, value) in changes {
        match value {
            Value::Null => drop(settings.remove(&key)),
            value => drop(settings.insert(key, value)),
        }
    }
    Ok(settings)
}

fn parse(body: Map<String, Value>) -> Result<RawTrigger, Refusal> {
    let raw: RawTrigger =
        serde_json::from_value(Value::Object(body)).map_err(|error| invalid(format!("{error}.")))?;
    // A back end must not read the server's files.
    match (&raw.file, &raw.ca_file) {
        (Some(_), _) => Err(invalid("`file` belongs in the configuration: give `source`.")),
        (None, Some(_)) => Err(invalid("`ca_file` belongs in the configuration: give `ca`.")),
        (None, None) => Ok(raw),
    }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal { status: 400, code: "invalid_trigger", detail: detail.into().into() }
}

fn refusal(wrong: &Wrong) -> Refusal {
    invalid(match wrong.key {
        "" => format!("The trigger {wrong}."),
        _ => format!("{wrong}."),
    })
}

fn unknown(name: &str) -> Refusal {
    let detail = format!("The app has no trigger `{}`.", name.chars().take(64).collect::<String>());
    Refusal { status: 404, code: "unknown_trigger", detail: detail.into() }
}

fn is_configured(name: &str) -> Refusal {
    let detail =
        format!("The configuration has the trigger `{name}`: change it there, and reload the server.");
    Refusal { status: 409, code: "configured", detail: detail.into() }
}
