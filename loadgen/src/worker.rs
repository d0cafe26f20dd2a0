//! One thread: a loop of turns over its own connections and its part of a scenario, until the coordinator
//! says stop.

use std::{io, sync::Arc};

use mio::Events;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    clock::now_ns,
    control::{Control, Stage},
    dialogue::Dialogue,
    net::{Net, Wait},
    scenario::Scenario,
    tally::Tally,
};

/// How a worker runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Never sleep: look for events all the time.
    pub(crate) spin: bool,
    /// Events handled before the schedule is looked at again.
    pub(crate) events: usize,
}

/// Runs a worker to its end.
pub(crate) fn run<S: Scenario>(
    mut net: Net,
    scenario: S,
    control: &Arc<Control>,
    manner: Manner,
    worker: usize,
) -> io::Result<Tally> {
    let driver = Arc::clone(&scenario.seat().driver);
    if driver.is_binary() {
        net.use_binary();
    }
    let mut dialogue = Dialogue::new(scenario, driver);
    let mut events = Events::with_capacity(manner.events);
    let mut shown = 0;
    let mut meter = Meter::new(dialogue.scenario.seat().windows);
    loop {
        let stage = control.stage();
        if !manner.spin && stage != meter.stage {
            meter.enter(stage);
        }
        if stage == Stage::Stop {
            let mut tally = dialogue.scenario.finish();
            tally.handshakes = net.handshakes();
            tally
                .windows
                .iter_mut()
                .zip(meter.busy_ns)
                .for_each(|(window, busy_ns)| window.busy_ns = busy_ns);
            return Ok(tally);
        }
        let begun_ns = if manner.spin { now_ns() } else { 0 };
        let wait = dialogue.scenario.on_turn(&mut net, stage);
        let is_busy = net.turn(&mut events, if manner.spin { Wait::No } else { wait }, &mut dialogue)?;
        if let Stage::Window(number) = stage
            && manner.spin
            && is_busy
        {
            meter.busy_ns[number as usize] += now_ns() - begun_ns;
        }
        let asked = control.asked();
        if asked != shown {
            shown = asked;
            let scenario = &dialogue.scenario;
            control.show(worker, asked, scenario.tally().snapshot(scenario.faults()));
        }
    }
}

/// For how long a worker had something to do in each window. One that spins always uses all it can get: of
/// it, the turns count in which something came in. Of one that sleeps, its CPU time does.
struct Meter {
    busy_ns: Vec<u64>,
    /// The stage that the worker is in, and the CPU time it had used when that began.
    stage: Stage,
    used_ns: u64,
}

impl Meter {
    fn new(windows: usize) -> Self {
        Self { busy_ns: vec![0; windows], stage: Stage::Connect, used_ns: thread_cpu_ns() }
    }

    /// What is used from now on belongs to another stage.
    fn enter(&mut self, stage: Stage) {
        let used_ns = thread_cpu_ns();
        if let Stage::Window(number) = self.stage {
            self.busy_ns[number as usize] = used_ns - self.used_ns;
        }
        (self.stage, self.used_ns) = (stage, used_ns);
    }
}

/// CPU time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
