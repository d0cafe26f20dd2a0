//! The thread that runs scripts. All scripts of an app run on one thread, so their states need no order. The
//! apps take turns, so a script that uses its whole budget delays other apps by one run.
//!
//! The engine of scripts cannot stop a single built-in operation. The [guard](super::guard) notices a thread
//! that is stuck in one, and another thread takes over its place: its jobs are in a [`Seat`].

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use bytes::BytesMut;
use crossbeam::channel::{Receiver, Sender, unbounded};
use fanfare_core::{
    channel::WorkerSet,
    engine::Node,
    id::AppId,
    publication::OwnedPayload,
    trigger::{TriggerInput, Verdict},
};
use hashbrown::HashMap;

use super::{
    desk::{AppTriggers, Job, Posting},
    guard::{self, STUCK_OF_APP},
    input::put_head,
    metrics::count,
    script::{Call, Run, RunError, Sandbox},
    spec::{Script, Spec, Work},
};
use crate::sys::{ThreadName, random, thread_cpu_time};

/// The native stack of a thread, for a script and its caller.
pub(super) const THREAD_STACK_BYTES: usize = 4 << 20;

/// The number of verdicts after which workers are woken while the thread has more jobs.
const BATCH: usize = 32;

/// The number of calls after which the thread drops scripts of removed triggers.
const SWEEP: usize = 4096;

/// The sender to the thread. The thread ends when the last sender is dropped.
pub(crate) struct ScriptThreads(Sender<Job>);

impl ScriptThreads {
    /// Starts the thread and its guard, which ends after it. The limit of an app's waiting calls bounds the
    /// thread's queue.
    pub(crate) fn start(node: &Weak<Node>) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, jobs) = unbounded();
        let place = Arc::new(Place { jobs, node: node.clone(), ..Place::default() });
        place.seat_thread(0)?;
        let guard = Builder::new().name("triggers-guard".into());
        Ok((Self(sender), guard.spawn(move || guard::watch(&place))?))
    }

    /// Queues a job.
    pub(crate) fn send(&self, job: Job) {
        // A thread that has ended drops the job, which fails then.
        drop(self.0.send(job));
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
    pub(super) running: Option<Running>,
    /// The number of runs.
    pub(super) runs: u64,
    /// Whether the guard looks at the seat from time to time.
    pub(super) is_guarded: bool,
    /// Whether the thread has ended.
    pub(super) has_ended: bool,
    /// The triggers that were stuck. They do not run any more.
    pub(super) stuck: Vec<Arc<Spec>>,
}

/// A job whose script runs.
pub(super) struct Running {
    pub(super) job: Job,
    pub(super) thread: Option<ThreadName>,
    /// The CPU time of the thread when the script began.
    pub(super) began: Duration,
}

/// The part of a job that its script needs.
struct Errand {
    triggers: Arc<AppTriggers>,
    spec: Arc<Spec>,
    input: Arc<TriggerInput>,
    /// The payload that an earlier trigger decided.
    replaced: Option<OwnedPayload>,
    is_stuck: bool,
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
        let named = Builder::new().name(format!("triggers-{holder}")).stack_size(THREAD_STACK_BYTES);
        named.spawn(move || ScriptThread::new(place, holder).run()).map(drop)
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

    /// Whether a trigger may not run any more, because it or several others of its app were stuck.
    fn is_stuck(&self, job: &Job) -> bool {
        let of_app = |spec: &&Arc<Spec>| job.triggers.specs.iter().any(|own| own.rule.name == spec.rule.name);
        self.stuck.iter().any(|spec| Arc::ptr_eq(spec, job.spec()))
            || self.stuck.iter().filter(of_app).count() >= STUCK_OF_APP
    }
}

struct ScriptThread {
    place: Arc<Place>,
    holder: usize,
    name: Option<ThreadName>,
    /// The scripts by the address of their trigger. No other trigger has the address while the script is
    /// here.
    loaded: HashMap<usize, Loaded>,
    head: BytesMut,
    calls: usize,
}

struct Loaded {
    spec: Weak<Spec>,
    sandbox: Option<Sandbox>,
}

impl ScriptThread {
    fn new(place: Arc<Place>, holder: usize) -> Self {
        let (loaded, head) = (HashMap::new(), BytesMut::new());
        Self { place, holder, name: ThreadName::of_this(), loaded, head, calls: 0 }
    }

