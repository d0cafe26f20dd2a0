//! `fanfare trigger run`: runs a script once, with an input from the command line.

use std::{
    fmt::{self, Write},
    fs,
    path::PathBuf,
    time::Duration,
};

use bytes::BytesMut;
use fanfare_core::{
    id::SessionId,
    json,
    publication::{OwnedPayload, Payload},
    trigger::{Action, Decision, Said, TriggerClient, TriggerInput, TriggerKind},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    guard,
    input::put_head,
    script::{Call, CompileError, Run, RunError, Sandbox},
    spec::{Budget, SOURCE_BYTES},
};
use crate::{
    args::{TrialAction, TrialArgs},
    sys::{Clock, random, thread_cpu_time},
};

/// The session of the client that a trial makes up.
const SESSION: &str = "AAAAAAAATRIALTRIAL00";

/// A trial that took place.
pub struct Trial {
    /// The report for people.
    pub report: String,
    /// The end of the run.
    pub end: TrialEnd,
}

/// The end of a trial's run.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TrialEnd {
    /// The message or the join takes effect, changed or unchanged.
    Admitted,
    /// The script refuses.
    Refused,
    /// The run failed.
    Failed,
}

/// Runs a script once, within the default budgets.
///
/// # Errors
/// The sentence that says what is wrong with the arguments, or where the script does not compile.
pub fn run(args: &TrialArgs) -> Result<Trial, String> {
    let path = args.file.display();
    let source = fs::read_to_string(&args.file).map_err(|error| format!("Cannot read `{path}`: {error}."))?;
    if source.len() > SOURCE_BYTES {
        return Err(format!("`{path}` must not be longer than {SOURCE_BYTES} bytes."));
    }
    check_json("--payload", Some(&args.payload))?;
    check_json("--profile", args.profile.as_deref())?;
    check_json("--state", args.state.as_deref())?;
    let attempt = attempt(args, source).map_err(|problem| format!("`{path}` {problem}."))?;
    let end = match attempt.result {
        Ok(Run { decision: Decision::Refuse(_), .. }) => TrialEnd::Refused,
        Ok(_) => TrialEnd::Admitted,
        Err(_) => TrialEnd::Failed,
    };
    Ok(Trial { report: attempt.to_string(), end })
}

/// The result of a run, and its cost.
struct Attempt {
    result: Result<Run, RunError>,
    cpu: Duration,
    memory_bytes: usize,
}

