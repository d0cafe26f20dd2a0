//! Any sequence of operations on the channel table, against a plain `HashMap`.
//!
//! Holds: a name of an app leads to the channel the map has, and to no other; removing a channel spares its
//! successor of the same name; every life of a name has an epoch of its own; a visit shows each channel once.
//!
//! Each operation is three bytes: what to do, the app, the name. What to do with an old channel takes name
//! and app as its number.

#![no_main]

use std::{collections::HashMap, sync::Arc};

use fanfare_core::{
    channel::{Channel, ChannelTable},
    id::AppId,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((seed, operations)) = input.split_first() else { return };
    let table = ChannelTable::new(2, u64::from(*seed));
    let mut model: HashMap<(AppId, String), Arc<Channel>> = HashMap::new();
    let mut made: Vec<Arc<Channel>> = Vec::new();
    for operation in operations.chunks_exact(3) {
        let app = AppId(u16::from(operation[1] % 4));
        // Names of all lengths, and some that are each other's prefix.
        let name = "n".repeat(1 + usize::from(operation[2]));
        match operation[0] % 3 {
            0 => {
                let channel = table.find_or_create(app, &name, Default::default);
                assert_eq!((channel.app(), channel.name()), (app, Some(&*name)));
                let known = model.entry((app, name)).or_insert_with(|| {
                    assert!(made.iter().all(|other| other.epoch() != channel.epoch()));
                    made.push(channel.clone());
                    channel.clone()
                });
                assert!(Arc::ptr_eq(known, &channel));
            }
            1 => {
                let found = table.find(app, &name, Arc::clone);
                let known = model.get(&(app, name));
                assert_eq!(found.as_ref().map(Arc::as_ptr), known.map(Arc::as_ptr));
            }
            _ if made.is_empty() => {}
            _ => {
                let number = usize::from(operation[2]) << 8 | usize::from(operation[1]);
                let channel = &made[number % made.len()];
                table.remove(channel);
                model.retain(|_, known| !Arc::ptr_eq(known, channel));
            }
        }
        assert_eq!(table.len(), model.len());
    }
    let mut visited = 0;
    for shard in 0..table.shards() {
        table.visit_shard(shard, |channel| {
            let name = channel.name().expect("it has one").to_owned();
            assert!(Arc::ptr_eq(&model[&(channel.app(), name)], channel));
            visited += 1;
        });
    }
    assert_eq!(visited, model.len());
});
