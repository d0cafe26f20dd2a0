//! One thread: a loop of turns over its own connections and its part of a scenario, until the coordinator says stop.

use std::{io, sync::Arc};

use mio::Events;

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
    let mut busy_ns = vec![0; dialogue.scenario.seat().windows];
    loop {
        let stage = control.stage();
        if stage == Stage::Stop {
            let mut tally = dialogue.scenario.finish();
            tally.windows.iter_mut().zip(busy_ns).for_each(|(window, busy_ns)| window.busy_ns = busy_ns);
            return Ok(tally);
        }
        let begun_ns = if manner.spin { now_ns() } else { 0 };
        let wait = dialogue.scenario.on_turn(&mut net, stage);
        let is_busy = net.turn(&mut events, if manner.spin { Wait::No } else { wait }, &mut dialogue)?;
        if let Stage::Window(number) = stage
            && manner.spin
            && is_busy
        {
            busy_ns[number as usize] += now_ns() - begun_ns;
        }
        let asked = control.asked();
        if asked != shown {
            shown = asked;
            let scenario = &dialogue.scenario;
            control.show(worker, asked, scenario.tally().glimpse(scenario.faults()));
        }
    }
}
