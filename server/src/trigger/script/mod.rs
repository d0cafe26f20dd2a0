//! One script in its sandbox: a QuickJS runtime of its own, with budgets of CPU time, memory, stack and
//! output.
//!
//! A sandbox has no I/O, no modules to import, no clock except the input's time, and seeded randomness. A
//! script's global variables survive from call to call, within
//! the budget of memory. The owner of a sandbox that ran out of memory makes a new one.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use fanfare_core::{
    json,
    publication::{OwnedPayload, Payload},
    trigger::{Action, Decision, Said, TRIGGER_PUBLICATIONS},
};
use rquickjs::{
    Array, CatchResultExt, CaughtError, Coerced, Context, Ctx, Exception, Function, Module, Object,
    Persistent, Runtime, TypedArray, Value, qjs,
};

use super::spec::Budget;
use crate::sys::thread_cpu_time;

const PRELUDE: &str = include_str!("prelude.js");

/// Bytes of the native stack that a script may use.
pub(super) const STACK_BYTES: usize = 512 << 10;

/// The name of the script in errors.
const SCRIPT: &str = "trigger.js";

/// The most characters of a refusal, and of names that a script gives.
const REFUSAL_CHARS: usize = 500;
const NAME_CHARS: usize = 256;

/// The most lines that a run may log, and the most characters of a line.
const LOG_LINES: usize = 32;
const LOG_CHARS: usize = 1000;

/// Why a source cannot be compiled.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct CompileError {
    pub(crate) message: String,
    /// The line of the error, from 1; 0 if it is unknown.
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}, column {}: {}", self.column, self.message),
        }
    }
}

/// Why a run failed.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum RunError {
    /// The run exceeded its CPU time.
    Time,
    /// The run does not end, in an operation that cannot be stopped.
    Stuck,
    /// The run did not begin, because other runs are stuck.
    Barred(&'static str),
    /// The run exceeded its memory.
    Memory,
    /// The run's decision, messages or state exceeded the budget of output.
    Output(&'static str),
    /// The script threw an error.
    Thrown(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("the script took more CPU time than it may"),
            Self::Stuck => f.write_str("the script was stuck in an operation that cannot be stopped"),
            Self::Memory => f.write_str("the script wanted more memory than it may have"),
            Self::Barred(what) | Self::Output(what) => f.write_str(what),
            Self::Thrown(what) => f.write_str(what),
        }
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) decision: Decision,
    pub(crate) answers: Vec<Said>,
    pub(crate) publications: Vec<Said>,
    pub(crate) log: Vec<String>,
    /// The new state, if the script used the state.
    pub(crate) state: Option<Box<str>>,
    /// Whether the script returned a value that was ignored, because the script never read the payload.
    pub(crate) is_ignored: bool,
}

/// The arguments of a handler.
pub(crate) struct Call<'a> {
    pub(crate) action: Action,
    /// The input without the payload, as JSON.
    pub(crate) head: &'a str,
    pub(crate) payload: Payload<'a>,
    /// The channel that answers name.
    pub(crate) channel: Option<&'a str>,
    /// The state that the script keeps for this channel.
    pub(crate) state: Option<&'a str>,
}

/// A script that is ready to run.
pub(crate) struct Sandbox {
    // Handles are dropped before their context and their runtime.
    message: Option<Handler>,
    join: Option<Handler>,
    run: Handler,
    settle: Handler,
    context: Context,
    runtime: Runtime,
    state: Rc<RefCell<Option<Box<str>>>>,
    deadline: Rc<RefCell<Deadline>>,
    budget: Budget,
}

#[allow(unsafe_code, reason = "the engine's crate permits it only with a lock and an asynchronous runtime")]
// SAFETY: a sandbox owns its runtime, its context and every count of references to them, and hands none out.
// They move together, and a mutable reference is needed to run code. The engine has no data of threads except
// the limit of its stack, which a run sets anew.
unsafe impl Send for Sandbox {}

type Handler = Persistent<Function<'static>>;

