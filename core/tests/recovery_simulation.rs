//! History, edits, audiences and clients that come back, over several engines in one thread, with a virtual
//! clock: many seeds, each a random interleaving of everything that can happen, judged against a model made
//! from the protocol.
//!
//! How to run one seed alone, or more of them: `simulation/seeds.rs`. `FANFARE_TRACE=1` prints what happens.

#[path = "recovery_simulation/client.rs"]
mod client;
#[path = "recovery_simulation/judge.rs"]
mod judge;
#[path = "recovery_simulation/model.rs"]
mod model;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/seeds.rs"]
mod seeds;
mod support;
mod workers;
#[path = "recovery_simulation/world.rs"]
mod world;

use std::cell::Cell;

use world::World;

/// Bursts of one run, and the most that is done in one.
const BURSTS: usize = 14;
const STEPS: usize = 24;

fn simulate(seed: u64, step: &Cell<usize>) -> World {
    let mut world = World::new(seed);
    for _ in 0..BURSTS {
        // Often so little that what happens is known exactly.
        for _ in 0..world.steps(STEPS) {
            step.set(step.get() + 1);
            world.step(0);
        }
        world.rest();
    }
    world.finish();
    world
}

#[test]
fn whoever_comes_back_knows_what_those_know_who_never_left() {
    let mut all = world::Totals::default();
    let count = seeds::each("recovery", 800, simulate, |world| all.add(&world.totals));
    println!("{count} seeds: {all:?}");
    if count > 100 {
        assert!(all.is_rich(), "a run that tests little");
    }
}
