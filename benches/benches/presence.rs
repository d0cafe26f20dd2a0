//! What do a join, a leave and an update cost in a channel that announces them?
//!
//! One session joins, sets its profile and leaves, each in a turn of its own, beside 20 and 1,000 watchers.
//! Unit: turns, each of which tells every watcher once.
//!
//! - `engine`: one engine, one flush a turn.
//! - `naive`: [`Naive`], which parses to a tree and serialises each notice for each watcher.

mod measuring;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Discard, announcing_engine, naive::Naive, open_members, open_sessions};
use fanfare_core::{engine::Flow, ws::Message};

const JOIN: &str = r#"{"type":"join","channel":"room"}"#;
const UPDATE: &str = r#"{"type":"update","profile":{"name":"Ada Lovelace","status":"away"}}"#;
const LEAVE: &str = r#"{"type":"leave","channel":"room"}"#;

fn presence(criterion: &mut Criterion) {
    for (name, commands) in [
        ("presence/join-leave", &[JOIN, LEAVE][..]),
        ("presence/join-update-leave", &[JOIN, UPDATE, LEAVE][..]),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(commands.len() as u64));
        for watchers in [20, 1_000] {
            group.bench_function(BenchmarkId::new("engine", watchers), |bencher| {
                let (mut engine, mut sink) = (announcing_engine(), Discard::default());
                open_members(&mut engine, watchers, &mut sink);
                let mover = open_sessions(&mut engine, 1)[0];
                engine.flush(&mut sink);
                bencher.iter(|| {
                    for command in commands {
                        engine.begin_turn(1);
                        assert_eq!(engine.receive(mover, Message::Text(command)), Flow::Continue);
                        engine.flush(&mut sink);
                    }
                });
                black_box(sink.bytes);
            });
            group.bench_function(BenchmarkId::new("naive", watchers), |bencher| {
                let watchers = watchers as usize;
                let mut naive = Naive::new(watchers + 1, watchers);
                bencher.iter(|| {
                    let turn = |command: &&str| {
                        naive.receive(watchers, command);
                        naive.flush()
                    };
                    black_box(commands.iter().map(turn).sum::<usize>())
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = measuring::settings(Duration::from_millis(600));
    targets = presence
}
criterion_main!(benches);
