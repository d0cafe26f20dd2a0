//! What does a session's `send` cost, from the text of its command to the bytes that leave?
//!
//! 16 commands a turn, to a channel of 2, 20 and 1,000 members; the sink counts bytes. Unit: messages.
//!
//! - `engine`: one engine, one flush a turn.
//! - `naive`: [`Naive`], which parses to a tree and serialises for each member.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Discard, engine, naive::Naive, open_members};
use fanfare_core::{engine::Flow, ws::Message};

const TURN: u64 = 16;
const SEND: &str = r#"{"type":"send","channel":"room","event":"chat","message":{"text":"sixty-four bytes or so of a message"}}"#;

fn send(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send");
    group.throughput(Throughput::Elements(TURN));
    for members in [2, 20, 1_000] {
        group.bench_function(BenchmarkId::new("engine", members), |bencher| {
            let (mut engine, mut sink) = (engine(), Discard::default());
            let slots = open_members(&mut engine, members, &mut sink);
            bencher.iter(|| {
                engine.begin_turn(1);
                let commands = (0..TURN).map(|_| Message::Text(SEND));
                assert_eq!(engine.receive_all(slots[0], commands), Flow::Continue);
                engine.flush(&mut sink);
            });
            black_box(sink.bytes);
        });
        group.bench_function(BenchmarkId::new("naive", members), |bencher| {
            let mut naive = Naive::new(members as usize, members as usize);
            bencher.iter(|| {
                (0..TURN).for_each(|_| naive.receive(0, SEND));
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
    targets = send
}
criterion_main!(benches);
