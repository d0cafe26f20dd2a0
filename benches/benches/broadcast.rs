//! What does a session's `broadcast` cost, from the text of its command to the bytes that leave?
//!
//! 4 commands a turn, to the 20, 1,000 and 10,000 sessions of an app; the sink counts bytes. Unit:
//! deliveries.
//!
//! - `engine`: one engine, one flush a turn.
//! - `naive`: [`Naive`], which parses to a tree and serialises for each session.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Discard, engine, naive::Naive, open_sessions};
use fanfare_core::{engine::Flow, ws::Message};

const TURN: u64 = 4;
const BROADCAST: &str =
    r#"{"type":"broadcast","event":"news","message":{"text":"sixty-four bytes or so of a message"}}"#;

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    for sessions in [20_u32, 1_000, 10_000] {
        group.throughput(Throughput::Elements(TURN * u64::from(sessions)));
        group.bench_function(BenchmarkId::new("engine", sessions), |bencher| {
            let (mut engine, mut sink) = (engine(), Discard::default());
            let slots = open_sessions(&mut engine, sessions);
            engine.flush(&mut sink);
            bencher.iter(|| {
                engine.begin_turn(1);
                let commands = (0..TURN).map(|_| Message::Text(BROADCAST));
                assert_eq!(engine.receive_all(slots[0], commands), Flow::Continue);
                engine.flush(&mut sink);
            });
            black_box(sink.bytes);
        });
        group.bench_function(BenchmarkId::new("naive", sessions), |bencher| {
            let mut naive = Naive::new(sessions as usize, 0);
            bencher.iter(|| {
                (0..TURN).for_each(|_| naive.receive(0, BROADCAST));
                black_box(naive.flush())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = broadcast
}
criterion_main!(benches);
