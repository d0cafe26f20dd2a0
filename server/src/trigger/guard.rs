//! The guard of the thread that runs scripts.
//!
//! The engine of scripts looks at its budget of time between the steps of a script, and within some built-in
//! functions. Other built-in operations cannot be stopped, such as `Array.prototype.reverse` of an object
//! whose `length` is 2^53, or a search in very long texts. When a run has used much more CPU time than its
//! budget, the guard gives the place to a new thread. The run has failed then. The old thread goes on at the
//! lowest priority with its one script, and ends when its operation does. The trigger does not run until
//! then.

use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Builder,
    time::{Duration, Instant},
};

use crossbeam::channel::{RecvTimeoutError, bounded};

use super::{
    script::{RunError, Sandbox},
    spec::Budget,
    thread::{Place, Running},
};
use crate::sys::{ThreadName, thread_cpu_time};

/// The native stack of a thread, for a script and its caller.
const THREAD_STACK_BYTES: usize = 4 << 20;

/// How often a thread that runs a script is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// The CPU time of a run beyond its budget, after which the run counts as stuck.
const PATIENCE: Duration = Duration::from_millis(500);

/// The time after which a run counts as stuck, if the system does not tell its CPU time.
const BLIND_PATIENCE: Duration = Duration::from_secs(10);

/// The stuck runs of an app after which no script of the app runs, and those of all apps after which no
/// script runs. They bound the threads and the memory of stuck runs.
pub(super) const STUCK_OF_APP: usize = 4;
pub(super) const STUCK: usize = 16;

/// The threads beside the script thread that may be stuck at one time.
const STUCK_ASIDE: usize = 4;

/// The number of those.
static ASIDE: AtomicUsize = AtomicUsize::new(0);

/// A thread that has room for a script.
pub(super) fn thread(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(THREAD_STACK_BYTES)
}

/// The work of a thread, whose CPU time is watched.
pub(super) struct Watched {
    thread: Option<ThreadName>,
    /// The CPU time of the thread, and the time, when the work began.
    cpu: Duration,
    at: Instant,
}

impl Watched {
    /// Begins work on this thread, which has this name.
    pub(super) fn begin(thread: Option<ThreadName>) -> Self {
        Self { thread, cpu: thread_cpu_time(), at: Instant::now() }
    }

    /// Whether the work has used much more CPU time than this.
    pub(super) fn is_stuck(&self, budget: Duration) -> bool {
        match self.thread.as_ref().and_then(ThreadName::cpu_time) {
            Some(used) => used.saturating_sub(self.cpu) > budget + PATIENCE,
            None => self.at.elapsed() > BLIND_PATIENCE,
        }
    }

    fn give_way(&self) {
        if let Some(thread) = &self.thread {
            thread.give_way();
        }
    }
}

/// Watches the script thread until it ends.
pub(super) fn watch(place: &Arc<Place>) {
    let mut runs = 0;
    let mut seat = place.lock();
    while !seat.has_ended {
        if seat.runs == runs && seat.running.is_none() {
            seat.is_guarded = false;
            seat = place.changed.wait(seat).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        runs = seat.runs;
        let Some(running) = seat.abandon() else {
            seat = place.changed.wait_timeout(seat, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        };
        let holder = seat.holder;
        drop(seat);
        fail(running);
        if let Err(error) = place.seat_thread(holder) {
            tracing::error!(%error, "no thread can be made for scripts: they run without a guard");
            place.clone().run_scripts(holder);
        }
        seat = place.lock();
    }
}

/// Fails a run whose thread has lost its place.
fn fail(Running { job, watched }: Running) {
    let (app, trigger) = (&job.triggers.app.name, &job.spec().rule.name);
    tracing::error!(%app, %trigger, "a script is stuck: its trigger does not run until it is changed");
    watched.give_way();
    job.on_run(Err(RunError::Stuck.into()));
}

/// Why work with a script has no result.
#[derive(Debug)]
pub(super) enum AsideError {
    Stuck,
    /// Too many other threads are stuck.
    Full,
    NoThread,
}

impl fmt::Display for AsideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stuck => "is stuck in an operation that cannot be stopped",
            Self::Full => "cannot be compiled while several other scripts are stuck",
            Self::NoThread => "cannot be compiled: its thread failed",
        })
    }
}

/// Does work with a script on a thread of its own, because the script may be stuck.
pub(super) fn aside<T: Send + 'static>(
    cpu: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AsideError> {
    aside_of(&ASIDE, cpu, work)
}

/// Does work aside. `stuck` counts the threads that are stuck.
fn aside_of<T: Send + 'static>(
    stuck: &'static AtomicUsize,
    cpu: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AsideError> {
    // Relaxed: the count orders no other memory access.
    if stuck.load(Ordering::Relaxed) >= STUCK_ASIDE {
        return Err(AsideError::Full);
    }
    let (told, begun) = bounded(1);
    // Without a buffer: a result is received, or its sender knows that nobody waits.
    let (sender, done) = bounded(0);
    let work = move || {
        drop(told.send(Watched::begin(ThreadName::of_this())));
        if sender.send(work()).is_err() {
            stuck.fetch_sub(1, Ordering::Relaxed);
        }
    };
    thread("triggers-aside").spawn(work).map_err(|_| AsideError::NoThread)?;
    let watched = begun.recv().map_err(|_| AsideError::NoThread)?;
    loop {
        match done.recv_timeout(INTERVAL) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(AsideError::NoThread),
            Err(RecvTimeoutError::Timeout) if watched.is_stuck(cpu) => {
                stuck.fetch_add(1, Ordering::Relaxed);
                watched.give_way();
                return Err(AsideError::Stuck);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The number of threads beside the script thread that are stuck.
pub(super) fn stuck_aside() -> usize {
    ASIDE.load(Ordering::Relaxed)
}

/// Compiles a script and runs its top level.
///
/// # Errors
/// What is wrong with the script, after its name.
pub(super) fn compile(source: &str, budget: Budget) -> Result<(), String> {
    let source = source.to_owned();
    match aside(budget.cpu, move || Sandbox::new(&source, budget, 0).map(drop)) {
        Ok(compiled) => compiled.map_err(|error| format!("does not compile: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn few_threads_are_stuck_aside_at_one_time() {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        static GO_ON: AtomicBool = AtomicBool::new(true);
        let aside = |work: fn()| aside_of(&COUNT, Duration::ZERO, work);
        for _ in 0..STUCK_ASIDE {
            assert!(aside(|| ()).is_ok());
            let work = || {
                while GO_ON.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            assert!(matches!(aside(work), Err(AsideError::Stuck)));
        }
        assert!(matches!(aside(|| ()), Err(AsideError::Full)));
        GO_ON.store(false, Ordering::Relaxed);
        while aside(|| ()).is_err() {
            std::thread::yield_now();
        }
    }
}
