//! One thread: a loop of turns over its own connections and its part of a scenario, until the coordinator says stop.

use std::{io, sync::Arc};

use mio::Events;

use crate::{
    control::{Control, Stage},
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
    mut scenario: S,
    control: &Arc<Control>,
    manner: Manner,
    worker: usize,
) -> io::Result<Tally> {
    let mut events = Events::with_capacity(manner.events);
    let mut shown = 0;
    loop {
        let stage = control.stage();
        if stage == Stage::Stop {
            return Ok(scenario.finish());
        }
        let wait = scenario.on_turn(&mut net, stage);
        net.turn(&mut events, if manner.spin { Wait::No } else { wait }, &mut scenario)?;
        let asked = control.asked();
        if asked != shown {
            shown = asked;
            control.show(worker, asked, scenario.tally().glimpse(scenario.faults()));
        }
    }
}
