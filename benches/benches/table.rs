//! What does finding a channel cost, against a locked map in the same run?
//!
//! - `find/hot`: the same 10 channels over and over, in tables of 10, 10,000 and 1,000,000. Unit: look-ups.
//! - `find/cold`: channels of the whole table in an order that no cache knows. Unit: look-ups.
//! - `find/two_threads`: both, while a second thread does the same. Unit: look-ups of the measured thread.
//! - `churn`: a channel comes into being and goes, in a table of 10,000. Unit: pairs.
//!
//! The baselines hold the same number of channels under the same names, in 256 shards of
//! `hashbrown::HashTable` with foldhash, each behind a `Mutex` or an `RwLock`, and hash once for shard and
//! map as ours does. `FANFARE_BENCH_LARGE=0` leaves out the table of a million.

mod measuring;

use std::{
    collections::hash_map::DefaultHasher,
    hash::{BuildHasher, Hash, Hasher},
    hint::black_box,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use fanfare_core::{
    channel::{Channel, ChannelTable},
    id::AppId,
};
use hashbrown::HashTable;

const SHARDS: usize = 256;
const WORKERS: usize = 4;
const APP: AppId = AppId(1);
const POISON: &str = "nobody panics while holding it";

/// What the contenders have in common.
trait Table: Sync {
    type Channel;

    fn find(&self, name: &str) -> u64;
    fn create(&self, name: &str) -> Arc<Self::Channel>;
    fn remove(&self, channel: &Arc<Self::Channel>);
}

impl Table for ChannelTable {
    type Channel = Channel;

    fn find(&self, name: &str) -> u64 {
        ChannelTable::find(self, APP, name, |channel| channel.epoch()).unwrap_or(0)
    }

    fn create(&self, name: &str) -> Arc<Channel> {
        self.find_or_create(APP, name, Default::default)
    }

    fn remove(&self, channel: &Arc<Channel>) {
        ChannelTable::remove(self, channel);
    }
}

/// A channel of a baseline. The name stands beside it, since channels with a name are made by our table only.
struct Named {
    hash: u64,
    name: Box<str>,
    channel: Channel,
}

type Shard = HashTable<Arc<Named>>;

/// A shard behind some lock.
trait Locked: Sync + Default {
    fn read<R>(&self, work: impl FnOnce(&Shard) -> R) -> R;
    fn write<R>(&self, work: impl FnOnce(&mut Shard) -> R) -> R;
}

impl Locked for Mutex<Shard> {
    fn read<R>(&self, work: impl FnOnce(&Shard) -> R) -> R {
        work(&self.lock().expect(POISON))
    }

    fn write<R>(&self, work: impl FnOnce(&mut Shard) -> R) -> R {
        work(&mut self.lock().expect(POISON))
    }
}

impl Locked for RwLock<Shard> {
    fn read<R>(&self, work: impl FnOnce(&Shard) -> R) -> R {
        work(&RwLock::read(self).expect(POISON))
    }

    fn write<R>(&self, work: impl FnOnce(&mut Shard) -> R) -> R {
        work(&mut RwLock::write(self).expect(POISON))
    }
}

/// The baseline.
struct Sharded<L> {
    shards: Vec<L>,
    hasher: foldhash::quality::FixedState,
}

impl<L: Locked> Sharded<L> {
    fn new() -> Self {
        let shards = (0..SHARDS).map(|_| L::default()).collect();
        Self { shards, hasher: foldhash::quality::FixedState::with_seed(7) }
    }

    fn place(&self, name: &str) -> (u64, &L) {
        let hash = self.hasher.hash_one((APP, name));
        (hash, &self.shards[(hash >> 32) as usize % SHARDS])
    }
}

fn is(name: &str) -> impl Fn(&Arc<Named>) -> bool {
    move |named| named.channel.app() == APP && &*named.name == name
}

impl<L: Locked> Table for Sharded<L> {
    type Channel = Named;

    fn find(&self, name: &str) -> u64 {
        let (hash, shard) = self.place(name);
        shard.read(|map| map.find(hash, is(name)).map_or(0, |named| named.channel.epoch()))
    }

    fn create(&self, name: &str) -> Arc<Named> {
        let (hash, shard) = self.place(name);
        shard.write(|map| {
            let entry = map.entry(hash, is(name), |named| named.hash);
            let new =
                || Arc::new(Named { hash, name: name.into(), channel: Channel::broadcast(APP, WORKERS) });
            entry.or_insert_with(new).get().clone()
        })
    }

    fn remove(&self, named: &Arc<Named>) {
        let (hash, shard) = self.place(&named.name);
        shard.write(|map| map.find_entry(hash, is(&named.name)).map(|entry| entry.remove()).is_ok());
    }
}

fn name(number: usize) -> String {
    format!("room-{number:07}")
}

/// Names of a table of `size` in an order that no cache knows, at most 65,536 of them.
fn cold_names(size: usize) -> Vec<String> {
    let scatter = |i: usize| {
        let mut hasher = DefaultHasher::new();
        i.hash(&mut hasher);
        hasher.finish() as usize % size
    };
    (0..size.min(1 << 16)).map(|i| name(scatter(i))).collect()
}

fn hot_names(size: usize) -> Vec<String> {
    (0..10).map(|i| name(i * size / 10)).collect()
}

/// Measures look-ups, one after another through `names`.
fn measure_find<T: Table>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    table: &T,
    names: &[String],
) {
    let mut next = 0;
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            next = if next + 1 == names.len() { 0 } else { next + 1 };
            black_box(table.find(&names[next]))
        });
    });
}

