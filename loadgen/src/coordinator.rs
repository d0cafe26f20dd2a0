//! Runs a plan: starts the workers, leads them through the stages, reads what the processes use at the edges of the
//! windows, and puts everything together.

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use mio::Waker;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    clock::{self, now_ns, seconds},
    control::{Control, Stage},
    drivers,
    net::{LONGEST_WAIT, Net, Target},
    plan::{IdlePlan, Plan, Work},
    process::{Memory, Processes},
    report::{Idling, Outcome, Reading, Report},
    scenario::{Connect, Idle, Presence, Publish, Scenario, Seat, Shared, Storm},
    tally::Tally,
    worker::{self, Manner},
};

/// How often the coordinator looks how far the workers are.
const LOOK: Duration = Duration::from_millis(5);
/// Time without a new connection after which connecting is given up.
const CONNECT_STALL_NS: u64 = 15_000_000_000;

type Workers = Vec<JoinHandle<io::Result<Tally>>>;

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress<'a> {
    /// Something else from now on.
    Stage(&'a str),
    /// Connections that are ready, of how many.
    Connected(u32, u32),
    /// Deliveries and operations per second.
    Rate(f64),
}

/// Where runs that go on at the same time wait for each other before they measure.
#[derive(Debug)]
pub struct Gate {
    awaited: AtomicUsize,
}

impl Gate {
    /// A gate for so many runs.
    pub fn new(runs: usize) -> Self {
        Self { awaited: AtomicUsize::new(runs) }
    }

    /// This run is ready, or will never be.
    fn arrive(&self) {
        // Nothing is handed over with it: Relaxed will do.
        self.awaited.fetch_sub(1, Ordering::Relaxed);
    }

    fn wait(&self) {
        while self.awaited.load(Ordering::Relaxed) > 0 {
            thread::sleep(LOOK);
        }
    }
}

/// Carries a checked plan out. `progress` is told what is going on. Each run arrives at the gate once.
pub fn run(plan: &Plan, gate: &Gate, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    match Run::start(plan) {
        Ok(run) => run.finish(gate, progress),
        Err(sentence) => {
            gate.arrive();
            Report::failed(plan, sentence)
        }
    }
}

struct Run<'a> {
    plan: &'a Plan,
    control: Arc<Control>,
    server: Processes,
    workers: Workers,
}

impl<'a> Run<'a> {
    fn start(plan: &'a Plan) -> Result<Self, String> {
        TcpStream::connect_timeout(&plan.address, Duration::from_secs(5))
            .map_err(|error| format!("The server at {} cannot be reached: {error}.", plan.address))?;
        let server = if plan.server_pids.is_empty() {
            Processes::listening_on(plan.address)
        } else {
            Processes::new(plan.server_pids.clone())
        };
        // The server needs a file for each connection too; when it is known not to have them, waiting is pointless.
        let connections = plan.work.connections();
        if let Some(limit) = server.open_files_limit().filter(|limit| *limit < connections) {
            return Err(format!(
                "{connections} connections do not fit the {limit} files the server may open."
            ));
        }
        pin(&plan.pin).map_err(|error| format!("CPUs {:?} cannot be pinned to: {error}.", plan.pin))?;
        let quota = match &plan.work {
            Work::Idle(idle) => idle.base,
            work => work.connections() as u32,
        };
        let control = Arc::new(Control::new(plan.threads as usize, quota));
        let workers = start_workers(plan, &control)
            .map_err(|error| format!("The workers could not be started: {error}."))?;
        Ok(Self { plan, control, server, workers })
    }

    fn finish(self, gate: &Gate, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
        let mut readings = Vec::new();
        let mut idling = None;
        let is_ready = match &self.plan.work {
            Work::Idle(idle) => {
                idling = self.rest(idle, progress);
                idling.is_some()
            }
            _ => self.connect(progress),
        };
        gate.arrive();
        if is_ready {
            gate.wait();
            self.measure(&mut readings, progress);
        }
        self.cool();
        self.control.enter(Stage::Stop);
        let mut tally = Tally::new(self.plan.windows as usize);
        for worker in self.workers {
            match worker.join() {
                Ok(Ok(theirs)) => tally.add(&theirs),
                Ok(Err(error)) => self.control.fail(format!("A worker could not go on: {error}.")),
                Err(_) => self.control.fail("A worker panicked.".into()),
            }
        }
        let failure = self.control.failure().map(|failure| failure.0);
        let server_known = !self.server.pids().is_empty();
        Report::new(self.plan, Outcome { tally, readings, idling, failure, server_known })
    }