/// Runs a script once, with the inputs of `args`, on a thread of its own.
///
/// # Errors
/// What is wrong with the script, after its name.
fn attempt(args: &TrialArgs, source: String) -> Result<Attempt, String> {
    // The script compiles, and runs.
    let cpu = 2 * Budget::default().cpu;
    let args = args.clone();
    match guard::aside(cpu, move || attempt_here(&args, &source)) {
        Ok(attempt) => attempt.map_err(|error| format!("does not compile: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn attempt_here(args: &TrialArgs, source: &str) -> Result<Attempt, CompileError> {
    let mut sandbox = Sandbox::new(source, Budget::default(), random() as u32)?;
    let action = match args.action {
        TrialAction::Message => Action::Message,
        TrialAction::Join => Action::Join,
    };
    let payload = match action {
        Action::Message => Payload::Json(&args.payload),
        Action::Join => Payload::NULL,
    };
    let (head, channel) = (head(args, action), Some(&*args.channel));
    let call = Call { action, head: &head, payload, channel, state: args.state.as_deref() };
    let began = thread_cpu_time();
    let result = sandbox.run(&call);
    let cpu = thread_cpu_time().saturating_sub(began);
    Ok(Attempt { result, cpu, memory_bytes: sandbox.memory_bytes() })
}

/// The inputs of a trial that the dashboard asks for.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Inputs {
    source: String,
    action: String,
    channel: String,
    event: String,
    payload: String,
    user: Option<String>,
}

/// Runs the script of a request once, within the default budgets. Returns the result as JSON, in which
/// payloads and the state are texts.
///
/// # Errors
/// The sentence that says what is wrong with the request, or where the script does not compile.
pub(super) fn answer(body: &[u8]) -> Result<String, String> {
    let inputs: Inputs =
        serde_json::from_slice(body).map_err(|error| format!("The body is wrong: {error}."))?;
    let Inputs { source, action, channel, event, payload, user } = inputs;
    if source.len() > SOURCE_BYTES {
        return Err(format!("`source` must not be longer than {SOURCE_BYTES} bytes."));
    }
    let action = match action.as_str() {
        "" | "message" => TrialAction::Message,
        "join" => TrialAction::Join,
        _ => return Err(String::from("`action` must be message or join.")),
    };
    if action == TrialAction::Message {
        json::value(&payload)
            .map_err(|_| String::from("The payload must be JSON; a text is written \"so\"."))?;
    }
    let (file, profile, state) = (PathBuf::new(), None, None);
    let args = TrialArgs { file, action, channel, event, payload, user, profile, state };
    let attempt = attempt(&args, source).map_err(|problem| format!("`source` {problem}."))?;
    Ok(attempt.to_json().to_string())
}

impl Attempt {
    fn to_json(&self) -> Value {
        let said = |list: &[Said]| -> Vec<Value> {
            let of = |Said { channel, event, payload }: &Said| {
                let message = Shown(payload).to_string();
                json!({"channel": channel, "event": event, "message": message})
            };
            list.iter().map(of).collect()
        };
        let none = || (Vec::new(), Vec::new(), &[][..], None, false);
        let (verdict, why, payload) = match self.result.as_ref().map(|run| &run.decision) {
            Ok(Decision::Refuse(why)) => ("refuse", Some(why.to_string()), None),
            Ok(Decision::Replace(payload)) => ("replace", None, Some(Shown(payload).to_string())),
            Ok(Decision::Pass | Decision::Fail) => ("pass", None, None),
            Err(error) => ("failed", Some(error.to_string()), None),
        };
        let (answers, publications, log, state, ignored) = self.result.as_ref().map_or_else(
            |_| none(),
            |run| {
                let state = run.state.as_deref();
                (said(&run.answers), said(&run.publications), &run.log[..], state, run.is_ignored)
            },
        );
        json!({
            "verdict": verdict, "why": why, "payload": payload,
            "answers": answers, "publications": publications, "log": log, "state": state, "ignored": ignored,
            "cpu_us": self.cpu.as_micros() as u64, "memory_bytes": self.memory_bytes,
        })
    }
}

fn check_json(flag: &str, text: Option<&str>) -> Result<(), String> {
    let is_json = text.is_none_or(|text| json::value(text).is_ok());
    is_json.then_some(()).ok_or_else(|| format!("`{flag}` must be JSON; a text is written '\"so\"'."))
}

/// The input of the run as JSON, without the payload.
fn head(args: &TrialArgs, action: Action) -> String {
    let client = TriggerClient {
        session: SessionId::parse(SESSION).expect("it is an id"),
        user: args.user.as_deref().map(Into::into),
        profile: args.profile.as_deref().map(Into::into),
        expires_at: None,
    };
    let input = TriggerInput {
        kind: match action {
            Action::Message => TriggerKind::Message,
            Action::Join => TriggerKind::Join,
        },
        channel: Some(args.channel.as_str().into()),
        event: args.event.as_str().into(),
        payload: OwnedPayload::from(Payload::NULL),
        client: Some(client),
        echo: true,
        history: true,
        audience: None,
        message_id: None,
        time_ms: Clock::new().unix_ms(),
    };
    let mut out = BytesMut::new();
    put_head(&mut out, "trial", &input);
    out.extend_from_slice(b"}");
    String::from_utf8_lossy(&out).into_owned()
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(run) => write_run(f, run)?,
            Err(error) => writeln!(f, "verdict: failed: {error}")?,
        }
        writeln!(f, "time: {} µs of CPU", self.cpu.as_micros())?;
        writeln!(f, "memory: {} KiB", self.memory_bytes.div_ceil(1024))
    }
}

fn write_run(f: &mut fmt::Formatter<'_>, run: &Run) -> fmt::Result {
    match &run.decision {
        Decision::Refuse(why) => writeln!(f, "verdict: refuse: {why}")?,
        Decision::Replace(payload) => writeln!(f, "verdict: replace: {}", Shown(payload))?,
        Decision::Pass | Decision::Fail => writeln!(f, "verdict: pass")?,
    }
    if run.is_ignored {
        writeln!(f, "note: the returned value has no effect, because the script did not read the payload")?;
    }
    for Said { event, payload, .. } in &run.answers {
        writeln!(f, "answer: {event}: {}", Shown(payload))?;
    }
    for Said { channel, event, payload } in &run.publications {
        let channel = channel.as_deref().unwrap_or_default();
        writeln!(f, "publish: {channel}: {event}: {}", Shown(payload))?;
    }
    run.log.iter().try_for_each(|line| writeln!(f, "log: {line}"))?;
    match &run.state {
        Some(state) => writeln!(f, "state: {state}"),
        None => Ok(()),
    }
}

/// A payload in one line.
struct Shown<'a>(&'a OwnedPayload);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.view() {
            Payload::Json(text) => f.write_str(text),
            Payload::Binary(bytes) => {
                bytes.iter().take(64).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                if bytes.len() > 64 {
                    f.write_char('…')?;
                }
                write!(f, " ({} bytes)", bytes.len())
            }
        }
    }
}
