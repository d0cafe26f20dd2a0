//! The guard of the thread that runs scripts.
//!
//! The engine of scripts looks at its budget of time between the steps of a script, and within most built-in
//! functions. Some built-in operations cannot be stopped, such as `Array.prototype.reverse` of an object whose
//! `length` is 2^53, or a search in very long texts. When a run has used much more CPU time than its budget,
//! the guard gives the place to a new thread. The run's message has failed then, and its trigger does not run
//! any more. The old thread goes on at the lowest priority, and ends when its operation does.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Builder,
    time::Duration,
};

use crossbeam::channel::RecvTimeoutError;

use super::{
    script::{RunError, Sandbox},
    spec::{Budget, Work},
    thread::{Place, Running, Seat, THREAD_STACK_BYTES},
};
use crate::sys::ThreadName;

/// How often the guard looks at the thread, while scripts run.
const INTERVAL: Duration = Duration::from_millis(250);

/// The CPU time of a run beyond its budget, after which the run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// The triggers of an app that may be stuck. After so many, no script of the app runs.
pub(super) const STUCK_OF_APP: usize = 4;

/// Watches the thread until it ends.
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
        if seat.running.as_ref().is_some_and(is_stuck) {
            let Some(Running { job, thread, .. }) = seat.running.take() else { continue };
            seat.holder += 1;
            seat.stuck.push(job.spec().clone());
            forget_removed(&mut seat);
            let holder = seat.holder;
            drop(seat);
            let (app, trigger) = (&job.triggers.app.name, &job.spec().rule.name);
            tracing::error!(%app, %trigger, "a script is stuck in an operation that cannot be stopped");
            if let Some(thread) = thread {
                thread.give_way();
            }
            if let Err(error) = place.seat_thread(holder) {
                tracing::error!(%error, "no thread can be made for scripts");
            }
            job.on_run(Err(RunError::Stuck.into()));
            seat = place.lock();
            continue;
        }
        let waited = place.changed.wait_timeout(seat, INTERVAL).unwrap_or_else(PoisonError::into_inner);
        seat = waited.0;
    }
}

fn is_stuck(running: &Running) -> bool {
    let Work::Script(script) = &running.job.spec().work else { return false };
    let used = running.thread.as_ref().and_then(|thread| thread.cpu_time());
    used.is_some_and(|used| used.saturating_sub(running.began) > script.budget.cpu + PATIENCE)
}

/// Bounds the list of stuck triggers: those that count against an app stay.
fn forget_removed(seat: &mut Seat) {
    const STUCK: usize = 1024;
    if seat.stuck.len() > STUCK {
        seat.stuck.remove(0);
    }
}

/// The longest wait for a script whose top level runs.
const COMPILING: Duration = Duration::from_secs(10);

/// The scripts that may be stuck in their top level at one time.
const STUCK_COMPILING: usize = 4;

static COMPILING_STUCK: AtomicUsize = AtomicUsize::new(0);

/// Compiles a script on a thread of its own, because its top level may be stuck.
///
/// # Errors
/// What is wrong with the script, after its name.
pub(super) fn compile(source: &str, budget: Budget) -> Result<(), String> {
    // Relaxed: the count orders no other memory access.
    if COMPILING_STUCK.load(Ordering::Relaxed) >= STUCK_COMPILING {
        return Err("cannot be compiled while several other scripts are stuck".into());
    }
    let source = source.to_owned();
    let (sender, compiled) = crossbeam::channel::bounded(1);
    let (told, name) = crossbeam::channel::bounded(1);
    let compile = move || {
        drop(told.send(ThreadName::of_this()));
        let result = Sandbox::new(&source, budget, 0).map(drop);
        if sender.send(result).is_err() {
            COMPILING_STUCK.fetch_sub(1, Ordering::Relaxed);
        }
    };
    let thread = Builder::new().name("triggers-compile".into()).stack_size(THREAD_STACK_BYTES);
    thread.spawn(compile).map_err(|error| format!("cannot be compiled: {error}"))?;
    match compiled.recv_timeout(COMPILING) {
        Ok(result) => result.map_err(|error| format!("does not compile: {error}")),
        Err(RecvTimeoutError::Disconnected) => Err("cannot be compiled: its thread failed".into()),
        Err(RecvTimeoutError::Timeout) => {
            COMPILING_STUCK.fetch_add(1, Ordering::Relaxed);
            if let Ok(Some(thread)) = name.try_recv() {
                thread.give_way();
            }
            Err("does not compile: its top level is stuck in an operation that cannot be stopped".into())
        }
    }
}
