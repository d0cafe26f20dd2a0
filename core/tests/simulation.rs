//! Many sessions over several engines in one thread, with a virtual clock: thousands of seeds, each a random interleaving
//! of everything that can happen, judged against a model or by the invariants of delivery.
//!
//! A failure prints its seed and step. `FANFARE_SEED=n` runs that one alone, `FANFARE_SEEDS=n` that many.

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
#[path = "simulation/threads.rs"]
mod threads;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::{Mode, World};

/// Things done in one run.
const STEPS: usize = 250;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn run(mode: Mode, seeds: u64) {
    let seeds = match (number_from("FANFARE_SEED"), number_from("FANFARE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(seeds),
    };
    let count = seeds.end - seeds.start;
    let [mut commands, mut deliveries, mut delegated, mut overloaded, mut missed] = [0; 5];
    for seed in seeds {
        let mut step = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed, mode);
            for _ in 0..STEPS {
                step += 1;
                world.step();
            }
            world.finish();
            world
        }));
        match outcome {
            Ok(world) => {
                commands += world.commands;
                deliveries += world.deliveries;
                delegated += world.delegated;
                overloaded += world.overloaded;
                missed += world.missed;
            }
            Err(panic) => {
                eprintln!("{mode:?}: FANFARE_SEED={seed}, in or after step {step} of {STEPS}");
                resume_unwind(panic);
            }
        }
    }
    println!(
        "{mode:?}: {count} seeds, {commands} commands, {deliveries} deliveries, {delegated} delegated, \
         {overloaded} overloaded, {missed} missed"
    );
    if count > 100 {
        let contended = mode == Mode::Contended;
        assert!(commands > 0 && deliveries > 0, "a run that tests nothing");
        assert_eq!((delegated > 0, overloaded > 0, missed > 0), (contended, contended, !contended));
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
