//! Runs a plan: starts the workers, leads them through the stages, reads what the processes use at the edges
//! of the windows, and puts everything together.

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    child::Command,
    clock::{self, now_ns, seconds},
    control::{Control, Snapshot, Stage},
    doubt::Doubt,
    drivers,
    histogram::Percentiles,
    ledger::Faults,
    net::{Net, Target, TlsClient},
    peer_signal::PeerSignal,
    plan::{IdlePlan, Plan, Work},
    processes::WorkerSet,
    procfs::ProcessSet,
    report::{Idling, Load, Outcome, Reading, Report},
    scenario::{Connect, Idle, Presence, Publish, Scenario, Seat, Storm},
    tally::Tally,
    verdict::{Blame, Reason},
    worker::{self, Manner},
};

/// How often the coordinator looks how far the workers are.
pub(crate) const LOOK: Duration = Duration::from_millis(5);
/// How often it looks whether a stage has to end early.
const WATCH: Duration = Duration::from_millis(250);
/// How often it says how the run is doing.
const LIVE_NS: u64 = 1_000_000_000;
/// Time without a new connection after which connecting is given up.
const CONNECT_STALL_NS: u64 = 15_000_000_000;

pub(crate) type Workers = Vec<JoinHandle<io::Result<Tally>>>;

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress<'a> {
    /// Something else from now on.
    Stage(&'a str),
    /// Connections that are ready, of how many.
    Connected(u32, u32),
    /// How it is going.
    Live(&'a Live),
    /// It is over.
    Done,
}

/// How a run is going.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Live {
    /// Deliveries and operations per second, in the window so far.
    pub per_second: f64,
    /// Their latencies, in the window so far.
    pub latency: Percentiles,
    /// The same of the last second.
    pub last_second: LastSecond,
    /// Deliveries that went wrong in the whole run.
    pub faults: Faults,
    /// What the server refused or said that it left out, in the whole run.
    pub refused: u64,
    /// Cycles that failed in the whole run.
    pub failed: u64,
    /// The server's processes since the last time.
    pub server: Usage,
    /// The generator's.
    pub generator: Usage,
    /// Seconds until the last window ends.
    pub left_seconds: f64,
}

/// What was done in the last second, or what its latencies were.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LastSecond {
    /// Deliveries and operations per second.
    pub per_second: f64,
    /// Their latencies.
    pub latency: Percentiles,
}

/// What processes use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time, in cores.
    pub cores: Option<f64>,
    /// Resident set size.
    pub rss_bytes: Option<u64>,
}

/// What runs that go on at the same time share: where they wait for each other before they measure, and
/// whether they are to end early.
#[derive(Debug)]
pub struct Gate {
    awaited: AtomicUsize,
    interrupted: Arc<AtomicBool>,
}

impl Gate {
    /// A gate for so many runs.
    pub fn new(runs: usize) -> Self {
        Self::interrupted_by(runs, Arc::new(AtomicBool::new(false)))
    }

    /// A gate for so many runs, which end early when this becomes true: with what they have got.
    pub fn interrupted_by(runs: usize, interrupted: Arc<AtomicBool>) -> Self {
        Self { awaited: AtomicUsize::new(runs), interrupted }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// This run is ready, or will never be.
    fn arrive(&self) {
        // Nothing is handed over with it: Relaxed will do.
        self.awaited.fetch_sub(1, Ordering::Relaxed);
    }

    fn wait(&self) {
        while self.awaited.load(Ordering::Relaxed) > 0 && !self.is_interrupted() {
            thread::sleep(LOOK);
        }
    }
}

/// Why a run ended early that was interrupted.
pub(crate) const INTERRUPTED: &str = "The run was interrupted.";

/// Carries a checked plan out. `progress` is told what is going on. Each run arrives at the gate once.
pub fn run(plan: &Plan, gate: &Gate, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    let before = Load::read();
    let report = match Run::start(plan, gate) {
        Ok(run) => run.finish(progress),
        Err(reason) => {
            gate.arrive();
            Report::failed(plan, reason)
        }
    };
    report.with_load(Load::read().since(&before))
}

struct Run<'a> {
    plan: &'a Plan,
    gate: &'a Gate,
    control: Arc<Control>,
    server: ProcessSet,
    workers: WorkerSet,
}

