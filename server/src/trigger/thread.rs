//! The thread that runs scripts. All scripts of an app run on one thread, so their states need no order. The
//! apps take turns, so a script that uses its whole budget delays other apps by one run.
//!
//! The engine of scripts cannot stop a single built-in operation. The [guard](super::guard) notices a thread
//! that is stuck in one, and another thread takes over its place: its jobs are in a [`Seat`].

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{JoinHandle, panicking},
};

use bytes::BytesMut;
use crossbeam::channel::{Receiver, Sender, unbounded};
use fanfare_core::{
    app::App,
    channel::WorkerSet,
    engine::Node,
    id::AppId,
    publication::OwnedPayload,
    trigger::{TriggerInput, Verdict},
};
use hashbrown::HashMap;

use super::{
    desk::{Job, Posting},
    guard::{self, STUCK, STUCK_OF_APP, Watched},
    input::put_head,
    metrics::count,
    script::{Call, Run, RunError, Sandbox},
    spec::{Script, Spec, Work},
};
use crate::sys::{ThreadName, random, thread_cpu_time};

/// The number of verdicts after which workers are woken while the thread has more jobs.
const BATCH: usize = 32;

/// The number of runs after which the thread drops scripts of removed triggers.
const SWEEP: usize = 4096;

/// The sender to the thread. The thread ends when the last sender is dropped.
pub(crate) struct ScriptThreads {
    sender: Sender<Job>,
    place: Arc<Place>,
}

impl ScriptThreads {
    /// Starts the thread and its guard, which ends after it. The limit of an app's waiting calls bounds the
    /// thread's queue.
    pub(crate) fn start(node: &Weak<Node>) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, jobs) = unbounded();
        let place = Arc::new(Place { jobs, node: node.clone(), ..Place::default() });
        place.seat_thread(0)?;
        let (guard, guarded) = (guard::thread("triggers-guard"), place.clone());
        Ok((Self { sender, place }, guard.spawn(move || guard::watch(&guarded))?))
    }

    /// Queues a job.
    pub(crate) fn send(&self, job: Job) {
        // A thread that has ended drops the job, which fails then.
        drop(self.sender.send(job));
    }

    /// The number of threads that are stuck in a run.
    pub(crate) fn stuck(&self) -> usize {
        self.place.lock().stuck.len()
    }
}

/// The place of the thread that runs scripts.
pub(super) struct Place {
    jobs: Receiver<Job>,
    node: Weak<Node>,
    pub(super) seat: Mutex<Seat>,
    /// Notified when a guard that rests is needed, and at the end.
    pub(super) changed: Condvar,
}

/// What a thread leaves to the thread that takes over its place.
#[derive(Default)]
pub(super) struct Seat {
    /// The number of the thread that has the place.
    pub(super) holder: usize,
    queues: HashMap<AppId, VecDeque<Job>>,
    /// The apps that have jobs, in the order of their turns.
    turns: VecDeque<AppId>,
    /// The scripts by the address of their trigger, without the one that runs.
    loaded: HashMap<usize, Loaded>,
    pub(super) running: Option<Running>,
    /// The number of runs.
    pub(super) runs: usize,
    /// Whether the guard looks at the seat from time to time.
    pub(super) is_guarded: bool,
    /// Whether the thread has ended.
    pub(super) has_ended: bool,
    /// The runs whose threads lost the place and have not ended.
    stuck: Vec<StuckRun>,
}

/// A job whose script runs.
pub(super) struct Running {
    pub(super) job: Job,
    pub(super) watched: Watched,
}

/// A script that is ready to run.
struct Loaded {
    /// While the weak reference exists, no other trigger has the address.
    spec: Weak<Spec>,
    sandbox: Sandbox,
}

struct StuckRun {
    /// The number of the thread.
    thread: usize,
    app: AppId,
    spec: Arc<Spec>,
}

/// The part of a job that its script needs. It holds no [`AppTriggers`](super::desk::AppTriggers): a run that
/// never ends would keep the sender to the thread, and the server could not end.
struct Errand {
    app: Arc<App>,
    spec: Arc<Spec>,
    input: Arc<TriggerInput>,
    /// The payload that an earlier trigger decided.
    replaced: Option<OwnedPayload>,
    /// The script, if it has run before.
    sandbox: Option<Sandbox>,
    /// Why the script does not run.
    barred: Option<RunError>,
}

impl Default for Place {
    fn default() -> Self {
        let (seat, changed) = (Mutex::default(), Condvar::default());
        Self { jobs: crossbeam::channel::never(), node: Weak::new(), seat, changed }
    }
}

impl Place {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread with this number.
    pub(super) fn seat_thread(self: &Arc<Self>, holder: usize) -> io::Result<()> {
        let place = self.clone();
        guard::thread(&format!("triggers-{holder}")).spawn(move || place.run_scripts(holder)).map(drop)
    }

    /// Runs scripts as the thread with this number, until the end or until another thread has the place.
    pub(super) fn run_scripts(self: Arc<Self>, holder: usize) {
        let (name, head) = (ThreadName::of_this(), BytesMut::new());
        ScriptThread { place: self, holder, name, head }.run();
    }
}

