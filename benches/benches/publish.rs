//! What does it cost to give a publication its place in a channel, and to publish?
//!
//! - `order/alone`: entering an order, counting, leaving; the baseline is a `Mutex`. Unit: operations.
//! - `order/two_threads`: two threads with 10,000 operations each on one order. Ours combines: whoever finds
//!   it taken leaves its operation and goes on; the baseline waits. Unit: the whole of it, 20,000 operations.
//! - `publish/N`: the command `send` of one session on one engine, with 1, 2 and 100 members there, 32 to a
//!   turn, flushed into memory; handed over together, as what one read brings, and one by one. Unit: commands
//!   (all that 32 cost, divided). The baseline does the least that delivers: it encodes the publication once
//!   and pushes a reference-counted frame to each member's queue, then writes the queues.
//! - `history/N`: the same, handed over together, where the channel remembers the last 100 messages; the
//!   baseline is the engine without history.

mod measuring;

use std::{hint::black_box, sync::Mutex, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Discard, encode, engine, engine_with_history, open_members, payload::SEND};
use fanfare_core::{
    channel::{CombiningLock, Delegated, Entered, Left},
    engine::{Engine, Flow},
    id::IdGenerator,
    ws::Message,
};

const OPERATIONS: u64 = 10_000;
const TURN: u64 = 32;

/// Leaves the lock, applying what was delegated.
fn leave(entered: Entered<'_, u64, u64>) {
    let Left::Open = entered.leave(&mut { usize::MAX }, |sum, op| *sum += op, |_| false) else {
        unreachable!("the budget is without bound and the state is never over");
    };
}

fn order_alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("order/alone");
    let lock = CombiningLock::<u64, u64>::new(0);
    group.bench_function("order", |bencher| {
        bencher.iter(|| {
            let mut entered = lock.try_enter().expect("nobody else is there");
            entered.with(|sum| *sum += black_box(1));
            leave(entered);
        });
    });
    let mutex = Mutex::new(0_u64);
    group.bench_function("mutex", |bencher| {
        bencher.iter(|| *mutex.lock().expect("nobody panics while holding it") += black_box(1));
    });
    group.finish();
}

fn twice(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        scope.spawn(&work);
        work();
    });
}

fn order_two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("order/two_threads");
    group.throughput(Throughput::Elements(2 * OPERATIONS));
    group.bench_function("order", |bencher| {
        let lock = CombiningLock::<u64, u64>::new(0);
        bencher.iter(|| {
            twice(|| {
                for _ in 0..OPERATIONS {
                    let mut entered = match lock.try_enter() {
                        Some(entered) => entered,
                        None => match lock.delegate(black_box(1)) {
                            Delegated::Entered(entered, _) => entered,
                            Delegated::Left | Delegated::Closed => continue,
                        },
                    };
                    entered.with(|sum| *sum += black_box(1));
                    leave(entered);
                }
            });
        });
    });
    group.bench_function("mutex", |bencher| {
        let mutex = Mutex::new(0_u64);
        bencher.iter(|| {
            twice(|| {
                for _ in 0..OPERATIONS {
                    *mutex.lock().expect("nobody panics while holding it") += black_box(1);
                }
            });
        });
    });
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    for members in [1, 2, 100] {
        let mut group = criterion.benchmark_group("publish");
        group.throughput(Throughput::Elements(TURN));
        for (name, together) in [("together", TURN), ("one by one", 1)] {
            group.bench_function(BenchmarkId::new(name, members), |bencher| {
                send_turns(bencher, engine(), members, together);
            });
        }
        group.bench_function(BenchmarkId::new("least", members), |bencher| {
            let mut ids = IdGenerator::new(1);
            let mut queues: Vec<Vec<Bytes>> = vec![Vec::new(); members as usize];
            let mut offset = 0;
            bencher.iter(|| {
                for _ in 0..TURN {
                    offset += 1;
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
        group.finish();
    }
}

fn history(criterion: &mut Criterion) {
    for members in [1, 100] {
        let mut group = criterion.benchmark_group("history");
        group.throughput(Throughput::Elements(TURN));
        for messages in [0, 100] {
            group.bench_function(BenchmarkId::new(format!("remembering {messages}"), members), |bencher| {
                send_turns(bencher, engine_with_history(messages), members, TURN);
            });
        }
        group.finish();
    }
}

/// Turns in which one of the members sends; so many messages at a time are handed over together.
fn send_turns(bencher: &mut Bencher<'_>, mut engine: Engine, members: u32, together: u64) {
    let mut sink = Discard::default();
    let slots = open_members(&mut engine, members, &mut sink);
    bencher.iter(|| {
        engine.begin_turn(1);
        for _ in 0..TURN / together {
            let messages = (0..together).map(|_| Message::Text(SEND));
            assert_eq!(engine.receive_all(slots[0], messages), Flow::Continue);
        }
        engine.on_mail();
        engine.flush(&mut sink);
    });
    black_box(sink.bytes);
}

criterion_group! {
    name = benches;
    config = measuring::settings(Duration::from_millis(800));
    targets = order_alone, order_two_threads, publish, history
}
criterion_main!(benches);
