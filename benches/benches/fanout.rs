//! What does one delivery cost: linking a member to its part of a turn and handing that to the sink?
//!
//! 100, 1,000 and 9,000 members of one channel on one engine; 1, 32 and 256 publications in a turn; the sink
//! counts bytes. Unit: deliveries (publications × members), including the share of publishing and encoding.
//!
//! - `engine`: publications by a back end, one flush.
//! - `naive`: each publication is encoded for each member and pushed to its `Vec`, then the `Vec`s are
//!   written.
//! - `shared`: each publication is encoded once, and a reference-counted frame pushed to each member's `Vec`.

mod measuring;

use std::{hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use fanfare_benches::{Discard, encode, engine, open_members, payload::SENT};
use fanfare_core::{
    command::{BackEndCommand, Publish},
    id::{AppId, IdGenerator},
    publication::Payload,
};

fn through_engine(group: &mut BenchmarkGroup<'_, WallTime>, id: &str, members: u32, window: u64) {
    group.bench_function(BenchmarkId::new("engine", id), |bencher| {
        let mut engine = engine();
        let mut sink = Discard::default();
        open_members(&mut engine, members, &mut sink);
        bencher.iter(|| {
            engine.begin_turn(1);
            for _ in 0..window {
                let payload = Payload::Json(SENT);
                let publish = Publish::new(Some("room"), "chat", payload);
                let sent = engine.request(AppId(0), BackEndCommand::publish(publish), 0);
                assert!(matches!(sent, Some(Ok(_))));
            }
            engine.flush(&mut sink);
        });
        black_box(sink.bytes);
    });
}

fn naive(group: &mut BenchmarkGroup<'_, WallTime>, id: &str, members: u32, window: u64) {
    group.bench_function(BenchmarkId::new("naive", id), |bencher| {
        let mut ids = IdGenerator::new(1);
        let mut queues: Vec<Vec<u8>> = vec![Vec::new(); members as usize];
        let mut scratch = BytesMut::new();
        bencher.iter(|| {
            for offset in 1..=window {
                for queue in &mut queues {
                    scratch.clear();
                    encode(&mut ids, offset, &mut scratch);
                    queue.extend_from_slice(&scratch);
                }
            }
            for queue in &mut queues {
                black_box(&queue[..]);
                queue.clear();
            }
        });
    });
}

fn shared(group: &mut BenchmarkGroup<'_, WallTime>, id: &str, members: u32, window: u64) {
    group.bench_function(BenchmarkId::new("shared", id), |bencher| {
        let mut ids = IdGenerator::new(1);
        let mut queues: Vec<Vec<Bytes>> = vec![Vec::new(); members as usize];
        bencher.iter(|| {
            for offset in 1..=window {
                let mut out = BytesMut::new();
                encode(&mut ids, offset, &mut out);
                let frame = out.freeze();
                queues.iter_mut().for_each(|queue| queue.push(frame.clone()));
            }
            for queue in &mut queues {
                queue.drain(..).for_each(|frame| {
                    black_box(&frame[..]);
                });
            }
        });
    });
}

fn fanout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout");
    for members in [100, 1_000, 9_000] {
        for window in [1, 32, 256] {
            group.throughput(Throughput::Elements(u64::from(members) * window));
            let id = format!("{members}x{window}");
            through_engine(&mut group, &id, members, window);
            // A turn of a second is not worth measuring.
            if u64::from(members) * window <= 300_000 {
                naive(&mut group, &id, members, window);
            }
            shared(&mut group, &id, members, window);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = measuring::settings(Duration::from_millis(600));
    targets = fanout
}
criterion_main!(benches);
