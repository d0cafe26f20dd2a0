//! The channel table: (app, name) → channel, for all workers.
//!
//! Each shard is a papaya hash map. Looking up, inserting and removing take no lock, with one exception:
//! while a shard's map grows, papaya allocates the larger map under a mutex. A name is hashed once, for the
//! shard and for its map. Shards bound the copying of a growing map, and let a listing work in bounded steps.
//! All shards share one collector, which frees removed channels in batches of each thread.

use std::{
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    iter,
    sync::Arc,
};

use papaya::{Compute, Equivalent, HashMap, Operation as Outcome};
use seize::Collector;

use super::{Channel, epoch::Epochs};
use crate::{
    app::ChannelOptions,
    id::{AppId, IdGenerator},
    limits::TABLE_SHARDS,
    sync::{AtomicUsize, Ordering},
};

/// All channels of all apps.
pub struct ChannelTable {
    shards: Box<[HashMap<Entry, (), BuildHasherDefault<Passthrough>>]>,
    hasher: foldhash::quality::FixedState,
    epochs: Epochs,
    workers: usize,
    /// Bytes of the names of channels.
    name_bytes: AtomicUsize,
}

impl ChannelTable {
    /// An empty table for `workers` workers. `seed` is random: from it come the key of the hash, so that
    /// names cannot be chosen to collide, and the key of the epochs, which does not tell the other.
    pub fn new(workers: usize, seed: u64) -> Self {
        let mut keys = IdGenerator::new(seed);
        let collector = Arc::new(Collector::new());
        let shard = || {
            let hasher = BuildHasherDefault::default();
            HashMap::builder().hasher(hasher).shared_collector(collector.clone()).build()
        };
        Self {
            shards: iter::repeat_with(shard).take(TABLE_SHARDS).collect(),
            hasher: foldhash::quality::FixedState::with_seed(keys.random()),
            epochs: Epochs::new((keys.random(), keys.random())),
            workers,
            name_bytes: AtomicUsize::new(0),
        }
    }

    /// Finds a channel and shows it to `visit`, without touching its reference count.
    pub fn find<R>(&self, app: AppId, name: &str, visit: impl FnOnce(&Arc<Channel>) -> R) -> Option<R> {
        let key = self.key(app, name);
        let shard = self.shard(key.hash).pin();
        shard.get_key_value(&key).map(|(entry, ())| visit(&entry.0))
    }

    /// Finds a channel or makes it, with the options that `options` tells.
    pub fn find_or_create(
        &self,
        app: AppId,
        name: &str,
        options: impl FnOnce() -> ChannelOptions,
    ) -> Arc<Channel> {
        let key = self.key(app, name);
        let shard = self.shard(key.hash).pin();
        let mut options = Some(options);
        let mut resolved = ChannelOptions::default();
        loop {
            if let Some((entry, ())) = shard.get_key_value(&key) {
                return entry.0.clone();
            }
            let epoch = self.epochs.next();
            if let Some(options) = options.take() {
                resolved = options();
            }
            let channel = Channel::new(app, (key.hash, epoch), Some(name), resolved, self.workers);
            let channel = Arc::new(channel);
            // Somebody may have been faster; then its channel is the one.
            if shard.try_insert(Entry(channel.clone()), ()).is_ok() {
                // Relaxed: the sum orders no other memory access.
                self.name_bytes.fetch_add(name.len(), Ordering::Relaxed);
                return channel;
            }
        }
    }

    /// Removes `channel`, if it is still the one of its name.
    pub fn remove(&self, channel: &Arc<Channel>) {
        let shard = self.shard(channel.hash).pin();
        let removed = shard.compute(Entry(channel.clone()), |found| match found {
            Some((entry, ())) if Arc::ptr_eq(&entry.0, channel) => Outcome::Remove,
            _ => Outcome::Abort(()),
        });
        if matches!(removed, Compute::Removed(..)) {
            let bytes = channel.name().map_or(0, str::len);
            self.name_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The bytes of the names of all channels.
    pub fn name_bytes(&self) -> usize {
        self.name_bytes.load(Ordering::Relaxed)
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of shards, for [`ChannelTable::visit_shard`].
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Shows every channel of one shard. Concurrent changes may or may not be seen; a channel that stays is.
    pub fn visit_shard(&self, shard: usize, mut visit: impl FnMut(&Arc<Channel>)) {
        self.shards[shard].pin().keys().for_each(|entry| visit(&entry.0));
    }

    /// The hash by which a name is found.
    pub fn hash(&self, app: AppId, name: &str) -> u64 {
        self.key(app, name).hash
    }

    fn key<'a>(&self, app: AppId, name: &'a str) -> Key<'a> {
        Key { hash: self.hasher.hash_one((app, name)), app, name }
    }

    /// The shard of a hash: its middle bits, for papaya uses both ends.
    fn shard(&self, hash: u64) -> &HashMap<Entry, (), BuildHasherDefault<Passthrough>> {
        &self.shards[(hash >> 32) as usize % TABLE_SHARDS]
    }
}

/// What to look for.
struct Key<'a> {
    hash: u64,
    app: AppId,
    name: &'a str,
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Entry> for Key<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        entry.0.app == self.app && entry.0.name() == Some(self.name)
    }
}