impl<'a> Run<'a> {
    fn start(plan: &'a Plan, gate: &'a Gate) -> Result<Self, Reason> {
        let by = |blame, sentence| Reason { blame, sentence };
        TcpStream::connect_timeout(&plan.address, Duration::from_secs(5))
            .map_err(|error| format!("The server at {} cannot be reached: {error}.", plan.address))
            .map_err(|sentence| by(Blame::Server, sentence))?;
        let server = if plan.server_pids.is_empty() {
            ProcessSet::listening_on(plan.address)
        } else {
            ProcessSet::new(plan.server_pids.clone())
        };
        // The server needs a file for each connection too; when it is known not to have them, waiting is
        // pointless.
        let connections = plan.work.connections();
        if let Some(limit) = server.open_files_limit().filter(|limit| *limit < connections) {
            let sentence =
                format!("{connections} connections do not fit the {limit} files the server may open.");
            return Err(by(Blame::Server, sentence));
        }
        pin(&plan.pin)
            .map_err(|error| format!("CPUs {:?} cannot be pinned to: {error}.", plan.pin))
            .map_err(|sentence| by(Blame::Generator, sentence))?;
        let (control, workers) = WorkerSet::start(plan)
            .map_err(|error| by(Blame::Generator, format!("The workers could not be started: {error}.")))?;
        Ok(Self { plan, gate, control, server, workers })
    }

    fn finish(mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
        let mut readings = Vec::new();
        let (mut idling, mut doubt) = (None, None);
        let is_ready = match &self.plan.work {
            Work::Idle(idle) => self.rest(idle, idling.insert(Idling::default()), progress),
            _ => self.connect(progress),
        };
        self.gate.arrive();
        if is_ready {
            self.gate.wait();
            doubt = Doubt::of(&self.server, self.plan.address);
            self.measure(&mut readings, progress);
            if matches!(self.plan.work, Work::Connect(_)) {
                // Only now are there connections to see.
                doubt = Doubt::of(&self.server, self.plan.address);
            }
            self.cool(progress);
        }
        self.enter(Stage::Stop);
        progress(Progress::Done);
        let tally = self.workers.finish(self.plan.windows as usize, &self.control);
        if self.gate.is_interrupted() {
            self.control.fail_as(Reason { blame: Blame::Interrupted, sentence: INTERRUPTED.into() });
        }
        Report::new(
            self.plan,
            Outcome {
                tally,
                timeline: self.control.timeline(),
                end_ns: self.control.end_ns(),
                readings,
                idling,
                failure: self.control.failure(),
                server: self.server.describe(),
                doubt,
            },
        )
    }

    fn enter(&mut self, stage: Stage) {
        self.control.enter(stage);
        let (start_ns, end_ns) = (self.control.start_ns(), self.control.end_ns());
        self.workers.tell(&Command::Enter { stage, start_ns, end_ns });
    }

    /// Whether there is nothing more to measure.
    fn is_over(&self) -> bool {
        self.control.failure().is_some() || self.gate.is_interrupted()
    }

