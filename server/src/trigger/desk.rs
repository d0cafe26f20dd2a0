//! Where calls go and verdicts come from: each trigger of a call in turn, on the thread that runs it.
//!
//! A [`Job`] always ends in a verdict: one that is dropped, because a thread failed, has failed.

use std::sync::{Arc, Weak};

use fanfare_core::{
    app::App,
    engine::Node,
    publication::Payload,
    trigger::{Decision, Said, TRIGGER_PUBLICATIONS, TriggerCall, TriggerRuntime, Verdict},
};

use super::{
    metrics::count,
    script::{Run, RunError},
    spec::{OnError, Spec},
    thread::ScriptThreads,
};
use crate::worker::Control;

/// What all triggers of a server share.
pub(crate) struct Desk {
    pub(crate) node: Weak<Node>,
    pub(crate) control: Arc<Control>,
    pub(crate) scripts: ScriptThreads,
}

/// The triggers of an app, in one version: the rules of a set, bit by bit.
pub(crate) struct AppTriggers {
    pub(crate) app: Arc<App>,
    pub(crate) specs: Vec<Arc<Spec>>,
    pub(crate) desk: Arc<Desk>,
}

/// Lets [`AppTriggers`] hand itself on with a job.
pub(crate) struct Runtime(pub(crate) Arc<AppTriggers>);

impl TriggerRuntime for Runtime {
    fn submit(&self, call: TriggerCall) {
        let triggers = self.0.clone();
        let verdict = Verdict::new(Decision::Pass);
        dispatch(Job { triggers, call, at: 0, verdict: Some(verdict), posting: Posting::AtOnce });
    }
}

/// Whether a worker that got a verdict is woken at once, or by the thread when it has no more to do.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Posting {
    AtOnce,
    InBatch,
}

/// A call on its way through its triggers.
pub(crate) struct Job {
    pub(crate) triggers: Arc<AppTriggers>,
    pub(crate) call: TriggerCall,
    /// The rule that runs next, or is running.
    pub(crate) at: usize,
    /// What the triggers before decided. `None`: it was posted.
    verdict: Option<Verdict>,
    pub(crate) posting: Posting,
}

/// Gives a job to whoever runs its next trigger, or posts its verdict.
pub(crate) fn dispatch(mut job: Job) {
    let is_open = job.verdict.as_ref().is_some_and(Verdict::is_open);
    let next = job.call.rules.next(job.at).filter(|at| is_open && *at < job.triggers.specs.len());
    match next {
        Some(at) => {
            job.at = at;
            count(&job.spec().numbers.queued);
            let desk = job.triggers.desk.clone();
            desk.scripts.send(job);
        }
        None => job.post(),
    }
}

impl Job {
    pub(crate) fn spec(&self) -> &Arc<Spec> {
        &self.triggers.specs[self.at]
    }

    /// The payload as the triggers before have left it.
    pub(crate) fn payload(&self) -> Payload<'_> {
        match self.verdict.as_ref().map(|verdict| &verdict.decision) {
            Some(Decision::Replace(payload)) => payload.view(),
            _ => self.call.input.payload.view(),
        }
    }

    /// A trigger has run: what follows is the next one's.
    pub(crate) fn on_run(mut self, result: Result<Run, RunError>) {
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
            Err(error) => {
                count(&numbers.errors);
                match error {
                    RunError::Time => count(&numbers.out_of_time),
                    RunError::Memory => count(&numbers.out_of_memory),
                    RunError::Output(_) => count(&numbers.out_of_output),
                    RunError::Thrown(_) => {}
                }
                let (app, trigger) = (&self.triggers.app.name, &spec.rule.name);
                tracing::warn!(%app, %trigger, %error, "a trigger failed");
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

/// Adds what one trigger says to what others said; all together say no more than one may.
fn add(to: &mut Vec<Said>, more: Vec<Said>) {
    let room = TRIGGER_PUBLICATIONS.saturating_sub(to.len());
    to.extend(more.into_iter().take(room));
}
