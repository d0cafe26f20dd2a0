//! Triggers that ask an app's back end: signed requests over kept connections, on a thread of their own.
//!
//! ```text
//!   dispatch ─▶ HttpThread ─▶ Target::push: the queue, by session
//!                                 │ take, as the breaker permits
//!                                 ▼
//!                             lane, lane, …  one request under way on each, one connection each
//!                                 │
//!                                 └─▶ Job::on_run
//! ```
//!
//! One thread has a tokio runtime for all apps. It takes no CPU time of workers, and decides nothing. A
//! [`Target`] is the back end of one version of a trigger; its lanes are tasks. The events of a session are
//! in one request at a time, so a back end receives them in their order.

mod breaker;
mod queue;
mod request;
mod settings;
mod target;

use std::{
    collections::HashMap,
    io,
    rc::Rc,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

use self::target::Target;
pub(crate) use self::{
    request::HttpError,
    settings::{CONNECTIONS, HttpSettings},
};
use super::desk::Job;

/// The most jobs that are taken together from the channel.
const GATHER: usize = 64;

/// The number of jobs after which targets of removed triggers are dropped.
const SWEEP: usize = 4096;

/// The most threads that look names up.
const LOOKUPS: usize = 4;

/// What the thread is told.
enum Message {
    Job(Job),
    /// The thread ends, and drops its jobs.
    Stop,
}

/// The sender to the thread. The limit of an app's waiting calls bounds the thread's queues.
pub(crate) struct HttpThread(UnboundedSender<Message>);

impl HttpThread {
    /// Starts the thread. Its runtime is made for the first job.
    pub(crate) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, messages) = unbounded_channel();
        let handle = Builder::new().name("triggers-http".into()).spawn(move || run(messages))?;
        Ok((Self(sender), handle))
    }

    /// Queues a job for its back end.
    pub(crate) fn send(&self, job: Job) {
        // A thread that has ended drops the job, which fails then.
        drop(self.0.send(Message::Job(job)));
    }

    /// Ends the thread and the requests that are under way.
    pub(crate) fn stop(&self) {
        // A thread that has ended needs no word.
        drop(self.0.send(Message::Stop));
    }
}

fn run(mut messages: UnboundedReceiver<Message>) {
    let Some(first @ Message::Job(_)) = messages.blocking_recv() else { return };
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUPS)
        .thread_name("triggers-names")
        .build();
    match runtime {
        Ok(runtime) => {
            LocalSet::new().block_on(&runtime, serve(first, messages));
            // A look-up that hangs does not hold up the end.
            runtime.shutdown_background();
        }
        Err(error) => tracing::error!(%error, "http triggers fail: their runtime could not be made"),
    }
}

async fn serve(first: Message, mut messages: UnboundedReceiver<Message>) {
    let mut targets: HashMap<usize, Rc<Target>> = HashMap::new();
    let mut gathered = vec![first];
    let mut jobs = 0;
    loop {
        let mut touched: Vec<Rc<Target>> = Vec::new();
        for message in gathered.drain(..) {
            let Message::Job(job) = message else { return };
            // No other settings have this address while the target holds them.
            let Some(settings) = job.http().cloned() else { continue };
            let address = Arc::as_ptr(&settings).addr();
            let target = targets.entry(address).or_insert_with(|| Target::new(settings, &job));
            target.push(job);
            if !touched.iter().any(|other| Rc::ptr_eq(other, target)) {
                touched.push(target.clone());
            }
            jobs += 1;
            if jobs == SWEEP {
                jobs = 0;
                targets.retain(|_, target| target.is_needed());
            }
        }
        touched.iter().for_each(Target::pump);
        if messages.recv_many(&mut gathered, GATHER).await == 0 {
            return;
        }
    }
}