/// What a shard stores: the channel is its own key.
struct Entry(Arc<Channel>);

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.app == other.0.app && self.0.name() == other.0.name()
    }
}

impl Eq for Entry {}

/// Hands on a hash that was computed before.
#[derive(Default)]
struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are hashed");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::{BTreeSet, HashMap as StdHashMap};

    use proptest::prelude::*;

    use super::*;

    const APP: AppId = AppId(1);

    #[test]
    fn a_channel_is_found_by_app_and_name() {
        let table = ChannelTable::new(1, 7);
        let made = table.find_or_create(APP, "room", ChannelOptions::default);
        assert!(Arc::ptr_eq(&made, &table.find_or_create(APP, "room", ChannelOptions::default)));
        assert_eq!(table.find(APP, "room", |found| Arc::ptr_eq(found, &made)), Some(true));
        assert!(table.find(APP, "other", |_| ()).is_none());
        assert!(table.find(AppId(2), "room", |_| ()).is_none());
    }

    #[test]
    fn removing_spares_a_successor_of_the_same_name() {
        let table = ChannelTable::new(1, 7);
        let first = table.find_or_create(APP, "room", ChannelOptions::default);
        table.remove(&first);
        assert!(table.is_empty());
        let second = table.find_or_create(APP, "room", ChannelOptions::default);
        assert!(!Arc::ptr_eq(&first, &second));
        table.remove(&first);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn visiting_all_shards_shows_every_channel_once() {
        let table = ChannelTable::new(2, 7);
        let names: BTreeSet<String> = (0..1_000).map(|i| format!("room-{i}")).collect();
        for name in &names {
            table.find_or_create(APP, name, ChannelOptions::default);
        }
        let mut seen = BTreeSet::new();
        for shard in 0..table.shards() {
            table.visit_shard(shard, |channel| {
                assert!(seen.insert(channel.name().expect("it has one").to_owned()));
            });
        }
        assert_eq!(seen, names);
    }

    #[derive(Clone, Debug)]
    enum Action {
        Create(u16, u8),
        Find(u16, u8),
        /// Removes the n-th channel that was ever made, which may have been removed before.
        Remove(prop::sample::Index),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (0..3u16, 0..24u8).prop_map(|(app, name)| Action::Create(app, name)),
            2 => (0..3u16, 0..24u8).prop_map(|(app, name)| Action::Find(app, name)),
            3 => any::<prop::sample::Index>().prop_map(Action::Remove),
        ]
    }

    proptest! {
        /// Any sequence of operations, against a plain map.
        #[test]
        fn behaves_like_a_plain_map(seed: u64, actions in prop::collection::vec(action(), 0..200)) {
            let table = ChannelTable::new(2, seed);
            let mut model: StdHashMap<(AppId, String), Arc<Channel>> = StdHashMap::new();
            let mut made: Vec<Arc<Channel>> = Vec::new();
            for action in actions {
                match action {
                    Action::Create(app, name) => {
                        let (app, name) = (AppId(app), format!("room-{name}"));
                        let channel = table.find_or_create(app, &name, ChannelOptions::default);
                        prop_assert_eq!((channel.app(), channel.name()), (app, Some(&*name)));
                        let known = model.entry((app, name)).or_insert_with(|| channel.clone());
                        prop_assert!(Arc::ptr_eq(known, &channel));
                        if !made.iter().any(|other| Arc::ptr_eq(other, &channel)) {
                            prop_assert!(made.iter().all(|other| other.epoch() != channel.epoch()));
                            made.push(channel);
                        }
                    }
                    Action::Find(app, name) => {
                        let (app, name) = (AppId(app), format!("room-{name}"));
                        let found = table.find(app, &name, Arc::clone);
                        let known = model.get(&(app, name));
                        prop_assert_eq!(found.as_ref().map(Arc::as_ptr), known.map(Arc::as_ptr));
                    }
                    Action::Remove(_) if made.is_empty() => {}
                    Action::Remove(which) => {
                        let channel = which.get(&made);
                        table.remove(channel);
                        model.retain(|_, known| !Arc::ptr_eq(known, channel));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let mut visited = 0;
            for shard in 0..table.shards() {
                table.visit_shard(shard, |channel| {
                    let name = channel.name().unwrap_or_default().to_owned();
                    assert!(Arc::ptr_eq(&model[&(channel.app(), name)], channel));
                    visited += 1;
                });
            }
            prop_assert_eq!(visited, model.len());
        }
    }

    #[test]
    fn threads_that_create_at_once_agree_on_one_channel() {
        let table = ChannelTable::new(1, 7);
        for round in 0..200 {
            let name = format!("room-{round}");
            let made: Vec<Arc<Channel>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| table.find_or_create(APP, &name, ChannelOptions::default)))
                    .collect();
                threads.into_iter().map(|t| t.join().expect("no thread panics")).collect()
            });
            assert!(made.iter().all(|channel| Arc::ptr_eq(channel, &made[0])));
        }
    }
}