    fn run(mut self) {
        let place = self.place.clone();
        let mut posted = WorkerSet::default();
        let mut batch = 0;
        while self.gather() {
            let Some(errand) = self.begin() else { continue };
            let result = self.run_errand(&errand);
            let Some(mut job) = self.finish() else { return };
            let (worker, desk) = (job.call.worker, job.triggers.desk.clone());
            job.posting = Posting::InBatch;
            job.on_run(result.map_err(Into::into));
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
        let errand = Errand {
            triggers: job.triggers.clone(),
            spec: job.spec().clone(),
            input: job.call.input.clone(),
            replaced: job.replaced().cloned(),
            is_stuck: seat.is_stuck(&job),
        };
        let (thread, began) = (self.name.clone(), thread_cpu_time());
        seat.running = Some(Running { job, thread, began });
        seat.runs += 1;
        if !seat.is_guarded {
            seat.is_guarded = true;
            self.place.changed.notify_one();
        }
        Some(errand)
    }

    /// Takes the job back after its run; `None` if another thread has taken over.
    fn finish(&mut self) -> Option<Job> {
        let mut seat = self.place.lock();
        let running = if seat.holder == self.holder { seat.running.take() } else { None };
        running.map(|running| running.job)
    }

    fn run_errand(&mut self, errand: &Errand) -> Result<Verdict, RunError> {
        let spec = &errand.spec;
        let Work::Script(script) = &spec.work else {
            return Err(RunError::Thrown("the trigger has no script".into()));
        };
        spec.numbers.dequeued();
        if errand.is_stuck {
            return Err(RunError::Stuck);
        }
        let began = thread_cpu_time();
        let result = self.run_script(errand, script);
        spec.numbers.took(thread_cpu_time().saturating_sub(began));
        self.calls += 1;
        if matches!(result, Err(RunError::Memory)) {
            // A script that ran out of memory has no room for further runs.
            self.loaded.remove(&address(spec));
        } else if self.calls.is_multiple_of(SWEEP) {
            self.loaded.retain(|_, loaded| loaded.spec.strong_count() > 0);
        }
        result
    }

    fn run_script(&mut self, errand: &Errand, script: &Script) -> Result<Verdict, RunError> {
        let Errand { triggers, spec, input, replaced, .. } = errand;
        let sandbox = load(&mut self.loaded, spec, script)?;
        let channel = input.channel.as_deref();
        let place = channel.unwrap_or_default();
        self.head.clear();
        put_head(&mut self.head, &triggers.app.name, input);
        self.head.extend_from_slice(b"}");
        let head = std::str::from_utf8(&self.head).map_err(|error| RunError::Thrown(error.to_string()))?;
        let state = script.states.of(place);
        let action = input.kind.action();
        let payload = replaced.as_ref().unwrap_or(&input.payload).view();
        let call = Call { action, head, payload, channel, state: state.as_deref() };
        let mut run = sandbox.run(&call)?;
        let (app, trigger) = (&triggers.app.name, &spec.rule.name);
        let lines = run.log.iter();
        for line in lines.filter(|_| spec.numbers.may_log_line(input.time_ms)) {
            tracing::info!(target: "fanfare::trigger", %app, %trigger, channel = place, "{line}");
        }
        if run.is_ignored {
            tracing::debug!(%app, %trigger, "the trigger returned a value without reading the payload");
        }
        if let Some(state) = run.state.take() {
            let dropped = script.states.keep(place, state);
            (0..dropped).for_each(|_| count(&spec.numbers.states_dropped));
        }
        let Run { decision, answers, publications, .. } = run;
        Ok(Verdict { decision, answers, publications })
    }
}

fn address(spec: &Arc<Spec>) -> usize {
    Arc::as_ptr(spec).addr()
}

/// The script of a trigger, compiled when it is first called.
fn load<'l>(
    loaded: &'l mut HashMap<usize, Loaded>,
    spec: &Arc<Spec>,
    script: &Script,
) -> Result<&'l mut Sandbox, RunError> {
    let entry = loaded.entry(address(spec)).or_insert_with(|| Loaded { spec: Weak::new(), sandbox: None });
    // While the weak reference exists, no other trigger has this address.
    if entry.sandbox.is_none() || !std::ptr::eq(entry.spec.as_ptr(), Arc::as_ptr(spec)) {
        entry.spec = Arc::downgrade(spec);
        let seed = random() as u32;
        entry.sandbox = None;
        let made = Sandbox::new(&script.source, script.budget, seed);
        entry.sandbox = Some(made.map_err(|error| RunError::Thrown(error.to_string()))?);
    }
    entry.sandbox.as_mut().ok_or(RunError::Memory)
}
