//! Threads that run scripts. All scripts of an app run on one thread, so their states need no order. The apps
//! take turns, so a script that uses its whole budget delays other apps by one run.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
    thread::{Builder, JoinHandle},
};

use bytes::BytesMut;
use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};
use fanfare_core::{channel::WorkerSet, engine::Node, id::AppId, trigger::Verdict};
use hashbrown::HashMap;

use super::{
    desk::{Job, Posting},
    input::put_head,
    metrics::count,
    script::{Call, Run, RunError, Sandbox},
    spec::{Script, Spec, Work},
};
use crate::sys::{random, thread_cpu_time};

/// The native stack of a thread, for a script and its caller.
const THREAD_STACK_BYTES: usize = 4 << 20;

/// The number of verdicts after which workers are woken while the thread has more jobs.
const BATCH: usize = 32;

/// The number of calls after which the thread drops scripts of removed triggers.
const SWEEP: usize = 4096;

/// Senders to the threads. The threads end when the last sender is dropped.
pub(crate) struct ScriptThreads(Vec<Sender<Job>>);

impl ScriptThreads {
    /// Starts the threads. The limit of an app's waiting calls bounds the threads' queues.
    pub(crate) fn start(threads: usize, node: &Weak<Node>) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (mut senders, mut handles) = (Vec::new(), Vec::new());
        for at in 0..threads {
            let (sender, jobs) = unbounded();
            let node = node.clone();
            let named = Builder::new().name(format!("triggers-{at}")).stack_size(THREAD_STACK_BYTES);
            handles.push(named.spawn(move || ScriptThread::new(jobs, node).run())?);
            senders.push(sender);
        }
        Ok((Self(senders), handles))
    }

    /// Queues a job for its app's thread.
    pub(crate) fn send(&self, job: Job) {
        let thread = usize::from(job.call.app.0) % self.0.len();
        // A thread that has ended drops the job, which fails then.
        drop(self.0[thread].send(job));
    }
}

struct ScriptThread {
    jobs: Receiver<Job>,
    node: Weak<Node>,
    queues: HashMap<AppId, VecDeque<Job>>,
    /// The apps that have jobs, in the order of their turns.
    turns: VecDeque<AppId>,
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
    fn new(jobs: Receiver<Job>, node: Weak<Node>) -> Self {
        Self {
            jobs,
            node,
            queues: HashMap::new(),
            turns: VecDeque::new(),
            loaded: HashMap::new(),
            head: BytesMut::new(),
            calls: 0,
        }
    }

    fn run(mut self) {
        let mut posted = WorkerSet::default();
        let mut batch = 0;
        while self.gather() {
            let Some(mut job) = self.next() else { continue };
            let (worker, desk) = (job.call.worker, job.triggers.desk.clone());
            job.posting = Posting::InBatch;
            let result = self.run_job(&job);
            job.on_run(result.map_err(Into::into));
            posted.insert(worker);
            batch += 1;
            let is_idle = self.turns.is_empty() && self.jobs.is_empty();
            if (is_idle || batch >= BATCH)
                && let Some(node) = self.node.upgrade()
            {
                std::mem::take(&mut posted).for_each(|worker| desk.wake(&node, worker));
                batch = 0;
            }
        }
    }

    /// Takes the jobs that have come, and waits for one if there is none. Returns false at the end.
    fn gather(&mut self) -> bool {
        if self.turns.is_empty() {
            match self.jobs.recv() {
                Ok(job) => self.enqueue(job),
                Err(_) => return false,
            }
        }
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.enqueue(job),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
            }
        }
    }

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

    fn run_job(&mut self, job: &Job) -> Result<Verdict, RunError> {
        let spec = job.spec().clone();
        let Work::Script(script) = &spec.work else {
            return Err(RunError::Thrown("the trigger has no script".into()));
        };
        spec.numbers.dequeued();
        let began = thread_cpu_time();
        let result = self.run_script(job, &spec, script);
        spec.numbers.took(thread_cpu_time().saturating_sub(began));
        self.calls += 1;
        if matches!(result, Err(RunError::Memory)) {
            // A script that ran out of memory has no room for further runs.
            self.loaded.remove(&address(&spec));
        } else if self.calls.is_multiple_of(SWEEP) {
            self.loaded.retain(|_, loaded| loaded.spec.strong_count() > 0);
        }
        result
    }

    fn run_script(&mut self, job: &Job, spec: &Arc<Spec>, script: &Script) -> Result<Verdict, RunError> {
        let sandbox = load(&mut self.loaded, spec, script)?;
        let input = &job.call.input;
        let channel = input.channel.as_deref();
        let place = channel.unwrap_or_default();
        self.head.clear();
        put_head(&mut self.head, &job.triggers.app.name, input);
        self.head.extend_from_slice(b"}");
        let head = std::str::from_utf8(&self.head).map_err(|error| RunError::Thrown(error.to_string()))?;
        let state = script.states.of(place);
        let action = input.kind.action();
        let call = Call { action, head, payload: job.payload(), channel, state: state.as_deref() };
        let mut run = sandbox.run(&call)?;
        let (app, trigger) = (&job.triggers.app.name, &spec.rule.name);
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