    /// Waits for the connections. False if they do not come.
    fn connect(&self, progress: &mut dyn FnMut(Progress<'_>)) -> bool {
        progress(Progress::Stage("connecting"));
        let (mut last, mut last_change) = (0, now_ns());
        while !self.control.all_ready() {
            if self.control.failure().is_some() {
                return false;
            }
            let (connected, now) = (self.control.connected(), now_ns());
            if connected != last {
                (last, last_change) = (connected, now);
                progress(Progress::Connected(connected, self.control.quota()));
            } else if now - last_change > CONNECT_STALL_NS {
                let total = self.control.quota();
                self.control.fail(format!(
                    "Only {connected} of {total} connections were ready, and no further one in 15 seconds."
                ));
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    fn measure(&self, readings: &mut Vec<Reading>, progress: &mut dyn FnMut(Progress<'_>)) {
        progress(Progress::Stage("warming up"));
        // Far enough away for all workers to see the stage before the first message is due.
        self.control.set_start_ns(now_ns() + 20_000_000);
        self.control.enter(Stage::Warm);
        if !self.wait_until(now_ns() + seconds(self.plan.warmup_seconds), progress) {
            return;
        }
        let length = seconds(self.plan.window_seconds);
        let mut end = now_ns();
        for window in 0..self.plan.windows {
            progress(Progress::Stage(&format!("window {} of {}", window + 1, self.plan.windows)));
            end += length;
            self.control.enter(Stage::Window(window));
            readings.push(self.read());
            if !self.wait_until(end, progress) {
                break;
            }
        }
        self.control.enter(Stage::Cool);
        readings.push(self.read());
    }

    /// The idle scenario: reads memory at rest twice.
    fn rest(&self, plan: &IdlePlan, progress: &mut dyn FnMut(Progress<'_>)) -> Option<Idling> {
        let before = self.server.memory();
        let (base, generator_base) = self.settle(plan, progress)?;
        self.control.set_quota(plan.connections);
        let begun = now_ns();
        // Every worker has looked at the new quota after its longest wait.
        thread::sleep(2 * LONGEST_WAIT);
        let is_connected = self.connect(progress);
        let connect_seconds = (now_ns() - begun) as f64 / 1e9;
        if !is_connected {
            return None;
        }
        let (full, generator_full) = self.settle(plan, progress)?;
        Some(Idling { before, base, full, generator_base, generator_full, connect_seconds })
    }

    /// Connects, waits, and reads the memory of the server and of this process.
    fn settle(
        &self,
        plan: &IdlePlan,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Option<(Option<Memory>, Option<Memory>)> {
        if !self.connect(progress) {
            return None;
        }
        progress(Progress::Stage("resting"));
        let is_settled = self.wait_until(now_ns() + seconds(plan.settle_seconds), progress);
        is_settled.then(|| (self.server.memory(), Processes::this().memory()))
    }

    /// Lets what is on the way arrive.
    fn cool(&self) {
        self.control.enter(Stage::Cool);
        let end = now_ns() + seconds(self.plan.drain_seconds);
        while self.control.failure().is_none() && now_ns() < end {
            if self.control.all_stopped() && self.control.all_quiet() {
                return;
            }
            thread::sleep(LOOK);
        }
    }

    /// False if the run failed meanwhile.
    fn wait_until(&self, end_ns: u64, progress: &mut dyn FnMut(Progress<'_>)) -> bool {
        let (mut last, mut last_ns) = (self.control.done(), now_ns());
        loop {
            if self.control.failure().is_some() {
                return false;
            }
            let left = Duration::from_nanos(end_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(Duration::from_millis(250)));
            let (done, now) = (self.control.done(), now_ns());
            // A new window counts from zero.
            if done > last {
                progress(Progress::Rate((done - last) as f64 * 1e9 / (now - last_ns) as f64));
            }
            (last, last_ns) = (done, now);
        }
    }

    fn read(&self) -> Reading {
        Reading {
            at_ns: now_ns(),
            unix_ns: clock::unix_ns(),
            server_cpu_ns: self.server.cpu_ns(),
            server_threads: self.server.threads(),
            generator_cpu_ns: Processes::this().cpu_ns(),
        }
    }
}

fn start_workers(plan: &Plan, control: &Arc<Control>) -> io::Result<Workers> {
    let driver = drivers::new(&plan.driver, plan.work.echo()).map_err(io::Error::other)?;
    let prefix = Arc::from(plan.prefix.as_str());
    let seat = |worker| Seat {
        worker,
        workers: plan.threads as usize,
        control: Arc::clone(control),
        driver: Arc::clone(&driver),
        windows: plan.windows as usize,
        prefix: Arc::clone(&prefix),
    };
    let nets: Vec<Net> = (0..plan.threads).map(|worker| new_net(plan, worker)).collect::<Result<_, _>>()?;
    let wakers: Vec<Waker> = nets.iter().map(Net::waker).collect::<Result<_, _>>()?;
    let nets = nets.into_iter().enumerate();
    match &plan.work {
        Work::Fanout(work) | Work::Send(work) | Work::Broadcast(work) | Work::Slow(work) => {
            let shared = Shared::new(work, wakers);
            nets.map(|(at, net)| {
                let scenario = Publish::new(seat(at), work.clone(), plan.run, Arc::clone(&shared));
                start_worker(plan, control, (at, net), scenario)
            })
            .collect()
        }
        Work::Idle(work) => nets
            .map(|(at, net)| start_worker(plan, control, (at, net), Idle::new(seat(at), work.clone())))
            .collect(),
        Work::Storm(work) => nets
            .map(|(at, net)| start_worker(plan, control, (at, net), Storm::new(seat(at), work.clone())))
            .collect(),
        Work::Connect(work) => nets
            .map(|(at, net)| start_worker(plan, control, (at, net), Connect::new(seat(at), work.clone())))
            .collect(),
        Work::Presence(work) => nets
            .map(|(at, net)| start_worker(plan, control, (at, net), Presence::new(seat(at), work.clone())))
            .collect(),
    }
}

fn new_net(plan: &Plan, worker: u32) -> io::Result<Net> {
    let parallel = match &plan.work {
        Work::Connect(work) => work.parallel,
        _ => plan.parallel,
    };
    let target = Target {
        address: plan.address,
        host: plan.host.clone(),
        sources: plan.sources,
        parallel: parallel.div_ceil(plan.threads) as usize,
    };
    let seed = plan.seed.wrapping_add(1 + u64::from(worker)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Net::new(target, seed)
}

fn start_worker<S: Scenario + Send + 'static>(
    plan: &Plan,
    control: &Arc<Control>,
    (worker, net): (usize, Net),
    scenario: S,
) -> io::Result<JoinHandle<io::Result<Tally>>> {
    // An open loop looks at its schedule often; a closed one is better off with large batches.
    let manner = Manner { spin: plan.spin, events: if plan.work.is_open_loop() { 64 } else { 1024 } };
    let cpu: Vec<u32> = plan.pin.get(worker % plan.pin.len().max(1)).copied().into_iter().collect();
    let control = Arc::clone(control);
    thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
        pin(&cpu)?;
        let outcome = worker::run(net, scenario, &control, manner, worker);
        if let Err(error) = &outcome {
            control.fail(format!("A worker could not go on: {error}."));
        }
        outcome
    })
}

/// Keeps this thread, and those it starts, on the CPUs; on all if there are none.
fn pin(cpus: &[u32]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        if *cpu as usize >= CpuSet::MAX_CPU {
            return Err(io::Error::other("there is no such CPU"));
        }
        set.set(*cpu as usize);
    }
    Ok(sched_setaffinity(None, &set)?)
}
