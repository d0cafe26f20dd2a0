//! One of several processes: a child process of the generator, led by a coordinator in another process.
//!
//! The two speak in lines of JSON, one [`Command`] or [`Event`] each, over the child's standard input and
//! output:
//!
//! ```text
//!  coordinator                               child
//!      ── {"Begin":{…plan…}} ──────────────▶   starts its workers
//!      ◀─────────── {"Status":{…}} ────────    whenever it changes: connections, ready, stopped, quiet
//!      ── {"Enter":{"stage":"Warm",…}} ────▶   the same stages, when the line arrives
//!      ── {"Enter":{"stage":{"Window":0}}} ▶
//!      ── "Ask" ───────────────────────────▶
//!      ◀─────────── {"Snapshot":{…}} ───────    for whoever looks on
//!      ── {"Enter":{"stage":"Cool",…}} ────▶
//!      ◀─────────── {"Published":[…]} ─────    when its workers begin nothing new
//!      ── {"Settle":[…]} ──────────────────▶   what all children have published
//!      ── {"Enter":{"stage":"Stop",…}} ────▶
//!      ◀─────────── {"End":{…tally…}} ─────    the end of the child
//! ```
//!
//! In a closed loop the workers of all children also tell each other directly what has arrived: see
//! [`crate::signal`]. A child tells with `Failed` why it cannot go on. It ends when its input does, so it
//! never outlives its coordinator. Which child has which connections follows from the plan: workers are
//! numbered through all children.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    control::{Control, Snapshot, Stage},
    coordinator::{LOOK, Workers, start_workers},
    plan::{DriverPlan, Plan},
    processes,
    tally::Tally,
    verdict::Reason,
};

/// How often a child looks for failures while it measures.
const WATCH: Duration = Duration::from_millis(100);

/// What the coordinator tells a child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The first one. Key and secret are no part of the plan as it is written down; `signal` is what the
    /// addresses of the run's workers begin with.
    Begin { plan: Box<Plan>, key: String, secret: String, process: u32, signal: String },
    /// So many connections are to be had.
    SetQuota(u32),
    /// Another stage, when the warm-up began or will begin, and from when on nothing is due any more.
    Enter { stage: Stage, start_ns: u64, end_ns: u64 },
    /// Show how far you are.
    Ask,
    /// Messages that were sent in all, by publisher.
    Settle(Vec<u32>),
}

/// What a child tells the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Event {
    Status(Status),
    /// Answers [`Command::Ask`].
    Snapshot(Snapshot),
    /// Messages this child has sent and will have sent, by publisher. Comes before the status that says
    /// `stopped`.
    Published(Vec<u32>),
    /// Why the run cannot go on.
    Failed(Reason),
    /// The last one: what was counted.
    End(Box<Tally>),
}

/// How far a child is: its rows of the board in one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) connected: u32,
    /// The quota of which it has its share.
    pub(crate) ready: Option<u32>,
    pub(crate) stopped: bool,
    pub(crate) quiet: bool,
}

/// Is a child, until the coordinator says that it is over or is gone.
pub fn run_child() -> io::Result<()> {
    let mut first = String::new();
    io::stdin().read_line(&mut first)?;
    let Command::Begin { plan, key, secret, process, signal } = serde_json::from_str(&first)? else {
        return Err(io::Error::other("a child begins with a plan"));
    };
    let driver = DriverPlan { key, secret, ..plan.driver };
    let plan = Plan { driver, ..*plan };
    let first_worker = (process * plan.threads) as usize;
    let control = processes::new_control(&plan, first_worker..first_worker + plan.threads as usize);
    let mut child =
        Child { control: Arc::clone(&control), told: Status::default(), shown: 0, has_failed: false };
    let workers = start_workers(&plan, &control, process, &signal).unwrap_or_else(|error| {
        control.give_up(format!("The workers could not be started: {error}."));
        Workers::new()
    });
    let (sender, obeyed) = mpsc::channel();
    thread::spawn(move || obey(&control, &sender));
    loop {
        child.tell()?;
        let stage = child.control.stage();
        let wait = if matches!(stage, Stage::Connect | Stage::Cool) { LOOK } else { WATCH };
        let is_alone = obeyed.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
        if is_alone || child.control.stage() == Stage::Stop {
            child.control.enter(Stage::Stop);
            break;
        }
    }
    let tally = processes::join(workers, plan.windows as usize, &child.control);
    child.tell()?;
    put(&Event::End(Box::new(tally)))
}

/// Does what the coordinator says, until it says nothing more.
fn obey(control: &Control, obeyed: &Sender<()>) {
    for line in io::stdin().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Command::SetQuota(quota)) => control.set_quota(quota),
            Ok(Command::Enter { stage, start_ns, end_ns }) => {
                control.set_start_ns(start_ns);
                control.end_at(end_ns);
                control.enter(stage);
            }
            Ok(Command::Ask) => control.ask(),
            Ok(Command::Settle(published)) => {
                control.add_published(&published);
                control.settle();
            }
            Ok(Command::Begin { .. }) | Err(_) => {
                control.give_up("A process of the generator was told what it does not understand.".into());
            }
        }
        if obeyed.send(()).is_err() {
            return;
        }
    }
}

struct Child {
    control: Arc<Control>,
    /// What the coordinator knows.
    told: Status,
    /// How many snapshots were asked for and given.
    shown: u32,
    has_failed: bool,
}

impl Child {
    /// Tells what is new.
    fn tell(&mut self) -> io::Result<()> {
        let status = self.control.status();
        if status.stopped && !self.told.stopped {
            put(&Event::Published(self.control.all_published()))?;
        }
        if status != self.told {
            self.told = status;
            put(&Event::Status(status))?;
        }
        if let Some(failure) = self.control.failure().filter(|_| !self.has_failed) {
            self.has_failed = true;
            put(&Event::Failed(failure))?;
        }
        // The workers have the time between two looks to show what they are asked for.
        let asked = self.control.asked();
        if asked != self.shown && self.control.is_shown(asked) {
            self.shown = asked;
            put(&Event::Snapshot(self.control.snapshot()))?;
        }
        Ok(())
    }
}

fn put(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}