/// The CPU time at which a script is stopped, and whether it was stopped.
#[derive(Default)]
struct Deadline {
    at: Duration,
    passed: bool,
}

impl Deadline {
    fn is_over(&mut self) -> bool {
        self.passed |= thread_cpu_time() >= self.at;
        self.passed
    }
}

impl Sandbox {
    /// Compiles a script and runs its top level.
    pub(crate) fn new(source: &str, budget: Budget, seed: u32) -> Result<Self, CompileError> {
        let broken = |error: rquickjs::Error| CompileError { message: error.to_string(), line: 0, column: 0 };
        let runtime = Runtime::new().map_err(broken)?;
        runtime.set_memory_limit(budget.memory_bytes);
        runtime.set_max_stack_size(STACK_BYTES);
        let deadline = Rc::new(RefCell::new(Deadline::default()));
        let watch = deadline.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || watch.borrow_mut().is_over())));
        let context = Context::full(&runtime).map_err(broken)?;
        *deadline.borrow_mut() = Deadline { at: thread_cpu_time() + budget.cpu, passed: false };
        let state = Rc::new(RefCell::new(None));
        let (run, settle, message, join) = context.with(|ctx| {
            let (run, settle) = prelude(&ctx, seed, &state).catch(&ctx).map_err(compile_error)?;
            let (message, join) = handlers(&ctx, source)?;
            Ok((run, settle, message, join))
        })?;
        Ok(Self { message, join, run, settle, context, runtime, state, deadline, budget })
    }

    /// The memory that the script uses now. Counting walks through all of it.
    pub(crate) fn memory_bytes(&self) -> usize {
        usize::try_from(self.runtime.memory_usage().memory_used_size).unwrap_or_default()
    }

    fn handler(&self, action: Action) -> Option<&Handler> {
        match action {
            Action::Message => self.message.as_ref(),
            Action::Join => self.join.as_ref(),
        }
    }

    /// Calls the handler of an action. A script without such a handler passes the action.
    pub(crate) fn run(&mut self, call: &Call<'_>) -> Result<Run, RunError> {
        let Some(handler) = self.handler(call.action) else { return Ok(Run::pass()) };
        *self.state.borrow_mut() = call.state.map(Into::into);
        *self.deadline.borrow_mut() = Deadline { at: thread_cpu_time() + self.budget.cpu, passed: false };
        let result = self.context.with(|ctx| {
            use_this_stack(&ctx);
            let ran = self.run_in(&ctx, handler, call).catch(&ctx);
            ran.map_err(|error| self.explain(error)).and_then(|run| self.check(run, call))
        });
        // Jobs that the last call left do not run in this call.
        self.drain_jobs();
        result
    }

    fn run_in<'js>(
        &self,
        ctx: &Ctx<'js>,
        handler: &Handler,
        call: &Call<'_>,
    ) -> rquickjs::Result<Array<'js>> {
        let handler = handler.clone().restore(ctx)?;
        let run = self.run.clone().restore(ctx)?;
        let is_join = call.action == Action::Join;
        let payload: Value<'js> = match call.payload {
            Payload::Json(text) => rquickjs::String::from_str(ctx.clone(), text)?.into_value(),
            Payload::Binary(bytes) => TypedArray::<u8>::new_copy(ctx.clone(), bytes)?.into_value(),
        };
        let result: Option<Array<'js>> = run.call((handler, is_join, call.head, payload))?;
        match result {
            Some(result) => Ok(result),
            None => {
                while !self.deadline.borrow_mut().is_over() && ctx.execute_pending_job() {}
                self.settle.clone().restore(ctx)?.call(())
            }
        }
    }

    fn drain_jobs(&self) {
        while self.runtime.is_job_pending() && !self.deadline.borrow_mut().is_over() {
            // The error belongs to a promise that no handler awaits.
            drop(self.runtime.execute_pending_job());
        }
    }

    fn explain(&self, error: CaughtError<'_>) -> RunError {
        if self.deadline.borrow().passed {
            return RunError::Time;
        }
        let text = match error {
            CaughtError::Exception(exception) => exception_text(&exception),
            CaughtError::Value(value) => thrown_text(&value),
            CaughtError::Error(error) => error.to_string(),
        };
        if text.contains("out of memory") { RunError::Memory } else { RunError::Thrown(text) }
    }

    /// Reads the result of a handler, within the budget of output.
    fn check(&self, result: Array<'_>, call: &Call<'_>) -> Result<Run, RunError> {
        let thrown = |error: rquickjs::Error| RunError::Thrown(error.to_string());
        let kind: String = result.get(0).map_err(thrown)?;
        let mut room = self.budget.output_bytes;
        let decision = match &*kind {
            "refuse" => Decision::Refuse(result.get::<String>(1).map_err(thrown)?.into()),
            "json" => Decision::Replace(checked(&result.get::<String>(1).map_err(thrown)?, &mut room)?),
            "bytes" => {
                let bytes: TypedArray<'_, u8> = result.get(1).map_err(thrown)?;
                take(&mut room, bytes.len())?;
                Decision::Replace(copied(&bytes).ok_or(RunError::Output("the bytes are detached"))?)
            }
            _ => Decision::Pass,
        };
        let (answers, publications) = (texts(&result, 2)?, texts(&result, 3)?);
        let answers = said(answers.chunks_exact(2), call.channel, &mut room)?;
        let publications = said(publications.chunks_exact(3), None, &mut room)?;
        let state: Option<String> = result.get(5).map_err(thrown)?;
        if state.as_ref().is_some_and(|state| state.len() > self.budget.state_bytes) {
            return Err(RunError::Output("the script keeps more state for a channel than it may"));
        }
        let log = texts(&result, 4)?;
        let state = state.map(Into::into);
        Ok(Run { decision, answers, publications, log, state, is_ignored: kind == "ignored" })
    }
}

