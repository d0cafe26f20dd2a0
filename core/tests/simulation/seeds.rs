//! Runs a simulation once for each seed. A failure prints its seed and step. `FANFARE_SEED=n` runs that one
//! alone, `FANFARE_SEEDS=n` that many.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Gives `take` what `run` returns for each of the first `count` seeds, or of those that the environment
/// wants. `run` counts its steps. Returns how many seeds there were.
pub(crate) fn each<T>(
    name: &str,
    count: u64,
    run: impl Fn(u64, &Cell<usize>) -> T,
    mut take: impl FnMut(T),
) -> u64 {
    let seeds = match (number_from("FANFARE_SEED"), number_from("FANFARE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, wanted) => 0..wanted.unwrap_or(count),
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let step = Cell::new(0);
        match catch_unwind(AssertUnwindSafe(|| run(seed, &step))) {
            Ok(outcome) => take(outcome),
            Err(panic) => {
                eprintln!("{name}: FANFARE_SEED={seed}, in or after step {}", step.get());
                resume_unwind(panic);
            }
        }
    }
    count
}
