//! The back end of a trigger: its queue, its breaker, and its lanes.
//!
//! A lane is a task with at most one connection and one request under way. A lane without work waits with its
//! connection until `keep_alive` has passed. The lane that waits shortest works next, so connections that are
//! not needed end.
//!
//! All of it runs on one thread. No borrow of the state lasts over an `await` or over the end of a job.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fanfare_core::{channel::WorkerSet, id::SessionId, trigger::Verdict};
use tokio::{sync::oneshot, task::spawn_local, time::timeout};

use super::{
    breaker::{Breaker, Change, Permit},
    queue::Queue,
    request::{HttpError, reply_bytes, request, verdicts},
    settings::HttpSettings,
};
use crate::{
    egress::{Connection, ExchangeError, Reply},
    trigger::{
        desk::{Job, Posting},
        metrics::{Numbers, count},
    },
};

/// The line of an event: its session, or the back end.
type Line = Option<SessionId>;

pub(super) struct Target {
    settings: Arc<HttpSettings>,
    numbers: Arc<Numbers>,
    app: Box<str>,
    trigger: Box<str>,
    state: RefCell<State>,
}

struct State {
    queue: Queue<Line, Job>,
    breaker: Breaker,
    lanes: usize,
    /// The lanes that wait, in the order in which they began to.
    waiting: Vec<oneshot::Sender<Batch>>,
}

/// The events of one request. Their lines are free again when the batch is dropped.
struct Batch {
    target: Rc<Target>,
    lines: Vec<Line>,
    jobs: Vec<Job>,
    permit: Permit,
    /// Whether the breaker knows the result.
    is_noted: bool,
}

/// What a request brought: a verdict for each event, and the connection for the next request.
struct Judged {
    verdicts: Vec<Result<Verdict, HttpError>>,
    connection: Connection,
}

impl Target {
    /// The target of a job's trigger.
    pub(super) fn new(settings: Arc<HttpSettings>, job: &Job) -> Rc<Self> {
        let breaker = Breaker::new(settings.breaker);
        // The counts are also those of the trigger's earlier settings.
        set(&job.spec().numbers.http.is_open, 0);
        let state = State { queue: Queue::new(), breaker, lanes: 0, waiting: Vec::new() };
        Rc::new(Self {
            settings,
            numbers: job.spec().numbers.clone(),
            app: job.triggers.app.name.clone(),
            trigger: job.spec().rule.name.clone(),
            state: RefCell::new(state),
        })
    }

    /// Whether a trigger has these settings, or events or connections are left.
    pub(super) fn is_needed(&self) -> bool {
        let state = self.state.borrow();
        Arc::strong_count(&self.settings) > 1 || state.lanes > 0 || !state.queue.is_empty()
    }

    /// Queues a job, in the line of its session.
    pub(super) fn push(&self, job: Job) {
        let line = job.call.input.client.as_ref().map(|client| client.session);
        self.state.borrow_mut().queue.push(line, job);
    }

    /// Gives waiting events to lanes.
    pub(super) fn pump(self: &Rc<Self>) {
        self.shed();
        loop {
            let has_room = {
                let state = self.state.borrow();
                !state.waiting.is_empty() || state.lanes < self.settings.connections
            };
            match if has_room { self.take() } else { None } {
                Some(batch) => self.start(batch),
                None => return,
            }
        }
    }

    /// Fails the waiting events if the breaker permits no request.
    fn shed(&self) {
        let shed = {
            let mut state = self.state.borrow_mut();
            match state.breaker.permit(Instant::now()) {
                Permit::Nothing => state.queue.drain(),
                Permit::Any | Permit::Probe => return,
            }
        };
        for job in shed {
            self.numbers.dequeued();
            job.on_run(Err(HttpError::BreakerOpen.into()));
        }
    }

    fn take(self: &Rc<Self>) -> Option<Batch> {
        let mut state = self.state.borrow_mut();
        let permit = state.breaker.permit(Instant::now());
        if permit == Permit::Nothing {
            return None;
        }
        let taken = state.queue.take(self.settings.batch)?;
        if permit == Permit::Probe {
            state.breaker.probe();
        }
        taken.items.iter().for_each(|_| self.numbers.dequeued());
        let (lines, jobs) = (taken.lines, taken.items);
        Some(Batch { target: self.clone(), lines, jobs, permit, is_noted: false })
    }

    /// Gives a batch to a lane that waits, or to a new one.
    fn start(self: &Rc<Self>, mut batch: Batch) {
        loop {
            let waiting = self.state.borrow_mut().waiting.pop();
            let Some(waiting) = waiting else { break };
            match waiting.send(batch) {
                Ok(()) => return,
                Err(unsent) => batch = unsent,
            }
        }
        drop(spawn_local(run_lane(Lane::new(self), batch)));
    }

    /// Waits for the next batch, until `keep_alive` has passed.
    async fn wait(&self) -> Option<Batch> {
        let (sender, mut batch) = oneshot::channel();
        self.state.borrow_mut().waiting.push(sender);
        let next = timeout(self.settings.keep_alive, &mut batch).await;
        drop(batch);
        if next.is_err() {
            self.state.borrow_mut().waiting.retain(|sender| !sender.is_closed());
        }
        next.ok()?.ok()
    }