impl Run {
    fn pass() -> Self {
        Self {
            decision: Decision::Pass,
            answers: Vec::new(),
            publications: Vec::new(),
            log: Vec::new(),
            state: None,
            is_ignored: false,
        }
    }
}

/// Runs the prelude. Returns the function that calls handlers, and the function that finishes asynchronous
/// handlers.
fn prelude<'js>(
    ctx: &Ctx<'js>,
    seed: u32,
    state: &Rc<RefCell<Option<Box<str>>>>,
) -> rquickjs::Result<(Handler, Handler)> {
    let host = Object::new(ctx.clone())?;
    let kept = state.clone();
    host.set("state", Function::new(ctx.clone(), move || kept.borrow_mut().take().map(String::from))?)?;
    let limits = Object::new(ctx.clone())?;
    limits.set("names", NAME_CHARS)?;
    limits.set("refusal", REFUSAL_CHARS)?;
    limits.set("said", TRIGGER_PUBLICATIONS)?;
    limits.set("lines", LOG_LINES)?;
    limits.set("line", LOG_CHARS)?;
    host.set("limits", limits)?;
    let make: Function<'js> = ctx.eval(PRELUDE)?;
    let functions: Array<'js> = make.call((host, seed))?;
    let (run, settle): (Function<'js>, Function<'js>) = (functions.get(0)?, functions.get(1)?);
    Ok((Persistent::save(ctx, run), Persistent::save(ctx, settle)))
}

/// Compiles the script as a module. Returns the exports `message` and `join`.
fn handlers(ctx: &Ctx<'_>, source: &str) -> Result<(Option<Handler>, Option<Handler>), CompileError> {
    let module = Module::declare(ctx.clone(), SCRIPT, source).catch(ctx).map_err(compile_error)?;
    let (module, done) = module.eval().catch(ctx).map_err(compile_error)?;
    done.finish::<()>().catch(ctx).map_err(compile_error)?;
    let exported = |name: &str| {
        let function: Option<Function<'_>> = module.get::<_, Option<Function<'_>>>(name).unwrap_or_default();
        function.map(|function| Persistent::save(ctx, function))
    };
    let (message, join) = (exported("message"), exported("join"));
    if message.is_none() && join.is_none() {
        let message = "the module exports no function `message` and none `join`".to_owned();
        return Err(CompileError { message, line: 0, column: 0 });
    }
    Ok((message, join))
}

