//! Dispatches calls to the threads that run scripts, and posts their verdicts. The triggers of a call run one
//! after another.
//!
//! A [`Job`] always ends in a verdict. A job that is dropped, because its thread failed, has the verdict of a
//! failure.

use std::sync::{Arc, Weak, atomic::AtomicU64};

use fanfare_core::{
    app::App,
    engine::Node,
    publication::{OwnedPayload, Payload},
    trigger::{Decision, Said, TRIGGER_PUBLICATIONS, TriggerCall, TriggerRuntime, Verdict},
};

use super::{
    http::{HttpError, HttpSettings, HttpThread},
    metrics::{Numbers, count},
    script::RunError,
    spec::{OnError, Spec, Work},
    thread::ScriptThreads,
};
use crate::worker::Control;

/// The state that all triggers of a server share.
pub(crate) struct Desk {
    pub(crate) node: Weak<Node>,
    pub(crate) control: Arc<Control>,
    pub(crate) scripts: ScriptThreads,
    pub(crate) http: HttpThread,
}

/// Why a trigger has no verdict.
pub(crate) enum Failure {
    Script(RunError),
    Http(HttpError),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Script(error)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl Failure {
    /// The count of such failures.
    fn counter<'n>(&self, numbers: &'n Numbers) -> &'n AtomicU64 {
        match self {
            Self::Script(RunError::Time) | Self::Http(HttpError::TimedOut) => &numbers.out_of_time,
            Self::Script(RunError::Stuck | RunError::Barred(_)) => &numbers.stuck,
            Self::Script(RunError::Memory) => &numbers.out_of_memory,
            Self::Script(RunError::Output(_)) | Self::Http(HttpError::TooLarge) => &numbers.out_of_output,
            Self::Script(RunError::Thrown(_)) => &numbers.thrown,
            Self::Http(HttpError::BreakerOpen) => &numbers.http.shed,
            Self::Http(_) => &numbers.http.no_verdict,
        }
    }
}

/// One version of an app's triggers. Bit `i` of a rule mask stands for trigger `i`.
pub(crate) struct AppTriggers {
    pub(crate) app: Arc<App>,
    pub(crate) specs: Vec<Arc<Spec>>,
    pub(crate) desk: Arc<Desk>,
}

/// The runtime that the engine calls. It can give each job its [`AppTriggers`].
pub(crate) struct Runtime(pub(crate) Arc<AppTriggers>);

impl TriggerRuntime for Runtime {
    fn submit(&self, call: TriggerCall) {
        let triggers = self.0.clone();
        let verdict = Verdict::new(Decision::Pass);
        dispatch(Job { triggers, call, at: 0, verdict: Some(verdict), posting: Posting::AtOnce });
    }
}

/// Whether a worker with a new verdict is woken at once, or when the thread has no more jobs.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Posting {
    AtOnce,
    InBatch,
}

/// A call on its way through its triggers.
pub(crate) struct Job {
    pub(crate) triggers: Arc<AppTriggers>,
    pub(crate) call: TriggerCall,
    /// The rule that runs now or next.
    pub(crate) at: usize,
    /// The decision of the triggers that have run; `None` once the verdict is posted.
    verdict: Option<Verdict>,
    pub(crate) posting: Posting,
}

/// Hands a job to the thread of its next trigger, or posts its verdict.
pub(crate) fn dispatch(mut job: Job) {
    let is_open = job.verdict.as_ref().is_some_and(Verdict::is_open);
    let next = job.call.rules.next(job.at).filter(|at| is_open && *at < job.triggers.specs.len());
    match next {
        Some(at) => {
            job.at = at;
            let desk = job.triggers.desk.clone();
            match &job.spec().work {
                Work::Script(_) => {
                    count(&job.spec().numbers.queued);
                    desk.scripts.send(job);
                }
                Work::Http(_) => {
                    count(&job.spec().numbers.queued);
                    desk.http.send(job);
                }
                Work::Broken(why) => {
                    let error = RunError::Thrown(why.to_string());
                    job.on_run(Err(error.into()));
                }
            }
        }
        None => job.post(),
    }
}

impl Job {
    pub(crate) fn spec(&self) -> &Arc<Spec> {
        &self.triggers.specs[self.at]
    }

    /// The settings of the trigger that runs now, if it is an http trigger.
    pub(crate) fn http(&self) -> Option<&Arc<HttpSettings>> {
        match &self.spec().work {
            Work::Http(settings) => Some(settings),
            Work::Script(_) | Work::Broken(_) => None,
        }
    }

    /// The payload after the triggers that have run.
    pub(crate) fn payload(&self) -> Payload<'_> {
        self.replaced().unwrap_or(&self.call.input.payload).view()
    }

    /// The payload that an earlier trigger decided.
    pub(crate) fn replaced(&self) -> Option<&OwnedPayload> {
        match self.verdict.as_ref().map(|verdict| &verdict.decision) {
            Some(Decision::Replace(payload)) => Some(payload),
            _ => None,
        }
    }

    /// Continues a job with its next trigger, after a trigger has run.
    pub(crate) fn on_run(mut self, result: Result<Verdict, Failure>) {
        let spec = self.spec().clone();
        let numbers = &spec.numbers;
        let Some(verdict) = &mut self.verdict else { return };
        match result {
            Ok(run) => {
                match &run.decision {
                    Decision::Pass | Decision::Fail => count(&numbers.passed),
                    Decision::Replace(_) => count(&numbers.replaced),
                    Decision::Refuse(_) => count(&numbers.refused),
                }
                if !matches!(run.decision, Decision::Pass) {
                    verdict.decision = run.decision;
                }
                add(&mut verdict.answers, run.answers);
                add(&mut verdict.publications, run.publications);
            }
            Err(failure) => {
                count(failure.counter(numbers));
                if let Failure::Script(error) = failure
                    && numbers.may_log_failure(self.call.input.time_ms)
                {
                    let (app, trigger) = (&self.triggers.app.name, &spec.rule.name);
                    tracing::warn!(%app, %trigger, %error, "a trigger failed");
                }
                if spec.on_error == OnError::Refuse {
                    verdict.decision = Decision::Fail;
                }
            }
        }
        self.at += 1;
        dispatch(self);
    }

    fn post(mut self) {
        if let Some(verdict) = self.verdict.take() {
            self.post_verdict(verdict);
        }
    }

    fn post_verdict(&self, verdict: Verdict) {
        let desk = &self.triggers.desk;
        let Some(node) = desk.node.upgrade() else { return };
        node.post_verdict(self.call.worker, self.call.ticket, verdict);
        if self.posting == Posting::AtOnce {
            desk.wake(&node, self.call.worker);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.verdict.take().is_some() {
            self.posting = Posting::AtOnce;
            self.post_verdict(Verdict::new(Decision::Fail));
        }
    }
}

impl Desk {
    /// Wakes a worker that sleeps and has mail.
    pub(crate) fn wake(&self, node: &Node, worker: fanfare_core::id::WorkerId) {
        if node.mailbox(worker).must_wake()
            && let Err(error) = self.control.wakers[usize::from(worker.0)].wake()
        {
            tracing::error!(%error, worker = worker.0, "a worker could not be woken");
        }
    }
}

/// Adds a trigger's messages to those of earlier triggers. Together they have at most the messages that one
/// trigger may have.
fn add(to: &mut Vec<Said>, more: Vec<Said>) {
    let room = TRIGGER_PUBLICATIONS.saturating_sub(to.len());
    to.extend(more.into_iter().take(room));
}