    async fn serve(&self, connection: Option<Connection>, mut batch: Batch) -> Option<Connection> {
        let begun = Instant::now();
        count(&self.numbers.http.requests);
        let asked = timeout(self.settings.timeout, self.ask(connection, &batch.jobs)).await;
        let asked = asked.unwrap_or(Err(HttpError::TimedOut));
        let took = begun.elapsed();
        batch.note(if asked.is_ok() { Noted::Success } else { Noted::Failure });
        let (verdicts, connection) = match asked {
            Ok(Judged { verdicts, connection }) => {
                if let Some(error) = verdicts.iter().find_map(|verdict| verdict.as_ref().err()) {
                    self.log(error, &batch.jobs);
                }
                (verdicts, Some(connection))
            }
            Err(error) => {
                count(&self.numbers.http.failed);
                let events = batch.jobs.len();
                self.log(&error, &batch.jobs);
                (std::iter::repeat_with(|| Err(error.clone())).take(events).collect(), None)
            }
        };
        batch.finish(verdicts, took);
        connection
    }

    async fn ask(&self, connection: Option<Connection>, jobs: &[Job]) -> Result<Judged, HttpError> {
        let settings = &*self.settings;
        let time_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut request = request(settings, jobs, time_s);
        let reply_bytes = reply_bytes(settings, jobs.len());
        if let Some(connection) = connection {
            match connection.exchange(request, reply_bytes).await {
                // The back end has closed a connection that it did not need. It knows nothing of the request.
                Err(ExchangeError::Unsent(unsent)) => request = *unsent,
                exchanged => return judge(settings, jobs, exchanged),
            }
        }
        count(&self.numbers.http.connects);
        let connected = settings.endpoint.connect().await;
        let connection = connected.map_err(|error| HttpError::Unreachable(error.to_string()))?;
        judge(settings, jobs, connection.exchange(request, reply_bytes).await)
    }

    fn log(&self, error: &HttpError, jobs: &[Job]) {
        let time_ms = jobs.first().map_or(0, |job| job.call.input.time_ms);
        if self.numbers.may_log_failure(time_ms) {
            let (app, trigger, events) = (&self.app, &self.trigger, jobs.len());
            tracing::warn!(%app, %trigger, %error, events, "a trigger failed");
        }
    }

    fn on_change(&self, change: Change) {
        let (app, trigger) = (&self.app, &self.trigger);
        match change {
            Change::Opened => {
                count(&self.numbers.http.opened);
                set(&self.numbers.http.is_open, 1);
                tracing::warn!(%app, %trigger, "the breaker is open: the back end is not asked");
            }
            Change::Closed => {
                set(&self.numbers.http.is_open, 0);
                tracing::info!(%app, %trigger, "the breaker is closed: the back end answers");
            }
            Change::Nothing => {}
        }
    }
}

fn judge(
    settings: &HttpSettings,
    jobs: &[Job],
    exchanged: Result<Reply, ExchangeError>,
) -> Result<Judged, HttpError> {
    let reply = exchanged.map_err(|error| match error {
        ExchangeError::Unsent(_) => HttpError::Broken("the connection was closed".into()),
        ExchangeError::Broken(error) => HttpError::Broken(error),
        ExchangeError::TooLarge => HttpError::TooLarge,
    })?;
    let verdicts = verdicts(settings, jobs, &reply)?;
    Ok(Judged { verdicts, connection: reply.connection })
}

/// Stores a gauge. Relaxed: the gauge orders no other memory access.
fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Ordering::Relaxed);
}

/// The result of a request, for the breaker.
#[derive(Copy, Clone)]
enum Noted {
    Success,
    Failure,
}

impl Batch {
    /// Tells the breaker the result of the request.
    fn note(&mut self, noted: Noted) {
        self.is_noted = true;
        let change = {
            let breaker = &mut self.target.state.borrow_mut().breaker;
            match noted {
                Noted::Success => breaker.on_success(self.permit),
                Noted::Failure => breaker.on_failure(self.permit, Instant::now()),
            }
        };
        self.target.on_change(change);
    }

    /// Ends the jobs, and wakes their workers once.
    fn finish(&mut self, verdicts: Vec<Result<Verdict, HttpError>>, took: Duration) {
        let Some(desk) = self.jobs.first().map(|job| job.triggers.desk.clone()) else { return };
        let mut posted = WorkerSet::default();
        for (mut job, verdict) in self.jobs.drain(..).zip(verdicts) {
            self.target.numbers.took(took);
            posted.insert(job.call.worker);
            job.posting = Posting::InBatch;
            job.on_run(verdict.map_err(Into::into));
        }
        if let Some(node) = desk.node.upgrade() {
            posted.for_each(|worker| desk.wake(&node, worker));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.is_noted {
            self.note(Noted::Failure);
        }
        self.target.state.borrow_mut().queue.finish(&self.lines);
    }
}

/// A lane, which counts as long as it lives.
struct Lane(Rc<Target>);

impl Lane {
    fn new(target: &Rc<Target>) -> Self {
        target.state.borrow_mut().lanes += 1;
        Self(target.clone())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.state.borrow_mut().lanes -= 1;
    }
}

async fn run_lane(lane: Lane, first: Batch) {
    let target = &lane.0;
    let (mut connection, mut batch) = (None, first);
    loop {
        connection = target.serve(connection, batch).await;
        let next = target.take();
        target.pump();
        batch = match (next, &connection) {
            (Some(batch), _) => batch,
            (None, None) => return,
            (None, Some(_)) => match target.wait().await {
                Some(batch) => batch,
                None => return,
            },
        };
    }
}
