//! Who does the work: threads of this process, or other processes with threads of their own
//! ([`crate::child`]).
//!
//! Either way the coordinator looks at one board, [`Control`]: with threads each row is a worker's, with
//! processes each is a process's, kept by a thread that reads what the process tells. Processes are in a
//! process group of their own, so that an interrupt from the terminal reaches the coordinator alone.

use std::{
    env, io,
    io::{BufRead, BufReader, Write},
    ops::Range,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    child::{Command, Event},
    clock::now_ns,
    control::Control,
    coordinator::{LOOK, Workers, start_workers},
    plan::{Plan, Work},
    procfs::ProcessSet,
    tally::Tally,
};

/// Time for a process to end when it is told to.
const PART_END_NS: u64 = 10_000_000_000;

/// The workers of a run.
pub(crate) enum WorkerSet {
    Threads(Workers),
    Processes(Vec<ChildProcess>),
}

/// Another process, as the coordinator sees it.
pub(crate) struct ChildProcess {
    pid: u32,
    commands: ChildStdin,
    /// Reads what it tells, and gives its tally if it comes to that.
    listener: JoinHandle<Option<Tally>>,
}

impl WorkerSet {
    /// Starts the workers of a plan, and the board that shows how far they are.
    pub(crate) fn start(plan: &Plan) -> io::Result<(Arc<Control>, Self)> {
        let signal = new_signal_name();
        if plan.processes == 1 {
            let control = new_control(plan, 0..plan.threads as usize);
            let workers = start_workers(plan, &control, 0, &signal)?;
            return Ok((control, Self::Threads(workers)));
        }
        let control = new_control(plan, 0..plan.processes as usize);
        let children =
            (0..plan.processes).map(|process| ChildProcess::start(plan, process, &control, &signal));
        Ok((Arc::clone(&control), Self::Processes(children.collect::<Result<_, _>>()?)))
    }

    /// Tells the other processes, if there are any. One that does not listen any more is noticed by its
    /// listener.
    pub(crate) fn tell(&mut self, command: &Command) {
        if let Self::Processes(children) = self {
            children.iter_mut().for_each(|child| child.tell(command));
        }
    }

    /// All processes of the generator.
    pub(crate) fn processes(&self) -> ProcessSet {
        match self {
            Self::Threads(_) => ProcessSet::this_and([]),
            Self::Processes(children) => ProcessSet::this_and(children.iter().map(|child| child.pid)),
        }
    }

    /// Everyone was told to stop: waits for that, and puts together what they counted.
    pub(crate) fn finish(self, windows: usize, control: &Control) -> Tally {
        let children = match self {
            Self::Threads(workers) => return join(workers, windows, control),
            Self::Processes(children) => children,
        };
        let mut tally = Tally::new(windows);
        let end_ns = now_ns() + PART_END_NS;
        for ChildProcess { pid, commands, listener } in children {
            while !listener.is_finished() && now_ns() < end_ns {
                thread::sleep(LOOK);
            }
            drop(commands);
            if !listener.is_finished()
                && let Some(pid) = Pid::from_raw(pid as i32)
                && let Err(error) = kill_process(pid, Signal::KILL)
            {
                control.give_up(format!("A process of the generator cannot be ended: {error}."));
                continue;
            }
            if let Ok(Some(theirs)) = listener.join() {
                tally.add(&theirs);
            }
        }
        tally
    }
}

/// A name that no other run of this machine has now.
fn new_signal_name() -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!("fanfare-loadgen-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

/// A board for these workers or processes of a plan.
pub(crate) fn new_control(plan: &Plan, rows: Range<usize>) -> Arc<Control> {
    let quota = match &plan.work {
        Work::Idle(idle) => idle.base,
        work => work.connections() as u32,
    };
    Arc::new(Control::new(rows, plan.work.publishers() as usize, quota, plan.timing()))
}

/// Waits for threads that were told to stop, and puts together what they counted.
pub(crate) fn join(workers: Workers, windows: usize, control: &Control) -> Tally {
    let mut tally = Tally::new(windows);
    for worker in workers {
        match worker.join() {
            Ok(Ok(theirs)) => tally.add(&theirs),
            Ok(Err(error)) => control.give_up(format!("A worker could not go on: {error}.")),
            Err(_) => control.give_up("A worker panicked.".into()),
        }
    }
    tally
}

impl ChildProcess {
    fn start(plan: &Plan, process: u32, control: &Arc<Control>, signal: &str) -> io::Result<Self> {
        let mut child = std::process::Command::new(env::current_exe()?)
            .arg("child")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = child.id();
        let commands = child.stdin.take().expect("it is piped");
        let events = child.stdout.take().expect("it is piped");
        let listener = Listener { process, processes: plan.processes, control: Arc::clone(control) };
        let listener = thread::spawn(move || listener.run(events, child));
        let mut child = Self { pid, commands, listener };
        let (key, secret) = (plan.driver.key.clone(), plan.driver.secret.clone());
        let (plan, signal) = (Box::new(plan.clone()), signal.to_owned());
        child.tell(&Command::Begin { plan, key, secret, process, signal });
        Ok(child)
    }

    fn tell(&mut self, command: &Command) {
        let mut line = serde_json::to_string(command).expect("numbers and strings");
        line.push('\n');
        // An error means that it has ended, of which its listener knows more.
        if self.commands.write_all(line.as_bytes()).is_ok() {
            self.commands.flush().ok();
        }
    }
}

struct Listener {
    process: u32,
    processes: u32,
    control: Arc<Control>,
}

impl Listener {
    /// Keeps the process's row of the board until it ends.
    fn run(self, events: ChildStdout, mut child: Child) -> Option<Tally> {
        let row = self.process as usize;
        let mut tally = None;
        for line in BufReader::new(events).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Event::Status(status)) => self.control.report_status(row, status),
                Ok(Event::Snapshot(snapshot)) => self.control.show(row, 0, snapshot),
                Ok(Event::Published(counts)) => self.control.add_published(&counts),
                Ok(Event::Failed(reason)) => self.control.fail_as(reason),
                Ok(Event::End(theirs)) => tally = Some(*theirs),
                Err(error) => {
                    self.control.give_up(format!("A process of the generator is not understood: {error}."))
                }
            }
        }
        let status = child.wait();
        if tally.is_none() {
            self.control.give_up(format!(
                "Process {} of {} of the generator ended before the run did ({}): its part is missing.",
                self.process + 1,
                self.processes,
                status.map_or_else(|error| error.to_string(), describe)
            ));
        }
        tally
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "no exit status".into(),
    }
}
