//! Many sessions over several engines in one thread, with a virtual clock: thousands of seeds, each a random
//! interleaving of everything that can happen, judged against a model or by the invariants of delivery.
//!
//! How to run one seed alone, or more of them: `simulation/seeds.rs`.

#[path = "simulation/checker.rs"]
mod checker;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/command.rs"]
mod command;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/seeds.rs"]
mod seeds;
#[path = "simulation/threads.rs"]
mod threads;
#[path = "simulation/world/mod.rs"]
mod world;

use std::cell::Cell;

use world::{Mode, World};

/// Things done in one run.
const STEPS: usize = 250;

fn run(mode: Mode, count: u64) {
    let [mut commands, mut deliveries, mut delegated, mut overloaded, mut missed] = [0; 5];
    let simulate = |seed, step: &Cell<usize>| {
        let mut world = World::new(seed, mode);
        for number in 1..=STEPS {
            step.set(number);
            world.step();
        }
        world.finish();
        world
    };
    let count = seeds::each(&format!("{mode:?}"), count, simulate, |world| {
        commands += world.commands;
        deliveries += world.deliveries;
        delegated += world.delegated;
        overloaded += world.overloaded;
        missed += world.missed;
    });
    println!(
        "{mode:?}: {count} seeds, {commands} commands, {deliveries} deliveries, {delegated} delegated, \
         {overloaded} overloaded, {missed} missed"
    );
    if count > 100 {
        let contended = mode == Mode::Contended;
        assert!(commands > 0 && deliveries > 0, "a run that tests nothing");
        assert_eq!((delegated > 0, overloaded > 0), (contended, contended));
        assert!(missed > 0, "nobody was slow");
    }
}

#[test]
fn everybody_receives_exactly_what_the_model_says() {
    run(Mode::Exact, 1500);
}

#[test]
fn the_invariants_hold_when_orders_are_contended_and_mailboxes_small() {
    run(Mode::Contended, 1500);
}
