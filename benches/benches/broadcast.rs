//! What does a session's `broadcast` cost, from the text of its command to the bytes that leave?
//!
//! 4 commands a turn, to the 20, 1,000 and 10,000 sessions of an app; the sink counts bytes. Unit:
//! deliveries.
//!
//! - `engine`: one engine, one flush a turn.
//! - `naive`: [`Naive`], which parses to a tree and serialises for each session.

mod measuring;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Discard, engine, naive::Naive, open_sessions};
use measuring::Turn;

const TURN: Turn = Turn { command: BROADCAST, times: 4 };
const BROADCAST: &str =
    r#"{"type":"broadcast","event":"news","message":{"text":"sixty-four bytes or so of a message"}}"#;

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    for sessions in [20_u32, 1_000, 10_000] {
        group.throughput(Throughput::Elements(TURN.times * u64::from(sessions)));
        group.bench_function(BenchmarkId::new("engine", sessions), |bencher| {
            let mut engine = engine();
            let slots = open_sessions(&mut engine, sessions);
            engine.flush(&mut Discard::default());
            TURN.through_engine(bencher, &mut engine, slots[0]);
        });
        group.bench_function(BenchmarkId::new("naive", sessions), |bencher| {
            TURN.through_naive(bencher, Naive::new(sessions as usize, 0));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = measuring::settings(Duration::from_millis(600));
    targets = broadcast
}
criterion_main!(benches);