impl Seat {
    fn enqueue(&mut self, job: Job) {
        let app = job.call.app;
        let queue = self.queues.entry(app).or_default();
        if queue.is_empty() {
            self.turns.push_back(app);
        }
        queue.push_back(job);
    }

    /// The next job of the app whose turn it is.
    fn next(&mut self) -> Option<Job> {
        let app = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&app)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&app);
        } else {
            self.turns.push_back(app);
        }
        Some(job)
    }

    /// Why the script of an app's trigger may not run now. A script runs again when its stuck run has
    /// ended, or when the trigger is changed.
    fn barred(&self, app: AppId, spec: &Arc<Spec>) -> Option<RunError> {
        let of_app = self.stuck.iter().filter(|run| run.app == app).count();
        if self.stuck.iter().any(|run| Arc::ptr_eq(&run.spec, spec)) {
            Some(RunError::Barred(
                "an earlier run of the script is stuck: it does not run until that run ends",
            ))
        } else if of_app >= STUCK_OF_APP {
            Some(RunError::Barred("too many runs of the app are stuck: its scripts do not run"))
        } else if self.stuck.len() >= STUCK {
            Some(RunError::Barred("too many runs are stuck: no script runs"))
        } else {
            None
        }
    }

    /// Takes the place from the thread, if its run is stuck. Returns the run.
    pub(super) fn abandon(&mut self) -> Option<Running> {
        let running = self.running.take_if(|running| {
            let Work::Script(script) = &running.job.spec().work else { return false };
            running.watched.is_stuck(script.budget.cpu)
        })?;
        let (app, spec) = (running.job.call.app, running.job.spec().clone());
        self.stuck.push(StuckRun { thread: self.holder, app, spec });
        self.holder += 1;
        Some(running)
    }

    /// Takes the script of a trigger out, if it is loaded.
    fn unload(&mut self, spec: &Arc<Spec>) -> Option<Sandbox> {
        let loaded = self.loaded.remove(&address(spec))?;
        std::ptr::eq(loaded.spec.as_ptr(), Arc::as_ptr(spec)).then_some(loaded.sandbox)
    }

    /// Keeps the script of a trigger for its next run.
    fn keep(&mut self, spec: &Arc<Spec>, sandbox: Sandbox) {
        self.loaded.insert(address(spec), Loaded { spec: Arc::downgrade(spec), sandbox });
        if self.runs.is_multiple_of(SWEEP) {
            self.loaded.retain(|_, loaded| loaded.spec.strong_count() > 0);
        }
    }
}

fn address(spec: &Arc<Spec>) -> usize {
    Arc::as_ptr(spec).addr()
}

struct ScriptThread {
    place: Arc<Place>,
    holder: usize,
    name: Option<ThreadName>,
    head: BytesMut,
}

impl ScriptThread {
    fn run(mut self) {
        let place = self.place.clone();
        let mut posted = WorkerSet::default();
        let mut batch = 0;
        while self.gather() {
            let Some(mut errand) = self.begin() else { continue };
            let result = self.run_errand(&mut errand);
            let Some(mut job) = self.finish(&mut errand, &result) else { return };
            let (worker, desk) = (job.call.worker, job.triggers.desk.clone());
            job.posting = Posting::InBatch;
            job.on_run(result.map(|run| errand.apply(run)).map_err(Into::into));
            posted.insert(worker);
            batch += 1;
            let is_idle = place.jobs.is_empty() && place.lock().turns.is_empty();
            if (is_idle || batch >= BATCH)
                && let Some(node) = place.node.upgrade()
            {
                std::mem::take(&mut posted).for_each(|worker| desk.wake(&node, worker));
                batch = 0;
            }
        }
        place.lock().has_ended = true;
        place.changed.notify_one();
    }

    /// Takes the jobs that have come, and waits for one if there is none. Returns false at the end.
    fn gather(&mut self) -> bool {
        let place = &self.place;
        if place.lock().turns.is_empty() {
            match place.jobs.recv() {
                Ok(job) => place.lock().enqueue(job),
                Err(_) => return false,
            }
        }
        let mut seat = place.lock();
        place.jobs.try_iter().for_each(|job| seat.enqueue(job));
        true
    }

    /// Begins the next job, and leaves it where the guard finds it.
    fn begin(&mut self) -> Option<Errand> {
        let mut seat = self.place.lock();
        let job = seat.next()?;
        let spec = job.spec().clone();
        let errand = Errand {
            app: job.triggers.app.clone(),
            input: job.call.input.clone(),
            replaced: job.replaced().cloned(),
            sandbox: seat.unload(&spec),
            barred: seat.barred(job.call.app, &spec),
            spec,
        };
        seat.running = Some(Running { job, watched: Watched::begin(self.name.clone()) });
        seat.runs = seat.runs.wrapping_add(1);
        if !seat.is_guarded {
            seat.is_guarded = true;
            self.place.changed.notify_one();
        }
        Some(errand)
    }

