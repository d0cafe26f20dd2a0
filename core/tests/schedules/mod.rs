//! Every schedule of a few threads, within a bound of preemptions.
//!
//! The threads run one at a time. At each of its [`schedule`](fanfare_core::schedule) points the running one
//! asks which goes on. The answers of one run are a path; the next run repeats the path up to its last answer
//! that has an alternative, and takes that (stateless model checking, as CHESS does it: Musuvathi and Qadeer,
//! PLDI 2007).

use std::{
    cell::RefCell,
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    thread,
};

use fanfare_core::schedule;

/// A thread of a model.
pub(crate) type Body = Box<dyn FnOnce(&Turns) + Send>;

/// How a thread gives the processor away.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Switch {
    /// In the midst of its work: counts against the bound.
    Preempted,
    /// Between two turns, where a worker polls.
    TurnOver,
    /// For ever.
    Finished,
}

/// Answers so far, and where the next one is read or added.
#[derive(Default)]
struct Path {
    answers: Vec<Answer>,
    at: usize,
}

struct Answer {
    chosen: usize,
    alternatives: usize,
}

impl Path {
    fn choose(&mut self, alternatives: usize) -> usize {
        if alternatives == 1 {
            return 0;
        }
        if self.at == self.answers.len() {
            self.answers.push(Answer { chosen: 0, alternatives });
        }
        let answer = &self.answers[self.at];
        assert_eq!(answer.alternatives, alternatives, "a run repeats the path of the one before");
        self.at += 1;
        answer.chosen
    }

    /// Goes to the next path. Returns false after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some(last) = self.answers.last_mut() {
            last.chosen += 1;
            if last.chosen < last.alternatives {
                return true;
            }
            self.answers.pop();
        }
        false
    }
}

struct State {
    path: Path,
    /// The thread that runs.
    running: usize,
    alive: Vec<bool>,
    preemptions: usize,
}

struct Baton {
    state: Mutex<State>,
    passed: Condvar,
}

/// Of [`State::running`]: every thread has finished.
const NOBODY: usize = usize::MAX;

const SOUND: &str = "no model panics while it holds the baton";

impl Baton {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(SOUND)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Turns>> = const { RefCell::new(None) };
}

/// One thread's view of who runs.
#[derive(Clone)]
pub(crate) struct Turns {
    baton: Arc<Baton>,
    thread: usize,
}

impl Turns {
    /// A turn is over: any thread may run, at no cost.
    pub(crate) fn end_turn(&self) {
        self.switch(Switch::TurnOver);
    }

    fn switch(&self, why: Switch) {
        let mut state = self.baton.state();
        let others: Vec<usize> =
            (0..state.alive.len()).filter(|&t| t != self.thread && state.alive[t]).collect();
        let may_go = why != Switch::Preempted || state.preemptions > 0;
        let choices: Vec<usize> = match why {
            Switch::Finished => others,
            _ if may_go => [self.thread].into_iter().chain(others).collect(),
            _ => return,
        };
        if why == Switch::Finished {
            state.alive[self.thread] = false;
        }
        let next = match choices.len() {
            0 => NOBODY,
            count => choices[state.path.choose(count)],
        };
        if next == self.thread {
            return;
        }
        if why == Switch::Preempted {
            state.preemptions -= 1;
        }
        state.running = next;
        self.baton.passed.notify_all();
        if why != Switch::Finished {
            self.wait(state);
        }
    }

    fn wait(&self, state: MutexGuard<'_, State>) {
        let passed = self.baton.passed.wait_while(state, |state| state.running != self.thread);
        drop(passed.expect(SOUND));
    }
}

fn on_point() {
    CURRENT.with_borrow(|turns| {
        turns.as_ref().expect("the hook is set on threads of a model").switch(Switch::Preempted)
    });
}

/// Runs the bodies that `make` makes, one on each of `threads` threads, under every schedule of at most
/// `preemptions` preemptions, and `judge` after each. Returns the number of schedules.
pub(crate) fn explore<W>(
    threads: usize,
    preemptions: usize,
    mut make: impl FnMut() -> (Vec<Body>, W),
    mut judge: impl FnMut(W),
) -> usize {
    let state = State { path: Path::default(), running: NOBODY, alive: vec![false; threads], preemptions };
    let baton = Arc::new(Baton { state: Mutex::new(state), passed: Condvar::new() });
    let mut schedules = 0;
    thread::scope(|scope| {
        let start = |thread| {
            let (bodies, next) = mpsc::channel::<Body>();
            let turns = Turns { baton: baton.clone(), thread };
            scope.spawn(move || run_bodies(&turns, &next));
            bodies
        };
        let runners: Vec<_> = (0..threads).map(start).collect();
        loop {
            let (bodies, world) = make();
            for (runner, body) in runners.iter().zip(bodies) {
                runner.send(body).expect("no model panics");
            }
            run(&baton, preemptions);
            schedules += 1;
            judge(world);
            if !baton.state().path.advance() {
                break;
            }
        }
    });
    schedules
}

/// Lets one thread begin, and waits until all have finished.
fn run(baton: &Baton, preemptions: usize) {
    let mut state = baton.state();
    let threads = state.alive.len();
    state.alive.fill(true);
    state.preemptions = preemptions;
    state.running = state.path.choose(threads);
    baton.passed.notify_all();
    let done = baton.passed.wait_while(state, |state| state.running != NOBODY);
    drop(done.expect(SOUND));
}

fn run_bodies(turns: &Turns, bodies: &mpsc::Receiver<Body>) {
    CURRENT.set(Some(turns.clone()));
    while let Ok(body) = bodies.recv() {
        turns.wait(turns.baton.state());
        schedule::set_hook(Some(on_point));
        body(turns);
        schedule::set_hook(None);
        turns.switch(Switch::Finished);
    }
}
