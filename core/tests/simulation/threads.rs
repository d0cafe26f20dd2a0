//! The same sessions with real threads: one engine on each, few channels, so that the orders are contended
//! for in earnest. It comes to rest by itself, and is judged by the same invariants.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{
    Arc, Barrier, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use fanfare_core::{
    app::{App, AppKeys, Apps},
    engine::Node,
};

use super::{
    checker::Checker,
    world::{Mode, World, verifier},
};

const WORKERS: u16 = 4;
const STEPS: usize = 40_000;

/// What the threads share.
struct Shared {
    barrier: Barrier,
    busy: AtomicUsize,
}

impl Shared {
    /// Runs turns on all threads until none has more to do.
    fn rest(&self, world: &mut World) {
        world.release();
        for _ in 0..100_000 {
            self.busy.store(0, Ordering::SeqCst);
            self.barrier.wait();
            world.turn_all();
            self.barrier.wait();
            // Nobody runs a turn now, so what anyone has posted is seen by whom it was posted to.
            self.busy.fetch_add(usize::from(world.is_busy()), Ordering::SeqCst);
            self.barrier.wait();
            if self.busy.load(Ordering::SeqCst) == 0 {
                return;
            }
            // All have looked before the next round begins.
            self.barrier.wait();
        }
        panic!("it does not come to rest");
    }
}

fn thread(mut world: World, worker: u16, shared: &Shared) -> (Checker, [u64; 3]) {
    if worker == 0 {
        world.open_observers();
    }
    shared.barrier.wait();
    for step in 0..STEPS {
        world.step();
        if step % 64 == 0 {
            std::thread::yield_now();
        }
    }
    shared.rest(&mut world);
    let checker = world.take_part();
    shared.barrier.wait();
    world.close_all();
    shared.rest(&mut world);
    world.check_gone();
    (checker, [world.commands, world.deliveries, world.delegated])
}

#[test]
fn the_invariants_hold_on_real_threads() {
    // Repeats the commands, but not how the threads meet.
    let seed = super::seeds::number_from("FANFARE_SEED").unwrap_or(1);
    let mut app = App::new("default", AppKeys::default());
    app.sessions = verifier();
    let apps = Apps::new(vec![app]).expect("one app");
    let node = Arc::new(Node::new(apps, usize::from(WORKERS), 256, seed));
    let directory = Arc::new(RwLock::default());
    let shared = Shared { barrier: Barrier::new(usize::from(WORKERS)), busy: AtomicUsize::new(0) };
    let mut all = Checker::default();
    let mut totals = [0; 3];
    std::thread::scope(|scope| {
        let spawn = |worker: u16| {
            let (node, directory, shared) = (node.clone(), Arc::clone(&directory), &shared);
            scope.spawn(move || {
                let seed = seed + u64::from(worker);
                let world = World::part(seed, Mode::Contended, node, worker..worker + 1, directory);
                // The others would wait at the barrier for ever.
                catch_unwind(AssertUnwindSafe(|| thread(world, worker, shared)))
                    .unwrap_or_else(|_| std::process::abort())
            })
        };
        let threads: Vec<_> = (0..WORKERS).map(spawn).collect();
        for thread in threads {
            let (checker, counts) = thread.join().expect("no thread panics");
            all.merge(checker);
            totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
    });
    let [commands, deliveries, delegated] = totals;
    println!("{WORKERS} threads: {commands} commands, {deliveries} deliveries, {delegated} delegated");
    assert!(delegated > 0, "nothing was contended");
    if let Err(violation) = all.check() {
        panic!("{violation}");
    }
}