    /// Takes the job back after its run; `None` if another thread has the place.
    fn finish(&mut self, errand: &mut Errand, result: &Result<Run, RunError>) -> Option<Job> {
        let mut seat = self.place.lock();
        if seat.holder != self.holder {
            return None;
        }
        let sandbox = errand.sandbox.take();
        // A script that ran out of memory has no room for further runs.
        if !matches!(result, Err(RunError::Memory))
            && let Some(sandbox) = sandbox
        {
            seat.keep(&errand.spec, sandbox);
        }
        seat.running.take().map(|running| running.job)
    }

    fn run_errand(&mut self, errand: &mut Errand) -> Result<Run, RunError> {
        let spec = errand.spec.clone();
        let Work::Script(script) = &spec.work else {
            return Err(RunError::Thrown("the trigger has no script".into()));
        };
        spec.numbers.dequeued();
        if let Some(barred) = errand.barred.take() {
            return Err(barred);
        }
        let began = thread_cpu_time();
        let result = self.run_script(errand, script);
        spec.numbers.took(thread_cpu_time().saturating_sub(began));
        result
    }

    fn run_script(&mut self, errand: &mut Errand, script: &Script) -> Result<Run, RunError> {
        let Errand { app, input, replaced, sandbox, .. } = errand;
        let sandbox = match sandbox {
            Some(sandbox) => sandbox,
            None => sandbox.insert(load(script)?),
        };
        self.head.clear();
        put_head(&mut self.head, &app.name, input);
        self.head.extend_from_slice(b"}");
        let head = std::str::from_utf8(&self.head).map_err(|error| RunError::Thrown(error.to_string()))?;
        let channel = input.channel.as_deref();
        let state = script.states.of(channel.unwrap_or_default());
        let action = input.kind.action();
        let payload = replaced.as_ref().unwrap_or(&input.payload).view();
        sandbox.run(&Call { action, head, payload, channel, state: state.as_deref() })
    }
}

impl Drop for ScriptThread {
    /// Ends the thread. A thread that panicked fails its job and leaves its place to another.
    fn drop(&mut self) {
        let mut seat = self.place.lock();
        seat.stuck.retain(|run| run.thread != self.holder);
        if !panicking() || seat.holder != self.holder {
            return;
        }
        seat.holder += 1;
        let (holder, running) = (seat.holder, seat.running.take());
        drop(seat);
        drop(running);
        if let Err(error) = self.place.seat_thread(holder) {
            tracing::error!(%error, "no thread can be made for scripts");
        }
    }
}

impl Errand {
    /// Logs the lines of a run and keeps its state. Returns its verdict.
    fn apply(&self, mut run: Run) -> Verdict {
        let Self { app, spec, input, .. } = self;
        let (app, trigger, numbers) = (&app.name, &spec.rule.name, &spec.numbers);
        let place = input.channel.as_deref().unwrap_or_default();
        let lines = run.log.iter();
        for line in lines.filter(|_| numbers.may_log_line(input.time_ms)) {
            tracing::info!(target: "fanfare::trigger", %app, %trigger, channel = place, "{line}");
        }
        if run.is_ignored {
            tracing::debug!(%app, %trigger, "the trigger returned a value without reading the payload");
        }
        if let (Some(state), Work::Script(script)) = (run.state.take(), &spec.work) {
            let dropped = script.states.keep(place, state);
            (0..dropped).for_each(|_| count(&numbers.states_dropped));
        }
        let Run { decision, answers, publications, .. } = run;
        Verdict { decision, answers, publications }
    }
}

/// Compiles the script of a trigger.
fn load(script: &Script) -> Result<Sandbox, RunError> {
    let made = Sandbox::new(&script.source, script.budget, random() as u32);
    made.map_err(|error| RunError::Thrown(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seat in which this number of runs is stuck, `of_app` of each app.
    fn seat(stuck: usize, of_app: usize) -> Seat {
        let run = |thread: usize| {
            let app = AppId((thread / of_app).try_into().expect("few apps"));
            StuckRun { thread, app, spec: Arc::new(Spec::closed("a test")) }
        };
        Seat { stuck: (0..stuck).map(run).collect(), ..Seat::default() }
    }

    #[test]
    fn stuck_runs_bar_their_trigger_then_their_app_then_all_scripts() {
        let spec = Arc::new(Spec::closed("a test"));
        let is_barred = |seat: &Seat, app| seat.barred(AppId(app), &spec).is_some();
        let few = seat(STUCK_OF_APP - 1, STUCK_OF_APP);
        assert!(!is_barred(&few, 0) && few.barred(AppId(0), &few.stuck[0].spec).is_some());
        let many = seat(STUCK_OF_APP, STUCK_OF_APP);
        assert!(is_barred(&many, 0) && !is_barred(&many, 1));
        assert!(!is_barred(&seat(STUCK - 1, 1), 99));
        assert!(is_barred(&seat(STUCK, 1), 99), "no run begins that would need a further thread");
    }
}