fn compile_error(error: CaughtError<'_>) -> CompileError {
    let (message, stack) = match error {
        CaughtError::Exception(exception) => {
            (exception_text(&exception), exception.stack().unwrap_or_default())
        }
        CaughtError::Value(value) => (thrown_text(&value), String::new()),
        CaughtError::Error(error) => (error.to_string(), String::new()),
    };
    // The place is written `    at trigger.js:3:5` or `    at f (trigger.js:3:5)`.
    let place = stack.split_once(SCRIPT).map_or("", |(_, rest)| rest.lines().next().unwrap_or_default());
    let mut numbers = place.trim_end_matches(')').split(':').skip(1).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let (line, column) = (next(), next());
    CompileError { message, line, column }
}

fn exception_text(exception: &Exception<'_>) -> String {
    let name: String = exception.get("name").unwrap_or_default();
    let text = format!("{name}: {}", exception.message().unwrap_or_default());
    text.chars().take(REFUSAL_CHARS).collect()
}

/// The text of a thrown value that is not an error.
fn thrown_text(value: &Value<'_>) -> String {
    // An object's own `toString` is not called, because it would run code of the script.
    let text = match value.is_object() || value.is_symbol() {
        true => "an object that is no error".to_owned(),
        false => value.get::<Coerced<String>>().map(|text| text.0).unwrap_or_default(),
    };
    format!("thrown: {}", text.chars().take(REFUSAL_CHARS).collect::<String>())
}

/// Makes the native stack of this thread the one whose use the engine limits.
#[allow(unsafe_code)]
fn use_this_stack(ctx: &Ctx<'_>) {
    // SAFETY: the context and its runtime exist, and this thread alone uses them.
    unsafe { qjs::JS_UpdateStackTop(qjs::JS_GetRuntime(ctx.as_raw().as_ptr())) }
}

/// Copies the bytes of a script's buffer; `None` if the buffer was detached.
#[allow(unsafe_code)]
fn copied(bytes: &TypedArray<'_, u8>) -> Option<OwnedPayload> {
    // SAFETY: the bytes stay in place while no code of the script runs, and no code of the script runs in
    // this function.
    let bytes = unsafe { bytes.as_bytes() }?;
    Some(Payload::Binary(bytes).into())
}

fn take(room: &mut usize, bytes: usize) -> Result<(), RunError> {
    *room = room.checked_sub(bytes).ok_or(RunError::Output("the script says more than it may"))?;
    Ok(())
}

/// Checks a payload that a script wrote. The payload has the JSON grammar and the depth limit of every
/// payload.
fn checked(text: &str, room: &mut usize) -> Result<OwnedPayload, RunError> {
    take(room, text.len())?;
    json::value(text).map_err(|_| RunError::Output("the JSON is nested deeper than 128"))?;
    Ok(Payload::Json(text).into())
}

fn texts(result: &Array<'_>, at: usize) -> Result<Vec<String>, RunError> {
    result.get(at).map_err(|error| RunError::Thrown(error.to_string()))
}

/// Reads `[channel,] event, message` of each message. An answer has the call's channel.
fn said<'a>(
    parts: impl Iterator<Item = &'a [String]>,
    channel: Option<&str>,
    room: &mut usize,
) -> Result<Vec<Said>, RunError> {
    let mut list = Vec::new();
    for parts in parts {
        let (channel, event, message) = match parts {
            [channel, event, message] => (Some(&**channel), event, message),
            [event, message] => (channel, event, message),
            _ => continue,
        };
        let payload = checked(message, room)?;
        list.push(Said { channel: channel.map(Into::into), event: event.as_str().into(), payload });
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
