//! What does a session's `send` cost, from the text of its command to the bytes that leave?
//!
//! 16 commands a turn, to a channel of 2, 20 and 1,000 members; the sink counts bytes. Unit: messages.
//!
//! - `engine`: one engine, one flush a turn.
//! - `naive`: [`Naive`], which parses to a tree and serialises for each member.

mod measuring;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Discard, engine, naive::Naive, open_members, payload::SEND};
use measuring::Turn;

const TURN: Turn = Turn { command: SEND, times: 16 };

fn send(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send");
    group.throughput(Throughput::Elements(TURN.times));
    for members in [2, 20, 1_000] {
        group.bench_function(BenchmarkId::new("engine", members), |bencher| {
            let mut engine = engine();
            let slots = open_members(&mut engine, members, &mut Discard::default());
            TURN.through_engine(bencher, &mut engine, slots[0]);
        });
        group.bench_function(BenchmarkId::new("naive", members), |bencher| {
            TURN.through_naive(bencher, Naive::new(members as usize, members as usize));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = measuring::settings(Duration::from_millis(600));
    targets = send
}
criterion_main!(benches);