    /// Waits for the connections. False if they do not come.
    fn connect(&self, progress: &mut dyn FnMut(Progress<'_>)) -> bool {
        progress(Progress::Stage("connecting"));
        let (mut last, mut last_change) = (0, now_ns());
        while !self.control.all_ready() {
            if self.is_over() {
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

    fn measure(&mut self, readings: &mut Vec<Reading>, progress: &mut dyn FnMut(Progress<'_>)) {
        progress(Progress::Stage("warming up"));
        // Far enough away for all workers to see the stage before the first message is due.
        self.control.set_start_ns(now_ns() + 20_000_000);
        self.enter(Stage::Warm);
        let timeline = self.control.timeline();
        if !self.wait_until(timeline.first_ns, progress) {
            self.control.end_at(timeline.first_ns);
            return;
        }
        for window in 0..self.plan.windows {
            progress(Progress::Stage(&format!("window {} of {}", window + 1, self.plan.windows)));
            self.enter(Stage::Window(window));
            readings.push(self.read());
            if !self.wait_until(timeline.end_of(window), progress) {
                self.control.end_at(now_ns());
                break;
            }
        }
        self.enter(Stage::Cool);
        readings.push(self.read());
    }

    /// The idle scenario: reads memory at rest twice. False if it does not come to that.
    fn rest(&mut self, plan: &IdlePlan, idling: &mut Idling, progress: &mut dyn FnMut(Progress<'_>)) -> bool {
        idling.before = self.server.memory();
        if !self.settle(plan, progress) {
            return false;
        }
        (idling.base, idling.generator_base) = (self.server.memory(), self.workers.processes().memory());
        let begun = now_ns();
        self.control.set_quota(plan.connections);
        self.workers.tell(&Command::SetQuota(plan.connections));
        let is_connected = self.connect(progress);
        idling.connect_seconds = (now_ns() - begun) as f64 / 1e9;
        if !is_connected || !self.settle(plan, progress) {
            return false;
        }
        (idling.full, idling.generator_full) = (self.server.memory(), self.workers.processes().memory());
        true
    }

    /// Connects, and waits until everything is at rest.
    fn settle(&mut self, plan: &IdlePlan, progress: &mut dyn FnMut(Progress<'_>)) -> bool {
        if !self.connect(progress) {
            return false;
        }
        progress(Progress::Stage("resting"));
        self.wait_until(now_ns() + seconds(plan.settle_seconds), progress)
    }

    /// Lets what is on the way arrive.
    fn cool(&mut self, progress: &mut dyn FnMut(Progress<'_>)) {
        progress(Progress::Stage("draining"));
        let end = now_ns() + seconds(self.plan.drain_seconds);
        while self.control.failure().is_none() && now_ns() < end {
            if self.control.is_settled() {
                if self.control.all_quiet() {
                    return;
                }
            } else if self.control.all_stopped() {
                self.control.settle();
                self.workers.tell(&Command::Settle(self.control.all_published()));
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits, and tells how it is going. False if the run is over before that.
    fn wait_until(&mut self, end_ns: u64, progress: &mut dyn FnMut(Progress<'_>)) -> bool {
        let began_ns = now_ns();
        let mut last = self.usage_at(began_ns);
        let mut asked_ns = None;
        let (mut shown, mut shown_ns) = (Snapshot::default(), began_ns);
        loop {
            if self.is_over() {
                return false;
            }
            let left = Duration::from_nanos(end_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(WATCH));
            let now = now_ns();
            let Some(asked) = asked_ns.filter(|_| now - last.at_ns >= LIVE_NS) else {
                // The workers have one watch's time to show how far they are.
                if asked_ns.is_none() && now - last.at_ns >= LIVE_NS / 2 {
                    asked_ns = Some(now);
                    self.control.ask();
                    self.workers.tell(&Command::Ask);
                }
                continue;
            };
            let usage = self.usage_at(now);
            let cores = |used: fn(&CpuUse) -> Option<u64>| {
                Some(used(&usage)?.checked_sub(used(&last)?)? as f64 / (now - last.at_ns) as f64)
            };
            let snapshot = self.control.snapshot();
            let last_second = LastSecond {
                per_second: snapshot.done.saturating_sub(shown.done) as f64 * 1e9 / (asked - shown_ns) as f64,
                latency: latency_since(&snapshot, &shown),
            };
            (shown, shown_ns) = (snapshot.clone(), asked);
            progress(Progress::Live(&Live {
                per_second: snapshot.done as f64 * 1e9 / (asked - began_ns) as f64,
                latency: snapshot.latency.map_or_else(Percentiles::default, |latency| latency.percentiles()),
                last_second,
                faults: snapshot.faults,
                refused: snapshot.refused,
                failed: snapshot.failed,
                server: Usage { cores: cores(|usage| usage.server_ns), rss_bytes: self.server.rss_bytes() },
                generator: Usage {
                    cores: cores(|usage| usage.generator_ns),
                    rss_bytes: self.workers.processes().rss_bytes(),
                },
                left_seconds: self.left_seconds(end_ns, now),
            }));
            (last, asked_ns) = (usage, None);
        }
    }

    /// Until the last window ends, or what is waited for before there is a window.
    fn left_seconds(&self, end_ns: u64, now: u64) -> f64 {
        let last_ns = self.control.end_ns();
        let end_ns = if last_ns == u64::MAX { end_ns } else { last_ns };
        end_ns.saturating_sub(now) as f64 / 1e9
    }

    fn usage_at(&self, at_ns: u64) -> CpuUse {
        let generator_ns = self.workers.processes().cpu_ns();
        CpuUse { at_ns, server_ns: self.server.cpu_ns(), generator_ns }
    }

    fn read(&self) -> Reading {
        Reading {
            at_ns: now_ns(),
            unix_ns: clock::unix_ns(),
            server_cpu_ns: self.server.cpu_ns(),
            server_ticks_ns: self.server.ticks_ns(),
            server_threads: self.server.cpu_ns_by_thread(),
            server_cores: self.server.cores(),
            generator_cpu_ns: self.workers.processes().cpu_ns(),
        }
    }
}

/// Latencies that came between two snapshots.
fn latency_since(snapshot: &Snapshot, earlier: &Snapshot) -> Percentiles {
    match (&snapshot.latency, &earlier.latency) {
        (Some(latency), Some(earlier)) => latency.since(earlier).percentiles(),
        (Some(latency), None) => latency.percentiles(),
        (None, _) => Percentiles::default(),
    }
}

/// CPU time that both sides had used at a time.
struct CpuUse {
    at_ns: u64,
    server_ns: Option<u64>,
    generator_ns: Option<u64>,
}

/// Starts the workers of one process: those of this number. `signal` is what addresses of the run's workers
/// begin with.
pub(crate) fn start_workers(
    plan: &Plan,
    control: &Arc<Control>,
    process: u32,
    signal: &str,
) -> io::Result<Workers> {
    let driver = drivers::new(&plan.driver, plan.work.echo()).map_err(io::Error::other)?;
    let prefix = Arc::from(plan.prefix.as_str());
    let seat = |worker| Seat {
        worker,
        workers: plan.workers() as usize,
        control: Arc::clone(control),
        driver: Arc::clone(&driver),
        windows: plan.windows as usize,
        prefix: Arc::clone(&prefix),
    };
    let workers = process * plan.threads..(process + 1) * plan.threads;
    let tls = plan.tls.as_ref().map(TlsClient::new).transpose().map_err(io::Error::other)?;
    let nets: Vec<Net> = workers
        .clone()
        .map(|worker| new_net(plan, worker, process, tls.clone()))
        .collect::<Result<_, _>>()?;
    let nets = workers.map(|worker| worker as usize).zip(nets);
    let schedule = plan.connect_schedule();
    match &plan.work {
        Work::Fanout(work) | Work::Send(work) | Work::Broadcast(work) | Work::Slow(work) => {
            // All boxes are open before the first worker has anything to say.
            let is_spread = work.paces_itself() && work.is_spread(plan.workers());
            let open = |(at, net)| {
                let signal = is_spread.then(|| PeerSignal::open(&net, signal, at, plan.workers() as usize));
                Ok((at, net, signal.transpose()?))
            };
            let nets: Vec<_> = nets.map(open).collect::<io::Result<_>>()?;
            let start = |(at, net, signal)| {
                let scenario = Publish::new(seat(at), work.clone(), plan.run, signal);
                start_worker(plan, control, (at, net), scenario)
            };
            nets.into_iter().map(start).collect()
        }
        Work::Idle(work) => nets
            .map(|(at, net)| start_worker(plan, control, (at, net), Idle::new(seat(at), work.clone())))
            .collect(),
        Work::Storm(work) => nets
            .map(|(at, net)| {
                start_worker(plan, control, (at, net), Storm::new(seat(at), work.clone(), plan.run))
            })
            .collect(),
        Work::Connect(work) => nets
            .map(|(at, net)| {
                start_worker(plan, control, (at, net), Connect::new(seat(at), work.clone(), schedule))
            })
            .collect(),
        Work::Presence(work) => nets
            .map(|(at, net)| start_worker(plan, control, (at, net), Presence::new(seat(at), work.clone())))
            .collect(),
    }
}

fn new_net(plan: &Plan, worker: u32, process: u32, tls: Option<TlsClient>) -> io::Result<Net> {
    let parallel = match &plan.work {
        Work::Connect(work) => work.parallel,
        _ => plan.parallel,
    };
    let target = Target {
        address: plan.address,
        host: plan.host.clone(),
        tls,
        sources: plan.sources * process / plan.processes..plan.sources * (process + 1) / plan.processes,
        parallel: parallel.div_ceil(plan.workers()) as usize,
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
        let _alarm = Alarm(Arc::clone(&control));
        pin(&cpu)?;
        let outcome = worker::run(net, scenario, &control, manner, worker);
        if let Err(error) = &outcome {
            control.give_up(format!("A worker could not go on: {error}."));
        }
        outcome
    })
}

/// Ends the run when its thread panics, so that nobody waits for it.
struct Alarm(Arc<Control>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.give_up("A worker panicked.".into());
        }
    }
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