fn find<T: Table>(criterion: &mut Criterion, contender: &str, new: impl Fn() -> T) {
    let large = std::env::var("FANFARE_BENCH_LARGE").map_or(true, |value| value != "0");
    for size in [10, 10_000, 1_000_000].into_iter().filter(|&size| large || size < 1_000_000) {
        let table = new();
        (0..size).for_each(|i| drop(table.create(&name(i))));
        for (temperature, names) in [("hot", hot_names(size)), ("cold", cold_names(size))] {
            let mut group = criterion.benchmark_group(format!("find/{temperature}"));
            measure_find(&mut group, BenchmarkId::new(contender, size), &table, &names);
            group.finish();
        }
        let names = cold_names(size);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    names.iter().take(1000).for_each(|name| {
                        black_box(table.find(name));
                    });
                }
            });
            let mut group = criterion.benchmark_group("find/two_threads");
            measure_find(&mut group, BenchmarkId::new(contender, size), &table, &names);
            group.finish();
            stop.store(true, Ordering::Relaxed);
        });
    }
}

fn churn<T: Table>(criterion: &mut Criterion, contender: &str, new: impl Fn() -> T) {
    let table = new();
    (0..10_000).for_each(|i| drop(table.create(&name(i))));
    let names: Vec<String> = (20_000..21_000).map(name).collect();
    let mut next = 0;
    criterion.benchmark_group("churn").bench_function(contender, |bencher| {
        bencher.iter(|| {
            next = (next + 1) % names.len();
            let channel = table.create(&names[next]);
            table.remove(&channel);
        });
    });
}

fn benches(criterion: &mut Criterion) {
    find(criterion, "papaya", || ChannelTable::new(WORKERS, 7));
    find(criterion, "mutex", Sharded::<Mutex<Shard>>::new);
    find(criterion, "rwlock", Sharded::<RwLock<Shard>>::new);
    churn(criterion, "papaya", || ChannelTable::new(WORKERS, 7));
    churn(criterion, "mutex", Sharded::<Mutex<Shard>>::new);
    churn(criterion, "rwlock", Sharded::<RwLock<Shard>>::new);
}

criterion_group! {
    name = table;
    config = measuring::settings(Duration::from_millis(600));
    targets = benches
}
criterion_main!(table);
